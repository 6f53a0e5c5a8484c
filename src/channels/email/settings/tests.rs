use secrecy::ExposeSecret;

use super::*;

fn one(text: &str, tls: Option<Tls>) -> MailServer {
    let servers = servers(text, tls).unwrap();
    assert_eq!(servers.len(), 1);
    servers.into_iter().next().unwrap()
}

fn login(server: &MailServer) -> Option<(&str, &str)> {
    server.login.as_ref().map(|login| (login.user.as_str(), login.password.expose_secret()))
}

#[test]
fn the_port_follows_from_how_the_connection_is_secured() {
    for (text, tls, secured, port) in [
        ("smtp://mail.example.com", None, Tls::Required, 587),
        ("smtp://mail.example.com", Some(Tls::Required), Tls::Required, 587),
        ("smtp://mail.example.com/", Some(Tls::Implicit), Tls::Implicit, 465),
        ("smtp://mail.example.com", Some(Tls::None), Tls::None, 25),
        ("smtps://mail.example.com", None, Tls::Implicit, 465),
        ("smtps://mail.example.com", Some(Tls::Implicit), Tls::Implicit, 465),
        ("smtps://mail.example.com:2465", None, Tls::Implicit, 2465),
        ("smtp://mail.example.com:25", None, Tls::Required, 25),
    ] {
        let server = one(text, tls);
        assert_eq!((server.tls, server.port), (secured, port), "{text} {tls:?}");
        assert_eq!((server.host.as_str(), server.weight), ("mail.example.com", 1), "{text}");
        assert!(server.login.is_none());
    }
}

#[test]
fn user_and_password_are_decoded() {
    let server = one("smtp://anna%40example.com:p%2Cq%20%25%3A%40%2F%C3%BC+@mail.example.com", None);
    assert_eq!(login(&server), Some(("anna@example.com", "p,q %:@/ü+")));
    // not quite a URL, but unambiguous
    assert_eq!(login(&one("smtp://u:a%zz@h.example", None)), Some(("u", "a%zz")));
}

#[test]
fn hosts_are_names_or_addresses() {
    for (text, host) in [
        ("smtp://localhost", "localhost"),
        ("smtp://MAIL.Example.com", "mail.example.com"),
        ("smtp://127.0.0.1", "127.0.0.1"),
        ("smtp://[::1]:2525", "::1"),
        ("smtp://postamt.münchen.example", "postamt.xn--mnchen-3ya.example"),
    ] {
        assert_eq!(one(text, None).host, host, "{text}");
    }
}

#[test]
fn several_servers_have_weights() {
    let text = "smtp://u:p@a.example:25?weight=3, smtps://b.example?connections=2\n  \
                smtp://c.example?connections=1000&weight=1000,";
    let servers = servers(text, None).unwrap();
    let found: Vec<_> = servers.iter().map(|s| (s.host.as_str(), s.port, s.weight, s.connections)).collect();
    let expected =
        [("a.example", 25, 3, None), ("b.example", 465, 1, Some(2)), ("c.example", 587, 1000, Some(1000))];
    assert_eq!(found, expected);
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    for (text, tls, why) in [
        ("", None, "at least one server"),
        (" , ", None, "at least one server"),
        ("mail.example.com", None, "server 1: must be smtp[s]://"),
        ("http://u:hunter2@h.example", None, "server 1: must be smtp[s]://"),
        ("smtp://u:hunter2@h.example/queue", None, "must be smtp[s]://"),
        ("smtp://u:hunter2@h.example#x", None, "must be smtp[s]://"),
        ("smtp://u:hunter2@h.example:65536", None, "must be smtp[s]://"),
        ("smtp://u:hunter2@h.example:0", None, "the port"),
        ("smtp://u:hunter2@h.example?weight=0", None, "weight=N and connections=N"),
        ("smtp://u:hunter2@h.example?weight=1001", None, "weight=N and connections=N"),
        ("smtp://u:hunter2@h.example?weight=-1", None, "weight=N and connections=N"),
        ("smtp://u:hunter2@h.example?timeout=1", None, "weight=N and connections=N"),
        ("smtp://u:hunter2@h.example?weight=1&weight=2", None, "weight=N and connections=N"),
        ("smtp://u:hunter2@h.example?connections=0", None, "weight=N and connections=N"),
        ("smtp://u:hunter2@h.example?weight=1&connections=x", None, "weight=N and connections=N"),
        ("smtp://u@h.example", None, "no password"),
        ("smtp://:hunter2@h.example", None, "no user"),
        ("smtp://u:hunter2%00@h.example", None, "a zero byte"),
        ("smtp://u:hunter2%ff@h.example", None, "UTF-8"),
        ("smtp://u:hunter2@", None, "must be smtp[s]://"),
        ("smtp:u:hunter2", None, "must be smtp[s]://"),
        ("smtp://u:hunter2@a%00b", None, "the host"),
        ("smtp://u:hunter2@a.example,b.example", None, "server 2: must be smtp[s]://"),
        ("smtps://u:hunter2@h.example", Some(Tls::None), "SMTP_TLS"),
        ("smtps://u:hunter2@h.example", Some(Tls::Required), "SMTP_TLS"),
    ] {
        let error = servers(text, tls).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
        assert!(error.starts_with("email.smtp_url (SMTP_URL): "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_words_of_tls_are_known() {
    assert_eq!("required".parse(), Ok(Tls::Required));
    assert_eq!("implicit".parse(), Ok(Tls::Implicit));
    assert_eq!("none".parse(), Ok(Tls::None));
    assert_eq!("starttls".parse::<Tls>(), Err("must be required, implicit or none"));
}

#[test]
fn a_password_is_not_printed_by_mistake() {
    let settings = SmtpSettings::new("smtp://u:hunter2@h.example", None, "a@b.example").unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}
