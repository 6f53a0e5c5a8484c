//! The settings of the guard.

use std::time::Duration;

use super::address::Networks;

/// The settings of the guard.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Networks that are allowed although they are not public.
    pub allowed: Networks,
    /// Timeout of a name lookup, the wait for a thread included.
    pub lookup_timeout: Duration,
    /// Timeout of a TCP connection.
    pub connect_timeout: Duration,
    /// Timeout of the whole request: lookup, connection, request and response.
    pub timeout: Duration,
    /// The longest head of a response, in bytes; at least 8 KiB.
    pub longest_head: usize,
    /// The most simultaneous name lookups, each on its own thread.
    pub lookups_at_once: usize,
    /// The most connections, idle ones included; further requests wait.
    pub connections: usize,
    /// The most idle connections in total (`idle`), and per host and port (`idle_of_host`).
    pub idle: usize,
    /// See `idle`.
    pub idle_of_host: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed: Networks::default(),
            lookup_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            longest_head: 64 * 1024,
            lookups_at_once: 32,
            connections: 1024,
            idle: 256,
            idle_of_host: 64,
        }
    }
}
