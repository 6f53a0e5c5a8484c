//! Credentials: their encrypted rows, their use, and the rotation of keys.

use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::Text;
use fanfare::channels::keyring::{Keyring, Unauthorized};
use fanfare::credentials::model::Kind;
use fanfare::credentials::rules::CredentialChanges;
use fanfare::credentials::usecase::Rotated;
use fanfare::credentials::views::CredentialView;
use fanfare::credentials::{Credential, Credentials, Vault};
use fanfare::db::AnyConnection;
use fanfare::egress::guard::{self, Guard};
use fanfare::error::{Error, Result};
use fanfare::idempotency::{Created, IdempotencyKey, IdempotentResponse, Mode};

use crate::on_each_database;
use crate::storage::stage::Stage;
use crate::support::api::{LOOK, PATIENCE};

const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
const PASSWORD: &str = "planted-password-6f1d";

/// Creates a node with these keys.
fn node(stage: &Stage, keys: &str) -> Credentials {
    let guard = Arc::new(Guard::new(&guard::Settings::default()).unwrap());
    let vault = if keys.is_empty() { Vault::default() } else { Vault::parse(keys).unwrap() };
    Credentials::new(stage.db.clone(), stage.clock.clone(), guard, vault)
}

fn token(token: &str) -> CredentialChanges {
    CredentialChanges { token: Some(token.into()), ..CredentialChanges::default() }
}

fn basic(password: &str) -> CredentialChanges {
    CredentialChanges {
        username: Some("user".into()),
        password: Some(password.into()),
        ..CredentialChanges::default()
    }
}

async fn bearer(node: &Credentials, name: &str) -> String {
    node.authorize(name).await.unwrap().value.to_str().unwrap().to_owned()
}

async fn why_not(node: &Credentials, name: &str) -> Unauthorized {
    node.authorize(name).await.unwrap_err()
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Returns the whole table as text.
async fn table(stage: &Stage) -> String {
    let read = |c: &mut AnyConnection| {
        let query = diesel::sql_query(
            "SELECT name || ' ' || coalesce(description, '') || ' ' || shown || ' ' || sealed AS line FROM credential",
        );
        let lines: Vec<Line> = match c {
            AnyConnection::Postgres(c) => query.load(c)?,
            AnyConnection::Sqlite(c) => query.load(c)?,
        };
        Ok(lines.into_iter().map(|line| line.line).collect::<Vec<_>>().join("\n"))
    };
    stage.db.read(read).await.unwrap()
}

async fn execute(stage: &Stage, sql: &'static str) {
    let write = move |c: &mut AnyConnection| {
        Ok(match c {
            AnyConnection::Postgres(c) => diesel::sql_query(sql).execute(c)?,
            AnyConnection::Sqlite(c) => diesel::sql_query(sql).execute(c)?,
        })
    };
    assert!(stage.db.write(write).await.unwrap() > 0, "{sql}");
}

fn shown(made: &Credential) -> Result<IdempotentResponse> {
    IdempotentResponse::created(made.name.to_string(), &CredentialView::from(made.clone()))
}

fn conflict(error: &Error) -> &str {
    match error {
        Error::Conflict(why) => why,
        other => panic!("{other}"),
    }
}

on_each_database! {
    async fn no_secret_is_stored_as_it_is(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = node(&stage, OLD);
        node.create("basic", Kind::Basic, basic(PASSWORD), Mode::Commit(None), shown).await.unwrap();
        let nameless = CredentialChanges { username: Some(PASSWORD.into()), password: Some(String::new()), ..CredentialChanges::default() };
        node.create("nameless", Kind::Basic, nameless, Mode::Commit(None), shown).await.unwrap();
        node.create("bearer", Kind::Bearer, token(PASSWORD), Mode::Commit(None), shown).await.unwrap();
        let header = CredentialChanges { header: Some("X-Key".into()), value: Some(PASSWORD.into()), ..CredentialChanges::default() };
        node.create("header", Kind::Header, header, Mode::Commit(None), shown).await.unwrap();
        let client = CredentialChanges {
            token_url: Some("https://auth.example/token".into()), client_id: Some("client".into()),
            client_secret: Some(PASSWORD.into()), ..CredentialChanges::default()
        };
        node.create("client", Kind::Oauth2, client, Mode::Commit(None), shown).await.unwrap();
        let table = table(&stage).await;
        assert_eq!(table.lines().count(), 5);
        for shown in ["user", "x-key", "https://auth.example/token", "\"client\""] {
            assert!(table.contains(shown), "{shown}: {table}");
        }
        assert!(!table.contains(PASSWORD) && !table.contains("planted"), "{table}");
        // the node itself decrypts them
        assert_eq!(bearer(&node, "bearer").await, format!("Bearer {PASSWORD}"));
        assert_eq!(bearer(&node, "header").await, PASSWORD);
    }
}

on_each_database! {
    async fn what_somebody_changed_in_the_database_does_not_open(kind: Database) {
        let stage = Stage::new(kind).await;
        let first = node(&stage, OLD);
        for name in ["a", "b"] {
            first.create(name, Kind::Bearer, token(name), Mode::Commit(None), shown).await.unwrap();
        }
        let client = CredentialChanges {
            token_url: Some("https://auth.example/token".into()), client_id: Some("client".into()),
            client_secret: Some(PASSWORD.into()), ..CredentialChanges::default()
        };
        first.create("c", Kind::Oauth2, client, Mode::Commit(None), shown).await.unwrap();
        execute(&stage, "UPDATE credential SET sealed = (SELECT sealed FROM credential WHERE name = 'a') WHERE name = 'b'").await;
        execute(&stage, "UPDATE credential SET shown = replace(shown, 'auth.example', 'evil.example') WHERE name = 'c'").await;
        let node = node(&stage, OLD);
        for name in ["b", "c"] {
            let why = why_not(&node, name).await;
            assert!(matches!(&why, Unauthorized::Never(why) if why.contains("was changed in the database")), "{why:?}");
            // a new secret must not be sent to a URL that was changed in the database
            let changes = if name == "b" { token("x") } else { CredentialChanges { client_secret: Some("x".into()), ..CredentialChanges::default() } };
            let refused = node.patch(name, changes).await.unwrap_err();
            assert!(conflict(&refused).contains("delete it"), "{refused}");
            node.delete(name).await.unwrap();
        }
        assert_eq!(bearer(&node, "a").await, "Bearer a");
        execute(&stage, "UPDATE credential SET sealed = 'v1', shown = 'x'").await;
        let again = super::node(&stage, OLD);
        assert!(matches!(why_not(&again, "a").await, Unauthorized::Never(_)));
        assert!(matches!(again.get("a").await, Err(Error::Internal(_))));
    }
}

on_each_database! {
    async fn without_its_key_a_credential_is_seen_and_not_used(kind: Database) {
        let stage = Stage::new(kind).await;
        let first = node(&stage, OLD);
        first.create("a", Kind::Bearer, token(PASSWORD), Mode::Commit(None), shown).await.unwrap();
        first.create("b", Kind::Basic, basic(PASSWORD), Mode::Commit(None), shown).await.unwrap();
        for keys in [NEW, ""] {
            let node = node(&stage, keys);
            assert!(!node.get("a").await.unwrap().usable && first.get("a").await.unwrap().usable);
            assert_eq!(node.list(None, 10, CredentialView::from).await.unwrap().0.len(), 2);
            let why = why_not(&node, "a").await;
            assert!(matches!(&why, Unauthorized::NotNow(why) if why.contains("CREDENTIALS_KEY")), "{why:?}");
            // changes that need no key work
            let words = CredentialChanges { description: Some(Some("words".into())), ..CredentialChanges::default() };
            assert_eq!(node.patch("a", words).await.unwrap().description.as_deref(), Some("words"));
            // the username cannot be changed without the secret
            let refused = node.patch("b", CredentialChanges { username: Some("other".into()), ..CredentialChanges::default() }).await.unwrap_err();
            assert!(conflict(&refused).contains("give the secret again"), "{refused}");
        }
        let refused = node(&stage, "").create("c", Kind::Bearer, token("x"), Mode::Commit(None), shown).await.unwrap_err();
        assert!(conflict(&refused).contains("openssl rand -base64 32"), "{refused}");
        assert_eq!(bearer(&first, "a").await, format!("Bearer {PASSWORD}"), "nothing was half done");
        // a new secret is encrypted with the present key
        let node = node(&stage, NEW);
        node.patch("a", token("new")).await.unwrap();
        assert!(node.get("a").await.unwrap().usable);
        assert_eq!(bearer(&node, "a").await, "Bearer new");
        node.patch("b", CredentialChanges { password: Some("new".into()), ..CredentialChanges::default() }).await.unwrap();
        assert_eq!(bearer(&node, "b").await, "Basic dXNlcjpuZXc=");
        node.delete("a").await.unwrap();
        assert!(matches!(node.delete("a").await, Err(Error::NotFound { .. })));
    }
}

on_each_database! {
    async fn keys_are_changed_all_at_once_or_not_at_all(kind: Database) {
        let stage = Stage::new(kind).await;
        let old = node(&stage, OLD);
        for name in ["a", "b", "c"] {
            old.create(name, Kind::Bearer, token(name), Mode::Commit(None), shown).await.unwrap();
        }
        let before = table(&stage).await;
        let refused = node(&stage, NEW).rotate().await.unwrap_err();
        assert!(conflict(&refused).contains("decrypts a, b, c:"), "{refused}");
        assert_eq!(table(&stage).await, before);
        let both = node(&stage, &format!("{NEW} {OLD}"));
        both.create("d", Kind::Bearer, token("d"), Mode::Commit(None), shown).await.unwrap();
        assert_eq!(both.rotate().await.unwrap(), Rotated { all: 4, changed: 3 });
        assert_eq!(both.rotate().await.unwrap(), Rotated { all: 4, changed: 0 });
        let new = node(&stage, NEW);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(bearer(&new, name).await, format!("Bearer {name}"));
            assert!(!old.get(name).await.unwrap().usable);
        }
        assert!(conflict(&node(&stage, "").rotate().await.unwrap_err()).contains("decrypts a, b, c, d:"));
    }
}

on_each_database! {
    async fn a_change_is_heard_of_here_at_once_and_elsewhere_soon(kind: Database) {
        let stage = Stage::new(kind).await;
        let (here, there) = (node(&stage, OLD), node(&stage, OLD));
        here.create("a", Kind::Bearer, token("first"), Mode::Commit(None), shown).await.unwrap();
        assert!(there.exists("a").await.unwrap() && !there.exists("b").await.unwrap() && !there.exists("A b").await.unwrap());
        for node in [&here, &there] {
            assert_eq!(bearer(node, "a").await, "Bearer first");
        }
        here.patch("a", token("second")).await.unwrap();
        assert_eq!(bearer(&here, "a").await, "Bearer second");
        let began = std::time::Instant::now();
        while bearer(&there, "a").await != "Bearer second" {
            assert!(began.elapsed() < PATIENCE, "it is not heard of");
            tokio::time::sleep(LOOK).await;
        }
        there.delete("a").await.unwrap();
        let gone = Unauthorized::Never("there is no credential `a`".into());
        assert_eq!(why_not(&there, "a").await, gone);
        while here.authorize("a").await.is_ok() {
            assert!(began.elapsed() < PATIENCE, "it is not heard of");
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(why_not(&here, "a").await, gone);
        // a credential that did not exist is found as soon as it is created
        there.create("a", Kind::Bearer, token("third"), Mode::Commit(None), shown).await.unwrap();
        assert_eq!(bearer(&here, "a").await, "Bearer third");
    }
}

on_each_database! {
    async fn many_changes_at_once_lose_none(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = Arc::new(node(&stage, OLD));
        node.create("a", Kind::Basic, basic("p0"), Mode::Commit(None), shown).await.unwrap();
        let change = |changes: CredentialChanges| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.patch("a", changes).await.unwrap() })
        };
        let changes = (0..10).flat_map(|_| {
            let described = CredentialChanges { description: Some(Some("words".into())), ..CredentialChanges::default() };
            let named = CredentialChanges { username: Some("other".into()), ..CredentialChanges::default() };
            let secret = CredentialChanges { password: Some("p1".into()), ..CredentialChanges::default() };
            [change(described), change(named), change(secret)]
        });
        for task in changes.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(node.get("a").await.unwrap().description.as_deref(), Some("words"));
        assert_eq!(bearer(&node, "a").await, "Basic b3RoZXI6cDE=", "other:p1");
    }
}

#[derive(QueryableByName)]
struct Prints {
    #[diesel(sql_type = diesel::sql_types::Binary)]
    fingerprint: Vec<u8>,
}

on_each_database! {
    async fn the_digest_of_a_request_cannot_be_tried_against_a_dictionary(kind: Database) {
        let stage = Stage::new(kind).await;
        let node = node(&stage, OLD);
        let key = || IdempotencyKey { key: "k".into(), fingerprint: b"of a body with a password".to_vec(), keep: PATIENCE };
        let made = node.create("a", Kind::Bearer, token(PASSWORD), Mode::Commit(Some(key())), shown).await.unwrap();
        let Created::New(_, answer) = made else { panic!("{made:?}") };
        let again = node.create("a", Kind::Bearer, token(PASSWORD), Mode::Commit(Some(key())), shown).await.unwrap();
        assert_eq!(again, Created::Before(answer));
        let other = IdempotencyKey { fingerprint: b"of another".to_vec(), ..key() };
        assert!(matches!(node.create("a", Kind::Bearer, token("x"), Mode::Commit(Some(other)), shown).await, Err(Error::Invalid(_))));
        let read = |c: &mut AnyConnection| {
            let query = diesel::sql_query("SELECT fingerprint FROM idempotency_key");
            Ok(match c {
                AnyConnection::Postgres(c) => query.load::<Prints>(c)?,
                AnyConnection::Sqlite(c) => query.load::<Prints>(c)?,
            })
        };
        let stored = stage.db.read(read).await.unwrap();
        assert_eq!(stored.len(), 1);
        assert_ne!(stored[0].fingerprint, key().fingerprint);
    }
}
