//! Several nodes on one PostgreSQL.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, QueryDsl, RunQueryDsl};
use fanfare::clock::Clock;
use fanfare::db::schema::node;
use fanfare::db::types::NodeId;
use fanfare::db::{Db, DbOptions};
use fanfare::delivery::repo::node::{heartbeat, register};
use fanfare::sandbox::Faults;

use serde_json::json;

use crate::delivery::bench::{Bench, LONG};
use crate::support::{Database, TestDb, after};

/// Regression: a stopping node ended its heartbeat at once, and other nodes sent its messages in flight a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_keeps_its_leases_until_attempts_in_flight_are_done() {
    let faults = Faults { latency: Duration::from_millis(2500), ..Faults::default() };
    let mut bench = Bench::with_faults(Database::Postgres, &[("delivery.lease", "1s")], faults).await;
    bench.import(10, "vip").await;
    let id = bench.mail("vip", LONG).await;
    bench.received(10).await;
    let other = bench.beside(&[]).await;
    bench.stop().await;
    other.stop().await;
    bench.go_on().await;
    assert_eq!(bench.closed(&id).await["sent"], 10);
    bench.each_received_once(&id).await;
}

/// Regression: after an outage both nodes' heartbeats are old. Each waited to delete the other's row, which was a
/// deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_writing_its_heartbeat_is_not_declared_dead() {
    let db = TestDb::new(Database::Postgres);
    let options = DbOptions { pool_size: 1, ..DbOptions::new(db.url.clone()) };
    let handle =
        tokio::task::spawn_blocking(|| Db::open(options)).await.expect("a thread").expect("a database");
    let (one, other) = (NodeId::new(), NodeId::new());
    let now = Clock::System.now();
    for id in [one, other] {
        handle.write(move |c| register(c, id, "test", now)).await.expect("a node");
    }
    let mut beating = PgConnection::establish(&db.url).expect("a connection");
    let outage = "UPDATE node SET heartbeat_at = now() - interval '1 minute'";
    beating.batch_execute(outage).expect("an outage");
    // the other node's heartbeat, not yet committed
    beating.batch_execute("BEGIN").expect("a transaction");
    diesel::sql_query("UPDATE node SET heartbeat_at = clock_timestamp() WHERE id = $1")
        .bind::<diesel::sql_types::Uuid, _>(other.0)
        .execute(&mut beating)
        .expect("a heartbeat");
    let known = handle.write(move |c| {
        diesel::sql_query("SET LOCAL lock_timeout = '2s'").execute(c)?;
        heartbeat(c, one, Duration::from_secs(15))
    });
    assert!(known.await.expect("no waiting"), "this node is known");
    beating.batch_execute("COMMIT").expect("the end of the heartbeat");
    let nodes: i64 = node::table.count().get_result(&mut beating).expect("a count");
    assert_eq!(nodes, 2);
}

/// Asserts that the requests of each second are within the rate, plus those on their way: on a busy machine the first
/// request may arrive a quarter of a second late. Two nodes that each use the whole rate would send twice as many.
fn check_rate(times: &[i64], rate: usize) {
    for (i, first) in times.iter().enumerate() {
        let within = times[i..].iter().take_while(|at| **at < first + 1_000_000).count();
        assert!(within <= rate + rate / 4 + 1, "{within} in a second at {rate}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_keep_the_rate_of_a_channel_together_and_both_send() {
    let settings = [
        ("channels.rate_per_second", "200"),
        ("delivery.page_size", "50"),
        ("delivery.lane_capacity", "100"),
    ];
    let bench = Bench::start(Database::Postgres, &settings).await;
    let other = bench.beside(&[]).await;
    bench.import(800, "vip").await;
    let id = bench.mail("vip", LONG).await;
    assert_eq!(bench.closed(&id).await["sent"], 800);
    other.stop().await;
    let times: Vec<i64> = bench.requests().iter().map(|request| request.at_us).collect();
    check_rate(&times, 200);
    let took = times[799] - times[0];
    assert!((3_600_000..8_000_000).contains(&took), "800 at 200 a second took {took} us");
    bench.each_received_once(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_keep_the_rate_of_a_mailing_together() {
    let bench = Bench::start(Database::Postgres, &[]).await;
    let other = bench.beside(&[]).await;
    bench.import(120, "vip").await;
    let body = json!({"text": "x", "filter": "vip", "rate_per_second": 40, "ends_at": after(LONG)});
    let id = bench.create(body).await;
    assert_eq!(bench.closed(&id).await["sent"], 120);
    other.stop().await;
    let times: Vec<i64> = bench.requests().iter().map(|request| request.at_us).collect();
    check_rate(&times, 40);
    bench.each_received_once(&id).await;
}

/// The poll interval is a minute, which is longer than the test waits: all progress comes from notifications to the
/// worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reacts_at_once_to_requests_to_another_nodes_api() {
    let rate = ("channels.rate_per_second", "400");
    let bench =
        Bench::start(Database::Postgres, &[("node.role", "api"), ("delivery.poll", "60s"), rate]).await;
    let worker = bench.beside(&[("node.role", "worker")]).await;
    let answer = bench.http.get(worker.url("/mailings")).send().await;
    assert_eq!(answer.expect("an answer").status(), 404, "a worker has no API");
    for base in [&worker.base, &bench.base] {
        let ready = bench.http.get(format!("{base}/ready")).send().await.expect("an answer");
        assert_eq!(ready.status(), 200, "{base}");
    }
    bench.import(1000, "vip").await;
    let id = bench.mail("vip", LONG).await;
    bench.received(20).await;
    bench.post(&format!("/mailings/{id}/pause"), json!({})).await;
    let path = format!("/mailings/{id}");
    let held = bench.wait_for(&path, |mailing| mailing["counts"]["sending"] == 0).await;
    assert!(held["counts"]["queued"].as_i64() > Some(0), "{held}");
    bench.post(&format!("/mailings/{id}/resume"), json!({})).await;
    bench.received(500).await;
    let change = json!({"ends_at": after(Duration::from_millis(100))});
    let (status, mailing) = bench.call("PATCH", &path, Some(change)).await;
    assert_eq!(status, 200, "{mailing}");
    let counts = bench.closed(&id).await;
    assert!(counts["expired"].as_i64() > Some(0), "{counts}");
    worker.stop().await;
    bench.each_received_once(&id).await;
}
