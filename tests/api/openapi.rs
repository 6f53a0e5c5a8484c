//! The OpenAPI document: up to date, complete, and consistent with the running service.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use fanfare::app::api::document;
use fanfare::kinds::{ChannelKind, MessageStatus, OutcomeKind, Priority};
use fanfare::mailings::model::MailingStatus;
use fanfare::preferences::link::UnsubscribeTokens;
use fanfare::sandbox::Faults;
use serde_json::{Value, json};

use crate::api::ask::{ask, id_of, send};
use crate::on_each_database;
use crate::support::{Service, after};

const PROBES: &[&str] = &["/health", "/ready", "/metrics"];
/// Paths that return pages to people without an API key and to their mail programs.
const PAGES: &[&str] = &[
    "/unsubscribe/{token}",
    "/unsubscribe/{token}/undo",
    "/unsubscribe/{token}/all",
    "/unsubscribe/{token}/all/undo",
];

fn is_open(path: &str) -> bool {
    PROBES.contains(&path) || PAGES.contains(&path)
}

const VERBS: &[&str] = &[
    "create",
    "get",
    "list",
    "replace",
    "patch",
    "delete",
    "import",
    "export",
    "preview",
    "pause",
    "resume",
    "cancel",
    "mark",
    "archive",
    "rotate",
    "enable",
    "disable",
    "test",
    "restore",
    "replay",
    "unsubscribe",
    "resubscribe",
    "run",
];

pub(super) fn parsed() -> Value {
    serde_json::from_str(&document().expect("a document")).expect("JSON")
}

/// Returns every operation of the document as method, path and operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

/// Returns the response, or the shared response that it refers to.
fn resolved<'d>(document: &'d Value, response: &'d Value) -> &'d Value {
    match response["$ref"].as_str() {
        Some(reference) => {
            document.pointer(reference.trim_start_matches('#')).expect("a response of the components")
        }
        None => response,
    }
}

/// Returns the example of an operation's body of this media type: its own, or its schema's.
pub(super) fn example(document: &Value, operation: &Value, kind: &str) -> Option<Value> {
    let content = &operation["requestBody"]["content"][kind];
    let own = [&content["example"], &content["schema"]["example"]].into_iter().find(|e| !e.is_null());
    if content.is_null() || own.is_some() {
        return own.cloned();
    }
    let name = content["schema"]["$ref"].as_str()?.rsplit('/').next()?;
    Some(document["components"]["schemas"][name]["example"].clone()).filter(|e| !e.is_null())
}

#[test]
fn the_committed_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == document().expect("a document"),
        "docs/openapi.json is out of date: run `make openapi` and commit it"
    );
}

#[test]
fn no_tag_is_described_twice() {
    let document = parsed();
    let tags = document["tags"].as_array().expect("tags").iter();
    let mut names: Vec<&str> = tags.map(|tag| tag["name"].as_str().expect("a name")).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(all > 10 && names.len() == all, "{names:?}");
}

#[test]
fn operation_ids_are_unique_and_begin_with_a_verb() {
    let document = parsed();
    let mut ids: Vec<String> = operations(&document)
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().expect("an id").to_owned())
        .collect();
    assert!(ids.len() > 120, "{} operations", ids.len());
    ids.sort_unstable();
    for pair in ids.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
    for id in ids {
        let (verb, resource) = id.split_once('_').expect("a verb and a resource");
        assert!(
            VERBS.contains(&verb) && resource.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{id}"
        );
    }
}

#[test]
fn every_operation_documents_its_parameters_and_responses() {
    let document = parsed();
    for (method, path, operation) in operations(&document) {
        let place = format!("{method} {path}");
        assert!(
            operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()),
            "{place}: no summary"
        );
        assert!(operation["tags"][0].is_string(), "{place}: no tag");
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{place}: no success");
        for (status, response) in responses {
            let response = resolved(&document, response);
            assert!(
                response["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{place} {status}"
            );
            if status.starts_with(['4', '5']) && !is_open(&path) {
                assert!(
                    response["content"]["application/problem+json"].is_object(),
                    "{place} {status}: no problem"
                );
            }
        }
        if !is_open(&path) {
            for status in ["401", "503"] {
                assert!(responses.contains_key(status), "{place}: no {status}");
            }
        }
        let in_path = path.matches('{').count();
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(parameters.iter().filter(|p| p["in"] == "path").count(), in_path, "{place}");
        for parameter in parameters {
            assert_eq!(parameter["required"], parameter["in"] == "path", "{place}: {parameter}");
        }
        if let Some(content) = operation["requestBody"]["content"].as_object() {
            for kind in content.keys() {
                assert!(example(&document, &operation, kind).is_some(), "{place}: no example of {kind}");
            }
        }
    }
    assert!(document["components"]["securitySchemes"]["api_key"].is_object());
}

#[test]
fn every_link_leads_to_an_operation_with_an_id() {
    let document = parsed();
    let operations = operations(&document);
    let mut links = 0;
    for (method, path, operation) in &operations {
        for response in operation["responses"].as_object().expect("responses").values() {
            for link in response["links"].as_object().into_iter().flat_map(|links| links.values()) {
                let taker = operations.iter().find(|(.., taker)| taker["operationId"] == link["operationId"]);
                let (_, leads_to, _) = taker.unwrap_or_else(|| panic!("{method} {path}: {link}"));
                assert!(leads_to.contains("{id}") && link["parameters"]["id"].is_string(), "{link}");
                links += 1;
            }
        }
    }
    assert!(links > 15, "{links}");
}

#[test]
fn operations_with_an_idempotency_key_document_replayed_responses() {
    let mut keyed = 0;
    for (method, path, operation) in operations(&parsed()) {
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        if !parameters.iter().any(|parameter| parameter["name"] == "Idempotency-Key") {
            continue;
        }
        keyed += 1;
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let header = &response["headers"]["Idempotency-Replayed"];
            assert_eq!(header.is_object(), status.starts_with('2'), "{method} {path} {status}");
        }
    }
    assert!(keyed > 12, "{keyed}");
}

#[test]
fn documented_enums_match_the_service() {
    let document = parsed();
    for (schema, words) in [
        ("ChannelKind", ChannelKind::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()),
        ("Priority", Priority::ALL.iter().map(|word| word.as_str()).collect()),
        ("MessageStatus", MessageStatus::ALL.iter().map(|word| word.as_str()).collect()),
        ("OutcomeKind", OutcomeKind::ALL.iter().map(|word| word.as_str()).collect()),
        ("MailingStatus", MailingStatus::ALL.iter().map(|word| word.as_str()).collect()),
    ] {
        assert_eq!(document["components"]["schemas"][schema]["enum"], json!(words), "{schema}");
    }
}

#[test]
fn only_probes_and_pages_are_documented_as_open() {
    for (method, path, operation) in operations(&parsed()) {
        let open = operation["security"] == json!([{}]);
        assert_eq!(open, is_open(&path), "{method} {path}: {}", operation["security"]);
    }
}

on_each_database! {
    async fn every_route_of_the_document_is_served(kind: Database) {
        const SECRET: &str = "a secret for links in mails";
        let settings = [
            ("in_app.base_url", ""),
            ("preferences.unsubscribe_secret", SECRET),
            ("credentials.key", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="),
        ];
        let service = Service::start_with(kind, &settings).await;
        let token = UnsubscribeTokens::new(SECRET.as_bytes()).issue(ChannelKind::Email, "anna@example.net", None).expect("a token");
        service.import(1, "all").await;
        let sent = service.mail("all", Duration::from_secs(60)).await;
        service.finished(&sent).await;
        let in_app = json!({"channel": "in_app", "recipient": "user-1", "content": "x"});
        let in_inbox = id_of(&service.post("/notifications", in_app).await);
        service.wait_for("/inbox/user-1/count", |count| count["unread"] == 1).await;
        service.post("/templates", json!({"name": "all", "channel": "sms", "text": "x"})).await;
        let deliveries = json!([{"channel": "sms", "template": "all"}]);
        service.post("/routes", json!({"event": "all.*", "deliveries": deliveries})).await;
        for (method, path, _) in &operations(&parsed()) {
            let (method, path) = (method.as_str(), path.as_str());
            let first = |list: &Value| id_of(&list["items"][0]);
            let id = match path.trim_start_matches("/api/v1").split('/').nth(1) {
                Some("clients") => id_of(&service.post("/clients", json!({"phone_number": "79991112233"})).await),
                Some("webhook-endpoints") => {
                    let url = format!("https://example.com/{method}{}", path.replace(['{', '}'], ""));
                    id_of(&service.post("/webhook-endpoints", json!({"url": url})).await)
                }
                Some("templates") => {
                    let name = format!("{method}{path}").to_lowercase().replace(['{', '}', '/'], ".");
                    id_of(&service.post("/templates", json!({"name": name, "channel": "sms", "text": "x"})).await)
                }
                Some("events") => {
                    let event = json!({"event": "all.of_them", "user_target": "+79991112233"});
                    service.post("/events", event).await["event_id"].as_str().expect("an id").to_owned()
                }
                Some("routes") => {
                    let event = format!("{method}{path}").replace(['{', '}', '/'], "-");
                    let deliveries = json!([{"channel": "sms", "template": "all"}]);
                    id_of(&service.post("/routes", json!({"event": event, "deliveries": deliveries})).await)
                }
                Some("requests") if path.contains("recurring") => {
                    let body = json!({"cron": "@yearly", "request": {"url": "https://example.com/"}});
                    id_of(&service.post("/requests", body).await)
                }
                // a request to be replayed must have failed: its host name does not exist
                Some("requests") => {
                    let url = if path.ends_with("/replay") { "https://name.invalid/" } else { "https://example.com/" };
                    let at = if path.ends_with("/replay") { Duration::ZERO } else { Duration::from_secs(3600) };
                    let retry = json!({"delays": []});
                    let body = json!({"execute_at": after(at), "request": {"url": url}, "retry": retry});
                    let id = id_of(&service.post("/requests", body).await);
                    if path.ends_with("/replay") {
                        service.wait_for(&format!("/requests/{id}"), |seen| seen["status"] == "failed").await;
                    }
                    id
                }
                Some("credentials") => {
                    let name = format!("{method}{path}").to_lowercase().replace(['{', '}', '/'], ".");
                    let body = json!({"name": name, "kind": "bearer", "token": "x"});
                    service.post("/credentials", body).await["name"].as_str().expect("a name").to_owned()
                }
                Some("attributes") => {
                    let name = format!("of_{}_{}", method.to_lowercase(), path.len());
                    service.post("/attributes", json!({"name": name, "type": "text"})).await["name"].as_str().expect("a name").to_owned()
                }
                Some("imports") => {
                    let import = crate::api::ask::request(&service, "POST", "/clients/import");
                    let import = import.header("content-type", "text/csv").header("prefer", "respond-async").body("phone_number\n");
                    id_of(&send(import).await.success(202))
                }
                Some("dead-letters") if path.contains("replays") => {
                    id_of(&service.post("/dead-letters/replays", json!({"filter": {"class": "gone"}})).await)
                }
                Some("dead-letters") => {
                    service.faults(Faults { permanent_rate: 1.0, ..Faults::default() });
                    let one = json!({"channel": "sms", "recipient": "+905551234567", "content": "x"});
                    let failed = id_of(&service.post("/notifications", one).await);
                    service.wait_for(&format!("/notifications/{failed}"), |one| one["status"] == "failed").await;
                    service.faults(Faults::default());
                    failed
                }
                Some("suppressions") => {
                    let address = format!("{method}{}@example.com", path.len()).to_lowercase();
                    id_of(&service.post("/suppressions", json!({"channel": "email", "address": address})).await)
                }
                Some("messages") => first(&service.get("/messages").await),
                Some("notification" | "notifications" | "batches") => {
                    let one = json!({"channel": "sms", "recipient": "+905551234567", "content": "x", "scheduled_at": after(Duration::from_secs(60))});
                    let made = service.post("/notifications/batch", json!({"notifications": [one]})).await;
                    let of = if path.contains("batches") { &made["batch_id"] } else { &made["items"][0]["id"] };
                    of.as_str().expect("an id").to_owned()
                }
                _ => {
                    let later = json!({"text": "x", "starts_at": after(Duration::from_secs(60)), "ends_at": after(Duration::from_secs(90))});
                    id_of(&service.post("/mailings", later).await)
                }
            };
            let url = format!("{}{}", service.base, path.replace("{id}", &id).replace("{name}", if path.contains("credentials") || path.contains("attributes") { &id } else { "sms" }).replace("{user_id}", "user-1").replace("{message_id}", &in_inbox).replace("{token}", &token).replace("{version}", "1"));
            let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
            // the body is not read, because a stream never ends
            let status = service.http.request(method.clone(), url).send().await.expect("an answer").status().as_u16();
            assert!(![401, 404, 405].contains(&status) && status < 500, "{method} {path}: {status}");
            if path.starts_with("/api/v1/clients") {
                let left = ask(&service, "DELETE", &format!("/clients/{id}"), None).await.status;
                assert!([200, 404].contains(&left), "{left}");
            }
        }
    }
}

on_each_database! {
    async fn every_example_works_unchanged(kind: Database) {
        let document = parsed();
        let body = |operation_id: &str, kind: &str| {
            let operations = operations(&document);
            let (.., operation) = operations.iter().find(|(.., o)| o["operationId"] == operation_id).expect("an operation");
            example(&document, operation, kind).unwrap_or_else(|| panic!("{operation_id} has no example"))
        };
        let of = |operation_id: &str| body(operation_id, "application/json");
        // on an empty service, because these examples must work as a first request
        for (path, operation, status) in [
            ("/mailings", "create_mailing", 201), ("/mailings/preview", "preview_mailing", 200), ("/clients", "create_client", 201),
            ("/templates", "create_template", 201), ("/templates/preview", "preview_texts", 200),
        ] {
            let service = Service::start(kind).await;
            ask(&service, "POST", path, Some(of(operation))).await.success(status);
        }
        let service = Service::start(kind).await;
        let client = ask(&service, "POST", "/clients", Some(of("create_client"))).await.success(201);
        let path = format!("/clients/{}", id_of(&client));
        ask(&service, "PUT", &path, Some(of("replace_client"))).await.success(200);
        ask(&service, "PATCH", &path, Some(of("patch_client"))).await.success(200);
        let preferences = format!("{path}/preferences");
        ask(&service, "PUT", &preferences, Some(of("replace_preferences"))).await.success(200);
        ask(&service, "PATCH", &preferences, Some(of("patch_preferences"))).await.success(200);
        // otherwise the mailing below could fall into quiet hours
        ask(&service, "PUT", &preferences, Some(json!({"quiet_hours": null}))).await.success(200);
        let template = ask(&service, "POST", "/templates", Some(of("create_template"))).await.success(201);
        let path = format!("/templates/{}", id_of(&template));
        let tried = ask(&service, "POST", &format!("{path}/preview"), Some(of("preview_template"))).await.success(200);
        assert_eq!(tried["error"], Value::Null, "{tried}");
        ask(&service, "PATCH", &path, Some(of("patch_template"))).await.success(200);
        for channel in ["email", "push"] {
            for name in ["order.purchased", "user.registered"] {
                let subject = (channel == "email").then_some("s");
                service.post("/templates", json!({"name": name, "channel": channel, "subject": subject, "text": "x"})).await;
            }
        }
        let route = ask(&service, "POST", "/routes", Some(of("create_route"))).await.success(201);
        let to_user = json!([{"channel": "email", "template": "user.registered"}]);
        service.post("/routes", json!({"event": "user.*", "deliveries": to_user})).await;
        service.post("/routes", json!({"event": "order.shipped", "deliveries": [{"channel": "email", "target": "buyer", "template": "user.registered"}]})).await;
        ask(&service, "POST", "/routes/test", Some(of("test_routes"))).await.success(200);
        ask(&service, "POST", "/events", Some(of("create_event"))).await.success(202);
        ask(&service, "POST", "/events/batch", Some(of("create_events"))).await.success(202);
        ask(&service, "PATCH", &format!("/routes/{}", id_of(&route)), Some(of("patch_route"))).await.success(200);
        let csv = body("import_clients", "text/csv").as_str().expect("a text").to_owned();
        let import = crate::api::ask::request(&service, "POST", "/clients/import").header("content-type", "text/csv");
        let report = send(import.body(csv)).await.success(200);
        assert!(report["created"].as_i64() > Some(0) && report["rejected_count"] == 0, "{report}");
        let preview = ask(&service, "POST", "/mailings/preview", Some(of("preview_mailing"))).await.success(200);
        assert!(preview["recipients"].as_i64() > Some(0), "the clients of the other examples match: {preview}");
        let mailing = ask(&service, "POST", "/mailings", Some(of("create_mailing"))).await.success(201);
        let counts = service.finished(&id_of(&mailing)).await;
        assert!(counts["sent"].as_i64() > Some(0) && counts["sent"] == counts["total"], "{counts}");
        let later = json!({"text": "x", "starts_at": after(Duration::from_secs(60)), "ends_at": after(Duration::from_secs(90))});
        let path = format!("/mailings/{}", id_of(&service.post("/mailings", later).await));
        ask(&service, "PATCH", &path, Some(of("patch_mailing"))).await.success(200);
    }
}

on_each_database! {
    async fn the_page_of_the_api_loads_with_its_assets(kind: Database) {
        let service = Service::start(kind).await;
        for path in ["/", "/api/v1/docs"] {
            let answer = send(service.http.get(format!("{}{path}", service.base))).await;
            assert_eq!((answer.status, answer.header("location")), (302, "/api/v1/docs/"), "{path}");
        }
        let root = format!("{}/api/v1/docs/", service.base);
        let page = send(service.http.get(&root)).await;
        assert_eq!(page.status, 200);
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(!page.text.contains("https://") || !page.text.contains("src=\"http"), "the page needs another host");
        let named = page.text.split(['"', '\'']).filter_map(|part| part.strip_prefix("./"));
        let assets: BTreeSet<&str> = named.filter(|name| name.contains('.')).collect();
        assert!(assets.len() >= 4, "{assets:?}");
        for asset in assets {
            let answer = send_bytes(&service, &format!("{root}{asset}")).await;
            assert!(answer.0 == 200 && answer.1 > 0, "{asset}: {answer:?}");
        }
        let initializer = send(service.http.get(format!("{root}swagger-initializer.js"))).await.text;
        assert!(initializer.contains("/api/v1/openapi.json"), "{initializer}");
        let served = send(service.http.get(format!("{}/api/v1/openapi.json", service.base))).await.success(200);
        assert_eq!(served, parsed());
    }
}

/// Returns the status and the length of a response, which may be binary.
async fn send_bytes(service: &Service, url: &str) -> (u16, usize) {
    let response = service.http.get(url).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.bytes().await.expect("a body").len())
}
