//! Notes the changes of a request: when it fails after one, its answer must not say that nothing was changed.

use std::cell::Cell;
use std::future::Future;

tokio::task_local! {
    static WRITTEN: Cell<bool>;
}

/// Runs a request, whose commits are noted.
pub async fn noted<F: Future>(request: F) -> F::Output {
    WRITTEN.scope(Cell::new(false), request).await
}

/// Notes a commit of the request that is being run, if there is one.
pub(super) fn note() {
    // an error: this is no request
    let _ = WRITTEN.try_with(|written| written.set(true));
}

/// Returns whether the request that is being run has committed anything.
pub fn are_noted() -> bool {
    WRITTEN.try_with(Cell::get).unwrap_or_default()
}
