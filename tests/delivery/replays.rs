//! Replays failed messages of a mailing while its window is open; its counts balance at any time.

use std::time::Duration;

use fanfare::kinds::MessageStatus;
use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::delivery::bench::{Bench, LONG};
use crate::support::{after, balance};

const REFUSED: Faults = Faults {
    latency: Duration::ZERO,
    error_rate: 0.0,
    hang_rate: 0.0,
    drop_rate: 0.0,
    permanent_rate: 1.0,
    garbage_rate: 0.0,
    rate_limit: None,
};

/// Replays all failed messages of a mailing. Returns the finished replay.
async fn replay_all(bench: &Bench, mailing: &str) -> Value {
    let replay = bench.post("/dead-letters/replays", json!({"filter": {"mailing_id": mailing}})).await;
    let path = format!("/dead-letters/replays/{}", replay["id"].as_str().expect("an id"));
    bench.wait_for(&path, |replay| replay["status"] == "finished").await
}

crate::on_each_database! {
    async fn the_failed_part_of_a_finished_mailing_is_replayed_and_it_finishes_again(kind: Database) {
        let faults = Faults { permanent_rate: 0.5, ..Faults::default() };
        let bench = Bench::with_faults(kind, &[], faults).await;
        bench.import(400, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let first = bench.closed(&id).await;
        let failed = first["failed"].as_i64().expect("a count");
        assert!((50..350).contains(&failed), "{first}");
        let before = bench.get(&format!("/mailings/{id}")).await;
        assert_eq!(before["status"], "finished");

        bench.set_faults(Faults::default());
        let replay = replay_all(&bench, &id).await;
        assert_eq!((&replay["replayed"], &replay["refused"]), (&json!(failed), &json!(0)), "{replay}");
        // at any time its counts balance
        let over = bench.wait_for(&format!("/mailings/{id}"), |mailing| {
            assert!(balance(&mailing["counts"]) && mailing["counts"]["total"] == 400, "{mailing}");
            !mailing["finished_at"].is_null()
        }).await;
        assert_eq!(over["status"], "finished", "{over}");
        assert_ne!(over["finished_at"], before["finished_at"], "the time of the last end");
        let counts = bench.closed(&id).await;
        assert_eq!((&counts["sent"], &counts["failed"]), (&json!(400), &json!(0)), "{counts}");
        assert_eq!(bench.dead_letters(&id).await, 0);
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn a_replayed_message_starts_its_retry_schedule_again(kind: Database) {
        let settings = [("retry.first_delay", "20ms"), ("retry.factor", "1"), ("retry.limit", "2")];
        let faults = Faults { error_rate: 1.0, ..Faults::default() };
        let bench = Bench::with_faults(kind, &settings, faults).await;
        bench.import(3, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.closed(&id).await;
        for round in 1..=2 {
            replay_all(&bench, &id).await;
            let counts = bench.closed(&id).await;
            assert_eq!(counts["failed"], 3, "{counts}");
            for row in bench.rows(&id).await {
                assert_eq!(row.attempts, 3 + 3 * round, "{row:?}");
                assert!(row.error.as_ref().is_some_and(|why| why.contains("gave up after 3 attempts")), "{row:?}");
                let letter = bench.get(&format!("/dead-letters/{}", row.id)).await;
                assert_eq!(letter["class"], "exhausted", "{letter}");
                let log = letter["message"]["attempt_log"].as_array().expect("attempts");
                let numbers: Vec<i64> = log.iter().map(|a| a["number"].as_i64().expect("a number")).collect();
                assert_eq!(numbers, (1..=i64::from(3 + 3 * round)).collect::<Vec<_>>(), "{letter}");
                let replays = letter["replays"].as_array().expect("replays");
                let made: Vec<&Value> = replays.iter().map(|replay| &replay["attempts"]).collect();
                assert_eq!(made, [&json!(3), &json!(6)][..usize::try_from(round).expect("small")], "{letter}");
            }
        }
        bench.set_faults(Faults::default());
        replay_all(&bench, &id).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 3, "{counts}");
    }
}

crate::on_each_database! {
    async fn no_message_is_replayed_outside_its_window_or_of_a_cancelled_mailing(kind: Database) {
        let bench = Bench::with_faults(kind, &[], REFUSED).await;
        bench.import(5, "vip").await;
        let end = after(Duration::from_secs(3));
        let id = bench.create(json!({"text": "hello", "filter": "vip", "ends_at": end})).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["failed"], 5, "{counts}");
        while after(Duration::ZERO) < end {
            tokio::time::sleep(crate::support::api::LOOK).await;
        }
        bench.set_faults(Faults::default());
        let letter = bench.rows(&id).await[0].id.clone();
        let (status, why) = bench.call("POST", &format!("/dead-letters/{letter}/replay"), None).await;
        assert!(status == 409 && why["detail"].as_str().expect("why").contains("window"), "{why}");
        let replay = replay_all(&bench, &id).await;
        assert_eq!((&replay["replayed"], &replay["refusals"]), (&json!(0), &json!({"window_closed": 5})), "{replay}");
        assert_eq!(bench.closed(&id).await, counts);
        assert_eq!((bench.requests().len(), bench.dead_letters(&id).await), (5, 5));

        let (status, _) = bench.call("PATCH", &format!("/mailings/{id}"), Some(json!({"ends_at": after(LONG)}))).await;
        assert_eq!(status, 409, "a finished mailing is read-only");
        // at one a second, the first of five has failed long before the last attempt
        bench.set_faults(REFUSED);
        let slow = json!({"text": "hello", "filter": "vip", "rate_per_second": 1, "ends_at": after(LONG)});
        let other = bench.create(slow).await;
        let path = format!("/mailings/{other}");
        bench.wait_for(&path, |mailing| mailing["counts"]["failed"].as_i64() > Some(0)).await;
        bench.post(&format!("{path}/cancel"), json!({})).await;
        let counts = bench.closed(&other).await;
        let (failed, cancelled) = (counts["failed"].as_i64(), counts["cancelled"].as_i64());
        assert!(failed > Some(0) && cancelled > Some(0), "{counts}");
        bench.set_faults(Faults::default());
        let of_other = replay_all(&bench, &other).await;
        let refusals = (&of_other["replayed"], &of_other["refusals"]);
        assert_eq!(refusals, (&json!(0), &json!({"cancelled": failed})), "{of_other}");
        assert_eq!(bench.closed(&other).await, counts);
    }
}

crate::on_each_database! {
    async fn replayed_messages_of_a_paused_mailing_wait_until_it_is_resumed(kind: Database) {
        let bench = Bench::with_faults(kind, &[("sms.rate_per_second", "100")], REFUSED).await;
        bench.import(300, "vip").await;
        let id = bench.mail("vip", LONG).await;
        bench.received(20).await;
        bench.post(&format!("/mailings/{id}/pause"), json!({})).await;
        let path = format!("/mailings/{id}");
        let held = bench.wait_for(&path, |held| held["counts"]["sending"] == 0).await;
        let failed = held["counts"]["failed"].as_i64().expect("a count");
        bench.set_faults(Faults::default());
        let seen = bench.requests().len();
        replay_all(&bench, &id).await;
        let waiting = bench.wait_for(&path, |held| held["counts"]["sending"] == 0).await;
        assert_eq!((&waiting["status"], &waiting["counts"]["failed"]), (&json!("paused"), &json!(0)), "{waiting}");
        assert!(balance(&waiting["counts"]) && failed > 0, "{waiting}");
        assert_eq!(bench.requests().len(), seen, "no message is sent meanwhile");
        bench.post(&format!("/mailings/{id}/resume"), json!({})).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 300, "{counts}");
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn a_client_without_an_address_is_reached_after_it_has_one(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        bench.import(1, "vip").await;
        let client = bench.get("/clients").await["items"][0]["id"].as_str().expect("an id").to_owned();
        let body = json!({"channel": "email", "subject": "s", "text": "hello", "filter": "vip", "ends_at": after(LONG)});
        let id = bench.create(body).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["failed"], 1, "{counts}");
        let letter = bench.get("/dead-letters?class=unreachable&channel=email").await["items"][0].clone();
        assert_eq!(letter["mailing_id"], json!(id), "{letter}");
        let replay = format!("/dead-letters/{}/replay", letter["id"].as_str().expect("an id"));
        let (status, why) = bench.call("POST", &replay, None).await;
        assert!(status == 409 && why["detail"].as_str().expect("why").contains("address"), "{why}");

        let (status, patched) = bench.call("PATCH", &format!("/clients/{client}"), Some(json!({"email": "a@example.com"}))).await;
        assert_eq!(status, 200, "{patched}");
        let waits = bench.post(&replay, json!({})).await;
        assert_eq!(waits["message"]["recipient"], "a@example.com", "{waits}");
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 1, "{counts}");
        let row = &bench.rows(&id).await[0];
        assert_eq!((row.status, row.recipient.as_str(), row.attempts), (MessageStatus::Sent, "a@example.com", 1));
    }
}

crate::on_each_database! {
    async fn a_client_is_reached_for_each_mailing_that_could_not_reach_it(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        bench.import(1, "vip").await;
        let client = bench.get("/clients").await["items"][0]["id"].as_str().expect("an id").to_owned();
        let body = json!({"channel": "email", "subject": "s", "text": "hello", "filter": "vip", "ends_at": after(LONG)});
        let mailings = [bench.create(body.clone()).await, bench.create(body).await];
        for id in &mailings {
            assert_eq!(bench.closed(id).await["failed"], 1);
        }
        let (status, patched) = bench.call("PATCH", &format!("/clients/{client}"), Some(json!({"email": "a@example.com"}))).await;
        assert_eq!(status, 200, "{patched}");
        // both in one step
        let replay = bench.post("/dead-letters/replays", json!({"filter": {"class": "unreachable"}})).await;
        let path = format!("/dead-letters/replays/{}", replay["id"].as_str().expect("an id"));
        let replay = bench.wait_for(&path, |replay| replay["status"] == "finished").await;
        assert_eq!((&replay["replayed"], &replay["refused"]), (&json!(2), &json!(0)), "{replay}");
        for id in &mailings {
            bench.wait_for(&format!("/mailings/{id}"), |mailing| mailing["counts"]["sent"] == 1).await;
        }
    }
}
