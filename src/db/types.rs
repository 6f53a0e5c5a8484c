//! SQL types with an equivalent in both databases, and the domain's newtypes stored in them.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{self, HasSqlType, SqlType};
use diesel::sqlite::Sqlite;

use super::any::MultiBackend;
use super::element::copied_element;

/// `uuid` in PostgreSQL, a blob of 16 bytes in SQLite.
#[derive(Debug, Clone, Copy, SqlType, QueryId)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Binary"))]
pub struct Id;

/// `timestamptz` in PostgreSQL, microseconds since the epoch in SQLite.
#[derive(Debug, Clone, Copy, SqlType, QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Long"))]
pub struct Instant;

macro_rules! multi_backend_type {
    ($sql:ty) => {
        impl HasSqlType<$sql> for MultiBackend {
            fn metadata(lookup: &mut Self::MetadataLookup) -> Self::TypeMetadata {
                MultiBackend::lookup_sql_type::<$sql>(lookup)
            }
        }
    };
}
multi_backend_type!(Id);
multi_backend_type!(Instant);

macro_rules! multi_backend_value {
    ($rust:ty, $sql:ident) => {
        impl FromSql<$sql, MultiBackend> for $rust {
            fn from_sql(bytes: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                bytes.from_sql::<$rust, $sql>()
            }
        }
        impl ToSql<$sql, MultiBackend> for $rust {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
                out.set_value(($sql, self));
                Ok(IsNull::No)
            }
        }
    };
}

macro_rules! id_type {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow,
            serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        #[diesel(sql_type = Id)]
        #[serde(transparent)]
        pub struct $name(
            /// A UUIDv7, ordered by its creation time.
            pub uuid::Uuid,
        );

        copied_element!($name);

        impl $name {
            /// Creates an id, greater than all earlier ones.
            #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7())
            }

            /// Creates `count` ids in ascending order, greater than all earlier ones. All together need one reading of
            /// the clock and one of the random source.
            pub fn run(count: u16) -> impl Iterator<Item = Self> {
                // in the bits below the counter that distinguishes single ids
                let first = uuid::Uuid::now_v7().as_u128() & !0xffff_0000;
                (0..count).map(move |n| Self(uuid::Uuid::from_u128(first | u128::from(n) << 16)))
            }

            /// Returns the creation time to the millisecond, which is the beginning of an id.
            pub fn created_at(self) -> Timestamp {
                let millis = self.0.as_u128() >> 80;
                Timestamp::from_micros(i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1000))
            }

            /// Returns the smallest possible id of this time.
            pub fn first_of(at: Timestamp) -> Self {
                Self(uuid::Uuid::from_u128(Self::millis_of(at) << 80))
            }

            /// Returns the largest possible id of this time.
            pub fn last_of(at: Timestamp) -> Self {
                Self(uuid::Uuid::from_u128((Self::millis_of(at) << 80) | ((1 << 80) - 1)))
            }

            fn millis_of(at: Timestamp) -> u128 {
                u128::try_from(at.micros() / 1000).unwrap_or(0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
        impl FromSql<Id, Pg> for $name {
            fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                <uuid::Uuid as FromSql<sql_types::Uuid, Pg>>::from_sql(bytes).map(Self)
            }
        }
        impl ToSql<Id, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                <uuid::Uuid as ToSql<sql_types::Uuid, Pg>>::to_sql(&self.0, &mut out.reborrow())
            }
        }
        impl FromSql<Id, Sqlite> for $name {
            fn from_sql(bytes: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                let raw = <Vec<u8> as FromSql<sql_types::Binary, Sqlite>>::from_sql(bytes)?;
                Ok(Self(uuid::Uuid::from_slice(&raw)?))
            }
        }
        impl ToSql<Id, Sqlite> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                out.set_value(self.0.as_bytes().as_slice());
                Ok(IsNull::No)
            }
        }
        multi_backend_value!($name, Id);
    };
}

id_type!(
    /// Identifies a client.
    ClientId
);
id_type!(
    /// Identifies a mailing.
    MailingId
);
id_type!(
    /// Identifies a message; also its `Idempotency-Key` at the provider.
    MessageId
);
id_type!(
    /// Identifies a batch of notifications.
    BatchId
);
id_type!(
    /// Identifies a suppression.
    SuppressionId
);
id_type!(
    /// Identifies a resource of any kind that a request created.
    ResourceId
);
id_type!(
    /// Identifies one run of one process.
    NodeId
);
id_type!(
    /// Identifies a webhook's endpoint.
    EndpointId
);
id_type!(
    /// Identifies an event.
    EventId
);
id_type!(
    /// Identifies a recurring request.
    RecurringId
);
id_type!(
    /// Identifies a route of events.
    RouteId
);
id_type!(
    /// Identifies a template of one name, channel and locale.
    TemplateId
);
id_type!(
    /// Identifies a Kafka topic, by the id that its brokers assigned.
    TopicId
);
id_type!(
    /// Identifies an import that runs as a job.
    ImportId
);
id_type!(
    /// Identifies a replay of many dead letters.
    ReplayId
);
id_type!(
    /// Identifies a lease.
    LeaseId
);

/// A point in time in UTC, in microseconds since the epoch, so that a value read back equals the value written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow)]
#[diesel(sql_type = Instant)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Converts a time, truncated to the microsecond.
    pub fn from_datetime(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_micros())
    }

    /// Converts microseconds since the epoch, clamped to the range of chrono.
    pub fn from_micros(micros: i64) -> Self {
        Self(
            micros.clamp(
                DateTime::<Utc>::MIN_UTC.timestamp_micros(),
                DateTime::<Utc>::MAX_UTC.timestamp_micros(),
            ),
        )
    }

    /// Returns the microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Returns the time `by` later.
    pub fn plus(self, by: std::time::Duration) -> Self {
        Self::from_micros(self.micros().saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns the time `by` earlier.
    pub fn minus(self, by: std::time::Duration) -> Self {
        Self::from_micros(self.micros().saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns the duration since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        let micros = self.micros().saturating_sub(earlier.micros());
        std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Converts to chrono's type, for calendars and time zones.
    pub fn datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.datetime().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromSql<Instant, Pg> for Timestamp {
    fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        <DateTime<Utc> as FromSql<sql_types::Timestamptz, Pg>>::from_sql(bytes).map(Self::from_datetime)
    }
}
impl ToSql<Instant, Pg> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <DateTime<Utc> as ToSql<sql_types::Timestamptz, Pg>>::to_sql(&self.datetime(), &mut out.reborrow())
    }
}
impl FromSql<Instant, Sqlite> for Timestamp {
    fn from_sql(bytes: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        <i64 as FromSql<sql_types::BigInt, Sqlite>>::from_sql(bytes).map(Self::from_micros)
    }
}
impl ToSql<Instant, Sqlite> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.micros());
        Ok(IsNull::No)
    }
}
multi_backend_value!(Timestamp, Instant);
copied_element!(Timestamp);

/// Packs ids into one value, 16 bytes each: the members of a lease, the same in both databases.
pub fn pack_ids(ids: impl Iterator<Item = uuid::Uuid>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ids.size_hint().0 * 16);
    ids.for_each(|id| bytes.extend_from_slice(id.as_bytes()));
    bytes
}

/// Unpacks ids of [`pack_ids`].
pub fn unpack_ids(bytes: &[u8]) -> impl Iterator<Item = uuid::Uuid> + '_ {
    bytes.as_chunks::<16>().0.iter().map(|chunk| uuid::Uuid::from_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_ids_lies_between_those_made_before_and_after() {
        let mut ids = vec![ClientId::new()];
        ids.extend(ClientId::run(2000));
        ids.extend(ClientId::run(u16::MAX));
        ids.push(ClientId::new());
        assert_eq!(ids.len(), 2002 + usize::from(u16::MAX));
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| id.0.get_version_num() == 7));
    }

    #[test]
    fn a_message_id_tells_when_it_was_made() {
        let id: MessageId = "01a1fd78-dce9-703e-ab9c-ffd64ca17562".parse().unwrap();
        assert_eq!(id.created_at().to_string(), "2026-11-21T09:38:38.953000Z");
        assert!(MessageId::new().created_at() > id.created_at(), "a new id has the current time");
    }
}
