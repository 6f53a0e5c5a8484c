//! The accuracy of a channel's rate limit, by the provider's log.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::json;

use crate::args::{Kind, Provider, RATED};
use crate::database::Database;
use crate::machine;
use crate::process::{Sandbox, Service};
use crate::statistics::{mean_rate, most_in_a_second};
use crate::{Bench, Result};

/// The span over which the mean is taken.
const SPAN: Duration = Duration::from_secs(10);
/// The time from the first message until the service is killed, and from the kill until the end.
const HALF: Duration = Duration::from_secs(3);
/// The pause between two reads of the arrivals.
const LOOK: Duration = Duration::from_millis(100);
/// A mailing that takes longer than its span by this much is stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// The percentage by which the mean may differ from the limit.
const ERROR: f64 = 1.0;

/// A rate limit and the nodes that share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub kind: Kind,
    pub is_killed: bool,
    pub nodes: usize,
    /// The limit in messages a second.
    pub limit: u32,
}

/// The arrivals of a case.
#[derive(Debug, Clone)]
pub struct Held {
    pub messages: usize,
    /// The mean in messages a second, or `None` if the service was killed in between.
    pub mean: Option<f64>,
    pub most: usize,
    /// The percentage of the machine used by unrelated processes.
    pub others: f64,
}

pub type Rates = BTreeMap<Case, Held>;

impl Case {
    pub fn name(&self) -> String {
        format!("{}{}", self.kind.name(), if self.is_killed { ", kill -9" } else { "" })
    }

    /// Returns the number of messages allowed in any second.
    pub fn allowed(&self) -> f64 {
        1.03 * f64::from(self.limit) + 1.0
    }
}

impl Held {
    /// Returns the percentage by which the mean differs from the limit.
    pub fn error(&self, case: &Case) -> Option<f64> {
        self.mean.map(|mean| (mean / f64::from(case.limit) - 1.0) * 100.0)
    }

    pub fn holds(&self, case: &Case) -> bool {
        self.most as f64 <= case.allowed() && self.error(case).is_none_or(|error| error.abs() <= ERROR)
    }
}

/// Returns the groups of cases that are measured at the same time. Slow rates do not disturb each other noticeably.
fn together(kind: Kind) -> Vec<Vec<Case>> {
    let case = |limit| Case { kind, is_killed: false, nodes: 1, limit };
    let of_two = |limit| vec![Case { nodes: 2, ..case(limit) }];
    match kind {
        Kind::Sqlite => vec![
            vec![case(1), case(10), case(100)],
            vec![case(1000)],
            vec![case(5000)],
            vec![Case { is_killed: true, ..case(1000) }],
        ],
        Kind::Postgres => vec![of_two(100), of_two(1000)],
    }
}

/// Measures each case once: every second of a thousand messages is a sample by itself.
pub async fn measure(bench: &Bench, kind: Kind) -> Result<Rates> {
    let mut rates = Rates::new();
    for cases in together(kind) {
        let limits: Vec<_> = cases.iter().map(|case| case.limit.to_string()).collect();
        bench.says(&format!("a limit of {} a second, {}", limits.join(", "), kind.name()));
        let before = Spent::read(bench, kind)?;
        let arrivals = try_join_all(cases.iter().map(|case| hold(bench, *case))).await?;
        let others = before.others(&Spent::read(bench, kind)?)?;
        for (case, times) in cases.into_iter().zip(arrivals) {
            let mean = if case.is_killed { None } else { mean_rate(&times, SPAN) };
            let held = Held { messages: times.len(), mean, most: most_in_a_second(&times), others };
            rates.insert(case, held);
        }
    }
    Ok(rates)
}

/// Sends at this limit for some seconds and returns the times of arrival in microseconds, in ascending order.
async fn hold(bench: &Bench, case: Case) -> Result<Vec<i64>> {
    let directory = tempfile::tempdir_in(bench.directory())?;
    let database = bench.template(case.kind, RATED)?.copy(directory.path())?;
    let provider = bench.args.provider(Duration::ZERO);
    let sandbox = Sandbox::start_logging(directory.path(), provider).await?;
    let mut nodes = Vec::new();
    for node in 0..case.nodes {
        let own = directory.path().join(format!("node-{node}"));
        std::fs::create_dir(&own)?;
        nodes.push(serve(&own, &database, &sandbox, (provider, case.limit)).await?);
    }
    let [first, ..] = nodes.as_mut_slice() else { return Err("no node was started".into()) };
    first.api.mail(json!({})).await?;
    if case.is_killed {
        lasts(&sandbox, HALF).await?;
        first.process.kill()?;
        *first = serve(&directory.path().join("node-0"), &database, &sandbox, (provider, case.limit)).await?;
        lasts(&sandbox, HALF * 2).await?;
    } else {
        lasts(&sandbox, SPAN).await?;
    }
    for node in nodes {
        if node.api.sent().await? == 0.0 {
            return Err("a node has sent nothing, so the rate was not shared".into());
        }
        node.stop().await?;
    }
    let receipts = sandbox.receipts()?;
    let distinct = receipts.iter().map(|receipt| &receipt.id).collect::<HashSet<_>>().len();
    if distinct != receipts.len() && !case.is_killed {
        return Err(format!("only {distinct} of {} messages were distinct", receipts.len()).into());
    }
    let mut times: Vec<i64> = receipts.iter().map(|receipt| receipt.at_us).collect();
    times.sort_unstable();
    Ok(times)
}

async fn serve(
    directory: &Path,
    database: &Database,
    sandbox: &Sandbox,
    (provider, limit): (Provider, u32),
) -> Result<Service> {
    Service::start_at_rate(directory, &database.url(), &sandbox.base, provider.in_flight, limit).await
}

/// Waits until the first and the last arrival are this far apart.
async fn lasts(sandbox: &Sandbox, span: Duration) -> Result {
    let began = Instant::now();
    while began.elapsed() < span + PATIENCE {
        let stats = sandbox.stats().await?;
        if let (Some(first), Some(last)) = (stats.first_at, stats.last_at)
            && u128::from(last - first) > span.as_millis()
        {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err("a mailing with a rate limit makes no progress".into())
}

/// Seconds of CPU used up to now: by the benchmark with its processes and the database, and by the whole machine.
struct Spent {
    at: Instant,
    known: f64,
    machine: f64,
}

impl Spent {
    fn read(bench: &Bench, kind: Kind) -> Result<Self> {
        let database = bench.template(kind, RATED)?.cpu(&bench.cpu)?.unwrap_or_default();
        Ok(Self {
            at: Instant::now(),
            known: bench.cpu.of_tree(std::process::id())? + database,
            machine: bench.cpu.of_machine()?,
        })
    }

    fn others(&self, after: &Self) -> Result<f64> {
        machine::others(after.machine - self.machine, after.known - self.known, after.at - self.at)
    }
}
