//! Nodes and their heartbeats.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, Double};

use crate::db::AnyConnection;
use crate::db::schema::{node, page};
use crate::db::types::{Id, NodeId, Timestamp};
use crate::error::Result;
use crate::failpoint;

/// Registers this node. On SQLite no other node can be alive, so all others are deleted and their leases are released.
///
/// # Errors
/// Database errors.
pub fn register(c: &mut AnyConnection, id: NodeId, name: &str, now: Timestamp) -> Result<()> {
    if matches!(c, AnyConnection::Sqlite(_)) {
        diesel::delete(node::table).execute(c)?;
        let held = page::table.filter(page::node_id.is_not_null());
        diesel::update(held).set(page::node_id.eq(None::<NodeId>)).execute(c)?;
    }
    diesel::insert_into(node::table)
        .values((node::id.eq(id), node::name.eq(name), node::started_at.eq(now), node::heartbeat_at.eq(now)))
        .execute(c)?;
    if let AnyConnection::Postgres(c) = c {
        // all nodes share the server's clock
        diesel::sql_query("UPDATE node SET heartbeat_at = clock_timestamp() WHERE id = $1")
            .bind::<Id, _>(id)
            .execute(c)?;
    }
    failpoint::reach("register-before-commit");
    Ok(())
}

#[derive(QueryableByName)]
struct Dead {
    #[diesel(sql_type = Id)]
    id: NodeId,
}

/// Writes this node's heartbeat. It also deletes the nodes without a heartbeat for longer than the node lease, and
/// releases their leases, whose messages are not being sent. Returns true if this node was still registered.
///
/// # Errors
/// Database errors.
pub fn heartbeat(c: &mut AnyConnection, id: NodeId, lease: Duration) -> Result<bool> {
    failpoint::reach("heartbeat");
    let AnyConnection::Postgres(c) = c else {
        return Ok(true);
    };
    let known = diesel::sql_query("UPDATE node SET heartbeat_at = clock_timestamp() WHERE id = $1")
        .bind::<Id, _>(id)
        .execute(c)?;
    // SKIP LOCKED: a node that is writing its heartbeat at this moment is alive, and after an outage two nodes that
    // each wait to delete the other would deadlock
    let dead: Vec<Dead> = diesel::sql_query(
        "DELETE FROM node WHERE id IN (SELECT id FROM node \
         WHERE heartbeat_at < clock_timestamp() - make_interval(secs => $1) FOR UPDATE SKIP LOCKED) RETURNING id",
    )
    .bind::<Double, _>(lease.as_secs_f64())
    .load(c)?;
    if !dead.is_empty() {
        // SKIP LOCKED: a lease that a frozen node has locked must not delay this node's heartbeat; it is taken over
        // when the lock is released
        diesel::sql_query(
            "UPDATE page SET node_id = NULL WHERE id IN (SELECT id FROM page WHERE node_id = ANY($1) \
             FOR UPDATE SKIP LOCKED)",
        )
        .bind::<Array<Id>, _>(dead.iter().map(|node| node.id).collect::<Vec<_>>())
        .execute(c)?;
    }
    Ok(known > 0)
}

/// Returns the number of live nodes.
///
/// # Errors
/// Database errors.
pub fn count(c: &mut AnyConnection) -> Result<i64> {
    Ok(node::table.count().get_result(c)?)
}

/// Deregisters this node, and releases all its leases.
///
/// # Errors
/// Database errors.
pub fn leave(c: &mut AnyConnection, id: NodeId) -> Result<()> {
    diesel::update(page::table.filter(page::node_id.eq(id)))
        .set(page::node_id.eq(None::<NodeId>))
        .execute(c)?;
    diesel::delete(node::table.find(id)).execute(c)?;
    Ok(())
}
