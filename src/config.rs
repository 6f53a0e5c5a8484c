//! The configuration: the environment overrides `fanfare.toml`, which overrides `config/default.toml`. All values are
//! checked at the start.

mod brokers;
mod channels;
mod check;
mod engine;
mod rules;
mod sections;
mod setting;
#[cfg(test)]
mod tests;
mod transport;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

pub use brokers::*;
pub use channels::*;
pub use engine::*;
pub use sections::*;
pub use setting::{Form, Section, Setting};
pub use transport::Transport;

use crate::error::{Complaints, Error, FieldError, Result};

/// The commented file with all defaults, which `make settings` writes from the declarations.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// The default address of the sandbox; SANDBOX_URL sets another.
pub const SANDBOX_URL: &str = "http://127.0.0.1:8090";

/// The variable with the path of the configuration file, for commands without `--config`.
pub const FILE_VARIABLE: &str = "FANFARE_CONFIG";

/// Defines [`Config`] and [`SECTIONS`] by the sections, in the order of `config/default.toml`.
macro_rules! sections {
    ($($section:ident: $name:ident,)+) => {
        /// The whole configuration.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $(#[doc = concat!("Section `", stringify!($section), "`.")] pub $section: $name,)+
        }

        /// All sections.
        pub const SECTIONS: &[Section] = &[$($name::SECTION),+];

        impl Config {
            /// Adds what is wrong with single values.
            fn check_values(&self, wrong: &mut Complaints) {
                $(self.$section.check(wrong);)+
            }
        }
    };
}

sections! {
    database: Database,
    node: Node,
    http: Http,
    access: Access,
    clients: Clients,
    channels: Channels,
    sms: Sms,
    email: Email,
    push: Push,
    webhook: Webhook,
    discord: Discord,
    in_app: InApp,
    request: Requests,
    sandbox: Sandbox,
    egress: Egress,
    credentials: Credentials,
    preferences: Preferences,
    retry: Retry,
    notifications: Notifications,
    events: Events,
    idempotency: Idempotency,
    broker: Broker,
    kafka: Kafka,
    dead_letters: DeadLetters,
    delivery: Delivery,
    shutdown: Shutdown,
    log: Log,
}

/// Returns all settings.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// Returns the environment variables of all settings. An empty variable counts as unset.
pub fn variables() -> impl Iterator<Item = &'static str> {
    settings().filter_map(|setting| setting.variable)
}

/// Returns the setting with a key.
fn setting(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

impl Config {
    /// Reads the file (by default the one in FANFARE_CONFIG, or `fanfare.toml`, which is optional) and the process's
    /// environment. `role` overrides both, and so does `is_paused`, which pauses sending at the start.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each invalid value, or with a configured file that cannot be read.
    pub fn load(file: Option<&Path>, role: Option<Role>, is_paused: bool) -> Result<Self> {
        let mut figment = Self::layers(file, |_| true)?;
        if let Some(role) = role {
            figment = figment.merge(("node.role", role.as_str()));
        }
        if is_paused {
            figment = figment.merge(("delivery.sending", "off"));
        }
        Self::from_figment(figment)
    }

    /// Returns the URL of the health check of a service with this configuration on the same machine. All other settings
    /// may be missing or invalid.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid address, the port 0, or a configured file that cannot be read.
    pub fn health_url(file: Option<&Path>) -> Result<String> {
        #[derive(Deserialize)]
        struct Listen {
            host: IpAddr,
            port: u16,
        }
        let figment = Self::layers(file, |key| key == "http.host" || key == "http.port")?;
        let Listen { host, port } = figment.extract_inner("http").map_err(|e| unreadable("", e))?;
        if port == 0 {
            let why = "is 0, which selects a free port at each start: pass the address with --url";
            return Err(Error::invalid(named("http.port"), why));
        }
        let host = match host {
            IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        Ok(format!("http://{}/health", SocketAddr::new(host, port)))
    }

    /// Returns the layers, each of which overrides the one before: the defaults, the file, and the environment
    /// variables of the `wanted` keys.
    fn layers(file: Option<&Path>, wanted: impl Fn(&str) -> bool) -> Result<Figment> {
        let of_environment = std::env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty());
        let (said, by) = match (file, &of_environment) {
            (Some(path), _) => (Some(path), "--config"),
            (None, path) => (path.as_ref().map(Path::new), FILE_VARIABLE),
        };
        if let Some(path) = said
            && !path.is_file()
        {
            return Err(Error::invalid(by, format!("file not found: {}", path.display())));
        }
        let file = said.unwrap_or(Path::new("fanfare.toml"));
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if file.is_file() {
            figment = figment.merge(Toml::file_exact(file));
        }
        for setting in settings().filter(|setting| wanted(setting.key)) {
            let Some(variable) = setting.variable else { continue };
            match std::env::var(variable) {
                Ok(text) if !text.is_empty() => figment = set(figment, setting.key, &text, setting.form),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(Error::invalid(variable, "is not UTF-8"));
                }
                _ => {}
            }
        }
        Ok(figment)
    }

    /// Returns the defaults with these keys set, such as `("http.port", "0")`; for tests and the demo.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let base = Figment::from(Toml::string(DEFAULT));
        let form = |key: &str| setting(key).map_or(Form::Text, |setting| setting.form);
        Self::from_figment(settings.iter().fold(base, |f, (key, text)| set(f, key, text, form(key))))
    }

    fn from_figment(figment: Figment) -> Result<Self> {
        let mut config: Self = figment.extract().map_err(|e| unreadable("", e))?;
        config.read_key_file()?;
        let mut wrong = Complaints::default();
        config.check_values(&mut wrong);
        check::relations(&config, &mut wrong);
        wrong.finish()?;
        Ok(config)
    }

    fn read_key_file(&mut self) -> Result<()> {
        if let Some(path) = &self.access.api_key_file {
            if self.access.api_key.is_some() {
                return Err(Error::invalid(named("access.api_key_file"), "set this or API_KEY, not both"));
            }
            let text = std::fs::read_to_string(path).map_err(|e| {
                Error::invalid(named("access.api_key_file"), format!("{}: {e}", path.display()))
            })?;
            self.access.api_key = Some(text.trim().to_owned().into());
        }
        Ok(())
    }

    /// Returns the address on which the API listens.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.http.host, self.http.port)
    }
}

/// Converts an error of figment into one with all unreadable values below `section` (with its dot; empty for all).
pub fn unreadable(section: &str, error: figment::Error) -> Error {
    let complaint = |one: figment::Error| {
        FieldError::new(named(&format!("{section}{}", one.path.join("."))), one.kind.to_string())
    };
    Error::Invalid(error.into_iter().map(complaint).collect())
}

/// Returns the variable of a key.
fn variable(key: &str) -> Option<&'static str> {
    setting(key)?.variable
}

/// Returns a key's name in error messages: `http.port (HTTP_PORT)`.
pub fn named(key: &str) -> String {
    setting(key).map_or_else(|| key.to_owned(), Setting::name)
}

/// Overrides one setting. An invalid number stays a string, so that the error message shows it.
fn set(figment: Figment, key: &str, text: &str, form: Form) -> Figment {
    match (form, text.parse::<i64>(), text.parse::<f64>()) {
        (Form::Number, Ok(whole), _) => figment.merge((key, whole)),
        (Form::Number, _, Ok(fraction)) => figment.merge((key, fraction)),
        (Form::Flag, ..) if text == "true" || text == "false" => figment.merge((key, text == "true")),
        _ => figment.merge((key, text)),
    }
}
