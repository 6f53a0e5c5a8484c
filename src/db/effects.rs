//! Records whether a request has committed changes: if it fails afterwards, its response must not say that nothing was
//! changed.

use std::cell::Cell;
use std::future::Future;

tokio::task_local! {
    static WRITTEN: Cell<bool>;
}

/// Runs a request and records its commits.
pub async fn noted<F: Future>(request: F) -> F::Output {
    WRITTEN.scope(Cell::new(false), request).await
}

/// Records a commit of the current request, if there is one.
pub(super) fn note() {
    // an error means that this runs outside of a request
    let _ = WRITTEN.try_with(|written| written.set(true));
}

/// Returns true if the current request has committed changes.
pub fn are_noted() -> bool {
    WRITTEN.try_with(Cell::get).unwrap_or_default()
}
