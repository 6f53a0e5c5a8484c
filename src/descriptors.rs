//! The process's file descriptors: their limit, and how they are divided.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number of descriptors that a process has open besides connections: files, listening sockets, pipes.
const FEW: usize = 64;
/// The default limit of server connections.
const MOST_CONNECTIONS: usize = 10_000;
/// The smallest limit of server connections: with fewer the service could not work.
const FEWEST_CONNECTIONS: usize = 16;

/// Raises the soft limit of descriptors to the hard limit, and returns it. The soft limit of most systems is 1024, for
/// programs that use `select`.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // fails if the maximum is above the kernel's limit; then nothing changes
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let current = getrlimit(Resource::Nofile).current;
    current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Returns the number of connections that the server may have: `wanted`, where 0 means the default. The limit keeps
/// `reserved` descriptors free for the database and the providers.
pub fn connections(wanted: usize, limit: usize, reserved: usize) -> usize {
    let room = limit.saturating_sub(reserved.saturating_add(FEW));
    // a low limit is split in half
    let room = room.max(limit / 2).max(FEWEST_CONNECTIONS);
    let wanted = if wanted == 0 { MOST_CONNECTIONS } else { wanted };
    if wanted > room && wanted != MOST_CONNECTIONS {
        tracing::warn!(wanted, room, limit, "connection limit reduced to fit the limit of file descriptors");
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_the_database_and_the_providers() {
        for (wanted, limit, reserved, expected) in [
            (0, 1_048_576, 200, MOST_CONNECTIONS),
            (0, 1024, 200, 760),
            (0, 1024, 2000, 512),
            (500, 1024, 200, 500),
            (5000, 1024, 200, 760),
            (0, 20, 200, FEWEST_CONNECTIONS),
            (20_000, 1_048_576, 200, 20_000),
        ] {
            assert_eq!(connections(wanted, limit, reserved), expected, "{wanted} of {limit}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_limit() {
        let limit = raise_limit();
        let allowed = getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |most| most as usize);
        assert_eq!(limit, allowed);
    }
}
