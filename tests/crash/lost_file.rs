//! SQLite's file: one service has it, and a service whose file is gone ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::campaign::{Campaign, mail};
use crate::support::Database;
use crate::support::api::LOOK;

/// A file that is gone is noticed within this.
const NOTICED: Duration = Duration::from_secs(2);

fn file(campaign: &Campaign) -> PathBuf {
    campaign.db.url.strip_prefix("sqlite://").expect("a path").into()
}

/// The service of a campaign loses its file; it must notice, refuse, say so and end.
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
    // refused with 503, or not even taken by a process that ends
    while matches!(server.try_call("POST", "/clients", Some(client.clone())).await, Ok((201 | 409, _))) {
        assert!(began.elapsed() < NOTICED, "it still takes clients: {}", server.process.log());
        tokio::time::sleep(LOOK).await;
    }
    let status = server.process.ended().await;
    println!("noticed and ended after {:?}", began.elapsed());
    let log = server.process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the SQLite file was moved, replaced or removed"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_moved_ends_the_service() {
    loses(|path| {
        std::fs::rename(path, path.with_extension("moved")).expect("a move");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_ends_the_service_and_does_not_come_again() {
    let mut gone = PathBuf::new();
    loses(|path| {
        std::fs::remove_file(path).expect("an end");
        gone = path.to_owned();
    })
    .await;
    assert!(!gone.exists(), "nothing created it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_ends_the_service() {
    loses(|path| {
        let other = path.with_extension("other");
        std::fs::copy(path, &other).expect("a copy");
        std::fs::rename(&other, path).expect("a replacement");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_and_no_removed_lock_file_lets_a_second_service_in() {
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
        assert!(second.log().contains("another fanfare serves this database"), "{}", second.log());
    }
    server.get("/clients").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_a_database_is_for_the_services_user_alone() {
    let mut campaign = Campaign::new(Database::Sqlite, &[], &[]).await;
    let server = campaign.serve().await;
    server.post("/clients", json!({"phone_number": "79031234567"})).await;
    let path = file(&campaign);
    for suffix in ["db", "db-wal", "db-shm", "db.lock"] {
        let mode = path.with_extension(suffix).metadata().expect(suffix).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}
