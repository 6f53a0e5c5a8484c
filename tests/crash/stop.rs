//! SIGTERM in the middle.

use std::time::{Duration, Instant};

use crate::campaign::{Campaign, closed, mail};

crate::on_each_database! {
    async fn sigterm_waits_for_a_slow_provider_and_nothing_is_repeated(kind: Database) {
        let mut campaign = Campaign::new(kind, &["--latency", "300ms"], &[]).await;
        let mut server = campaign.serve().await;
        let mailing = mail(&server, 500, Duration::from_secs(600)).await;
        campaign.provider.received(100, async || {}).await;
        let began = Instant::now();
        server.process.terminate();
        let status = server.process.ended().await;
        assert_eq!(status.code(), Some(0), "{}", server.process.log());
        assert!(began.elapsed() < Duration::from_secs(5), "what was in flight took 300 ms: {:?}", began.elapsed());
        let before = campaign.provider.requests().len();
        assert!(before < 500, "it was stopped in the middle");

        let server = campaign.serve().await;
        let counts = closed(&server, &mailing, 0).await;
        assert_eq!(counts["sent"], 500, "{counts}");
        campaign.check(&mailing).await;
    }
}
