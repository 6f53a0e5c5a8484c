//! The process's file descriptors: how many there may be, and how they are shared out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a process has open besides connections: files, sockets that listen, pipes.
const FEW: usize = 64;
/// Connections of the server, unless it is configured.
const MOST_CONNECTIONS: usize = 10_000;
/// Connections of the server whatever else is needed: fewer would be no service.
const FEWEST_CONNECTIONS: usize = 16;

/// Raises the limit of descriptors to what the system allows, and returns it. The soft limit of most systems is 1024, for
/// the sake of programs that use `select`.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // it fails where the maximum is more than the kernel allows: then all stays as it is
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let current = getrlimit(Resource::Nofile).current;
    current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// The number of connections that the server may have: as `wanted`, 0 for as many as there is room for; and never so many
/// that less than `reserved` is left of the limit for the database and the providers.
pub fn connections(wanted: usize, limit: usize, reserved: usize) -> usize {
    let room = limit.saturating_sub(reserved.saturating_add(FEW));
    // with a low limit both have half
    let room = room.max(limit / 2).max(FEWEST_CONNECTIONS);
    let wanted = if wanted == 0 { MOST_CONNECTIONS } else { wanted };
    if wanted > room && wanted != MOST_CONNECTIONS {
        tracing::warn!(wanted, room, limit, "the limit of descriptors leaves room for fewer connections");
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
    fn the_limit_is_raised_to_what_the_system_allows() {
        let limit = raise_limit();
        let allowed = getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |most| most as usize);
        assert_eq!(limit, allowed);
    }
}
