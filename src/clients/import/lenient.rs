//! Conversion of optional cells that other systems write in another form, where the meaning is unambiguous.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::clients::model::{ClientPatch, Field};

/// Abbreviations of time zones that have one meaning only.
const ZONES: &[(&str, &str)] = &[
    ("msk", "Europe/Moscow"),
    ("samt", "Europe/Samara"),
    ("yekt", "Asia/Yekaterinburg"),
    ("omst", "Asia/Omsk"),
    ("novt", "Asia/Novosibirsk"),
    ("krat", "Asia/Krasnoyarsk"),
    ("irkt", "Asia/Irkutsk"),
    ("yakt", "Asia/Yakutsk"),
    ("vlat", "Asia/Vladivostok"),
    ("magt", "Asia/Magadan"),
    ("pett", "Asia/Kamchatka"),
    ("jst", "Asia/Tokyo"),
    ("kst", "Asia/Seoul"),
    ("hkt", "Asia/Hong_Kong"),
    ("sgt", "Asia/Singapore"),
    ("z", "UTC"),
];

/// The codes of languages by their names.
const LANGUAGES: &[(&str, &str)] = &[
    ("english", "en"),
    ("englisch", "en"),
    ("английский", "en"),
    ("russian", "ru"),
    ("russisch", "ru"),
    ("русский", "ru"),
    ("german", "de"),
    ("deutsch", "de"),
    ("немецкий", "de"),
    ("french", "fr"),
    ("français", "fr"),
    ("spanish", "es"),
    ("español", "es"),
    ("italian", "it"),
    ("italiano", "it"),
    ("ukrainian", "uk"),
    ("українська", "uk"),
];

/// Sets a field from the text of a cell, as it is or converted to the form of the field.
///
/// # Errors
/// The text is not valid; the message says which form is.
pub(super) fn set(patch: &mut ClientPatch, field: Field, text: &str) -> Result<(), &'static str> {
    let outcome = patch.set(field, Some(text));
    if outcome.is_ok() {
        return outcome;
    }
    let usual = match field {
        Field::Timezone => timezone(text).map(str::to_owned),
        Field::Locale => locale(text),
        Field::Email => text.strip_prefix("mailto:").map(str::to_owned),
        Field::PhoneNumber => text.strip_prefix('\'').map(str::to_owned),
        _ => None,
    };
    match usual {
        Some(usual) => patch.set(field, Some(&usual)),
        None => outcome,
    }
}

/// Returns the zone of a name in any case, with spaces, or in the form `europe_slash_moscow` of some exports.
fn timezone(text: &str) -> Option<&'static str> {
    static BY_NAME: OnceLock<HashMap<String, &'static str>> = OnceLock::new();
    let plain = |text: &str| text.to_lowercase().replace("_slash_", "/").replace([' ', '_'], "");
    let names = BY_NAME.get_or_init(|| {
        let all = chrono_tz::TZ_VARIANTS.iter().map(|zone| (plain(zone.name()), zone.name()));
        all.chain(ZONES.iter().map(|(short, name)| ((*short).to_owned(), *name))).collect()
    });
    names.get(&plain(text)).copied()
}

/// Returns the language tag of `ru_RU`, `ru_RU.UTF-8` or `Русский`.
fn locale(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    match LANGUAGES.iter().find(|(name, _)| *name == lower) {
        Some((_, tag)) => Some((*tag).to_owned()),
        None => text.split(['.', '@']).next().map(|tag| tag.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(field: Field, text: &str) -> Option<String> {
        let mut patch = ClientPatch::default();
        set(&mut patch, field, text).ok()?;
        let zone = patch.timezone.flatten().map(|zone| zone.to_string());
        let locale = patch.locale.flatten().map(|locale| locale.to_string());
        zone.or(locale).or(patch.email.flatten().map(|email| email.to_string()))
    }

    #[test]
    fn zones_and_languages_of_one_meaning_are_understood() {
        for (field, text, kept) in [
            (Field::Timezone, "europe/moscow", Some("Europe/Moscow")),
            (Field::Timezone, "europe_slash_moscow", Some("Europe/Moscow")),
            (Field::Timezone, "America/New York", Some("America/New_York")),
            (Field::Timezone, "america_slash_new_york", Some("America/New_York")),
            (Field::Timezone, "MSK", Some("Europe/Moscow")),
            (Field::Timezone, "utc", Some("UTC")),
            (Field::Timezone, "IST", None),
            (Field::Timezone, "+03:00", None),
            (Field::Locale, "ru_RU", Some("ru-RU")),
            (Field::Locale, "de_DE.UTF-8", Some("de-DE")),
            (Field::Locale, "EN", Some("en")),
            (Field::Locale, "Русский", Some("ru")),
            (Field::Locale, "?", None),
            (Field::Email, "mailto:anna@example.com", Some("anna@example.com")),
            (Field::Email, "anna", None),
        ] {
            assert_eq!(after(field, text).as_deref(), kept, "{text}");
        }
    }
}
