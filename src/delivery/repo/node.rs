//! Nodes: who is alive.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, Double};

use crate::db::AnyConnection;
use crate::db::schema::{node, page};
use crate::db::types::{Id, NodeId, Timestamp};
use crate::error::Result;
use crate::failpoint;

/// Registers this node. On SQLite no other can be alive, so all others are forgotten and their pages are given back.
///
/// # Errors
/// Those of the database.
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
        // the server's clock is the one that all nodes share
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

/// Shows that this node is alive, and forgets those that have not for longer than the lease; their pages are given back:
/// what stands in them is not being sent. Answers whether this node was still known.
///
/// # Errors
/// Those of the database.
pub fn heartbeat(c: &mut AnyConnection, id: NodeId, lease: Duration) -> Result<bool> {
    failpoint::reach("heartbeat");
    let AnyConnection::Postgres(c) = c else {
        return Ok(true);
    };
    let known = diesel::sql_query("UPDATE node SET heartbeat_at = clock_timestamp() WHERE id = $1")
        .bind::<Id, _>(id)
        .execute(c)?;
    // SKIP LOCKED: a node that is writing its heartbeat at this moment is alive, and after an outage two that each
    // waited to forget the other would be a deadlock
    let dead: Vec<Dead> = diesel::sql_query(
        "DELETE FROM node WHERE id IN (SELECT id FROM node \
         WHERE heartbeat_at < clock_timestamp() - make_interval(secs => $1) FOR UPDATE SKIP LOCKED) RETURNING id",
    )
    .bind::<Double, _>(lease.as_secs_f64())
    .load(c)?;
    if !dead.is_empty() {
        // SKIP LOCKED: a page that a frozen node has locked must not make this one late; it is taken over once that is let go
        diesel::sql_query(
            "UPDATE page SET node_id = NULL WHERE id IN (SELECT id FROM page WHERE node_id = ANY($1) \
             FOR UPDATE SKIP LOCKED)",
        )
        .bind::<Array<Id>, _>(dead.iter().map(|node| node.id).collect::<Vec<_>>())
        .execute(c)?;
    }
    Ok(known > 0)
}

/// How many nodes are alive.
///
/// # Errors
/// Those of the database.
pub fn count(c: &mut AnyConnection) -> Result<i64> {
    Ok(node::table.count().get_result(c)?)
}

/// Takes this node off, and gives back all that it holds.
///
/// # Errors
/// Those of the database.
pub fn leave(c: &mut AnyConnection, id: NodeId) -> Result<()> {
    diesel::update(page::table.filter(page::node_id.eq(id)))
        .set(page::node_id.eq(None::<NodeId>))
        .execute(c)?;
    diesel::delete(node::table.find(id)).execute(c)?;
    Ok(())
}
