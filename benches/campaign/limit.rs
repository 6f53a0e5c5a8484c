//! The limit: the requests that the service would send, sent in a loop with no database and no engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// The text of every mailing: with placeholders, as most have them.
pub const TEXT: &str = "Dear {{ name }}, our shop in {{ city }} is open again.";

/// As long as the service would wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// To whom, and what the text's placeholders stand for.
pub type Recipient = (u64, &'static str, &'static str);

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    phone: u64,
    text: &'a str,
}

#[derive(Deserialize)]
struct Reply {
    code: i64,
}

/// The request for one message, the same as the service's: a test compares the two byte by byte.
pub fn request(
    client: &reqwest::Client,
    base: &str,
    id: &str,
    (phone, name, city): Recipient,
) -> reqwest::RequestBuilder {
    let text = TEXT.replace("{{ name }}", name).replace("{{ city }}", city);
    client.post(format!("{base}/v1/send/{id}")).header("idempotency-key", id).json(&Body {
        id,
        phone,
        text: &text,
    })
}

/// Sends one message to each, so many at once; answers how many were taken.
pub async fn send_all(
    client: reqwest::Client,
    base: &str,
    recipients: Arc<[Recipient]>,
    in_flight: usize,
) -> Result<u64, String> {
    let next = Arc::new(AtomicUsize::new(0));
    let base: Arc<str> = base.into();
    let mut senders = JoinSet::new();
    for _ in 0..in_flight {
        let (client, base) = (client.clone(), Arc::clone(&base));
        let (recipients, next) = (Arc::clone(&recipients), Arc::clone(&next));
        senders.spawn(async move {
            let mut taken = 0_u64;
            while let Some(recipient) = recipients.get(next.fetch_add(1, Ordering::Relaxed)) {
                let id = uuid::Uuid::now_v7().to_string();
                let exchange = exchange(request(&client, &base, &id, *recipient));
                let reply = tokio::time::timeout(TIMEOUT, exchange).await.map_err(|e| e.to_string())?;
                taken += u64::from(reply?.code == 0);
            }
            Ok::<_, String>(taken)
        });
    }
    let mut taken = 0;
    while let Some(sender) = senders.join_next().await {
        taken += sender.map_err(|e| e.to_string())??;
    }
    Ok(taken)
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Reply, String> {
    let response = request.send().await.and_then(reqwest::Response::error_for_status);
    let body = response.map_err(|e| e.to_string())?.bytes().await.map_err(|e| e.to_string())?;
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}
