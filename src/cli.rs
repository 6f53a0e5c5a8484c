//! The commands of the binary.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::app::{self, App, Migration, Target, open_db};
use crate::clients::import::cli::ImportArgs;
use crate::clients::model::HomeCountry;
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::credentials::usecase::Rotated;
use crate::demo::{self, DemoArgs};
use crate::error::{Error, Result};
use crate::http::openapi;
use crate::metrics::Metrics;
use crate::routes::load::{LeftOut, Options};
use crate::sandbox::{self, SandboxArgs};
use crate::{clients, lifecycle, routes, telemetry};

/// Mailing campaigns and notifications: every matching client gets one message, inside its window, and the books balance.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version)]
pub struct Cli {
    /// A configuration file; without it the one of FANFARE_CONFIG, or fanfare.toml in the working directory, if there is one.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: API, watchdog and delivery engine.
    Serve {
        /// What this node does, on PostgreSQL; by default the configured role.
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// Send nothing until POST /api/v1/sending/resume: everything is accepted and waits, for the whole installation.
        #[arg(long)]
        paused: bool,
    },
    /// Bring the database's schema up to date and end. `serve` does so by itself.
    Migrate {
        #[command(subcommand)]
        command: Option<MigrateCommand>,
    },
    /// Import clients from a CSV file; `-` reads the standard input.
    Import(ImportArgs),
    /// Routes of events and their templates.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// What requests prove with who asks.
    #[command(subcommand)]
    Credentials(CredentialsCommand),
    /// Import 100,000 generated clients, send them a mailing, and show the books; all of it apart from any real data.
    Demo(DemoArgs),
    /// Run a provider to try against, with faults on demand.
    Sandbox(SandboxArgs),
    /// Print the OpenAPI document.
    Openapi,
    /// Ask a running service whether it is alive; for health checks of containers.
    Health {
        /// The address to ask; by default the configured port of this machine.
        #[arg(long)]
        url: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Run the migrations that have not run; the same as without a word.
    Up,
    /// Undo the last migration, with what only it can hold; refused while a service uses the database.
    Down {
        /// Undo all that are newer: the number of migrations that stay, or the last one that stays.
        #[arg(long, value_name = "N")]
        to: Option<Target>,
    },
    /// List the migrations, and which of them have run.
    Status,
}

#[derive(Debug, Subcommand)]
enum CredentialsCommand {
    /// Encrypt with the first key of CREDENTIALS_KEY what was encrypted with another of them; all of it or nothing.
    Rotate,
}

#[derive(Debug, Subcommand)]
enum RoutesCommand {
    /// See to it that the routes and templates of a TOML file are there; what is there already stays as it is.
    Load {
        /// The file, such as db/routes/starter.toml.
        file: PathBuf,
        /// Replace what differs.
        #[arg(long)]
        replace: bool,
        /// End at the first route whose channel has no provider here, instead of leaving such routes out.
        #[arg(long)]
        strict: bool,
    },
}

/// For blocking threads to end with the process.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Runs a command to its end.
///
/// # Errors
/// What went wrong, in words for the person at the terminal.
pub fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::Internal(e.into()))?;
    let outcome = runtime.block_on(execute(cli));
    // a thread that waits for a database that does not answer must not keep the process from ending
    runtime.shutdown_timeout(LAST_THREADS);
    outcome
}

/// Phone numbers are read the same way at every door of the process.
fn settle_home_country(config: &Config) -> Result<()> {
    let text = config.clients.default_country.as_deref().unwrap_or_default();
    let settled = text.parse().and_then(HomeCountry::settle);
    settled.map_err(|why| Error::invalid("clients.default_country (DEFAULT_COUNTRY)", why))
}

async fn execute(cli: Cli) -> Result<()> {
    let (role, is_paused) = match cli.command {
        Command::Openapi => return print(&openapi::document()?),
        // whatever else is configured wrongly, a probe asks the service
        Command::Health { url: Some(url) } => return health(url).await,
        Command::Health { url: None } => return health(Config::health_url(cli.config.as_deref())?).await,
        Command::Serve { role, paused } => (role, paused),
        _ => (None, false),
    };
    let config = Config::load(cli.config.as_deref(), role, is_paused)?;
    settle_home_country(&config)?;
    match cli.command {
        Command::Serve { .. } => {
            telemetry::start(&config.log)?;
            serve(config).await
        }
        Command::Migrate { command } => {
            telemetry::start(&config.log)?;
            migrate(config, command.unwrap_or(MigrateCommand::Up)).await
        }
        Command::Import(args) => {
            telemetry::start(&config.log)?;
            let db = open_db(&config, &Metrics::new()?).await?;
            clients::import::cli::run(&db, &Clock::System, args).await
        }
        Command::Routes(RoutesCommand::Load { file, replace, strict }) => {
            telemetry::start(&config.log)?;
            let db = open_db(&config, &Metrics::new()?).await?;
            let (templates, routes) = app::domains_of_routes(&config, db)?;
            let options = Options { is_replacing: replace, is_strict: strict };
            let loaded = routes::load::load((&templates, &routes), &file, options).await?;
            print(&loaded.to_string())?;
            complain_of(&loaded.left_out)
        }
        Command::Credentials(CredentialsCommand::Rotate) => {
            telemetry::start(&config.log)?;
            let db = open_db(&config, &Metrics::new()?).await?;
            let Rotated { all, changed } = app::credentials_beside(&config, db)?.rotate().await?;
            print(&format!("credentials: {all}, encrypted anew: {changed}\n"))
        }
        Command::Demo(args) => {
            telemetry::start(&config.log)?;
            demo::run(args).await
        }
        Command::Sandbox(args) => {
            telemetry::start(&config.log)?;
            sandbox::run(args).await.map_err(|e| Error::Unavailable(e.into()))
        }
        Command::Health { .. } | Command::Openapi => Ok(()),
    }
}

async fn migrate(config: Config, command: MigrateCommand) -> Result<()> {
    let is_list = matches!(command, MigrateCommand::Status);
    let target = match command {
        MigrateCommand::Up => return open_db(&config, &Metrics::new()?).await.map(drop),
        MigrateCommand::Down { to } => Some(to.unwrap_or(Target::Previous)),
        MigrateCommand::Status => None,
    };
    let (undone, all) = app::migrations(config, target).await?;
    let line = |(at, migration): (usize, &Migration)| {
        let state = if migration.is_applied { "applied" } else { "pending" };
        format!("{:>4}  {state}  {}\n", at + 1, migration.name)
    };
    let mut said: String = match is_list {
        true => all.iter().enumerate().map(line).collect(),
        false if undone.is_empty() => "nothing to undo\n".into(),
        false => undone.iter().map(|name| format!("undone: {name}\n")).collect(),
    };
    let applied = all.iter().filter(|migration| migration.is_applied).count();
    said.push_str(&format!("{applied} of {} migrations are applied", all.len()));
    if !undone.is_empty() {
        said.push_str("; `fanfare migrate up` and the next start of the service run the others again");
    }
    print(&format!("{said}\n"))
}

/// Serves until SIGTERM or SIGINT, or until a task fails.
async fn serve(config: Config) -> Result<()> {
    let app = App::start(config, Clock::System).await?;
    let failed = tokio::select! {
        signal = lifecycle::termination() => {
            signal.map_err(|e| Error::Internal(e.into()))?;
            false
        }
        () = app.failed() => true,
    };
    app.stop().await;
    tracing::info!("stopped");
    if failed { Err(Error::internal("a task of the service failed; the log says which")) } else { Ok(()) }
}

async fn health(url: String) -> Result<()> {
    let client = crate::egress::client()?;
    let answer = client.get(&url).timeout(std::time::Duration::from_secs(5)).send().await;
    match answer {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(Error::Unavailable(format!("{url} answered {}", response.status()).into())),
        Err(_) => Err(Error::Unavailable(format!("{url} cannot be reached").into())),
    }
}

/// Writes to standard output.
///
/// # Errors
/// When nobody reads it any more.
pub fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| Error::Unavailable(e.into()))
}

/// Tells the person at the terminal which routes were left out of a file, and why.
fn complain_of(left_out: &[LeftOut]) -> Result<()> {
    let mut out = std::io::stderr().lock();
    let mut say = |left: &LeftOut| writeln!(out, "fanfare: {left}");
    left_out.iter().try_for_each(&mut say).map_err(|e| Error::Unavailable(e.into()))
}

/// Tells the person at the terminal what went wrong, one line for each wrong setting.
pub fn complain(error: &Error) {
    let mut out = std::io::stderr().lock();
    // a closed terminal hears nothing, and nothing can be done about it
    let _ = match error {
        Error::Invalid(fields) => {
            fields.iter().try_for_each(|f| writeln!(out, "fanfare: {}: {}", f.field, f.reason))
        }
        Error::Unavailable(source) => writeln!(out, "fanfare: {source}"),
        other => writeln!(out, "fanfare: {other}"),
    };
}
