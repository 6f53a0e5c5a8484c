//! The resource usage of processes, and the machine that they ran on.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::parse::{self, Stat};
use crate::statistics::percentile;
use crate::{Failure, Result};

/// The number of measured syncs to disk.
const SYNCS: usize = 25;

/// Reads the kernel's counters of processes.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    ticks_per_second: f64,
}

impl Cpu {
    pub fn new() -> Result<Self> {
        let ticks = parse::ticks_per_second(&fs::read("/proc/self/auxv")?);
        Ok(Self { ticks_per_second: ticks.ok_or("the kernel does not report the length of a tick")? as f64 })
    }

    /// Returns the seconds of CPU that a process has used since its start.
    pub fn of(&self, pid: u32) -> Result<f64> {
        Ok(stat(pid)?.own as f64 / self.ticks_per_second)
    }

    /// Returns the seconds that all processors have been busy since the machine started.
    pub fn of_machine(&self) -> Result<f64> {
        let ticks = parse::busy_ticks(&fs::read_to_string("/proc/stat")?);
        Ok(ticks.ok_or("/proc/stat cannot be read")? as f64 / self.ticks_per_second)
    }

    /// Returns the seconds of CPU of a process and all its descendants, including ended ones.
    pub fn of_tree(&self, root: u32) -> Result<f64> {
        let mut processes: HashMap<u32, Stat> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            // a process that ends meanwhile is counted with its parent's ended children in the next reading
            if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, stat(pid).ok()?))) {
                processes.insert(pid, stat);
            }
        }
        if !processes.contains_key(&root) {
            return Err(format!("process {root} does not exist").into());
        }
        Ok(parse::tree_ticks(root, &processes) as f64 / self.ticks_per_second)
    }
}

fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse::stat(&text).ok_or_else(|| Failure::from("/proc/PID/stat cannot be read"))
}

/// Returns the parent of a process.
pub fn parent_of(pid: u32) -> Result<u32> {
    Ok(stat(pid)?.parent)
}

/// Returns the percentage of the machine that unrelated processes used in this time. All processes together used
/// `machine` seconds of CPU, and those of the measurement used `known` of them.
pub fn others(machine: f64, known: f64, took: Duration) -> Result<f64> {
    let there_was = took.as_secs_f64() * std::thread::available_parallelism()?.get() as f64;
    // the counters are coarse and not read at the same instant
    Ok(((machine - known) / there_was * 100.0).clamp(0.0, 100.0))
}

/// Returns the bytes that a process has caused to be written to disk since its start. A page that changes twice before
/// it is written counts once.
pub fn written(pid: u32) -> Result<f64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let bytes = parse::number_of(&io, "write_bytes").ok_or("the kernel does not report written bytes")?;
    Ok(bytes as f64)
}

/// Returns the peak memory of a process in megabytes, since its start or since the peak was reset.
pub fn peak_memory(pid: u32) -> Result<f64> {
    megabytes(pid, "VmHWM")
}

/// Returns the megabytes of memory that a process holds.
pub fn memory(pid: u32) -> Result<f64> {
    megabytes(pid, "VmRSS")
}

fn megabytes(pid: u32, of: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes =
        parse::number_of(&status, of).ok_or("the kernel does not report the memory of a process")?;
    Ok(kilobytes as f64 / 1000.0)
}

/// Resets the peak of a process's memory.
pub fn forget_peak_memory(pid: u32) -> Result {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// Returns the facts about the machine that figures depend on, without host names and paths.
pub fn facts(directory: &Path, postgres: Option<&str>, sqlite: &str) -> Result<Value> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Ok(json!({
        "cores": std::thread::available_parallelism()?.get(),
        "processor": parse::processor(&read("/proc/cpuinfo")),
        "memory_mb": parse::number_of(&read("/proc/meminfo"), "MemTotal").map(|kb| kb / 1000),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "file_system": parse::file_system(&read("/proc/mounts"), &directory.canonicalize()?),
        "fsync_ms": fsync(directory)?,
        "postgres": postgres,
        "sqlite": sqlite,
        "commit": commit(),
    }))
}

/// Returns the median milliseconds from a write of 4 KiB until it is on disk.
fn fsync(directory: &Path) -> Result<Option<f64>> {
    let path = directory.join("fsync");
    let mut file = File::create(&path)?;
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    fs::remove_file(path)?;
    Ok(percentile(&took, 0.5))
}

/// Returns the measured commit, with a plus if files have changed since, or `None` outside of a git checkout.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { format!("{commit}+") } else { commit })
}
