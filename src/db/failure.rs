//! Errors of the databases, classified by how a caller can react.
//!
//! Errors of PostgreSQL are classified by their SQLSTATE, since its messages are in the server's language. Errors of
//! SQLite and of libpq itself have no SQLSTATE; their messages are always in English, since this process never sets a
//! locale.

use std::fmt;

use diesel::result::{DatabaseErrorKind, Error as QueryError};

use crate::error::Error;

/// The SQLSTATE of an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// Takes the code of the error that diesel has just returned on this thread; none for errors of SQLite and of libpq
    /// itself.
    fn take() -> Option<Self> {
        pq_sys::take_sqlstate().map(Self)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?????")
    }

    fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or_default()
    }

    fn is_one_of(self, codes: &[&str]) -> bool {
        codes.contains(&self.as_str())
    }

    /// Returns true if the same work may succeed later, or at another server.
    fn is_outage(self) -> bool {
        // connection, rollback (deadlock, serialization), resources (disk, memory, connections), operator and timeouts,
        // system I/O
        ["08", "40", "53", "57", "58"].contains(&self.class())
            // read-only, idle in transaction for too long, transaction too long, lock not available
            || self.is_one_of(&["25006", "25P03", "25P04", "55P03"])
    }

    /// Returns true if the database will never accept these values.
    fn refuses_values(self) -> bool {
        // data exceptions; program limits, such as the size of an index row
        ["22", "54"].contains(&self.class()) || self.is_one_of(&["23502", "23514"])
    }

    /// Returns true if a commit that failed with this code may have taken effect.
    fn leaves_commit_open(self) -> bool {
        self.class() == "08" || self.is_one_of(&["40003"]) || self.as_str().starts_with("57P")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of a database, with its SQLSTATE.
#[derive(Debug)]
pub struct DatabaseFailure {
    code: Option<SqlState>,
    error: QueryError,
}

impl fmt::Display for DatabaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} (SQLSTATE {code})", self.error),
            None => write!(f, "{}", self.error),
        }
    }
}

// no source: its text is already part of the message
impl std::error::Error for DatabaseFailure {}

impl DatabaseFailure {
    fn new(error: QueryError) -> Self {
        let of_server =
            matches!(&error, QueryError::DatabaseError(..) | QueryError::RollbackErrorOnCommit { .. });
        let code = SqlState::take();
        Self { code: code.filter(|_| of_server), error }
    }

    fn is_outage(&self) -> bool {
        if self.code.is_some_and(SqlState::is_outage) {
            return true;
        }
        is_outage(&self.error, self.code.is_none())
    }

    fn refuses_values(&self) -> bool {
        match (&self.error, self.code) {
            (QueryError::SerializationError(_), _) => true,
            (_, Some(code)) => code.refuses_values(),
            (QueryError::DatabaseError(kind, info), None) => {
                matches!(kind, DatabaseErrorKind::NotNullViolation | DatabaseErrorKind::CheckViolation)
                    || ["out of range", "too long", "too big"]
                        .iter()
                        .any(|sign| info.message().contains(sign))
            }
            _ => false,
        }
    }
}

fn is_outage(error: &QueryError, without_code: bool) -> bool {
    match error {
        QueryError::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ReadOnlyTransaction,
            _,
        )
        | QueryError::BrokenTransactionManager => true,
        QueryError::DatabaseError(_, info) => without_code && is_outage_in_words(info.message()),
        QueryError::RollbackErrorOnCommit { commit_error, .. } => is_outage(commit_error, without_code),
        _ => false,
    }
}

/// Recognizes outages by messages of SQLite and libpq, for which diesel has neither a kind nor a code.
fn is_outage_in_words(message: &str) -> bool {
    [
        "disk is full",
        "database is locked",
        "disk I/O error",
        "out of memory",
        "unable to open database",
        "readonly database",
        "server closed the connection",
        "no connection to the server",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        let failure = DatabaseFailure::new(error);
        if failure.is_outage() { Self::Unavailable(failure.into()) } else { Self::Internal(failure.into()) }
    }
}

/// Clears the SQLSTATE of an error that was not turned into an [`Error`], before other work begins on this thread.
pub(super) fn forget_sqlstate() {
    pq_sys::take_sqlstate();
}

/// Converts the error of a commit: [`Error::OutcomeUnknown`] unless PostgreSQL itself reported that it failed.
pub(super) fn of_commit(error: QueryError) -> Error {
    let failure = DatabaseFailure::new(error);
    let is_open = match failure.code {
        Some(code) => code.leaves_commit_open(),
        None => failure.is_outage(),
    };
    if is_open {
        Error::OutcomeUnknown(failure.into())
    } else if failure.is_outage() {
        Error::Unavailable(failure.into())
    } else {
        Error::Internal(failure.into())
    }
}

fn failure(error: &Error) -> Option<&DatabaseFailure> {
    match error {
        Error::Internal(source) | Error::Unavailable(source) => source.downcast_ref(),
        _ => None,
    }
}

/// Returns true if the database will never accept these values: the same work with other values may succeed, and a
/// retry is useless.
pub fn refuses_values(error: &Error) -> bool {
    matches!(error, Error::Internal(_)) && failure(error).is_some_and(DatabaseFailure::refuses_values)
}

/// Returns true if PostgreSQL aborted this work because of a deadlock.
pub fn is_deadlock(error: &Error) -> bool {
    failure(error).and_then(|failure| failure.code).is_some_and(|code| code.is_one_of(&["40P01"]))
}

/// Returns true if a prepared statement was missing or existed already, so that the session is shared with others.
pub(super) fn is_shared_session(error: &Error) -> bool {
    failure(error).and_then(|failure| failure.code).is_some_and(|code| code.is_one_of(&["42P05", "26000"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> SqlState {
        SqlState(text.as_bytes().try_into().unwrap())
    }

    #[test]
    fn codes_are_told_apart_by_what_a_caller_can_do() {
        for outage in [
            "08006", "25006", "25P03", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014",
            "57P01", "57P03", "58030",
        ] {
            assert!(code(outage).is_outage() && !code(outage).refuses_values(), "{outage}");
        }
        for refused in ["22001", "22003", "22021", "22P02", "22P05", "23502", "23514", "54000"] {
            assert!(code(refused).refuses_values() && !code(refused).is_outage(), "{refused}");
        }
        for defect in ["42601", "42P01", "42P05", "25P02", "XX000"] {
            assert!(!code(defect).is_outage() && !code(defect).refuses_values(), "{defect}");
        }
    }

    #[test]
    fn a_commit_that_the_server_refused_was_not_done_and_one_without_an_answer_may_be() {
        for open in ["08006", "40003", "57P01", "57P02"] {
            assert!(code(open).leaves_commit_open(), "{open}");
        }
        for refused in ["23505", "40001", "53100", "57014", "25006"] {
            assert!(!code(refused).leaves_commit_open(), "{refused}");
        }
    }
}
