//! The creation of clients, one by one and from CSV.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fanfare::demo::generator::{self, GeneratedClient, Generator};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::answers::milliseconds;
use crate::api::Api;
use crate::args::Kind;
use crate::database::{Database, SEED};
use crate::process::{Sandbox, Service};
use crate::statistics::Figure;
use crate::{Bench, Failure, Result};

/// Concurrent requests.
const CONNECTIONS: usize = 64;
/// Clients created one by one.
const CREATED: u64 = 10_000;

#[derive(Debug, Clone, Default)]
pub struct Ingest {
    /// The rate of clients created one by one.
    pub requests_per_second: Figure,
    /// The milliseconds of each of these requests, of all rounds together.
    pub request: Vec<f64>,
    pub rows_per_second: Figure,
}

pub async fn measure(bench: &Bench, kind: Kind, rows: u64, ingest: &mut Ingest) -> Result {
    let provider = bench.args.provider(Duration::ZERO);
    let sandbox = Sandbox::start(bench.directory(), provider).await?;
    let one_by_one = bench.empty_database(kind)?;
    let service =
        Service::start(bench.directory(), &one_by_one.url(), &sandbox.base, provider.in_flight).await?;
    let bodies: Arc<[Value]> = Generator::new(CREATED, SEED)?.map(|client| body(&client)).collect();
    let began = Instant::now();
    let took = create_all(&service.api, "/clients", bodies).await?;
    ingest.requests_per_second.0.push(CREATED as f64 / began.elapsed().as_secs_f64());
    ingest.request.extend(took);
    service.stop().await?;

    let from_csv: Database = bench.empty_database(kind)?;
    let service =
        Service::start(bench.directory(), &from_csv.url(), &sandbox.base, provider.in_flight).await?;
    // generated in advance, so that the generation is not measured
    let csv: Vec<u8> = generator::csv_chunks(rows, SEED)?.flatten().collect();
    let began = Instant::now();
    service.api.import(csv.into(), rows).await?;
    ingest.rows_per_second.0.push(rows as f64 / began.elapsed().as_secs_f64());
    service.stop().await
}

fn body(client: &GeneratedClient) -> Value {
    json!({
        "phone_number": client.phone_number.to_string(),
        "mobile_operator_code": client.mobile_operator_code.to_string(),
        "tag": client.tag,
        "timezone": client.timezone,
        "email": client.email,
        "external_id": client.external_id,
        "attributes": {"name": client.name, "city": client.city},
    })
}

/// Posts all bodies over concurrent connections and returns the milliseconds of each request.
pub async fn create_all(api: &Api, path: &'static str, bodies: Arc<[Value]>) -> Result<Vec<f64>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (api, bodies, next) = (api.clone(), Arc::clone(&bodies), Arc::clone(&next));
        callers.spawn(async move {
            let mut took = Vec::new();
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                let began = Instant::now();
                api.post(path, body).await?;
                took.push(milliseconds(began.elapsed()));
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut took = Vec::new();
    while let Some(caller) = callers.join_next().await {
        took.extend(caller??);
    }
    Ok(took)
}
