//! The broker, as it is configured.

use std::time::Duration;

use crate::broker::{Access, Settings};
use crate::config::{Config, named};
use crate::error::{Error, Result};

/// Before the second delivery of an event that was refused.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// After so long without a word of its node an event is another's.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// What is read from where; none when no broker is named.
///
/// # Errors
/// [`Error::Invalid`] when its URL cannot be one.
pub fn settings(config: &Config) -> Result<Option<Settings>> {
    let broker = &config.broker;
    let Some(url) = &broker.url else { return Ok(None) };
    let access = Access::new(url, broker.credentials.clone(), broker.extra_ca.clone())
        .map_err(|why| Error::invalid(named("broker.url"), why))?;
    Ok(Some(Settings {
        access,
        stream: broker.stream.clone(),
        subject: broker.subject.clone(),
        consumer: broker.consumer.clone(),
        batch: broker.batch,
        tries: broker.tries,
        first_delay: FIRST_DELAY,
        ack_wait: ACK_WAIT,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_there_when_its_url_is() {
        let settings = |keys: &[(&str, &str)]| settings(&Config::with(keys).unwrap());
        assert!(settings(&[]).unwrap().is_none());
        let some = settings(&[("broker.url", "nats://u:p@broker"), ("broker.batch", "7")]).unwrap().unwrap();
        assert_eq!((some.access.to_string(), some.batch, some.tries), ("broker:4222".to_owned(), 7, 5));
        let wrong = settings(&[("broker.url", "http://u:s3cr3t@broker")]).unwrap_err().to_string();
        assert!(wrong.contains("NATS_URL") && !wrong.contains("s3cr3t"), "{wrong}");
    }
}
