//! A full disk, simulated by a limit for the size of files, which works without root: SQLite gets EFBIG instead of
//! ENOSPC, also in the middle of a write.

use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use diesel::sql_types::Text;
use serde_json::json;

use crate::crash::campaign::{Campaign, closed, csv, look, mail};
use crate::support::api::{LOOK, PATIENCE};
use crate::support::{Database, after};

#[derive(diesel::QueryableByName)]
struct Integrity {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_returns_503_and_sending_continues_once_there_is_room() {
    let settings = [("RATE_LIMIT_PER_CHANNEL", "300")];
    let mut campaign = Campaign::new(Database::Sqlite, &[], &settings).await;
    let mut server = campaign.serve_with(&[], Some(2048)).await;
    let mailing = mail(&server, 1200, Duration::from_secs(600)).await;
    campaign.provider.received(50, async || {}).await;

    let refused = server.import_csv(csv(40_000)).await.expect_err("no room for these");
    assert_eq!(refused.status().map(|status| status.as_u16()), Some(503), "{refused}");
    let body = json!({"text": "x".repeat(1000), "filter": "vip", "starts_at": after(Duration::from_secs(300)),
        "ends_at": after(Duration::from_secs(600))});
    let mut accepted = Vec::new();
    let refused = loop {
        assert!(accepted.len() < 5000, "the disk is full");
        match server.call("POST", "/mailings", Some(body.clone())).await {
            (201, mailing) => accepted.push(mailing["id"].as_str().expect("an id").to_owned()),
            (status, problem) => break (status, problem),
        }
    };
    assert_eq!(refused.0, 503, "{refused:?}");
    let mut last = 0;
    look(&server, &mailing, &mut last).await;
    // no write can succeed any more, and `/ready` reports it
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let ready = server.http.get(format!("{}/ready", server.base)).send().await.expect("an answer");
        assert!(asked.elapsed() < Duration::from_secs(1), "/ready answered after {:?}", asked.elapsed());
        if ready.status().as_u16() == 503 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it is ready: {}", server.process.log());
        tokio::time::sleep(LOOK).await;
    }

    server.process.lift_file_limit();
    let counts = closed(&server, &mailing, last).await;
    assert_eq!(counts["sent"], 1200, "{counts}");
    campaign.check(&mailing).await;
    server.post("/mailings", body).await;
    for id in &accepted {
        server.get(&format!("/mailings/{id}")).await;
    }
    let report = server.import_csv(csv(40_000)).await.expect("a report");
    assert_eq!(report["rejected_count"], 0, "{report}");
    server.process.terminate();
    assert_eq!(server.process.ended().await.code(), Some(0), "{}", server.process.log());
    let found =
        campaign.read(|c| Ok(diesel::sql_query("PRAGMA integrity_check").load::<Integrity>(c)?)).await;
    assert_eq!(found[0].integrity_check, "ok");
}
