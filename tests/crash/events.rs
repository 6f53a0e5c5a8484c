//! A spike of events across kills: each accepted event is stored once, with its message, which is sent once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::prelude::*;
use fanfare::db::schema::{event, message, notification};
use fanfare::db::types::EventId;
use fanfare::kinds::MessageStatus;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::crash::campaign::Campaign;
use crate::crash::posting::until_answered;
use crate::process::Server;
use crate::support::api::LOOK;

/// The number of concurrent callers.
const CALLERS: usize = 16;
const KILLS: usize = 4;

/// Small leases and groups, so that a kill finds several.
pub const SETTINGS: &[(&str, &str)] =
    &[("DELIVERY_PAGE_SIZE", "50"), ("DELIVERY_RECORD_BATCH", "20"), ("SMS_WORKERS", "16")];

/// Creates a route from `order.*` to a text message.
pub async fn route(server: &Server) {
    server.post("/templates", json!({"name": "order", "channel": "sms", "text": "Order {{ order }}"})).await;
    let deliveries = json!([{"channel": "sms", "template": "order"}]);
    server.post("/routes", json!({"event": "order.*", "deliveries": deliveries})).await;
}

/// Sends an event until it is accepted. Returns its id.
async fn send(http: &reqwest::Client, base: &watch::Receiver<String>, key: &str) -> String {
    let body =
        json!({"event": "order.shipped", "id": key, "payload": {"order": key, "phone": "+79031234567"}});
    let ask = |base: String| {
        let request = http.post(format!("{base}/api/v1/events")).json(&body);
        async move {
            let answer = request.send().await?;
            if answer.status() != 202 {
                return Ok(None);
            }
            let answer: serde_json::Value = answer.json().await?;
            Ok(Some(answer["event_id"].as_str().expect("an id").to_owned()))
        }
    };
    until_answered(base, ask).await
}

/// Concurrent callers. Each sends its events one after the other, and repeats each until it is accepted.
pub struct Spike {
    base: watch::Sender<String>,
    answered: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Vec<(String, String)>>>,
}

impl Spike {
    /// Starts callers that send `each` events, which have a route.
    pub async fn start(server: &Server, each: usize) -> Self {
        route(server).await;
        let (base, seen) = watch::channel(server.base.clone());
        let answered = Arc::new(AtomicUsize::new(0));
        let caller = |caller: usize| {
            let (http, seen, answered) = (server.http.clone(), seen.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut told = Vec::new();
                for number in 0..each {
                    let key = format!("{caller}-{number}");
                    let id = send(&http, &seen, &key).await;
                    answered.fetch_add(1, Ordering::AcqRel);
                    told.push((key, id));
                }
                told
            })
        };
        Self { callers: (0..CALLERS).map(caller).collect(), base, answered }
    }

    /// Waits until `count` events were accepted.
    async fn answered(&self, count: usize) {
        while self.answered.load(Ordering::Acquire) < count {
            assert!(self.callers.iter().any(|caller| !caller.is_finished()), "fewer than {count} were sent");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Switches the callers to this server.
    pub fn goes_on_at(&self, server: &Server) {
        self.base.send_replace(server.base.clone());
    }

    /// Waits until all events are accepted and all messages are sent, and checks the contract.
    pub async fn check(self, campaign: &Campaign, server: &Server) {
        let mut told: HashMap<String, String> = HashMap::new();
        for caller in self.callers {
            told.extend(caller.await.expect("a caller"));
        }
        campaign.all_final(server, "/notifications").await;
        let events: Vec<(EventId, Option<String>)> =
            campaign.read(|c| Ok(event::table.select((event::id, event::key)).load(c)?)).await;
        let stored: HashMap<String, String> =
            events.iter().map(|(id, key)| (key.clone().expect("a key"), id.to_string())).collect();
        assert_eq!(stored.len(), events.len(), "each event is stored once");
        assert_eq!(stored, told, "exactly the accepted events are stored");
        let messages: Vec<(Option<EventId>, i16)> = campaign
            .read(|c| {
                let of = notification::table.on(notification::message_id.eq(message::id));
                let joined = message::table.inner_join(of);
                Ok(joined.select((notification::event_id, message::status)).load(c)?)
            })
            .await;
        let caused: HashSet<EventId> = messages.iter().filter_map(|(event, _)| *event).collect();
        assert_eq!((messages.len(), caused.len()), (events.len(), events.len()), "one message for each");
        assert!(messages.iter().all(|(_, status)| *status == MessageStatus::Sent.code()));
        let requests = campaign.provider.requests();
        let received: HashSet<&str> = requests.iter().map(|request| request.id.as_str()).collect();
        assert_eq!(received.len(), events.len(), "each message was received");
        let repeated = requests.len() - received.len();
        let (deaths, at_stake) = (campaign.deaths(), campaign.limits().at_stake);
        println!(
            "{} events, {} requests, {deaths} deaths, {repeated} repeated",
            events.len(),
            requests.len()
        );
        assert!(
            repeated <= deaths * at_stake,
            "{repeated} repeated by {deaths} deaths with {at_stake} at stake"
        );
    }
}

crate::on_each_database! {
    async fn kills_in_a_spike_lose_and_duplicate_no_event(kind: Database) {
        const EACH: usize = 150;
        let mut campaign = Campaign::new(kind, &["--latency", "5ms"], SETTINGS).await;
        let mut server = campaign.serve().await;
        let spike = Spike::start(&server, EACH).await;
        for kill in 1..=KILLS {
            spike.answered(kill * CALLERS * EACH / (KILLS + 1)).await;
            campaign.kill(&mut server.process);
            server = campaign.serve().await;
            spike.goes_on_at(&server);
        }
        spike.check(&campaign, &server).await;
    }
}
