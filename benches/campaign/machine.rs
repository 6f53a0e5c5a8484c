//! What the processes used, and the machine that they ran on.

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

/// How often the time of a sync to disk is taken.
const SYNCS: usize = 25;

/// Reads what the kernel counts of processes.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    ticks_per_second: f64,
}

impl Cpu {
    pub fn new() -> Result<Self> {
        let ticks = parse::ticks_per_second(&fs::read("/proc/self/auxv")?);
        Ok(Self { ticks_per_second: ticks.ok_or("the kernel does not say how long a tick is")? as f64 })
    }

    /// Seconds of CPU that a process has used since its start.
    pub fn of(&self, pid: u32) -> Result<f64> {
        Ok(stat(pid)?.own as f64 / self.ticks_per_second)
    }

    /// Seconds that the processors were busy since the machine started, with whatever it was.
    pub fn of_machine(&self) -> Result<f64> {
        let ticks = parse::busy_ticks(&fs::read_to_string("/proc/stat")?);
        Ok(ticks.ok_or("/proc/stat cannot be read")? as f64 / self.ticks_per_second)
    }

    /// Seconds of CPU of a process and all below it, those that have ended included.
    pub fn of_tree(&self, root: u32) -> Result<f64> {
        let mut processes: HashMap<u32, Stat> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            // one that ends meanwhile is counted with its parent's ended children, next time
            if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, stat(pid).ok()?))) {
                processes.insert(pid, stat);
            }
        }
        if !processes.contains_key(&root) {
            return Err(format!("there is no process {root}").into());
        }
        Ok(parse::tree_ticks(root, &processes) as f64 / self.ticks_per_second)
    }
}

fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse::stat(&text).ok_or_else(|| Failure::from("/proc/PID/stat cannot be read"))
}

/// The process that started this one.
pub fn parent_of(pid: u32) -> Result<u32> {
    Ok(stat(pid)?.parent)
}

/// Percent of the machine that others used in this time, when all together used `machine` seconds of its processors and
/// those who have a part in the measurement `known` of them.
pub fn others(machine: f64, known: f64, took: Duration) -> Result<f64> {
    let there_was = took.as_secs_f64() * std::thread::available_parallelism()?.get() as f64;
    // the counters are rough, and not read at the same instant
    Ok(((machine - known) / there_was * 100.0).clamp(0.0, 100.0))
}

/// Bytes that a process has had written to disk since its start; a page that is changed twice before it is written
/// counts once.
pub fn written(pid: u32) -> Result<f64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let bytes = parse::number_of(&io, "write_bytes").ok_or("the kernel does not tell what was written")?;
    Ok(bytes as f64)
}

/// Megabytes of memory that a process held at most since its start, or since its peak was forgotten.
pub fn peak_memory(pid: u32) -> Result<f64> {
    megabytes(pid, "VmHWM")
}

/// Megabytes of memory that a process holds.
pub fn memory(pid: u32) -> Result<f64> {
    megabytes(pid, "VmRSS")
}

fn megabytes(pid: u32, of: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes =
        parse::number_of(&status, of).ok_or("the kernel does not tell the memory of a process")?;
    Ok(kilobytes as f64 / 1000.0)
}

/// Lets the peak of a process's memory begin anew.
pub fn forget_peak_memory(pid: u32) -> Result {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// What a figure depends on; neither names of hosts nor paths.
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

/// Milliseconds from a write of 4 KiB until it is on disk, in the middle.
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

/// The commit that is measured, with a plus when files were changed since; none outside of a git checkout.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { format!("{commit}+") } else { commit })
}
