//! Parsers for the measured output of Linux, the sandbox and the service.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;

/// A process as in `/proc/PID/stat`, with times in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub parent: u32,
    /// The ticks of all its threads, including ended ones.
    pub own: u64,
    /// The ticks of its ended children that were waited for.
    pub ended_children: u64,
}

/// Parses `/proc/PID/stat`. The name is in brackets and may itself contain brackets and spaces, so the fields begin
/// after the last closing bracket.
pub fn stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        ended_children: number(13)? + number(14)?,
    })
}

/// Returns the ticks of a process and its descendants, alive or ended.
pub fn tree_ticks(root: u32, processes: &HashMap<u32, Stat>) -> u64 {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in processes {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let (mut waiting, mut seen, mut ticks) = (vec![root], HashSet::new(), 0);
    while let Some(pid) = waiting.pop() {
        if let Some(stat) = processes.get(&pid).filter(|_| seen.insert(pid)) {
            ticks += stat.own + stat.ended_children;
            waiting.extend(children.get(&pid).into_iter().flatten());
        }
    }
    ticks
}

/// Returns the ticks in which the processors were busy or taken away by the hypervisor, from `/proc/stat`. The fourth
/// and fifth fields are excluded: idle, and waiting for a disk. The ninth and tenth are part of the first and second.
pub fn busy_ticks(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _, _, interrupts @ ..] = ticks.as_slice() else { return None };
    Some(user + nice + system + interrupts.iter().sum::<u64>())
}

/// Returns the number in a line like `VmHWM:     1234 kB` of `/proc/PID/status` and similar files, without its unit.
pub fn number_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the first processor's name in `/proc/cpuinfo`.
pub fn processor(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

/// Returns the type of a directory's file system, from `/proc/mounts`: the deepest mount above it, and of several
/// mounts at one place the last.
pub fn file_system<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let above = mounts.filter(|(place, _)| directory.starts_with(place));
    above.max_by_key(|(place, _)| place.components().count()).map(|(_, kind)| kind)
}

/// Returns the kernel's ticks a second from `/proc/self/auxv`, which contains pairs of a key and a value. Key 17 is
/// `AT_CLKTCK`.
pub fn ticks_per_second(auxv: &[u8]) -> Option<u64> {
    let (words, _) = auxv.as_chunks::<8>();
    let mut pairs = words.as_chunks::<2>().0.iter().map(|pair| pair.map(u64::from_ne_bytes));
    pairs.find_map(|[key, value]| (key == 17).then_some(value))
}

/// A line of the sandbox's log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// Microseconds since the epoch.
    pub at_us: i64,
    pub id: String,
}

/// Returns a metric's value from the Prometheus text format, summed over its labels.
pub fn metric(text: &str, name: &str) -> f64 {
    metric_with(text, name, "")
}

/// Returns the metric's value summed over the series with this label, for example `channel="sms"`.
pub fn metric_with(text: &str, name: &str, label: &str) -> f64 {
    let series = text.lines().filter_map(|line| line.rsplit_once(' '));
    let of_it = series.filter(|(series, _)| series.split('{').next() == Some(name) && series.contains(label));
    of_it.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

/// Returns a nats-server's listening address from its log, once it is ready.
pub fn nats_listens_on(log: &str) -> Option<String> {
    let (before, _) = log.split_once("Server is ready")?;
    let (_, address) = before.split_once("Listening for client connections on ")?;
    Some(address.split_whitespace().next()?.to_owned())
}

/// Returns the service's listening address from its log of JSON lines.
pub fn listens_on(log: &str) -> Option<String> {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = lines.find(|line| line.get("message").is_some_and(|said| said == "fanfare listens"))?;
    line.get("address")?.as_str().map(str::to_owned)
}
