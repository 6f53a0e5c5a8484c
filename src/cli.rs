//! The commands of the binary.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::app::{self, App, Migration, Target, api, open_db};
use crate::clients::import::cli::ImportArgs;
use crate::clients::model::HomeCountry;
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::credentials::usecase::Rotated;
use crate::demo::{self, DemoArgs, DemoError};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::routes::load::{LeftOut, Options};
use crate::sandbox::{self, SandboxArgs};
use crate::{clients, egress, lifecycle, routes, telemetry};

/// A mailing and notification service: every matching client gets one message inside its window, and the counts
/// balance.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version)]
pub struct Cli {
    /// The configuration file. The default is the file in FANFARE_CONFIG, else fanfare.toml in the working directory,
    /// if it exists.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: API, watchdog and delivery engine.
    Serve {
        /// The role of this node, on PostgreSQL; by default the configured role.
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// Start with sending paused, for the whole installation: everything is accepted and waits until
        /// POST /api/v1/sending/resume.
        #[arg(long)]
        paused: bool,
    },
    /// Apply the pending migrations of the database and exit. `serve` also applies them at its start.
    Migrate {
        #[command(subcommand)]
        command: Option<MigrateCommand>,
    },
    /// Import clients from a CSV file; `-` reads standard input.
    Import(ImportArgs),
    /// Manage the routes of events and their templates.
    #[command(subcommand)]
    Routes(RoutesCommand),
    /// Manage the credentials used by outgoing requests.
    #[command(subcommand)]
    Credentials(CredentialsCommand),
    /// Import 100,000 generated clients, send them a mailing and show its counts, separate from any real data.
    Demo(DemoArgs),
    /// Run a test provider, with faults on demand.
    Sandbox(SandboxArgs),
    /// Print the OpenAPI document.
    Openapi,
    /// Check that a running service is alive, for the health checks of containers.
    Health {
        /// The URL to check; by default the configured port on this machine.
        #[arg(long)]
        url: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Apply the pending migrations (the default).
    Up,
    /// Revert the last migration and delete the data that only it can hold; refused while a service uses the database.
    Down {
        /// Revert all newer migrations: the number of migrations to keep, or the name of the last one to keep.
        #[arg(long, value_name = "N")]
        to: Option<Target>,
    },
    /// List the migrations and their states.
    Status,
}

#[derive(Debug, Subcommand)]
enum CredentialsCommand {
    /// Re-encrypt all credentials with the first key of CREDENTIALS_KEY, in one transaction.
    Rotate,
}

#[derive(Debug, Subcommand)]
enum RoutesCommand {
    /// Create the missing routes and templates of a TOML file; existing ones stay unchanged.
    Load {
        /// The file, such as db/routes/starter.toml.
        file: PathBuf,
        /// Replace existing routes and templates that differ.
        #[arg(long)]
        replace: bool,
        /// Fail at the first route whose channel has no provider, instead of skipping it.
        #[arg(long)]
        strict: bool,
    },
}

/// The time for blocking threads to end with the process.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Runs a command to its end.
///
/// # Errors
/// The error to print for the user.
pub fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::Internal(e.into()))?;
    let outcome = runtime.block_on(execute(cli));
    // a thread that waits for an unresponsive database must not keep the process alive
    runtime.shutdown_timeout(LAST_THREADS);
    outcome
}

/// Sets the country of phone numbers without a prefix, once for the whole process.
fn settle_home_country(config: &Config) -> Result<()> {
    let text = config.clients.default_country.as_deref().unwrap_or_default();
    let settled = text.parse().and_then(HomeCountry::settle);
    settled.map_err(|why| Error::invalid("clients.default_country (DEFAULT_COUNTRY)", why))
}

async fn execute(cli: Cli) -> Result<()> {
    let (role, is_paused) = match cli.command {
        Command::Openapi => return print(&api::document()?),
        // a probe must work even if another setting is invalid
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
            print(&format!("credentials: {all}, re-encrypted: {changed}\n"))
        }
        Command::Demo(args) => {
            telemetry::start(&config.log)?;
            demo::run(args, egress::client()?).await.map_err(of_demo)
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
        false if undone.is_empty() => "nothing to revert\n".into(),
        false => undone.iter().map(|name| format!("reverted: {name}\n")).collect(),
    };
    let applied = all.iter().filter(|migration| migration.is_applied).count();
    said.push_str(&format!("{applied} of {} migrations are applied", all.len()));
    if !undone.is_empty() {
        said.push_str("; `fanfare migrate up` and the next start of the service apply the others again");
    }
    print(&format!("{said}\n"))
}

/// Returns an error of the demo as one of the command line.
fn of_demo(error: DemoError) -> Error {
    match error {
        DemoError::TooManyClients(why) => Error::invalid("--clients", why.to_string()),
        DemoError::Failed(why) => Error::internal(why),
        other => Error::Unavailable(other.into()),
    }
}

/// Runs the service until SIGTERM or SIGINT, or until a task fails.
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
    tracing::info!("service stopped");
    if failed { Err(Error::internal("a task of the service failed; see the log")) } else { Ok(()) }
}

async fn health(url: String) -> Result<()> {
    let client = egress::client()?;
    let answer = client.get(&url).timeout(std::time::Duration::from_secs(5)).send().await;
    match answer {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(Error::Unavailable(format!("{url} returned {}", response.status()).into())),
        Err(_) => Err(Error::Unavailable(format!("cannot connect to {url}").into())),
    }
}

/// Writes to standard output.
///
/// # Errors
/// Standard output is closed.
pub fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| Error::Unavailable(e.into()))
}

/// Prints the routes of a file that were skipped, with the reasons, to standard error.
fn complain_of(left_out: &[LeftOut]) -> Result<()> {
    let mut out = std::io::stderr().lock();
    let mut say = |left: &LeftOut| writeln!(out, "fanfare: {left}");
    left_out.iter().try_for_each(&mut say).map_err(|e| Error::Unavailable(e.into()))
}

/// Prints an error to standard error, with one line for each invalid setting.
pub fn complain(error: &Error) {
    let mut out = std::io::stderr().lock();
    // an error on a closed terminal cannot be reported
    let _ = match error {
        Error::Invalid(fields) => {
            fields.iter().try_for_each(|f| writeln!(out, "fanfare: {}: {}", f.field, f.reason))
        }
        Error::Unavailable(source) => writeln!(out, "fanfare: {source}"),
        other => writeln!(out, "fanfare: {other}"),
    };
}
