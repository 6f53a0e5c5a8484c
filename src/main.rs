//! The command line: reads the arguments, starts the log, calls the library.

use std::process::ExitCode;

use clap::Parser;
use fanfare::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}
