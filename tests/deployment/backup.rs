//! The backup of docker-compose.yml, and the restore of its files, on a real server.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::deployment::path;
use crate::support::{Database, Service, TestDb};

/// Runs a script of db/postgres on this database.
fn script(name: &str, url: &str, env: &[(&str, &str)], args: &[&str]) -> Output {
    let url = url::Url::parse(url).unwrap();
    Command::new(path("db/postgres").join(name))
        .env("PGHOST", url.host_str().unwrap())
        .env("PGPORT", url.port().unwrap().to_string())
        .env("PGUSER", url.username())
        .env("PGPASSWORD", url.password().unwrap())
        .env("PGDATABASE", url.path().trim_start_matches('/'))
        .env("PGSSLMODE", "disable")
        .envs(env.iter().copied())
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn dumps(folder: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The lists that a service shows of its data.
async fn shown(service: &Service) -> Vec<Value> {
    let mut all = Vec::new();
    for list in ["/clients?limit=100", "/mailings", "/templates", "/routes"] {
        all.push(service.get(list).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dumped_is_restored_into_an_empty_database_and_served() {
    let (folder, service) = (TempDir::new().unwrap(), Service::start(Database::Postgres).await);
    service.import(50, "all").await;
    let mailing = json!({
        "text": "hello", "filter": "all", "starts_at": "2099-01-01T00:00:00Z", "ends_at": "2099-01-02T00:00:00Z"
    });
    service.post("/mailings", mailing).await;
    service.post("/templates", json!({"name": "hello", "channel": "sms", "text": "Hello"})).await;
    let route = json!({"event": "a", "deliveries": [{"channel": "sms", "template": "hello"}]});
    service.post("/routes", route).await;
    let before = shown(&service).await;
    assert_eq!(before[0]["items"].as_array().unwrap().len(), 50);

    let backups = folder.path().to_str().unwrap();
    let dumped = script("backup.sh", &service.db.url, &[("BACKUP_FOLDER", backups)], &["--once"]);
    assert!(dumped.status.success(), "{}", said(&dumped));
    let names = dumps(folder.path());
    assert!(names.len() == 1 && names[0].ends_with(".dump"), "{names:?}");
    let dump = folder.path().join(&names[0]);
    let dump = dump.to_str().unwrap();

    let over = script("restore.sh", &service.db.url, &[], &[dump]);
    assert!(!over.status.success() && said(&over).contains("tables already"), "{}", said(&over));
    assert_eq!(shown(&service).await, before, "a database that is in use is left alone");

    let empty = TestDb::new(Database::Postgres);
    let restored = script("restore.sh", &empty.url, &[], &[dump]);
    assert!(restored.status.success(), "{}", said(&restored));
    let again = Service::start_with(Database::Postgres, &[("database.url", &empty.url)]).await;
    assert_eq!(shown(&again).await, before);
    again.post("/clients", json!({"phone_number": "79031234567"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_cut_short_changes_nothing_and_the_oldest_dumps_go() {
    let (folder, service) = (TempDir::new().unwrap(), Service::start(Database::Postgres).await);
    for old in
        ["fanfare-20250101T000000Z.dump", "fanfare-20250102T000000Z.dump", "fanfare-20250103T000000Z.dump"]
    {
        std::fs::write(folder.path().join(old), "old").unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let backups = folder.path().to_str().unwrap();
    let env = [("BACKUP_FOLDER", backups), ("BACKUP_KEEP", "2")];
    let dumped = script("backup.sh", &service.db.url, &env, &["--once"]);
    assert!(dumped.status.success(), "{}", said(&dumped));
    let names = dumps(folder.path());
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names.contains(&"fanfare-20250103T000000Z.dump".to_owned())
            && names.contains(&"notes.txt".to_owned())
    );

    let newest = folder.path().join(&names[1]);
    let whole = std::fs::read(&newest).unwrap();
    let cut = folder.path().join("cut.dump");
    std::fs::write(&cut, &whole[..whole.len() * 2 / 3]).unwrap();
    let empty = TestDb::new(Database::Postgres);
    let failed = script("restore.sh", &empty.url, &[], &[cut.to_str().unwrap()]);
    assert!(!failed.status.success(), "{}", said(&failed));
    // it is still empty
    let restored = script("restore.sh", &empty.url, &[], &[newest.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", said(&restored));

    let nowhere = script("backup.sh", &service.db.url, &[("BACKUP_FOLDER", "/nowhere")], &["--once"]);
    assert!(!nowhere.status.success(), "{}", said(&nowhere));
    let wrong = script("backup.sh", &service.db.url, &env, &["--every", "soon"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", said(&wrong));
}
