//! SQLite's file: only one service can use it, and a service that loses its file ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crash::campaign::{Campaign, mail};
use crate::support::Database;
use crate::support::api::LOOK;

/// The time within which the service notices that its file is gone.
const NOTICED: Duration = Duration::from_secs(2);

fn file(campaign: &Campaign) -> PathBuf {
    campaign.db.url.strip_prefix("sqlite://").expect("a path").into()
}

/// Takes the file away from a running service, which must notice it, refuse requests, log the reason and end.
async fn loses(lose: impl FnOnce(&Path)) {
    let settings = [("RATE_LIMIT_PER_CHANNEL", "200"), ("SHUTDOWN_TIMEOUT", "5s")];
    let mut campaign = Campaign::new(Database::Sqlite, &[], &settings).await;
    let mut server = campaign.serve().await;
    mail(&server, 2000, Duration::from_secs(600)).await;
    campaign.provider.received(100, async || {}).await;
    let path = file(&campaign);

    lose(&path);
    let began = Instant::now();
    let client = json!({"phone_number": "79031234567"});
    // refused with 503, or not accepted by a process that ends
    while matches!(server.try_call("POST", "/clients", Some(client.clone())).await, Ok((201 | 409, _))) {
        assert!(began.elapsed() < NOTICED, "it still accepts clients: {}", server.process.log());
        tokio::time::sleep(LOOK).await;
    }
    let status = server.process.ended().await;
    println!("noticed and ended after {:?}", began.elapsed());
    let log = server.process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the SQLite file was moved, replaced or removed"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_file_ends_the_service() {
    loses(|path| {
        std::fs::rename(path, path.with_extension("moved")).expect("a move");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_ends_the_service_and_is_not_created_again() {
    let mut gone = PathBuf::new();
    loses(|path| {
        std::fs::remove_file(path).expect("an end");
        gone = path.to_owned();
    })
    .await;
    assert!(!gone.exists(), "it was not created again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_ends_the_service() {
    loses(|path| {
        let other = path.with_extension("other");
        std::fs::copy(path, &other).expect("a copy");
        std::fs::rename(&other, path).expect("a replacement");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_links_nor_a_removed_lock_file_allow_a_second_service() {
    let mut campaign = Campaign::new(Database::Sqlite, &[], &[]).await;
    let server = campaign.serve().await;
    let path = file(&campaign);
    let (symbolic, hard) = (path.with_extension("symbolic"), path.with_extension("hard"));
    std::os::unix::fs::symlink(&path, &symbolic).expect("a symbolic link");
    std::fs::hard_link(&path, &hard).expect("a hard link");
    std::fs::remove_file(path.with_extension("db.lock")).expect("a lock file");
    for name in [&path, &symbolic, &hard] {
        let url = format!("sqlite://{}", name.display());
        let mut second = campaign.spawn(&[("DATABASE_URL", &url)]);
        let status = second.ended().await;
        assert_eq!(status.code(), Some(1), "{}: {}", name.display(), second.log());
        assert!(second.log().contains("another fanfare process uses this database"), "{}", second.log());
    }
    server.get("/clients").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_services_user_can_access_the_files_of_a_database() {
    let mut campaign = Campaign::new(Database::Sqlite, &[], &[]).await;
    let server = campaign.serve().await;
    server.post("/clients", json!({"phone_number": "79031234567"})).await;
    let path = file(&campaign);
    for suffix in ["db", "db-wal", "db-shm", "db.lock"] {
        let mode = path.with_extension(suffix).metadata().expect(suffix).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}
