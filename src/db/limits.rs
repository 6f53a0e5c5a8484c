//! How long the database may take, by the kind of work: a request must be answered soon, a migration may take an hour.

use std::time::Duration;

/// A kind of work on the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// A request of the API.
    Request,
    /// The engine and the other tasks: the hot path.
    Engine,
    /// A chunk of an import.
    Import,
    /// A look at whether the database can be used.
    Probe,
    /// A command at a terminal, whose user can end it.
    Command,
}

/// The bounds of one unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a free connection.
    pub wait: Duration,
    /// For one statement, kept by PostgreSQL.
    pub statement: Duration,
    /// For one lock, kept by PostgreSQL.
    pub lock: Duration,
    /// For all of it, kept by this process: a server that does not answer keeps nothing.
    pub total: Duration,
}

impl Workload {
    /// Its bounds, where requests have this long.
    pub(super) fn limits(self, request: Duration) -> Limits {
        match self {
            Self::Request => Limits {
                wait: request.mul_f64(0.8),
                statement: request.mul_f64(0.9),
                lock: request.mul_f64(0.8),
                total: request,
            },
            Self::Engine => Limits {
                wait: Duration::from_secs(5),
                statement: Duration::from_secs(8),
                lock: Duration::from_secs(6),
                total: Duration::from_secs(10),
            },
            Self::Import => Limits {
                wait: Duration::from_secs(5),
                statement: Duration::from_secs(12),
                lock: Duration::from_secs(10),
                total: Duration::from_secs(15),
            },
            Self::Probe => Limits {
                wait: Duration::from_millis(800),
                statement: Duration::from_millis(800),
                lock: Duration::from_millis(500),
                total: Duration::from_millis(900),
            },
            Self::Command => Limits {
                wait: Duration::from_secs(10),
                statement: Duration::from_secs(3600),
                lock: Duration::from_secs(30),
                total: Duration::from_secs(2 * 3600),
            },
        }
    }

    /// As logs name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Engine => "engine",
            Self::Import => "import",
            Self::Probe => "probe",
            Self::Command => "command",
        }
    }
}
