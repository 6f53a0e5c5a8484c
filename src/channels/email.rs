//! E-mail by SMTP (RFC 5321), through one of several mail servers that relay for this service.
//!
//! `lettre` builds the mail. The SMTP client is our own, since `lettre`'s makes one round trip for each command and
//! sends the final dot in a separate write.

mod address;
mod connection;
mod message;
mod relay;
mod reply;
mod reply_codes;
mod settings;
mod tls;

use std::net::IpAddr;

pub use settings::{MailServer, SmtpLogin, SmtpSettings, Tls, servers};

use self::connection::ConnectError;
use self::message::{Composer, Mail};
use self::relay::Relay;
use super::channel::{AttemptFuture, Channel};
use super::delivery::Delivery;
use super::report::AttemptReport;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;

/// The SMTP adapter.
pub struct Email {
    composer: Composer,
    relays: Vec<Relay>,
}

impl Email {
    /// Creates the adapter from the settings. It opens no connection.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the setting that cannot be used, or if TLS cannot be set up.
    pub fn new(settings: SmtpSettings, clock: Clock) -> Result<Self> {
        let composer = Composer::new(&settings, clock)?;
        let SmtpSettings { servers, hello_name, extra_ca, mails_per_connection, .. } = settings;
        if servers.is_empty() {
            return Err(Error::invalid(
                "email.smtp_url (SMTP_URL)",
                "must name at least one server: smtp://HOST",
            ));
        }
        if let Some(server) = servers.iter().find(|server| is_overheard(server)) {
            let why = format!(
                "the password for {} would be sent over the network in clear text: set SMTP_TLS to required or implicit",
                server.host
            );
            return Err(Error::invalid("email.smtp_url (SMTP_URL)", why));
        }
        if !hello_name.as_deref().is_none_or(is_hello_name) {
            return Err(Error::invalid(
                "email.hello_name (SMTP_HELLO_NAME)",
                "must be a host name such as mail.example.com",
            ));
        }
        if mails_per_connection == 0 {
            return Err(Error::invalid("email.mails_per_connection", "must be at least 1"));
        }
        let needs_tls = servers.iter().any(|server| server.tls != Tls::None);
        let tls = needs_tls.then(|| tls::connector(extra_ca.as_deref())).transpose()?;
        let relay = |server| Relay::new(server, tls.clone(), hello_name.clone(), mails_per_connection);
        Ok(Self { composer, relays: servers.into_iter().map(relay).collect() })
    }

    async fn attempt(&self, delivery: Delivery) -> AttemptReport {
        match self.composer.compose(&delivery) {
            Ok(mail) => self.hand_over(&mail).await,
            Err(why) => AttemptReport::permanent(None, why),
        }
    }

    /// Sends the mail through a server drawn by weight. If that server is unusable, tries another.
    async fn hand_over(&self, mail: &Mail) -> AttemptReport {
        let mut left: Vec<_> = self.relays.iter().filter(|relay| !relay.rests()).collect();
        if left.is_empty() {
            left = self.relays.iter().collect();
        }
        let mut why = String::new();
        while let Some(at) = drawn(left.iter().map(|relay| relay.weight())) {
            match left.swap_remove(at).deliver(mail).await {
                Ok(answer) => return answer,
                Err(ConnectError::LocalFault) => return AttemptReport::local_fault(),
                Err(ConnectError::Unusable(reason)) => why = reason,
            }
        }
        AttemptReport::none(why)
    }
}

impl Channel for Email {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Email
    }

    fn send(&self, delivery: Delivery) -> AttemptFuture<'_> {
        Box::pin(self.attempt(delivery))
    }

    /// SMTP has no field to detect a repeat by; some mailboxes merge mails of one `Message-ID`.
    fn drops_repeats(&self) -> bool {
        false
    }
}

/// Returns true if the password would cross the network in clear text.
fn is_overheard(server: &MailServer) -> bool {
    let is_here = server.host == "localhost" || server.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    server.login.is_some() && server.tls == Tls::None && !is_here
}

/// Accepts a host name, or an address in brackets (RFC 5321, 4.1.3).
fn is_hello_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Draws an index at random, in proportion to the weights.
fn drawn(weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let sum = weights.clone().map(u64::from).sum::<u64>();
    let mut left = fastrand::u64(0..sum.max(1));
    weights.enumerate().find_map(|(at, weight)| match left.checked_sub(weight.into()) {
        Some(rest) => {
            left = rest;
            None
        }
        None => Some(at),
    })
}

#[cfg(test)]
mod tests;
