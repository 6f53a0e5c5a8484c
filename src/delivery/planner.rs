//! Plans the next leases of mailings, and closes and finalizes mailings.

use std::sync::Arc;

use super::active_mailing::{ActiveMailing, MailingState};
use super::active_mailings::ActiveMailings;
use super::admitter::Admitter;
use super::feeder_signal::FeederSignal;
use super::lanes::Lanes;
use super::leases::{HeldLease, HeldLeases};
use super::model::QueuedMessage;
use super::origin::Origin;
use super::outcomes::OutcomeSender;
use super::queues::Queues;
use super::reasons::{CANCELLED, WINDOW_CLOSED};
use super::releaser::Releaser;
use super::repo::NewLease;
use super::repo::close::{self, Closing, Ending};
use super::repo::plan::{self, Plan};
use crate::db::types::LeaseId;
use crate::error::Result;
use crate::failpoint;
use crate::kinds::OutcomeKind;
use crate::mailings::repo::audience::ClientFields;
use crate::runtime::Runtime;
use crate::templates::Variants;

/// Does the feeder's steps for one mailing.
pub struct Planner {
    pub(super) runtime: Runtime,
    pub(super) queues: Arc<Queues>,
    pub(super) leases: Arc<HeldLeases>,
    pub(super) mailings: Arc<ActiveMailings>,
    pub(super) admitter: Admitter,
    pub(super) outcomes: OutcomeSender,
    pub(super) releaser: Releaser,
    pub(super) signal: Arc<FeederSignal>,
    /// The largest number of recipients planned or closed in one transaction.
    pub(super) batch: usize,
}

impl Planner {
    /// Does one step for one mailing. Returns true if there is more to do at once. With 0 `sharers` it plans no new
    /// lease.
    ///
    /// # Errors
    /// Database errors.
    pub async fn step(&self, run: &Arc<ActiveMailing>, sharers: usize, may_finalize: bool) -> Result<bool> {
        let Some(lanes) = self.queues.lanes(run.channel) else {
            return Ok(false);
        };
        match run.state(self.runtime.clock.now()) {
            MailingState::Paused => self.hold(run, lanes, may_finalize).await,
            MailingState::Running if !self.queues.rest(run.channel).is_zero() => {
                self.hold(run, lanes, may_finalize).await
            }
            MailingState::Running if !run.is_audience_exhausted() && sharers == 0 => Ok(false),
            MailingState::Running if !run.is_audience_exhausted() => self.plan(run, lanes, sharers).await,
            MailingState::Running => self.finalize(run, may_finalize).await,
            MailingState::Closed => self.close(run, lanes, Ending::Expired).await,
            MailingState::Cancelled => self.close(run, lanes, Ending::Cancelled).await,
        }
    }

    /// Returns the mailing's messages from memory, because it is paused, or its channel's circuit breaker is open.
    async fn hold(&self, run: &Arc<ActiveMailing>, lanes: &Lanes, may_finalize: bool) -> Result<bool> {
        lanes.drain(Some(run.id)).iter().for_each(|item| self.leases.give_back(&item.lease));
        self.releaser.release_idle().await?;
        self.finalize(run, may_finalize).await
    }

    async fn plan(&self, run: &Arc<ActiveMailing>, lanes: &Lanes, sharers: usize) -> Result<bool> {
        let Runtime { db, clock, metrics, .. } = &self.runtime;
        let limit = lanes.wanted(run, sharers).min(self.batch);
        let now = clock.now();
        if limit == 0 || !self.leases.may_take(now) {
            return Ok(false);
        }
        let new = NewLease {
            id: LeaseId::new(),
            node: self.leases.node(),
            mailing: Some(run.id),
            channel: run.channel,
            priority: run.priority,
        };
        let what = Plan { mailing: run.id, ranges: Arc::clone(&run.ranges), limit, needs: needs(run) };
        let stored = new.clone();
        let stretch = db.write(move |c| plan::plan(c, &what, &stored, now)).await?;
        let Some(stretch) = stretch else {
            // the mailing was paused, cancelled, exhausted by another node, or its window closed: read it again
            self.signal.mailing_changed();
            return Ok(false);
        };
        if stretch.walked {
            run.set_audience_exhausted();
            self.signal.lease_done();
        }
        let count = stretch.planned.len();
        metrics.entered(run.channel, count);
        if count > 0 {
            failpoint::reach("plan-after-commit");
            let lease = Arc::new(HeldLease::new(new.id, new.node, new.mailing, count));
            let (due_at, preferences) = (run.due_at, stretch.preferences);
            let items = stretch.planned.into_iter().map(|(id, recipient)| QueuedMessage {
                id,
                lease: Arc::clone(&lease),
                origin: Origin::Mailing(Arc::clone(run)),
                client: Some(recipient.client_id),
                preferences: preferences.get(&recipient.client_id).cloned(),
                recipient: Some(recipient),
                address: None,
                attempts: 0,
                attempts_before: 0,
                revision: 0,
                due_at,
            });
            let items = items.collect();
            self.admitter.admit(&lease, (run.channel, run.priority), items).await;
        }
        Ok(true)
    }

    /// Ends the remaining messages of a mailing.
    async fn close(&self, run: &Arc<ActiveMailing>, lanes: &Lanes, ending: Ending) -> Result<bool> {
        let Runtime { db, clock, metrics, .. } = &self.runtime;
        let (kind, reason) = match ending {
            Ending::Cancelled => (OutcomeKind::Cancelled, CANCELLED),
            Ending::Expired => (OutcomeKind::Expired, WINDOW_CLOSED),
        };
        for item in lanes.drain(Some(run.id)) {
            self.outcomes.record(item.close(kind, clock.now(), reason)).await;
        }
        let plan = Plan {
            mailing: run.id,
            ranges: Arc::clone(&run.ranges),
            limit: self.batch,
            needs: ClientFields { profile: false, ..needs(run) },
        };
        let closing = Closing { plan, channel: run.channel, priority: run.priority, ending, reason };
        let now = clock.now();
        let (planned, closed) = db
            .write(move |c| {
                let rest = close::rest_of_audience(c, &closing, now)?;
                let waiting = close::waiting(c, &closing, now)?;
                Ok((
                    rest.messages,
                    close::Closed {
                        messages: rest.messages + waiting.messages,
                        more: rest.more || waiting.more,
                    },
                ))
            })
            .await?;
        failpoint::reach("close-after-commit");
        metrics.entered(run.channel, planned);
        metrics.ended(run.channel, kind, closed.messages);
        if closed.more {
            return Ok(true);
        }
        run.set_audience_exhausted();
        self.finalize(run, true).await
    }

    /// Finalizes the counts of a mailing without remaining messages.
    async fn finalize(&self, run: &Arc<ActiveMailing>, may_finalize: bool) -> Result<bool> {
        if !may_finalize || !run.is_audience_exhausted() || self.leases.holds(run.id) {
            return Ok(false);
        }
        // locked, so that a claim of messages replayed right after this creates a new active mailing, which a pause
        // finds
        let _adopting = self.leases.adopting().await;
        let (id, now) = (run.id, self.runtime.clock.now());
        if self.runtime.db.write(move |c| crate::mailings::repo::finalize(c, id, now)).await? {
            self.mailings.remove(id);
            self.show_running();
            tracing::info!(mailing = %id, "mailing finished");
        }
        Ok(false)
    }

    /// Sets `fanfare_mailings_running`.
    pub fn show_running(&self) {
        let now = self.runtime.clock.now();
        let running =
            self.mailings.all().iter().filter(|run| run.state(now) == MailingState::Running).count();
        self.runtime.metrics.mailings_running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }
}

/// Returns the fields of a client that the mailing's messages need.
fn needs(run: &ActiveMailing) -> ClientFields {
    let profile = run.content.as_ref().is_ok_and(Variants::needs_reader);
    ClientFields { channel: run.channel, profile, reachable: run.reachable }
}
