//! The limit: the service's requests, sent in a loop without a database and engine. The same loop also measures the
//! service's own adapter.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare::channels::sms::Sms;
use fanfare::channels::{Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use fanfare::db::types::MessageId;
use fanfare::egress;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// The text of every mailing, with placeholders as most texts have them.
pub const TEXT: &str = "Dear {{ name }}, our shop in {{ city }} is open again.";

/// The service's own timeout.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A recipient's phone and the values of the text's placeholders.
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

/// Builds the request for one message. It equals the service's: a test compares the two byte by byte.
pub fn request(
    client: &reqwest::Client,
    base: &str,
    id: &str,
    (phone, name, city): Recipient,
) -> reqwest::RequestBuilder {
    let text = text(name, city);
    client.post(format!("{base}/v1/send/{id}")).header("idempotency-key", id).json(&Body {
        id,
        phone,
        text: &text,
    })
}

/// Sends one message to each recipient, with `in_flight` at once, and returns the number of accepted messages.
async fn send_all<S, F>(recipients: Arc<[Recipient]>, in_flight: usize, send: S) -> Result<u64, String>
where
    S: Fn(Recipient) -> F + Clone + Send + 'static,
    F: Future<Output = Result<bool, String>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..in_flight {
        let (recipients, next, send) = (Arc::clone(&recipients), Arc::clone(&next), send.clone());
        senders.spawn(async move {
            let mut taken = 0_u64;
            while let Some(recipient) = recipients.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = tokio::time::timeout(TIMEOUT, send(*recipient)).await;
                taken += u64::from(answer.map_err(|e| e.to_string())??);
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

/// Sends with reqwest, the most common HTTP client in Rust.
pub async fn by_client(base: &str, recipients: Arc<[Recipient]>, in_flight: usize) -> Result<u64, String> {
    let client = egress::client().map_err(|e| e.to_string())?;
    let base: Arc<str> = base.into();
    send_all(recipients, in_flight, move |recipient| {
        let request = request(&client, &base, &MessageId::new().to_string(), recipient);
        async move { exchange(request).await.map(|reply| reply.code == 0) }
    })
    .await
}

/// Sends with the service's own adapter.
pub async fn by_adapter(base: &str, recipients: Arc<[Recipient]>, in_flight: usize) -> Result<u64, String> {
    let sms = Arc::new(Sms::new(base, None, Clock::System).map_err(|e| e.to_string())?);
    send_all(recipients, in_flight, move |(phone, name, city)| {
        let sms = Arc::clone(&sms);
        let delivery = Delivery::to(phone.to_string(), text(name, city));
        async move {
            match sms.send(delivery).await.verdict {
                DeliveryResult::Delivered => Ok(true),
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await
}

fn text(name: &str, city: &str) -> String {
    TEXT.replace("{{ name }}", name).replace("{{ city }}", city)
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Reply, String> {
    let response = request.send().await.and_then(reqwest::Response::error_for_status);
    let body = response.map_err(|e| e.to_string())?.bytes().await.map_err(|e| e.to_string())?;
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}
