//! The link in a mail as the recipient's mail program finds it, and what a click comes to.

use serde_json::{Value, json};

use crate::on_each_database;
use crate::peer::Peer;
use crate::support::{Service, after};

/// A header of a mail as a server received it.
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

        // a mail program posts there; the proxy in front takes its own path off
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
