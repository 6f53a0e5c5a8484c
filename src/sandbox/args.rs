//! The options of the sandbox.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use secrecy::SecretString;

use super::faults::Faults;

/// The settings of the sandbox.
#[derive(clap::Args, Clone, Debug)]
pub struct SandboxArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value_t = default_listen())]
    pub listen: SocketAddr,

    /// Write the address to this file once the sandbox listens
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    /// Return 401 to requests without this bearer token [default: accept all requests]
    #[arg(long)]
    pub token: Option<SecretString>,

    /// Append one JSON line per request to this file, before responding to it
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Seed of the random faults, to repeat a run [default: random]
    #[arg(long)]
    pub seed: Option<u64>,

    /// The initial faults; `PUT /faults` replaces them later.
    #[command(flatten)]
    pub faults: Faults,
}

impl Default for SandboxArgs {
    fn default() -> Self {
        Self {
            listen: default_listen(),
            port_file: None,
            token: None,
            log: None,
            seed: None,
            faults: Faults::default(),
        }
    }
}

impl SandboxArgs {
    /// Returns the default settings with a free port of the loopback interface: one sandbox per test.
    #[must_use]
    pub fn on_free_port() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Self::default() }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8090))
}
