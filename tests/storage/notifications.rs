//! The intake of notifications: their rows, their idempotency keys, and the wake-up of the engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use fanfare::db::schema::{message, notification};
use fanfare::db::types::{BatchId, ClientId, EventId, MessageId, Timestamp};
use fanfare::idempotency::{self, Claim, ClaimResult, IdempotencyKey, IdempotentResponse};
use fanfare::kinds::{ChannelKind, Priority};
use fanfare::messages::cancelling::Recall;
use fanfare::messages::repo::MessageRow;
use fanfare::notifications::intake::{NotificationIntake, NotificationPublisher};
use fanfare::notifications::model::{NewNotification, TemplateUsed, To};
use fanfare::notifications::notifier::NewMessageNotifier;
use fanfare::notifications::repo::{
    NewNotificationRows, NotificationRow, RecipientAddresses, StoreResult, store,
};
use uuid::Uuid;

use crate::on_each_database;
use crate::storage::stage::{Stage, at};

fn new(to: To, scheduled_at: Option<Timestamp>) -> NewNotification {
    NewNotification {
        channel: ChannelKind::Sms,
        to,
        fill: None,
        template: None,
        content: "it's \"here\"".to_owned(),
        html: None,
        subject: None,
        data: None,
        priority: Priority::Normal,
        scheduled_at,
        expires_at: None,
        retry: None,
        metadata: None,
        event: None,
        group: None,
        is_transactional: false,
    }
}

fn rows(
    new: NewNotification,
    batch: Option<BatchId>,
    clients: &HashMap<ClientId, RecipientAddresses>,
) -> (MessageRow, NotificationRow) {
    new.into_rows(MessageId::new(), batch, (clients, false), at(1_000)).unwrap()
}

on_each_database! {
    async fn every_column_of_a_notification_is_written(kind: Database) {
        let stage = Stage::new(kind).await;
        let (client, batch) = (ClientId::new(), BatchId::new());
        let addresses = RecipientAddresses { phone_number: Some(79_031_234_567), email: None, push_token: None, external_id: None, attributes: "{}".into(), locale: None };
        let whole = NewNotification {
            template: Some(TemplateUsed { name: "a".into(), version: 3, locale: Some("de".into()) }),
            subject: Some("subject".to_owned()),
            data: Some("{\"a\":1}".to_owned()),
            metadata: Some("{\"b\":2}".to_owned()),
            priority: Priority::High,
            expires_at: Some(at(3_000)),
            retry: Some(vec![Duration::from_secs(1)]),
            event: Some(EventId::new()),
            group: Some("order".to_owned()),
            is_transactional: true,
            ..new(To::Client(client), Some(at(2_000)))
        };
        let rows = vec![
            rows(whole, Some(batch), &HashMap::from([(client, addresses)])),
            rows(new(To::Address("not a number".to_owned()), None), Some(batch), &HashMap::new()),
        ];
        let request = NewNotificationRows { rows: rows.clone(), batch: Some(batch), claim: None };
        let read = stage.db.write(move |c| {
            assert_eq!(store(c, &[request], at(1_000))?, [StoreResult::New]);
            let messages: Vec<MessageRow> =
                message::table.order(message::id).select(MessageRow::as_select()).load(c)?;
            let contents: Vec<NotificationRow> =
                notification::table.order(notification::message_id).select(NotificationRow::as_select()).load(c)?;
            Ok(messages.into_iter().zip(contents).collect::<Vec<_>>())
        });
        assert_eq!(read.await.unwrap(), rows);
    }
}

fn claim(key: &str, fingerprint: u8) -> Claim {
    Claim {
        key: IdempotencyKey {
            key: key.to_owned(),
            fingerprint: vec![fingerprint],
            keep: Duration::from_secs(100),
        },
        resource: Uuid::now_v7(),
        answer: Some(IdempotentResponse {
            status: 201,
            location: Some("/x".to_owned()),
            body: "{}".to_owned(),
        }),
        locked_until: None,
    }
}

on_each_database! {
    async fn of_many_keys_each_gets_its_own_verdict(kind: Database) {
        let stage = Stage::new(kind).await;
        let take = async |claims: Vec<Claim>, second| {
            stage.db.write(move |c| idempotency::take(c, &claims.iter().collect::<Vec<_>>(), at(second))).await.unwrap()
        };
        let (old, equal, other) = (claim("old", 1), claim("equal", 2), claim("other", 3));
        assert_eq!(take(vec![old.clone()], 1_000).await, [ClaimResult::New]);
        assert_eq!(take(vec![other, equal.clone()], 1_050).await, [ClaimResult::New, ClaimResult::New]);
        // the first key has expired by now, so any request may claim it
        let again = vec![claim("equal", 2), claim("other", 4), claim("new", 5), claim("old", 9)];
        let answered = ClaimResult::Answered(equal.answer.unwrap());
        assert_eq!(take(again, 1_101).await, [answered, ClaimResult::OtherRequest, ClaimResult::New, ClaimResult::New]);
        assert_eq!(take(vec![old], 1_102).await, [ClaimResult::OtherRequest], "it is kept from then on");
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Recall for Woken {
    fn recall(&self) -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl NewMessageNotifier for Woken {
    fn arrived(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

on_each_database! {
    async fn only_what_is_due_before_the_engines_next_look_wakes_it(kind: Database) {
        let stage = Stage::new(kind).await;
        let woken = Arc::new(Woken::default());
        let announcer = NotificationPublisher::new(stage.runtime(), (woken.clone(), Duration::from_secs(5)));
        let (intake, worker) = NotificationIntake::new(stage.db.clone(), stage.clock.clone(), announcer);
        let worker = tokio::spawn(worker.run());
        for (scheduled_at, wakes) in [(Some(at(1_011)), 0), (Some(at(1_009)), 1), (None, 2), (Some(at(9_000)), 2)] {
            let row = rows(new(To::Address("79031234567".to_owned()), scheduled_at), None, &HashMap::new());
            let stored = intake.store(NewNotificationRows { rows: vec![row], batch: None, claim: None }).await.unwrap();
            assert_eq!(stored, StoreResult::New);
            // the response precedes the wake-up, and the next request follows it, so an empty request waits for the
            // wake-up
            let nothing = NewNotificationRows { rows: vec![], batch: None, claim: None };
            intake.store(nothing).await.unwrap();
            assert_eq!(woken.0.load(Ordering::SeqCst), wakes, "{scheduled_at:?}");
        }
        drop(intake);
        worker.await.unwrap();
    }
}
