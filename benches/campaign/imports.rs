//! The import of a large file of clients: its rate and memory, optionally compared with another version of the program.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fanfare::demo::generator;
use reqwest::Body;

use crate::args::{Args, Kind};
use crate::database::SEED;
use crate::machine::{forget_peak_memory, memory, peak_memory};
use crate::process::{BINARY, Sandbox, Service};
use crate::spent::Spent;
use crate::uploads::{Imports, Program};
use crate::{Bench, Result};

/// The time after which a service that has just started is idle.
const REST: Duration = Duration::from_secs(1);

/// Imports the file into an empty database with each program in turn. Each round starts with a different program.
pub async fn measure(bench: &Bench, kind: Kind, round: usize, imports: &mut Imports) -> Result {
    let programs = programs(&bench.args)?;
    let rows = bench.args.rows;
    // generated in advance, so that the generation is not measured
    let csv: Vec<Vec<u8>> = generator::csv_chunks(rows, SEED)?.collect();
    for (program, binary) in programs.iter().cycle().skip(round % programs.len()).take(programs.len()) {
        let provider = bench.args.provider(Duration::ZERO);
        let sandbox = Sandbox::start(bench.directory(), provider).await?;
        let database = bench.empty_database(kind)?;
        let service =
            Service::start_binary(bench.directory(), binary, &database.url(), &sandbox.base).await?;
        tokio::time::sleep(REST).await;
        let pid = service.process.pid();
        let spent = || Spent::read(bench, pid, Some(&database), sandbox.process.pid());
        forget_peak_memory(pid)?;
        let (at_rest, before) = (memory(pid)?, spent()?);
        let body = futures_util::stream::iter(csv.clone().into_iter().map(Ok::<_, std::io::Error>));
        let began = Instant::now();
        // without a Content-Length, so that the file is imported while it is received
        service.api.import(Body::wrap_stream(body), rows).await?;
        let took = began.elapsed();
        let after = spent()?;
        let import = imports.entry((kind, *program)).or_default();
        let a_row = |seconds: f64| seconds * 1e6 / rows as f64;
        import.rows_per_second.0.push(rows as f64 / took.as_secs_f64());
        import.cpu_service.0.push(a_row(after.sender - before.sender));
        if let (Some(before), Some(after)) = (before.database, after.database) {
            import.cpu_database.0.push(a_row(after - before));
        }
        import.cpu_others.0.push(after.others_since(&before)?);
        import.memory.0.push(peak_memory(pid)? - at_rest);
        service.stop().await?;
    }
    Ok(())
}

/// Returns this program and the one to compare it with.
fn programs(args: &Args) -> Result<Vec<(Program, PathBuf)>> {
    let mut programs = vec![(Program::This, PathBuf::from(BINARY))];
    if let Some(binary) = &args.against {
        // absolute, because the services are started in another directory
        let found = binary.canonicalize();
        programs.push((Program::Other, found.map_err(|e| format!("--against {}: {e}", binary.display()))?));
    }
    Ok(programs)
}
