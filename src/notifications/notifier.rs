//! The port through which notifications wake the engine.

use crate::messages::cancelling::Recall;

/// The port through which notifications wake the engine. A call is a hint; the engine's own poll is the guarantee.
pub trait NewMessageNotifier: Recall {
    /// Signals that notifications were accepted, or are due at another time.
    fn arrived(&self);
}
