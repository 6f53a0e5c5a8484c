//! Kills the service in the middle of a mailing, at random moments.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::crash::campaign::{Campaign, PATIENT, closed, look, mail};
use crate::support::checker::Report;
use crate::support::{Database, after};

const WINDOW: Duration = Duration::from_secs(3000);

/// The number of tests in this file, which share the kills.
const TESTS: usize = 5;

/// Returns the number of kills for one test. `make crash-test` sets ten times as many.
fn kills() -> usize {
    let all = std::env::var("FANFARE_TEST_KILLS").map_or(20, |text| text.parse().expect("a number"));
    (all / TESTS).max(1)
}

/// Returns a random number below `bound`.
fn chance(bound: usize) -> usize {
    let bits = usize::try_from(Uuid::new_v4().as_u128() & 0xffff_ffff).expect("32 bits");
    bits % bound
}

/// Kills the service at random moments while it sends `each` messages per kill, and restarts it each time. Two kills in
/// three come while it sends, the third while it starts and takes over the leases of its predecessor.
async fn kill_and_restart(mut campaign: Campaign, each: usize) -> Report {
    let kills = kills();
    let clients = each * (kills + 1);
    let mut server = campaign.serve().await;
    let mailing = mail(&server, clients, WINDOW).await;
    let mut last = 0;
    for kill in 0..kills {
        if kill % 3 == 2 {
            campaign.kill(&mut server.process);
            let mut starting = campaign.spawn(&[]);
            let lines = chance(4);
            starting.said(|log| log.lines().count() >= lines).await;
            campaign.kill(&mut starting);
        } else {
            // a random moment in the messages of this kill
            let moment = each * kill + each / 4 + chance(each / 2);
            campaign.provider.received(moment, async || look(&server, &mailing, &mut last).await).await;
            campaign.kill(&mut server.process);
        }
        server = campaign.serve().await;
        look(&server, &mailing, &mut last).await;
        assert!(last < i64::try_from(clients).expect("a number"), "it was killed in the middle");
    }
    closed(&server, &mailing, last).await;
    let report = campaign.check(&mailing).await;
    assert_eq!(report.messages, clients, "{report}");
    report
}

crate::on_each_database! {
    async fn random_kills_lose_no_message_and_repeat_at_most_those_in_flight(kind: Database) {
        kill_and_restart(Campaign::new(kind, &[], &[]).await, 2000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_killed_one_after_another_and_all_clients_are_accounted_for() {
    const EACH: usize = 2000;
    let kills = kills();
    let clients = EACH * (kills + 1);
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "20ms"], &[PATIENT]).await;
    let mut nodes = [campaign.serve().await, campaign.serve().await, campaign.serve().await];
    let mailing = mail(&nodes[0], clients, WINDOW).await;
    let mut last = 0;
    for kill in 0..kills {
        let moment = EACH * kill + EACH / 4 + chance(EACH / 2);
        let watcher = &nodes[(kill + 1) % 3];
        campaign.provider.received(moment, async || look(watcher, &mailing, &mut last).await).await;
        campaign.kill(&mut nodes[kill % 3].process);
        nodes[kill % 3] = campaign.serve().await;
        assert!(last < i64::try_from(clients).expect("a number"), "it was killed in the middle");
    }
    let counts = closed(&nodes[0], &mailing, last).await;
    assert_eq!(counts["sent"], clients, "{counts}");
    campaign.check(&mailing).await;
}

crate::on_each_database! {
    async fn random_kills_with_a_faulty_provider_lose_no_message_and_keep_the_retry_delays(kind: Database) {
        let faults = ["--error-rate", "0.15", "--drop-rate", "0.02", "--garbage-rate", "0.01", "--hang-rate", "0.002",
            "--permanent-rate", "0.01"];
        // the rate must also hold across the restarts
        let settings = [("PROVIDER_TIMEOUT", "2s"), ("RATE_LIMIT_PER_CHANNEL", "500")];
        let campaign = Campaign::new(kind, &faults, &settings).await;
        let report = kill_and_restart(campaign, 1200).await;
        assert!(report.unanswered > 0, "the faults occurred: {report}");
        assert!(report.requests > report.messages + report.messages / 10, "the faults occurred: {report}");
    }
}

crate::on_each_database! {
    async fn a_mailing_killed_before_its_end_ends_with_its_window_after_the_restart(kind: Database) {
        let mut campaign = Campaign::new(kind, &["--error-rate", "0.2"], &[("RATE_LIMIT_PER_CHANNEL", "200")]).await;
        let mut server = campaign.serve().await;
        let mailing = mail(&server, 5000, WINDOW).await;
        let mut last = 0;
        campaign.provider.received(200, async || look(&server, &mailing, &mut last).await).await;
        campaign.kill(&mut server.process);
        server = campaign.serve().await;
        campaign.provider.received(400, async || look(&server, &mailing, &mut last).await).await;
        // set only now, because the start may take long; more messages are left than can be sent until then
        let end = json!({"ends_at": after(Duration::from_secs(4))});
        let (status, changed) = server.call("PATCH", &format!("/mailings/{mailing}"), Some(end)).await;
        assert_eq!(status, 200, "{changed}");
        campaign.kill(&mut server.process);
        server = campaign.serve().await;
        let counts = closed(&server, &mailing, last).await;
        let [sent, expired] = ["sent", "expired"].map(|name| counts[name].as_i64().expect("a count"));
        assert!(sent > 0 && expired > 2000, "{counts}");
        campaign.check(&mailing).await;
    }
}
