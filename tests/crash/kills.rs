//! Kills in the middle of a mailing.

use std::collections::HashMap;
use std::time::Duration;

use fanfare::clock::Clock;
use uuid::Uuid;

use crate::campaign::{AT_STAKE, Campaign, closed, look, mail};
use crate::process::Request;

const WINDOW: Duration = Duration::from_secs(600);

/// Kills the service at random moments while it sends `clients` messages, and starts it again each time. Answers what
/// the provider received, and for each kill when it was and when the service was there again.
async fn kill_and_restart(
    campaign: &mut Campaign,
    clients: usize,
    kills: usize,
) -> (Vec<Request>, Vec<(i64, i64)>) {
    let mut killed = Vec::new();
    let mut server = campaign.serve().await;
    let mailing = mail(&server, clients, WINDOW).await;
    let mut last = 0;
    for kill in 0..kills {
        // a random moment of each stretch but the last
        let stretch = clients / (kills + 1);
        let chance = usize::try_from(Uuid::new_v4().as_u128() % 1_000_000).expect("a number");
        let moment = stretch * kill + stretch / 4 + chance * stretch / 2_000_000;
        campaign.provider.received(moment, async || look(&server, &mailing, &mut last).await).await;
        server.process.kill();
        let at = Clock::System.now().micros();
        server = campaign.serve().await;
        killed.push((at, Clock::System.now().micros()));
        look(&server, &mailing, &mut last).await;
        assert!(last < i64::try_from(clients).expect("a number"), "it was killed in the middle");
    }
    let counts = closed(&server, &mailing, last).await;
    (campaign.check(&mailing, &counts, clients, kills * AT_STAKE).await, killed)
}

crate::on_each_database! {
    async fn five_kills_lose_nobody_and_repeat_at_most_what_was_in_flight(kind: Database) {
        let mut campaign = Campaign::new(kind, &[], &[]).await;
        kill_and_restart(&mut campaign, 20_000, 5).await;
    }
}

crate::on_each_database! {
    async fn kills_on_top_of_a_faulty_provider_lose_nobody_and_keep_the_gaps_between_attempts(kind: Database) {
        let mut campaign = Campaign::new(kind, &["--error-rate", "0.2", "--drop-rate", "0.01"], &[]).await;
        let (requests, killed) = kill_and_restart(&mut campaign, 6000, 3).await;
        let mut attempts: HashMap<&str, Vec<&Request>> = HashMap::new();
        requests.iter().for_each(|request| attempts.entry(&request.id).or_default().push(request));
        let mut retried = 0;
        for attempts in attempts.values() {
            let mut number = 0;
            for pair in attempts.windows(2) {
                let (first, second) = (pair[0].at_us, pair[1].at_us);
                // an attempt that a kill kept from being recorded counts for nothing, and is made again at once; the
                // provider may read it from its socket only after the kill
                if killed.iter().any(|(at, again)| first <= *again && *at <= second) {
                    continue;
                }
                let seconds = 1 << number;
                assert!(second - first >= seconds * 1_000_000, "attempt {number}: {attempts:?}");
                number += 1;
                retried += 1;
            }
            assert!(number <= 3, "no more than three are made again: {attempts:?}");
        }
        assert!(retried > 300, "the faults were met: {retried}");
    }
}
