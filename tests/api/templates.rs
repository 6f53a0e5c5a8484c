//! Templates: created, changed, previewed, and used by notifications and mailings.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::{all_pages, ask, fields, id_of, request, send, texts, wrong_fields};
use crate::on_each_database;
use crate::support::{Service, after};

const PATH: &str = "/templates";
const HOUR: Duration = Duration::from_secs(3600);

async fn make(service: &Service, body: Value) -> Value {
    ask(service, "POST", PATH, Some(body)).await.success(201)
}

fn sms(name: &str, locale: Option<&str>, text: &str) -> Value {
    let mut body = json!({"name": name, "channel": "sms", "text": text});
    if let Some(locale) = locale {
        body["locale"] = json!(locale);
    }
    body
}

on_each_database! {
    async fn a_template_is_created_changed_restored_and_deleted(kind: Database) {
        let service = Service::start(kind).await;
        let body = json!({
            "name": "order.shipped", "channel": "email", "subject": "Order {{ payload.id }}",
            "text": "Dear {{ name }}", "html": "<p>{{ name }}</p>",
        });
        let post = || request(&service, "POST", PATH).header("Idempotency-Key", "template-1").json(&body);
        let answer = send(post()).await;
        let made = answer.success(201);
        let path = format!("{PATH}/{}", id_of(&made));
        assert_eq!(answer.header("location"), format!("/api/v1{path}"));
        assert_eq!((&made["version"], &made["locale"]), (&json!(1), &Value::Null));
        assert_eq!(made["placeholders"], json!(["name", "payload.id"]));
        let again = send(post()).await;
        assert_eq!((again.header("idempotency-replayed"), again.success(201)), ("true", made.clone()));
        assert_eq!(service.get(&path).await, made);
        ask(&service, "POST", PATH, Some(body)).await.problem(409);

        let same = ask(&service, "PATCH", &path, Some(json!({"text": "Dear {{ name }}"}))).await.success(200);
        assert_eq!(same, made, "no new version");
        let changed = ask(&service, "PATCH", &path, Some(json!({"text": "Hi {{ name }}", "html": null}))).await.success(200);
        assert_eq!((&changed["version"], &changed["html"], &changed["subject"]), (&json!(2), &Value::Null, &made["subject"]));
        let versions = format!("{path}/versions");
        let all = all_pages(&service, &versions, 1).await;
        assert_eq!(texts(&all, "text"), ["Hi {{ name }}", "Dear {{ name }}"]);
        assert_eq!(service.get(&format!("{versions}/1")).await, all[1]);
        let restored = ask(&service, "POST", &format!("{versions}/1/restore"), None).await.success(200);
        assert_eq!((&restored["version"], &restored["html"]), (&json!(3), &made["html"]));
        ask(&service, "GET", &format!("{versions}/4"), None).await.problem(404);
        ask(&service, "GET", &format!("{versions}/x"), None).await.problem(422);
        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 204);
        for (method, path) in [
            ("GET", path.clone()),
            ("DELETE", path.clone()),
            ("GET", versions.clone()),
            ("GET", format!("{versions}/1")),
            ("POST", format!("{versions}/1/restore")),
        ] {
            ask(&service, method, &path, None).await.problem(404);
        }
        ask(&service, "PATCH", &path, Some(json!({}))).await.problem(404);
        ask(&service, "POST", &format!("{path}/preview"), Some(json!({}))).await.problem(404);
    }
}

on_each_database! {
    async fn an_invalid_template_is_refused_by_the_names_of_its_fields(kind: Database) {
        let service = Service::start(kind).await;
        for (body, names) in [
            (json!({}), vec!["name"]),
            (sms("A b", Some("de_DE"), "x"), vec!["locale", "name"]),
            (sms("a", None, "{{ a"), vec!["text"]),
            (sms("a", None, "{% if a %}{{ b.c | nope }}{% endif %}"), vec!["text"]),
            (json!({"name": "a", "channel": "sms", "text": "x", "subject": "s", "html": "<p>"}), vec!["html", "subject"]),
            (json!({"name": "a", "channel": "email", "text": "x"}), vec!["subject"]),
            (json!({"name": "a", "channel": "fax", "text": "x"}), vec!["channel"]),
            (json!({"name": "a", "channel": "sms", "text": "x", "version": 2}), vec!["version"]),
            (sms("a", Some("de"), "there is nothing to fall back to"), vec!["locale"]),
        ] {
            assert_eq!(wrong_fields(&service, PATH, body.clone()).await, names, "{body}");
        }
        let base = make(&service, sms("a", None, "x")).await;
        let german = make(&service, sms("a", Some("DE-at"), "y")).await;
        assert_eq!(german["locale"], "de-AT");
        let path = format!("{PATH}/{}", id_of(&base));
        ask(&service, "DELETE", &path, None).await.problem(409);
        for (body, name) in [(json!({"text": null}), "text"), (json!({"name": "b"}), "name"), (json!({"subject": "s"}), "subject")] {
            assert_eq!(fields(&ask(&service, "PATCH", &path, Some(body)).await.problem(422)), [name]);
        }
        make(&service, json!({"name": "a", "channel": "push", "text": "z"})).await;
        for (query, count) in [("name=a", 3), ("channel=sms", 2), ("locale=DE-AT", 1), ("name=b", 0), ("name=a&channel=push", 1)] {
            assert_eq!(all_pages(&service, &format!("{PATH}?{query}"), 1).await.len(), count, "{query}");
        }
        for query in ["name=A", "channel=x", "locale=x", "nope=1", "limit=0", "cursor=x"] {
            ask(&service, "GET", &format!("{PATH}?{query}"), None).await.problem(422);
        }
    }
}

on_each_database! {
    async fn a_preview_shows_the_rendered_text_and_missing_values(kind: Database) {
        let service = Service::start(kind).await;
        let text = "{{ name }}: {% for item in payload.items %}{{ item.name }};{% endfor %}{{ note | default('-') }}";
        let made = make(&service, sms("a", None, text)).await;
        let path = format!("{PATH}/{}/preview", id_of(&made));
        let data = json!({"name": "Ann", "payload": {"items": [{"name": "tea"}, {"name": "{{ jam }}"}]}});
        let seen = service.post(&path, json!({"data": data})).await;
        assert_eq!((&seen["text"], &seen["error"]), (&json!("Ann: tea;{{ jam }};-"), &Value::Null));
        assert_eq!(seen["segments"]["segments"], 1, "{seen}");
        assert_eq!(seen["placeholders"], json!(["name", "note", "payload.items"]));
        assert_eq!(seen["missing"], json!(["note"]));
        let bare = service.post(&path, json!({})).await;
        assert_eq!((&bare["text"], &bare["segments"]), (&Value::Null, &Value::Null));
        assert_eq!(bare["missing"], json!(["name", "note", "payload.items"]));
        assert!(bare["error"].as_str().is_some_and(|why| why.contains("`name`")), "{bare}");

        ask(&service, "PATCH", &format!("{PATH}/{}", id_of(&made)), Some(json!({"text": "2"}))).await.success(200);
        assert_eq!(service.post(&path, json!({})).await["text"], "2");
        assert!(service.post(&path, json!({"version": 1, "data": data})).await["text"].as_str() > Some("Ann"));
        ask(&service, "POST", &path, Some(json!({"version": 9}))).await.problem(404);
        assert_eq!(wrong_fields(&service, &path, json!({"version": 0})).await, ["version"]);
        assert_eq!(wrong_fields(&service, &path, json!({"data": [1]})).await, ["data"]);

        let unkept = json!({
            "channel": "email", "subject": "{{ s }}", "text": "x", "html": "<p>{{ s }}</p>", "data": {"s": "<b>"}
        });
        let seen = service.post("/templates/preview", unkept).await;
        assert_eq!((&seen["subject"], &seen["html"]), (&json!("<b>"), &json!("<p>&lt;b&gt;</p>")));
        assert_eq!(seen["segments"], Value::Null);
        assert_eq!(wrong_fields(&service, "/templates/preview", json!({"channel": "sms", "text": "{{"})).await, ["text"]);
        assert_eq!(all_pages(&service, PATH, 10).await.len(), 1);
    }
}

on_each_database! {
    async fn a_notification_is_rendered_from_its_template_when_it_is_accepted(kind: Database) {
        let service = Service::start(kind).await;
        make(&service, sms("shipped", None, "{{ order.id }} has shipped")).await;
        let german = make(&service, sms("shipped", Some("de"), "{{ order.id }} ist unterwegs")).await;
        let anna = service.post("/clients", json!({"phone_number": "79031234567", "locale": "de-DE"})).await;
        let values = json!({"order": {"id": "A-1"}});
        let by = |to: Value, more: Value| {
            let mut body = json!({"channel": "sms", "template": "shipped", "values": values});
            for part in [to, more] {
                for (name, value) in part.as_object().expect("an object") {
                    body[name] = value.clone();
                }
            }
            body
        };
        let number = json!({"recipient": "+905551234567"});
        let client = json!({"client_id": anna["id"]});
        for (body, text, locale) in [
            (by(number.clone(), json!({})), "A-1 has shipped", Value::Null),
            (by(number.clone(), json!({"locale": "DE-ch"})), "A-1 ist unterwegs", json!("de")),
            (by(client.clone(), json!({})), "A-1 ist unterwegs", json!("de")),
            (by(client.clone(), json!({"locale": "fr"})), "A-1 has shipped", Value::Null),
        ] {
            let dry = ask(&service, "POST", "/notifications?dry_run=true", Some(body.clone())).await.success(200);
            assert_eq!(dry["content"], text, "{body}");
            let made = ask(&service, "POST", "/notifications", Some(body.clone())).await.success(201);
            assert_eq!((&made["content"], &made["template"]), (&json!(text), &json!("shipped")), "{body}");
            assert_eq!((&made["template_version"], &made["template_locale"]), (&json!(1), &locale), "{body}");
            let seen = service.get(&format!("/notifications/{}", id_of(&made))).await;
            assert_eq!((&seen["content"], &seen["template_locale"]), (&json!(text), &locale));
        }

        for (more, names) in [
            (json!({"template": "nope"}), vec!["template"]),
            (json!({"template": "No"}), vec!["template"]),
            (json!({"values": {"order": {}}}), vec!["values"]),
            (json!({"values": null}), vec!["values"]),
            (json!({"values": []}), vec!["values"]),
            (json!({"locale": "x"}), vec!["locale"]),
            (json!({"content": "x", "subject": "y"}), vec!["content", "subject"]),
            (json!({"channel": "push", "recipient": "token"}), vec!["template"]),
            (json!({"template": null}), vec!["content", "values"]),
        ] {
            let body = by(number.clone(), more.clone());
            assert_eq!(wrong_fields(&service, "/notifications", body).await, names, "{more}");
        }
        let why = ask(&service, "POST", "/notifications", Some(by(number.clone(), json!({"template": "nope"})))).await;
        assert!(why.text.contains("shipped"), "the error lists the existing templates: {}", why.text);

        let batch = json!({"notifications": [by(number.clone(), json!({})), by(number.clone(), json!({"values": {}})), by(client, json!({}))]});
        let taken = ask(&service, "POST", "/notifications/batch", Some(batch.clone())).await.success(201);
        assert_eq!((&taken["accepted"], &taken["items"][1]["errors"][0]["field"]), (&json!(2), &json!("values")));
        let all = fields(&ask(&service, "POST", "/notifications/batch?atomic=true", Some(batch)).await.problem(422));
        assert_eq!(all, ["notifications[1].values"]);

        let path = format!("{PATH}/{}", id_of(&german));
        ask(&service, "PATCH", &path, Some(json!({"text": "neu"}))).await.success(200);
        let made = service.post("/notifications", by(number, json!({"locale": "de"}))).await;
        assert_eq!((&made["content"], &made["template_version"]), (&json!("neu"), &json!(2)));
    }
}

on_each_database! {
    async fn a_mailing_keeps_the_texts_of_its_template_at_creation(kind: Database) {
        let service = Service::start(kind).await;
        let base = make(&service, sms("news", None, "Hello, {{ name }}")).await;
        make(&service, sms("news", Some("de"), "Hallo, {{ name }}")).await;
        let window = json!({"starts_at": after(HOUR), "ends_at": after(2 * HOUR)});
        let with = |more: Value| {
            let mut body = window.clone();
            for (name, value) in more.as_object().expect("an object") {
                body[name] = value.clone();
            }
            body
        };
        assert_eq!(wrong_fields(&service, "/mailings", with(json!({"template": "news"}))).await, ["template"], "no client has the attribute `name`");
        for (phone, locale) in [("79030000001", Value::Null), ("79030000002", json!("de-AT"))] {
            service.post("/clients", json!({"phone_number": phone, "locale": locale, "attributes": {"name": "Ann"}})).await;
        }
        for (body, names) in [
            (json!({}), vec!["text"]),
            (json!({"template": "nope"}), vec!["template"]),
            (json!({"template": "news", "text": "x"}), vec!["text"]),
            (json!({"template": "news", "subject": "x"}), vec!["subject"]),
            (json!({"template": "news", "channel": "push"}), vec!["template"]),
        ] {
            assert_eq!(wrong_fields(&service, "/mailings", with(body.clone())).await, names, "{body}");
        }
        let preview = service.post("/mailings/preview", json!({"template": "news"})).await;
        assert_eq!(texts(preview["sample"].as_array().expect("a sample"), "text"), ["Hello, Ann", "Hallo, Ann"]);

        let made = service.post("/mailings", with(json!({"template": "news"}))).await;
        let path = format!("/mailings/{}", id_of(&made));
        ask(&service, "PATCH", &format!("{PATH}/{}", id_of(&base)), Some(json!({"text": "Other"}))).await.success(200);
        let seen = service.get(&path).await;
        assert_eq!(seen, made, "the mailing keeps its original texts");
        assert_eq!((&seen["text"], &seen["template"], &seen["template_version"]), (&json!("Hello, {{ name }}"), &json!("news"), &json!(1)));
        let german = json!([{"locale": "de", "version": 1, "subject": null, "text": "Hallo, {{ name }}", "html": null}]);
        assert_eq!(seen["variants"], german);

        let patch = |body: Value| ask(&service, "PATCH", &path, Some(body));
        assert_eq!(fields(&patch(json!({"html": "<p>"})).await.problem(422)), ["html"]);
        assert_eq!(fields(&patch(json!({"template": "news", "text": "x"})).await.problem(422)), ["text"]);
        assert_eq!(patch(json!({"ends_at": after(3 * HOUR)})).await.success(200)["variants"], german);
        let newer = patch(json!({"template": "news"})).await.success(200);
        assert_eq!((&newer["text"], &newer["template_version"]), (&json!("Other"), &json!(2)));
        let own = patch(json!({"text": "My own"})).await.success(200);
        assert_eq!((&own["text"], &own["template"], &own["variants"]), (&json!("My own"), &Value::Null, &json!([])));
        assert_eq!(service.get(&path).await, own);
        assert_eq!(own["template_version"], Value::Null);
    }
}
