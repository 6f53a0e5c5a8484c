//! A mailing from a template reaches each client in the client's language.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use fanfare::channels::{AttemptReport, Delivery, DeliveryResult};
use fanfare::clients::model::ClientPatch;
use fanfare::db::types::MessageId;
use fanfare::kinds::ChannelKind;
use serde_json::json;

use crate::delivery::own_channel::Own;

/// Fails the first attempt at every message, so that the second one is claimed, and its client is read again.
fn takes_the_second(delivery: &Delivery) -> AttemptReport {
    static SEEN: Mutex<BTreeSet<MessageId>> = Mutex::new(BTreeSet::new());
    if SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery.id) {
        return AttemptReport {
            verdict: DeliveryResult::Transient { error: "later".into(), retry_after: None },
            status_code: Some(503),
            provider_id: None,
            response: None,
        };
    }
    AttemptReport::delivered(Some(200), None)
}

async fn client(engine: &Own, phone: &str, locale: Option<&str>, name: &str) {
    let fields = json!({"locale": locale, "attributes": {"name": name}});
    let fields =
        ClientPatch::from_json(fields.as_object().expect("an object").clone()).expect("fields of a client");
    engine.client(phone, fields).await;
}

crate::on_each_database! {
    async fn a_mailing_in_three_languages_reaches_each_client_in_its_language(kind: Database) {
        let engine = Own::start(kind, ChannelKind::Sms, takes_the_second).await;
        for (phone, locale, name) in [
            ("79030000001", None, "Ann"),
            ("79030000002", Some("de-AT"), "Bea"),
            ("79030000003", Some("pt-BR"), "Eva"),
            ("79030000004", Some("pt"), "Rui"),
            ("79030000005", Some("fr"), "Zoé"),
        ] {
            client(&engine, phone, locale, name).await;
        }
        engine.template("welcome", None, "Hello, {{ name }}").await;
        // without a placeholder: only the language needs the client's profile
        engine.template("welcome", Some("de"), "Guten Tag").await;
        engine.template("welcome", Some("pt-BR"), "Oi, {{ name }} ({{ locale }})").await;
        let books = engine.mail_template("welcome").await;
        assert_eq!((books.sent, books.total), (5, 5));
        let expected = ["Hello, Ann", "Guten Tag", "Oi, Eva (pt-BR)", "Hello, Rui", "Hello, Zoé"];
        let twice: Vec<&str> = expected.iter().flat_map(|text| [*text, *text]).collect();
        assert_eq!(engine.seen().iter().map(|seen| seen.text.as_str()).collect::<Vec<_>>(), twice);
        engine.stop().await;
    }
}

crate::on_each_database! {
    async fn languages_without_placeholders_are_distinguished_as_well(kind: Database) {
        fn takes(_: &Delivery) -> AttemptReport {
            AttemptReport::delivered(Some(200), None)
        }
        let engine = Own::start(kind, ChannelKind::Sms, takes).await;
        client(&engine, "79030000001", None, "Ann").await;
        client(&engine, "79030000002", Some("de"), "Bea").await;
        engine.template("plain", None, "Hello").await;
        engine.template("plain", Some("de"), "Hallo").await;
        assert_eq!(engine.mail_template("plain").await.sent, 2);
        assert_eq!(engine.seen().iter().map(|seen| seen.text.as_str()).collect::<Vec<_>>(), ["Hello", "Hallo"]);
        engine.stop().await;
    }
}
