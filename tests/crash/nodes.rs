//! Several services on one database.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use fanfare::db::schema::message;
use fanfare::db::types::{MessageId, Timestamp};
use serde_json::json;

use crate::crash::campaign::{Campaign, PATIENT, closed, look, mail};
use crate::process::Server;
use crate::support::Database;
use crate::support::api::{LOOK, PATIENCE};
use crate::support::checker::Interruption;

const WINDOW: Duration = Duration::from_secs(600);
/// The metric of the messages that a node has sent since its start.
const SENT: &str = "fanfare_messages_sent_total";

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_one_sqlite_file_refuses_to_start_and_changes_nothing() {
    let mut campaign = Campaign::new(Database::Sqlite, &["--latency", "20ms"], &[]).await;
    let server = campaign.serve().await;
    let mailing = mail(&server, 2000, WINDOW).await;
    campaign.provider.received(100, async || {}).await;
    let mut second = campaign.spawn(&[]);
    let status = second.ended().await;
    assert_eq!(status.code(), Some(1));
    let said = second.log();
    assert!(said.contains("another fanfare process uses this database"), "{said}");
    let counts = closed(&server, &mailing, 0).await;
    assert_eq!(counts["sent"], 2000, "{counts}");
    campaign.check(&mailing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_on_one_postgres_share_a_mailing_and_each_client_gets_it_once() {
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "20ms"], &[PATIENT]).await;
    let (one, other) = (campaign.serve().await, campaign.serve().await);
    let mailing = mail(&one, 6000, WINDOW).await;
    let mut last = 0;
    campaign.provider.received(2000, async || look(&other, &mailing, &mut last).await).await;
    let counts = closed(&one, &mailing, last).await;
    assert_eq!(counts["sent"], 6000, "{counts}");
    campaign.check(&mailing).await;
    for server in [&one, &other] {
        let sent = server.metric(SENT).await;
        assert!(sent > 600.0, "both nodes send: {sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_of_two_services_is_killed_the_other_finishes_the_mailing() {
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "20ms"], &[PATIENT]).await;
    let (mut one, other) = (campaign.serve().await, campaign.serve().await);
    let mailing = mail(&one, 6000, WINDOW).await;
    campaign.provider.received(1500, async || {}).await;
    let mut last = 0;
    look(&other, &mailing, &mut last).await;
    campaign.kill(&mut one.process);
    let counts = closed(&other, &mailing, last).await;
    assert_eq!(counts["sent"], 6000, "{counts}");
    campaign.check(&mailing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_keep_a_channels_rate_together_while_one_after_another_is_killed_and_restarted() {
    // more than are sent: on a busy machine a start takes as long as thousands of messages
    const CLIENTS: usize = 20_000;
    // short lanes, so that two nodes do not hold the whole mailing before the third starts
    let settings = [
        PATIENT,
        ("RATE_LIMIT_PER_CHANNEL", "400"),
        ("DELIVERY_PAGE_SIZE", "100"),
        ("DELIVERY_LANE_CAPACITY", "200"),
    ];
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "20ms"], &settings).await;
    let mut nodes = [campaign.serve().await, campaign.serve().await, campaign.serve().await];
    let mailing = mail(&nodes[0], CLIENTS, WINDOW).await;
    let mut last = 0;
    for killed in 0..2 {
        let watcher = &nodes[2];
        campaign
            .provider
            .received(800 * (killed + 1), async || look(watcher, &mailing, &mut last).await)
            .await;
        for node in &nodes {
            takes_part(node).await;
        }
        campaign.kill(&mut nodes[killed].process);
        nodes[killed] = campaign.serve().await;
    }
    for node in &nodes {
        takes_part(node).await;
    }
    nodes[2].post(&format!("/mailings/{mailing}/cancel"), json!({})).await;
    let counts = closed(&nodes[2], &mailing, last).await;
    assert_eq!(counts["failed"], 0, "{counts}");
    campaign.check(&mailing).await;
}

/// Waits until this node has sent a message.
async fn takes_part(node: &Server) {
    let began = Instant::now();
    while node.metric(SENT).await == 0.0 {
        assert!(began.elapsed() < PATIENCE, "it sends nothing: {}", node.process.log());
        tokio::time::sleep(LOOK).await;
    }
}

/// The final state of a message: its status, attempts, revision and end.
type End = (i16, i16, i16, Option<Timestamp>);

/// Reads the final states of all ended messages.
async fn ends(campaign: &Campaign) -> HashMap<MessageId, End> {
    let rows =
        campaign.read(|c| {
            let state = (message::status, message::attempts, message::revision, message::finished_at);
            Ok(message::table
                .filter(message::finished_at.is_not_null())
                .select((message::id, state))
                .load::<(MessageId, End)>(c)?)
        });
    rows.await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_frozen_for_longer_than_its_node_lease_overwrites_nothing_and_sends_again() {
    let faults = ["--latency", "100ms", "--error-rate", "0.05"];
    let mut campaign = Campaign::new(Database::Postgres, &faults, &[PATIENT]).await;
    let (mut frozen, mut other) = (campaign.serve().await, campaign.serve().await);
    let mailing = mail(&other, 8000, WINDOW).await;
    let mut last = 0;
    campaign.provider.received(1000, async || look(&other, &mailing, &mut last).await).await;
    frozen.process.freeze();
    campaign.interrupted(Interruption::Lost);
    other.process.said(|log| log.contains("lease taken over")).await;
    campaign.provider.received(4500, async || look(&other, &mailing, &mut last).await).await;

    let before = ends(&campaign).await;
    campaign.interrupted(Interruption::Woke);
    frozen.process.thaw();
    frozen.process.said(|log| log.contains("this node was declared dead")).await;
    let sent = frozen.metric(SENT).await;
    closed(&other, &mailing, last).await;
    let after = ends(&campaign).await;
    for (id, end) in before {
        assert_eq!(after.get(&id), Some(&end), "{id} was final, and was overwritten");
    }
    let since = frozen.metric(SENT).await - sent;
    assert!(since > 100.0, "it sends again: {since}");
    campaign.check(&mailing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_frozen_in_a_transaction_blocks_the_others_for_seconds_only() {
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "20ms"], &[PATIENT]).await;
    let mut other = campaign.serve().await;
    // it locks the mailing's row then, which every node needs to plan or finalize the mailing
    let mut frozen = campaign.serve_with(&[("FANFARE_FAILPOINT", "plan-before-commit:2=stop")], None).await;
    let mailing = mail(&other, 4000, WINDOW).await;
    frozen.process.said(|log| log.contains("plan-before-commit")).await;
    campaign.interrupted(Interruption::Lost);
    let counts = closed(&other, &mailing, 0).await;
    assert_eq!(counts["sent"], 4000, "{counts}");
    other.process.said(|log| log.contains("lease taken over")).await;

    campaign.interrupted(Interruption::Woke);
    frozen.process.thaw();
    frozen.process.said(|log| log.contains("this node was declared dead")).await;
    campaign.check(&mailing).await;
}
