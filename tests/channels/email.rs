//! E-mail against aiosmtpd and Postfix's smtp-sink. The unit tests cover servers that misbehave.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fanfare::channels::email::{Email, SmtpSettings, Tls};
use fanfare::channels::{AttemptReport, Channel, Delivery, DeliveryResult};
use fanfare::clock::Clock;
use serde_json::{Value, json};

use crate::channels::peer::Peer;

/// A mail server in Python.
struct Server {
    peer: Peer,
    /// The folder in which it creates its certificate.
    _folder: tempfile::TempDir,
    port: u64,
    certificate: Option<String>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().to_str().unwrap();
        let peer = Peer::python("smtp.py", &[&["--certificate", certificate], args].concat());
        let ready: Value = serde_json::from_str(&peer.ready).unwrap();
        let port = ready["port"].as_u64().unwrap();
        let certificate = ready["certificate"].as_str().map(str::to_owned);
        Self { peer, _folder: folder, port, certificate }
    }

    /// Returns settings that trust its certificate and use `tls`.
    fn settings(&self, login: &str, tls: Tls) -> SmtpSettings {
        let url = format!("smtp://{login}localhost:{}", self.port);
        let mut settings = SmtpSettings::new(&url, Some(tls), "Füchse & Söhne <news@example.com>").unwrap();
        settings.extra_ca = self.certificate.as_ref().map(Into::into);
        settings
    }

    fn email(&self, tls: Tls) -> Email {
        email(self.settings("", tls))
    }

    /// Returns the next mail that it accepted.
    fn mail(&mut self) -> Value {
        serde_json::from_str(&self.peer.line()).unwrap()
    }

    /// Asserts that the next mail it accepts is this one.
    async fn took_nothing_before(&mut self, email: &Email) {
        let last = Delivery { recipient: "last@example.net".into(), ..delivery() };
        assert_eq!(email.send(last).await.verdict, DeliveryResult::Delivered);
        assert_eq!(self.mail()["to"], json!(["last@example.net"]));
    }
}

fn email(settings: SmtpSettings) -> Email {
    Email::new(settings, Clock::System).unwrap()
}

fn delivery() -> Delivery {
    Delivery { subject: Some("Spring sale".into()), ..Delivery::to("anna@example.net", "Hello Anna\n") }
}

fn transient(answer: &AttemptReport) -> &str {
    match &answer.verdict {
        DeliveryResult::Transient { error, retry_after: None } => error,
        other => unreachable!("{other:?}"),
    }
}

fn header<'m>(mail: &'m Value, name: &str) -> Option<&'m str> {
    let fields = mail["headers"].as_array().unwrap();
    fields.iter().find(|field| field[0] == name).and_then(|field| field[1].as_str())
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_meant_whether_in_clear_or_by_tls() {
    for (mode, tls) in [("none", Tls::None), ("starttls", Tls::Required), ("implicit", Tls::Implicit)] {
        let mut server = Server::start(&["--tls", mode]);
        let mut settings = server.settings("", tls);
        settings.reply_to = Some("Office <office@example.com>".into());
        settings.unsubscribe_url = Some("https://example.com/unsubscribe?id={id}".into());
        settings.hello_name = Some("mail.example.com".into());
        let email = email(settings);
        for number in 1..=2 {
            let mut delivery = delivery();
            delivery.html = Some("<p>Grüße, Anna</p>".into());
            delivery.is_bulk = true;
            let id = delivery.id;
            let answer = email.send(delivery).await;
            let taken = (DeliveryResult::Delivered, Some(250), Some("4XyZ".to_owned()));
            assert_eq!((answer.verdict, answer.status_code, answer.provider_id), taken, "{mode}");
            let mail = server.mail();
            assert_eq!(mail["from"], "news@example.com");
            assert_eq!(mail["to"], json!(["anna@example.net"]));
            assert_eq!((&mail["tls"], &mail["hello"]), (&json!(mode != "none"), &json!("mail.example.com")));
            assert_eq!(mail["number"], number, "over the same connection");
            assert_eq!(mail["defects"], json!([]));
            assert_eq!(
                mail["parts"],
                json!([["text/plain", "Hello Anna\n"], ["text/html", "<p>Grüße, Anna</p>"]])
            );
            for (name, value) in [
                ("From", "Füchse & Söhne <news@example.com>"),
                ("To", "anna@example.net"),
                ("Reply-To", "Office <office@example.com>"),
                ("Subject", "Spring sale"),
                ("Message-ID", &format!("<{id}@example.com>")),
                ("List-Unsubscribe", &format!("<https://example.com/unsubscribe?id={id}>")),
                ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
                ("MIME-Version", "1.0"),
            ] {
                assert_eq!(header(&mail, name), Some(value), "{mode}: {mail}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_nothing() {
    for (mode, tls) in [("starttls", Tls::Required), ("implicit", Tls::Implicit)] {
        let mut server = Server::start(&["--tls", mode]);
        let mut settings = server.settings("", tls);
        settings.extra_ca = None;
        let answer = email(settings).send(delivery()).await;
        assert!(transient(&answer).contains("its certificate is not trusted (UnknownIssuer)"), "{answer:?}");
        let mut settings = server.settings("", tls);
        // the certificate is for another name
        settings.servers[0].host = "127.0.0.1".into();
        let answer = email(settings).send(delivery()).await;
        assert!(transient(&answer).contains("its certificate is not trusted (NotValidForName"), "{answer:?}");
        server.took_nothing_before(&server.email(tls)).await;
    }
    let mut server = Server::start(&[]);
    let answer = server.email(Tls::Required).send(delivery()).await;
    assert!(transient(&answer).contains("does not offer STARTTLS"), "{answer:?}");
    server.took_nothing_before(&server.email(Tls::None)).await;
}

#[tokio::test]
async fn it_logs_in() {
    for (without, way) in [("LOGIN", "PLAIN"), ("PLAIN", "LOGIN")] {
        for (mode, tls) in [("starttls", Tls::Required), ("implicit", Tls::Implicit), ("none", Tls::None)] {
            let args =
                ["--tls", mode, "--user", "anna@example.com", "--password", "pä,ss w", "--without", without];
            let mut server = Server::start(&args);
            let right = server.settings("anna%40example.com:p%C3%A4%2Css%20w@", tls);
            let answer = email(right).send(delivery()).await;
            assert_eq!(answer.verdict, DeliveryResult::Delivered, "{mode} {way}: {answer:?}");
            assert_eq!(server.mail()["user"], format!("anna@example.com by {way}"));
            let wrong = email(server.settings("anna%40example.com:hunter2@", tls)).send(delivery()).await;
            assert!(transient(&wrong).ends_with("it replied 535 5.7.8 (AUTH)"), "{wrong:?}");
            let none = server.email(tls).send(delivery()).await;
            assert!(transient(&none).contains("the mail server replied 530 5.7.0 to MAIL"), "{none:?}");
        }
    }
}

#[tokio::test]
async fn each_refusal_is_told_for_what_it_is_and_the_next_mail_goes_out() {
    for pipelining in [&["--pipelining"][..], &[]] {
        let mut server = Server::start(pipelining);
        let email = server.email(Tls::None);
        for (to, code, verdict) in [
            ("gone", 550, "gone: the mail server replied 550 5.1.1 to RCPT: the address does not exist"),
            ("later", 450, "deferred: the mail server replied 450 4.2.0 to RCPT"),
            ("denied", 550, "permanent: the mail server replied 550 5.7.1 to RCPT"),
            ("spam", 554, "permanent: the mail server replied 554 5.7.1 to the mail"),
            ("busy", 451, "transient: the mail server replied 451 4.3.0 to the mail"),
        ] {
            let answer = email.send(Delivery { recipient: format!("{to}@example.net"), ..delivery() }).await;
            let found = match &answer.verdict {
                DeliveryResult::Gone { error } => format!("gone: {error}"),
                DeliveryResult::Transient { error, .. } => format!("transient: {error}"),
                DeliveryResult::Deferred { error, .. } => format!("deferred: {error}"),
                DeliveryResult::Permanent { error } => format!("permanent: {error}"),
                other => format!("{other:?}"),
            };
            assert_eq!((found.as_str(), answer.status_code), (verdict, Some(code)));
            assert_eq!(email.send(delivery()).await.verdict, DeliveryResult::Delivered);
            assert_eq!(server.mail()["to"], json!(["anna@example.net"]));
        }
        assert_eq!(email.send(delivery()).await.verdict, DeliveryResult::Delivered);
        assert_eq!(server.mail()["number"], 6, "all over one connection");
    }
}

#[tokio::test]
async fn hostile_texts_arrive_as_texts() {
    let mut server = Server::start(&["--pipelining"]);
    let email = server.email(Tls::None);
    let long = "y".repeat(5000);
    let party = "🎉".repeat(200);
    for (subject, text) in [
        ("Größe 🎉", "Füße\n"),
        (party.as_str(), party.as_str()),
        (&long, &long),
        ("=?utf-8?b?SGk=?=", "=?utf-8?b?SGk=?="),
        ("Bcc: x@example.org", "\nBcc: x@example.org\n\n.\n"),
        (" two  spaces ", ".\n..\n.\nQUIT\nMAIL FROM:<x@example.org>\n.\n"),
        ("a", "a\r\n.\r\nMAIL FROM:<x@example.org>\r\n"),
        ("a", "a\r.\r\nb\n.\rc\r\r\n"),
        ("a", "From x\n>From y\n--z\n=3D trailing \t\n"),
        ("a", "\u{1}\u{1b}[31m\u{7f}"),
        ("a", ""),
    ] {
        let delivery = Delivery {
            subject: Some(subject.into()),
            text: text.into(),
            html: Some(text.into()),
            ..delivery()
        };
        assert_eq!(email.send(delivery).await.verdict, DeliveryResult::Delivered);
        let mail = server.mail();
        assert_eq!(mail["to"], json!(["anna@example.net"]), "{mail}");
        assert_eq!(mail["defects"], json!([]), "{mail}");
        assert_eq!(header(&mail, "Subject"), Some(subject));
        let names: Vec<_> = mail["headers"].as_array().unwrap().iter().map(|field| &field[0]).collect();
        let expected =
            ["From", "To", "Date", "Message-ID", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"];
        assert_eq!(names, expected, "nothing else");
        let lines = text.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(mail["parts"], json!([["text/plain", lines], ["text/html", lines]]));
    }
}

#[tokio::test]
async fn addresses_of_every_alphabet_arrive_where_the_server_knows_them() {
    let mut server = Server::start(&["--utf8", "--pipelining"]);
    let email = server.email(Tls::None);
    for (to, arrives, needs_utf8) in [
        ("änna@example.net", "änna@example.net", true),
        ("用户@例え.example", "用户@xn--r8jz45g.example", true),
        ("anna@münchen.example", "anna@xn--mnchen-3ya.example", false),
    ] {
        let answer = email.send(Delivery { recipient: to.into(), ..delivery() }).await;
        assert_eq!(answer.verdict, DeliveryResult::Delivered, "{answer:?}");
        let mail = server.mail();
        assert_eq!(mail["to"], json!([arrives]));
        assert_eq!(header(&mail, "To"), Some(arrives));
        let options = mail["options"].as_array().unwrap();
        assert_eq!(options.contains(&json!("SMTPUTF8")), needs_utf8, "{mail}");
        assert_eq!(options.contains(&json!("BODY=8BITMIME")), needs_utf8, "{mail}");
    }
    let server = Server::start(&[]);
    let answer =
        server.email(Tls::None).send(Delivery { recipient: "änna@example.net".into(), ..delivery() }).await;
    assert!(matches!(answer.verdict, DeliveryResult::Permanent { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_not_sent() {
    let mut server = Server::start(&["--largest", "2000"]);
    let email = server.email(Tls::None);
    let answer = email.send(Delivery { text: "x\n".repeat(1000), ..delivery() }).await;
    assert!(matches!(answer.verdict, DeliveryResult::Permanent { .. }), "{answer:?}");
    server.took_nothing_before(&email).await;
}

/// Postfix's smtp-sink, which accepts and discards mail.
struct Sink(std::process::Child);

impl Sink {
    /// Starts it on this port, and waits until it accepts connections.
    fn start(port: u16) -> Self {
        let setup =
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/setup-smtp-sink")).output().unwrap();
        assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
        let program = String::from_utf8(setup.stdout).unwrap();
        let child =
            Command::new(program.trim()).args([&format!("127.0.0.1:{port}"), "1000"]).spawn().unwrap();
        let mut sink = Self(child);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(sink.0.try_wait().unwrap(), None, "smtp-sink has ended");
            std::thread::yield_now();
        }
        sink
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns ports without a listener.
fn free_ports<const N: usize>() -> [u16; N] {
    // all are held until all are known, so that they differ
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_mails_go_into_postfix_and_past_a_server_that_dies() {
    let ports: [u16; 3] = free_ports();
    let mut sinks: Vec<_> = ports.iter().take(2).map(|port| Sink::start(*port)).collect();
    let urls: Vec<_> = ports.iter().map(|port| format!("smtp://127.0.0.1:{port}?weight=10")).collect();
    let mut settings = SmtpSettings::new(&urls.join(","), Some(Tls::None), "news@example.com").unwrap();
    settings.mails_per_connection = 50;
    let email = Arc::new(email(settings));
    let senders = |each: usize| {
        let email = Arc::clone(&email);
        let senders = (0..16).map(move |_| {
            let email = Arc::clone(&email);
            tokio::spawn(async move {
                let mut lost = 0;
                for _ in 0..each {
                    let answer = email.send(delivery()).await;
                    lost += usize::from(answer.verdict != DeliveryResult::Delivered);
                }
                lost
            })
        });
        senders.collect::<Vec<_>>()
    };
    let mut lost = 0;
    for sender in senders(200) {
        lost += sender.await.unwrap();
    }
    assert_eq!(lost, 0, "the third server is not there");
    // at most the mails in flight when the server died
    let running = senders(200);
    tokio::time::timeout(Duration::from_secs(60), async {
        drop(sinks.pop());
        for sender in running {
            lost += sender.await.unwrap();
        }
    })
    .await
    .unwrap();
    assert!(lost <= 16, "{lost}");
}
