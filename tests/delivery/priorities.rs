//! Runs mailings concurrently: fair between equal priorities, urgent ones first.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::delivery::bench::{Bench, LONG, finals, lines};
use crate::support::after;
use crate::support::api::{LOOK, PATIENCE};
use crate::support::checker::Request;

crate::on_each_database! {
    async fn two_mailings_of_equal_priority_share_the_channel_evenly(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "400")]).await;
        let csv = format!("phone_number,tag\n{}{}", lines(79030000000..79030000600, "a"), lines(79040000000..79040000600, "b"));
        bench.clients(csv).await;
        let (a, b) = (bench.mail("a", LONG).await, bench.mail("b", LONG).await);
        bench.closed(&a).await;
        bench.closed(&b).await;
        let of_b: Vec<bool> =
            bench.requests().iter().map(|request| request.phone >= Some(79040000000)).collect();
        let first = of_b.iter().position(|is_b| *is_b).expect("one of the second mailing");
        assert!(first < 200, "the second begins while the first runs: after {first}");
        let shared = &of_b[first..first + 400];
        let share = shared.iter().filter(|is_b| **is_b).count();
        assert!((180..=220).contains(&share), "{share} of 400 are the second mailing's");
    }
}

crate::on_each_database! {
    async fn a_mailing_keeps_to_its_own_rate_and_the_others_do_not_wait_for_it(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        let csv = format!("phone_number,tag\n{}{}", lines(79030000000..79030000100, "slow"), lines(79040000000..79040000500, "fast"));
        bench.clients(csv).await;
        let body = json!({"text": "x", "filter": "slow", "priority": "high", "rate_per_second": 16, "ends_at": after(LONG)});
        let slow = bench.create(body).await;
        bench.received(1).await;
        let fast = bench.mail("fast", LONG).await;
        bench.closed(&fast).await;
        let left = bench.get(&format!("/mailings/{slow}")).await;
        assert!(left["finished_at"].is_null(), "the fast one was there first: {left}");
        bench.closed(&slow).await;
        let times: Vec<i64> = bench.requests_of(&slow).await.iter().map(|request| request.at_us).collect();
        let took = times[99] - times[0];
        // 99 intervals, less the two percent that a late timer may catch up, and the way to the provider
        assert!(took >= 99 * 62_500 - 100_000, "16 a second: {took} us");
        bench.each_received_once(&slow).await;
    }
}

crate::on_each_database! {
    async fn an_urgent_mailing_overtakes_the_backlog_of_all_others(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "200")]).await;
        let csv = format!("phone_number,tag\n{}{}{}", lines(79030000000..79030004000, "normal"),
            lines(79040000000..79040004000, "low"), lines(79050000000..79050000010, "high"));
        bench.clients(csv).await;
        let mut backlog = Vec::new();
        for priority in ["normal", "low"] {
            let body = json!({"text": "x", "filter": priority, "priority": priority, "ends_at": after(LONG)});
            backlog.push(bench.create(body).await);
        }
        bench.received(100).await;
        let body = json!({"text": "x", "filter": "high", "priority": "high", "ends_at": after(LONG)});
        let high = bench.create(body).await;
        let before = bench.requests().len();
        bench.closed(&high).await;
        let overtaken = bench.requests();
        let last = overtaken.iter().rposition(|request| request.phone >= Some(79050000000)).expect("the urgent ones");
        // half a second of the channel's rate, for attempts in flight and the time to plan
        assert!(last < before + 100, "{} others went before the last urgent one", last - before);
        let low = overtaken.iter().filter(|request| request.phone >= Some(79040000000)).count();
        assert!(low > 10, "low does not starve");
        for id in backlog {
            bench.post(&format!("/mailings/{id}/cancel"), json!({})).await;
            assert_eq!(finals(&bench.closed(&id).await), 4000);
        }
    }
}

crate::on_each_database! {
    async fn an_urgent_message_is_claimed_before_a_long_queue_is_drained(kind: Database) {
        // many small batches to claim, and a lane that has room for all of them
        let settings = [("delivery.page_size", "10"), ("delivery.lane_capacity", "100000"), ("channels.rate_per_second", "0")];
        let bench = Bench::start(kind, &settings).await;
        let (due, later) = (after(Duration::from_secs(3)), after(Duration::from_millis(3300)));
        let one = |phone: u64, due: &str, priority: &str| {
            json!({"channel": "sms", "recipient": phone.to_string(), "content": "x", "scheduled_at": due, "priority": priority})
        };
        for first in [79030000000, 79030001000, 79030002000] {
            let batch: Vec<_> = (first..first + 1000).map(|phone| one(phone, &due, "normal")).collect();
            bench.post("/notifications/batch", json!({"notifications": batch})).await;
        }
        bench.post("/notifications", one(79050000000, &later, "high")).await;
        bench.received(3001).await;
        let urgent = bench.requests().iter().position(|request| request.phone == Some(79050000000));
        assert!(urgent.is_some_and(|before| before < 2000), "{urgent:?} of 3000 went before the urgent message");
    }
}

/// Returns the shares of high, normal and low in the requests to the provider while all three lanes were full, by the
/// first digits of the phones: 79050…, 79030…, 79040….
async fn shares(bench: &Bench, received: usize) -> [usize; 3] {
    let firsts = [7905, 7903, 7904];
    let is_of =
        |request: &Request, first: u64| request.phone.is_some_and(|phone| phone / 10_000_000 == first);
    // the lanes fill one after the other; by then each has messages waiting
    bench.received(100).await;
    let began = Instant::now();
    let full = loop {
        let requests = bench.requests();
        if let Some(full) = requests.iter().position(|request| is_of(request, firsts[0]))
            && requests.len() >= full + 50 + received
        {
            break requests[full + 50..full + 50 + received].to_vec();
        }
        assert!(began.elapsed() < PATIENCE, "only {} requests", requests.len());
        tokio::time::sleep(LOOK).await;
    };
    firsts.map(|first| full.iter().filter(|request| is_of(request, first)).count())
}

/// Asserts the shares of 600: 85 %, 10 % and 5 %, with one turn at each edge.
fn are_kept([high, normal, low]: [usize; 3]) {
    assert!(
        normal >= 58 && low >= 28 && normal >= low && high >= 500,
        "{high} high, {normal} normal, {low} low"
    );
}

crate::on_each_database! {
    async fn with_all_three_lanes_full_of_mailings_each_keeps_its_share_of_the_rate(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "400")]).await;
        let csv = format!("phone_number,tag\n{}{}{}", lines(79030000000..79030003000, "normal"),
            lines(79040000000..79040003000, "low"), lines(79050000000..79050003000, "high"));
        bench.clients(csv).await;
        let mut mailings = Vec::new();
        for priority in ["normal", "low", "high"] {
            let body = json!({"text": "x", "filter": priority, "priority": priority, "ends_at": after(LONG)});
            mailings.push(bench.create(body).await);
        }
        are_kept(shares(&bench, 600).await);
        for id in mailings {
            bench.post(&format!("/mailings/{id}/cancel"), json!({})).await;
            assert_eq!(finals(&bench.closed(&id).await), 3000);
        }
    }
}

crate::on_each_database! {
    async fn with_all_three_lanes_full_of_notifications_each_keeps_its_share_of_the_rate(kind: Database) {
        let bench = Bench::start(kind, &[("channels.rate_per_second", "400")]).await;
        for (priority, first) in [("normal", 79030000000_u64), ("low", 79040000000), ("high", 79050000000)] {
            let one = |phone| json!({"channel": "sms", "recipient": format!("+{phone}"), "content": "x", "priority": priority});
            let batch: Vec<_> = (first..first + 1000).map(one).collect();
            let taken = bench.post("/notifications/batch", json!({"notifications": batch})).await;
            assert_eq!(taken["accepted"], 1000, "{taken}");
        }
        are_kept(shares(&bench, 600).await);
    }
}

crate::on_each_database! {
    async fn a_client_without_a_value_for_a_placeholder_fails_with_a_reason_and_the_others_are_sent(kind: Database) {
        let bench = Bench::start(kind, &[]).await;
        let rows = (0..100).map(|i| format!("{},vip,{}\n", 79030000000_u64 + i, if i % 4 == 0 { "" } else { "Anna" }));
        bench.clients(format!("phone_number,tag,nick\n{}", rows.collect::<String>())).await;
        let id = bench.create(json!({"text": "Dear {{ nick }}", "filter": "vip", "ends_at": after(LONG)})).await;
        let counts = bench.closed(&id).await;
        assert_eq!((counts["sent"].as_i64(), counts["failed"].as_i64()), (Some(75), Some(25)), "{counts}");
        assert_eq!(bench.dead_letters(&id).await, 25);
        let rows = bench.rows(&id).await;
        for row in rows.iter().filter(|row| row.error.is_some()) {
            assert_eq!(row.attempts, 0, "nothing was sent");
            assert!(row.error.as_ref().is_some_and(|why| why.contains("nick")), "{row:?}");
        }
        bench.each_received_once(&id).await;
    }
}
