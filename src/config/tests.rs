use std::time::Duration;

use super::*;
use crate::kinds::ChannelKind;

fn complaint(settings: &[(&str, &str)]) -> String {
    Config::with(settings).unwrap_err().to_string()
}

#[test]
fn the_default_file_is_a_whole_configuration() {
    let config = Config::with(&[]).unwrap();
    assert_eq!(config.listen().to_string(), "127.0.0.1:8083");
}

#[test]
fn every_variable_is_written_in_the_default_file() {
    for variable in variables() {
        assert!(DEFAULT.contains(variable), "{variable}");
    }
}

#[test]
fn a_real_provider_is_limited_unless_told_otherwise() {
    let provider = ("sms.base_url", "https://sms.example.com/");
    assert_eq!(Config::with(&[provider]).unwrap().rate(ChannelKind::Sms), Some(100.0));
    let free = [provider, ("channels.rate_per_second", "0")];
    assert_eq!(Config::with(&free).unwrap().rate(ChannelKind::Sms), None);
}

#[test]
fn a_public_address_needs_a_key() {
    assert!(complaint(&[("http.host", "0.0.0.0")]).contains("API_KEY"));
    assert!(complaint(&[("access.api_key", "short")]).contains("at least 16"));
    for (host, key, is_enough) in [
        ("127.0.0.1", "1234567890123456", true),
        ("0.0.0.0", "1234567890123456789012345678901", false),
        ("0.0.0.0", "12345678901234567890123456789012", true),
        ("0.0.0.0", "11111111111111111111111111111111", false),
    ] {
        let config = Config::with(&[("http.host", host), ("access.api_key", key)]);
        assert_eq!(config.is_ok(), is_enough, "{host} {key}: {:?}", config.err());
    }
}

#[test]
fn one_node_on_sqlite_does_everything() {
    for role in ["api", "worker"] {
        assert!(complaint(&[("node.role", role)]).contains("SQLite"));
        let nodes = [("node.role", role), ("database.url", "postgres://user@host/fanfare")];
        assert!(Config::with(&nodes).is_ok());
    }
}

#[test]
fn a_wrong_value_is_named_with_its_variable() {
    assert!(complaint(&[("http.port", "many")]).contains("HTTP_PORT"));
    assert!(complaint(&[("channels.timeout", "soon")]).contains("PROVIDER_TIMEOUT"));
    assert!(complaint(&[("notifications.sync_wait", "30")]).contains("NOTIFICATION_SYNC_WAIT"));
    assert!(complaint(&[("discord.base_url", "discord.com")]).contains("DISCORD_PROVIDER_URL"));
    assert!(complaint(&[("sms.rate", "1")]).contains("rate"));
    assert!(complaint(&[("sms.retry_delays", "1s, soon")]).contains("SMS_RETRY_DELAYS"));
    assert!(complaint(&[("delivery.page_size", "0")]).contains("DELIVERY_PAGE_SIZE"));
    assert!(complaint(&[("log.format", "xml")]).contains("LOG_FORMAT"));
    assert!(complaint(&[("http.prot", "1")]).contains("prot"));
    assert!(complaint(&[("node.role", "boss")]).contains("FANFARE_ROLE"));
}

#[test]
fn every_bound_is_kept_at_both_ends() {
    let bounds = [
        ("channels.timeout", ["0ms", "601s"], ["1ms", "600s"]),
        ("channels.rate_per_second", ["-1", "1000001"], ["0", "1000000"]),
        ("channels.breaker_failures", ["-1", "1000001"], ["0", "1000000"]),
        ("sms.concurrency", ["0", "10001"], ["1", "10000"]),
        ("email.concurrency", ["0", "10001"], ["1", "10000"]),
        ("push.concurrency", ["0", "10001"], ["1", "10000"]),
        ("webhook.concurrency", ["0", "10001"], ["1", "10000"]),
        ("discord.concurrency", ["0", "10001"], ["1", "10000"]),
        ("in_app.concurrency", ["0", "10001"], ["1", "10000"]),
        ("email.timeout", ["0ms", "601s"], ["1ms", "600s"]),
        ("email.rate_per_second", ["-1", "1000001"], ["0", "1000000"]),
        ("email.breaker_failures", ["-1", "1000001"], ["0", "1000000"]),
        ("email.retry_delays", ["0s", "1s, 25h"], ["1ms", "24h, 1s"]),
        ("retry.interval", ["9ms", "61s"], ["10ms", "60s"]),
        ("retry.after_max", ["999ms", "31days"], ["1s", "30days"]),
        ("notifications.retry_backoff_1", ["0s", "25h"], ["1ms", "24h"]),
        ("notifications.retry_backoff_2", ["0s", "25h"], ["1ms", "24h"]),
        ("notifications.retry_backoff_3", ["0s", "25h"], ["1ms", "24h"]),
        ("notifications.sync_wait", ["999ms", "301s"], ["1s", "300s"]),
        ("notifications.intake_limit", ["999", "1000001"], ["1000", "1000000"]),
        ("request.intake_limit", ["999", "1000001"], ["1000", "1000000"]),
        ("events.intake_limit", ["999", "1000001"], ["1000", "1000000"]),
        ("idempotency.keep", ["59s", "721h"], ["1m", "30days"]),
        ("in_app.keep", ["59s", "3651days"], ["1m", "3650days"]),
        ("delivery.scheduler_interval", ["9ms", "61s"], ["10ms", "60s"]),
    ];
    for (key, beyond, within) in bounds {
        for value in beyond {
            let said = complaint(&[(key, value)]);
            assert!(said.contains(&named(key)), "{key} {value}: {said}");
        }
        for value in within {
            assert!(Config::with(&[(key, value)]).is_ok(), "{key} {value}");
        }
    }
    assert!(complaint(&[("channels.rate_per_second", "0.0001")]).contains("RATE_LIMIT_PER_CHANNEL"));
}

/// Channels that need no provider.
const AT_HOME: [ChannelKind; 2] = [ChannelKind::Discord, ChannelKind::InApp];

#[test]
fn with_nothing_set_every_channel_that_needs_a_provider_goes_to_the_sandbox_without_a_limit() {
    let config = Config::with(&[("sms.token", "secret")]).unwrap();
    for channel in ChannelKind::TO_PEOPLE.iter().filter(|channel| !AT_HOME.contains(channel)) {
        assert_eq!(config.way(*channel), Some(Transport::Gateway(SANDBOX_URL)), "{channel}");
        assert_eq!(config.missing_provider(*channel), None, "{channel}");
        assert_eq!(config.rate(*channel), None, "{channel}");
        assert!(config.token(*channel).is_some(), "{channel}: the sandbox has one token for all channels");
    }
    assert_eq!(config.concurrency(ChannelKind::Sms), 64);
    assert_eq!(config.concurrency(ChannelKind::Email), 16);
}

#[test]
fn with_a_sandbox_that_is_named_discord_and_requests_go_to_it_until_there_is_a_real_provider() {
    let url = "http://sandbox:8090";
    let tried = Config::with(&[("sandbox.url", "http://sandbox:8090/")]).unwrap();
    for channel in ChannelKind::ALL.iter().filter(|channel| **channel != ChannelKind::InApp) {
        assert_eq!(tried.way(*channel), Some(Transport::Gateway(url)), "{channel}");
        assert!(tried.is_tried_out(*channel), "{channel}");
        assert_eq!(tried.rate(*channel), None, "{channel}");
    }
    assert_eq!(tried.way(ChannelKind::InApp), Some(Transport::Direct), "inboxes are on this machine");
    let earnest = [("sandbox.url", url), ("sms.base_url", "https://sms.example.com")];
    let earnest = Config::with(&earnest).unwrap();
    for channel in [ChannelKind::Discord, ChannelKind::Request] {
        assert_eq!(earnest.way(channel), Some(Transport::Direct), "{channel}");
    }
    assert_eq!(earnest.way(ChannelKind::Push), None);
    assert!(complaint(&[("sandbox.url", "sandbox:8090")]).contains("SANDBOX_URL"));
}

#[test]
fn with_a_real_provider_for_text_messages_no_other_channel_goes_to_the_sandbox() {
    let settings = [
        ("sms.base_url", "https://sms.example.com"),
        ("sms.token", "secret"),
        ("push.base_url", "http://gateway:1/push/"),
    ];
    let config = Config::with(&settings).unwrap();
    assert_eq!(config.way(ChannelKind::Push), Some(Transport::Gateway("http://gateway:1/push")));
    assert!(config.token(ChannelKind::Push).is_none(), "the token belongs to the SMS provider");
    for channel in [ChannelKind::Email, ChannelKind::Webhook] {
        assert_eq!(config.way(channel), None, "{channel}");
    }
    assert_eq!(
        config.missing_provider(ChannelKind::Email).unwrap(),
        "`email` has no provider here: set SMTP_URL or EMAIL_PROVIDER_URL, or leave PROVIDER_BASE_URL unset to try it \
         with the sandbox"
    );
}

#[test]
fn a_channel_goes_by_its_own_protocol_when_its_settings_are_there() {
    for (channel, settings) in [
        (ChannelKind::Email, &[("email.smtp_url", "smtp://mail:25"), ("email.from", "a@b.com")][..]),
        (ChannelKind::Push, &[("push.service_account", "/firebase.json")]),
        (ChannelKind::Webhook, &[("webhook.secret", "whsec_x")]),
        (ChannelKind::Discord, &[]),
        (ChannelKind::InApp, &[]),
    ] {
        let config = Config::with(settings).unwrap();
        assert_eq!(config.way(channel), Some(Transport::Direct), "{channel}");
        assert!(config.token(channel).is_none() && config.missing_provider(channel).is_none(), "{channel}");
        let limited = channel != ChannelKind::InApp;
        assert_eq!(config.rate(channel).is_some(), limited, "{channel}");
        let gateway = format!("{channel}.base_url");
        let both: Vec<_> = settings.iter().copied().chain([(gateway.as_str(), "http://gateway:1")]).collect();
        if AT_HOME.contains(&channel) {
            assert_eq!(
                Config::with(&both).unwrap().way(channel),
                Some(Transport::Gateway("http://gateway:1"))
            );
        } else {
            assert!(complaint(&both).contains("set one of them"), "{channel}");
        }
    }
    assert!(complaint(&[("email.smtp_url", "smtp://mail:25")]).contains("SMTP_FROM"));
}

#[test]
fn what_a_channel_says_for_itself_holds_for_it_alone() {
    let config = Config::with(&[
        ("channels.rate_per_second", "7"),
        ("email.rate_per_second", "2.5"),
        ("email.timeout", "3s"),
        ("email.breaker_failures", "5"),
        ("email.retry_delays", "1s, 500ms"),
        ("push.retry_delays", " "),
    ]);
    let config = config.unwrap();
    let (email, sms) = (ChannelKind::Email, ChannelKind::Sms);
    assert_eq!((config.rate(email), config.rate(sms)), (Some(2.5), Some(7.0)));
    assert_eq!(
        (config.timeout(email), config.timeout(sms)),
        (Duration::from_secs(3), Duration::from_secs(10))
    );
    assert_eq!((config.breaker_failures(email), config.breaker_failures(sms)), (5, 1000));
    let delays = [Duration::from_secs(1), Duration::from_millis(500)];
    assert_eq!((config.retry_delays(email), config.retry_delays(sms)), (Some(&delays[..]), None));
    assert_eq!(config.retry_delays(ChannelKind::Push), Some(&[][..]), "none at all");
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    let origins = |text| Config::with(&[("in_app.origins", text)]);
    let config = origins("https://a.example.com, http://localhost:3000,https://b.example.com").unwrap();
    let all: Vec<&str> = config.in_app.origins().collect();
    assert_eq!(all, ["https://a.example.com", "http://localhost:3000", "https://b.example.com"]);
    for wrong in [
        "*",
        "a.example.com",
        "https://a.example.com/",
        "https://A.example.com",
        "https://a.example.com:443",
        "null",
        "https://u@a.example.com",
    ] {
        assert!(origins(wrong).unwrap_err().to_string().contains("INBOX_ORIGINS"), "{wrong}");
    }
    assert!(complaint(&[("in_app.secret", "short")]).contains("INBOX_SECRET"));
}

#[test]
fn names_at_the_broker_are_those_that_it_takes() {
    for (key, wrong) in [
        ("broker.stream", "a.b"),
        ("broker.consumer", "a b"),
        ("broker.subject", "fanfare..events"),
        ("broker.subject", "fanfare.>.events"),
        ("broker.subject", "fanfare.ev*"),
        ("broker.subject", ""),
        ("broker.batch", "0"),
        ("broker.tries", "101"),
    ] {
        assert!(complaint(&[(key, wrong)]).contains(key), "{key} = {wrong}");
    }
    for subject in ["events", "fanfare.*.new", ">", "fanfare.events.>"] {
        assert_eq!(Config::with(&[("broker.subject", subject)]).unwrap().broker.subject, subject);
    }
    assert!(complaint(&[("broker.credentials", "/a.creds")]).contains("NATS_URL"));
    let kafka = [("kafka.brokers", "a:9092")];
    for (more, names) in [
        (("kafka.username", "a"), "KAFKA_SASL_MECHANISM"),
        (("kafka.sasl_mechanism", "PLAIN"), "KAFKA_USERNAME"),
        (("kafka.sasl_mechanism", "MD5"), "sasl_mechanism"),
        (("kafka.ca", "/ca.pem"), "KAFKA_TLS"),
        (("kafka.group", ""), "KAFKA_GROUP"),
        (("kafka.start", "now"), "start"),
        (("kafka.batch", "0"), "KAFKA_BATCH"),
    ] {
        assert!(complaint(&[kafka[0], more]).contains(names), "{more:?}");
    }
    assert!(complaint(&[("kafka.tls", "true")]).contains("KAFKA_BROKERS"));
}

#[test]
fn one_limit_holds_for_each_channel() {
    let gateway = ("email.base_url", "http://gateway:1");
    let config = Config::with(&[gateway]).unwrap();
    assert_eq!(config.rate(ChannelKind::Email), Some(100.0), "a real provider has a limit");
    assert_eq!(config.rate(ChannelKind::Sms), None, "the sandbox has no limit");
    let config = Config::with(&[gateway, ("channels.rate_per_second", "2.5")]).unwrap();
    for channel in ChannelKind::TO_PEOPLE {
        assert_eq!(config.rate(*channel), Some(2.5), "{channel}");
    }
}

#[test]
fn the_delays_of_notifications_stand_in_their_order() {
    let seconds =
        |config: &Config| config.notifications.backoff().iter().map(Duration::as_secs).collect::<Vec<_>>();
    assert_eq!(seconds(&Config::with(&[]).unwrap()), [5, 30, 120]);
    assert_eq!(seconds(&Config::with(&[("notifications.retry_backoff_2", "7s")]).unwrap()), [5, 7, 120]);
}

#[test]
fn links_in_mails_need_an_address_that_everybody_reaches() {
    let secret = ("preferences.unsubscribe_secret", "1234567890123456");
    for url in ["https://mail.example.com", "https://mail.example.com:8443/fanfare/"] {
        assert!(Config::with(&[("http.public_url", url), secret]).is_ok(), "{url}");
        assert!(Config::with(&[("http.public_url", url)]).is_ok(), "{url}: a secret is generated");
    }
    for url in [
        "http://mail.example.com",
        "mail.example.com",
        "https://mail.example.com?x=1",
        "https://mail.example.com/#x",
        "https://user@mail.example.com",
        "https://mail.example.com/a,b",
        "https://mail.example.com/a b",
        "https://почта.рф",
    ] {
        assert!(complaint(&[("http.public_url", url), secret]).contains("PUBLIC_URL"), "{url}");
    }
    assert!(complaint(&[("preferences.unsubscribe_secret", "short")]).contains("UNSUBSCRIBE_SECRET"));
    assert!(complaint(&[("preferences.quiet_hours_timezone", "Moscow")]).contains("QUIET_HOURS_TIMEZONE"));
    assert!(Config::with(&[("preferences.quiet_hours_timezone", "Europe/Moscow")]).is_ok());
}
