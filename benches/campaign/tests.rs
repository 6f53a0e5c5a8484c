//! The benchmark's own parts: its flags and statistics, its readings of the system, its tables, its client, and that
//! its limit sends the same requests as the service. They are in `benches/campaign`, where no test runs.

#[path = "../../benches/campaign/args.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod args;
#[path = "../../benches/campaign/creations.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod creations;
#[path = "../../benches/campaign/limit.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest")]
mod limit;
#[path = "../../benches/campaign/load.rs"]
mod load;
#[path = "../../benches/campaign/parse.rs"]
mod parse;
#[path = "../../benches/campaign/phones.rs"]
mod phones;
#[path = "../../benches/campaign/schedules.rs"]
mod schedules;
#[path = "../../benches/campaign/sources.rs"]
mod sources;
#[path = "../../benches/campaign/statistics.rs"]
mod statistics;
#[path = "../../benches/campaign/table.rs"]
mod table;
#[path = "../../benches/campaign/uploads.rs"]
mod uploads;
#[path = "../../benches/campaign/wire.rs"]
mod wire;

mod figures;
mod flags;
mod posts;
mod requests;
mod system;
