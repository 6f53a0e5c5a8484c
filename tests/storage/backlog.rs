//! The backlog: it counts messages that are due and could be sent, and not messages that are due later.

use diesel::prelude::*;
use fanfare::db::schema::mailing;
use fanfare::db::types::MessageId;
use fanfare::delivery::repo::backlog::{MOST_COUNTED, backlog};
use fanfare::kinds::{ChannelKind, OutcomeKind, Priority};
use fanfare::mailings::filter::AudienceFilter;
use fanfare::mailings::model::MailingStatus;
use fanfare::messages::repo::{DueRow, insert_due};
use serde_json::json;

use crate::on_each_database;
use crate::storage::engine::{held, recorded};
use crate::storage::stage::{Stage, at, mailing_at_work};

/// Returns the backlog of text messages at a second, and asserts that no other channel has one.
async fn of_sms(stage: &Stage, second: i64) -> i64 {
    let found = stage.db.read(move |c| backlog(c, at(second))).await.unwrap();
    assert!(found.keys().all(|channel| *channel == ChannelKind::Sms), "{found:?}");
    found.get(&ChannelKind::Sms).copied().unwrap_or_default()
}

on_each_database! {
    async fn an_audience_that_is_not_read_yet_is_backlog_inside_the_window_alone(kind: Database) {
        let stage = Stage::new(kind).await;
        let last = stage.create(json!({"phone_number": "79030000000"})).await.unwrap().id;
        assert_eq!(of_sms(&stage, 1_500).await, 0);
        let id = stage.db.write(move |c| Ok(mailing_at_work(c, AudienceFilter::default(), last))).await.unwrap();
        for (second, expected) in [(999, 0), (1_000, 4), (1_999, 4), (2_000, 0)] {
            assert_eq!(of_sms(&stage, second).await, expected, "second {second}");
        }
        let paused = mailing::status.eq(MailingStatus::Paused.code());
        stage.db.write(move |c| Ok(diesel::update(mailing::table.find(id)).set(paused).execute(c)?)).await.unwrap();
        assert_eq!(of_sms(&stage, 1_500).await, 0, "a paused mailing is not expected to go out");
    }
}

on_each_database! {
    async fn what_a_node_holds_is_backlog_and_what_waits_for_later_becomes_it_when_it_is_due(kind: Database) {
        let stage = Stage::new(kind).await;
        let held = held(&stage).await;
        assert_eq!(of_sms(&stage, 1_002).await, 4);
        let outcomes = vec![held.outcome(0, OutcomeKind::Delivered), held.outcome(1, OutcomeKind::Retry)];
        recorded(&stage, held.page.node, outcomes).await;
        assert_eq!(of_sms(&stage, 1_002).await, 2, "a retry is due a second later");
        assert_eq!(of_sms(&stage, 1_003).await, 3);
        let id = held.mailing;
        let paused = mailing::status.eq(MailingStatus::Paused.code());
        stage.db.write(move |c| Ok(diesel::update(mailing::table.find(id)).set(paused).execute(c)?)).await.unwrap();
        assert_eq!(of_sms(&stage, 1_002).await, 0);
    }
}

on_each_database! {
    async fn the_count_of_what_waits_has_a_bound(kind: Database) {
        let stage = Stage::new(kind).await;
        let store = |c: &mut fanfare::db::AnyConnection| {
            let waiting = |_| DueRow {
                message_id: MessageId::new(),
                mailing_id: None,
                channel: ChannelKind::Sms.code(),
                priority: Priority::Low.code(),
                due_at: at(1_500),
                expires_at: None,
            };
            (0..12).try_for_each(|_| insert_due(c, &(0..1_000).map(waiting).collect::<Vec<_>>()))
        };
        stage.db.write(store).await.unwrap();
        assert_eq!(of_sms(&stage, 1_499).await, 0);
        assert_eq!(of_sms(&stage, 1_500).await, MOST_COUNTED);
    }
}
