//! Reads an audience range by range, each in id order over an index that ends in the id, so that a read costs the same
//! at the start and at the end of ten million clients. The clients that moved from one range to another meanwhile come
//! last.

use diesel::dsl::{count, count_star, exists, sql};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use uuid::Uuid;

use crate::clients::model::{more_of_stored, tag_key};
use crate::clients::reach::ClientAddresses;
use crate::db::AnyConnection;
use crate::db::schema::{client, client_move, client_tag, mailing};
use crate::db::types::{ClientId, Id, Timestamp};
use crate::error::Result;
use crate::kinds::{ChannelKind, ClientAddress};
use crate::mailings::filter::{AudienceFilter, Range, RequiredAddresses};
use crate::mailings::model::Audience;
use crate::mailings::recipient::{Profile, Recipient};

/// The most ranges that one call reads: a filter may have tens of thousands, most of them empty.
const RANGES_AT_ONCE: usize = 100;

/// A position in an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AudienceCursor {
    /// The index of the range. The index after the last range is for the moved clients, and the next one is the end.
    pub range: usize,
    /// The last client that was read from the range.
    pub after: Option<ClientId>,
}

/// The parameters of one read.
#[derive(Debug, Clone, Copy)]
pub struct AudienceRead {
    /// The last client that can belong to the audience.
    pub upper_bound: Option<ClientId>,
    /// The most clients to read.
    pub limit: usize,
    /// The fields to read.
    pub needs: ClientFields,
}

/// The fields of a client that a mailing needs.
#[derive(Debug, Clone, Copy)]
pub struct ClientFields {
    /// The channel, which determines the address.
    pub channel: ChannelKind,
    /// True if the texts have placeholders, or depend on the client's language.
    pub profile: bool,
    /// The addresses that a client of the audience must have.
    pub reachable: RequiredAddresses,
}

impl ClientFields {
    /// Creates the needs of a mailing that uses only the address.
    pub fn of(channel: ChannelKind) -> Self {
        Self { channel, profile: false, reachable: RequiredAddresses::default() }
    }
}

type ClientColumns = (
    ClientId,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
    Timestamp,
    Option<String>,
    Option<String>,
);

macro_rules! columns {
    () => {
        (
            client::id,
            client::phone_number,
            client::mobile_operator_code,
            client::tag,
            client::timezone,
            client::locale,
            client::email,
            client::push_token,
            client::external_id,
            client::attributes,
            client::updated_at,
            client::tag_key,
            client::more_tags,
        )
    };
}

/// Returns the tag keys of a client that was read.
fn keys(row: &ClientColumns) -> Vec<String> {
    let more = more_of_stored(row.12.as_deref()).into_iter().map(|(key, _)| key);
    row.11.iter().cloned().chain(more).collect()
}

/// Restricts a query to clients with the required addresses.
macro_rules! reachable {
    ($query:ident, $reachable:expr) => {
        if $reachable.by_sms {
            $query = $query.filter(client::phone_number.is_not_null());
        }
        if $reachable.by_email {
            $query = $query.filter(client::email.is_not_null());
        }
        if $reachable.by_push {
            $query = $query.filter(client::push_token.is_not_null());
        }
    };
}

/// Restricts a query to a part of one range, bounded by whole keys of its index. With `code = … AND id > …` in the
/// order of ids, PostgreSQL's planner may scan the primary key because it seems cheaper, and read millions of clients
/// to find a few.
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

/// Counts an audience, and reads the id of the last client. Clients that are created between the two statements are
/// counted although the audience does not include them; finalizing the counts subtracts them. Counting only up to the
/// last client was rejected: it takes six times as long, because databases count a whole index fast, but a part of it
/// row by row.
///
/// # Errors
/// Database errors.
pub fn measure(c: &mut AnyConnection, filter: &AudienceFilter) -> Result<Audience> {
    let upper_bound: Option<ClientId> =
        client::table.select(client::id).order(client::id.desc()).first(c).optional()?;
    if upper_bound.is_none() {
        return Ok(Audience { total: 0, upper_bound });
    }
    let mut query = client::table.select(count_star()).into_boxed();
    if !filter.mobile_operator_code.is_empty() {
        query = query.filter(client::mobile_operator_code.eq_any(filter.mobile_operator_code.clone()));
    }
    let keys = filter.keys();
    if !keys.is_empty() {
        query = query.filter(client::tag_key.eq_any(keys.clone()));
    }
    let reachable = filter.reachable();
    reachable!(query, reachable);
    let mut total: i64 = query.first(c)?;
    if !keys.is_empty() {
        let mut query = client_tag::table
            .inner_join(client::table.on(client::id.eq(client_tag::client_id)))
            .filter(client_tag::key.eq_any(keys.clone()))
            .filter(client::tag_key.ne_all(keys))
            .select(count(client_tag::client_id).aggregate_distinct())
            .into_boxed();
        if !filter.mobile_operator_code.is_empty() {
            query =
                query.filter(client_tag::mobile_operator_code.eq_any(filter.mobile_operator_code.clone()));
        }
        reachable!(query, reachable);
        total += query.first::<i64>(c)?;
    }
    Ok(Audience { total, upper_bound })
}

/// Returns the tags of the list that no client has.
///
/// # Errors
/// Database errors.
pub fn nobodys_tags(c: &mut AnyConnection, tags: &[String]) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    for tag in tags {
        let key = tag_key(tag).into_owned();
        let first = client::table.filter(client::tag_key.eq(key.clone()));
        let further = client_tag::table.filter(client_tag::key.eq(key));
        if !diesel::select(exists(first).or(exists(further))).get_result::<bool>(c)? {
            unknown.push(tag.clone());
        }
    }
    Ok(unknown)
}

/// Returns the next clients after `cursor`, and the cursor after them. They are fewer than the limit at the end of the
/// ranges, and after many empty ranges.
///
/// # Errors
/// Database errors.
pub fn read(
    c: &mut AnyConnection,
    ranges: &[Range],
    mut cursor: AudienceCursor,
    what: AudienceRead,
) -> Result<(Vec<Recipient>, AudienceCursor)> {
    let mut found = Vec::with_capacity(what.limit);
    for range in ranges.iter().skip(cursor.range).take(RANGES_AT_ONCE) {
        let room = what.limit - found.len();
        let within = RangePart {
            after: cursor.after.unwrap_or(ClientId(Uuid::nil())),
            bound: what.upper_bound.unwrap_or(ClientId(Uuid::max())),
            limit: i64::try_from(room).unwrap_or(i64::MAX),
        };
        let rows = page(c, range, within, what.needs.reachable)?;
        let (last, count) = (rows.last().map(|row| row.0), rows.len());
        let is_of_range = |row: &ClientColumns| {
            !matches!(range, Range::Further(..)) || range.holds(row.2.as_deref(), &keys(row))
        };
        found.extend(rows.into_iter().filter(is_of_range).map(|row| recipient(row, what.needs)));
        if count == room {
            cursor = AudienceCursor { range: cursor.range, after: last };
            break;
        }
        cursor = AudienceCursor { range: cursor.range + 1, after: None };
    }
    Ok((found, cursor))
}

/// A part of a range: at most `limit` clients after one id, up to another.
#[derive(Clone, Copy)]
struct RangePart {
    after: ClientId,
    bound: ClientId,
    limit: i64,
}

/// Returns the next clients of a range. For a range of a further tag they include clients that belong to an earlier
/// range.
fn page(
    c: &mut AnyConnection,
    range: &Range,
    within: RangePart,
    reachable: RequiredAddresses,
) -> Result<Vec<ClientColumns>> {
    let RangePart { after, bound, limit } = within;
    let mut query = client::table.select(columns!()).limit(limit).into_boxed();
    reachable!(query, reachable);
    let query = match range {
        Range::Further(code, tag) => {
            return with_further_tag(c, (code.as_ref(), tag.key()), within, reachable);
        }
        Range::All => query.filter(client::id.gt(after)).filter(client::id.le(bound)).order(client::id),
        Range::Operator(code) => stretch!(query, "(mobile_operator_code, id)", [code], after, bound)
            .order((client::mobile_operator_code, client::id)),
        Range::Tag(key) => {
            stretch!(query, "(tag_key, id)", [key], after, bound).order((client::tag_key, client::id))
        }
        Range::Both(code, key) => {
            stretch!(query, "(mobile_operator_code, tag_key, id)", [code, key], after, bound).order((
                client::mobile_operator_code,
                client::tag_key,
                client::id,
            ))
        }
    };
    Ok(query.load(c)?)
}

/// Returns the next clients, all or only those of an operator, that have this tag after their first one.
fn with_further_tag(
    c: &mut AnyConnection,
    (code, key): (Option<&String>, &str),
    RangePart { after, bound, limit }: RangePart,
    reachable: RequiredAddresses,
) -> Result<Vec<ClientColumns>> {
    let key = key.to_owned();
    let mut query = client_tag::table
        .inner_join(client::table.on(client::id.eq(client_tag::client_id)))
        .select(columns!())
        .limit(limit)
        .into_boxed();
    reachable!(query, reachable);
    let query = match code {
        None => stretch!(query, "(client_tag.key, client_tag.client_id)", [key], after, bound)
            .order((client_tag::key, client_tag::client_id)),
        Some(code) => stretch!(
            query,
            "(client_tag.mobile_operator_code, client_tag.key, client_tag.client_id)",
            [code, key],
            after,
            bound
        )
        .order((client_tag::mobile_operator_code, client_tag::key, client_tag::client_id)),
    };
    Ok(query.load(c)?)
}

/// Returns the next clients after `cursor` that are in the audience now and changed their operator or tags since
/// `since`. The reads of the ranges have missed a client that moved from an unread range to a range that was already
/// read. Some of the returned clients were read before all the same.
///
/// # Errors
/// Database errors.
pub fn moved(
    c: &mut AnyConnection,
    ranges: &[Range],
    cursor: AudienceCursor,
    since: Option<Timestamp>,
    what: AudienceRead,
) -> Result<(Vec<Recipient>, AudienceCursor)> {
    let mut query = client_move::table
        .select(client_move::client_id)
        .order(client_move::client_id)
        .limit(i64::try_from(what.limit).unwrap_or(i64::MAX))
        .into_boxed();
    if let Some(after) = cursor.after {
        query = query.filter(client_move::client_id.gt(after));
    }
    if let Some(bound) = what.upper_bound {
        query = query.filter(client_move::client_id.le(bound));
    }
    let ids: Vec<ClientId> = query.load(c)?;
    let next = match ids.last() {
        Some(last) if ids.len() == what.limit => AudienceCursor { range: cursor.range, after: Some(*last) },
        _ => AudienceCursor { range: cursor.range + 1, after: None },
    };
    let mut query = client::table.filter(client::id.eq_any(ids)).select(columns!()).into_boxed();
    if let Some(since) = since {
        query = query.filter(client::updated_at.ge(since));
    }
    reachable!(query, what.needs.reachable);
    let rows: Vec<ClientColumns> = query.load(c)?;
    let found = rows
        .into_iter()
        .filter(|row| ranges.iter().any(|range| range.holds(row.2.as_deref(), &keys(row))))
        .map(|row| recipient(row, what.needs));
    Ok((found.collect(), next))
}

/// Returns true if any client is recorded as moved.
///
/// # Errors
/// Database errors.
pub fn any_moves(c: &mut AnyConnection) -> Result<bool> {
    Ok(diesel::select(exists(client_move::table.select(client_move::client_id))).get_result(c)?)
}

/// Deletes up to `limit` records of moved clients if no mailing is active, because a later mailing reads the clients in
/// their present ranges. Returns the number of deleted records.
///
/// # Errors
/// Database errors.
pub fn delete_moves(c: &mut AnyConnection, limit: i64) -> Result<usize> {
    let some: Vec<ClientId> = client_move::table.select(client_move::client_id).limit(limit).load(c)?;
    // checked after the rows were read: a mailing that starts later than that starts after these moves
    let open = mailing::table.filter(mailing::settled.eq(false)).filter(mailing::started_at.is_not_null());
    if some.is_empty() || diesel::select(exists(open)).get_result(c)? {
        return Ok(0);
    }
    Ok(diesel::delete(client_move::table.filter(client_move::client_id.eq_any(some))).execute(c)?)
}

/// Returns the clients with these ids, without the deleted ones.
///
/// # Errors
/// Database errors.
pub fn by_ids(c: &mut AnyConnection, ids: &[ClientId], needs: ClientFields) -> Result<Vec<Recipient>> {
    let rows: Vec<ClientColumns> = client::table.filter(client::id.eq_any(ids)).select(columns!()).load(c)?;
    Ok(rows.into_iter().map(|row| recipient(row, needs)).collect())
}

fn recipient(row: ClientColumns, needs: ClientFields) -> Recipient {
    let (
        client_id,
        phone_number,
        mobile_operator_code,
        tag,
        timezone,
        locale,
        email,
        push_token,
        external_id,
        attributes,
        updated_at,
        _,
        more_tags,
    ) = row;
    let reach = ClientAddresses {
        id: client_id,
        phone_number,
        email: email.as_deref(),
        push_token: push_token.as_deref(),
        external_id: external_id.as_deref(),
        attributes: &attributes,
    };
    let is_phone = needs.channel.spec().client == ClientAddress::PhoneNumber;
    let address = if is_phone { None } else { reach.on(needs.channel).map(String::into_boxed_str) };
    let profile = needs.profile.then(|| {
        Box::new(Profile {
            mobile_operator_code,
            tag,
            more_tags,
            timezone,
            locale,
            email,
            external_id,
            attributes,
        })
    });
    Recipient { client_id, phone_number, address, profile, updated_at }
}
