//! A replay of many dead letters is killed half way, and continues after the next start: each dead letter is replayed
//! once.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;
use fanfare::db::schema::replayed;
use fanfare::db::types::MessageId;
use serde_json::{Value, json};

use crate::crash::campaign::{Campaign, import};
use crate::process::Server;
use crate::support::after;
use crate::support::checker::Limits;

/// The number of outcomes in a group: a crash may repeat few messages compared with the dead letters.
const RECORD_BATCH: usize = 100;
const WINDOW: Duration = Duration::from_secs(600);

/// Returns the number of dead letters. `make crash-test` sets ten thousand.
fn letters() -> usize {
    std::env::var("FANFARE_TEST_LETTERS").map_or(3000, |text| text.parse().expect("a number"))
}

/// Sends a mailing of which all messages fail, and then repairs the provider. Returns the mailing's id.
pub async fn fail(campaign: &Campaign, server: &Server, count: usize) -> String {
    import(server, count).await;
    set_faults(campaign, json!({"permanent_rate": 1.0})).await;
    let body = json!({"text": "hello", "filter": "vip", "ends_at": after(WINDOW)});
    let mailing = server.post("/mailings", body).await["id"].as_str().expect("an id").to_owned();
    let path = format!("/mailings/{mailing}");
    let over = server.wait_for(&path, |mailing| !mailing["finished_at"].is_null()).await;
    assert_eq!(over["counts"]["failed"], count, "{over}");
    set_faults(campaign, json!({})).await;
    mailing
}

async fn set_faults(campaign: &Campaign, faults: Value) {
    let client = fanfare::egress::client().expect("a client");
    let answer = client.put(format!("{}/faults", campaign.provider.base)).json(&faults).send().await;
    assert!(answer.expect("an answer").status().is_success());
}

/// Starts a replay of all dead letters. Returns its path.
pub async fn begin(server: &Server, rate: f64) -> String {
    let body = json!({"filter": {"class": "rejected"}, "rate_per_second": rate});
    let replay = server.post("/dead-letters/replays", body).await;
    format!("/dead-letters/replays/{}", replay["id"].as_str().expect("an id"))
}

/// Waits for the end of the replay and of the mailing, and compares the provider's requests with the replayed messages.
/// Only crashes may cause additional repeats.
pub async fn check(campaign: &Campaign, server: &Server, (mailing, replay): (&str, &str), count: usize) {
    let ended = server.wait_for(replay, |replay| replay["status"] == "finished").await;
    assert_eq!((&ended["replayed"], &ended["refused"]), (&json!(count), &json!(0)), "{ended}");
    let path = format!("/mailings/{mailing}");
    let over = server.wait_for(&path, |mailing| !mailing["finished_at"].is_null()).await;
    assert_eq!((&over["counts"]["sent"], &over["counts"]["total"]), (&json!(count), &json!(count)), "{over}");

    let notes: Vec<(MessageId, i16)> = campaign
        .read(|c| Ok(replayed::table.select((replayed::message_id, replayed::number)).load(c)?))
        .await;
    assert_eq!(notes.len(), count, "each is replayed once");
    assert!(notes.iter().all(|(_, number)| *number == 1));
    let mut received: HashMap<String, usize> = HashMap::new();
    for request in campaign.provider.requests().into_iter().filter(|request| request.outcome == "received") {
        *received.entry(request.id).or_default() += 1;
    }
    assert_eq!(received.len(), count, "each arrived");
    let again: usize = received.values().map(|times| times - 1).sum();
    let at_stake = campaign.limits().at_stake * campaign.deaths();
    println!("{count} replayed, {again} of them sent again after {} deaths", campaign.deaths());
    assert!(again <= at_stake, "{again} were sent again, where {at_stake} may be");
    campaign.check(mailing).await;
}

crate::on_each_database! {
    async fn a_replay_of_thousands_is_killed_half_way_and_finished_after_the_next_start(kind: Database) {
        let (letters, record_batch) = (letters(), RECORD_BATCH.to_string());
        let mut campaign = Campaign::new(kind, &[], &[("DELIVERY_RECORD_BATCH", record_batch.as_str())]).await;
        let mut server = campaign.serve().await;
        let mailing = fail(&campaign, &server, letters).await;
        let replay = begin(&server, 1000.0).await;
        let half = i64::try_from(letters / 2).expect("small");
        let seen = server.wait_for(&replay, |replay| replay["replayed"].as_i64() >= Some(half)).await;
        campaign.kill(&mut server.process);
        assert_eq!(seen["status"], "running", "{seen}");

        let server = campaign.serve().await;
        let later = server.get(&replay).await;
        assert!(later["replayed"].as_i64() >= seen["replayed"].as_i64(), "{later}");
        check(&campaign, &server, (&mailing, &replay), letters).await;
    }
}

#[test]
fn a_crash_may_repeat_few_messages_compared_with_the_dead_letters() {
    // otherwise the check above would be too weak
    assert!(Limits::at_stake(64, RECORD_BATCH) < letters() / 5);
}
