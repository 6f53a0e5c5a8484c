//! Mail by SMTP (RFC 5321), handed to one of several mail servers that take it from this service.
//!
//! A mail is written by `lettre`; the way to the server is of our own, since `lettre`'s makes a round trip of every
//! command, and a write of its own of the dot at the end.

mod address;
mod connection;
mod judgement;
mod message;
mod relay;
mod reply;
mod settings;
mod tls;

use std::net::IpAddr;

pub use settings::{Login, Server, Settings, Tls, servers};

use self::connection::Unopened;
use self::message::{Composer, Mail};
use self::relay::Relay;
use super::{Answer, Channel, Delivery, Sending};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::kinds::ChannelKind;

/// The adapter.
pub struct Email {
    composer: Composer,
    relays: Vec<Relay>,
}

impl Email {
    /// As the settings say. Connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the setting that cannot be used; when the TLS stack cannot be set up.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self> {
        let composer = Composer::new(&settings, clock)?;
        let Settings { servers, hello_name, extra_ca, mails_per_connection, .. } = settings;
        if servers.is_empty() {
            return Err(Error::invalid(
                "email.smtp_url (SMTP_URL)",
                "must name at least one server: smtp://HOST",
            ));
        }
        if let Some(server) = servers.iter().find(|server| is_overheard(server)) {
            let why = format!(
                "the password for {} would go over the network in clear: set SMTP_TLS to required or implicit",
                server.host
            );
            return Err(Error::invalid("email.smtp_url (SMTP_URL)", why));
        }
        if !hello_name.as_deref().is_none_or(is_hello_name) {
            return Err(Error::invalid(
                "email.hello_name (SMTP_HELLO_NAME)",
                "must be a name such as mail.example.com",
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

    async fn attempt(&self, delivery: Delivery) -> Answer {
        match self.composer.compose(&delivery) {
            Ok(mail) => self.hand_over(&mail).await,
            Err(why) => Answer::permanent(None, why),
        }
    }

    /// To one of the servers, by their weights; to another one while none that was asked can be used.
    async fn hand_over(&self, mail: &Mail) -> Answer {
        let mut left: Vec<_> = self.relays.iter().filter(|relay| !relay.rests()).collect();
        if left.is_empty() {
            left = self.relays.iter().collect();
        }
        let mut why = String::new();
        while let Some(at) = drawn(left.iter().map(|relay| relay.weight())) {
            match left.swap_remove(at).deliver(mail).await {
                Ok(answer) => return answer,
                Err(Unopened::LocalFault) => return Answer::local_fault(),
                Err(Unopened::Unusable(reason)) => why = reason,
            }
        }
        Answer::none(why)
    }
}

impl Channel for Email {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Email
    }

    fn send(&self, delivery: Delivery) -> Sending<'_> {
        Box::pin(self.attempt(delivery))
    }

    /// SMTP has nothing to know a repeat by; some mailboxes fold mails of one `Message-ID`.
    fn drops_repeats(&self) -> bool {
        false
    }
}

/// Whether somebody on the way could read its password.
fn is_overheard(server: &Server) -> bool {
    let is_here = server.host == "localhost" || server.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    server.login.is_some() && server.tls == Tls::None && !is_here
}

/// A name, or an address in brackets (RFC 5321, 4.1.3).
fn is_hello_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Which of these is drawn, each as often as its weight says.
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
