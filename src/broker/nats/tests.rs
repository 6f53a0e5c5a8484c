use super::*;

fn access(urls: &str) -> Result<Access, &'static str> {
    Access::new(&urls.to_owned().into(), None, None)
}

#[test]
fn secrets_are_no_part_of_the_addresses() {
    for (urls, shown) in [
        ("nats://broker", "broker:4222"),
        ("tls://user:pass%40word@broker:1, tls://user:pass%40word@other", "broker:1, other:4222"),
        ("nats://s3cr3ttoken@[::1]:4333/", "[::1]:4333"),
    ] {
        let access = access(urls).unwrap();
        let all = format!("{access} {access:?} {:?}", access.addresses());
        assert_eq!(access.to_string(), shown);
        for secret in ["pass", "word", "s3cr3t"] {
            let without_names = all.replace("password", "");
            assert!(!without_names.contains(secret), "{secret} in {all}");
        }
    }
}

#[test]
fn what_is_no_address_of_a_broker_is_refused_without_repeating_it() {
    for (urls, why) in [
        ("", "must be URLs"),
        ("broker:4222", "must begin with nats://"),
        ("http://broker", "must begin with nats://"),
        ("nats://broker,", "must be URLs"),
        ("nats://broker/stream", "must end with the port"),
        ("nats://broker?token=s3cr3t", "must end with the port"),
        ("nats://u:a@one,nats://u:b@two", "one user and password"),
        ("nats://%ff@broker", "UTF-8"),
    ] {
        let said = access(urls).unwrap_err();
        assert!(said.contains(why), "{urls}: {said}");
    }
    let both = Access::new(&"nats://u:p@broker".to_owned().into(), Some("/a".into()), None);
    assert!(both.unwrap_err().contains("NATS_CREDENTIALS"));
}

#[tokio::test]
async fn a_credentials_file_that_cannot_be_used_is_named_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fanfare.creds");
    let access = Access::new(&"nats://broker".to_owned().into(), Some(path.clone()), None).unwrap();
    assert!(access.options().await.unwrap_err().to_string().contains("NATS_CREDENTIALS"));
    std::fs::write(&path, "s3cr3t").unwrap();
    let said = access.options().await.unwrap_err().to_string();
    assert!(said.contains("does not contain a JWT") && !said.contains("s3cr3t"), "{said}");
}
