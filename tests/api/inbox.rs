//! Inboxes: messages delivered over `in_app`, as shown to users' pages, and access to them.

mod browser;
mod stream;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::api::ask::{Answer, all_pages, ask, fields, id_of, request, send, texts};
use crate::on_each_database;
use crate::support::api::Api;
use crate::support::{Database, Service};

const KEY: &str = "a key of more than sixteen characters";
/// Makes the service store the inboxes itself.
const HERE: (&str, &str) = ("in_app.base_url", "");
const PAGES: &str = "https://shop.example.com";

/// Returns a path in a user's inbox, with the user percent-encoded.
fn path(user: &str, rest: &str) -> String {
    format!("/inbox/{}{rest}", percent(user))
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Sends a message to a user, waits until it is in the inbox, and returns its id.
async fn deliver(service: &Service, user: &str, content: &str) -> String {
    let body = json!({"channel": "in_app", "recipient": user, "content": content, "subject": "Hello", "data": {"order": 7}});
    let sent =
        request(service, "POST", "/notifications").bearer_auth(KEY).header("Prefer", "wait=30").json(&body);
    let sent = send(sent).await.success(200);
    assert_eq!(sent["status"], "sent", "{sent}");
    id_of(&sent)
}

on_each_database! {
    async fn a_sent_message_is_in_the_users_inbox_until_it_is_read_and_archived(kind: Database) {
        let service = Service::start_with(kind, &[HERE]).await;
        for user in ["user-1", "юзер", "a/b", "a?b#c", "%2F", "a+b&c=d", "<script>alert(1)</script>", "'; DROP TABLE inbox; --".replace(' ', "").as_str(), "😀"] {
            let id = deliver(&service, user, "Your order has shipped.").await;
            deliver(&service, "another", "x").await;
            let list = service.get(&path(user, "")).await;
            let message = &list["items"][0];
            assert_eq!((list["items"].as_array().map(Vec::len), &list["next_cursor"]), (Some(1), &Value::Null), "{user}");
            assert_eq!((&message["id"], &message["text"], &message["subject"]), (&json!(id), &json!("Your order has shipped."), &json!("Hello")));
            assert_eq!((&message["data"], &message["read_at"], &message["archived_at"]), (&json!({"order": 7}), &Value::Null, &Value::Null));
            let count = async || service.get(&path(user, "/count")).await["unread"].clone();
            assert_eq!(count().await, 1);
            let act = async |what: &str| ask(&service, "POST", &path(user, &format!("/{id}/{what}")), None).await.success(200);
            let read = act("read").await;
            assert!(read["read_at"].is_string(), "{read}");
            assert_eq!((act("read").await, count().await), (read, json!(0)));
            assert_eq!((&act("unread").await["read_at"], count().await), (&Value::Null, json!(1)));
            let all = ask(&service, "POST", &path(user, "/read-all"), None).await.success(200);
            assert_eq!((all, count().await), (json!({"read": 1}), json!(0)));
            assert!(act("archive").await["archived_at"].is_string());
            assert_eq!(service.get(&path(user, "")).await["items"], json!([]));
            assert_eq!(service.get(&path(user, "?status=archived")).await["items"][0]["id"], json!(id));
            ask(&service, "POST", &path("another", &format!("/{id}/read")), None).await.problem(404);
        }
    }
}

on_each_database! {
    async fn a_list_is_read_page_by_page(kind: Database) {
        let service = Service::start_with(kind, &[HERE]).await;
        let mut ids = Vec::new();
        for n in 0..7 {
            ids.push(deliver(&service, "u1", &format!("number {n}")).await);
        }
        for n in [2, 6] {
            ask(&service, "POST", &path("u1", &format!("/{}/read", ids[n])), None).await.success(200);
        }
        let expected: Vec<String> = [5, 4, 3, 1, 0, 6, 2].iter().map(|n: &usize| ids[*n].clone()).collect();
        for limit in [1, 2, 3, 5, 1000] {
            assert_eq!(texts(&all_pages(&service, &path("u1", ""), limit).await, "id"), expected, "{limit}");
        }
        assert_eq!(texts(&all_pages(&service, &path("u1", "?status=read"), 1).await, "id"), expected[5..]);
        assert_eq!(texts(&all_pages(&service, &path("u1", "?status=unread"), 2).await, "id"), expected[..5]);
        for (query, field) in [
            ("?status=new", "status"), ("?status=", "status"), ("?cursor=x", "cursor"), ("?cursor=unread.1.2", "cursor"),
            ("?limit=0", "limit"), ("?limit=1001", "limit"), ("?nope=1", "nope"),
        ] {
            let problem = ask(&service, "GET", &path("u1", query), None).await.problem(422);
            assert_eq!(fields(&problem), [field], "{query}");
        }
    }
}

on_each_database! {
    async fn an_invalid_user_or_message_is_refused(kind: Database) {
        let service = Service::start_with(kind, &[HERE]).await;
        for user in [" ", "a b", "\0", "a\r\nb", &"x".repeat(201)] {
            for rest in ["", "/count", "/stream"] {
                let problem = ask(&service, "GET", &path(user, rest), None).await.problem(422);
                assert_eq!(fields(&problem), ["user_id"], "{user:?}");
            }
            ask(&service, "POST", &path(user, "/token"), None).await.problem(422);
        }
        ask(&service, "GET", "/inbox/%FF%FE", None).await.success(200);
        let problem = ask(&service, "POST", "/inbox/u1/nothing/read", None).await.problem(422);
        assert_eq!(fields(&problem), ["message_id"]);
        let unknown = "/inbox/u1/01a1fd78-dce9-703e-ab9c-ffd64ca17562/archive";
        ask(&service, "POST", unknown, None).await.problem(404);
        for rest in ["/inbox/u1/nothing", "/inbox/u1/x/y/z", "/inbox/", "/inbox"] {
            ask(&service, "GET", rest, None).await.problem(404);
        }
        for (method, rest) in [("DELETE", ""), ("POST", "/count"), ("GET", "/token"), ("GET", "/read-all")] {
            ask(&service, method, &path("u1", rest), None).await.problem(405);
        }
        for query in ["?expires_in=59", "?expires_in=86401", "?expires_in=x", "?expires_in=-1", "?ttl=3600"] {
            ask(&service, "POST", &path("u1", &format!("/token{query}")), None).await.problem(422);
        }
    }
}

/// Sends a request with the API key.
async fn keyed(service: &Api, method: &str, path: &str) -> Answer {
    send(request(service, method, path).bearer_auth(KEY)).await
}

async fn token(service: &Api, user: &str, query: &str) -> String {
    let made = keyed(service, "POST", &path(user, &format!("/token{query}"))).await.success(201);
    assert!(made["expires_at"].is_string(), "{made}");
    made["token"].as_str().expect("a token").to_owned()
}

fn by_header(service: &Api, method: &str, path: &str, token: &str) -> RequestBuilder {
    request(service, method, path).bearer_auth(token)
}

fn by_query(service: &Api, method: &str, path: &str, token: &str) -> RequestBuilder {
    request(service, method, &format!("{path}?token={}", percent(token)))
}

/// All requests of a page except the stream.
const ACTIONS: &[(&str, &str)] = &[
    ("GET", ""),
    ("GET", "/count"),
    ("POST", "/read-all"),
    ("POST", "/{id}/read"),
    ("POST", "/{id}/archive"),
];

on_each_database! {
    async fn a_token_opens_one_users_inbox_and_nothing_else(kind: Database) {
        let service = Service::start_with(kind, &[HERE, ("access.api_key", KEY)]).await;
        let user = "a/b юзер".replace(' ', "-");
        let (mine, others) = (deliver(&service, &user, "mine").await, deliver(&service, "u2", "another's").await);
        let good = token(&service, &user, "?expires_in=60").await;
        for with in [by_header, by_query] {
            for (method, rest) in ACTIONS {
                let mine = path(&user, &rest.replace("{id}", &mine));
                send(with(&service, method, &mine, &good)).await.success(200);
                let others = path("u2", &rest.replace("{id}", &others));
                let refused = send(with(&service, method, &others, &good)).await;
                assert_eq!(refused.header("www-authenticate"), "Bearer");
                refused.problem(401);
            }
            // a message of another user under the user's own path
            send(with(&service, "POST", &path(&user, &format!("/{others}/read")), &good)).await.problem(404);
            send(with(&service, "GET", "/clients", &good)).await.problem(401);
            send(with(&service, "GET", "/notifications", &good)).await.problem(401);
            for rest in ["/token", "/%74oken", "//token"] {
                let answer = send(with(&service, "POST", &path(&user, rest), &good)).await;
                assert!([401, 404, 422].contains(&answer.status), "{rest}: {}", answer.text);
            }
        }
        for (method, rest) in ACTIONS {
            let mine = path(&user, &rest.replace("{id}", &mine));
            keyed(&service, method, &mine).await.success(200);
            ask(&service, method, &mine, None).await.problem(401);
            for wrong in ["", "x", &good[..good.len() - 1], &format!("9{good}"), &good.to_uppercase(), "9999999999."] {
                if *wrong != good {
                    send(by_query(&service, method, &mine, wrong)).await.problem(401);
                    send(request(&service, method, &mine).bearer_auth(wrong)).await.problem(401);
                }
            }
        }
        assert_eq!(keyed(&service, "GET", &path("u2", "/count")).await.success(200)["unread"], 1);
        send(by_query(&service, "GET", &path(&user, "/stream"), "x")).await.problem(401);
    }
}

on_each_database! {
    async fn without_a_key_every_inbox_is_open(kind: Database) {
        let service = Service::start_with(kind, &[HERE]).await;
        let token = ask(&service, "POST", "/inbox/u1/token", None).await.success(201)["token"].as_str().expect("a token").to_owned();
        for token in [&token, "whatever"] {
            send(by_query(&service, "GET", "/inbox/u1/count", token)).await.success(200);
        }
    }
}

/// Without a configured secret, tokens survive a restart with another API key, and each installation generates its own
/// secret.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_without_a_configured_secret_do_not_depend_on_the_api_key() {
    for kind in [Database::Sqlite, Database::Postgres] {
        let mut service = Service::start_with(kind, &[HERE, ("access.api_key", KEY)]).await;
        let given = token(&service, "u1", "").await;
        service.stop().await;
        service.set("access.api_key", "another key of more than 32 characters");
        service.go_on().await;
        let count =
            async |node: &Api| send(request(node, "GET", "/inbox/u1/count").bearer_auth(&given)).await;
        count(&service).await.success(200);
        let elsewhere = Service::start_with(kind, &[HERE, ("access.api_key", KEY)]).await;
        count(&elsewhere).await.problem(401);
    }
}

/// With a configured secret, nodes accept each other's tokens, and a new secret invalidates them.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_one_secret_accept_each_others_tokens() {
    let settings = [HERE, ("access.api_key", KEY), ("in_app.secret", "a secret for the tokens")];
    let service = Service::start_with(Database::Postgres, &settings).await;
    let same = service.beside(&[("node.role", "api")]).await;
    let other =
        service.beside(&[("node.role", "api"), ("in_app.secret", "another secret for the tokens")]).await;
    let given = token(&service, "u1", "").await;
    let count = async |node: &Api| send(request(node, "GET", "/inbox/u1/count").bearer_auth(&given)).await;
    count(&service).await.success(200);
    count(&same).await.success(200);
    count(&other).await.problem(401);
    same.stop().await;
    other.stop().await;
}

on_each_database! {
    async fn only_pages_of_configured_origins_may_call(kind: Database) {
        let origins = "https://www.example.com, https://shop.example.com";
        let service = Service::start_with(kind, &[HERE, ("access.api_key", KEY), ("in_app.origins", origins)]).await;
        let preflight = async |origin: &str, path: &str| {
            let request = request(&service, "OPTIONS", path).header("Origin", origin);
            send(request.header("Access-Control-Request-Method", "POST").header("Access-Control-Request-Headers", "authorization")).await
        };
        let allowed = preflight(PAGES, "/inbox/u1/read-all").await;
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, PAGES));
        assert!(allowed.header("access-control-allow-methods").contains("POST"));
        assert!(allowed.header("access-control-allow-headers").contains("authorization"));
        for other in ["https://evil.example.com", "http://shop.example.com", "https://shop.example.com.evil.com", "null"] {
            let refused = preflight(other, "/inbox/u1/read-all").await;
            assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, ""), "{other}");
        }
        let elsewhere = preflight(PAGES, "/clients").await;
        assert_eq!((elsewhere.status, elsewhere.header("access-control-allow-origin")), (401, ""));
        // responses, including refusals, are readable, so that a page knows the reason
        for (key, status) in [(KEY, 200), ("wrong", 401)] {
            assert_eq!(keyed(&service, "GET", "/inbox/u1").await.header("cache-control"), "no-store");
            let answer = send(request(&service, "GET", "/inbox/u1").header("Origin", PAGES).bearer_auth(key)).await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin"), answer.header("vary")), (status, PAGES, "origin"));
            assert_eq!(answer.header("access-control-allow-credentials"), "");
        }
        assert_eq!(keyed(&service, "GET", "/inbox/u1").await.header("access-control-allow-origin"), "");
    }
}

on_each_database! {
    async fn the_element_is_public_and_cacheable(kind: Database) {
        let service = Service::start_with(kind, &[HERE, ("access.api_key", KEY)]).await;
        let url = format!("{}/inbox.js", service.base);
        let program = send(service.http.get(&url)).await;
        assert_eq!((program.status, program.header("content-type")), (200, "text/javascript; charset=utf-8"));
        assert_eq!(program.header("x-content-type-options"), "nosniff");
        assert!(program.text.contains("fanfare-inbox") && program.text.len() < 16_000, "{}", program.text.len());
        assert!(!program.text.contains("innerHTML") && !program.text.contains("eval("), "a message is data");
        let tag = program.header("etag");
        let again = send(service.http.get(&url).header("If-None-Match", tag)).await;
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", tag));
        assert_eq!(send(service.http.get(&url).header("If-None-Match", "\"other\"")).await.status, 200);
        assert_eq!(send(service.http.head(&url)).await.status, 200);
    }
}
