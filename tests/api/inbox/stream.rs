//! The live stream of an inbox.

use std::time::Duration;

use fanfare::clock::Clock;
use fanfare::inbox::token::InboxTokens;
use serde_json::{Value, json};

use super::{HERE, KEY, by_query, deliver, path};
use crate::api::ask::{ask, request, send};
use crate::api::stream::Stream;
use crate::on_each_database;
use crate::support::api::Api;
use crate::support::{Database, Service};

/// Returns the next event with this name, and checks that only `count` and `reset` events precede it.
async fn next(stream: &mut Stream, name: &str) -> Value {
    loop {
        let (found, data) = stream.next().await.expect("more events");
        if found == name {
            return data;
        }
        assert!(["count", "reset"].contains(&found.as_str()), "{found} before {name}: {data}");
    }
}

async fn act(service: &Api, user: &str, rest: &str) -> Value {
    ask(service, "POST", &path(user, rest), None).await.success(200)
}

on_each_database! {
    async fn a_stream_shows_only_the_changes_of_its_inbox(kind: Database) {
        let service = Service::start_with(kind, &[HERE]).await;
        let mut stream = Stream::at(&service, &path("u/1", "/stream"), None).await;
        assert_eq!(next(&mut stream, "count").await, json!({"unread": 0}), "at the beginning");
        deliver(&service, "u2", "another's").await;
        let first = deliver(&service, "u/1", "one").await;
        let shown = next(&mut stream, "message").await;
        assert_eq!((&shown["id"], &shown["text"], &shown["read_at"]), (&json!(first), &json!("one"), &Value::Null));
        assert_eq!(shown, service.get(&path("u/1", "")).await["items"][0], "as the list shows it");
        assert_eq!(next(&mut stream, "count").await, json!({"unread": 1}));
        let read = act(&service, "u/1", &format!("/{first}/read")).await;
        assert_eq!(next(&mut stream, "read").await, json!({"id": first, "at": read["read_at"]}));
        assert_eq!(next(&mut stream, "count").await, json!({"unread": 0}));
        // an action without effect sends no event
        act(&service, "u/1", &format!("/{first}/read")).await;
        act(&service, "u/1", "/read-all").await;
        act(&service, "u/1", &format!("/{first}/unread")).await;
        assert_eq!(next(&mut stream, "unread").await["id"], json!(first));
        assert_eq!(act(&service, "u/1", "/read-all").await, json!({"read": 1}));
        assert!(next(&mut stream, "all_read").await["before"].is_string());
        act(&service, "u/1", &format!("/{first}/archive")).await;
        assert_eq!(next(&mut stream, "archived").await["id"], json!(first));
        let mut service = service;
        service.stop().await;
        while let Some((name, _)) = stream.next().await {
            assert_eq!(name, "count", "the stream ends with the service");
        }
    }
}

on_each_database! {
    async fn a_reconnecting_client_gets_the_missed_events(kind: Database) {
        let service = Service::start_with(kind, &[HERE]).await;
        let mut stream = Stream::at(&service, "/inbox/u1/stream", None).await;
        deliver(&service, "u1", "seen").await;
        next(&mut stream, "message").await;
        let last = stream.last.clone();
        drop(stream);
        let missed = deliver(&service, "u1", "missed").await;
        let mut back = Stream::at(&service, "/inbox/u1/stream", last.as_deref()).await;
        assert_eq!(next(&mut back, "message").await["id"], json!(missed));
        // an event id of another process
        let mut back = Stream::at(&service, "/inbox/u1/stream", Some("0123456789abcdef-1")).await;
        assert_eq!(back.next().await.expect("an event").0, "reset");
    }
}

on_each_database! {
    async fn a_stream_ends_with_its_token(kind: Database) {
        let service = Service::start_with(kind, &[HERE, ("access.api_key", KEY), ("in_app.secret", KEY)]).await;
        let soon = Clock::System.now().plus(Duration::from_millis(2500));
        let token = InboxTokens::new(KEY.as_bytes()).issue(&"u1".parse().expect("a user"), soon).token;
        let mut stream = Stream::at(&service, &format!("/inbox/u1/stream?token={token}"), None).await;
        while stream.next().await.is_some() {}
        assert!(Clock::System.now() >= soon.minus(Duration::from_millis(1100)), "not before its time");
        let again = by_query(&service, "GET", "/inbox/u1/stream", &token);
        // the token expires by the clock, but the stream ends by a timer
        while Clock::System.now() < soon {
            tokio::task::yield_now().await;
        }
        send(again).await.problem(401);
    }
}

on_each_database! {
    async fn one_user_cannot_open_all_streams(kind: Database) {
        let service = Service::start_with(kind, &[HERE]).await;
        let mut open = Vec::new();
        for _ in 0..20 {
            open.push(Stream::at(&service, "/inbox/u1/stream", None).await);
        }
        assert_eq!(ask(&service, "GET", "/inbox/u1/stream", None).await.problem(503)["type"], "/problems/too-many-streams");
        Stream::at(&service, "/inbox/u2/stream", None).await;
        let head = request(&service, "HEAD", "/inbox/u1/stream").send().await.expect("an answer");
        assert_eq!((head.status().as_u16(), &head.headers()["content-type"]), (200, &"text/event-stream".parse().expect("a header")));
    }
}

/// The stream is open at a node that only serves the API, and another node delivers.
#[tokio::test(flavor = "multi_thread")]
async fn messages_delivered_by_another_node_are_shown() {
    let service = Service::start_with(Database::Postgres, &[HERE]).await;
    let front = service.beside(&[("node.role", "api")]).await;
    let mut stream = Stream::at(&front, "/inbox/u1/stream", None).await;
    // The other node announces nothing until it knows of the subscriber. The page then gets `reset`, to read the inbox
    // again.
    while stream.next().await.expect("more events").0 != "reset" {}
    let id = deliver(&service, "u1", "from the other node").await;
    assert_eq!(next(&mut stream, "message").await["id"], json!(id));
    assert_eq!(next(&mut stream, "count").await, json!({"unread": 1}));
    act(&service, "u1", &format!("/{id}/read")).await;
    assert_eq!(next(&mut stream, "read").await["id"], json!(id));
    // and in the other direction
    let mut at_the_other = Stream::at(&service, "/inbox/u1/stream", None).await;
    while at_the_other.next().await.expect("more events").0 != "reset" {}
    act(&front, "u1", &format!("/{id}/archive")).await;
    assert_eq!(next(&mut at_the_other, "archived").await["id"], json!(id));
    front.stop().await;
}
