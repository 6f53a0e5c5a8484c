//! Protection against cross-site requests and DNS rebinding.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::api::ask::{Answer, ask, id_of, send};
use crate::api::openapi::{example, parsed};
use crate::on_each_database;
use crate::support::chromium::Chromium;
use crate::support::{Database, Service, after};

const PUBLIC_URL: (&str, &str) = ("http.public_url", "https://mail.example.com/f");
const PAGES: &str = "https://shop.example.com";

/// Host names of requests after DNS rebinding: the site's own name resolves to the service.
const HOSTS: [&str; 20] = [
    "evil.example:8083",
    "evil.example",
    "EVIL.EXAMPLE",
    "evil.example.",
    "127.0.0.1.evil.example:8083",
    "localhost.evil.example",
    "evil-localhost",
    "mail.example.com.evil.example",
    "evilmail.example.com",
    "shop.example.com",
    "127.0.0.1@evil.example",
    "evil.example@127.0.0.1",
    "localhost,evil.example",
    "localhost/evil.example",
    "10.0.0.1:8083",
    "0.0.0.0:8083",
    "[::]:8083",
    "[::ffff:10.0.0.1]:8083",
    "2130706433:8083",
    "127.1",
];

/// The headers of browsers in a cross-site request, as (`Origin`, `Sec-Fetch-Site`). `HERE` is the service's own
/// origin.
const SITES: [(&[&str], &[&str]); 20] = [
    (&["http://evil.example"], &["cross-site"]),
    (&["https://evil.example"], &[]),
    (&["http://evil.example:8083"], &["same-site"]),
    (&["null"], &["cross-site"]),
    (&["null"], &[]),
    (&[""], &[]),
    (&["file://"], &[]),
    (&["http://127.0.0.1"], &["same-site"]),
    (&["http://127.0.0.1:1"], &[]),
    (&["http://localhost"], &[]),
    (&["http://127.0.0.1.evil.example"], &[]),
    (&["HERE.evil.example"], &[]),
    (&["http://mail.example.com"], &[]),
    (&["https://mail.example.com.evil.example"], &[]),
    (&[], &["cross-site"]),
    (&[], &["same-site"]),
    (&[], &["something-new"]),
    (&["HERE"], &["cross-site"]),
    (&["http://evil.example"], &["same-origin"]),
    (&["HERE", "http://evil.example"], &["same-origin", "cross-site"]),
];

/// Returns all forged requests as their headers, with the expected status and type of problem.
fn forged_requests(here: &str) -> Vec<(HeaderMap, u16, &'static str)> {
    let value = |text: &str| HeaderValue::from_str(&text.replace("HERE", here)).expect("a value");
    let hosts = HOSTS.map(|host| {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("host"), value(host))]);
        (headers, 421, "/problems/misdirected-request")
    });
    let sites = SITES.map(|(origins, sites)| {
        let origins = origins.iter().map(|text| (HeaderName::from_static("origin"), value(text)));
        let sites = sites.iter().map(|text| (HeaderName::from_static("sec-fetch-site"), value(text)));
        let mut headers = HeaderMap::new();
        for (name, value) in origins.chain(sites) {
            headers.append(name, value);
        }
        (headers, 403, "/problems/cross-site-request")
    });
    hosts.into_iter().chain(sites).collect()
}

/// An operation as a page would call it, with the path of an existing resource.
struct Operation {
    method: Method,
    path: String,
    body: Option<Value>,
}

/// Returns every operation of the OpenAPI document.
fn operations(ids: &[(&str, String)]) -> Vec<Operation> {
    let document = parsed();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let known = ids.iter().find(|(prefix, _)| path.starts_with(&format!("/api/v1{prefix}/{{")));
            let id = known.map_or("0198c2d0-0000-7000-8000-000000000001", |(_, id)| id.as_str());
            let mut filled = path.clone();
            for (name, value) in [
                ("{id}", id),
                ("{version}", "1"),
                ("{name}", "provider"),
                ("{user_id}", "u1"),
                ("{message_id}", "0198c2d0-0000-7000-8000-000000000001"),
                ("{token}", "nothing"),
            ] {
                filled = filled.replace(name, value);
            }
            assert!(!filled.contains('{'), "{filled}");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            all.push(Operation {
                method,
                path: filled,
                body: example(&document, operation, "application/json"),
            });
        }
    }
    assert!(all.len() > 90, "the document has {} operations", all.len());
    all
}

async fn call(service: &Service, operation: &Operation, headers: &HeaderMap) -> Answer {
    let url = format!("{}{}", service.base, operation.path);
    let mut request = service.http.request(operation.method.clone(), url);
    if let Some(body) = &operation.body {
        request = request.json(body);
    }
    let response = request.headers(headers.clone()).send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // a stream never ends
    let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
    let text = if is_stream { String::new() } else { response.text().await.expect("a body") };
    Answer { status, headers, text }
}

/// Creates one resource of each kind and returns their paths and ids.
async fn resources(service: &Service) -> Vec<(&'static str, String)> {
    let later = || after(Duration::from_secs(3_600));
    let nowhere = "https://example.com/";
    let mut ids = Vec::new();
    for (path, body) in [
        ("/clients", json!({"phone_number": "79001112233"})),
        (
            "/mailings",
            json!({"text": "x", "starts_at": later(), "ends_at": after(Duration::from_secs(7_200))}),
        ),
        ("/requests", json!({"request": {"url": nowhere}, "execute_at": later()})),
        ("/requests/recurring", json!({"request": {"url": nowhere}, "cron": "0 3 1 1 *", "timezone": "UTC"})),
        (
            "/notifications",
            json!({"channel": "sms", "recipient": "79001112233", "content": "x", "scheduled_at": later()}),
        ),
        ("/templates", json!({"name": "one", "channel": "sms", "text": "x"})),
        (
            "/routes",
            json!({"event": "one", "deliveries": [{"channel": "sms", "target": "client", "template": "one"}]}),
        ),
        ("/webhook-endpoints", json!({"url": nowhere})),
    ] {
        let created = ask(service, "POST", path.trim_end_matches("/recurring"), Some(body)).await;
        assert!((200..300).contains(&created.status), "{path}: {}", created.text);
        ids.push((path, id_of(&created.json())));
    }
    // the longest path first, because `/requests` is a prefix of `/requests/recurring`
    ids.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    ids
}

/// Returns the contents of all lists and resources.
async fn snapshot(service: &Service, ids: &[(&str, String)]) -> Vec<String> {
    let lists = [
        "/clients",
        "/mailings",
        "/messages",
        "/notifications",
        "/requests",
        "/requests/recurring",
        "/templates",
        "/routes",
        "/webhook-endpoints",
        "/credentials",
        "/events",
        "/dead-letters",
        "/dead-letters/replays",
        "/inbox/u1",
    ];
    let things = ids.iter().map(|(path, id)| format!("{path}/{id}"));
    let mut shown = Vec::new();
    for path in lists.iter().map(|path| (*path).to_owned()).chain(things) {
        shown.push(format!("{path}: {}", ask(service, "GET", &path, None).await.success(200)));
    }
    shown
}

/// Runs on one database, because a refused request never reaches it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cross_site_page_reads_and_changes_nothing() {
    let settings = [PUBLIC_URL, ("in_app.base_url", ""), ("in_app.origins", PAGES)];
    let service = Service::start_with(Database::Sqlite, &settings).await;
    let ids = resources(&service).await;
    let before = snapshot(&service, &ids).await;
    let operations = operations(&ids);
    let forged = forged_requests(&service.base);
    assert_eq!(forged.len(), 40);
    for (headers, status, kind) in &forged {
        for operation in &operations {
            let answer = call(&service, operation, headers).await;
            let about = format!("{} {} {headers:?}: {}", operation.method, operation.path, answer.text);
            let is_read = operation.method == Method::GET;
            let is_of_mails = operation.path.starts_with("/unsubscribe/");
            if *status == 421 || !is_read && !is_of_mails {
                assert_eq!(answer.problem(*status)["type"], *kind, "{about}");
            } else {
                // the request is allowed, but the browser hides the response from the page
                assert!(![403, 421].contains(&answer.status), "{about}");
                assert_eq!(answer.header("access-control-allow-origin"), "", "{about}");
            }
            assert_ne!(answer.header("content-security-policy"), "", "{about}");
        }
    }
    assert_eq!(snapshot(&service, &ids).await, before, "nothing was changed");
    // proves that the check can fail: without forged headers, and from the service's own pages, requests succeed
    let own = [
        HeaderMap::new(),
        HeaderMap::from_iter([
            (HeaderName::from_static("origin"), HeaderValue::from_str(&service.base).expect("a value")),
            (HeaderName::from_static("sec-fetch-site"), HeaderValue::from_static("same-origin")),
        ]),
    ];
    let recurring = operations.iter().filter(|operation| operation.path.contains("/recurring/"));
    let posts = recurring.filter(|operation| operation.method == Method::POST);
    for (operation, headers) in posts.zip(own.iter().cycle()) {
        let answer = call(&service, operation, headers).await;
        assert!((200..300).contains(&answer.status), "{}", answer.text);
    }
    assert_ne!(snapshot(&service, &ids).await, before);
}

on_each_database! {
    async fn the_service_accepts_its_own_host_names(kind: Database) {
        let service = Service::start_with(kind, &[PUBLIC_URL, ("http.allowed_hosts", "fanfare.lan, 10.0.0.7")]).await;
        let port = service.base.rsplit(':').next().expect("a port");
        for host in ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "mail.example.com", "fanfare.lan", "FANFARE.lan", "10.0.0.7"] {
            for host in [host.to_owned(), format!("{host}:{port}")] {
                let list = service.http.get(service.url("/clients")).header("host", &host);
                send(list).await.success(200);
                let origin = format!("http://{host}");
                let create = service.http.post(service.url("/clients")).header("host", &host).header("origin", origin);
                send(create.json(&json!({}))).await.problem(422);
            }
        }
        // a proxy in front sends its own host name, and the pages at the public URL belong to the service
        let create = service.http.post(service.url("/clients")).header("origin", "https://mail.example.com");
        send(create.json(&json!({}))).await.problem(422);
    }
}

on_each_database! {
    async fn configured_origins_may_use_inboxes_and_nothing_else(kind: Database) {
        let service = Service::start_with(kind, &[("in_app.base_url", ""), ("in_app.origins", PAGES)]).await;
        for (path, status) in [("/inbox/u1/read-all", 200), ("/clients", 403), ("/requests/x/run", 403), ("/inboxes", 403)] {
            let request = service.http.post(service.url(path)).header("origin", PAGES);
            let answer = send(request.header("sec-fetch-site", "cross-site")).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.text);
        }
        let other = service.http.post(service.url("/inbox/u1/read-all")).header("origin", "https://evil.example");
        send(other).await.problem(403);
    }
}

on_each_database! {
    async fn every_response_has_security_headers(kind: Database) {
        let service = Service::start(kind).await;
        for (method, path, policy) in [
            (Method::GET, "/api/v1/clients", "default-src 'none'; frame-ancestors 'none'"),
            (Method::GET, "/api/v1/nope", "default-src 'none'; frame-ancestors 'none'"),
            (Method::DELETE, "/api/v1/clients", "default-src 'none'; frame-ancestors 'none'"),
            (Method::POST, "/api/v1/clients", "default-src 'none'; frame-ancestors 'none'"),
            (Method::GET, "/health", "default-src 'none'; frame-ancestors 'none'"),
            (Method::GET, "/metrics", "default-src 'none'; frame-ancestors 'none'"),
            (Method::GET, "/inbox.js", "default-src 'none'; frame-ancestors 'none'"),
            (Method::GET, "/", "default-src 'none'; frame-ancestors 'none'"),
            (Method::GET, "/unsubscribe/nothing", "default-src 'none'; style-src 'unsafe-inline'"),
            (Method::GET, "/api/v1/docs/", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'"),
        ] {
            let answer = send(service.http.request(method.clone(), format!("{}{path}", service.base))).await;
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{method} {path}");
            assert_eq!(answer.header("referrer-policy"), "no-referrer", "{method} {path}");
            let said = answer.header("content-security-policy");
            assert!(said.starts_with(policy) && said.contains("frame-ancestors 'none'"), "{method} {path}: {said}");
            let scripts = said.split(';').find(|part| part.trim().starts_with("script-src")).unwrap_or_default();
            assert!(!scripts.contains("unsafe"), "{method} {path}: {said}");
        }
    }
}

/// Starts a foreign web server that returns this page for every path, and returns its port.
fn foreign_server(page: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut visitor in listener.incoming().flatten() {
            let _ = visitor.read(&mut [0; 8192]);
            let length = page.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = visitor.write_all(format!("{head}{page}").as_bytes());
        }
    });
    port
}

on_each_database! {
    async fn a_real_browser_shows_the_api_and_blocks_cross_site_requests(kind: Database) {
        let service = Service::start(kind).await;
        let window = json!({"text": "x", "starts_at": after(Duration::from_secs(3_600)), "ends_at": after(Duration::from_secs(7_200))});
        let id = id_of(&service.post("/mailings", window).await);
        let port = service.base.rsplit(':').next().expect("a port").to_owned();
        let base = service.base.clone();
        let act = format!("{base}/api/v1/mailings/{id}");
        let page = format!(
            "<!doctype html><title>evil</title><iframe name=\"sink\"></iframe>\
             <form id=\"form\" method=\"post\" target=\"sink\" action=\"{act}/cancel\"></form><script>document.getElementById('form').submit();\
             fetch('{act}/cancel', {{method: 'POST', mode: 'no-cors'}}).then(() => document.title = 'asked', () => document.title = 'asked');</script>"
        );
        let elsewhere = foreign_server(page);
        let seen = tokio::task::spawn_blocking(move || {
            let mut browser = Chromium::start();
            browser.open(&format!("{base}/api/v1/docs/"));
            browser.until("document.querySelectorAll('.opblock').length > 90");
            let under_its_policy: Vec<String> = browser.said.drain(..).collect();
            browser.open(&format!("http://localhost:{elsewhere}/"));
            browser.until("document.title === 'asked'");
            // a foreign host name that resolves to this machine
            browser.open(&format!("http://rebound.example:{port}/api/v1/mailings"));
            (under_its_policy, browser.eval("document.body.innerText"))
        });
        let (said, rebound) = seen.await.expect("a browser");
        assert_eq!(said, Vec::<String>::new(), "Swagger UI complies with its policy");
        assert!(rebound.as_str().is_some_and(|text| text.contains("/problems/misdirected-request")), "{rebound}");
        let mailing = service.get(&format!("/mailings/{id}")).await;
        assert_eq!(mailing["status"], "pending", "the other site cancelled it: {mailing}");
    }
}
