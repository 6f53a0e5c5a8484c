//! Tests against servers that the test scripts word by word; `tests/channels/email.rs` has real ones.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::channels::DeliveryResult;

const HELLO: &str = "250-mail.example.com\r\n250-PIPELINING\r\n250 SIZE 100000\r\n";

/// A scripted mail server.
struct Server(TcpListener);

impl Server {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("smtp://{}", self.0.local_addr().unwrap())
    }

    async fn accept(&self) -> Session {
        Session(BufReader::new(self.0.accept().await.unwrap().0))
    }

    /// Sends the greeting and the extensions.
    async fn welcome(&self, hello: &str) -> Session {
        let mut session = self.accept().await;
        session.say("220 mail.example.com ESMTP\r\n").await;
        assert_eq!(session.line().await, "EHLO [127.0.0.1]");
        session.say(hello).await;
        session
    }
}

struct Session(BufReader<TcpStream>);

impl Session {
    async fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("no line: {line:?}")).to_owned()
    }

    async fn lines(&mut self, lines: &[&str]) {
        for line in lines {
            let found = self.line().await;
            assert!(found.starts_with(line), "{found} instead of {line}");
        }
    }

    /// Accepts the envelope of a mail.
    async fn envelope(&mut self) {
        self.lines(&["MAIL FROM:<news@example.com> SIZE=", "RCPT TO:<anna@example.net>", "DATA"]).await;
        self.say("250 ok\r\n250 ok\r\n354 go on\r\n").await;
    }

    /// Reads a mail to its end.
    async fn content(&mut self) -> String {
        let mut content = String::new();
        loop {
            match self.line().await.as_str() {
                "." => return content,
                line => content.push_str(&format!("{line}\n")),
            }
        }
    }

    async fn mail(&mut self) {
        self.envelope().await;
        self.content().await;
        self.say("250 2.0.0 Ok: queued as 12AB\r\n").await;
    }

    async fn is_closed(&mut self) -> bool {
        matches!(self.0.read_u8().await, Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof)
    }
}

fn email(urls: &str, change: impl FnOnce(&mut SmtpSettings)) -> Email {
    let mut settings = SmtpSettings::new(urls, Some(Tls::None), "News <news@example.com>").unwrap();
    change(&mut settings);
    Email::new(settings, Clock::System).unwrap()
}

fn delivery() -> Delivery {
    Delivery { subject: Some("Hi".into()), ..Delivery::to("anna@example.net", "Hello\n.dot\n..\n") }
}

fn transient(answer: &AttemptReport) -> &str {
    match &answer.verdict {
        DeliveryResult::Transient { error, retry_after: None } => error,
        other => unreachable!("{other:?}"),
    }
}

fn is_taken(answer: &AttemptReport) -> bool {
    let taken = (DeliveryResult::Delivered, Some(250), Some("12AB"));
    (answer.verdict.clone(), answer.status_code, answer.provider_id.as_deref()) == taken
}

#[tokio::test]
async fn a_mail_takes_two_writes_and_the_connection_is_used_again() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        let mut session = server.welcome(HELLO).await;
        let mut envelope = vec![0; 1000];
        let read = session.0.get_mut().read(&mut envelope).await.unwrap();
        let envelope = String::from_utf8_lossy(&envelope[..read]).into_owned();
        let lines: Vec<_> = envelope.split("\r\n").collect();
        assert!(lines[0].starts_with("MAIL FROM:<news@example.com> SIZE="), "{envelope}");
        assert_eq!(lines[1..], ["RCPT TO:<anna@example.net>", "DATA", ""], "all of it in one write");
        session.say("250 ok\r\n250 ok\r\n354 go on\r\n").await;
        let mut content = vec![0; 10_000];
        let read = session.0.get_mut().read(&mut content).await.unwrap();
        assert!(content[..read].ends_with(b"Hello\r\n..dot\r\n...\r\n\r\n.\r\n"), "all of it in one write");
        session.say("250 2.0.0 Ok: queued as 12AB\r\n").await;
        session.mail().await;
    };
    let (_, (first, second)) =
        tokio::join!(serve, async { (email.send(delivery()).await, email.send(delivery()).await) });
    assert!(is_taken(&first) && is_taken(&second), "{first:?} {second:?}");
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_the_last_ones_answer() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        let mut session = server.welcome("250 mail.example.com\r\n").await;
        for command in ["MAIL FROM:<news@example.com>", "RCPT TO:<anna@example.net>"] {
            assert_eq!(session.line().await, command);
            assert!(session.0.buffer().is_empty());
            session.say("250 ok\r\n").await;
        }
        assert_eq!(session.line().await, "DATA");
        session.say("354 go on\r\n").await;
        session.content().await;
        session.say("250 2.0.0 Ok: queued as 12AB\r\n").await;
        assert_eq!(session.line().await, "MAIL FROM:<news@example.com>");
        session.say("250 ok\r\n").await;
        assert_eq!(session.line().await, "RCPT TO:<anna@example.net>");
        session.say("550 5.1.1 unknown\r\n").await;
        session.lines(&["RSET"]).await;
        session.say("250 ok\r\n").await;
        session.lines(&["MAIL FROM"]).await;
        session.say("451 4.3.0 later\r\n").await;
    };
    let send = async {
        assert!(is_taken(&email.send(delivery()).await));
        let gone = email.send(delivery()).await;
        assert_eq!(gone.status_code, Some(550));
        assert!(matches!(gone.verdict, DeliveryResult::Gone { .. }), "{gone:?}");
        let later = email.send(delivery()).await;
        assert_eq!(transient(&later), "the mail server replied 451 4.3.0 to MAIL");
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn after_a_refused_recipient_the_connection_goes_on() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        let mut session = server.welcome(HELLO).await;
        session.lines(&["MAIL", "RCPT", "DATA"]).await;
        session.say("250 ok\r\n550 5.7.1 <anna@example.net>: no\r\n554 5.5.1 no valid recipients\r\n").await;
        session.lines(&["RSET", "MAIL", "RCPT", "DATA"]).await;
        // accepts DATA although it accepted no recipient
        session.say("250 ok\r\n250 ok\r\n451 4.7.1 greylisted\r\n354 go on\r\n").await;
        assert_eq!(session.line().await, ".");
        session.say("554 5.5.1 no valid recipients\r\n").await;
        session.mail().await;
    };
    let send = async {
        let refused = email.send(delivery()).await;
        let error = "the mail server replied 550 5.7.1 to RCPT".to_owned();
        assert_eq!(refused.verdict, DeliveryResult::Permanent { error });
        let later = email.send(delivery()).await;
        let error = "the mail server replied 451 4.7.1 to RCPT".to_owned();
        assert_eq!(later.verdict, DeliveryResult::Deferred { error, retry_after: None });
        assert!(is_taken(&email.send(delivery()).await));
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced_before_the_mail() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        // closed while idle, with and without a reply
        let mut session = server.welcome(HELLO).await;
        session.mail().await;
        session.say("421 4.4.2 idle for too long\r\n").await;
        drop(session);
        let mut session = server.welcome(HELLO).await;
        session.mail().await;
        // closed at the next mail
        session.lines(&["MAIL", "RCPT", "DATA"]).await;
        session.say("421 4.7.0 enough\r\n").await;
        drop(session);
        let mut session = server.welcome(HELLO).await;
        session.mail().await;
        session.lines(&["MAIL", "RCPT", "DATA"]).await;
        drop(session);
        server.welcome(HELLO).await.mail().await;
    };
    let send = async {
        for _ in 0..4 {
            let answer = email.send(delivery()).await;
            assert!(is_taken(&answer), "{answer:?}");
        }
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn what_was_sent_as_a_whole_is_not_sent_again_by_the_same_attempt() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        let mut session = server.welcome(HELLO).await;
        session.mail().await;
        session.envelope().await;
        session.content().await;
        drop(session);
        let mut session = server.welcome(HELLO).await;
        session.lines(&["MAIL", "RCPT", "DATA"]).await;
        session.say("421 4.7.0 enough\r\n").await;
        assert!(session.0.get_mut().read_u8().await.is_err(), "a new connection is not tried twice");
    };
    let send = async {
        assert!(is_taken(&email.send(delivery()).await));
        let lost = email.send(delivery()).await;
        assert_eq!(transient(&lost), "the mail server did not reply: the connection was closed");
        let busy = email.send(delivery()).await;
        assert_eq!(transient(&busy), "the mail server replied 421 4.7.0 to MAIL");
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn an_answer_to_the_recipient_counts_though_the_connection_breaks_after_it() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        for end in ["", "421 4.7.0 enough\r\n", "what?\r\n"] {
            let mut session = server.welcome(HELLO).await;
            session.lines(&["MAIL", "RCPT", "DATA"]).await;
            session.say(&format!("250 ok\r\n550 5.1.1 no\r\n{end}")).await;
        }
    };
    let send = async {
        for _ in 0..3 {
            let answer = email.send(delivery()).await;
            assert!(matches!(answer.verdict, DeliveryResult::Gone { .. }), "{answer:?}");
        }
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn an_attempt_that_is_given_up_takes_its_connection_with_it() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let mut session = {
        let mut attempt = email.send(delivery());
        let serve = async {
            let mut session = server.welcome(HELLO).await;
            session.envelope().await;
            session.content().await;
            session
        };
        tokio::select! {
            answer = &mut attempt => unreachable!("{answer:?}"),
            session = serve => session,
        }
    };
    session.say("250 2.0.0 too late\r\n").await;
    assert!(session.is_closed().await);
    let serve = async { server.welcome(HELLO).await.mail().await };
    let (_, answer) = tokio::join!(serve, email.send(delivery()));
    assert!(is_taken(&answer), "the late answer is not taken for that of the next mail: {answer:?}");
}

#[tokio::test]
async fn a_connection_ends_after_its_share_of_mails() {
    let server = Server::new().await;
    let email = email(&server.url(), |settings| settings.mails_per_connection = 2);
    let serve = async {
        let mut first = server.welcome(HELLO).await;
        first.mail().await;
        first.mail().await;
        first.lines(&["QUIT"]).await;
        first.say("221 bye\r\n").await;
        assert!(first.is_closed().await);
        server.welcome(HELLO).await.mail().await;
    };
    let send = async {
        for _ in 0..3 {
            assert!(is_taken(&email.send(delivery()).await));
        }
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn a_server_has_no_more_connections_than_it_may_have() {
    let server = Server::new().await;
    let email = email(&format!("{}?connections=1", server.url()), |_| {});
    let serve = async {
        let mut session = server.welcome(HELLO).await;
        for _ in 0..3 {
            session.mail().await;
        }
    };
    let answers =
        async { tokio::join!(email.send(delivery()), email.send(delivery()), email.send(delivery())) };
    let (_, answers) = tokio::join!(serve, answers);
    assert!(is_taken(&answers.0) && is_taken(&answers.1) && is_taken(&answers.2), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_rest_the_server_is_asked_whether_it_is_there() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let later = |seconds| tokio::time::advance(Duration::from_secs(seconds));
    let serve = async {
        let mut session = server.welcome(HELLO).await;
        session.mail().await;
        session.lines(&["NOOP"]).await;
        session.say("250 ok\r\n").await;
        session.mail().await;
        // forgotten by a router: no reply, and no end either
        session.lines(&["NOOP"]).await;
        server.welcome(HELLO).await.mail().await;
        session
    };
    let send = async {
        assert!(is_taken(&email.send(delivery()).await));
        later(16).await;
        assert!(is_taken(&email.send(delivery()).await));
        later(16).await;
        assert!(is_taken(&email.send(delivery()).await));
    };
    tokio::join!(serve, send);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_used_is_named_and_said_why() {
    for (hello, why) in [
        ("421 4.3.2 go away x@y.z\r\n", "it replied 421 4.3.2 (greeting)"),
        ("554 no service\r\n", "it replied 554 (greeting)"),
        ("HTTP/1.1 400 Bad Request\r\n", "it did not reply in SMTP (greeting)"),
        ("220 a\r\n500 what?\r\n", "it replied 500 (EHLO)"),
        ("220 a\r\n250-a\r\n251 b\r\n", "it did not reply in SMTP (EHLO)"),
        ("220 a\r\n250-", "it was not ready to accept a mail within 15 s"),
        ("", "it was not ready to accept a mail within 15 s"),
    ] {
        let server = Server::new().await;
        let email = email(&server.url(), |_| {});
        let serve = async {
            let mut session = server.accept().await;
            session.say(hello).await;
            session
        };
        let (_, answer) = tokio::join!(serve, email.send(delivery()));
        let address = server.0.local_addr().unwrap();
        assert_eq!(transient(&answer), format!("the mail server {address} cannot be used: {why}"));
        assert_eq!(answer.status_code, None);
    }
}

#[tokio::test]
async fn answers_without_end_are_given_up() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        let mut session = server.accept().await;
        while session.0.get_mut().write_all(&[b'2'; 1000]).await.is_ok() {}
        let mut session = server.accept().await;
        while session.0.get_mut().write_all(b"220-hello\r\n").await.is_ok() {}
    };
    let send = async {
        for _ in 0..2 {
            let answer = email.send(delivery()).await;
            assert!(transient(&answer).ends_with("it did not reply in SMTP (greeting)"), "{answer:?}");
        }
    };
    tokio::join!(serve, send);
}

#[tokio::test]
async fn nothing_goes_in_clear_where_tls_is_required() {
    let server = Server::new().await;
    let url = server.url().replace("smtp://", "smtp://user:hunter2@");
    let email = email(&url, |settings| settings.servers[0].tls = Tls::Required);
    for (hello, after, why) in [
        (HELLO, "", "it does not offer STARTTLS, which SMTP_TLS requires: nothing was sent in clear text"),
        ("250-a\r\n250 STARTTLS\r\n", "454 4.7.0 not now\r\n", "it replied 454 4.7.0 (STARTTLS)"),
        // text sent after the reply would be read as if it came through TLS (CVE-2011-0411)
        (
            "250-a\r\n250 STARTTLS\r\n",
            "220 go on\r\n250-a\r\n250 AUTH PLAIN\r\n",
            "it sent clear text after its reply to STARTTLS",
        ),
    ] {
        let serve = async {
            let mut session = server.welcome(hello).await;
            if !after.is_empty() {
                assert_eq!(session.line().await, "STARTTLS");
                session.say(after).await;
            }
            assert!(session.is_closed().await, "nothing more is said in clear");
        };
        let (_, answer) = tokio::join!(serve, email.send(delivery()));
        assert!(transient(&answer).ends_with(why), "{answer:?}");
    }
}

#[tokio::test]
async fn it_logs_in_as_the_server_offers() {
    let long = "p".repeat(400);
    for (offer, password, said, last) in [
        (
            "250-a\r\n250 AUTH LOGIN PLAIN\r\n",
            "hunter2",
            vec!["AUTH PLAIN AHVzZXIAaHVudGVyMg=="],
            "235 ok\r\n",
        ),
        (
            "250-a\r\n250 AUTH=LOGIN\r\n",
            "hunter2",
            vec!["AUTH LOGIN", "dXNlcg==", "aHVudGVyMg=="],
            "235 ok\r\n",
        ),
        ("250-a\r\n250 AUTH PLAIN\r\n", &long, vec!["AUTH PLAIN", "AHVzZXIAcHBwcHBw"], "235 ok\r\n"),
        (
            "250-a\r\n250 AUTH PLAIN\r\n",
            "hunter2",
            vec!["AUTH PLAIN AHVzZXIAaHVudGVyMg=="],
            "535 5.7.8 no\r\n",
        ),
        ("250-a\r\n250 AUTH LOGIN\r\n", "hunter2", vec!["AUTH LOGIN"], "535 5.7.8 no\r\n"),
        ("250-a\r\n250 AUTH CRAM-MD5\r\n", "hunter2", vec![], ""),
    ] {
        let server = Server::new().await;
        let email = email(&server.url().replace("smtp://", &format!("smtp://user:{password}@")), |_| {});
        let serve = async {
            let mut session = server.welcome(offer).await;
            for (at, step) in said.iter().enumerate() {
                session.lines(&[step]).await;
                session.say(if at + 1 == said.len() { last } else { "334 \r\n" }).await;
            }
            if last == "235 ok\r\n" {
                for answer in ["250 ok\r\n", "250 ok\r\n", "354 go on\r\n"] {
                    session.line().await;
                    session.say(answer).await;
                }
                session.content().await;
                session.say("250 2.0.0 Ok: queued as 12AB\r\n").await;
            }
        };
        let (_, answer) = tokio::join!(serve, email.send(delivery()));
        match last {
            "235 ok\r\n" => assert!(is_taken(&answer), "{answer:?}"),
            "" => assert!(transient(&answer).ends_with("(PLAIN, LOGIN)"), "{answer:?}"),
            _ => assert!(transient(&answer).ends_with("it replied 535 5.7.8 (AUTH)"), "{answer:?}"),
        }
    }
}

#[tokio::test]
async fn what_the_server_cannot_take_is_not_sent() {
    let server = Server::new().await;
    let email = email(&server.url(), |_| {});
    let serve = async {
        server.welcome("250-a\r\n250-PIPELINING\r\n250 SIZE 1000\r\n").await.mail().await;
    };
    let send = async {
        let large = email.send(Delivery { text: "x\n".repeat(1000), ..delivery() }).await;
        let error = "the mail is larger than the mail server accepts".to_owned();
        assert_eq!(large.verdict, DeliveryResult::Permanent { error });
        let foreign = email.send(Delivery { recipient: "änna@example.net".into(), ..delivery() }).await;
        assert!(matches!(foreign.verdict, DeliveryResult::Permanent { .. }), "{foreign:?}");
        // on the same connection
        assert!(is_taken(&email.send(delivery()).await));
    };
    tokio::join!(serve, send);
}

#[tokio::test(start_paused = true)]
async fn others_take_over_from_a_server_that_cannot_be_used_and_it_rests() {
    let (sick, well) = (Server::new().await, Server::new().await);
    // the failing server is drawn first, unless it is avoided
    let urls = format!("{}?weight=1000 {}", sick.url(), well.url());
    fastrand::seed(1);
    let email = email(&urls, |settings| settings.mails_per_connection = 1);
    for _ in 0..2 {
        let is_asked = std::cell::Cell::new(false);
        let refuse = async {
            sick.accept().await.say("421 4.3.2 not now\r\n").await;
            is_asked.set(true);
            sick.0.accept().await.map(drop)
        };
        let exchange = async {
            for _ in 0..3 {
                let take = async { well.welcome(HELLO).await.mail().await };
                let (_, answer) = tokio::join!(take, email.send(delivery()));
                assert!(is_taken(&answer), "{answer:?}");
            }
        };
        tokio::select! {
            () = exchange => {}
            again = refuse => unreachable!("it was asked while it rested: {again:?}"),
        }
        assert!(is_asked.get());
        tokio::time::advance(Duration::from_secs(31)).await;
    }
}

#[test]
fn servers_are_drawn_by_their_weights() {
    let mut count = [0_u32; 3];
    for _ in 0..10_000 {
        count[drawn([6, 3, 1].into_iter()).unwrap()] += 1;
    }
    assert!((5_700..6_300).contains(&count[0]) && (2_700..3_300).contains(&count[1]), "{count:?}");
    assert_eq!(drawn([].into_iter()), None);
    assert_eq!(drawn([0].into_iter()), None);
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let refused = |urls: &str, change: fn(&mut SmtpSettings)| {
        let mut settings = SmtpSettings::new(urls, Some(Tls::None), "news@example.com").unwrap();
        change(&mut settings);
        Email::new(settings, Clock::System).err().map(|error| error.to_string())
    };
    assert_eq!(
        refused("smtp://u:hunter2@localhost smtp://u:p@127.0.0.2 smtp://u:p@[::1] smtp://a.example", |_| {}),
        None
    );
    for (urls, change, named) in [
        ("smtp://u:hunter2@mail.example.com", (|_| {}) as fn(&mut SmtpSettings), "SMTP_URL"),
        ("smtp://a.example", |s| s.servers.clear(), "SMTP_URL"),
        ("smtp://a.example", |s| s.from = "nobody".into(), "SMTP_FROM"),
        ("smtp://a.example", |s| s.hello_name = Some("a\r\nMAIL".into()), "SMTP_HELLO_NAME"),
        ("smtp://a.example", |s| s.hello_name = Some(String::new()), "SMTP_HELLO_NAME"),
        ("smtp://a.example", |s| s.mails_per_connection = 0, "mails_per_connection"),
        (
            "smtp://a.example",
            |s| {
                s.servers[0].tls = Tls::Required;
                s.extra_ca = Some("Cargo.toml".into());
            },
            "SMTP_EXTRA_CA",
        ),
        (
            "smtp://a.example",
            |s| {
                s.servers[0].tls = Tls::Implicit;
                s.extra_ca = Some("no/such/file".into());
            },
            "SMTP_EXTRA_CA",
        ),
    ] {
        let error = refused(urls, change).expect(named);
        assert!(error.contains(named) && !error.contains("hunter2"), "{error}");
    }
}
