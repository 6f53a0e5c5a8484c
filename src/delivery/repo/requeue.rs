//! Requeues the messages of standalone leases without an owner, so that any node with room claims them. Unlike
//! mailings' leases, they are not taken over whole: many are small, and a waiting message can be cancelled.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use super::take_over::{json_of, members_of, without_outcome};
use super::{clear_lease_owner, delete_leases};
use crate::db::AnyConnection;
use crate::db::types::{Id, LeaseId, NodeId, Timestamp};
use crate::error::Result;
use crate::failpoint;
use crate::messages::repo::{DueRow, insert_due};

#[derive(QueryableByName)]
struct RemainingMember {
    #[diesel(sql_type = Id)]
    id: LeaseId,
}

/// Requeues the messages of up to `limit` leases without an owner and without a mailing. Returns the number of leases.
///
/// A lease has no owner if it has no node, if its node does not exist any more, or if its node is this one and it is
/// not among `held`, because the response to its commit was lost.
///
/// # Errors
/// Database errors.
pub fn requeue(
    c: &mut AnyConnection,
    this: NodeId,
    held: &[LeaseId],
    limit: i64,
    now: Timestamp,
) -> Result<usize> {
    let left: Vec<RemainingMember> = match c {
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
    let ids: Vec<LeaseId> = left.into_iter().map(|lease| lease.id).collect();
    requeue_and_delete(c, &ids, now)?;
    if !ids.is_empty() {
        failpoint::reach("requeue-before-commit");
    }
    Ok(ids.len())
}

/// Requeues the messages of standalone leases that have no outcome, and deletes the leases.
///
/// # Errors
/// Database errors.
pub fn requeue_and_delete(c: &mut AnyConnection, leases: &[LeaseId], now: Timestamp) -> Result<()> {
    for id in leases {
        let members = members_of(c, *id)?;
        let open = without_outcome(c, members)?;
        let rows: Vec<DueRow> = open
            .into_iter()
            .filter_map(|(_, row)| row)
            .map(|row| DueRow::new(&row, None, row.due_at.unwrap_or(now)))
            .collect();
        insert_due(c, &rows)?;
    }
    delete_leases(c, leases)
}

/// Releases idle leases of this node. Mailings' leases stay until a node takes them over; the messages of all others
/// are requeued.
///
/// # Errors
/// Database errors.
pub fn release(c: &mut AnyConnection, ids: &[LeaseId], node: NodeId, now: Timestamp) -> Result<()> {
    let single = clear_lease_owner(c, ids, node)?;
    requeue_and_delete(c, &single, now)?;
    failpoint::reach("release-before-commit");
    Ok(())
}
