//! Common names of columns in files of spreadsheets and other systems.

use crate::clients::model::Field;

/// The common names of each field, in the form of [`plain`].
const USUAL: &[(Field, &[&str])] = &[
    (
        Field::PhoneNumber,
        &[
            "phonenumber",
            "phone",
            "phoneno",
            "phones",
            "mobile",
            "mobilephone",
            "mobilenumber",
            "mobileno",
            "mobilephonenumber",
            "phonemobile",
            "cell",
            "cellphone",
            "cellnumber",
            "cellphonenumber",
            "cellular",
            "telephone",
            "telephonenumber",
            "tel",
            "telno",
            "telnumber",
            "msisdn",
            "smsphonenumber",
            "sms",
            "smsnumber",
            "phone1",
            "phone1value",
            "phonenumber1",
            "primaryphone",
            "primaryphonenumber",
            "mainphone",
            "contactphone",
            "contactnumber",
            "contactphonenumber",
            "customerphone",
            "handy",
            "handynummer",
            "handynr",
            "telefon",
            "telefonnummer",
            "telefonnr",
            "telnr",
            "mobil",
            "mobilnummer",
            "mobilnr",
            "mobiltelefon",
            "mobilfunknummer",
            "rufnummer",
            "телефон",
            "телефоны",
            "номер",
            "номертелефона",
            "телефонныйномер",
            "тел",
            "мобильный",
            "мобильныйтелефон",
            "мобильныйномер",
            "номермобильного",
            "номермобильноготелефона",
            "сотовый",
            "сотовыйтелефон",
            "номерсотового",
            "контактныйтелефон",
            "контактныйномер",
            "основнойтелефон",
            "личныйтелефон",
            "телефонклиента",
            "телефонмобильный",
            "телефон1",
            "моб",
            "мобтел",
            "мобтелефон",
            "мобномер",
            "номермоб",
            "соттел",
            "соттелефон",
            "ceptelefonu",
            "telefonno",
            "telefonnumarası",
        ],
    ),
    (
        Field::Email,
        &[
            "email",
            "emailaddress",
            "emailid",
            "mail",
            "mailaddress",
            "emails",
            "mailadresse",
            "emailadresse",
            "email1",
            "email1value",
            "primaryemail",
            "mainemail",
            "contactemail",
            "customeremail",
            "subscriberemail",
            "eposta",
            "epostaadresi",
            "почта",
            "элпочта",
            "электроннаяпочта",
            "емейл",
            "емайл",
            "имейл",
            "емэйл",
            "мейл",
            "адресэлектроннойпочты",
            "адресэлпочты",
            "адреспочты",
            "электронныйадрес",
            "emailклиента",
            "emailадрес",
            "основнойemail",
            "контактныйemail",
            "личнаяпочта",
            "почтаклиента",
        ],
    ),
    (Field::Tag, &["tag", "тег", "тэг", "метка"]),
    (Field::Tags, &["tags", "теги", "тэги", "метки", "schlagworte", "schlagwörter"]),
    (Field::Timezone, &["timezone", "timezoneid", "tz", "zeitzone", "часовойпояс", "таймзона"]),
    (
        Field::Locale,
        &[
            "locale",
            "language",
            "lang",
            "languagecode",
            "preferredlanguage",
            "preferredlocale",
            "sprache",
            "bevorzugtesprache",
            "язык",
            "локаль",
        ],
    ),
    (
        Field::ExternalId,
        &[
            "externalid",
            "extid",
            "id",
            "clientid",
            "customerid",
            "crmid",
            "kundennummer",
            "кодклиента",
            "idклиента",
        ],
    ),
    (Field::PushToken, &["pushtoken", "devicetoken", "fcmtoken"]),
    (Field::OperatorCode, &["mobileoperatorcode", "operatorcode", "кодоператора"]),
];

/// Parts of the names of columns that contain opt-outs.
const OPT_OUT: &[&str] = &[
    "optout",
    "optedout",
    "unsubscri",
    "donotemail",
    "donotmail",
    "donotcontact",
    "donotcall",
    "donotsms",
    "donottext",
    "donotdisturb",
    "noemail",
    "dnc",
    "blocklisted",
    "blacklisted",
    "отписан",
    "отписка",
    "отписал",
    "отказотрассылки",
    "неписать",
    "незвонить",
    "abgemeldet",
    "abbestellt",
    "keinewerbung",
];

/// Normalizes a name: removes spaces and punctuation, converts to lower case, and replaces `ё` with `е`.
pub(super) fn plain(header: &str) -> String {
    let letters = header.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).map(|c| if c == 'ё' { 'е' } else { c }).collect()
}

/// Returns the field for a column of this plain name.
pub(super) fn field(plain: &str) -> Option<Field> {
    USUAL.iter().find(|(_, names)| names.contains(&plain)).map(|(field, _)| *field)
}

/// Returns true if a column of this plain name seems to contain opt-outs.
pub(super) fn is_opt_out(plain: &str) -> bool {
    OPT_OUT.iter().any(|part| if part.len() > 3 { plain.contains(part) } else { plain == *part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_fields_in_any_spelling() {
        for (name, expected) in [
            ("phone_number", Some(Field::PhoneNumber)),
            ("Phone-Number", Some(Field::PhoneNumber)),
            (" Номер телефона:", Some(Field::PhoneNumber)),
            ("HANDY", Some(Field::PhoneNumber)),
            ("Tel.", Some(Field::PhoneNumber)),
            ("E-Mail", Some(Field::Email)),
            ("Эл. почта", Some(Field::Email)),
            ("Моб. телефон", Some(Field::PhoneNumber)),
            ("Phone 1 - Value", Some(Field::PhoneNumber)),
            ("E-mail 1 - Value", Some(Field::Email)),
            ("Home Phone", None),
            ("Phone 1 - Label", None),
            ("Email Address", Some(Field::Email)),
            ("Time Zone", Some(Field::Timezone)),
            ("Preferred language", Some(Field::Locale)),
            ("External ID", Some(Field::ExternalId)),
            ("Address", None),
            ("Tags", Some(Field::Tags)),
            ("name", None),
            ("", None),
        ] {
            assert_eq!(field(&plain(name)), expected, "{name}");
        }
        for other in Field::ALL {
            assert_eq!(field(&plain(other.name())), Some(*other));
        }
    }

    #[test]
    fn names_are_plain_and_no_field_shares_one() {
        let mut seen = std::collections::HashSet::new();
        for name in USUAL.iter().flat_map(|(_, names)| *names).chain(OPT_OUT) {
            assert_eq!(plain(name), **name);
            assert!(seen.insert(name), "{name} twice");
        }
    }

    #[test]
    fn opt_outs_are_noticed() {
        for name in [
            "HasOptedOutOfEmail",
            "unsubscribed",
            "email_opt_out",
            "Unsubscribed from all email",
            "Do Not Call",
            "Отписан",
            "DNC",
        ] {
            assert!(is_opt_out(&plain(name)), "{name}");
        }
        for name in ["OPTIN_TIME", "Marketing contact status", "Option", "subscribed_at"] {
            assert!(!is_opt_out(&plain(name)), "{name}");
        }
    }
}
