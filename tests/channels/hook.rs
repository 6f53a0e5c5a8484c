//! Shared parts of the tests of channels whose recipients are URLs.

use std::sync::Arc;
use std::time::Duration;

use fanfare::channels::Delivery;
use fanfare::egress::guard::{Guard, Settings};

/// Creates a guard that may reach loopback, with this timeout.
pub fn guard(timeout: Duration) -> Arc<Guard> {
    let allowed = "127.0.0.0/8".parse().unwrap();
    Arc::new(Guard::new(&Settings { allowed, timeout, ..Settings::default() }).unwrap())
}

/// Creates a message for the recipient at this URL.
pub fn delivery(url: String) -> Delivery {
    Delivery { subject: Some("Ünïcode ✓".into()), ..Delivery::to(url, "Hello \"you\" 🎺") }
}
