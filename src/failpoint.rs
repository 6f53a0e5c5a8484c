//! Points at which a test build dies on purpose, to see what a crash at just this instant leaves behind.
//!
//! `FANFARE_FAILPOINT=plan-before-commit` ends the process when it comes to this point, `plan-before-commit:7` at the
//! seventh time. Only with the feature `failpoints`, which the tests turn on; without it nothing is left of a call.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for test builds: no release may have it");

/// Ends the process here, if this point was asked for.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn reach(_name: &str) {}

/// Ends the process here, if this point was asked for: like SIGKILL, without a destructor, a rollback or a flush.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    // of the process, as the variable is: a crash is no part of any configuration
    static CHOSEN: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("FANFARE_FAILPOINT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU32::new(times.parse().unwrap_or(1))))
    });
    if let Some((chosen, left)) = &*CHOSEN
        && chosen == name
        && left.fetch_sub(1, Ordering::AcqRel) == 1
    {
        tracing::error!(failpoint = name, "the process dies as it was asked to");
        std::process::abort();
    }
}
