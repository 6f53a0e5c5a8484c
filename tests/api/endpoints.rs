//! Webhook endpoints.

use serde_json::{Value, json};

use crate::api::ask::{all_pages, ask, fields, id_of, wrong_fields};
use crate::on_each_database;
use crate::support::Service;

const PATH: &str = "/webhook-endpoints";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

on_each_database! {
    async fn an_endpoint_is_registered_changed_disabled_enabled_and_deleted(kind: Database) {
        let service = Service::start(kind).await;
        let body = json!({"url": "https://example.com/hook?key=planted", "description": "orders"});
        let answer = ask(&service, "POST", PATH, Some(body.clone())).await;
        let mut made = answer.success(201);
        let path = format!("{PATH}/{}", id_of(&made));
        assert_eq!(answer.header("location"), format!("/api/v1{path}"));
        let secret = made["secret"].take();
        assert!(secret.as_str().is_some_and(|secret| secret.starts_with("whsec_")), "{secret}");
        made.as_object_mut().expect("an object").remove("secret");
        assert_eq!(service.get(&path).await, made, "the secret is shown once");
        assert_eq!((&made["is_enabled"], &made["has_own_secret"]), (&json!(true), &json!(true)));
        let conflict = ask(&service, "POST", PATH, Some(body)).await.problem(409);
        assert!(!conflict.to_string().contains("planted"), "{conflict}");

        let rotated = ask(&service, "POST", &format!("{path}/secret/rotate"), None).await.success(200);
        assert_ne!(rotated["secret"], secret);
        assert!(rotated["old_secret_until"].is_string());
        let changes = json!({"description": null, "secret": SECRET});
        let patched = ask(&service, "PATCH", &path, Some(changes)).await;
        assert!(!patched.text.contains("whsec_"), "{}", patched.text);
        assert_eq!(patched.success(200)["description"], Value::Null);

        let disabled = ask(&service, "POST", &format!("{path}/disable"), None).await.success(200);
        assert_eq!((&disabled["is_enabled"], &disabled["disabled_reason"]), (&json!(false), &json!("by_hand")));
        let enabled = ask(&service, "POST", &format!("{path}/enable"), None).await.success(200);
        assert_eq!((&enabled["is_enabled"], &enabled["disabled_reason"]), (&json!(true), &Value::Null));
        assert_eq!(all_pages(&service, PATH, 1).await, [enabled]);

        assert_eq!(ask(&service, "DELETE", &path, None).await.status, 204);
        for (method, path) in [
            ("GET", path.clone()),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/enable")),
            ("POST", format!("{path}/disable")),
            ("POST", format!("{path}/secret/rotate")),
        ] {
            ask(&service, method, &path, None).await.problem(404);
        }
    }
}

on_each_database! {
    async fn an_invalid_endpoint_is_refused_with_its_field(kind: Database) {
        let service = Service::start(kind).await;
        for (body, names) in [
            (json!({}), vec!["url"]),
            (json!({"url": "https://example.com/", "id": 1}), vec!["id"]),
            (json!({"url": "http://example.com/"}), vec!["url"]),
            (json!({"url": "https://169.254.169.254/latest"}), vec!["url"]),
            (json!({"url": "https://localhost/", "secret": "x", "description": "a\nb"}), vec!["description", "secret", "url"]),
        ] {
            assert_eq!(wrong_fields(&service, PATH, body.clone()).await, names, "{body}");
        }
        let made = ask(&service, "POST", PATH, Some(json!({"url": "https://example.com/"}))).await.success(201);
        let path = format!("{PATH}/{}", id_of(&made));
        for (body, name) in [(json!({"url": null}), "url"), (json!({"secret": null}), "secret"), (json!({"url": "x"}), "url")] {
            assert_eq!(fields(&ask(&service, "PATCH", &path, Some(body)).await.problem(422)), [name]);
        }
    }
}
