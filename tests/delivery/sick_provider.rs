//! The circuit breaker suspends sending to a provider that fails or throttles, and the messages lose no attempts.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::delivery::bench::{Bench, LONG, micros};
use crate::support::after;
use crate::support::api::{LOOK, PATIENCE};

fn sick() -> Faults {
    Faults { error_rate: 1.0, ..Faults::default() }
}

async fn circuit(bench: &Bench) -> String {
    let answer = bench.http.get(format!("{}/metrics", bench.base)).send().await.expect("an answer");
    let text = answer.text().await.expect("metrics");
    let name = "fanfare_circuit_state{channel=\"sms\"}";
    let line = text.lines().find(|line| line.starts_with(name)).expect("the metric");
    line.rsplit_once(' ').expect("a value").1.to_owned()
}

/// Starts a mailing of 300 over four slots at a provider that always fails. Waits until the circuit breaker was open
/// for long enough that the waiting messages left memory.
async fn until_it_rests(bench: &Bench, window: Duration) -> String {
    bench.import(300, "vip").await;
    let id = bench.mail("vip", window).await;
    bench.received(7).await;
    let path = format!("/mailings/{id}");
    let all_wait = |mailing: &Value| {
        mailing["counts"]["queued"].as_i64() == Some(300) && mailing["counts"]["sending"] == 0
    };
    bench.wait_for(&path, all_wait).await;
    // a probe may be in flight, and fails
    let began = Instant::now();
    while circuit(bench).await != "2" {
        assert!(began.elapsed() < PATIENCE, "the circuit does not stay open");
        tokio::time::sleep(LOOK).await;
    }
    id
}

const SETTINGS: &[(&str, &str)] = &[
    ("sms.concurrency", "4"),
    ("channels.breaker_failures", "6"),
    ("retry.limit", "20"),
    ("retry.first_delay", "50ms"),
    ("retry.factor", "1"),
];

crate::on_each_database! {
    async fn a_provider_that_always_fails_gets_only_probes(kind: Database) {
        let bench = Bench::with_faults(kind, SETTINGS, sick()).await;
        let id = until_it_rests(&bench, LONG).await;
        let asked = bench.requests().len();
        assert!((6..=6 + 4 + 8).contains(&asked), "six failures, four in flight, then probes: {asked}");
        bench.set_faults(Faults::default());
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 300, "{counts}");
        assert_eq!(circuit(&bench).await, "0", "it is closed again");
        bench.each_received_once(&id).await;
    }
}

crate::on_each_database! {
    async fn messages_behind_an_open_circuit_expire_with_their_window_and_can_be_cancelled(kind: Database) {
        let bench = Bench::with_faults(kind, SETTINGS, sick()).await;
        let id = until_it_rests(&bench, LONG).await;
        let other = bench.create(json!({"text": "x", "filter": "vip", "ends_at": after(LONG)})).await;
        bench.post(&format!("/mailings/{other}/cancel"), json!({})).await;
        let counts = bench.closed(&other).await;
        assert_eq!(counts["cancelled"], 300, "{counts}");
        let change = json!({"ends_at": after(Duration::from_millis(300))});
        let (status, mailing) = bench.call("PATCH", &format!("/mailings/{id}"), Some(change)).await;
        assert_eq!(status, 200, "{mailing}");
        let counts = bench.closed(&id).await;
        assert_eq!(counts["expired"], 300, "{counts}");
        let mailing = bench.get(&format!("/mailings/{id}")).await;
        let overrun = micros(&mailing["finished_at"]) - micros(&mailing["ends_at"]);
        assert!((0..10_000_000).contains(&overrun), "the end did not wait for the circuit: {overrun} us");
    }
}

crate::on_each_database! {
    async fn a_throttling_provider_gets_its_pause_and_no_attempt_is_used(kind: Database) {
        let faults = Faults { rate_limit: NonZeroU32::new(200), ..Faults::default() };
        let bench = Bench::with_faults(kind, &[("retry.limit", "0")], faults).await;
        bench.import(800, "vip").await;
        let id = bench.mail("vip", LONG).await;
        let counts = bench.closed(&id).await;
        assert_eq!(counts["sent"], 800, "{counts}");
        assert!(bench.rows(&id).await.iter().all(|row| row.attempts == 1));
        let requests = bench.requests();
        let limited: Vec<_> = requests.iter().filter(|request| request.outcome == "limited").collect();
        let first = limited.first().expect("the limit was met").at_us;
        // attempts in flight at the first refusal, and those that began before it was read; without the pause, all of
        // them
        let hasty = requests.iter().filter(|r| (first + 1..first + 1_000_000).contains(&r.at_us)).count();
        assert!(hasty <= 2 * 64, "{hasty}");
        bench.each_received_once(&id).await;
    }
}
