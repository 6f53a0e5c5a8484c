use proptest::prelude::*;

use super::*;
use crate::error::Error;

fn anywhere(_: &str) -> std::result::Result<(), String> {
    Ok(())
}

fn made(
    kind: Kind,
    changes: CredentialChanges,
) -> std::result::Result<(CredentialSummary, CredentialSecret), Vec<(String, String)>> {
    let made = make(kind, changes, &anywhere, Complaints::default());
    made.map_err(|error| match error {
        Error::Invalid(fields) => fields.into_iter().map(|field| (field.field, field.reason)).collect(),
        other => panic!("{other}"),
    })
}

fn wrong(kind: Kind, changes: CredentialChanges) -> Vec<String> {
    let Err(fields) = made(kind, changes) else { return Vec::new() };
    assert!(fields.iter().all(|(_, reason)| !reason.contains("planted")), "{fields:?}");
    fields.into_iter().map(|(field, _)| field).collect()
}

fn basic(username: &str, password: &str) -> CredentialChanges {
    CredentialChanges {
        username: Some(username.into()),
        password: Some(password.into()),
        ..CredentialChanges::default()
    }
}

fn header(header: &str, value: &str) -> CredentialChanges {
    CredentialChanges {
        header: Some(header.into()),
        value: Some(value.into()),
        ..CredentialChanges::default()
    }
}

fn client() -> CredentialChanges {
    CredentialChanges {
        token_url: Some("https://auth.example/token".into()),
        client_id: Some("id".into()),
        client_secret: Some("planted".into()),
        ..CredentialChanges::default()
    }
}

#[test]
fn each_kind_says_what_it_lacks_and_what_is_anothers() {
    for (kind, lacks) in [
        (Kind::Basic, &["username", "password"][..]),
        (Kind::Bearer, &["token"]),
        (Kind::Header, &["header", "value"]),
        (Kind::Oauth2, &["token_url", "client_id", "client_secret"]),
        (Kind::GoogleServiceAccount, &["service_account"]),
    ] {
        assert_eq!(wrong(kind, CredentialChanges::default()), lacks, "{kind}");
    }
    let both = CredentialChanges { token: Some("planted".into()), ..basic("a", "planted") };
    assert_eq!(wrong(Kind::Basic, both), ["token"]);
    let scope =
        CredentialChanges { scope: Some(None), token: Some("t".into()), ..CredentialChanges::default() };
    assert_eq!(wrong(Kind::Bearer, scope), ["scope"]);
}

#[test]
fn a_name_without_a_password_is_the_secret() {
    let (shown, secret) = made(Kind::Basic, basic("user", "password")).ok().unwrap();
    assert_eq!(shown, CredentialSummary::Basic { username: Some("user".into()) });
    assert!(secret == CredentialSecret::Basic { username: None, password: "password".into() });
    let (shown, secret) = made(Kind::Basic, basic("sk_live_1", "")).ok().unwrap();
    assert_eq!(shown, CredentialSummary::Basic { username: None });
    assert!(
        secret == CredentialSecret::Basic { username: Some("sk_live_1".into()), password: String::new() }
    );
    assert_eq!(wrong(Kind::Basic, basic("", "")), ["password"]);
    assert_eq!(wrong(Kind::Basic, basic("planted:x", "planted\n")), ["username", "password"]);
    assert_eq!(wrong(Kind::Basic, basic("имя", "пароль: да")), [""; 0]);
}

#[test]
fn a_header_is_one_that_a_user_may_set() {
    for name in ["X-Api-Key", "authorization", "a!#$%&'*+-.^_`|~1"] {
        assert_eq!(wrong(Kind::Header, header(name, "v w")), [""; 0], "{name}");
    }
    for name in
        ["", "planted name", "planted:", "ключ", "Host", "Content-Length", "Keep-Alive", "Idempotency-Key"]
    {
        assert_eq!(wrong(Kind::Header, header(name, "v")), ["header"], "{name}");
    }
    for value in ["", " planted", "planted ", "planted\r\nX: y", "пароль", &"x".repeat(4097)] {
        assert_eq!(wrong(Kind::Header, header("x", value)), ["value"], "{value}");
    }
    let (shown, _) = made(Kind::Header, header("X-Api-Key", "v")).ok().unwrap();
    assert_eq!(shown, CredentialSummary::Header { header: "x-api-key".into() });
}

#[test]
fn a_token_stands_alone() {
    for token in ["", "Bearer planted", "planted\n", "жетон"] {
        let token = CredentialChanges { token: Some(token.into()), ..CredentialChanges::default() };
        assert_eq!(wrong(Kind::Bearer, token), ["token"]);
    }
}

#[test]
fn a_client_is_as_rfc_6749_writes_it() {
    let with = |change: &dyn Fn(&mut CredentialChanges)| {
        let mut client = client();
        change(&mut client);
        wrong(Kind::Oauth2, client)
    };
    let scope = |text: &str| with(&|c| c.scope = Some(Some(text.into())));
    assert_eq!(scope("a b:c/d.e"), [""; 0]);
    for text in ["", " ", "a  b", " a", "a\"b", "a\\b", "a\tb", "ж"] {
        assert_eq!(scope(text), ["scope"], "{text:?}");
    }
    assert_eq!(with(&|c| c.audience = Some(Some("https://api.example/".into()))), [""; 0]);
    assert_eq!(with(&|c| c.audience = Some(Some(String::new()))), ["audience"]);
    assert_eq!(with(&|c| c.client_id = Some("имя".into())), ["client_id"]);
    assert_eq!(with(&|c| c.client_secret = Some("planted\u{7f}".into())), ["client_secret"]);
    assert_eq!(with(&|c| c.token_url = Some("https://auth.example/#planted".into())), ["token_url"]);
    let refused = make(Kind::Oauth2, client(), &|_| Err("nowhere".into()), Complaints::default());
    assert!(matches!(refused.err(), Some(Error::Invalid(fields)) if fields[0].field == "token_url"));
}

#[test]
fn what_is_no_service_account_is_not_repeated() {
    let of = |account: Value| {
        wrong(
            Kind::GoogleServiceAccount,
            CredentialChanges { service_account: Some(account), ..CredentialChanges::default() },
        )
    };
    for account in
        [json!("planted"), json!({"planted": 1}), json!(["planted"]), json!(null), json!("x".repeat(20_000))]
    {
        assert_eq!(of(account), ["service_account"]);
    }
    for scopes in [vec![], vec!["a b".to_owned()], vec!["a".to_owned(); 21], vec![String::new()]] {
        let changes = CredentialChanges {
            scopes: Some(scopes),
            service_account: Some(json!({})),
            ..CredentialChanges::default()
        };
        assert_eq!(wrong(Kind::GoogleServiceAccount, changes), ["scopes", "service_account"]);
    }
}

#[test]
fn a_description_is_a_line() {
    for text in ["a\nb", &"x".repeat(501)] {
        let changes = CredentialChanges { description: Some(Some(text.into())), ..basic("a", "b") };
        assert_eq!(wrong(Kind::Basic, changes), ["description"]);
    }
}

proptest! {
    #[test]
    fn what_was_made_is_made_again_of_its_own_parts(username in "[^:\\p{Cc}]{0,20}", password in "[^\\p{Cc}]{1,20}") {
        let (shown, secret) = made(Kind::Basic, basic(&username, &password)).ok().unwrap();
        let again = CredentialChanges::of(shown.clone(), Some(secret.clone()));
        prop_assert!(made(Kind::Basic, again).ok() == Some((shown.clone(), secret)));
        // a secret that cannot be decrypted must be set again, and no part of the old one stays
        let without = CredentialChanges { password: Some("new".into()), ..CredentialChanges::default() };
        let (kept, new) = made(Kind::Basic, without.over(CredentialChanges::of(shown.clone(), None))).ok().unwrap();
        prop_assert_eq!(kept, shown);
        let expected = CredentialSecret::Basic { username: None, password: "new".into() };
        prop_assert!(new == expected);
    }

    #[test]
    fn a_header_that_passes_can_be_sent(name in "\\PC{1,20}", value in "\\PC{0,20}") {
        if let Ok((CredentialSummary::Header { header }, CredentialSecret::Header { value })) = made(Kind::Header, header(&name, &value)) {
            prop_assert!(HeaderName::try_from(header).is_ok());
            prop_assert!(hyper::header::HeaderValue::from_str(&value).is_ok());
        }
    }
}
