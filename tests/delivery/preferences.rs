//! Suppresses messages that clients opted out of, and defers messages in quiet hours, for mailings and notifications.

use std::collections::BTreeMap;
use std::ops::Deref;

use fanfare::app::App;
use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::db::types::Timestamp;
use fanfare::kinds::ChannelKind;
use fanfare::preferences::link::UnsubscribeLinks;
use fanfare::sandbox::{Sandbox, SandboxArgs};
use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::{Database, TestDb, balance};

const SECRET: &str = "a secret for links in mails";

fn at(text: &str) -> Timestamp {
    Timestamp::from_datetime(text.parse().expect("a time"))
}

/// The service with a manual clock, and a provider.
struct House {
    api: Api,
    app: Option<App>,
    clock: Clock,
    provider: Sandbox,
    _database: TestDb,
}

impl Deref for House {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl House {
    /// Starts at half past eleven at night, in London in winter.
    async fn start(kind: Database) -> Self {
        Self::at_rate(kind, "0").await
    }

    /// Starts with a rate limit in messages per second.
    async fn at_rate(kind: Database, rate: &str) -> Self {
        let database = TestDb::new(kind);
        let provider = Sandbox::start(SandboxArgs::on_free_port()).expect("a provider");
        let base = provider.base_url();
        let settings = [
            ("http.port", "0"),
            ("database.url", database.url.as_str()),
            ("sms.base_url", &base),
            ("email.base_url", &base),
            ("channels.rate_per_second", rate),
            ("delivery.poll", "20ms"),
            ("delivery.scheduler_interval", "20ms"),
            ("preferences.unsubscribe_secret", SECRET),
        ];
        let clock = Clock::manual(at("2026-03-02T23:30:00Z"));
        let config = Config::with(&settings).expect("a configuration");
        let app = App::start(config, clock.clone()).await.expect("a service");
        let api = Api::new(format!("http://{}", app.address()));
        Self { api, app: Some(app), clock, provider, _database: database }
    }

    /// Stops the service before its database is deleted.
    async fn stop(mut self) {
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
    }

    /// Creates a client with these preferences.
    async fn client(&self, number: u64, zone: Option<&str>, preferences: Value) -> String {
        let body = json!({"phone_number": format!("{}", 79030000000 + number), "timezone": zone,
            "email": format!("c{number}@example.net")});
        let id = self.post("/clients", body).await["id"].as_str().expect("an id").to_owned();
        self.prefer("PUT", &id, preferences).await;
        id
    }

    async fn prefer(&self, method: &str, client: &str, preferences: Value) {
        let path = format!("/clients/{client}/preferences");
        let (status, body) = self.call(method, &path, Some(preferences)).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn mail(&self, mut body: Value) -> String {
        body["text"] = json!("hello");
        self.post("/mailings", body).await["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a mailing has these counts, which must balance at every poll.
    async fn counts(&self, id: &str, wanted: Value) -> Value {
        let shows = |mailing: &Value| {
            assert!(balance(&mailing["counts"]), "{mailing}");
            wanted.as_object().expect("counts").iter().all(|(name, count)| mailing["counts"][name] == *count)
        };
        self.wait_for(&format!("/mailings/{id}"), shows).await
    }

    /// Returns the message of each client.
    async fn messages(&self, mailing: &str) -> BTreeMap<String, Value> {
        let list = self.get(&format!("/mailings/{mailing}/messages?limit=100")).await;
        let items = list["items"].as_array().expect("items").clone();
        items.into_iter().map(|item| (item["client_id"].as_str().expect("an id").to_owned(), item)).collect()
    }

    async fn notify(&self, body: Value) -> String {
        self.post("/notifications", body).await["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a notification has this status.
    async fn becomes(&self, id: &str, status: &str) -> Value {
        self.wait_for(&format!("/notifications/{id}"), |found| found["status"] == status).await
    }

    fn requests(&self) -> u64 {
        self.provider.stats().requests
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = self.http.get(format!("{}/metrics", self.base)).send().await.expect("an answer");
        let text = text.text().await.expect("a text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
        line.trim().parse().expect("a number")
    }
}

const NIGHT: &str = r#"{"quiet_hours": {"from": "22:00", "until": "08:00"}}"#;

fn night() -> Value {
    serde_json::from_str(NIGHT).expect("JSON")
}

crate::on_each_database! {
    async fn a_mailing_is_suppressed_deferred_or_sent_by_each_clients_preferences(kind: Database) {
        let house = House::start(kind).await;
        house.client(0, None, json!({})).await;
        let no_sms = house.client(1, None, json!({"channels": {"sms": false}})).await;
        let no_news = house.client(2, None, json!({"groups": {"newsletter": false}})).await;
        house.client(3, None, json!({"channels": {"email": false}, "groups": {"order": false}})).await;
        let asleep = house.client(4, None, night()).await;
        house.client(5, Some("Asia/Tokyo"), night()).await;
        let thinks_better = house.client(6, Some("Europe/London"), night()).await;
        let sleeps_longer = house.client(7, None, night()).await;
        let id = house.mail(json!({"group": "newsletter", "ends_at": "2026-03-05T00:00:00Z"})).await;

        let mailing = house.counts(&id, json!({"sent": 3, "cancelled": 2, "queued": 3, "sending": 0})).await;
        assert_eq!((&mailing["status"], &mailing["group"]), (&json!("running"), &json!("newsletter")));
        assert_eq!(house.requests(), 3);
        let messages = house.messages(&id).await;
        for (client, why) in [(&no_sms, "the client opted out of sms"), (&no_news, "the client opted out of the group newsletter")] {
            let message = &messages[client];
            let found = (&message["status"], &message["attempts"], &message["error"]);
            assert_eq!(found, (&json!("cancelled"), &json!(0), &json!(why)));
        }
        let waiting = house.get(&format!("/messages/{}", messages[&asleep]["id"].as_str().expect("an id"))).await;
        assert_eq!((&waiting["status"], &waiting["attempts"]), (&json!("queued"), &json!(0)), "{waiting}");
        assert_eq!(waiting["due_at"].as_str().map(at), Some(at("2026-03-03T08:00:00Z")), "{waiting}");
        assert!(waiting["error"].as_str().is_some_and(|why| why.contains("deferred: quiet hours")), "{waiting}");

        house.prefer("PATCH", &thinks_better, json!({"channels": {"sms": false}})).await;
        house.prefer("PATCH", &sleeps_longer, json!({"quiet_hours": {"from": "22:00", "until": "10:15"}})).await;
        house.clock.set(at("2026-03-03T08:00:00Z"));
        house.counts(&id, json!({"sent": 4, "cancelled": 3, "queued": 1, "sending": 0})).await;
        house.clock.set(at("2026-03-03T10:15:00Z"));
        let mailing = house.wait_for(&format!("/mailings/{id}"), |mailing| !mailing["finished_at"].is_null()).await;
        assert_eq!((&mailing["counts"]["sent"], &mailing["counts"]["cancelled"]), (&json!(5), &json!(3)));
        assert_eq!(house.requests(), 5);
        let messages = house.messages(&id).await;
        assert_eq!(messages[&thinks_better]["error"], "the client opted out of sms");
        assert_eq!((&messages[&asleep]["attempts"], &messages[&asleep]["error"]), (&json!(1), &Value::Null));
        assert_eq!(house.metric("fanfare_messages_opted_out_total{channel=\"sms\"}").await, 3.0);
        assert_eq!(house.metric("fanfare_messages_deferred_total{channel=\"sms\"}").await, 4.0);
        assert_eq!(house.metric("fanfare_retries_total{channel=\"sms\"}").await, 0.0);
        house.stop().await;
    }
}

crate::on_each_database! {
    async fn suppressed_and_deferred_messages_do_not_use_the_rate(kind: Database) {
        let house = House::at_rate(kind, "1").await;
        for number in 0..30 {
            house.client(2 * number, None, json!({"channels": {"sms": false}})).await;
            house.client(2 * number + 1, None, night()).await;
        }
        house.client(100, None, json!({})).await;
        let began = std::time::Instant::now();
        let id = house.mail(json!({"ends_at": "2026-03-05T00:00:00Z"})).await;
        house.counts(&id, json!({"sent": 1, "cancelled": 30, "queued": 30, "sending": 0})).await;
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "one a second would take a minute");
        assert_eq!(house.requests(), 1);
        house.stop().await;
    }
}

crate::on_each_database! {
    async fn transactional_messages_ignore_opt_outs_and_quiet_hours(kind: Database) {
        let house = House::start(kind).await;
        for (number, wants) in [json!({"channels": {"sms": false}}), json!({"groups": {"order": false}}), night()].into_iter().enumerate() {
            let client = house.client(number as u64, None, wants).await;
            let id = house.notify(json!({"channel": "sms", "client_id": client, "content": "x", "group": "order", "transactional": true})).await;
            let sent = house.becomes(&id, "sent").await;
            assert_eq!((&sent["group"], &sent["transactional"]), (&json!("order"), &json!(true)));
        }
        let id = house.mail(json!({"group": "order", "transactional": true, "ends_at": "2026-03-03T00:00:00Z"})).await;
        house.counts(&id, json!({"sent": 3, "total": 3})).await;
        assert_eq!(house.requests(), 6);
        house.stop().await;
    }
}

crate::on_each_database! {
    async fn a_message_deferred_past_its_end_expires_at_once(kind: Database) {
        let house = House::start(kind).await;
        let client = house.client(0, None, night()).await;
        let id = house.mail(json!({"ends_at": "2026-03-03T08:00:00Z"})).await;
        let mailing = house.wait_for(&format!("/mailings/{id}"), |mailing| !mailing["finished_at"].is_null()).await;
        assert_eq!(mailing["counts"]["expired"], 1, "{mailing}");
        let message = house.messages(&id).await[&client].clone();
        assert!(message["error"].as_str().is_some_and(|why| why.contains("expired: the quiet hours")), "{message}");
        let body = json!({"channel": "sms", "client_id": client, "content": "x", "expires_at": "2026-03-03T08:00:00Z"});
        let id = house.notify(body).await;
        let expired = house.becomes(&id, "expired").await;
        assert_eq!(expired["error"], message["error"]);
        let body = json!({"channel": "sms", "client_id": client, "content": "x", "expires_at": "2026-03-03T08:00:01Z"});
        let id = house.notify(body).await;
        let waits = |found: &Value| found["error"].is_string();
        let waiting = house.wait_for(&format!("/notifications/{id}"), waits).await;
        assert_eq!((&waiting["status"], &waiting["retry_count"]), (&json!("scheduled"), &json!(0)), "{waiting}");
        assert_eq!(waiting["next_retry_at"].as_str().map(at), Some(at("2026-03-03T08:00:00Z")), "{waiting}");
        assert_eq!(house.requests(), 0);
        house.clock.set(at("2026-03-03T08:00:00Z"));
        let sent = house.becomes(&id, "sent").await;
        assert_eq!((sent["attempts"].as_array().map(Vec::len), &sent["error"]), (Some(1), &Value::Null), "{sent}");
        house.stop().await;
    }
}

crate::on_each_database! {
    async fn notifications_of_a_batch_follow_preferences_and_the_batch_balances(kind: Database) {
        let house = House::start(kind).await;
        let out = house.client(0, None, json!({"groups": {"offers": false}})).await;
        let asleep = house.client(1, None, night()).await;
        let one = |client: &str, group: Value| json!({"channel": "sms", "client_id": client, "content": "x", "group": group});
        let wanted = [one(&out, json!("offers")), one(&out, json!("order")), one(&out, Value::Null), one(&asleep, json!("order")),
            json!({"channel": "sms", "recipient": "+79039999999", "content": "x", "group": "offers"})];
        let batch = house.post("/notifications/batch", json!({"notifications": wanted})).await;
        let path = format!("/batches/{}", batch["batch_id"].as_str().expect("an id"));
        let shows = |batch: &Value| {
            assert!(balance(&batch["counts"]), "{batch}");
            batch["counts"]["sent"] == 3 && batch["counts"]["cancelled"] == 1 && batch["counts"]["sending"] == 0
        };
        let seen = house.wait_for(&path, shows).await;
        assert_eq!(seen["counts"]["queued"], 1, "{seen}");
        let deferred = batch["items"][3]["id"].as_str().expect("an id");
        let (status, _) = house.call("DELETE", &format!("/notifications/{deferred}"), None).await;
        assert_eq!(status, 204, "a deferred notification can be cancelled");
        let seen = house.get(&path).await;
        assert_eq!((&seen["counts"]["cancelled"], house.requests()), (&json!(2), 3));
        house.stop().await;
    }
}

crate::on_each_database! {
    async fn an_address_without_a_client_opts_out_by_the_link_in_its_mail(kind: Database) {
        let house = House::start(kind).await;
        let mail = |recipient: &str, group: &str| {
            json!({"channel": "email", "recipient": recipient, "subject": "x", "content": "x", "group": group})
        };
        let first = house.notify(mail("anna@example.net", "news")).await;
        house.becomes(&first, "sent").await;
        let links = UnsubscribeLinks::new(&house.base, SECRET.as_bytes());
        let link = links.url(ChannelKind::Email, "anna@example.net", Some("news")).expect("a link");
        for _ in 0..2 {
            let clicked = house.http.post(&link).body("List-Unsubscribe=One-Click").send().await.expect("an answer");
            assert_eq!(clicked.status(), 200);
        }
        let id = house.notify(mail("Anna@Example.net", "news")).await;
        let stopped = house.becomes(&id, "cancelled").await;
        assert_eq!(stopped["error"], "suppressed: the address unsubscribed from the group news");
        for (recipient, group) in [("anna@example.net", "order"), ("bert@example.net", "news")] {
            let id = house.notify(mail(recipient, group)).await;
            house.becomes(&id, "sent").await;
        }
        let undone = house.http.post(format!("{link}/undo")).send().await.expect("an answer");
        assert_eq!(undone.status(), 200);
        let id = house.notify(mail("anna@example.net", "news")).await;
        house.becomes(&id, "sent").await;
        house.stop().await;
    }
}
