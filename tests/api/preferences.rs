//! Preferences over HTTP, and the pages behind the unsubscribe links in mails.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::db::types::MessageId;
use fanfare::kinds::ChannelKind;
use fanfare::preferences::link::UnsubscribeTokens;
use fanfare::seal::Signer;
use serde_json::{Value, json};

use crate::api::ask::{Answer, ask, fields, id_of, send};
use crate::on_each_database;
use crate::support::{Service, after};

const KEY: &str = "a key of more than sixteen characters";

async fn client(service: &Service) -> String {
    id_of(
        &service.post("/clients", json!({"phone_number": "79030000001", "email": "anna@example.net"})).await,
    )
}

on_each_database! {
    async fn preferences_are_set_changed_read_and_deleted_with_their_client(kind: Database) {
        let service = Service::start(kind).await;
        let id = client(&service).await;
        let path = format!("/clients/{id}/preferences");
        let all = |email: bool, sms: bool| {
            json!({"sms": sms, "email": email, "push": true, "webhook": true, "discord": true, "in_app": true})
        };
        let first = service.get(&path).await;
        let nothing = json!({"client_id": id, "channels": all(true, true), "groups": {}, "quiet_hours": null, "updated_at": null});
        assert_eq!(first, nothing);

        let body = json!({"channels": {"email": false, "sms": true}, "groups": {"newsletter": false, "order": true},
            "quiet_hours": {"from": "22:00", "until": "08:00"}});
        let set = ask(&service, "PUT", &path, Some(body)).await.success(200);
        let found = (&set["channels"], &set["groups"], &set["quiet_hours"]);
        let quiet = json!({"from": "22:00", "until": "08:00"});
        assert_eq!(found, (&all(false, true), &json!({"newsletter": false}), &quiet));
        assert!(set["updated_at"].is_string());
        assert_eq!(service.get(&path).await, set);

        let patched = ask(&service, "PATCH", &path, Some(json!({"channels": {"sms": false}, "groups": {"offers": false}}))).await.success(200);
        let found = (&patched["channels"], &patched["groups"], &patched["quiet_hours"]);
        assert_eq!(found, (&all(false, false), &json!({"newsletter": false, "offers": false}), &quiet));
        let again = ask(&service, "PATCH", &path, Some(json!({"channels": {"sms": false}}))).await.success(200);
        assert_eq!(again, patched, "a patch without changes keeps the time");
        let body = json!({"channels": {"sms": true}, "groups": {"offers": true}, "quiet_hours": null});
        let patched = ask(&service, "PATCH", &path, Some(body)).await.success(200);
        let found = (&patched["channels"], &patched["groups"], &patched["quiet_hours"]);
        assert_eq!(found, (&all(false, true), &json!({"newsletter": false}), &Value::Null));

        let quiet_alone = json!({"quiet_hours": {"from": "23:00", "until": "07:00"}});
        let kept = ask(&service, "PUT", &path, Some(quiet_alone)).await.success(200);
        assert_eq!((&kept["channels"], &kept["groups"]), (&all(false, true), &json!({"newsletter": false})));
        let emptied = ask(&service, "PUT", &path, Some(json!({"channels": {}, "groups": {}}))).await.success(200);
        assert_eq!((&emptied["channels"], &emptied["groups"]), (&all(true, true), &json!({})));
        ask(&service, "DELETE", &format!("/clients/{id}"), None).await.success(200);
        for (method, body) in [("GET", None), ("PUT", Some(json!({}))), ("PATCH", Some(json!({})))] {
            ask(&service, method, &path, body).await.problem(404);
        }
        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 405);
    }
}

on_each_database! {
    async fn an_invalid_preference_is_refused_by_the_name_of_its_field(kind: Database) {
        let service = Service::start(kind).await;
        let path = format!("/clients/{}/preferences", client(&service).await);
        let many: serde_json::Map<String, Value> = (0..201).map(|n| (format!("g{n}"), json!(false))).collect();
        for (body, name) in [
            (json!({"chanels": {}}), "chanels"),
            (json!({"channels": null}), "channels"),
            (json!({"channels": {"fax": false}}), "channels.fax"),
            (json!({"channels": {"email": "no"}}), "channels.email"),
            (json!({"groups": {"News": false}}), "groups.News"),
            (json!({"groups": {"": false}}), "groups."),
            (json!({"groups": {"a": 1}}), "groups.a"),
            (json!({"groups": many}), "groups"),
            (json!({"quiet_hours": {"from": "22:00"}}), "quiet_hours.until"),
            (json!({"quiet_hours": {"from": "22:00", "until": "24:00"}}), "quiet_hours.until"),
            (json!({"quiet_hours": {"from": "9:00", "until": "10:00"}}), "quiet_hours.from"),
            (json!({"quiet_hours": {"from": "09:00", "until": "09:00"}}), "quiet_hours.until"),
            (json!({"quiet_hours": {"from": "09:00", "until": "10:00", "zone": "UTC"}}), "quiet_hours.zone"),
        ] {
            for method in ["PUT", "PATCH"] {
                let problem = ask(&service, method, &path, Some(body.clone())).await.problem(422);
                assert_eq!(fields(&problem), [name], "{body}: {problem}");
            }
        }
        ask(&service, "PUT", "/clients/x/preferences", Some(json!({}))).await.problem(422);
    }
}

on_each_database! {
    async fn a_group_and_its_mandatory_flag_are_accepted_shown_and_changed(kind: Database) {
        let service = Service::start(kind).await;
        let later = json!({"text": "x", "starts_at": after(std::time::Duration::from_secs(60)),
            "ends_at": after(std::time::Duration::from_secs(90))});
        let plain = service.post("/mailings", later.clone()).await;
        assert_eq!((&plain["group"], &plain["transactional"]), (&Value::Null, &json!(false)));
        let mut grouped = later.clone();
        grouped["group"] = json!("newsletter");
        grouped["transactional"] = json!(true);
        let made = service.post("/mailings", grouped).await;
        let path = format!("/mailings/{}", id_of(&made));
        let read = service.get(&path).await;
        assert_eq!((&read["group"], &read["transactional"]), (&json!("newsletter"), &json!(true)));
        let changed = ask(&service, "PATCH", &path, Some(json!({"group": null, "transactional": false}))).await.success(200);
        assert_eq!((&changed["group"], &changed["transactional"]), (&Value::Null, &json!(false)));
        for (body, name) in [(json!({"group": "A B"}), "group"), (json!({"transactional": null}), "transactional")] {
            assert_eq!(fields(&ask(&service, "PATCH", &path, Some(body)).await.problem(422)), [name]);
        }
        let one = json!({"channel": "sms", "recipient": "+905551234567", "content": "x", "group": "x".repeat(65)});
        assert_eq!(fields(&ask(&service, "POST", "/notifications", Some(one)).await.problem(422)), ["group"]);
        let one = json!({"channel": "sms", "recipient": "+905551234567", "content": "x", "group": "order.shipped_2-x"});
        let shown = service.post("/notifications", one).await;
        assert_eq!((&shown["group"], &shown["transactional"]), (&json!("order.shipped_2-x"), &Value::Null));
    }
}

/// Returns the page of a response, and checks its type and its security headers.
fn page(answer: &Answer, status: u16) -> String {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (status, "text/html; charset=utf-8"),
        "{}",
        answer.text
    );
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let safe = (
        answer.header("cache-control"),
        answer.header("referrer-policy"),
        answer.header("x-content-type-options"),
    );
    assert_eq!(safe, ("no-store", "no-referrer", "nosniff"));
    assert!(answer.text.starts_with("<!doctype html>") && !answer.text.contains("<script"));
    answer.text.clone()
}

/// Returns the URL that the button of a page posts to.
fn action(page: &str) -> &str {
    page.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form")
}

on_each_database! {
    async fn a_link_unsubscribes_with_one_click_without_the_key_and_opening_it_does_not(kind: Database) {
        let settings = [
            ("access.api_key", KEY),
            ("preferences.unsubscribe_secret", KEY),
            ("preferences.brand_name", "Acme <Ltd>"),
        ];
        let service = Service::start_with(kind, &settings).await;
        let keyed = |method, path: &str| crate::api::ask::request(&service, method, path).bearer_auth(KEY);
        let body = json!({"phone_number": "79030000001", "email": "anna@example.net"});
        let id = id_of(&send(keyed("POST", "/clients").json(&body)).await.success(201));
        let preferences = async || send(keyed("GET", &format!("/clients/{id}/preferences"))).await.success(200);
        let tokens = UnsubscribeTokens::new(KEY.as_bytes());
        let of = |group: Option<&str>| {
            let token = tokens.issue(ChannelKind::Email, "anna@example.net", group).expect("a token");
            format!("{}/unsubscribe/{token}", service.base)
        };
        let link = of(Some("newsletter"));

        let shown = page(&send(service.http.get(&link)).await, 200);
        assert!(shown.contains("newsletter") && link.ends_with(action(&shown)), "{shown}");
        assert!(!shown.contains("anna"), "{shown}");
        assert_eq!(send(service.http.head(&link)).await.status, 200);
        assert_eq!(preferences().await["updated_at"], Value::Null, "opening the page changes nothing");

        let form = "application/x-www-form-urlencoded";
        let clicks = [
            service.http.post(&link).header("content-type", form).body("List-Unsubscribe=One-Click"),
            service.http.post(&link).header("content-type", "multipart/form-data; boundary=x").body("--x--\r\n"),
            service.http.post(&link),
        ];
        for click in clicks {
            let done = page(&send(click).await, 200);
            assert!(action(&done).ends_with("/undo"), "{done}");
            let now = preferences().await;
            assert_eq!((&now["groups"], &now["channels"]["email"]), (&json!({"newsletter": false}), &json!(true)));
        }
        let undone = page(&send(service.http.post(format!("{link}/undo"))).await, 200);
        assert!(action(&undone).starts_with("../"), "{undone}");
        assert_eq!(preferences().await["groups"], json!({}));

        let in_german = service.http.post(format!("{link}/all")).header("accept-language", "de-AT,en;q=0.5");
        let done = page(&send(in_german).await, 200);
        assert!(done.contains("<html lang=\"de\">") && done.contains("Sie sind abgemeldet"), "{done}");
        assert!(done.contains("<p class=\"from\">Acme &lt;Ltd&gt;</p>"), "{done}");
        assert_eq!(action(&done), "all/undo");
        assert_eq!(preferences().await["channels"]["email"], false);
        let undone = page(&send(service.http.post(format!("{link}/all/undo"))).await, 200);
        assert_eq!(action(&undone), "../all");
        assert_eq!(preferences().await["channels"]["email"], true);

        page(&send(service.http.post(of(None))).await, 200);
        assert_eq!(preferences().await["channels"]["email"], false, "without a group the link applies to the channel");

        page(&send(service.http.get(format!("{link}A"))).await, 404);
        page(&send(service.http.post(format!("{}/unsubscribe/x", service.base))).await, 404);
        page(&send(service.http.post(format!("{}/unsubscribe/x/undo", service.base))).await, 404);
        page(&send(service.http.get(format!("{}/unsubscribe/%3Cscript%3E", service.base))).await, 404);
        send(service.http.post(&link).body("x".repeat(5000))).await.problem(413);
        send(service.http.delete(&link)).await.problem(405);
        for path in ["/unsubscribe", "/unsubscribe/", "/unsubscribe/../api/v1/clients", "/unsubscribe/x/y"] {
            let status = send(service.http.get(format!("{}{path}", service.base))).await.status;
            assert!([401, 404].contains(&status), "{path}: {status}");
        }
        send(keyed("DELETE", &format!("/clients/{id}"))).await;
        page(&send(service.http.post(&link)).await, 200);
        let again = id_of(&send(keyed("POST", "/clients").json(&body)).await.success(201));
        let found = send(keyed("GET", &format!("/clients/{again}/preferences"))).await.success(200);
        assert_eq!(found["groups"], json!({"newsletter": false}), "the link worked without a client");
    }
}

/// Returns a token in the form of earlier versions: for a client (0) or a message (1).
fn old_token(kind: u8, id: &str) -> String {
    let mut token = vec![kind, 2];
    token.extend_from_slice(id.parse::<uuid::Uuid>().expect("an id").as_bytes());
    let code = Signer::new(KEY.as_bytes(), b"fanfare unsubscribe token 1").code(&token);
    token.extend_from_slice(&code);
    URL_SAFE_NO_PAD.encode(token)
}

on_each_database! {
    async fn a_link_of_an_earlier_version_works_or_explains_why_it_does_not(kind: Database) {
        let service = Service::start_with(kind, &[("preferences.unsubscribe_secret", KEY)]).await;
        let mail = json!({"channel": "email", "recipient": "anna@example.net", "content": "x", "subject": "x"});
        let message = id_of(&service.post("/notifications", mail).await);
        let id = client(&service).await;
        let email = async || service.get(&format!("/clients/{id}/preferences")).await["channels"]["email"].clone();
        for token in [old_token(0, &id), old_token(1, &message)] {
            let link = format!("{}/unsubscribe/{token}", service.base);
            page(&send(service.http.post(&link)).await, 200);
            assert_eq!(email().await, false);
            page(&send(service.http.post(format!("{link}/undo"))).await, 200);
            assert_eq!(email().await, true);
        }
        for kind in [0, 1] {
            let token = old_token(kind, &MessageId::new().to_string());
            let gone = page(&send(service.http.post(format!("{}/unsubscribe/{token}", service.base))).await, 410);
            assert!(gone.contains("Nothing was changed"), "{gone}");
        }
    }
}
