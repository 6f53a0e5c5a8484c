//! Expensive templates, mailing texts and conditions: each is refused or stopped within its bound, and the service
//! keeps running.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::ask::{Answer, ask};
use crate::on_each_database;
use crate::support::{Service, after};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns texts that overflowed the stack, exhausted the memory, or never ended.
fn costly() -> Vec<String> {
    vec![
        format!("{{{{ {}1 }}}}", "-".repeat(5400)),
        format!("{{{{ {}1 }}}}", "1+".repeat(7000)),
        format!("{{{{ {}a }}}}", "not ".repeat(7000)),
        format!("{{{{ a{} }}}}", ".b".repeat(9000)),
        format!("{{{{ a{} }}}}", "|int".repeat(9000)),
        format!("{{{{ a{} }}}}", "[0]".repeat(9000)),
        format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(4500)),
        format!(
            "{{% for a in ['x'*n] %}}{}x{}",
            "{% for a in [a~a] %}".repeat(16),
            "{% endfor %}".repeat(17)
        ),
        format!("{}x{}", "{% with a = a ~ a %}".repeat(16), "{% endwith %}".repeat(16)),
        "{{ ([[1]*100000000]*100000000) == ([[1]*100000000]*100000000) }}".into(),
        "{% autoescape false %}{{ name }}{% endautoescape %}".into(),
    ]
}

/// Returns the reason for a field of a refused request.
fn reason(answer: &Answer, field: &str) -> String {
    let problem = answer.problem(422);
    let errors = problem["errors"].as_array().expect("errors");
    let error = errors.iter().find(|error| error["field"] == field);
    error.unwrap_or_else(|| panic!("{problem}"))["reason"].as_str().expect("a reason").to_owned()
}

on_each_database! {
    async fn a_too_expensive_text_is_refused_on_every_path(kind: Database) {
        let service = Service::start(kind).await;
        for text in costly() {
            let shown: String = text.chars().take(60).collect();
            // as HTML, which has the highest maximum length
            let mail = |html: &str| json!({
                "name": "costly", "channel": "email", "subject": "s", "text": "t", "html": html, "data": {"n": 1_000_000}
            });
            let mut template = mail(&text);
            template.as_object_mut().expect("an object").remove("data");
            let why = reason(&ask(&service, "POST", "/templates", Some(template)).await, "html");
            assert!(why.starts_with("syntax error in line 1: "), "{shown}: {why}");
            reason(&ask(&service, "POST", "/templates/preview", Some(mail(&text))).await, "html");
            let mailing = json!({
                "channel": "email", "filter": "vip", "subject": "s", "text": "t", "html": text, "ends_at": after(HOUR)
            });
            reason(&ask(&service, "POST", "/mailings", Some(mailing.clone())).await, "html");
            reason(&ask(&service, "POST", "/mailings/preview", Some(mailing)).await, "html");
        }
        for condition in ["([[1]*100000000]*100000000) == ([[1]*100000000]*100000000)", "{{ payload }}", "payload.x if"] {
            let delivery = json!({"channel": "webhook", "recipient": "https://example.com/", "condition": condition});
            let route = json!({"event": "order.paid", "deliveries": [delivery]});
            let answer = ask(&service, "POST", "/routes", Some(route)).await;
            assert!(reason(&answer, "deliveries[0].condition").starts_with("syntax error: "), "{condition}");
        }
        assert_eq!(service.get("/templates").await["items"], json!([]));
    }
}

on_each_database! {
    async fn an_endless_rendering_is_stopped_and_the_next_one_succeeds(kind: Database) {
        let service = Service::start(kind).await;
        let loops = format!("{}x{}", "{% for a in list %}".repeat(8), "{% endfor %}".repeat(8));
        let preview = |text: &str, data: Value| json!({"channel": "sms", "text": text, "data": data});
        let list: Vec<u32> = (0..1000).collect();
        for (text, data, why) in [
            (&*loops.replace('x', "{% if a == 'x' %}x{% endif %}"), json!({"list": list}), "the template takes too much work in line 1"),
            (&*loops, json!({"list": list}), "the text is longer than 1530 characters for this recipient"),
            ("{{ 5 in [1]*100000000 }}", json!({}), "`[1]` is a list, not a number"),
            ("{{ 'x'*100000000 }}", json!({}), "`'x'` is a text, not a number"),
            ("{{ price * qty }}", json!({"price": "12345678", "qty": 12_000_000}), "`price` is a text, not a number"),
            ("{{ qty * price }}", json!({"price": "12345678", "qty": 12_000_000}), "`price` is a text, not a number"),
        ] {
            let answer = ask(&service, "POST", "/templates/preview", Some(preview(text, data))).await.success(200);
            assert_eq!(answer["error"], why, "{text}");
        }
    }
}

on_each_database! {
    async fn a_text_is_refused_only_if_it_fails_for_every_client(kind: Database) {
        let service = Service::start(kind).await;
        let clients = "phone_number,tag,price,qty\n79031110001,vip,12345678,3\n79031110002,vip,abc,4\n79031110003,new,,5\n";
        service.import_csv(clients).await.expect("an import");
        let mailing = |tag: &str, text: &str| json!({"filter": tag, "text": text, "ends_at": after(HOUR)});
        for (tag, text, why) in [
            ("vip", "{{ price * 2 }}", "cannot be filled for any of the first 2 clients of the audience: `price` is a text, not a number"),
            ("new", "{{ price }}", "cannot be filled for any of the first 1 clients of the audience: no value for the placeholder `price`"),
            ("nobody", "{{ 1 / 0 }}", "cannot be filled: `1 / 0` divides by zero"),
        ] {
            let answer = ask(&service, "POST", "/mailings", Some(mailing(tag, text))).await;
            assert_eq!(reason(&answer, "text"), why, "{text}");
        }
        let id = service.post("/mailings", mailing("vip", "{{ price | float * 2 }}")).await["id"].as_str().expect("an id").to_owned();
        let done = service.wait_for(&format!("/mailings/{id}"), |mailing| mailing["status"] == "finished").await;
        assert_eq!((&done["counts"]["sent"], &done["counts"]["failed"]), (&json!(1), &json!(1)), "{done}");
        let failed = service.get(&format!("/mailings/{id}/messages?status=failed")).await;
        assert_eq!(failed["items"][0]["error"], "`price` is a text, not a number");
        // an empty audience has no client to test the text with
        service.post("/mailings", mailing("nobody", "{{ price }}")).await;
        let later = json!({"filter": "vip", "text": "x", "starts_at": after(HOUR), "ends_at": after(2 * HOUR)});
        let later = service.post("/mailings", later).await["id"].as_str().expect("an id").to_owned();
        let change = json!({"text": "{{ qty + 1 }}"});
        let answer = ask(&service, "PATCH", &format!("/mailings/{later}"), Some(change)).await;
        assert!(reason(&answer, "text").ends_with("`qty` is a text, not a number"));
        assert_eq!(service.get(&format!("/mailings/{later}")).await["text"], "x");
    }
}

on_each_database! {
    async fn a_false_condition_is_recorded_with_its_reason(kind: Database) {
        let service = Service::start(kind).await;
        let text = json!({"name": "paid", "channel": "sms", "text": "{{ payload.total }} paid"});
        ask(&service, "POST", "/templates", Some(text)).await.success(201);
        let condition = "payload.total > 100 and payload.country in ['DE','AT']";
        let delivery = json!({"channel": "sms", "template": "paid", "condition": condition});
        ask(&service, "POST", "/routes", Some(json!({"event": "order.paid", "deliveries": [delivery]}))).await.success(201);
        let event = |total: Option<Value>| {
            let mut payload = json!({"country": "DE"});
            if let Some(total) = total {
                payload["total"] = total;
            }
            json!({"event": "order.paid", "user_target": "+79031110001", "payload": payload})
        };
        for (total, why) in [
            (Some(json!("5")), "`payload.total > 100` is false"),
            (Some(json!("5.00")), "`payload.total > 100` is false"),
            (Some(json!([])), "`payload.total` is a list, not a number"),
            (Some(json!({})), "`payload.total` is an object, not a number"),
            (Some(json!("abc")), "`payload.total` is a text, not a number"),
            (Some(json!(null)), "`payload.total` has no value"),
            (None, "`payload.total` has no value"),
        ] {
            let skipped = json!([{
                "route": "order.paid", "channel": "sms", "target": "user", "reason": format!("the condition is not met: {why}")
            }]);
            let tried = ask(&service, "POST", "/routes/test", Some(event(total.clone()))).await.success(200);
            assert_eq!((&tried["notifications"], &tried["skipped"]), (&json!([]), &skipped));
            let taken = service.post("/events", event(total)).await;
            let path = format!("/events/{}", taken["event_id"].as_str().expect("an id"));
            let stored = service.get(&path).await;
            assert_eq!((&stored["notifications"], &stored["skipped"]), (&json!([]), &skipped));
        }
        for total in [json!(500), json!("500"), json!("500.00")] {
            let tried = ask(&service, "POST", "/routes/test", Some(event(Some(total)))).await.success(200);
            assert_eq!((tried["notifications"].as_array().map(Vec::len), &tried["skipped"]), (Some(1), &json!([])));
        }
    }
}
