//! A connection to a mail server (RFC 5321), which sends mails one after the other.
//!
//! The envelope is sent in one write if the server supports pipelining (RFC 2920), and the content with its final dot
//! in another: a mail costs two round trips. A connection has one owner at a time. Dropping it in the middle of an
//! exchange closes it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::message::Mail;
use super::reply::{NoReply, ReplyBuffer, SmtpReply};
use super::reply_codes::{self, Stage};
use super::settings::{MailServer, SmtpLogin, Tls};
use crate::channels::report::AttemptReport;
use crate::egress::local::is_local;

/// Timeout of opening a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of everything before the first mail. Some servers delay the greeting of strangers by several seconds.
const SESSION_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of `NOOP` and `QUIT`.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest command, with its line end (RFC 5321, 4.5.3.1.4).
const LONGEST_COMMAND: usize = 512;

/// The parameters of a new connection.
pub(super) struct Opener<'s> {
    /// The server.
    pub(super) server: &'s MailServer,
    /// Set if the server uses TLS.
    pub(super) tls: Option<&'s TlsConnector>,
    /// The name that the service sends in `EHLO`.
    pub(super) hello_name: Option<&'s str>,
}

/// A byte stream in both directions.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

struct Wire<I> {
    io: I,
    inbox: ReplyBuffer,
}

impl<I: Io> Wire<I> {
    fn new(io: I) -> Self {
        Self { io, inbox: ReplyBuffer::default() }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), NoReply> {
        self.io.write_all(bytes).await.map_err(|_| NoReply::Closed)?;
        self.io.flush().await.map_err(|_| NoReply::Closed)
    }

    async fn hear(&mut self) -> Result<SmtpReply, NoReply> {
        self.inbox.reply(&mut self.io).await
    }

    async fn ask(&mut self, command: &str) -> Result<SmtpReply, NoReply> {
        self.say(format!("{command}\r\n").as_bytes()).await?;
        self.hear().await
    }

    async fn greeting(&mut self) -> Result<(), String> {
        expect("greeting", self.hear().await, 220).map(drop)
    }

    async fn hello(&mut self, name: &str) -> Result<Extensions, String> {
        let reply = expect("EHLO", self.ask(&format!("EHLO {name}")).await, 250)?;
        Ok(Extensions::read(&reply))
    }
}

/// Returns the reply if it has this code.
fn expect(to: &str, reply: Result<SmtpReply, NoReply>, code: u16) -> Result<SmtpReply, String> {
    match reply {
        Ok(reply) if reply.code == code => Ok(reply),
        Ok(reply) => Err(format!("it replied {} ({to})", reply.codes())),
        Err(why) => Err(format!("{} ({to})", why.as_str())),
    }
}

/// The SMTP extensions of a server.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Extensions {
    pipelining: bool,
    starttls: bool,
    utf8: bool,
    /// Set if `SIZE` was offered, with the largest mail in bytes if the server named it.
    size: Option<Option<u64>>,
    plain: bool,
    login: bool,
}

impl Extensions {
    fn read(reply: &SmtpReply) -> Self {
        let mut found = Self::default();
        // the first line is the server's name
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']);
            match words.next() {
                Some("PIPELINING") => found.pipelining = true,
                Some("STARTTLS") => found.starttls = true,
                Some("SMTPUTF8") => found.utf8 = true,
                Some("SIZE") => {
                    let limit = words.next().and_then(|word| word.parse().ok()).filter(|limit| *limit > 0);
                    found.size = Some(limit);
                }
                // `AUTH=` is the form from before the standard
                Some("AUTH") => {
                    for word in words {
                        found.plain |= word == "PLAIN";
                        found.login |= word == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// The reason why no connection was opened. No mail was sent.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// This machine lacks a resource for a connection.
    LocalFault,
    /// The server accepts no mail at present, with the reason.
    Unusable(String),
}

/// A connection that cannot be used any more.
#[derive(Debug)]
pub(super) struct ConnectionLost {
    /// The outcome of the mail.
    pub(super) answer: AttemptReport,
    /// True if no part of the mail was sent, so that another connection can send it.
    pub(super) untouched: bool,
}

/// An open, authenticated connection between two mails.
pub(super) struct SmtpConnection {
    wire: Wire<Box<dyn Io>>,
    extensions: Extensions,
    /// Mails sent or attempted.
    mails: u32,
    /// True if a mail was begun and not finished.
    is_begun: bool,
}

impl SmtpConnection {
    /// Connects, and completes everything before the first mail.
    ///
    /// # Errors
    /// The reason why this server accepts no mail at present. No mail was sent.
    pub(super) async fn open(opener: &Opener<'_>) -> Result<Self, ConnectError> {
        let address = (opener.server.host.as_str(), opener.server.port);
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) if is_local(&e) => return Err(ConnectError::LocalFault),
            Ok(Err(e)) => {
                return Err(ConnectError::Unusable(format!("it could not be reached ({})", e.kind())));
            }
            Err(_) => {
                let why = format!("it could not be reached within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(ConnectError::Unusable(why));
            }
        };
        // a command must not wait for the acknowledgement of the previous one
        let _ = stream.set_nodelay(true);
        let session = timeout(SESSION_TIMEOUT, Self::session(stream, opener)).await.unwrap_or_else(|_| {
            Err(format!("it was not ready to accept a mail within {} s", SESSION_TIMEOUT.as_secs()))
        });
        session.map_err(ConnectError::Unusable)
    }

    async fn session(stream: TcpStream, opener: &Opener<'_>) -> Result<Self, String> {
        let Opener { server, .. } = opener;
        let name = match (opener.hello_name, stream.local_addr()) {
            (Some(name), _) => name.to_owned(),
            (None, Ok(address)) if address.is_ipv6() => format!("[IPv6:{}]", address.ip()),
            (None, Ok(address)) => format!("[{}]", address.ip()),
            (None, Err(_)) => "[127.0.0.1]".to_owned(),
        };
        let io: Box<dyn Io> = match server.tls {
            Tls::Implicit => Box::new(handshake(stream, opener).await?),
            Tls::None => Box::new(stream),
            Tls::Required => {
                let mut wire = Wire::new(stream);
                wire.greeting().await?;
                if !wire.hello(&name).await?.starttls {
                    return Err(
                        "it does not offer STARTTLS, which SMTP_TLS requires: nothing was sent in clear text"
                            .into(),
                    );
                }
                expect("STARTTLS", wire.ask("STARTTLS").await, 220)?;
                // an attacker can inject clear text here, to be read as if it came through TLS (CVE-2011-0411)
                if !wire.inbox.is_empty() {
                    return Err("it sent clear text after its reply to STARTTLS".into());
                }
                Box::new(handshake(wire.io, opener).await?)
            }
        };
        let mut wire = Wire::new(io);
        if server.tls != Tls::Required {
            wire.greeting().await?;
        }
        let extensions = wire.hello(&name).await?;
        if let Some(login) = &server.login {
            log_in(&mut wire, &extensions, login).await?;
        }
        Ok(Self { wire, extensions, mails: 0, is_begun: false })
    }

    /// The number of mails sent over this connection.
    pub(super) fn mails(&self) -> u32 {
        self.mails
    }

    /// Returns true if another mail can be sent: no reply is left unread.
    pub(super) fn is_in_step(&self) -> bool {
        self.wire.inbox.is_empty()
    }

    /// Returns true if the peer seems to have kept the connection open and has sent nothing. Anything it sends while
    /// idle would announce that it closes.
    pub(super) fn is_open(&mut self) -> bool {
        self.is_in_step() && self.wire.io.read(&mut [0]).now_or_never().is_none()
    }

    /// Returns true if the peer still replies: a router on the way may have forgotten the connection.
    pub(super) async fn ping(&mut self) -> bool {
        let reply = timeout(PING_TIMEOUT, self.wire.ask("NOOP")).await;
        matches!(reply, Ok(Ok(reply)) if reply.code == 250)
    }

    /// Sends `QUIT` in the background, and releases the slot when the connection is closed.
    pub(super) fn quit(mut self, slot: Option<OwnedSemaphorePermit>) {
        tokio::spawn(async move {
            let _ = timeout(PING_TIMEOUT, self.wire.ask("QUIT")).await;
            drop(self);
            drop(slot);
        });
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// [`ConnectionLost`], with the outcome of the mail.
    pub(super) async fn deliver(&mut self, mail: &Mail) -> Result<AttemptReport, ConnectionLost> {
        let size = mail.content.len();
        if self.extensions.size.flatten().is_some_and(|limit| size as u64 > limit) {
            return Ok(AttemptReport::permanent(None, "the mail is larger than the mail server accepts"));
        }
        let is_utf8 = mail.to.is_utf8() || mail.from.is_utf8();
        if is_utf8 && !self.extensions.utf8 {
            let why = "the address is not in ASCII, and the mail server does not support SMTPUTF8";
            return Ok(AttemptReport::permanent(None, why));
        }
        self.mails = self.mails.saturating_add(1);
        if let Some(answer) = self.envelope(mail, is_utf8).await? {
            return Ok(answer);
        }
        let written = self.wire.say(&stuffed(&mail.content)).await;
        let reply = match (self.wire.hear().await, written) {
            (Ok(reply), _) => reply,
            // the server may have received the whole mail
            (Err(why), _) => {
                return Err(ConnectionLost { answer: reply_codes::unanswered(why), untouched: false });
            }
        };
        self.is_begun = false;
        let answer = reply_codes::of(Stage::Content, &reply);
        if reply_codes::closes(Stage::Content, &reply) {
            Err(ConnectionLost { answer, untouched: false })
        } else {
            Ok(answer)
        }
    }

    /// Sends the commands before the content. Returns an answer if the server refused one of them.
    async fn envelope(
        &mut self,
        mail: &Mail,
        is_utf8: bool,
    ) -> Result<Option<AttemptReport>, ConnectionLost> {
        let mut from = format!("MAIL FROM:<{}>", mail.from);
        if self.extensions.size.is_some() {
            from.push_str(&format!(" SIZE={}", mail.content.len()));
        }
        if is_utf8 {
            from.push_str(" BODY=8BITMIME SMTPUTF8");
        }
        let commands = [
            (Stage::Reset, "RSET\r\n".to_owned()),
            (Stage::Sender, from + "\r\n"),
            (Stage::Recipient, format!("RCPT TO:<{}>\r\n", mail.to)),
            (Stage::Data, "DATA\r\n".to_owned()),
        ];
        let (_, commands) = commands.split_at(usize::from(!self.is_begun));
        self.is_begun = true;

        let lost = |answer| ConnectionLost { answer, untouched: true };
        let pipelining = self.extensions.pipelining;
        if pipelining {
            let all: String = commands.iter().map(|(_, command)| command.as_str()).collect();
            self.wire.say(all.as_bytes()).await.map_err(|why| lost(reply_codes::unanswered(why)))?;
        }
        let mut refused: Option<AttemptReport> = None;
        for (stage, command) in commands {
            let heard = async {
                if !pipelining {
                    self.wire.say(command.as_bytes()).await?;
                }
                self.wire.hear().await
            };
            let reply = match (heard.await, &refused) {
                (Ok(reply), _) => reply,
                (Err(_), Some(answer)) => {
                    return Err(ConnectionLost { answer: answer.clone(), untouched: false });
                }
                (Err(why), None) => return Err(lost(reply_codes::unanswered(why))),
            };
            if reply_codes::closes(*stage, &reply) {
                let untouched = refused.is_none();
                let answer = refused.unwrap_or_else(|| reply_codes::of(*stage, &reply));
                return Err(ConnectionLost { answer, untouched });
            }
            if *stage == Stage::Data && reply.code == 354 && refused.is_some() {
                // a mail without recipients is ended at once (RFC 2920, 3.1)
                let ended = match self.wire.say(b".\r\n").await {
                    Ok(()) => self.wire.hear().await,
                    Err(why) => Err(why),
                };
                self.is_begun = false;
                return match (ended, refused) {
                    (Err(_), Some(answer)) => Err(ConnectionLost { answer, untouched: false }),
                    (_, refused) => Ok(refused),
                };
            }
            if !reply_codes::goes_on(*stage, &reply) && refused.is_none() {
                refused = Some(reply_codes::of(*stage, &reply));
                if !pipelining {
                    break;
                }
            }
        }
        Ok(refused)
    }
}

async fn handshake(
    stream: TcpStream,
    opener: &Opener<'_>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let name =
        ServerName::try_from(opener.server.host.clone()).map_err(|_| "its name is not valid for TLS")?;
    let tls = opener.tls.ok_or("TLS is not set up")?;
    tls.connect(name, stream).await.map_err(|e| match e.get_ref().and_then(|e| e.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = format!("{why:?}");
            // the rest describes the actual and the expected certificate, and is long
            let word: String = why.chars().take_while(char::is_ascii_alphanumeric).collect();
            format!("its certificate is not trusted ({word})")
        }
        Some(_) => "the TLS handshake failed".to_owned(),
        None => format!("the connection broke during the TLS handshake ({})", e.kind()),
    })
}

async fn log_in(wire: &mut Wire<Box<dyn Io>>, offered: &Extensions, login: &SmtpLogin) -> Result<(), String> {
    let password = login.password.expose_secret();
    let mut steps = Vec::new();
    if offered.plain {
        let secret = BASE64.encode(format!("\0{}\0{password}", login.user));
        let command = format!("AUTH PLAIN {secret}");
        if command.len() < LONGEST_COMMAND - 2 {
            steps.push(command);
        } else {
            steps.extend(["AUTH PLAIN".to_owned(), secret]);
        }
    } else if offered.login {
        steps.extend(["AUTH LOGIN".to_owned(), BASE64.encode(&login.user), BASE64.encode(password)]);
    } else {
        return Err("it offers no supported way to authenticate (PLAIN, LOGIN)".into());
    }
    let last = steps.len().saturating_sub(1);
    for (at, step) in steps.iter().enumerate() {
        expect("AUTH", wire.ask(step).await, if at == last { 235 } else { 334 })?;
    }
    Ok(())
}

/// Doubles the dot before each line that begins with one, and appends the dot that ends the mail (RFC 5321, 4.5.2).
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len().saturating_add(content.len() / 64).saturating_add(8));
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            bytes.push(b'.');
        }
        bytes.extend_from_slice(line);
    }
    bytes.extend_from_slice(b".\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extensions(lines: &[&str]) -> Extensions {
        Extensions::read(&SmtpReply { code: 250, lines: lines.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn what_a_server_can_do_is_read_whatever_the_case() {
        let found = extensions(&[
            "STARTTLS.example.com greets you",
            "pipelining",
            "Size 1000",
            "STARTTLS",
            "SMTPUTF8",
            "AUTH=LOGIN",
            "AUTH CRAM-MD5 PLAIN",
            "X-PIPELINING",
        ]);
        let all = Extensions {
            pipelining: true,
            starttls: true,
            utf8: true,
            size: Some(Some(1000)),
            plain: true,
            login: true,
        };
        assert_eq!(found, all);
        assert_eq!(extensions(&["PIPELINING"]), Extensions::default(), "that is its name");
        for (line, size) in [("SIZE", None), ("SIZE 0", None), ("SIZE x", None), ("SIZE 7 8", Some(7))] {
            assert_eq!(extensions(&["a", line]).size, Some(size));
        }
        assert_eq!(extensions(&["a", "STARTTLSX", "SIZEX 5", "AUTH", ""]), Extensions::default());
    }

    proptest! {
        #[test]
        fn a_mail_ends_where_it_ends_and_is_what_it_was(lines in proptest::collection::vec("[.a]{0,4}", 0..8)) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let sent = String::from_utf8(stuffed(content.as_bytes())).unwrap();
            let mut received = String::new();
            let mut rest = sent.as_str();
            while let Some((line, after)) = rest.split_once("\r\n") {
                rest = after;
                if line == "." {
                    break;
                }
                received.push_str(line.strip_prefix('.').unwrap_or(line));
                received.push_str("\r\n");
            }
            prop_assert_eq!(rest, "", "nothing stands behind the end");
            prop_assert_eq!(received, content);
        }
    }
}
