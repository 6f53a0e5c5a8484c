//! Pages of single messages that nobody holds: what has no outcome in them waits again, to be claimed by whoever has
//! room. Unlike a mailing's they are not taken over as they are: many are small, and what waits can be cancelled.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use super::take_over::{json_of, members_of, without_outcome};
use super::{delete_pages, free_pages};
use crate::db::AnyConnection;
use crate::db::types::{Id, NodeId, PageId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::messages::repo::{DueRow, insert_due};

#[derive(QueryableByName)]
struct Left {
    #[diesel(sql_type = Id)]
    id: PageId,
}

/// Lets the messages of up to `limit` pages of no mailing that nobody holds wait again; answers how many pages there were.
///
/// Nobody holds a page without a node, one of a node that is not known any more, and one of this node that is not among
/// `held`: its commit's answer was lost.
///
/// # Errors
/// Those of the database.
pub fn requeue(
    c: &mut AnyConnection,
    this: NodeId,
    held: &[PageId],
    limit: i64,
    now: Timestamp,
) -> Result<usize> {
    let left: Vec<Left> = match c {
        AnyConnection::Postgres(c) => diesel::sql_query(include_str!("sql/pages_left.postgres.sql"))
            .bind::<Id, _>(this)
            .bind::<Array<Id>, _>(held)
            .bind::<BigInt, _>(limit)
            .load(c)?,
        AnyConnection::Sqlite(c) => diesel::sql_query(include_str!("sql/pages_left.sqlite.sql"))
            .bind::<Id, _>(this)
            .bind::<Text, _>(json_of(held.iter().map(|id| id.0)))
            .bind::<BigInt, _>(limit)
            .load(c)?,
    };
    let ids: Vec<PageId> = left.into_iter().map(|page| page.id).collect();
    dissolve(c, &ids, now)?;
    if !ids.is_empty() {
        failpoint::reach("requeue-before-commit");
    }
    Ok(ids.len())
}

/// Lets the messages of pages of no mailing wait again, as far as they have no outcome; the pages go.
///
/// # Errors
/// Those of the database.
pub fn dissolve(c: &mut AnyConnection, pages: &[PageId], now: Timestamp) -> Result<()> {
    for id in pages {
        let members = members_of(c, *id)?;
        let open = without_outcome(c, members)?;
        let rows: Vec<DueRow> = open
            .into_iter()
            .filter_map(|(_, row)| row)
            .map(|row| DueRow::of(&row, None, row.due_at.unwrap_or(now)))
            .collect();
        insert_due(c, &rows)?;
    }
    delete_pages(c, pages)
}

/// Gives back pages of this node of which nothing is in hand any more: a mailing's stay as they are until somebody takes
/// them over, all others are dissolved.
///
/// # Errors
/// Those of the database.
pub fn release(c: &mut AnyConnection, ids: &[PageId], node: NodeId, now: Timestamp) -> Result<()> {
    let single = free_pages(c, ids, node)?;
    dissolve(c, &single, now)?;
    failpoint::reach("release-before-commit");
    Ok(())
}
