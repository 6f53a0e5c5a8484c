//! Reading an audience range by range, each in id order over an index that ends in the id: a page costs the same at
//! the start and at the end of ten million clients.

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use uuid::Uuid;

use crate::db::AnyConnection;
use crate::db::schema::client;
use crate::db::types::{ClientId, Id, Timestamp};
use crate::error::Result;
use crate::mailings::filter::Range;
use crate::mailings::model::Audience;
use crate::mailings::recipient::{Profile, Recipient};

/// How far an audience has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The number of the range.
    pub range: usize,
    /// The last client read of it.
    pub after: Option<ClientId>,
}

/// What is read of each client.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// No later client belongs to the audience.
    pub upper_bound: Option<ClientId>,
    /// How many clients to read.
    pub limit: usize,
    /// Whether the text has placeholders to fill.
    pub profiles: bool,
}

type Fields = (
    ClientId,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
    Timestamp,
);

macro_rules! columns {
    () => {
        (
            client::id,
            client::phone_number,
            client::mobile_operator_code,
            client::tag,
            client::timezone,
            client::email,
            client::external_id,
            client::attributes,
            client::updated_at,
        )
    };
}

/// One range of clients as a boxed query, whatever is selected of it.
macro_rules! within {
    ($query:expr, $range:expr) => {
        match $range {
            Range::All => $query,
            Range::Operator(code) => $query.filter(client::mobile_operator_code.eq(code.clone())),
            Range::Tag(tag) => $query.filter(client::tag.eq(tag.clone())),
            Range::Both(code, tag) => $query
                .filter(client::mobile_operator_code.eq(code.clone()))
                .filter(client::tag.eq(tag.clone())),
        }
    };
}

/// A stretch of one range, bounded by whole keys of its index. With `code = … AND id > …` in the order of ids
/// PostgreSQL's planner may take the walk over all clients for the cheaper one, and read millions to find a page.
macro_rules! stretch {
    ($query:expr, $key:literal, [$($value:expr),+], $after:expr, $bound:expr) => {
        $query
            .filter(
                sql::<Bool>(concat!($key, " > ("))
                    $(.bind::<Text, _>($value.clone()).sql(", "))+
                    .bind::<Id, _>($after)
                    .sql(")"),
            )
            .filter(
                sql::<Bool>(concat!($key, " <= ("))
                    $(.bind::<Text, _>($value.clone()).sql(", "))+
                    .bind::<Id, _>($bound)
                    .sql(")"),
            )
    };
}

/// Counts an audience up to the last client there is.
///
/// # Errors
/// Those of the database.
pub fn measure(c: &mut AnyConnection, ranges: &[Range]) -> Result<Audience> {
    let upper_bound: Option<ClientId> =
        client::table.select(client::id).order(client::id.desc()).first(c).optional()?;
    let Some(bound) = upper_bound else {
        return Ok(Audience { total: 0, upper_bound });
    };
    let mut total = 0;
    for range in ranges {
        let query = client::table.filter(client::id.le(bound)).select(count_star()).into_boxed();
        total += within!(query, range).first::<i64>(c)?;
    }
    Ok(Audience { total, upper_bound })
}

/// The next clients after `cursor`, and the cursor after them; fewer than the limit only at the end.
///
/// # Errors
/// Those of the database.
pub fn read(
    c: &mut AnyConnection,
    ranges: &[Range],
    mut cursor: Cursor,
    what: Read,
) -> Result<(Vec<Recipient>, Cursor)> {
    let mut found = Vec::with_capacity(what.limit);
    while let Some(range) = ranges.get(cursor.range) {
        let room = what.limit - found.len();
        if room == 0 {
            break;
        }
        let query =
            client::table.select(columns!()).limit(i64::try_from(room).unwrap_or(i64::MAX)).into_boxed();
        let after = cursor.after.unwrap_or(ClientId(Uuid::nil()));
        let bound = what.upper_bound.unwrap_or(ClientId(Uuid::max()));
        let query = match range {
            Range::All => query.filter(client::id.gt(after)).filter(client::id.le(bound)).order(client::id),
            Range::Operator(code) => stretch!(query, "(mobile_operator_code, id)", [code], after, bound)
                .order((client::mobile_operator_code, client::id)),
            Range::Tag(tag) => {
                stretch!(query, "(tag, id)", [tag], after, bound).order((client::tag, client::id))
            }
            Range::Both(code, tag) => {
                stretch!(query, "(mobile_operator_code, tag, id)", [code, tag], after, bound).order((
                    client::mobile_operator_code,
                    client::tag,
                    client::id,
                ))
            }
        };
        let rows: Vec<Fields> = query.load(c)?;
        cursor = match rows.last() {
            Some(last) if rows.len() == room => Cursor { range: cursor.range, after: Some(last.0) },
            _ => Cursor { range: cursor.range + 1, after: None },
        };
        found.extend(rows.into_iter().map(|row| recipient(row, what.profiles)));
    }
    Ok((found, cursor))
}

/// The clients of these ids; those that were deleted are missing.
///
/// # Errors
/// Those of the database.
pub fn by_ids(c: &mut AnyConnection, ids: &[ClientId], profiles: bool) -> Result<Vec<Recipient>> {
    let rows: Vec<Fields> = client::table.filter(client::id.eq_any(ids)).select(columns!()).load(c)?;
    Ok(rows.into_iter().map(|row| recipient(row, profiles)).collect())
}

fn recipient(row: Fields, profiles: bool) -> Recipient {
    let (
        client_id,
        phone_number,
        mobile_operator_code,
        tag,
        timezone,
        email,
        external_id,
        attributes,
        updated_at,
    ) = row;
    let profile = profiles
        .then(|| Box::new(Profile { mobile_operator_code, tag, timezone, email, external_id, attributes }));
    Recipient { client_id, phone_number, profile, updated_at }
}
