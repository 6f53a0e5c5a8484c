//! The declaration of settings. A setting is declared once, with its text, type, default, environment variable, bounds
//! and rule; [`settings!`] derives everything else.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Dict;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::Complaints;

pub(super) const MILLISECOND: f64 = 0.001;
pub(super) const MINUTE: f64 = 60.0;
pub(super) const HOUR: f64 = 60.0 * MINUTE;
pub(super) const DAY: f64 = 24.0 * HOUR;

/// The limit of the number of delays in a list.
const MOST_DELAYS: f64 = 20.0;

/// The form of a value in an environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A string, also if it consists of digits.
    Text,
    /// A string that is never logged, such as an API key.
    Secret,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A duration such as `10s`, or several.
    Duration,
}

/// A section of the configuration.
#[derive(Debug)]
pub struct Section {
    /// The name of the section in the file.
    pub name: &'static str,
    /// The purpose of the section.
    pub about: &'static str,
    /// The settings, in the order of their declaration.
    pub settings: &'static [Setting],
}

/// The declaration of one setting. Defaults and examples are values as in the file, strings with their quotes.
#[derive(Debug)]
pub struct Setting {
    /// The key, such as `http.port`.
    pub key: &'static str,
    /// The meaning, in Markdown; links are relative to `docs/`.
    pub text: &'static str,
    /// The form of the value.
    pub form: Form,
    /// The environment variable. Without one, the setting is a table of the file.
    pub variable: Option<&'static str>,
    /// The default.
    pub default: Option<&'static str>,
    /// An example, for a setting without a default.
    pub example: Option<&'static str>,
    /// The bounds of a number, or of a duration in seconds.
    pub bounds: Option<RangeInclusive<f64>>,
}

/// A check of one value that bounds cannot express.
pub(super) type Rule<T> = fn(&Setting, &T, &mut Complaints);

impl Setting {
    /// A setting without anything optional.
    pub(super) const BARE: Self = Self {
        key: "",
        text: "",
        form: Form::Text,
        variable: None,
        default: None,
        example: None,
        bounds: None,
    };

    /// Returns the name in error messages: `http.port (HTTP_PORT)`.
    pub(super) fn name(&self) -> String {
        self.variable.map_or_else(|| self.key.to_owned(), |variable| format!("{} ({variable})", self.key))
    }

    /// Adds what is wrong with a value of this setting.
    pub(super) fn check<T: Value>(&self, value: &T, rules: &[Rule<T>], wrong: &mut Complaints) {
        if let Some(bounds) = &self.bounds {
            value.check(self, bounds, wrong);
        }
        rules.iter().for_each(|rule| rule(self, value, wrong));
    }
}

/// The type of a setting's value.
pub(super) trait Value: DeserializeOwned {
    /// The form of the value.
    const FORM: Form = Form::Text;

    /// Reads the value from the file or a variable.
    fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Self::deserialize(reader)
    }

    /// Adds an error if the value is not within the bounds. Only numbers and durations have bounds.
    fn check(&self, _setting: &Setting, _bounds: &RangeInclusive<f64>, _wrong: &mut Complaints) {}
}

impl Value for String {}
impl Value for PathBuf {}
impl Value for IpAddr {}
impl Value for Dict {}

impl Value for SecretString {
    const FORM: Form = Form::Secret;
}

impl Value for bool {
    const FORM: Form = Form::Flag;
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            const FORM: Form = Form::Number;

            fn check(&self, setting: &Setting, bounds: &RangeInclusive<f64>, wrong: &mut Complaints) {
                require(setting.name(), *self as f64, bounds, wrong);
            }
        }
    )+};
}
numbers!(u16, u32, u64, usize, f32, f64);

impl Value for Duration {
    const FORM: Form = Form::Duration;

    fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        parse_duration(&String::deserialize(reader)?)
    }

    fn check(&self, setting: &Setting, bounds: &RangeInclusive<f64>, wrong: &mut Complaints) {
        require(format!("{}, seconds", setting.name()), self.as_secs_f64(), bounds, wrong);
    }
}

/// Delays such as `1s, 5s`; a blank text is an empty list.
impl Value for Vec<Duration> {
    const FORM: Form = Form::Duration;

    fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse_duration).collect()
    }

    fn check(&self, setting: &Setting, bounds: &RangeInclusive<f64>, wrong: &mut Complaints) {
        let name = format!("{}, number of delays", setting.key);
        require(name, self.len() as f64, &(0.0..=MOST_DELAYS), wrong);
        self.iter().for_each(|delay| delay.check(setting, bounds, wrong));
    }
}

impl<T: Value> Value for Option<T> {
    const FORM: Form = T::FORM;

    fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Ok(Option::<Read<T>>::deserialize(reader)?.map(|Read(value)| value))
    }

    fn check(&self, setting: &Setting, bounds: &RangeInclusive<f64>, wrong: &mut Complaints) {
        if let Some(value) = self {
            value.check(setting, bounds, wrong);
        }
    }
}

/// A value that is read by [`Value::read`], also inside of an `Option`.
struct Read<T>(T);

impl<'de, T: Value> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        T::read(reader).map(Self)
    }
}

fn parse_duration<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text)
        .map_err(|e| E::custom(format!("`{text}` is not a duration such as \"10s\": {e}")))
}

fn require(name: String, value: f64, bounds: &RangeInclusive<f64>, wrong: &mut Complaints) {
    if !bounds.contains(&value) {
        wrong.add(name, format!("must be {} to {}, not {value}", bounds.start(), bounds.end()));
    }
}

/// Defines a section: its struct with a field for each setting, the table of its settings, and their check.
///
/// A setting is written `field: Type = default, env "VARIABLE", within bounds, check rule;`. Its doc comment is also
/// its text in `config/default.toml` and `docs/configuration.md`. A setting without a default is an `Option` and has an
/// example, `like value`, in place of the default.
///
/// serde and figment know fields only: without this macro, a setting is written again for its variable, its check, the
/// default file and the page for users.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $section:ident: $name:ident {
            $(
                $(#[doc = $text:literal])+
                $field:ident: $type:ty $(= $default:literal)? $(, env $variable:expr)? $(, like $example:literal)?
                    $(, within $bounds:expr)? $(, check $rule:expr)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $text])+
                $(
                    #[doc = concat!("\n\nThe default is `", stringify!($default), "`.")]
                    #[serde(deserialize_with = "crate::config::setting::Value::read")]
                )?
                $(
                    #[doc = concat!("\n\nFor example `", stringify!($example), "`.")]
                    #[serde(default, deserialize_with = "crate::config::setting::Value::read")]
                )?
                pub $field: $type,
            )+
        }

        impl $name {
            /// The section with its settings.
            pub(super) const SECTION: crate::config::setting::Section = crate::config::setting::Section {
                name: stringify!($section),
                about: concat!($($about),+),
                settings: &[$(crate::config::setting::Setting {
                    key: concat!(stringify!($section), ".", stringify!($field)),
                    text: concat!($($text),+),
                    form: <$type as crate::config::setting::Value>::FORM,
                    $(variable: Some($variable),)?
                    $(default: Some(stringify!($default)),)?
                    $(example: Some(stringify!($example)),)?
                    $(bounds: Some($bounds),)?
                    ..crate::config::setting::Setting::BARE
                }),+],
            };

            /// Adds what is wrong with single values.
            pub(super) fn check(&self, wrong: &mut crate::error::Complaints) {
                let mut settings = Self::SECTION.settings.iter();
                $(
                    if let Some(setting) = settings.next() {
                        setting.check(&self.$field, &[$($rule)?], wrong);
                    }
                )+
            }
        }
    };
}
pub(super) use settings;
