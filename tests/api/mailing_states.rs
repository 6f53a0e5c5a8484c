//! The states of a mailing, with the changes and actions allowed in each.

use std::time::Duration;

use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::{ask, id_of};
use crate::on_each_database;
use crate::support::{Database, Service, after, balance};

const MINUTE: Duration = Duration::from_secs(60);

/// Starts a service that sends two messages a second to three hundred clients, so that a mailing keeps running.
async fn slow(kind: Database) -> Service {
    let service = Service::start_with(kind, &[("channels.rate_per_second", "2")]).await;
    service.import(300, "all").await;
    service
}

async fn create_later_mailing(service: &Service) -> String {
    let body =
        json!({"text": "hello", "filter": "all", "starts_at": after(MINUTE), "ends_at": after(2 * MINUTE)});
    id_of(&service.post("/mailings", body).await)
}

/// Performs an action on the mailing and returns the mailing.
async fn perform(service: &Service, id: &str, verb: &str) -> Value {
    ask(service, "POST", &format!("/mailings/{id}/{verb}"), None).await.success(200)
}

/// Checks that the mailing refuses each of these actions and changes with 409 and stays unchanged.
async fn assert_refused(service: &Service, id: &str, verbs: &[&str], patches: &[Value], deleting: bool) {
    let path = format!("/mailings/{id}");
    let before = service.get(&path).await;
    for verb in verbs {
        let problem = ask(service, "POST", &format!("{path}/{verb}"), None).await.problem(409);
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(before["status"].as_str().expect("a status")), "{verb}: {detail}");
    }
    for patch in patches {
        ask(service, "PATCH", &path, Some(patch.clone())).await.problem(409);
    }
    if deleting {
        ask(service, "DELETE", &path, None).await.problem(409);
    }
    let now = service.get(&path).await;
    for field in ["status", "text", "filter", "priority", "channel", "starts_at", "ends_at", "started_at"] {
        assert_eq!(now[field], before[field], "{field}");
    }
}

/// Returns a change of each field except the end.
fn all_but_the_end() -> Vec<Value> {
    vec![
        json!({"text": "other"}),
        json!({"filter": "vip"}),
        json!({"priority": "high"}),
        json!({"channel": "sms"}),
        json!({"starts_at": after(MINUTE)}),
        json!({"ends_at": after(3 * MINUTE), "text": "other"}),
    ]
}

on_each_database! {
    async fn all_fields_of_a_pending_mailing_may_change(kind: Database) {
        let service = slow(kind).await;
        let id = create_later_mailing(&service).await;
        let path = format!("/mailings/{id}");
        assert_refused(&service, &id, &["resume"], &[], false).await;
        let change = json!({"text": "other", "filter": {"tag": ["vip"]}, "priority": "high", "channel": "sms",
            "starts_at": after(2 * MINUTE), "ends_at": after(3 * MINUTE)});
        let changed = ask(&service, "PATCH", &path, Some(change.clone())).await.success(200);
        for (field, value) in change.as_object().expect("an object") {
            assert_eq!(&changed[field], value, "{field}");
        }
        assert_eq!(service.get(&path).await, changed);
        ask(&service, "PATCH", &path, Some(json!({"ends_at": after(MINUTE)}))).await.problem(422);
        ask(&service, "PATCH", &path, Some(json!({"starts_at": after(4 * MINUTE)}))).await.problem(422);
        ask(&service, "PATCH", &path, Some(json!({"status": "finished"}))).await.problem(422);
        assert_eq!(service.get(&path).await, changed, "refused changes changed nothing");

        assert_eq!(perform(&service, &id, "pause").await["status"], "paused");
        assert_refused(&service, &id, &["pause"], &[], false).await;
        ask(&service, "PATCH", &path, Some(json!({"text": "a third"}))).await.success(200);
        assert_eq!(perform(&service, &id, "resume").await["status"], "pending");
        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 204);
        ask(&service, "GET", &path, None).await.problem(404);
    }
}

on_each_database! {
    async fn only_the_end_of_a_running_mailing_may_change(kind: Database) {
        let service = slow(kind).await;
        let id = service.mail("all", MINUTE).await;
        let path = format!("/mailings/{id}");
        assert_refused(&service, &id, &["resume"], &all_but_the_end(), true).await;
        let end = after(10 * MINUTE);
        let changed = ask(&service, "PATCH", &path, Some(json!({"ends_at": end}))).await.success(200);
        assert_eq!((&changed["ends_at"], &changed["status"]), (&json!(end), &json!("running")));
        for end in ["2020-01-01T00:00:00Z".to_owned(), changed["starts_at"].as_str().expect("a start").to_owned()] {
            ask(&service, "PATCH", &path, Some(json!({"ends_at": end}))).await.problem(422);
        }
        perform(&service, &id, "cancel").await;
    }
}

on_each_database! {
    async fn a_paused_mailing_sends_nothing_until_it_is_resumed(kind: Database) {
        let service = Service::start_with(kind, &[("channels.rate_per_second", "50")]).await;
        service.import(200, "all").await;
        let id = service.mail("all", 5 * MINUTE).await;
        let path = format!("/mailings/{id}");
        service.wait_for(&path, |mailing| mailing["counts"]["sent"].as_i64() > Some(5)).await;
        assert_eq!(perform(&service, &id, "pause").await["status"], "paused");
        assert_refused(&service, &id, &["pause"], &all_but_the_end(), true).await;
        // messages in flight are finished, and the remaining leases are released
        let held = service.wait_for(&path, |mailing| mailing["counts"]["sending"] == 0).await;
        assert!(balance(&held["counts"]), "{held}");
        let sent = held["counts"]["sent"].as_u64().expect("a count");
        assert!(sent < 200, "it was paused in the middle");
        assert_eq!(service.sandbox.stats().received, sent);
        // another mailing finishes meanwhile, because only this one is paused
        let other = service.post("/mailings", json!({"text": "hello", "filter": "all", "ends_at": after(MINUTE)})).await;
        service.finished(&id_of(&other)).await;
        assert_eq!(service.get(&path).await["counts"], held["counts"]);
        assert_eq!(service.sandbox.stats().received, sent + 200);

        ask(&service, "PATCH", &path, Some(json!({"ends_at": after(6 * MINUTE)}))).await.success(200);
        assert_eq!(perform(&service, &id, "resume").await["status"], "running");
        let counts = service.finished(&id).await;
        assert_eq!((&counts["sent"], &counts["total"]), (&json!(200), &json!(200)));
        let stats = service.sandbox.stats();
        assert_eq!((stats.received, stats.distinct), (400, 400), "no client twice");
    }
}

on_each_database! {
    async fn a_cancelled_mailing_is_read_only_and_its_unsent_messages_are_cancelled(kind: Database) {
        let service = slow(kind).await;
        let id = service.mail("all", 5 * MINUTE).await;
        service.wait_for(&format!("/mailings/{id}"), |mailing| mailing["counts"]["sent"].as_i64() > Some(0)).await;
        assert_eq!(perform(&service, &id, "cancel").await["status"], "cancelled");
        let counts = service.finished(&id).await;
        assert!(balance(&counts), "{counts}");
        let (sent, cancelled) = (counts["sent"].as_u64(), counts["cancelled"].as_u64());
        assert_eq!(sent.zip(cancelled).map(|(sent, cancelled)| sent + cancelled), Some(300), "{counts}");
        assert_eq!(Some(service.sandbox.stats().received), sent);
        let mut patches = all_but_the_end();
        patches.push(json!({"ends_at": after(10 * MINUTE)}));
        assert_refused(&service, &id, &["pause", "resume", "cancel"], &patches, true).await;

        let pending = create_later_mailing(&service).await;
        let cancelled = perform(&service, &pending, "cancel").await;
        assert_eq!((&cancelled["status"], &cancelled["counts"]["total"]), (&json!("cancelled"), &json!(0)));
        assert_refused(&service, &pending, &["pause", "resume", "cancel"], &patches, true).await;
        let paused = create_later_mailing(&service).await;
        perform(&service, &paused, "pause").await;
        assert_eq!(perform(&service, &paused, "cancel").await["status"], "cancelled");
    }
}

on_each_database! {
    async fn a_finished_mailing_is_read_only(kind: Database) {
        let service = Service::start(kind).await;
        service.import(3, "all").await;
        let id = service.mail("all", MINUTE).await;
        service.finished(&id).await;
        let mailing = service.get(&format!("/mailings/{id}")).await;
        assert_eq!(mailing["status"], "finished");
        assert!(mailing["started_at"].as_str() <= mailing["finished_at"].as_str());
        let mut patches = all_but_the_end();
        patches.push(json!({"ends_at": after(10 * MINUTE)}));
        patches.push(json!({}));
        assert_refused(&service, &id, &["pause", "resume", "cancel"], &patches, true).await;
    }
}

on_each_database! {
    async fn unsent_messages_expire_at_the_end_of_the_window(kind: Database) {
        let service = slow(kind).await;
        let id = service.mail("all", Duration::from_millis(1500)).await;
        let counts = service.finished(&id).await;
        assert!(balance(&counts), "{counts}");
        assert!(counts["sent"].as_i64() > Some(0) && counts["expired"].as_i64() > Some(200), "{counts}");
        assert_eq!(service.get(&format!("/mailings/{id}")).await["status"], "finished");

        // the end may be moved forward while the mailing runs: a silent provider does not delay it
        service.faults(Faults { hang_rate: 1.0, ..Faults::default() });
        let id = service.mail("all", 5 * MINUTE).await;
        let path = format!("/mailings/{id}");
        service.wait_for(&path, |mailing| mailing["counts"]["sending"].as_i64() > Some(0)).await;
        let paused = perform(&service, &id, "pause").await;
        assert_eq!(paused["status"], "paused");
        ask(&service, "PATCH", &path, Some(json!({"ends_at": after(Duration::from_millis(300))}))).await.success(200);
        let counts = service.finished(&id).await;
        assert!(balance(&counts), "{counts}");
        assert_eq!(counts["expired"], 300, "the window also ends while paused: {counts}");
    }
}
