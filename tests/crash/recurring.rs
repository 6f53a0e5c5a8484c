//! Recurring requests across crashes: each of their times becomes exactly one occurrence.

use std::collections::HashSet;
use std::time::Duration;

use diesel::prelude::*;
use fanfare::clock::Clock;
use fanfare::db::schema::{recurring_request, request};
use fanfare::db::types::{ResourceId, Timestamp};
use fanfare::requests::model::RequestKind;
use serde_json::json;

use crate::crash::campaign::Campaign;
use crate::process::Server;
use crate::support::listener::Listener;
use crate::support::{Database, evidence};

/// The number of recurring requests: more than the timekeeper processes at once.
const COUNT: usize = 250;

/// Starts the target of the occurrences.
pub fn listener() -> Listener {
    Listener::start(|_, _| 200_u16).expect("a listener")
}

/// Creates a campaign whose requests may reach a server on this machine.
pub async fn campaign(kind: Database) -> Campaign {
    Campaign::new(kind, &[], &[("EGRESS_ALLOW", "127.0.0.0/8")]).await
}

/// Creates `count` yearly requests, each with its own path.
pub async fn make(server: &Server, listener: &Listener, count: usize) {
    for number in 0..count {
        let url = format!("{}/{number}", listener.base);
        server.post("/requests", json!({"cron": "@yearly", "request": {"url": url}})).await;
    }
}

/// Makes them due at this time, instead of at the new year.
pub async fn plan(campaign: &Campaign, at: Timestamp) {
    let db = evidence::open(&campaign.db.url).await.expect("a database");
    let work = move |c: &mut fanfare::db::AnyConnection| {
        Ok(diesel::update(recurring_request::table)
            .set(recurring_request::next_at.eq(Some(at)))
            .execute(c)?)
    };
    assert!(db.write(work).await.expect("a commit") > 0);
}

/// Waits until each has had exactly one occurrence, and is planned for the new year.
pub async fn check(campaign: &Campaign, server: &Server, listener: &Listener, count: usize) {
    let path = format!("/requests?status=sent&limit={}", count + 1);
    server.wait_for(&path, |list| list["items"].as_array().is_some_and(|items| items.len() >= count)).await;
    let now = Clock::System.now();
    let (parents, planned) = campaign
        .read(move |c| {
            let runs = request::table.filter(request::kind.eq(RequestKind::Run.code()));
            let parents: Vec<Option<ResourceId>> = runs.select(request::parent_id).load(c)?;
            let planned = recurring_request::table.filter(recurring_request::next_at.gt(now)).count();
            Ok((parents, planned.get_result::<i64>(c)?))
        })
        .await;
    assert_eq!((parents.len(), parents.iter().collect::<HashSet<_>>().len()), (count, count), "each once");
    assert_eq!(usize::try_from(planned).expect("a count"), count);
    let paths: HashSet<String> = listener.arrivals().into_iter().map(|arrival| arrival.path).collect();
    assert_eq!(paths.len(), count, "each arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_nodes_that_create_occurrences_is_killed() {
    let mut campaign = campaign(Database::Postgres).await;
    let listener = listener();
    let mut first = campaign.serve().await;
    make(&first, &listener, COUNT).await;
    let (second, third) = (campaign.serve().await, campaign.serve().await);
    plan(&campaign, Clock::System.now().plus(Duration::from_millis(300))).await;
    // in the middle of it, on most machines
    first
        .wait_for("/requests?status=sent", |list| {
            list["items"].as_array().is_some_and(|items| !items.is_empty())
        })
        .await;
    campaign.kill(&mut first.process);
    check(&campaign, &second, &listener, COUNT).await;
    drop(third);
}
