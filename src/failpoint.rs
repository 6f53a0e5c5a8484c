//! Points at which a test build dies on purpose, to see what a crash at just this instant leaves behind.
//!
//! `FANFARE_FAILPOINT=plan-before-commit` ends the process when it comes to this point, `plan-before-commit:7` at the
//! seventh time, and `plan-before-commit=stop` stops it there as SIGSTOP does. Only with the feature `failpoints`, which the tests turn on; without it nothing is left of a call.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for test builds: no release may have it");

/// Ends the process here, if this point was asked for.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn reach(_name: &str) {}

/// Ends the process here, if this point was asked for: like SIGKILL, without a destructor, a rollback or a flush. Or
/// stops it, until somebody sends SIGCONT.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Chosen {
        name: String,
        left: AtomicU32,
        stops: bool,
    }
    // of the process, as the variable is: a crash is no part of any configuration
    static CHOSEN: LazyLock<Option<Chosen>> = LazyLock::new(|| {
        let text = std::env::var("FANFARE_FAILPOINT").ok()?;
        let (point, action) = text.split_once('=').unwrap_or((&text, "abort"));
        let (name, times) = point.split_once(':').unwrap_or((point, "1"));
        let left = AtomicU32::new(times.parse().unwrap_or(1));
        Some(Chosen { name: name.to_owned(), left, stops: action == "stop" })
    });
    let Some(chosen) = &*CHOSEN else { return };
    if chosen.name != name || chosen.left.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    tracing::error!(failpoint = name, "the process dies or stops here, as it was asked to");
    if chosen.stops {
        let stopped =
            std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
        assert!(stopped.is_ok(), "{stopped:?}");
    } else {
        std::process::abort();
    }
}
