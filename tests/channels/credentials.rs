//! Credentials against stand-ins that check requests by RFC 6749 and Google's documentation, and against servers that
//! respond incorrectly.

use std::sync::Arc;
use std::time::Duration;

use fanfare::channels::keyring::{Authorization, Keyring, Unauthorized};
use fanfare::clock::Clock;
use fanfare::credentials::model::{ClientAuth, Kind};
use fanfare::credentials::rules::CredentialChanges;
use fanfare::credentials::views::CredentialView;
use fanfare::credentials::{Credential, Credentials, Vault};
use fanfare::db::types::Timestamp;
use fanfare::db::{Db, DbOptions};
use fanfare::egress::guard::{Guard, Settings};
use fanfare::error::{self, Error};
use fanfare::idempotency::{IdempotentResponse, Mode};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::channels::peer::Peer;
use crate::support::{Database, TestDb};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A node's credentials, with a fixed clock.
struct Node {
    credentials: Credentials,
    clock: Clock,
    began: Timestamp,
    db: Db,
    _database: TestDb,
}

fn guard(allowed: &str) -> Arc<Guard> {
    let timeout = Duration::from_secs(2);
    let settings = Settings { allowed: allowed.parse().unwrap(), timeout, ..Settings::default() };
    Arc::new(Guard::new(&settings).unwrap())
}

fn shown(made: &Credential) -> error::Result<IdempotentResponse> {
    IdempotentResponse::created(made.name.to_string(), &CredentialView::from(made.clone()))
}

impl Node {
    async fn new() -> Self {
        let database = TestDb::new(Database::Sqlite);
        let options = DbOptions::new(&database.url);
        let db = tokio::task::spawn_blocking(move || Db::open(options)).await.unwrap().unwrap();
        let began = Clock::System.now();
        let clock = Clock::manual(began);
        let vault = Vault::parse(KEY).unwrap();
        let credentials = Credentials::new(db.clone(), clock.clone(), guard("127.0.0.0/8"), vault);
        Self { credentials, clock, began, db, _database: database }
    }

    fn set(&self, seconds: u64) {
        self.clock.set(self.began.plus(Duration::from_secs(seconds)));
    }

    async fn make(&self, name: &str, kind: Kind, changes: CredentialChanges) {
        self.credentials.create(name, kind, changes, Mode::Commit(None), shown).await.unwrap();
    }

    async fn asked(&self, name: &str) -> Result<Authorization, Unauthorized> {
        let answer = self.credentials.authorize(name).await;
        assert!(!format!("{answer:?}").contains("planted"), "{answer:?}");
        answer
    }

    /// Returns the value of the added header, whose name is `authorization`.
    async fn bearer(&self, name: &str) -> String {
        let authorization = self.asked(name).await.unwrap();
        assert_eq!(authorization.name, "authorization");
        assert!(authorization.value.is_sensitive());
        authorization.value.to_str().unwrap().to_owned()
    }

    async fn never(&self, name: &str) -> String {
        match self.asked(name).await {
            Err(Unauthorized::Never(why)) => why,
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn not_now(&self, name: &str) -> String {
        match self.asked(name).await {
            Err(Unauthorized::NotNow(why)) => why,
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// A token endpoint.
struct Server {
    peer: Peer,
    base: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let peer = Peer::python("oauth.py", args);
        let ready: Value = serde_json::from_str(&peer.ready).unwrap();
        Self { base: ready["base"].as_str().unwrap().to_owned(), peer }
    }

    fn event(&mut self) -> Value {
        serde_json::from_str(&self.peer.line()).unwrap()
    }

    fn client(&self, path: &str) -> CredentialChanges {
        CredentialChanges {
            token_url: Some(format!("{}{path}", self.base)),
            client_id: Some("plain".into()),
            client_secret: Some("planted-secret".into()),
            ..CredentialChanges::default()
        }
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn what_stays_is_written_as_its_rfc_says() {
    let node = Node::new().await;
    // RFC 7617, 2
    let aladdin = CredentialChanges {
        username: text("Aladdin"),
        password: text("open sesame"),
        ..CredentialChanges::default()
    };
    node.make("basic", Kind::Basic, aladdin).await;
    assert_eq!(node.bearer("basic").await, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    // RFC 7617, 2.1
    let pound =
        CredentialChanges { username: text("test"), password: text("123£"), ..CredentialChanges::default() };
    node.make("pound", Kind::Basic, pound).await;
    assert_eq!(node.bearer("pound").await, "Basic dGVzdDoxMjPCow==");
    let key =
        CredentialChanges { username: text("sk_1"), password: text(""), ..CredentialChanges::default() };
    node.make("key", Kind::Basic, key).await;
    assert_eq!(node.bearer("key").await, "Basic c2tfMTo=");
    node.make(
        "bearer",
        Kind::Bearer,
        CredentialChanges { token: text("mF_9.B5f-4.1JqM"), ..CredentialChanges::default() },
    )
    .await;
    assert_eq!(node.bearer("bearer").await, "Bearer mF_9.B5f-4.1JqM");
    let header = CredentialChanges {
        header: text("X-Api-Key"),
        value: text("planted a b"),
        ..CredentialChanges::default()
    };
    node.make("header", Kind::Header, header).await;
    let authorization = node.asked("header").await.unwrap();
    assert_eq!(
        (authorization.name.as_str(), authorization.value.to_str().unwrap()),
        ("x-api-key", "planted a b")
    );
    // a refusal has no effect on a static credential
    node.credentials.refuse("header", &authorization);
    assert_eq!(node.asked("header").await.unwrap(), authorization);
    assert_eq!(node.never("nobody").await, "there is no credential `nobody`");
}

#[tokio::test]
async fn a_token_is_asked_for_as_rfc_6749_says() {
    let node = Node::new().await;
    let mut server = Server::start(&[]);
    let odd = CredentialChanges {
        client_id: text("app:1 +%&="),
        client_secret: text("planted s/e=c+r:e t&%"),
        scope: Some(text("orders.write a:b")),
        audience: Some(text("https://api.example/?a=b&c=d")),
        ..server.client("/token")
    };
    node.make("odd", Kind::Oauth2, odd.clone()).await;
    node.make("body", Kind::Oauth2, CredentialChanges { client_auth: Some(ClientAuth::Body), ..odd }).await;
    node.make("plain", Kind::Oauth2, server.client("/token")).await;
    let all = [
        ("odd", "app:1 +%&=", "basic", true),
        ("body", "app:1 +%&=", "body", true),
        ("plain", "plain", "basic", false),
    ];
    for (number, (name, client, way, has_more)) in (1..).zip(all) {
        assert_eq!(node.bearer(name).await, format!("Bearer planted-token-{number}"));
        let scope = has_more.then_some("orders.write a:b");
        let audience = has_more.then_some("https://api.example/?a=b&c=d");
        let expected =
            json!({"token": number, "client": client, "way": way, "scope": scope, "audience": audience});
        assert_eq!(server.event(), expected);
    }
    assert_eq!(node.bearer("odd").await, "Bearer planted-token-1", "it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fetch_is_for_all_who_wait_and_the_next_comes_before_its_end() {
    let node = Arc::new(Node::new().await);
    let mut server = Server::start(&["--expires-in", "100", "--held", "1"]);
    node.make("shared", Kind::Oauth2, server.client("/token")).await;
    let asking = Arc::clone(&node);
    let all = tokio::spawn(async move { join_all((0..50).map(|_| asking.bearer("shared"))).await });
    // the single request has arrived, and gets its response only now
    assert_eq!(server.event()["token"], 1);
    let client = fanfare::egress::client().unwrap();
    client.get(format!("{}/release", server.base)).send().await.unwrap();
    let all = all.await.unwrap();
    assert!(all.iter().all(|bearer| bearer == "Bearer planted-token-1"), "{all:?}");
    node.set(79);
    assert_eq!(node.bearer("shared").await, "Bearer planted-token-1");
    node.set(80);
    assert_eq!(node.bearer("shared").await, "Bearer planted-token-2");
    assert_eq!(server.event()["token"], 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_unless_it_is_new() {
    let node = Node::new().await;
    let server = Server::start(&[]);
    node.make("refused", Kind::Oauth2, server.client("/token")).await;
    let first = node.asked("refused").await.unwrap();
    node.credentials.refuse("refused", &first);
    assert_eq!(node.asked("refused").await.unwrap(), first, "it is new");
    node.set(60);
    node.credentials.refuse("refused", &first);
    let second = node.asked("refused").await.unwrap();
    assert_eq!(second.value.to_str().unwrap(), "Bearer planted-token-2");
    assert!(second.number > first.number);
    node.set(200);
    // a refusal of the previous token does not affect this one
    node.credentials.refuse("refused", &first);
    assert_eq!(node.asked("refused").await.unwrap(), second);
    // an unknown credential
    node.credentials.refuse("nobody", &first);
}

#[tokio::test]
async fn a_token_whose_end_is_not_told_is_kept_for_minutes() {
    let node = Node::new().await;
    let server = Server::start(&["--expires-in", "0"]);
    node.make("untold", Kind::Oauth2, server.client("/token")).await;
    for (seconds, token) in [(0, 1), (239, 1), (240, 2)] {
        node.set(seconds);
        assert_eq!(node.bearer("untold").await, format!("Bearer planted-token-{token}"), "{seconds}");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_for_good_until_it_is_changed() {
    let node = Node::new().await;
    let mut server = Server::start(&[]);
    let wrong = CredentialChanges { client_secret: text("planted-wrong"), ..server.client("/token") };
    node.make("crm", Kind::Oauth2, wrong).await;
    let why = node.never("crm").await;
    let expected = "no token could be fetched for the credential `crm`: the token endpoint returned 401 Unauthorized \
        (invalid_client): check the credential";
    assert_eq!(why, expected);
    assert_eq!(server.event()["word"], "invalid_client");
    // all callers of the next two seconds share the failure
    let all = join_all((0..20).map(|_| node.never("crm"))).await;
    assert!(all.iter().all(|why| why == expected));
    let right = CredentialChanges { client_secret: text("planted-secret"), ..CredentialChanges::default() };
    node.credentials.patch("crm", right).await.unwrap();
    assert_eq!(node.bearer("crm").await, "Bearer planted-token-1", "at once");
    assert_eq!(server.event()["token"], 1, "nothing else was asked meanwhile");
}

#[tokio::test]
async fn a_server_that_is_away_may_be_back() {
    let node = Node::new().await;
    let server = Server::start(&[]);
    for status in ["/status/500", "/status/503", "/status/429", "/status/404"] {
        let name = status.replace('/', ".");
        node.make(&name, Kind::Oauth2, server.client(status)).await;
        assert!(node.not_now(&name).await.contains("returned"), "{status}");
    }
    for status in ["/status/400", "/status/401", "/status/403"] {
        let name = status.replace('/', ".");
        node.make(&name, Kind::Oauth2, server.client(status)).await;
        assert!(node.never(&name).await.contains("invalid_client"), "{status}");
    }
    // bound but not listening: connections are refused, and no other program gets the port meanwhile
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = format!("http://{}/token", nobody.local_addr().unwrap());
    let gone = CredentialChanges { token_url: Some(nowhere), ..server.client("") };
    node.make("gone", Kind::Oauth2, gone).await;
    let why = node.not_now("gone").await;
    assert!(why.ends_with("the token endpoint did not respond: the host could not be reached"), "{why}");
}

#[tokio::test]
async fn no_answer_does_harm() {
    let node = Node::new().await;
    let server = Server::start(&[]);
    for how in ["huge", "drip", "cut", "html", "lines", "empty", "deep", "error", "silence"] {
        node.make(how, Kind::Oauth2, server.client(&format!("/hostile/{how}"))).await;
        node.not_now(how).await;
    }
    for how in ["type", "redirect", "words"] {
        node.make(how, Kind::Oauth2, server.client(&format!("/hostile/{how}"))).await;
        node.never(how).await;
    }
}

#[tokio::test]
async fn a_token_endpoint_is_where_users_addresses_may_be() {
    let node = Node::new().await;
    let server = Server::start(&[]);
    node.make("here", Kind::Oauth2, server.client("/token")).await;
    let private = CredentialChanges { token_url: text("http://10.1.2.3/token"), ..server.client("") };
    let refused =
        node.credentials.create("there", Kind::Oauth2, private, Mode::Commit(None), shown).await.unwrap_err();
    assert!(matches!(&refused, Error::Invalid(fields) if fields[0].field == "token_url"), "{refused}");
    // the URL was allowed when the credential was created, and no longer is
    let vault = Vault::parse(KEY).unwrap();
    let stricter = Credentials::new(node.db.clone(), node.clock.clone(), guard(""), vault);
    let Err(Unauthorized::Never(why)) = stricter.authorize("here").await else { panic!("it was asked") };
    assert!(why.contains("the token endpoint is not allowed"), "{why}");
}

#[tokio::test]
async fn a_service_account_is_known_to_google() {
    let node = Node::new().await;
    let mut peer = Peer::python("fcm.py", &["--expires-in", "100"]);
    let ready: Value = serde_json::from_str(&peer.ready).unwrap();
    let account = CredentialChanges {
        service_account: Some(ready["service_account"].clone()),
        ..CredentialChanges::default()
    };
    node.make("firebase", Kind::GoogleServiceAccount, account).await;
    assert_eq!(node.bearer("firebase").await, "Bearer ya29.token-1");
    let told: Value = serde_json::from_str(&peer.line()).unwrap();
    assert_eq!(told["token"], 1, "the stand-in has checked the assertion: {told}");
    let shown =
        serde_json::to_value(CredentialView::from(node.credentials.get("firebase").await.unwrap())).unwrap();
    let firebase = ["https://www.googleapis.com/auth/firebase.messaging"];
    assert_eq!((&shown["project_id"], &shown["scopes"]), (&json!("demo-project"), &json!(firebase)));
    assert_eq!(shown["client_email"], "sender@demo-project.iam.gserviceaccount.com");
    assert!(!shown.to_string().contains("PRIVATE"), "{shown}");
    // the same as a string; and a scope that the stand-in does not grant
    let text = ready["service_account"].to_string();
    let other = CredentialChanges {
        service_account: Some(text.into()),
        scopes: Some(vec!["https://www.googleapis.com/auth/cloud-platform".into()]),
        ..CredentialChanges::default()
    };
    node.credentials.patch("firebase", other).await.unwrap();
    assert!(node.never("firebase").await.contains("400"), "the scope");
    let scopes = CredentialChanges { scopes: Some(vec![firebase[0].into()]), ..CredentialChanges::default() };
    node.credentials.patch("firebase", scopes).await.unwrap();
    assert_eq!(node.bearer("firebase").await, "Bearer ya29.token-2", "its key was kept");
}
