//! Credentials over HTTP: created, shown without their secrets, changed and deleted.

use fanfare::app::App;
use fanfare::app::api::document;
use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::credentials::model::Kind;
use serde_json::{Value, json};

use crate::api::ask::{Answer, ask, fields, request, send};
use crate::on_each_database;
use crate::process::{Launch, Limit, Process, Server};
use crate::support::{Database, Service, TestDb};

const KEY: &str = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=";
/// The prefix of every secret.
const PLANTED: &str = "planted";

async fn start(kind: Database) -> Service {
    Service::start_with(kind, &[("credentials.key", KEY)]).await
}

/// Sends a request and checks that the response contains no secrets.
async fn call(service: &Service, method: &str, path: &str, body: Option<Value>) -> Answer {
    let answer = ask(service, method, path, body).await;
    assert!(!answer.text.contains(PLANTED), "{}", answer.text);
    assert!(!format!("{:?}", answer.headers).contains(PLANTED));
    answer
}

/// Returns the body of each kind and the expected response without times.
fn all() -> Vec<(Value, Value)> {
    vec![
        (
            json!({"name": "a.basic", "kind": "basic", "description": "words", "username": "user", "password": "planted-1"}),
            json!({"name": "a.basic", "kind": "basic", "description": "words", "usable": true, "username": "user"}),
        ),
        (
            json!({"name": "b.key", "kind": "basic", "username": "planted-2", "password": ""}),
            json!({"name": "b.key", "kind": "basic", "description": null, "usable": true, "username": null}),
        ),
        (
            json!({"name": "c.bearer", "kind": "bearer", "token": "planted-3"}),
            json!({"name": "c.bearer", "kind": "bearer", "description": null, "usable": true}),
        ),
        (
            json!({"name": "d.header", "kind": "header", "header": "X-Api-Key", "value": "planted-4"}),
            json!({"name": "d.header", "kind": "header", "description": null, "usable": true, "header": "x-api-key"}),
        ),
        (
            json!({"name": "e.client", "kind": "oauth2", "token_url": "https://auth.example.com/token", "client_id": "id",
                "client_secret": "planted-5", "scope": "a b"}),
            json!({"name": "e.client", "kind": "oauth2", "description": null, "usable": true,
                "token_url": "https://auth.example.com/token", "client_id": "id", "scope": "a b", "audience": null,
                "client_auth": "basic"}),
        ),
    ]
}

fn without_times(mut shown: Value) -> Value {
    let object = shown.as_object_mut().expect("an object");
    for time in ["created_at", "updated_at"] {
        assert!(object.remove(time).is_some_and(|time| time.is_string()), "{time}");
    }
    shown
}

on_each_database! {
    async fn each_kind_is_created_shown_without_its_secrets_and_deleted(kind: Database) {
        let service = start(kind).await;
        for (body, shown) in all() {
            let made = call(&service, "POST", "/credentials", Some(body.clone())).await;
            let path = format!("/credentials/{}", body["name"].as_str().expect("a name"));
            assert_eq!(made.header("location"), format!("/api/v1{path}"));
            let made = made.success(201);
            assert_eq!(without_times(made.clone()), shown);
            assert_eq!(call(&service, "GET", &path, None).await.success(200), made);
            call(&service, "POST", "/credentials", Some(body)).await.problem(409);
        }
        let list = call(&service, "GET", "/credentials", None).await.success(200);
        let shown: Vec<Value> = all().into_iter().map(|(_, shown)| shown).collect();
        let items = list["items"].as_array().expect("a list").iter().cloned().map(without_times);
        assert_eq!(items.collect::<Vec<_>>(), shown);
        let page = call(&service, "GET", "/credentials?limit=2", None).await.success(200);
        assert_eq!((page["items"].as_array().map(Vec::len), &page["next_cursor"]), (Some(2), &json!("b.key")));
        let rest = call(&service, "GET", "/credentials?cursor=b.key", None).await.success(200);
        assert_eq!((rest["items"].as_array().map(Vec::len), &rest["next_cursor"]), (Some(3), &Value::Null));
        for (_, shown) in all() {
            let path = format!("/credentials/{}", shown["name"].as_str().expect("a name"));
            assert_eq!(call(&service, "DELETE", &path, None).await.status, 204);
            for (method, body) in [("GET", None), ("DELETE", None), ("PATCH", Some(json!({"description": "x"})))] {
                call(&service, method, &path, body).await.problem(404);
            }
        }
        for name in ["Not%20a%20name", "x%2Fy"] {
            call(&service, "GET", &format!("/credentials/{name}"), None).await.problem(404);
        }
        call(&service, "GET", "/credentials/%00", None).await.problem(422);
    }
}

on_each_database! {
    async fn a_patch_changes_only_the_given_fields(kind: Database) {
        let service = start(kind).await;
        for (body, shown) in all() {
            let made = call(&service, "POST", "/credentials", Some(body)).await.success(201);
            let path = format!("/credentials/{}", shown["name"].as_str().expect("a name"));
            let described = call(&service, "PATCH", &path, Some(json!({"description": "other"}))).await.success(200);
            let mut expected = shown;
            expected["description"] = "other".into();
            assert_eq!(without_times(described.clone()), expected);
            assert_eq!(described["created_at"], made["created_at"]);
            let cleared = call(&service, "PATCH", &path, Some(json!({"description": null}))).await.success(200);
            assert_eq!(cleared["description"], Value::Null);
        }
        for (path, patch, field, value) in [
            ("a.basic", json!({"username": "new"}), "username", json!("new")),
            ("a.basic", json!({"password": "planted-new"}), "username", json!("new")),
            ("b.key", json!({"password": "planted-new", "username": "user"}), "username", json!("user")),
            ("c.bearer", json!({"token": "planted-new"}), "usable", json!(true)),
            ("d.header", json!({"header": "X-Other"}), "header", json!("x-other")),
            ("e.client", json!({"client_secret": "planted-new", "audience": "x"}), "audience", json!("x")),
            ("e.client", json!({"scope": null, "client_auth": "body"}), "scope", Value::Null),
            ("e.client", json!({}), "client_auth", json!("body")),
        ] {
            let patched = call(&service, "PATCH", &format!("/credentials/{path}"), Some(patch.clone())).await.success(200);
            assert_eq!(patched[field], value, "{path} {patch}");
        }
        for (path, patch, wrong) in [
            ("a.basic", json!({"token": "planted"}), "token"),
            ("c.bearer", json!({"token": null}), "token"),
            ("c.bearer", json!({"token": "planted planted"}), "token"),
            ("c.bearer", json!({"kind": "basic"}), "kind"),
            ("c.bearer", json!({"name": "other"}), "name"),
            ("e.client", json!({"token_url": "http://127.0.0.1/"}), "token_url"),
            ("e.client", json!({"client_auth": "planted"}), "client_auth"),
            ("e.client", json!({"description": "a\nb"}), "description"),
        ] {
            let refused = call(&service, "PATCH", &format!("/credentials/{path}"), Some(patch.clone())).await.problem(422);
            assert_eq!(fields(&refused), [wrong], "{patch}");
        }
    }
}

on_each_database! {
    async fn invalid_fields_are_named_and_values_are_not_repeated(kind: Database) {
        let service = start(kind).await;
        let key = json!({"type": "service_account", "project_id": "p", "private_key": "planted", "client_email": "planted",
            "token_uri": "https://oauth2.googleapis.com/token"});
        for (body, wrong) in [
            (json!({"name": "A b", "kind": "bearer", "token": "planted"}), "name"),
            (json!({"name": "", "kind": "bearer", "token": "planted"}), "name"),
            (json!({"name": "a", "kind": "planted", "token": "planted"}), "kind"),
            (json!({"name": "a", "token": "planted"}), "kind"),
            (json!({"kind": "bearer", "token": "planted"}), "name"),
            (json!({"name": "a", "kind": "bearer", "token": {"planted": "planted"}}), "token"),
            (json!({"name": "a", "kind": "bearer", "token": ["planted"]}), "token"),
            (json!({"name": "a", "kind": "bearer", "token": "planted\n"}), "token"),
            (json!({"name": "a", "kind": "bearer", "bearer": "planted"}), "bearer"),
            (json!({"name": "a", "kind": "bearer"}), "token"),
            (json!({"name": "a", "kind": "basic", "username": "planted:", "password": "planted"}), "username"),
            (json!({"name": "a", "kind": "basic", "username": 4711, "password": "planted"}), "username"),
            (json!({"name": "a", "kind": "header", "header": "planted planted", "value": "planted"}), "header"),
            (json!({"name": "a", "kind": "header", "header": "Host", "value": "planted"}), "header"),
            (json!({"name": "a", "kind": "oauth2", "token_url": "https://planted@auth.example/", "client_id": "x", "client_secret": "planted"}), "token_url"),
            (json!({"name": "a", "kind": "oauth2", "token_url": "http://auth.example/planted", "client_id": "x", "client_secret": "planted"}), "token_url"),
            (json!({"name": "a", "kind": "google_service_account", "service_account": key}), "service_account"),
            (json!({"name": "a", "kind": "google_service_account", "service_account": "planted"}), "service_account"),
        ] {
            let answer = call(&service, "POST", "/credentials", Some(body.clone())).await;
            assert_eq!(fields(&answer.problem(422)), [wrong], "{body}");
        }
        let malformed = request(&service, "POST", "/credentials").header("content-type", "application/json");
        let answer = send(malformed.body("{\"token\": \"planted\", planted}")).await;
        answer.problem(400);
        assert!(!answer.text.contains(PLANTED), "{}", answer.text);
        assert_eq!(service.get("/credentials").await["items"], json!([]));
    }
}

on_each_database! {
    async fn a_repeated_request_creates_one_credential(kind: Database) {
        let service = start(kind).await;
        let post = async |body: Value| {
            send(request(&service, "POST", "/credentials").header("idempotency-key", "once").json(&body)).await
        };
        let body = json!({"name": "a", "kind": "bearer", "token": "planted"});
        let made = post(body.clone()).await;
        let again = post(body).await;
        assert_eq!((made.success(201), made.header("location")), (again.success(201), again.header("location")));
        assert_eq!(again.header("idempotency-replayed"), "true");
        let other = post(json!({"name": "a", "kind": "bearer", "token": "planted-other"})).await;
        assert_eq!(fields(&other.problem(422)), ["Idempotency-Key"]);
    }
}

on_each_database! {
    async fn without_a_key_nothing_is_stored_and_the_error_explains_how_to_create_one(kind: Database) {
        let mut service = Service::start(kind).await;
        let body = json!({"name": "a", "kind": "bearer", "token": "planted"});
        let refused = call(&service, "POST", "/credentials", Some(body.clone())).await.problem(409);
        let detail = refused["detail"].as_str().expect("words");
        assert!(detail.contains("openssl rand -base64 32") && detail.contains("CREDENTIALS_KEY"), "{detail}");
        assert_eq!(service.get("/credentials").await["items"], json!([]));
        // everything else works
        service.import(1, "all").await;
        // the same is true with another key
        service.stop().await;
        service.set("credentials.key", KEY);
        service.go_on().await;
        call(&service, "POST", "/credentials", Some(body)).await.success(201);
        service.stop().await;
        service.set("credentials.key", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        service.go_on().await;
        assert_eq!(service.get("/credentials/a").await["usable"], false);
        let ready = service.http.get(format!("{}/ready", service.base)).send().await.expect("an answer");
        assert_eq!(ready.status(), 200);
        let refused = call(&service, "PATCH", "/credentials/a", Some(json!({"token": "planted new"}))).await;
        assert_eq!(fields(&refused.problem(422)), ["token"]);
        let patched = call(&service, "PATCH", "/credentials/a", Some(json!({"token": "planted-new"}))).await.success(200);
        assert_eq!(patched["usable"], true);
    }
}

on_each_database! {
    async fn secrets_are_not_logged_or_stored_in_clear_and_a_command_rotates_keys(kind: Database) {
        const OTHER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let db = TestDb::new(kind);
        let binary = env!("CARGO_BIN_EXE_fanfare");
        let with = |keys: &'static str| {
            [("DATABASE_URL", db.url.as_str()), ("CREDENTIALS_KEY", keys), ("LOG_LEVEL", "trace")]
        };
        let env = with(KEY);
        let mut server = Server::start(&Launch { binary, dir: db.dir(), name: "serve", env: &env, limit: Limit::None }).await;
        for (body, shown) in all() {
            ask(&server, "POST", "/credentials", Some(body)).await.success(201);
            let path = format!("/credentials/{}", shown["name"].as_str().expect("a name"));
            ask(&server, "PATCH", &path, Some(json!({"password": "planted", "token": "planted"}))).await.problem(422);
        }
        ask(&server, "POST", "/credentials", Some(json!({"name": "planted-3", "kind": ["planted"]}))).await.problem(422);
        let malformed = request(&server, "POST", "/credentials").header("content-type", "application/json");
        send(malformed.body("{\"token\": planted")).await.problem(400);
        let rotate = async |keys: &'static str| {
            let env = with(keys);
            let launch = Launch { binary, dir: db.dir(), name: "rotate", env: &env, limit: Limit::None };
            let mut process = Process::spawn(&launch, &["credentials", "rotate"]);
            (process.ended().await.success(), process.log())
        };
        // while the service runs, as an operator would; a single key that decrypts nothing is refused
        let (is_done, said) = rotate(OTHER).await;
        assert!(!is_done && said.contains("nothing was changed, because no key in CREDENTIALS_KEY decrypts a.basic, "), "{said}");
        assert_eq!(server.get("/credentials/a.basic").await["usable"], true);
        let (is_done, rotated) = rotate("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff \
            YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=").await;
        assert!(is_done, "{rotated}");
        assert_eq!(server.get("/credentials/a.basic").await["usable"], false, "this node has only the old key");
        server.process.terminate();
        assert!(server.process.ended().await.success());
        let log = format!("{}{said}{rotated}", server.process.log());
        assert!(log.lines().count() > 50, "the level had no effect");
        for secret in [PLANTED, KEY, OTHER] {
            let line = log.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{}", line.unwrap_or_default());
        }
        for file in std::fs::read_dir(db.dir()).expect("the directory") {
            let path = file.expect("a file").path();
            let bytes = std::fs::read(&path).expect("its bytes");
            assert!(!bytes.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes()), "{}", path.display());
        }
    }
}

#[test]
fn the_document_has_each_kind() {
    let document: Value = serde_json::from_str(&document().expect("a document")).expect("JSON");
    let schemas = &document["components"]["schemas"];
    let named = |reference: &Value| {
        let name = reference["$ref"].as_str().and_then(|path| path.rsplit('/').next()).expect("a reference");
        schemas[name].clone()
    };
    let kinds = schemas["NewCredential"]["oneOf"].as_array().expect("kinds");
    let words: Vec<Value> =
        kinds.iter().map(|kind| named(&named(kind)["properties"]["kind"])["enum"][0].clone()).collect();
    let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(json!(words), json!(all));
}

#[tokio::test]
async fn an_invalid_key_is_reported_at_the_start_without_its_value() {
    let db = TestDb::new(Database::Sqlite);
    for keys in ["planted", "planted planted"] {
        let settings = [("database.url", db.url.as_str()), ("http.port", "0"), ("credentials.key", keys)];
        let config = Config::with(&settings).expect("a configuration");
        assert!(!format!("{config:?}").contains(PLANTED));
        let refused = App::start(config, Clock::System).await.err().expect("a complaint").to_string();
        assert!(
            refused.contains("credentials.key (CREDENTIALS_KEY)") && !refused.contains(PLANTED),
            "{refused}"
        );
    }
}
