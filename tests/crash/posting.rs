//! Callers of the API that repeat each request, under the same key, until they get a response, and the checks of their
//! notifications at the end, after any number of crashes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use fanfare::clock::Clock;
use fanfare::db::schema::message;
use fanfare::db::types::MessageId;
use fanfare::kinds::MessageStatus;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::crash::campaign::Campaign;
use crate::process::Server;
use crate::support::api::LOOK;

/// The number of concurrent callers.
const CALLERS: usize = 8;
/// The time until the provider reads a request on a busy machine, in microseconds.
const ON_THE_WAY: i64 = 1_000_000;

/// An accepted notification.
#[derive(Debug)]
struct Told {
    id: String,
    /// The earliest time of an attempt, in microseconds, as all times here.
    from: i64,
    /// The time from which no attempt may begin.
    until: i64,
    is_cancelled: bool,
}

/// Repeats `ask` at the service's present address until it returns a value. If the connection is refused, the service
/// is dead and this waits for its new address: another test may use the old port by then, and would get foreign
/// requests.
pub async fn until_answered<T, F: Future<Output = reqwest::Result<Option<T>>>>(
    base: &watch::Receiver<String>,
    ask: impl Fn(String) -> F,
) -> T {
    let mut base = base.clone();
    loop {
        let address = base.borrow_and_update().clone();
        let answer = tokio::select! {
            answer = ask(address) => answer,
            Ok(()) = base.changed() => Ok(None),
        };
        match answer {
            Ok(Some(answer)) => return answer,
            Err(error) if error.is_connect() => base.changed().await.expect("a new address"),
            // unavailable, or the connection was closed
            Ok(None) | Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Concurrent callers.
pub struct Posting {
    base: watch::Sender<String>,
    answered: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Vec<Told>>>,
}

impl Posting {
    /// Starts callers that send `each` requests, one after the other.
    pub fn start(server: &Server, each: usize) -> Self {
        let (base, seen) = watch::channel(server.base.clone());
        let answered = Arc::new(AtomicUsize::new(0));
        let caller = |_| {
            let http = server.http.clone();
            let caller = Caller { http, base: seen.clone(), answered: Arc::clone(&answered) };
            tokio::spawn(async move {
                let mut told = Vec::new();
                for number in 0..each {
                    told.extend(caller.ask(number).await);
                }
                told
            })
        };
        let callers = (0..CALLERS).map(caller).collect();
        Self { base, answered, callers }
    }

    /// Switches the callers to this server.
    pub fn goes_on_at(&self, server: &Server) {
        self.base.send_replace(server.base.clone());
    }

    /// Waits until `count` requests got a response.
    pub async fn answered(&self, count: usize) {
        while self.answered.load(Ordering::Acquire) < count {
            assert!(self.callers.iter().any(|caller| !caller.is_finished()), "fewer than {count} were asked");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until all requests got a response and all notifications ended, and checks the contract.
    pub async fn check(self, campaign: &Campaign, server: &Server) {
        let mut told = Vec::new();
        for caller in self.callers {
            told.extend(caller.await.expect("a caller"));
        }
        campaign.all_final(server, "/notifications").await;
        let rows: Vec<(MessageId, i16, i16)> = campaign
            .read(|c| Ok(message::table.select((message::id, message::status, message::attempts)).load(c)?))
            .await;
        let rows: HashMap<String, (MessageStatus, i16)> = rows
            .into_iter()
            .map(|(id, status, attempts)| {
                (id.to_string(), (MessageStatus::from_code(status).expect("a status"), attempts))
            })
            .collect();
        let ids: HashSet<&str> = told.iter().map(|told| told.id.as_str()).collect();
        assert_eq!(ids.len(), told.len(), "each notification has its own id");
        assert_eq!(rows.len(), ids.len(), "each notification is stored once");

        let requests = campaign.provider.requests();
        let mut received: HashMap<&str, Vec<i64>> = HashMap::new();
        for request in &requests {
            assert_eq!(request.key.as_deref(), Some(request.id.as_str()));
            received.entry(&request.id).or_default().push(request.at_us);
        }
        assert!(received.keys().all(|id| ids.contains(id)), "only accepted notifications were received");
        let mut repeated = 0;
        for told in &told {
            let (status, attempts) = rows.get(&told.id).expect("a row");
            let times = received.remove(told.id.as_str()).unwrap_or_default();
            match status {
                MessageStatus::Sent => assert!(!times.is_empty() && *attempts == 1, "{told:?}"),
                MessageStatus::Expired => assert!(told.until < i64::MAX, "{told:?}"),
                MessageStatus::Cancelled => assert!(told.is_cancelled && times.is_empty(), "{told:?}"),
                other => panic!("{told:?} is {other}"),
            }
            assert!(!told.is_cancelled || *status == MessageStatus::Cancelled, "{told:?} is {status}");
            for at in &times {
                assert!(*at >= told.from && *at < told.until.saturating_add(ON_THE_WAY), "{told:?}, at {at}");
            }
            repeated += times.len().saturating_sub(1);
        }
        let (deaths, at_stake) = (campaign.deaths(), campaign.limits().at_stake);
        println!(
            "{} notifications, {} requests, {deaths} deaths, {repeated} repeated",
            told.len(),
            requests.len()
        );
        assert!(
            repeated <= deaths * at_stake,
            "{repeated} repeated by {deaths} deaths with {at_stake} at stake"
        );
    }
}

struct Caller {
    http: reqwest::Client,
    base: watch::Receiver<String>,
    answered: Arc<AtomicUsize>,
}

impl Caller {
    /// Repeats a request until the response is not `503`.
    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let key = Uuid::new_v4().to_string().parse().expect("a header");
        let headers = HeaderMap::from_iter([("idempotency-key".parse().expect("a name"), key)]);
        let ask = |base: String| {
            let request =
                self.http.request(method.parse().expect("a method"), format!("{base}/api/v1{path}"));
            let request = request.headers(headers.clone());
            let request = if let Some(body) = body { request.json(body) } else { request };
            async move {
                let answer = request.send().await?;
                let status = answer.status().as_u16();
                if status == 503 {
                    return Ok(None);
                }
                let text = answer.text().await?;
                Ok(Some((status, serde_json::from_str(&text).unwrap_or_default())))
            }
        };
        until_answered(&self.base, ask).await
    }

    async fn create(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body)).await;
        assert_eq!(status, 201, "{answer}");
        self.answered.fetch_add(1, Ordering::AcqRel);
        answer
    }

    /// Posts one of: an immediate notification, a scheduled one, one that expires, a batch, or one that it cancels
    /// again.
    async fn ask(&self, number: usize) -> Vec<Told> {
        let (now, text) = (Clock::System.now().micros(), format!("number {number}"));
        let mut body = json!({"channel": "in_app", "recipient": "user-1", "content": text});
        let told = |answer: &Value, from: i64, until: i64, is_cancelled: bool| Told {
            id: answer["id"].as_str().expect("an id").to_owned(),
            from,
            until,
            is_cancelled,
        };
        let later = |millis: u64| Clock::System.now().plus(Duration::from_millis(millis));
        match number % 5 {
            0 => vec![told(&self.create("/notifications", &body).await, now, i64::MAX, false)],
            1 => {
                let from = later(300);
                body["scheduled_at"] = json!(from.to_string());
                vec![told(&self.create("/notifications", &body).await, from.micros(), i64::MAX, false)]
            }
            2 => {
                // long enough for a restart of the service in between: a request whose response was lost is repeated
                let until = later(20_000);
                body["expires_at"] = json!(until.to_string());
                vec![told(&self.create("/notifications", &body).await, now, until.micros(), false)]
            }
            3 => {
                let batch = json!({"notifications": vec![body; 5]});
                let answer = self.create("/notifications/batch", &batch).await;
                let items = answer["items"].as_array().expect("items");
                items.iter().map(|item| told(item, now, i64::MAX, false)).collect()
            }
            _ => {
                let from = later(600_000);
                body["scheduled_at"] = json!(from.to_string());
                let told = told(&self.create("/notifications", &body).await, from.micros(), i64::MAX, true);
                let (status, answer) =
                    self.call("DELETE", &format!("/notifications/{}", told.id), None).await;
                // a conflict if the response to the first request was lost
                assert!(status == 204 || status == 409, "{status}: {answer}");
                vec![told]
            }
        }
    }
}
