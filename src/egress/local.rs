//! Detects faults of this machine that look like a provider's: no file descriptor, memory or port is left.

use std::error::Error;
use std::fs::File;
use std::io;

use rustix::io::Errno;

/// The error of an attempt that could not open a connection.
pub const LOCAL_FAULT: &str =
    "no connection could be opened: this machine has no file descriptor, port or memory left";

/// Error codes for exhausted resources of the operating system.
const SHORTAGES: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];

/// Returns true if a connection failed because this machine lacks a resource.
pub fn is_local(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if let Some(code) = io.and_then(io::Error::raw_os_error) {
            return SHORTAGES.iter().any(|shortage| shortage.raw_os_error() == code);
        }
        // `source` skips the error that an io::Error wraps
        let wrapped = io.and_then(io::Error::get_ref).map(|wrapped| wrapped as &(dyn Error + 'static));
        cause = wrapped.or_else(|| error.source());
    }
    // a failed name lookup does not report its cause, so descriptors are probed
    are_descriptors_used_up()
}

fn are_descriptors_used_up() -> bool {
    let code = File::open("/dev/null").err().and_then(|error| error.raw_os_error());
    code.is_some_and(|code| [Errno::MFILE, Errno::NFILE].iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_this_machine_is_told_from_a_peer_that_refuses() {
        for (code, expected) in [
            (Errno::MFILE, true),
            (Errno::NOBUFS, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::HOSTUNREACH, false),
        ] {
            let error = io::Error::from_raw_os_error(code.raw_os_error());
            assert_eq!(is_local(&error), expected, "{error}");
            let wrapped: Box<dyn Error> = Box::new(io::Error::other(error));
            assert_eq!(is_local(&*wrapped), expected, "the cause decides: {wrapped}");
        }
        assert!(!is_local(&io::Error::other("no such host")));
    }
}
