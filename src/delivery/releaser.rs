//! Releases leases whose messages are not sent here.

use std::sync::Arc;

use tokio::sync::Notify;

use super::leases::HeldLeases;
use super::repo::requeue;
use crate::clock::Clock;
use crate::db::types::LeaseId;
use crate::db::{AnyConnection, Db};
use crate::error::Result;
use crate::failpoint;

/// The number of standalone leases requeued in one transaction.
const REQUEUE: i64 = 64;

/// Releases the idle leases of this node, and requeues the messages of standalone leases without an owner.
#[derive(Clone)]
pub struct Releaser {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) leases: Arc<HeldLeases>,
    /// Wakes the claimer.
    pub(super) claim: Arc<Notify>,
}

impl Releaser {
    /// Releases the idle leases. Returns true if there were any.
    ///
    /// # Errors
    /// Database errors.
    pub async fn release_idle(&self) -> Result<bool> {
        let ids: Vec<LeaseId> = self.leases.take_idle();
        if ids.is_empty() {
            return Ok(false);
        }
        let (node, list, now) = (self.leases.node(), ids.clone(), self.clock.now());
        let released = self.db.write(move |c| requeue::release(c, &list, node, now)).await;
        if released.is_ok() {
            failpoint::reach("release-after-commit");
            self.claim.notify_one();
        }
        for id in ids {
            match &released {
                Ok(()) => self.leases.forget(id),
                Err(_) => self.leases.set_idle(id),
            }
        }
        released.map(|()| true)
    }

    /// Requeues standalone messages whose leases have no owner.
    ///
    /// # Errors
    /// Database errors.
    pub async fn requeue(&self) -> Result<()> {
        let _adopting = self.leases.adopting().await;
        loop {
            let (node, held, now) = (self.leases.node(), self.leases.held(), self.clock.now());
            if !self.leases.may_take(now) {
                return Ok(());
            }
            let again = move |c: &mut AnyConnection| requeue::requeue(c, node, &held, REQUEUE, now);
            let leases = self.db.write(again).await?;
            if leases > 0 {
                failpoint::reach("requeue-after-commit");
                tracing::info!(leases = leases, "messages of leases without an owner requeued");
                self.claim.notify_one();
            }
            if i64::try_from(leases).unwrap_or(i64::MAX) < REQUEUE {
                return Ok(());
            }
        }
    }
}
