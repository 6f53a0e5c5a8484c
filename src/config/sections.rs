//! The sections of the service itself.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::rules::{hosts, listed, public_url, secret, time_zone};
use super::setting::{DAY, MINUTE, Value, settings};

settings! {
    /// The database.
    database: Database {
        /// `sqlite://PATH`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (also `postgresql://`). Other URLs are
        /// refused. A path without a slash after `sqlite://` is relative to the working directory;
        /// `sqlite:///var/lib/fanfare.db` is absolute. Write `@`, `/` and `:` in a password as `%40`, `%2F` and
        /// `%3A`.
        url: SecretString = "sqlite://fanfare.db", env "DATABASE_URL";
        /// The connections for reading, all opened at the start. PostgreSQL gets the same number again for writing.
        /// SQLite writes through one separate connection.
        pool_size: u32 = 8, env "DATABASE_POOL_SIZE", within 1.0..=100.0;
        /// The time limit of the database for a request; after it the response is 503. Parts of an import have 15
        /// seconds, the engine 10, and a command at a terminal two hours.
        timeout: Duration = "2500ms", env "DATABASE_TIMEOUT", within 0.5..=MINUTE;
    }
}

settings! {
    /// The role of this node.
    node: Node {
        /// The role of this node: `all`, `api` (no watchdog and no sending) or `worker` (of HTTP only the probes
        /// and the metrics). `--role` takes precedence. PostgreSQL allows any number of nodes in each role. SQLite
        /// has one node, with the role `all`.
        role: Role = "all", env "FANFARE_ROLE";
    }
}

/// The role of a node; on PostgreSQL there may be any number of nodes in each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    All,
    /// The API; other nodes send.
    Api,
    /// The watchdog and the delivery engine; over HTTP only the probes and the metrics.
    Worker,
}

impl Value for Role {}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
}

settings! {
    /// The HTTP server.
    http: Http {
        /// The IP address to listen on. Any address other than loopback needs an API key.
        host: IpAddr = "127.0.0.1", env "HTTP_HOST";
        /// The port, 0 to 65535; 0 selects a free one, which the log shows.
        port: u16 = 8083, env "HTTP_PORT";
        /// The threads that serve requests.
        workers: usize = 2, env "HTTP_WORKERS", within 1.0..=256.0;
        /// The limit of concurrent connections. At the limit, the connection that has been idle longest is closed
        /// for a new one; if none is idle, the new one gets 503. 0: the limit of descriptors minus those for the
        /// database and the providers, up to 10000. The service raises its soft limit of descriptors to the hard
        /// one (`ulimit -Hn`).
        connections: usize = 0, env "HTTP_CONNECTIONS", within 0.0..=1e6;
        /// The memory of all request bodies together in MiB. Beyond it, a body is refused with 503 and
        /// `Retry-After`; the first 16 KiB of each body do not count. The same amount is available for all
        /// responses above 64 KiB that wait for their readers.
        body_memory: usize = 48, env "HTTP_BODY_MEMORY", within 20.0..=10_000.0;
        /// The names of this service besides `localhost`, loopback addresses and the host of `PUBLIC_URL`,
        /// separated by commas, without ports. On loopback, a request with another name in `Host` gets 421: it
        /// comes from a web page whose name was made to resolve to this service. On other addresses, names are
        /// checked only if this is set.
        allowed_hosts: Option<String>, env "ALLOWED_HOSTS", like "fanfare.lan", check hosts;
        /// The https URL by which recipients reach this service, such as `https://mail.example.com`. It may have a
        /// path, but no query. With it, e-mails have a link to [unsubscribe with one
        /// click](preferences.md#unsubscribing-with-one-click).
        public_url: Option<String>, env "PUBLIC_URL", like "https://mail.example.com", check public_url;
    }
}

impl Http {
    /// Returns the single allowed hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        listed(self.allowed_hosts.as_deref())
    }
}

settings! {
    /// The API key.
    access: Access {
        /// The key that every request must have as `Authorization: Bearer …`, at least 16 ASCII characters. On an
        /// address other than loopback, at least 32 characters, not all the same.
        /// [operations.md](operations.md#api-key) lists the paths without a key.
        api_key: Option<SecretString>, env "API_KEY", like "…";
        /// A file with the key; surrounding white space is ignored. Set either this or the key.
        api_key_file: Option<PathBuf>, env "API_KEY_FILE", like "/run/secrets/fanfare_api_key";
    }
}

settings! {
    /// Phone numbers and imports of clients.
    clients: Clients {
        /// The two-letter code (ISO 3166-1) of the country of national phone numbers: with `RU`, `8 903 123-45-67`
        /// is +7 903 123-45-67. Unset: a number without a country code is refused, never guessed.
        default_country: Option<String>, env "DEFAULT_COUNTRY", like "RU";
        /// The folder for received files that are imported [as jobs](api.md#imports-as-jobs) or with an
        /// `Idempotency-Key`. They are temporary files without a name, with mode 0600, that disappear with the
        /// process. Unset: the system's folder (`TMPDIR`, else `/tmp`). In the image that is memory, so name a
        /// volume for large files.
        import_dir: Option<String>, env "IMPORT_DIR", like "/var/lib/fanfare";
        /// The size limit of such a file in MiB; a larger one gets 413. There are up to four at once. An import
        /// that is processed while it is received has no limit.
        import_max_size: u64 = 1024, env "IMPORT_MAX_SIZE", within 1.0..=1e6;
    }
}

settings! {
    /// Restrictions of requests to addresses that users give.
    egress: Egress {
        /// The private networks that webhooks, Discord messages and requests may be sent to, also by plain http,
        /// separated by commas: `10.1.0.0/16, 127.0.0.1`. All other addresses that are not public are refused
        /// ([channels.md](channels.md#allowed-destinations)).
        allow: String = "", env "EGRESS_ALLOW";
    }
}

settings! {
    /// The encryption of credentials for outgoing requests.
    credentials: Credentials {
        /// The encryption key of [credentials](credentials.md), the same on all nodes: 32 bytes in base64 or
        /// hexadecimal (`openssl rand -base64 32`). Several keys are separated by spaces: the first encrypts and
        /// all decrypt, so that it can be [rotated](credentials.md#rotate-the-encryption-key). Unset: credentials
        /// cannot be stored.
        key: Option<SecretString>, env "CREDENTIALS_KEY", like "…";
    }
}

settings! {
    /// Preferences of clients.
    preferences: Preferences {
        /// The IANA time zone of clients without their own.
        quiet_hours_timezone: String = "UTC", env "QUIET_HOURS_TIMEZONE", check time_zone;
        /// The secret of unsubscribe links, at least 16 characters, the same on all nodes. A change invalidates the
        /// links in all sent mails. Unset: a random secret that is generated at the first start and stored in the
        /// database, for all nodes.
        unsubscribe_secret: Option<SecretString>, env "UNSUBSCRIBE_SECRET", like "…", check secret;
        /// The sender's name on the unsubscribe pages.
        brand_name: Option<String>, env "BRAND_NAME", like "Acme Ltd.";
    }
}

settings! {
    /// Idempotency keys.
    idempotency: Idempotency {
        /// The retention of idempotency keys. Until then, a request with the same `Idempotency-Key` is the same
        /// request.
        keep: Duration = "24h", env "IDEMPOTENCY_KEEP", within MINUTE..=30.0 * DAY;
    }
}

settings! {
    /// The shutdown of the process.
    shutdown: Shutdown {
        /// The time for requests in flight to end after SIGTERM.
        timeout: Duration = "30s", env "SHUTDOWN_TIMEOUT";
    }
}

settings! {
    /// The log.
    log: Log {
        /// A level (`error`, `warn`, `info`, `debug`, `trace`) or tracing directives such as `fanfare=debug,warn`.
        level: String = "info,actix_server=warn,async_nats=off", env "LOG_LEVEL";
        /// The format of log lines, `text` or `json`. They are written to standard error.
        format: LogFormat = "text", env "LOG_FORMAT";
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Value for LogFormat {}
