//! A message that cannot be processed does not block the others: a panic while sending it, an outcome that the database
//! rejects.

use diesel::connection::SimpleConnection;
use fanfare::channels::{AttemptReport, Delivery};
use fanfare::clients::model::ClientPatch;
use fanfare::db::AnyConnection;
use fanfare::kinds::{ChannelKind, MessageStatus};

use crate::delivery::bench::{Bench, LONG};
use crate::delivery::own_channel::Own;
use crate::delivery::scripted::{Reply, Scripted};

crate::on_each_database! {
    async fn a_panic_while_sending_is_a_failed_attempt_and_the_others_are_sent(kind: Database) {
        let panics = |delivery: &Delivery| {
            assert!(!delivery.recipient.ends_with('3'), "this is the defect");
            AttemptReport::delivered(Some(200), None)
        };
        let engine = Own::start(kind, ChannelKind::Sms, panics).await;
        for last in 0..10 {
            engine.client(&format!("7903000000{last}"), ClientPatch::default()).await;
        }
        let books = engine.mail(None, "hello", None).await;
        assert_eq!((books.sent, books.failed, books.total), (9, 1, 10));
        engine.stop().await;
    }
}

/// Makes the database reject every message for which `condition` is true (`NEW` is the row).
async fn refuse(bench: &Bench, condition: &'static str) {
    let write = bench.database().write(move |c| {
        let sql = match c {
            AnyConnection::Sqlite(_) => ["INSERT", "UPDATE"]
                .map(|verb| {
                    format!(
                        "CREATE TRIGGER refuse_{verb} BEFORE {verb} ON message WHEN {condition} \
                         BEGIN SELECT RAISE(ABORT, 'value out of range'); END;"
                    )
                })
                .concat(),
            AnyConnection::Postgres(_) => format!(
                "ALTER TABLE message ADD CONSTRAINT refuse CHECK (({}) IS NOT TRUE)",
                condition.replace("NEW.", "")
            ),
        };
        Ok(c.batch_execute(&sql)?)
    });
    write.await.expect("a constraint");
}

const ODD: &[Reply] = &[Reply::Http(200, "", r#"{"code":0,"message":"OK","id":"odd"}"#)];

crate::on_each_database! {
    async fn a_providers_response_never_keeps_a_message_from_its_final_state(kind: Database) {
        let provider = Scripted::start(ODD).await;
        let bench = Bench::start(kind, &[("sms.base_url", &provider.base)]).await;
        refuse(&bench, "NEW.provider_id = 'odd' AND NEW.recipient LIKE '%7'").await;
        bench.import(30, "vip").await;
        let id = bench.mail("vip", LONG).await;
        assert_eq!(bench.closed(&id).await["sent"], 30);
        assert_eq!(provider.seen().len(), 30, "each was sent once");
    }
}

crate::on_each_database! {
    async fn an_outcome_that_the_database_rejects_does_not_block_the_others(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        refuse(&bench, "NEW.recipient LIKE '79030000007'").await;
        bench.import(30, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let path = format!("/mailings/{id}");
        let mailing = bench.wait_for(&path, |mailing| mailing["counts"]["sent"] == 29).await;
        assert_eq!(mailing["counts"]["sending"], 1, "{mailing}");
        let rows = bench.rows(&id).await;
        assert!(rows.iter().all(|row| row.status == MessageStatus::Sent) && rows.len() == 29, "{rows:?}");
        // the engine continues with other mailings
        bench.clients("phone_number,tag\n79040000000,other\n".into()).await;
        let other = bench.mail("other", LONG).await;
        assert_eq!(bench.closed(&other).await["sent"], 1);
    }
}
