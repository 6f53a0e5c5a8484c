//! The unsubscribe link of a mail as the recipient's mail program finds it, and the effect of a click.

use serde_json::{Value, json};

use crate::channels::peer::Peer;
use crate::on_each_database;
use crate::support::{Service, after};

/// Returns a header of a mail as a server received it.
fn header(mail: &str, name: &str) -> Option<String> {
    let mail: Value = serde_json::from_str(mail).unwrap();
    let headers: Vec<Value> = mail["headers"].as_array().unwrap().clone();
    let mut found = headers.into_iter().filter(|header| header[0] == name);
    let value = found.next()?[1].as_str().unwrap().to_owned();
    assert!(found.next().is_none(), "{name} stands twice");
    Some(value)
}

on_each_database! {
    async fn a_mail_bears_a_link_that_works_with_one_click_unless_it_is_transactional(kind: Database) {
        let mut server = Peer::python("smtp.py", &[]);
        let ready: Value = serde_json::from_str(&server.ready).unwrap();
        let url = format!("smtp://127.0.0.1:{}", ready["port"]);
        let service = Service::start_with(kind, &[
            ("email.base_url", ""), ("email.smtp_url", &url), ("email.tls", "none"), ("email.from", "Shop <news@example.com>"),
            ("email.unsubscribe_url", "https://example.com/u?m={id}"), ("http.public_url", "https://mail.example.com/fanfare/"),
            ("preferences.unsubscribe_secret", "a secret for links in mails"),
        ]).await;
        let fields = json!({"phone_number": "79030000001", "email": "ann@example.net"});
        let client = service.post("/clients", fields).await["id"].as_str().unwrap().to_owned();
        let mailing = json!({"channel": "email", "subject": "x", "text": "x", "group": "newsletter",
            "ends_at": after(std::time::Duration::from_secs(600))});
        service.post("/mailings", mailing.clone()).await;
        let mail = server.line();
        let found = header(&mail, "List-Unsubscribe").unwrap();
        let link = found.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap();
        assert!(link.starts_with("https://mail.example.com/fanfare/unsubscribe/"), "the service's own alone: {found}");
        assert!(!link.contains(['<', '>', ',', ' ']), "{found}");
        assert_eq!(header(&mail, "List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));

        // a mail program posts there; the proxy in front removes its own path prefix
        let here = link.replace("https://mail.example.com/fanfare", &service.base);
        let click = service.http.post(&here).header("content-type", "application/x-www-form-urlencoded");
        let answer = click.body("List-Unsubscribe=One-Click").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let preferences = service.get(&format!("/clients/{client}/preferences")).await;
        assert_eq!(preferences["groups"], json!({"newsletter": false}));
        let id = service.post("/mailings", mailing).await["id"].as_str().unwrap().to_owned();
        let ended = service.wait_for(&format!("/mailings/{id}"), |mailing| !mailing["finished_at"].is_null()).await;
        assert_eq!(ended["counts"]["cancelled"], 1, "{ended}");

        let one = |group: Value, is_transactional: bool| json!({"channel": "email", "recipient": "bert@example.net",
            "subject": "x", "content": "x", "group": group, "transactional": is_transactional});
        for (body, has_link) in [(one(json!("order"), false), true), (one(json!("order"), true), false), (one(Value::Null, false), false)] {
            service.post("/notifications", body.clone()).await;
            let mail = server.line();
            assert_eq!(header(&mail, "List-Unsubscribe").is_some(), has_link, "{body}: {mail}");
        }
    }
}

/// Returns the link in a text that consists of `see ` and the link.
fn link_in(text: &Value) -> String {
    let link = text.as_str().and_then(|text| text.trim().strip_prefix("see ")).unwrap_or_default();
    assert!(link.starts_with("https://mail.example.com/unsubscribe/"), "{text}");
    link.to_owned()
}

on_each_database! {
    async fn texts_name_the_link_wherever_they_stand(kind: Database) {
        let mut server = Peer::python("smtp.py", &[]);
        let ready: Value = serde_json::from_str(&server.ready).unwrap();
        let url = format!("smtp://127.0.0.1:{}", ready["port"]);
        let service = Service::start_with(kind, &[
            ("email.base_url", ""), ("email.smtp_url", &url), ("email.tls", "none"), ("email.from", "Shop <news@example.com>"),
            ("http.public_url", "https://mail.example.com"), ("preferences.unsubscribe_secret", "a secret for links in mails"),
        ]).await;
        let fields = json!({"phone_number": "79030000001", "email": "ann@example.net",
            "attributes": {"unsubscribe_url": "https://other.example/of-another-system"}});
        service.post("/clients", fields).await;
        let text = "see {{ unsubscribe_url }}";

        let mailing = json!({"channel": "email", "subject": "x", "text": text, "html": "<a href=\"{{ unsubscribe_url }}\">x</a>",
            "group": "news", "ends_at": after(std::time::Duration::from_secs(600))});
        service.post("/mailings", mailing).await;
        let mail = server.line();
        let link = header(&mail, "List-Unsubscribe").unwrap();
        let link = link.trim_matches(['<', '>']);
        let parts: Value = serde_json::from_str(&mail).unwrap();
        assert_eq!(link_in(&parts["parts"][0][1]), link, "{mail}");
        assert_eq!(parts["parts"][1][1].as_str().map(str::trim), Some(format!("<a href=\"{link}\">x</a>").as_str()));
        for channel in ["email", "sms"] {
            let subject = (channel == "email").then_some("x");
            let body = json!({"channel": channel, "subject": subject, "text": text});
            link_in(&service.post("/mailings/preview", body).await["sample"][0]["text"]);
        }

        service.post("/templates", json!({"name": "welcome", "channel": "email", "subject": "x", "text": text})).await;
        let shown = service.post("/templates/preview", json!({"channel": "sms", "text": text})).await;
        assert_eq!((link_in(&shown["text"]).ends_with("/preview"), &shown["missing"]), (true, &json!([])));
        let one = json!({"channel": "email", "recipient": "bert@example.net", "template": "welcome", "group": "news"});
        let sent = service.post("/notifications", one.clone()).await;
        let link = link_in(&sent["content"]);
        let mut own = one;
        own["values"] = json!({"unsubscribe_url": "https://shop.example/bye"});
        assert_eq!(service.post("/notifications", own).await["content"], "see https://shop.example/bye");

        // the link contains the address that the message was sent to, and its group
        let here = link.replace("https://mail.example.com", &service.base);
        assert_eq!(service.http.post(&here).send().await.unwrap().status(), 200);
        let suppressed = service.get("/suppressions?channel=email&address=bert%40example.net").await;
        assert_eq!((&suppressed["items"][0]["group"], &suppressed["items"][0]["reason"]), (&json!("news"), &json!("unsubscribed")));

        let step = json!({"channel": "email", "template": "welcome", "target": "user"});
        service.post("/routes", json!({"event": "order.paid", "deliveries": [step]})).await;
        let event = json!({"event": "order.paid", "user_target": {"email": "ann@example.net"}});
        let id = service.post("/events", event).await["event_id"].as_str().unwrap().to_owned();
        link_in(&service.get(&format!("/events/{id}")).await["notifications"][0]["content"]);
    }

}

on_each_database! {
    async fn a_text_with_the_link_needs_an_address_of_the_service(kind: Database) {
        let service = Service::start(kind).await;
        service.post("/clients", json!({"phone_number": "79030000001"})).await;
        let body = json!({"text": "see {{ unsubscribe_url }}", "ends_at": after(std::time::Duration::from_secs(600))});
        let (status, problem) = service.call("POST", "/mailings", Some(body)).await;
        let reason = problem["errors"][0]["reason"].as_str().unwrap_or_default();
        assert_eq!((status, reason.contains("PUBLIC_URL")), (422, true), "{problem}");
    }
}
