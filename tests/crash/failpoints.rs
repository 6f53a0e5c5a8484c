//! Crashes the process at each of its failpoints (`src/failpoint.rs`) and restarts it; the contract holds.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use diesel::prelude::*;
use fanfare::clock::Clock;
use fanfare::db::schema::{client, mailing};
use fanfare::db::types::MailingId;
use serde_json::{Value, json};

use crate::crash::campaign::{Campaign, closed, csv, import, mail};
use crate::crash::events::{self, Spike};
use crate::crash::posting::Posting;
use crate::crash::{recurring, replay};
use crate::process::{Process, Server};
use crate::support::api::LOOK;
use crate::support::checker::{Interruption, Report};
use crate::support::{Database, after, balance};

const CLIENTS: usize = 500;
const WINDOW: Duration = Duration::from_secs(600);
/// The signal with which `abort` ends a process.
const SIGABRT: i32 = 6;

/// Small leases, lanes and groups, so that a short mailing reaches each point many times, and a crash repeats at most
/// 56 messages.
const SETTINGS: &[(&str, &str)] = &[
    ("DELIVERY_PAGE_SIZE", "50"),
    ("DELIVERY_LANE_CAPACITY", "100"),
    ("DELIVERY_RECORD_BATCH", "20"),
    ("SMS_WORKERS", "16"),
    ("IN_APP_WORKERS", "16"),
    ("RETRY_FIRST_DELAY", "100ms"),
];

async fn campaign(kind: Database) -> Campaign {
    with_faults(kind, &["--latency", "20ms", "--error-rate", "0.2"]).await
}

/// Creates a campaign without failures, so that every repeat is caused by a crash.
async fn of_notifications(kind: Database) -> Campaign {
    with_faults(kind, &["--latency", "20ms"]).await
}

async fn with_faults(kind: Database, faults: &[&str]) -> Campaign {
    let has_failpoints = cfg!(feature = "failpoints");
    assert!(has_failpoints, "the binary has no failpoints: run the tests by `make test`");
    Campaign::new(kind, faults, SETTINGS).await
}

/// Waits until a process has crashed at this point.
async fn died(campaign: &mut Campaign, process: &mut Process, point: &str) {
    let status = process.ended().await;
    campaign.interrupted(Interruption::Lost);
    let name = point.split(':').next().expect("a name");
    let said = process.log();
    assert!(status.signal() == Some(SIGABRT) && said.contains(name), "{point}, {status}: {said}");
}

/// Finishes the only mailing with a service without failpoints.
async fn finish(mut campaign: Campaign) -> Report {
    let server = campaign.serve().await;
    let id: MailingId = campaign.read(|c| Ok(mailing::table.select(mailing::id).first(c)?)).await;
    let id = id.to_string();
    closed(&server, &id, 0).await;
    let report = campaign.check(&id).await;
    assert_eq!(report.messages, CLIENTS, "{report}");
    report
}

/// Crashes the service at this point while it sends a mailing.
async fn dies_while_it_sends(kind: Database, point: &str) -> Report {
    let mut campaign = campaign(kind).await;
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    import(&server, CLIENTS).await;
    let body = json!({"text": "hello", "filter": "vip", "ends_at": after(WINDOW)});
    // it may crash before its response
    let _ = server.try_call("POST", "/mailings", Some(body)).await;
    died(&mut campaign, &mut server.process, point).await;
    finish(campaign).await
}

/// Kills the service in the middle of a mailing, and crashes it at this point after the next start.
async fn dies_while_it_recovers(kind: Database, point: &str) -> Report {
    let mut campaign = campaign(kind).await;
    let mut server = campaign.serve().await;
    mail(&server, CLIENTS, WINDOW).await;
    campaign.provider.received(CLIENTS / 4, async || {}).await;
    campaign.kill(&mut server.process);
    let mut process = campaign.spawn(&[("FANFARE_FAILPOINT", point)]);
    died(&mut campaign, &mut process, point).await;
    finish(campaign).await
}

/// Crashes the service at this point after its mailing was cancelled in the middle.
async fn dies_while_it_closes(kind: Database, point: &str) -> Report {
    let mut campaign = campaign(kind).await;
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    let mailing = mail(&server, CLIENTS, WINDOW).await;
    campaign.provider.received(CLIENTS / 6, async || {}).await;
    let _ = server.try_call("POST", &format!("/mailings/{mailing}/cancel"), None).await;
    died(&mut campaign, &mut server.process, point).await;
    finish(campaign).await
}

/// Crashes the service at this point after its mailing was paused in the middle. The mailing is still paused after the
/// next start, and continues when it is resumed.
async fn dies_while_it_pauses(kind: Database, point: &str) {
    let mut campaign = campaign(kind).await;
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    let mailing = mail(&server, CLIENTS, WINDOW).await;
    campaign.provider.received(CLIENTS / 6, async || {}).await;
    let _ = server.try_call("POST", &format!("/mailings/{mailing}/pause"), None).await;
    died(&mut campaign, &mut server.process, point).await;

    let server = campaign.serve().await;
    // a dead node sends nothing: the messages of its leases wait with the rest
    let path = format!("/mailings/{mailing}");
    let held = server.wait_for(&path, |held| held["counts"]["sending"] == 0).await;
    assert!(held["status"] == "paused" && balance(&held["counts"]), "{held}");
    server.post(&format!("/mailings/{mailing}/resume"), json!({})).await;
    closed(&server, &mailing, 0).await;
    let report = campaign.check(&mailing).await;
    assert_eq!(report.messages, CLIENTS, "{report}");
}

/// Crashes the service at this point of an import, with at least `at_least` clients on disk. After the same file is
/// imported again, each client exists once.
async fn dies_while_it_imports(kind: Database, point: &str, at_least: i64) {
    /// The number of rows in one transaction.
    const CHUNK: i64 = 1000;
    const ROWS: usize = 20_000;
    let mut campaign = campaign(kind).await;
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    let report = server.import_csv(csv(ROWS)).await;
    assert!(report.is_err(), "it should crash in the middle: {report:?}");
    died(&mut campaign, &mut server.process, point).await;
    let there: i64 = campaign.read(|c| Ok(client::table.count().get_result(c)?)).await;
    assert!(there >= at_least && there % CHUNK == 0, "{there} clients, {at_least} or more in whole chunks");

    let server = campaign.serve().await;
    let report = server.import_csv(csv(ROWS)).await.expect("a report");
    assert_eq!((report["updated"].as_i64(), &report["rejected_count"]), (Some(there), &json!(0)), "{report}");
    let numbers: Vec<Option<i64>> =
        campaign.read(|c| Ok(client::table.select(client::phone_number).load(c)?)).await;
    assert_eq!((numbers.len(), numbers.iter().collect::<HashSet<_>>().len()), (ROWS, ROWS));
}

/// Crashes the service at this point while it accepts requests. Callers without a response repeat their request, under
/// the same key.
async fn dies_while_it_accepts_requests(kind: Database, point: &str) {
    const COUNT: usize = 50;
    let (mut campaign, listener) = (recurring::campaign(kind).await, recurring::listener());
    let is_accepted = async |server: &Server, number: usize| {
        let body = json!({"request": {"url": format!("{}/{number}", listener.base)}});
        let key = format!("request-{number}");
        let post = server.http.post(server.url("/requests")).header("Idempotency-Key", key).json(&body);
        post.send().await.is_ok_and(|answer| answer.status() == 202)
    };
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    let mut accepted = 0;
    while accepted < COUNT && is_accepted(&server, accepted).await {
        accepted += 1;
    }
    died(&mut campaign, &mut server.process, point).await;
    let server = campaign.serve().await;
    for number in 0..COUNT {
        assert!(is_accepted(&server, number).await, "request {number}");
    }
    let is_done = |list: &Value| list["items"].as_array().is_some_and(|items| items.len() >= COUNT);
    server.wait_for("/requests?status=sent&limit=1000", is_done).await;
    let all = server.get("/requests?limit=1000").await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(COUNT), "each is stored once");
    let paths: HashSet<String> = listener.arrivals().into_iter().map(|arrival| arrival.path).collect();
    assert_eq!(paths.len(), COUNT, "each arrived");
}

crate::on_each_database! {
    async fn it_dies_before_requests_are_committed(kind: Database) {
        dies_while_it_accepts_requests(kind, "request-before-commit:10").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_requests_are_committed(kind: Database) {
        dies_while_it_accepts_requests(kind, "request-after-commit:10").await;
    }
}

/// Asserts that the crash repeated attempts without a record.
fn made_again(report: &Report) {
    assert!(report.most_at_once > 0, "{report}");
}

crate::on_each_database! {
    async fn it_dies_before_the_response_to_a_stored_mailing(kind: Database) {
        dies_while_it_sends(kind, "create-after-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_a_planned_lease_is_committed(kind: Database) {
        dies_while_it_sends(kind, "plan-before-commit:3").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_a_planned_lease_is_committed(kind: Database) {
        dies_while_it_sends(kind, "plan-after-commit:3").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_a_claim_is_committed(kind: Database) {
        dies_while_it_sends(kind, "claim-before-commit:2").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_a_claim_is_committed(kind: Database) {
        dies_while_it_sends(kind, "claim-after-commit:2").await;
    }
}

crate::on_each_database! {
    async fn it_dies_with_requests_written_and_no_response(kind: Database) {
        made_again(&dies_while_it_sends(kind, "request-written:100").await);
    }
}

crate::on_each_database! {
    async fn it_dies_with_a_response_that_is_not_recorded(kind: Database) {
        made_again(&dies_while_it_sends(kind, "answer-read:100").await);
    }
}

crate::on_each_database! {
    async fn it_dies_before_outcomes_are_committed(kind: Database) {
        made_again(&dies_while_it_sends(kind, "record-before-commit:10").await);
    }
}

crate::on_each_database! {
    async fn it_dies_after_outcomes_are_committed(kind: Database) {
        dies_while_it_sends(kind, "record-after-commit:10").await;
    }
}

crate::on_each_database! {
    async fn it_dies_while_it_finalizes_counts(kind: Database) {
        dies_while_it_sends(kind, "settle-before-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_in_a_heartbeat(kind: Database) {
        dies_while_it_recovers(kind, "heartbeat:3").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_its_start_is_committed(kind: Database) {
        dies_while_it_recovers(kind, "register-before-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_its_start_is_committed(kind: Database) {
        dies_while_it_recovers(kind, "register-after-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_a_take_over_is_committed(kind: Database) {
        dies_while_it_recovers(kind, "take-over-before-commit:2").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_a_take_over_is_committed(kind: Database) {
        dies_while_it_recovers(kind, "take-over-after-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_a_part_of_a_cancelled_mailing_is_committed(kind: Database) {
        dies_while_it_closes(kind, "close-before-commit:2").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_a_part_of_a_cancelled_mailing_is_committed(kind: Database) {
        dies_while_it_closes(kind, "close-after-commit:2").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_leases_of_a_paused_mailing_are_released(kind: Database) {
        dies_while_it_pauses(kind, "release-before-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_leases_of_a_paused_mailing_are_released(kind: Database) {
        dies_while_it_pauses(kind, "release-after-commit").await;
    }
}

// SQLite commits up to eight chunks together, so at least seven of the chunks before the fifteenth are on disk

crate::on_each_database! {
    async fn it_dies_before_a_chunk_of_an_import_is_committed(kind: Database) {
        dies_while_it_imports(kind, "import-before-commit:15", 7000).await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_a_chunk_of_an_import_is_committed(kind: Database) {
        dies_while_it_imports(kind, "import-after-commit:15", 15_000).await;
    }
}

crate::on_each_database! {
    async fn it_dies_between_two_migrations(kind: Database) {
        let mut campaign = campaign(kind).await;
        let mut process = campaign.spawn(&[("FANFARE_FAILPOINT", "migration")]);
        died(&mut campaign, &mut process, "migration").await;
        let mut server = campaign.serve().await;
        mail(&server, CLIENTS, WINDOW).await;
        server.process.terminate();
        server.process.ended().await;
        finish(campaign).await;
    }
}

crate::on_each_database! {
    async fn it_dies_between_taking_a_due_mailing_and_starting_it(kind: Database) {
        let mut campaign = campaign(kind).await;
        let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", "begin-after-take")], None).await;
        import(&server, CLIENTS).await;
        let body = json!({"text": "hello", "filter": "vip", "starts_at": after(Duration::from_millis(300)),
            "ends_at": after(WINDOW)});
        server.post("/mailings", body).await;
        died(&mut campaign, &mut server.process, "begin-after-take").await;
        finish(campaign).await;
    }
}

/// Crashes the service at this point while callers post notifications, which they repeat after the next start.
async fn dies_while_it_accepts(kind: Database, point: &str) {
    let mut campaign = of_notifications(kind).await;
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    let posting = Posting::start(&server, 25);
    died(&mut campaign, &mut server.process, point).await;
    let server = campaign.serve().await;
    posting.goes_on_at(&server);
    posting.check(&campaign, &server).await;
}

/// Crashes the service at this point in a spike of events, which their senders repeat after the next start.
async fn dies_while_it_takes_events(kind: Database, point: &str) {
    let mut campaign = Campaign::new(kind, &[], events::SETTINGS).await;
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    let spike = Spike::start(&server, 25).await;
    died(&mut campaign, &mut server.process, point).await;
    let server = campaign.serve().await;
    spike.goes_on_at(&server);
    spike.check(&campaign, &server).await;
}

/// Kills the service with notifications in flight, and crashes it at this point after the next start.
async fn dies_while_it_requeues(kind: Database, point: &str) {
    let mut campaign = of_notifications(kind).await;
    let mut server = campaign.serve().await;
    let posting = Posting::start(&server, 25);
    campaign.provider.received(50, async || {}).await;
    campaign.kill(&mut server.process);
    let mut process = campaign.spawn(&[("FANFARE_FAILPOINT", point)]);
    died(&mut campaign, &mut process, point).await;
    let server = campaign.serve().await;
    posting.goes_on_at(&server);
    posting.check(&campaign, &server).await;
}

crate::on_each_database! {
    async fn it_dies_before_notifications_are_committed(kind: Database) {
        dies_while_it_accepts(kind, "accept-before-commit:10").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_the_response_to_stored_notifications(kind: Database) {
        dies_while_it_accepts(kind, "accept-after-commit:10").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_events_are_committed(kind: Database) {
        dies_while_it_takes_events(kind, "event-before-commit:10").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_the_response_to_stored_events(kind: Database) {
        dies_while_it_takes_events(kind, "event-after-commit:10").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_a_cancellation_is_committed(kind: Database) {
        dies_while_it_accepts(kind, "end-before-commit:10").await;
    }
}

/// Crashes the service at this point while a batch that waits in a lane, at 20 messages a second, is cancelled. Returns
/// the number of requests before the crash, the number of all requests, and the counts after the next start.
async fn dies_while_it_cancels(kind: Database, point: &str) -> (usize, usize, Value) {
    let mut campaign = of_notifications(kind).await;
    let slowly = ("RATE_LIMIT_PER_CHANNEL", "20");
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point), slowly], None).await;
    let one = |n: u32| json!({"channel": "sms", "recipient": format!("7900000{n:04}"), "content": "x"});
    let body = json!({"notifications": (0..30).map(one).collect::<Vec<_>>()});
    let batch = server.post("/notifications/batch", body).await;
    let path = format!("/batches/{}", batch["batch_id"].as_str().expect("an id"));
    campaign.provider.received(5, async || {}).await;
    let answer = server.try_call("DELETE", &path, None).await;
    assert!(answer.is_err(), "it crashed before its response: {answer:?}");
    died(&mut campaign, &mut server.process, point).await;
    let before = campaign.provider.requests().len();
    let server = campaign.serve().await;
    let ended = |seen: &Value| ["queued", "sending"].iter().all(|state| seen["counts"][state] == 0);
    let counts = server.wait_for(&path, ended).await["counts"].clone();
    (before, campaign.provider.requests().len(), counts)
}

crate::on_each_database! {
    async fn it_dies_before_the_cancellation_of_held_messages_is_committed(kind: Database) {
        let (_, requests, counts) = dies_while_it_cancels(kind, "cancellation-before-commit").await;
        assert!(counts["sent"] == 30 && requests >= 30, "the cancellation was not confirmed: {counts}");
    }
}

crate::on_each_database! {
    async fn it_dies_after_the_cancellation_of_held_messages_is_committed(kind: Database) {
        let (before, requests, counts) = dies_while_it_cancels(kind, "cancellation-after-commit").await;
        assert_eq!(requests, before, "no attempt begins any more: {counts}");
        assert!(counts["cancelled"].as_u64() >= Some(24), "{counts}");
    }
}

crate::on_each_database! {
    async fn it_dies_before_notifications_of_a_dead_node_are_requeued(kind: Database) {
        dies_while_it_requeues(kind, "requeue-before-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_notifications_of_a_dead_node_are_requeued(kind: Database) {
        dies_while_it_requeues(kind, "requeue-after-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_before_the_expiry_of_messages_during_a_downtime_is_committed(kind: Database) {
        let mut campaign = of_notifications(kind).await;
        let mut server = campaign.serve().await;
        let (due, end) = (after(Duration::from_millis(2000)), after(Duration::from_millis(2100)));
        let body = json!({"channel": "in_app", "recipient": "user-1", "content": "x", "scheduled_at": due, "expires_at": end});
        let id = server.post("/notifications", body).await["id"].as_str().expect("an id").to_owned();
        campaign.kill(&mut server.process);
        while after(Duration::ZERO) < end {
            tokio::time::sleep(LOOK).await;
        }
        let mut process = campaign.spawn(&[("FANFARE_FAILPOINT", "end-before-commit")]);
        died(&mut campaign, &mut process, "end-before-commit").await;
        let server = campaign.serve().await;
        let expired = server.wait_for(&format!("/notifications/{id}"), |found| found["status"] == "expired").await;
        assert_eq!(expired["attempts"], json!([]), "{expired}");
        assert!(campaign.provider.requests().is_empty());
    }
}

/// Crashes the service at this point while it writes a message to an inbox. The message is delivered again after the
/// next start, and the inbox contains it once.
async fn dies_while_it_puts(kind: Database, point: &str) {
    let mut campaign = of_notifications(kind).await;
    // the service stores the inboxes itself
    let here = ("IN_APP_PROVIDER_URL", "");
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point), here], None).await;
    let body = json!({"channel": "in_app", "recipient": "user-1", "content": "once"});
    let sent = server.post("/notifications", body).await;
    died(&mut campaign, &mut server.process, point).await;
    let server = campaign.serve_with(&[here], None).await;
    let id = sent["id"].as_str().expect("an id");
    server.wait_for(&format!("/notifications/{id}"), |found| found["status"] == "sent").await;
    let inbox = server.get("/inbox/user-1?status=all").await;
    let items = inbox["items"].as_array().expect("items");
    assert_eq!((items.len(), &items[0]["id"], &items[0]["text"]), (1, &json!(id), &json!("once")), "{inbox}");
    assert!(campaign.provider.requests().is_empty());
}

crate::on_each_database! {
    async fn it_dies_before_a_message_is_in_its_inbox(kind: Database) {
        dies_while_it_puts(kind, "inbox-before-commit").await;
    }
}

crate::on_each_database! {
    async fn it_dies_when_a_message_is_in_its_inbox_and_not_yet_recorded_as_sent(kind: Database) {
        dies_while_it_puts(kind, "inbox-after-commit").await;
    }
}

/// Crashes the service at this point while it replays dead letters. The replay continues after the next start.
async fn dies_while_it_replays(kind: Database, point: &str) {
    let mut campaign = with_faults(kind, &[]).await;
    let mut server = campaign.serve_with(&[("FANFARE_FAILPOINT", point)], None).await;
    let mailing = replay::fail(&campaign, &server, CLIENTS).await;
    let path = replay::begin(&server, 200.0).await;
    died(&mut campaign, &mut server.process, point).await;
    let server = campaign.serve().await;
    replay::check(&campaign, &server, (&mailing, &path), CLIENTS).await;
}

crate::on_each_database! {
    async fn it_dies_before_a_step_of_a_replay_is_committed(kind: Database) {
        dies_while_it_replays(kind, "replay-before-commit:3").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_a_step_of_a_replay_is_committed(kind: Database) {
        dies_while_it_replays(kind, "replay-after-commit:3").await;
    }
}

/// Crashes the service at this point while it creates occurrences of recurring requests. Each is created once after the
/// next start.
async fn dies_while_it_makes_runs(kind: Database, point: &str) {
    const COUNT: usize = 150;
    let mut campaign = recurring::campaign(kind).await;
    let listener = recurring::listener();
    let mut server = campaign.serve().await;
    recurring::make(&server, &listener, COUNT).await;
    campaign.kill(&mut server.process);
    recurring::plan(&campaign, Clock::System.now()).await;
    let mut process = campaign.spawn(&[("FANFARE_FAILPOINT", point)]);
    died(&mut campaign, &mut process, point).await;
    let server = campaign.serve().await;
    recurring::check(&campaign, &server, &listener, COUNT).await;
}

crate::on_each_database! {
    async fn it_dies_before_occurrences_of_recurring_requests_are_committed(kind: Database) {
        dies_while_it_makes_runs(kind, "recur-before-commit:2").await;
    }
}

crate::on_each_database! {
    async fn it_dies_after_occurrences_of_recurring_requests_are_committed(kind: Database) {
        dies_while_it_makes_runs(kind, "recur-after-commit").await;
    }
}

#[test]
fn every_failpoint_of_the_sources_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root];
    let mut names = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let calls = text.split("failpoint::reach(\"").skip(1);
                names.extend(calls.map(|rest| rest.split('"').next().expect("a name").to_owned()));
            }
        }
    }
    assert!(names.len() > 10, "the failpoints were found: {names:?}");
    for name in names {
        let is_tested = [format!("\"{name}\""), format!("\"{name}:")];
        assert!(is_tested.iter().any(|text| include_str!("failpoints.rs").contains(text)), "{name}");
    }
}
