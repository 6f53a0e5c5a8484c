use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::db::types::Timestamp;

const ALLOWED: &[&str] = &[
    "From",
    "To",
    "Date",
    "Message-ID",
    "Reply-To",
    "Subject",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Precedence",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

fn settings() -> SmtpSettings {
    SmtpSettings::new("smtp://localhost", None, "Example News <news@example.com>").unwrap()
}

fn composer(settings: &SmtpSettings) -> Composer {
    Composer::new(settings, Clock::manual(Timestamp::from_micros(1_800_000_000_000_000))).unwrap()
}

fn delivery(subject: &str, text: &str) -> Delivery {
    Delivery {
        subject: Some(subject.into()),
        data: Some(Arc::from("{}")),
        ..Delivery::to("anna@example.net", text)
    }
}

fn compose(delivery: &Delivery) -> Result<String, &'static str> {
    let mail = composer(&settings()).compose(delivery)?;
    assert!(is_sound(&mail.content));
    Ok(String::from_utf8(mail.content).unwrap())
}

/// Returns the unfolded header fields, and the body.
fn parts(mail: &str) -> (Vec<(&str, String)>, &str) {
    let (header, body) = mail.split_once("\r\n\r\n").unwrap();
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in header.split("\r\n") {
        if line.starts_with(' ') {
            fields.last_mut().unwrap().1.push_str(&format!("\n{line}"));
        } else {
            let (name, value) = line.split_once(": ").unwrap();
            fields.push((name, value.to_owned()));
        }
    }
    (fields, body)
}

fn field<'f>(fields: &'f [(&str, String)], name: &str) -> Option<&'f str> {
    let mut of_name = fields.iter().filter(|(found, _)| *found == name);
    let value = of_name.next().map(|(_, value)| value.as_str());
    assert!(of_name.next().is_none(), "{name} stands there twice: {fields:?}");
    value
}

/// Decodes encoded words.
fn decoded(subject: &str) -> String {
    if !subject.contains("=?") {
        return subject.to_owned();
    }
    let words = subject.split("\n ").map(|word| {
        assert!(word.len() <= 75, "{word}");
        let text = word.strip_prefix("=?utf-8?b?").unwrap().strip_suffix("?=").unwrap();
        String::from_utf8(BASE64.decode(text).unwrap()).expect("no character is parted")
    });
    words.collect()
}

#[test]
fn a_mail_has_what_a_mail_needs() {
    let mut delivery = delivery("Spring sale", "Hello\nAnna");
    let mail = compose(&delivery).unwrap();
    let (fields, body) = parts(&mail);
    let of = |name: &str| field(&fields, name);
    assert_eq!(of("From"), Some("\"Example News\" <news@example.com>"));
    assert_eq!(of("To"), Some("anna@example.net"));
    assert_eq!(of("Subject"), Some("Spring sale"));
    assert_eq!(of("Message-ID"), Some(format!("<{}@example.com>", delivery.id).as_str()));
    assert_eq!(of("Date"), Some("Fri, 15 Jan 2027 08:00:00 +0000"));
    assert_eq!(of("MIME-Version"), Some("1.0"));
    assert_eq!(of("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(of("Auto-Submitted"), Some("auto-generated"));
    assert_eq!((of("Reply-To"), of("List-Unsubscribe"), of("Precedence")), (None, None, None));
    assert_eq!(body, "Hello\r\nAnna\r\n");
    delivery.subject = None;
    assert_eq!(field(&parts(&compose(&delivery).unwrap()).0, "Subject"), None);
}

#[test]
fn a_mailing_says_how_to_leave_it() {
    let mut settings = settings();
    settings.reply_to = Some("Büro <office@example.com>".into());
    settings.unsubscribe_url = Some("https://example.com/u?id={id}&again={id}".into());
    let composer = composer(&settings);
    let mut delivery = delivery("Hi", "Hi");
    for is_bulk in [true, false] {
        delivery.is_bulk = is_bulk;
        let mail = String::from_utf8(composer.compose(&delivery).unwrap().content).unwrap();
        let (fields, _) = parts(&mail);
        let id = delivery.id;
        let link = format!("<https://example.com/u?id={id}&again={id}>");
        assert_eq!(field(&fields, "List-Unsubscribe"), is_bulk.then_some(link.as_str()));
        let one_click = is_bulk.then_some("List-Unsubscribe=One-Click");
        assert_eq!(field(&fields, "List-Unsubscribe-Post"), one_click);
        assert_eq!(field(&fields, "Precedence"), is_bulk.then_some("bulk"));
        assert_eq!(field(&fields, "Auto-Submitted"), (!is_bulk).then_some("auto-generated"));
        assert_eq!(field(&fields, "Reply-To"), Some("=?utf-8?b?QsO8cm8=?= <office@example.com>"));
    }
}

#[test]
fn the_services_own_link_to_unsubscribe_stands_alone() {
    let mut settings = settings();
    settings.unsubscribe_url = Some("https://example.com/u?id={id}".into());
    for (settings, is_bulk) in [(&settings, true), (&settings, false), (&self::settings(), true)] {
        let link = "https://mail.example.com/unsubscribe/AAIB_-x";
        let delivery = Delivery { is_bulk, unsubscribe: Some(link.into()), ..delivery("Hi", "Hi") };
        let mail = String::from_utf8(composer(settings).compose(&delivery).unwrap().content).unwrap();
        let (fields, _) = parts(&mail);
        assert_eq!(field(&fields, "List-Unsubscribe"), Some(format!("<{link}>").as_str()));
        assert_eq!(field(&fields, "List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
        assert_eq!(fields.iter().filter(|(name, _)| *name == "List-Unsubscribe").count(), 1);
    }
}

#[test]
fn html_stands_beside_the_text() {
    let mut delivery = delivery("Hi", "Hello");
    delivery.html = Some("<p>Grüße</p>".into());
    let mail = compose(&delivery).unwrap();
    let (fields, body) = parts(&mail);
    let kind = field(&fields, "Content-Type").unwrap();
    let boundary = kind.split_once("boundary=\"").unwrap().1.trim_end_matches('"');
    assert!(kind.starts_with("multipart/alternative;"), "{kind}");
    let found: Vec<_> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(found.len(), 4, "{mail}");
    assert!(found[1].contains("text/plain; charset=utf-8\r\n") && found[1].ends_with("\r\n\r\nHello\r\n"));
    assert!(found[2].contains("text/html; charset=utf-8\r\n") && found[2].contains("<p>Gr=C3=BC=C3=9Fe</p>"));
    assert_eq!(found[3], "--\r\n");
}

#[test]
fn what_would_become_a_header_is_refused() {
    for subject in ["a\r\nBcc: x@example.org", "a\nb", "a\rb", "a\0b", "a\tb", "a\u{85}b", "\u{7f}"] {
        assert!(compose(&delivery(subject, "Hi")).unwrap_err().contains("the subject"), "{subject:?}");
    }
    for recipient in ["a@b.c\r\nBcc: x@y.z", "a@b.c\0", "a\0@b.c", "a@b.c, d@e.f", "", "a@b.c>\r\nDATA"] {
        let delivery = Delivery { recipient: recipient.into(), ..delivery("Hi", "Hi") };
        assert_eq!(
            compose(&delivery).unwrap_err(),
            "the recipient is not an e-mail address",
            "{recipient:?}"
        );
    }
    assert!(compose(&delivery("Hi", "a\0b")).unwrap_err().contains("zero byte"));
    let html = Delivery { html: Some("\0".into()), ..delivery("Hi", "Hi") };
    assert!(compose(&html).unwrap_err().contains("zero byte"));
}

#[test]
fn settings_that_would_become_a_header_are_refused() {
    let with = |change: fn(&mut SmtpSettings)| {
        let mut settings = settings();
        change(&mut settings);
        Composer::new(&settings, Clock::System).err().map(|error| error.to_string())
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(with(|s| s.unsubscribe_url = Some("https://example.com/{id}".into())), None);
    type Change = fn(&mut SmtpSettings);
    let wrong: [(Change, &str); 11] = [
        (|s| s.from = "News\r\nBcc: x@y.z <news@example.com>".into(), "SMTP_FROM"),
        (|s| s.from = "News".into(), "SMTP_FROM"),
        (|s| s.from = String::new(), "SMTP_FROM"),
        (|s| s.reply_to = Some("a\nb <news@example.com>".into()), "SMTP_REPLY_TO"),
        (|s| s.unsubscribe_url = Some("http://example.com/{id}".into()), "UNSUBSCRIBE_URL"),
        (|s| s.unsubscribe_url = Some("https://example.com/".into()), "UNSUBSCRIBE_URL"),
        (|s| s.unsubscribe_url = Some("https://example.com/{id}>, <mailto:x@y.z".into()), "UNSUBSCRIBE_URL"),
        (|s| s.unsubscribe_url = Some("https://example.com/{id}\r\nBcc: x@y.z".into()), "UNSUBSCRIBE_URL"),
        (|s| s.unsubscribe_url = Some("mailto:x@y.z?{id}".into()), "UNSUBSCRIBE_URL"),
        (
            |s| s.unsubscribe_url = Some(format!("https://example.com/{}", "{id}".repeat(23))),
            "UNSUBSCRIBE_URL",
        ),
        (
            |s| s.unsubscribe_url = Some(format!("https://example.com/{{id}}{}", "x".repeat(800))),
            "UNSUBSCRIBE_URL",
        ),
    ];
    for (change, named) in wrong {
        let error = with(change).expect(named);
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn texts_are_only_texts() {
    let long = "y".repeat(5000);
    let many = format!("{}\r\n", ".\r\n".repeat(50));
    for text in [
        "",
        ".",
        ".\r\n.\r\n",
        "\r\n.\r\n",
        "a\r.\rb",
        "a\n.\nb",
        "a\r.\r\nQUIT",
        "From me\nTo: x",
        "\r\r\n\n\r",
        &long,
        &many,
        "Füße\r\n.\r\n",
        "a \r\nb\t\n",
        "\u{1}\u{1b}[31m",
        "🎉",
        "=20",
        "--x\r\n--x--",
    ] {
        let mut delivery = delivery("Hi", text);
        let mail = compose(&delivery).unwrap();
        let (fields, _) = parts(&mail);
        assert!(fields.iter().all(|(name, _)| ALLOWED.contains(name)), "{fields:?}");
        assert!(mail.ends_with("\r\n") && mail.is_ascii(), "{mail:?}");
        delivery.html = Some(text.into());
        compose(&delivery).unwrap();
    }
}

#[test]
fn subjects_arrive_as_they_are() {
    let long_word = "x".repeat(3000);
    let party = "🎉".repeat(300);
    for subject in [
        "",
        " ",
        " lead and trail ",
        "Hi",
        "=?utf-8?b?SGk=?=",
        "a=?b",
        "Größe 🎉",
        "Grüße\u{feff}\u{202e}",
        &long_word,
        &party,
        "many words of which a line of a mail would be longer than the seventy-eight characters that are recommended",
    ] {
        let mail = compose(&delivery(subject, "Hi")).unwrap();
        let (fields, _) = parts(&mail);
        assert_eq!(decoded(field(&fields, "Subject").unwrap()), subject);
    }
}

#[test]
fn lines_that_servers_read_differently_are_noticed() {
    let long = "x".repeat(998);
    for good in ["\r\n", "a\r\n", "a\r\n\r\n.\r\n", &format!("{long}\r\n{long}\r\n")] {
        assert!(is_sound(good.as_bytes()), "{good:?}");
    }
    for bad in
        ["", "a", "a\n", "\n", "\r", "a\r", "a\r\r\n", "a\rb\r\n", "a\nb\r\n", "a\n\r\n", "\0\r\n", "a\r\nb"]
    {
        assert!(!is_sound(bad.as_bytes()), "{bad:?}");
    }
    assert!(!is_sound(format!("{long}x\r\n").as_bytes()));
}

proptest! {
    #[test]
    fn nothing_becomes_a_header_or_a_line_too_long(
        recipient in prop_oneof![Just("anna@example.net".to_owned()), "\\PC{0,20}@\\PC{0,20}", any::<String>()],
        subject in prop_oneof!["\\PC{0,200}", any::<String>(), "[a\r\n: =?]{0,20}"],
        text in prop_oneof![any::<String>(), "[a.\r\n \u{0}ü-]{0,60}", "[a-z.]{900,1100}"],
        html in proptest::option::of(prop_oneof![any::<String>(), "[a.\r\n =-]{0,60}"]),
        is_bulk: bool,
    ) {
        let delivery = Delivery { recipient: recipient.clone(), html, is_bulk, ..delivery(&subject, &text) };
        let Ok(mail) = compose(&delivery) else { return Ok(()) };
        let (fields, _) = parts(&mail);
        prop_assert!(fields.iter().all(|(name, _)| ALLOWED.contains(name)), "{:?}", fields);
        prop_assert_eq!(decoded(field(&fields, "Subject").unwrap()), subject);
        if recipient.is_ascii() {
            prop_assert_eq!(field(&fields, "To").unwrap(), recipient);
            prop_assert!(mail.is_ascii());
        }
    }
}
