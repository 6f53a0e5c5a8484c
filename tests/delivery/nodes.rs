//! Several nodes on one PostgreSQL.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, QueryDsl, RunQueryDsl};
use fanfare::app::App;
use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::db::schema::node;
use fanfare::db::types::NodeId;
use fanfare::db::{Db, DbOptions};
use fanfare::delivery::repo::node::{heartbeat, register};
use fanfare::sandbox::Faults;

use crate::bench::{Bench, LONG};
use crate::support::{Database, TestDb};

/// It stopped showing signs of life at once, and the others sent what it had in flight a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_keeps_its_pages_until_what_is_in_flight_is_done() {
    let faults = Faults { latency: Duration::from_millis(2500), ..Faults::default() };
    let mut bench = Bench::with_faults(Database::Postgres, &[("delivery.lease", "1s")], faults).await;
    bench.import(10, "vip").await;
    let provider = bench.provider.as_ref().expect("a provider").base_url();
    let settings = [
        ("http.port", "0"),
        ("database.url", bench.db.url.as_str()),
        ("delivery.lease", "1s"),
        ("delivery.poll", "50ms"),
        ("sms.base_url", provider.as_str()),
        ("sms.rate_per_second", "0"),
    ];
    let id = bench.mail("vip", LONG).await;
    bench.received(10).await;
    let other =
        App::start(Config::with(&settings).expect("a configuration"), Clock::System).await.expect("a node");
    bench.stop().await;
    other.stop().await;
    bench.go_on().await;
    assert_eq!(bench.closed(&id).await["sent"], 10);
    bench.each_received_once(&id).await;
}

/// After an outage both nodes' signs of life are old. Each waited for the other's row, to delete it: a deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shows_a_sign_of_life_at_this_moment_is_not_taken_for_dead() {
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
