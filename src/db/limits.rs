//! The time limits of database work, by its kind: a request needs a response soon, a migration may take an hour.

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
    /// A check of the database.
    Probe,
    /// A command at a terminal, which its user can interrupt.
    Command,
}

/// The time limits of one unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The wait for a free connection.
    pub wait: Duration,
    /// The limit of one statement, enforced by PostgreSQL.
    pub statement: Duration,
    /// The wait for one lock, enforced by PostgreSQL.
    pub lock: Duration,
    /// The limit of the whole work, enforced by this process, since an unresponsive server enforces nothing.
    pub total: Duration,
}

impl Workload {
    /// Returns its limits, with `request` as the limit of requests.
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

    /// Returns its name in the log.
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
