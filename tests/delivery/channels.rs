//! A mailing over any channel reaches each client with an address for that channel, and stores the reason for the
//! others.

use diesel::prelude::*;
use fanfare::channels::{AttemptReport, Delivery, DeliveryResult};
use fanfare::clients::model::ClientPatch;
use fanfare::db::schema::message;
use fanfare::kinds::ChannelKind;
use serde_json::{Value, json};

use crate::delivery::own_channel::Own;

fn takes(_: &Delivery) -> AttemptReport {
    AttemptReport::delivered(Some(200), None)
}

pub fn fields(of: Value) -> ClientPatch {
    let Value::Object(fields) = of else { unreachable!("{of}") };
    ClientPatch::from_json(fields).expect("fields of a client")
}

/// Returns the errors of all messages.
async fn errors(engine: &Own) -> Vec<String> {
    let read = engine.database().read(|c| {
        Ok(message::table
            .filter(message::error.is_not_null())
            .select(message::error.assume_not_null())
            .order(message::error)
            .load::<String>(c)?)
    });
    read.await.expect("the rows")
}

crate::on_each_database! {
    async fn an_e_mail_has_a_subject_and_html_for_each_client_who_has_an_address(kind: Database) {
        let engine = Own::start(kind, ChannelKind::Email, takes).await;
        let attributes = json!({"name": "<Ann>"});
        engine.client("79030000001", fields(json!({"email": "ann@example.com", "attributes": attributes}))).await;
        engine.client("79030000002", fields(json!({"attributes": {"name": "Bob"}}))).await;
        engine.client("79030000003", fields(json!({"email": "eve@example.com"}))).await;
        let books = engine.mail(Some("Dear {{ name }}"), "Hello, {{ name }}", Some("<p>{{ name }}</p>")).await;
        assert_eq!((books.sent, books.failed, books.total), (1, 2, 3));
        let [seen] = &engine.seen()[..] else { panic!("{:?}", engine.seen()) };
        assert_eq!((seen.recipient.as_str(), seen.is_bulk), ("ann@example.com", true));
        assert_eq!((seen.subject.as_deref(), seen.text.as_str()), (Some("Dear <Ann>"), "Hello, <Ann>"));
        assert_eq!(seen.html.as_deref(), Some("<p>&lt;Ann&gt;</p>"));
        let why = [
            "no value for the placeholder `name`",
            "the client has no e-mail address, which `email` needs",
        ];
        assert_eq!(errors(&engine).await, why);
        engine.stop().await;
    }
}

crate::on_each_database! {
    async fn webhooks_and_inboxes_are_found_in_attributes_and_external_ids(kind: Database) {
        for (channel, to) in [
            (ChannelKind::Webhook, vec!["https://example.com/1"]),
            (ChannelKind::Discord, vec!["https://example.com/2"]),
            (ChannelKind::InApp, vec!["id of the second", "user-1"]),
        ] {
            let engine = Own::start(kind, channel, takes).await;
            let urls = json!({"webhook_url": "https://example.com/1", "discord_url": "https://example.com/2"});
            engine.client("79030000001", fields(json!({"external_id": "user-1", "attributes": urls}))).await;
            let second = engine.client("79030000002", ClientPatch::default()).await;
            let books = engine.mail(None, "hello", None).await;
            let sent = i64::try_from(to.len()).expect("few");
            assert_eq!((books.sent, books.failed), (sent, 2 - sent), "{channel}");
            let mut expected: Vec<String> =
                to.iter().map(|to| to.replace("id of the second", &second.id.to_string())).collect();
            expected.sort();
            let seen: Vec<String> = engine.seen().into_iter().map(|delivery| delivery.recipient).collect();
            assert_eq!(seen, expected, "{channel}");
            engine.stop().await;
        }
    }
}

crate::on_each_database! {
    async fn the_token_of_a_device_that_is_gone_is_removed_from_its_client(kind: Database) {
        let gone = |delivery: &Delivery| match delivery.recipient.as_str() {
            "dead" => {
                let verdict = DeliveryResult::Gone { error: "the device is gone".into() };
                AttemptReport { verdict, status_code: Some(404), provider_id: None, response: None }
            }
            _ => takes(delivery),
        };
        let engine = Own::start(kind, ChannelKind::Push, gone).await;
        let dead = engine.client("79030000001", fields(json!({"push_token": "dead"}))).await;
        let alive = engine.client("79030000002", fields(json!({"push_token": "alive"}))).await;
        let books = engine.mail(Some("News"), "hello", None).await;
        assert_eq!((books.sent, books.failed), (1, 1));
        let tokens = [engine.clients.get(dead.id).await, engine.clients.get(alive.id).await]
            .map(|client| client.expect("a client").push_token.map(|token| token.to_string()));
        assert_eq!(tokens, [None, Some("alive".to_owned())]);
        // the provider gets no further request for it
        let books = engine.mail(None, "hello again", None).await;
        assert_eq!((books.sent, books.failed), (1, 1));
        let why = ["the client has no push token, which `push` needs", "the device is gone"];
        assert_eq!(errors(&engine).await, why);
        assert_eq!(engine.seen().iter().filter(|delivery| delivery.recipient == "dead").count(), 1);
        engine.stop().await;
    }
}
