//! Malformed bodies, unknown paths, and methods that a path does not support.

use serde_json::json;

use crate::api::ask::{ask, fields, request, send};
use crate::on_each_database;
use crate::support::Service;

/// Every operation that reads a JSON body.
const WITH_JSON: &[(&str, &str)] = &[
    ("POST", "/clients"),
    ("PUT", "/clients/0198c2d0-0000-7000-8000-000000000001"),
    ("PATCH", "/clients/0198c2d0-0000-7000-8000-000000000001"),
    ("POST", "/mailings"),
    ("POST", "/mailings/preview"),
    ("PATCH", "/mailings/0198c2d0-0000-7000-8000-000000000001"),
];

on_each_database! {
    async fn a_body_that_is_not_json_is_malformed(kind: Database) {
        let service = Service::start(kind).await;
        for (method, path) in WITH_JSON {
            let bodies: [&[u8]; 7] = [
                b"", b"{", b"nope", b"{\"text\": \"\xff\"}", b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}",
                b"{'text': 1}",
            ];
            for body in bodies {
                let request = request(&service, method, path).header("content-type", "application/json");
                let problem = send(request.body(body)).await.problem(400);
                assert_eq!(problem["type"], "/problems/malformed", "{method} {path}");
            }
            let deep = format!("{{\"a\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
            let request = request(&service, method, path).header("content-type", "application/json");
            let status = send(request.body(deep)).await.status;
            assert!([400, 422].contains(&status), "{method} {path}: {status}");
        }
    }
}

on_each_database! {
    async fn a_body_that_is_not_an_object_is_invalid_even_with_valid_values(kind: Database) {
        let service = Service::start(kind).await;
        for (method, path) in WITH_JSON {
            for body in [
                json!([]), json!(null), json!(1), json!("text"), json!(true),
                json!(["hello", null, null, null, null, "2099-01-01T00:00:00Z"]), json!([null, null, null, null, null]),
            ] {
                let problem = ask(&service, method, path, Some(body)).await.problem(422);
                assert_eq!(fields(&problem), ["body"], "{method} {path}");
            }
        }
        assert_eq!(service.get("/mailings/stats").await["mailings"]["total"], 0, "no mailing was created");
    }
}

on_each_database! {
    async fn a_body_with_another_content_type_is_refused(kind: Database) {
        let service = Service::start(kind).await;
        for (method, path) in WITH_JSON {
            for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/csv"] {
                let request = request(&service, method, path).header("content-type", kind).body("{}");
                let problem = send(request).await.problem(415);
                assert_eq!(problem["type"], "/problems/unsupported-media-type");
            }
            send(request(&service, method, path).body("{}")).await.problem(415);
        }
        for (n, kind) in ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"]
            .iter()
            .enumerate()
        {
            let body = format!("{{\"phone_number\": \"7903000000{n}\"}}");
            send(request(&service, "POST", "/clients").header("content-type", *kind).body(body)).await.success(201);
        }
    }
}

on_each_database! {
    async fn a_body_that_is_too_large_is_refused_and_the_service_continues(kind: Database) {
        let service = Service::start(kind).await;
        for (method, path) in WITH_JSON {
            let body = format!("{{\"text\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
            let request = request(&service, method, path).header("content-type", "application/json").body(body);
            // the server may close the connection before it has read the refused body
            if let Ok(response) = request.send().await {
                assert_eq!(response.status(), 413, "{method} {path}");
            }
        }
        let just_below = format!("{{\"push_token\": \"{}\"}}", "x".repeat(1024 * 1024 - 20));
        let request = request(&service, "POST", "/clients").header("content-type", "application/json");
        assert_eq!(fields(&send(request.body(just_below)).await.problem(422)), ["push_token"]);
    }
}

on_each_database! {
    async fn an_unknown_path_is_not_found(kind: Database) {
        let service = Service::start(kind).await;
        for path in [
            "/", "/nope", "/clients/", "//clients", "/clients/0198c2d0-0000-7000-8000-000000000001/nope", "/mailing",
            "/mailings/0198c2d0-0000-7000-8000-000000000001/nope", "/%2e%2e/health", "/clients%2Fimport",
        ] {
            for method in ["GET", "POST", "DELETE"] {
                let problem = ask(&service, method, path, None).await.problem(404);
                assert_eq!(problem["type"], "/problems/not-found", "{method} {path}");
            }
        }
        let outside = send(service.http.get(format!("{}/nope", service.base))).await;
        outside.problem(404);
    }
}

on_each_database! {
    async fn an_unsupported_method_is_refused_with_the_supported_ones(kind: Database) {
        let service = Service::start(kind).await;
        let some = "0198c2d0-0000-7000-8000-000000000001";
        for (path, allow) in [
            ("/clients".to_owned(), "GET, HEAD, POST"),
            ("/clients/import".to_owned(), "POST"),
            (format!("/clients/{some}"), "GET, HEAD, PUT, PATCH, DELETE"),
            ("/mailings".to_owned(), "GET, HEAD, POST"),
            ("/mailings/preview".to_owned(), "POST"),
            ("/mailings/stats".to_owned(), "GET, HEAD"),
            (format!("/mailings/{some}"), "GET, HEAD, PATCH, DELETE"),
            (format!("/mailings/{some}/pause"), "POST"),
            (format!("/mailings/{some}/messages"), "GET, HEAD"),
            ("/messages".to_owned(), "GET, HEAD"),
            (format!("/messages/{some}"), "GET, HEAD"),
        ] {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
                if allow.split(", ").any(|allowed| allowed == method) {
                    continue;
                }
                let answer = ask(&service, method, &path, None).await;
                answer.problem(405);
                assert_eq!(answer.header("allow"), allow, "{method} {path}");
            }
        }
        for path in ["/health", "/ready", "/metrics", "/"] {
            let answer = send(service.http.post(format!("{}{path}", service.base))).await;
            answer.problem(405);
            assert_eq!(answer.header("allow"), "GET, HEAD", "{path}");
        }
    }
}

on_each_database! {
    async fn head_returns_the_same_as_get_without_the_body(kind: Database) {
        let service = Service::start(kind).await;
        for path in ["/health", "/ready", "/metrics", "/api/v1/clients", "/api/v1/mailings/stats", "/api/v1/nope"] {
            let get = send(service.http.get(format!("{}{path}", service.base))).await;
            let head = send(service.http.head(format!("{}{path}", service.base))).await;
            assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        }
    }
}
