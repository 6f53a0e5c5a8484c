//! Points at which a test build crashes on purpose, so that tests see the state that a crash at this instant leaves.
//!
//! `FANFARE_FAILPOINT=plan-before-commit` aborts the process when it reaches this point, `plan-before-commit:7` at the
//! seventh time, and `plan-before-commit=stop` stops it there as SIGSTOP does. This needs the feature `failpoints`,
//! which the tests enable; without it a call compiles to nothing.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for test builds: no release may have it");

/// Aborts the process here, if this point is selected.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn reach(_name: &str) {}

/// Aborts the process here, if this point is selected: like SIGKILL, without destructors, rollback or flush. With
/// `=stop` it stops the process until SIGCONT.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Chosen {
        name: String,
        left: AtomicU32,
        stops: bool,
    }
    // global to the process, as the variable is: a crash is not part of any configuration
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
    tracing::error!(failpoint = name, "failpoint reached; the process aborts or stops");
    if chosen.stops {
        let stopped =
            std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
        assert!(stopped.is_ok(), "{stopped:?}");
    } else {
        std::process::abort();
    }
}
