//! What the tests of the channels share whose recipients are URLs.

use std::sync::Arc;
use std::time::Duration;

use fanfare::channels::Delivery;
use fanfare::egress::guard::{Guard, Settings};

/// Reaches loopback, and is patient for so long.
pub fn guard(timeout: Duration) -> Arc<Guard> {
    let allowed = "127.0.0.0/8".parse().unwrap();
    Arc::new(Guard::new(&Settings { allowed, timeout, ..Settings::default() }).unwrap())
}

/// A message for the recipient at this URL.
pub fn delivery(url: String) -> Delivery {
    Delivery { subject: Some("Ünïcode ✓".into()), ..Delivery::to(url, "Hello \"you\" 🎺") }
}
