//! Two services on one database.

use std::time::Duration;

use crate::campaign::{AT_STAKE, BINARY, Campaign, closed, look, mail};
use crate::process::{Launch, Process};
use crate::support::Database;

const WINDOW: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_one_sqlite_file_refuses_to_start_and_harms_nothing() {
    let mut campaign = Campaign::new(Database::Sqlite, &["--latency", "20ms"], &[]).await;
    let server = campaign.serve().await;
    let mailing = mail(&server, 2000, WINDOW).await;
    campaign.provider.received(100, async || {}).await;
    let mut env = campaign.env();
    env.push(("HTTP_PORT", "0"));
    let launch =
        Launch { binary: BINARY, dir: campaign.db.dir(), name: "second", env: &env, file_limit: None };
    let mut second = Process::spawn(&launch, &["serve"]);
    let status = second.ended().await;
    assert_eq!(status.code(), Some(1));
    let said = second.log();
    assert!(said.contains("another fanfare serves this database"), "{said}");
    let counts = closed(&server, &mailing, 0).await;
    campaign.check(&mailing, &counts, 2000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_on_one_postgres_share_a_mailing_and_nobody_gets_it_twice() {
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "20ms"], &[]).await;
    let (one, other) = (campaign.serve().await, campaign.serve().await);
    let mailing = mail(&one, 6000, WINDOW).await;
    let mut last = 0;
    campaign.provider.received(2000, async || look(&other, &mailing, &mut last).await).await;
    let counts = closed(&one, &mailing, last).await;
    assert_eq!(counts["sent"], 6000, "{counts}");
    campaign.check(&mailing, &counts, 6000, 0).await;
    for server in [&one, &other] {
        let sent = server.metric("fanfare_messages_sent_total").await;
        assert!(sent > 600.0, "both take part: {sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_of_two_services_is_killed_the_other_finishes_the_mailing() {
    let mut campaign = Campaign::new(Database::Postgres, &["--latency", "20ms"], &[]).await;
    let (mut one, other) = (campaign.serve().await, campaign.serve().await);
    let mailing = mail(&one, 6000, WINDOW).await;
    campaign.provider.received(1500, async || {}).await;
    let mut last = 0;
    look(&other, &mailing, &mut last).await;
    one.process.kill();
    let counts = closed(&other, &mailing, last).await;
    assert_eq!(counts["sent"], 6000, "{counts}");
    campaign.check(&mailing, &counts, 6000, AT_STAKE).await;
}
