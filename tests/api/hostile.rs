//! Hostile input: the service responds clearly to any input and keeps running.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::ask::ask;
use crate::on_each_database;
use crate::support::{Service, after};

/// Returns values of wrong or barely valid types.
fn strange() -> Vec<Value> {
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!(" "),
        json!("\0"),
        json!("a\0b"),
        json!("😀"),
        json!("\u{202e}"),
        json!("\u{feff}79031234567"),
        json!("٧٩٠٣١٢٣٤٥٦٧"),
        json!("'; DROP TABLE client; --"),
        json!("%s%n{{7*7}}${jndi:ldap://x}"),
        json!("{{ phone_number.__class__ }}"),
        json!("{% for x in phone_number %}{{ x }}{% endfor %}"),
        json!("../../../../etc/passwd"),
        json!("9".repeat(10_000)),
        json!("я".repeat(100_000)),
        json!("a\r\nSet-Cookie: x=1"),
        json!("9999-12-31T23:59:59.999999999Z"),
        json!("2099-02-29T25:61:61Z"),
        json!("-0001-01-01T00:00:00Z"),
        json!([]),
        json!({}),
        json!([null]),
        json!({"": ""}),
        deep,
    ]
}

on_each_database! {
    async fn no_value_of_any_field_makes_the_service_fail(kind: Database) {
        let service = Service::start(kind).await;
        let minute = Duration::from_secs(60);
        let client = json!({"phone_number": "79031234567"});
        let mailing = json!({"text": "x", "starts_at": after(minute), "ends_at": after(2 * minute)});
        let cases: [(&str, Value, &[&str]); 3] = [
            ("/clients", client, &[
                "phone_number", "mobile_operator_code", "tag", "timezone", "locale", "email", "push_token", "external_id",
                "attributes", "nope", "", "\0",
            ]),
            ("/mailings", mailing.clone(), &["text", "filter", "channel", "priority", "starts_at", "ends_at", "created_at", "nope"]),
            ("/mailings/preview", mailing, &["text", "filter", "channel", "starts_at", "ends_at", "nope"]),
        ];
        for (path, right, fields) in cases {
            for field in fields {
                for value in strange() {
                    let mut body = right.clone();
                    body[*field] = value.clone();
                    let answer = ask(&service, "POST", path, Some(body)).await;
                    let sent: String = value.to_string().chars().take(60).collect();
                    match answer.status {
                        200 | 201 => {}
                        409 => drop(answer.problem(409)),
                        status => {
                            let problem = answer.problem(422);
                            assert!(answer.text.len() < 16 * 1024, "{path} {field} {sent}: {status}, the response repeats the input");
                            assert!(!problem["detail"].as_str().expect("a detail").contains("struct "), "{problem}");
                        }
                    }
                }
            }
        }
        // also as values and names of attributes, and as parts of a filter
        for value in strange() {
            let sent: String = value.to_string().chars().take(60).collect();
            let number = format!("7904{:07}", fastrand::u32(..10_000_000));
            let mut attributes = Map::new();
            attributes.insert("name".into(), value.clone());
            let answer = ask(&service, "POST", "/clients", Some(json!({"phone_number": number, "attributes": attributes}))).await;
            if answer.status == 201 {
                let id = crate::api::ask::id_of(&answer.json());
                let read = service.get(&format!("/clients/{id}")).await;
                assert_eq!(read["attributes"], answer.json()["attributes"], "{sent} is returned unchanged");
            } else {
                answer.problem(422);
            }
            let filter = json!({"filter": {"tag": [value.clone()], "mobile_operator_code": [value]}});
            let status = ask(&service, "POST", "/mailings/preview", Some(filter)).await.status;
            assert!([200, 422].contains(&status), "{sent}: {status}");
        }
        // the response to a maximum-size body with only invalid fields is not many times its size
        let many: Map<String, Value> = (0..80_000).map(|n| (format!("f{n}"), json!(0))).collect();
        for path in ["/clients", "/mailings"] {
            let answer = ask(&service, "POST", path, Some(json!(many))).await;
            answer.problem(422);
            assert!(answer.text.len() < 64 * 1024, "{path}: {} bytes", answer.text.len());
        }
        let long = format!("/clients/{}", "x".repeat(8000));
        assert!(ask(&service, "GET", &long, None).await.text.len() < 4096);
        assert_eq!(service.get("/mailings/stats").await["counts"]["failed"], 0);
    }
}

on_each_database! {
    async fn any_text_arrives_unchanged(kind: Database) {
        let service = Service::start(kind).await;
        let name = "O'Neil \"x\" \\ \t 😀 \u{202e} <b> {{ tag }}";
        service.post("/clients", json!({"phone_number": "79031234567", "attributes": {"name": name}})).await;
        let preview = service.post("/mailings/preview", json!({"text": "{{ name }}"})).await;
        assert_eq!(preview["sample"][0]["text"], name, "rendered as data, never parsed as a template");
        let body = json!({"text": "{{ name }}", "ends_at": after(Duration::from_secs(60))});
        let id = crate::api::ask::id_of(&service.post("/mailings", body).await);
        assert_eq!(service.finished(&id).await["sent"], 1);
    }
}

/// Sends bytes and returns the response, read until the server closes or is silent after a complete response.
async fn raw(service: &Service, bytes: &[u8]) -> String {
    let address = service.base.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // the server may close before it has read everything
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

on_each_database! {
    async fn malformed_http_is_refused_and_the_service_continues(kind: Database) {
        let service = Service::start(kind).await;
        let head = "POST /api/v1/clients HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let long = "a".repeat(300_000);
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (b"\0\0\0\0\r\n\r\n".to_vec(), "400"),
            (b"GET / HTTP/9.9\r\n\r\n".to_vec(), "400"),
            (b"GET /a b c HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(), "400"),
            (b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(), "400"),
            (format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {long}\r\n\r\n").into_bytes(), "431"),
            (format!("{head}Content-Length: -5\r\n\r\n{{}}").into_bytes(), "400"),
            (format!("{head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}} ").into_bytes(), "400"),
            (format!("{head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").into_bytes(), "400"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{{}}\r\n0\r\n\r\n").into_bytes(), "400"),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").into_bytes(), "422"),
        ];
        for (bytes, status) in cases {
            let answer = raw(&service, &bytes).await;
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
        }
        // an interrupted upload keeps the complete rows and drops the partial row
        let csv = "POST /api/v1/clients/import HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/csv\r\nContent-Length: 5000\r\n\r\n";
        raw(&service, format!("{csv}phone_number,tag\n79030000001,whole\n79030000002,ha").as_bytes()).await;
        assert_eq!(service.get("/clients?tag=ha").await["items"], json!([]));
        service.post("/clients", json!({"phone_number": "79990000001"})).await;
    }
}
