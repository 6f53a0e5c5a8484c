//! The engine's units of work, one by one: leases, their owners, and outcomes.

use std::time::Duration;

use diesel::prelude::*;
use fanfare::db::AnyConnection;
use fanfare::db::schema::{mailing, message, page, page_members};
use fanfare::db::types::{ClientId, LeaseId, MailingId, MessageId, NodeId, Timestamp, pack_ids};
use fanfare::delivery::repo::claim::{self, LaneBatch};
use fanfare::delivery::repo::plan::{Plan, plan};
use fanfare::delivery::repo::record::{Entry, Recorded, record};
use fanfare::delivery::repo::requeue::release;
use fanfare::delivery::repo::take_over::{TakenOver, take_over};
use fanfare::delivery::repo::{NewLease, node, rate};
use fanfare::kinds::{ChannelKind, MessageStatus, OutcomeKind, Priority};
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::MailingStatus;
use fanfare::mailings::recipient::Recipient;
use fanfare::mailings::repo;
use fanfare::mailings::repo::audience::ClientFields;
use fanfare::messages::model::Counts;
use fanfare::messages::repo::MessageRow;
use serde_json::json;

use crate::on_each_database;
use crate::storage::stage::{Stage, at, mailing_at_work};
use crate::support::Database;

/// A running mailing and one of its leases.
pub struct Held {
    pub mailing: MailingId,
    number: i32,
    pub page: NewLease,
    planned: Vec<(MessageId, Recipient)>,
}

/// Creates four clients, a mailing to them, and a node's lease of all of them.
pub async fn held(stage: &Stage) -> Held {
    for number in 0..4 {
        stage.create(json!({"phone_number": format!("7903000000{number}")})).await.unwrap();
    }
    let last = stage.all().await.last().unwrap().id;
    stage.db.write(move |c| Ok(hold(c, last))).await.unwrap()
}

fn hold(c: &mut AnyConnection, last: ClientId) -> Held {
    let filter = AudienceFilter::default();
    let mailing = mailing_at_work(c, filter.clone(), last);
    let node = NodeId::new();
    node::register(c, node, "test", at(1_000)).unwrap();
    let page = NewLease {
        id: LeaseId::new(),
        node,
        mailing: Some(mailing),
        channel: ChannelKind::Sms,
        priority: Priority::Normal,
    };
    let what = Plan {
        mailing,
        ranges: filter.ranges().into(),
        limit: 100,
        needs: ClientFields::of(ChannelKind::Sms),
    };
    let stretch = plan(c, &what, &page, at(1_001)).unwrap().unwrap();
    assert_eq!((stretch.planned.len(), stretch.walked), (4, true));
    let number = repo::number(c, mailing).unwrap();
    Held { mailing, number, page, planned: stretch.planned }
}

impl Held {
    /// Returns an outcome of one of its members.
    pub fn outcome(&self, member: usize, outcome: OutcomeKind) -> Entry {
        let (id, recipient) = &self.planned[member];
        let status = if outcome == OutcomeKind::Retry { MessageStatus::Queued } else { MessageStatus::Sent };
        let row = MessageRow {
            id: *id,
            client_id: Some(recipient.client_id),
            due_at: (outcome == OutcomeKind::Retry).then(|| at(1_003)),
            expires_at: None,
            finished_at: None,
            mailing_number: Some(self.number),
            duration_ms: Some(1),
            status_code: None,
            channel: ChannelKind::Sms.code(),
            priority: Priority::Normal.code(),
            status: status.code(),
            attempts: 1,
            revision: 1,
            recipient: recipient.address(ChannelKind::Sms).unwrap(),
            provider_id: None,
            error: None,
        };
        let mailing = Some(self.mailing);
        Entry {
            lease: self.page.id,
            mailing,
            row,
            outcome,
            at: at(1_002),
            tried: true,
            class: None,
            event: None,
            ran: None,
        }
    }

    fn lot(&self, node: NodeId) -> LaneBatch {
        LaneBatch { node, channel: ChannelKind::Sms, priority: Priority::Normal, limit: 10 }
    }
}

pub async fn recorded(stage: &Stage, node: NodeId, entries: Vec<Entry>) -> Recorded {
    stage.db.write(move |c| record(c, node, &entries)).await.unwrap()
}

async fn taken_over(stage: &Stage, lot: LaneBatch, now: Timestamp) -> Vec<TakenOver> {
    stage.db.write(move |c| take_over(c, lot, (&[], None), now)).await.unwrap()
}

async fn counts(stage: &Stage, id: MailingId) -> Counts {
    stage.db.read(move |c| repo::get(c, id)).await.unwrap().counts
}

async fn pages(stage: &Stage) -> i64 {
    stage.db.read(|c| Ok(page::table.count().get_result(c)?)).await.unwrap()
}

on_each_database! {
    async fn the_same_outcomes_recorded_twice_count_once(kind: Database) {
        let stage = Stage::new(kind).await;
        let held = held(&stage).await;
        assert_eq!(counts(&stage, held.mailing).await, Counts { total: 4, sending: 4, ..Counts::default() });
        let entries = vec![held.outcome(0, OutcomeKind::Delivered), held.outcome(1, OutcomeKind::Retry)];
        let expected = Counts { total: 4, queued: 1, sending: 2, sent: 1, ..Counts::default() };
        for (again, new) in [(false, 2), (true, 0)] {
            let recorded = recorded(&stage, held.page.node, entries.clone()).await;
            assert_eq!((recorded.messages.len(), recorded.lost.len()), (new, 0), "again: {again}");
            assert_eq!(counts(&stage, held.mailing).await, expected, "again: {again}");
        }
        let rest = vec![held.outcome(2, OutcomeKind::Delivered), held.outcome(3, OutcomeKind::Delivered)];
        recorded(&stage, held.page.node, rest).await;
        assert_eq!(pages(&stage).await, 0, "a page goes with its last outcome");
        // the result of that commit was lost: the outcome is recorded again, for a lease that no longer exists
        let again = recorded(&stage, held.page.node, vec![held.outcome(2, OutcomeKind::Delivered)]).await;
        assert!(again.messages.is_empty());
        assert_eq!(counts(&stage, held.mailing).await, Counts { total: 4, queued: 1, sent: 3, ..Counts::default() });
    }
}

on_each_database! {
    async fn what_a_node_says_of_a_page_that_it_lost_is_not_recorded(kind: Database) {
        let stage = Stage::new(kind).await;
        let held = held(&stage).await;
        recorded(&stage, held.page.node, vec![held.outcome(0, OutcomeKind::Delivered)]).await;
        let (old, new, page) = (held.page.node, NodeId::new(), held.page.id);
        stage.db.write(move |c| release(c, &[page], old, Timestamp::from_micros(0))).await.unwrap();
        assert_eq!(counts(&stage, held.mailing).await.queued, 3, "what nobody holds waits");
        let taken = taken_over(&stage, held.lot(new), at(1_005)).await;
        let open: Vec<MessageId> = taken[0].open.iter().map(|(member, _)| member.message).collect();
        let expected: Vec<MessageId> = held.planned[1..].iter().map(|(id, _)| *id).collect();
        assert_eq!(open, expected, "the same messages, under the same ids, but for the one that is sent");
        let late = recorded(&stage, old, vec![held.outcome(1, OutcomeKind::Delivered)]).await;
        assert_eq!((late.messages.len(), late.lost), (0, vec![page]));
        assert_eq!(counts(&stage, held.mailing).await, Counts { total: 4, sending: 3, sent: 1, ..Counts::default() });
        recorded(&stage, new, vec![held.outcome(1, OutcomeKind::Delivered)]).await;
        assert_eq!(counts(&stage, held.mailing).await.sent, 2);
    }
}

on_each_database! {
    async fn a_due_message_is_claimed_once_and_a_claim_of_a_dead_node_is_taken_over(kind: Database) {
        let stage = Stage::new(kind).await;
        let held = held(&stage).await;
        let entries = (0..4).map(|i| held.outcome(i, OutcomeKind::Retry)).collect();
        recorded(&stage, held.page.node, entries).await;
        let (one, other) = (held.lot(held.page.node), held.lot(NodeId::new()));
        let early = stage.db.write(move |c| claim::claim(c, one, at(1_002))).await.unwrap();
        assert!(early.is_empty(), "they are due later");
        let claimed = stage.db.write(move |c| claim::claim(c, one, at(1_003))).await.unwrap();
        assert_eq!((claimed.len(), claimed[0].rows.len()), (1, 4));
        let again = stage.db.write(move |c| claim::claim(c, other, at(1_003))).await.unwrap();
        assert!(again.is_empty());
        assert_eq!(counts(&stage, held.mailing).await.sending, 4);
        assert!(taken_over(&stage, other, at(1_004)).await.is_empty(), "its node is alive");
        stage.db.write(move |c| Ok(diesel::delete(fanfare::db::schema::node::table).execute(c)?)).await.unwrap();
        let taken = taken_over(&stage, other, at(1_004)).await;
        assert_eq!((taken.len(), taken[0].open.len()), (1, 4));
        assert!(taken[0].open.iter().all(|(_, row)| row.as_ref().is_some_and(|row| row.attempts == 1)));
    }
}

on_each_database! {
    async fn pages_of_another_lane_and_of_a_paused_mailing_are_left_alone(kind: Database) {
        let stage = Stage::new(kind).await;
        let held = held(&stage).await;
        let (node, page, id) = (held.page.node, held.page.id, held.mailing);
        stage.db.write(move |c| release(c, &[page], node, Timestamp::from_micros(0))).await.unwrap();
        let other_lane = LaneBatch { priority: Priority::High, ..held.lot(NodeId::new()) };
        assert!(taken_over(&stage, other_lane, at(1_005)).await.is_empty());
        let set = move |c: &mut AnyConnection, status| repo::set_status(c, id, status, at(1_004));
        stage.db.write(move |c| set(c, MailingStatus::Paused)).await.unwrap();
        let lot = held.lot(NodeId::new());
        assert!(taken_over(&stage, lot, at(1_999)).await.is_empty(), "it is paused");
        assert_eq!(taken_over(&stage, lot, at(2_000)).await.len(), 1, "its window has closed");
    }
}

/// Stores a lease with a client that was sent to already. A regression: such a lease was taken over at every poll, and
/// its message was sent each time.
async fn a_client_with_two_places(stage: &Stage) -> (Held, LaneBatch) {
    let held = held(stage).await;
    let entries = (0..4).map(|i| held.outcome(i, OutcomeKind::Delivered)).collect();
    recorded(stage, held.page.node, entries).await;
    let (mailing_id, client_id) = (held.mailing, held.planned[0].1.client_id);
    let id = LeaseId::new();
    let stored = stage.db.write(move |c| {
        diesel::insert_into(page::table)
            .values((
                page::id.eq(id),
                page::node_id.eq(None::<NodeId>),
                page::mailing_id.eq(Some(mailing_id)),
                page::channel.eq(ChannelKind::Sms.code()),
                page::priority.eq(Priority::Normal.code()),
                page::remaining.eq(1),
                page::created_at.eq(at(1_001)),
            ))
            .execute(c)?;
        diesel::insert_into(page_members::table)
            .values((
                page_members::page_id.eq(id),
                page_members::message_ids.eq(pack_ids(std::iter::once(MessageId::new().0))),
                page_members::client_ids.eq(pack_ids(std::iter::once(client_id.0))),
                page_members::revisions.eq(vec![0_u8, 0]),
            ))
            .execute(c)?;
        Ok(())
    });
    stored.await.unwrap();
    let lot = held.lot(NodeId::new());
    (held, lot)
}

on_each_database! {
    async fn a_client_planned_a_second_time_is_not_sent_to_for_ever(kind: Database) {
        let stage = Stage::new(kind).await;
        let (held, lot) = a_client_with_two_places(&stage).await;
        assert!(taken_over(&stage, lot, at(1_005)).await.is_empty());
        assert_eq!(pages(&stage).await, 0);
        let (id, number) = (held.mailing, held.number);
        assert!(stage.db.write(move |c| repo::finalize(c, id, at(1_006))).await.unwrap(), "its books can be closed");
        let rows = stage.db.read(move |c| Ok(message::table.filter(message::mailing_number.eq(number)).count().get_result::<i64>(c)?));
        assert_eq!((rows.await.unwrap(), counts(&stage, id).await.sent), (4, 4));
        let left = stage.db.read(|c| Ok(mailing::table.filter(mailing::settled.eq(false)).count().get_result::<i64>(c)?));
        assert_eq!(left.await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_a_shared_schedule_lie_one_after_the_other() {
    let stage = Stage::new(Database::Postgres).await;
    let taken = stage.db.write(|c| {
        let mut ask = |name: &str, millis| rate::reserve(c, name, Duration::from_millis(millis));
        let first = [ask("sms", 60_000)?, ask("sms", 60_000)?, ask("other", 60_000)?, ask("sms", 60_000)?];
        // the rate was raised: later slots do not wait for slots that were reserved at the lower rate
        Ok((first, ask("sms", 10)?))
    });
    let (first, raised) = taken.await.unwrap();
    let minutes = first.map(|delay| (delay.as_secs_f64() / 60.0).round());
    assert_eq!(minutes, [0.0, 1.0, 0.0, 2.0], "{first:?}");
    assert!(raised <= Duration::from_millis(640), "{raised:?}");
}
