//! The benchmark's own parts: its flags and statistics, its readings of the system, its tables, its client, and that
//! its limit sends the same requests as the service. The benchmark itself has no test harness.

#[allow(dead_code, reason = "the benchmark uses the rest")]
mod args;
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod creations;
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod limit;
mod load;
mod parse;
mod phones;
mod schedules;
mod sources;
mod statistics;
mod table;
mod uploads;
mod wire;

mod checks;
