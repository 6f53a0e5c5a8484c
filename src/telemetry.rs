//! The log: one subscriber that writes text or JSON to standard error.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::error::{Error, Result};

/// A directive that silences a library, which logs each connection attempt. The reader logs the outcome once.
const QUIET: &str = "krafka=error";

/// Starts logging for the whole process.
///
/// # Errors
/// Invalid directives, or a second start.
pub fn start(log: &Log) -> Result<()> {
    // first, so that the configured level can override it
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.level))
        .map_err(|e| Error::invalid("log.level (LOG_LEVEL)", format!("`{}`: {e}", log.level)))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
    };
    started.map_err(|e| Error::internal(format!("cannot start the log: {e}")))
}
