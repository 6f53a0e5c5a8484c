//! Resources that the API accepted exist after a kill.

use std::time::{Duration, Instant};

use diesel::QueryDsl;
use diesel::RunQueryDsl;
use fanfare::db::schema::client;
use serde_json::json;

use crate::crash::campaign::{Campaign, csv, import};
use crate::support::after;

/// The number of records of which an import commits a multiple.
const CHUNK: i64 = 1000;

crate::on_each_database! {
    async fn a_mailing_accepted_right_before_a_kill_exists_after_the_restart(kind: Database) {
        let mut campaign = Campaign::new(kind, &[], &[]).await;
        let mut server = campaign.serve().await;
        // a tag without clients would cause a warning in the first response only
        import(&server, 1).await;
        let body = json!({"text": "hello", "filter": "vip", "starts_at": after(Duration::from_secs(60)),
            "ends_at": after(Duration::from_secs(120))});
        let mailing = server.post("/mailings", body).await;
        server.process.kill();

        let server = campaign.serve().await;
        let found = server.get(&format!("/mailings/{}", mailing["id"].as_str().expect("an id"))).await;
        assert_eq!(found, mailing);
    }
}

crate::on_each_database! {
    async fn a_killed_import_leaves_whole_chunks_and_is_completed_by_the_next(kind: Database) {
        const CLIENTS: usize = 30_000;
        let mut campaign = Campaign::new(kind, &[], &[]).await;
        let mut server = campaign.serve().await;
        let csv = csv(CLIENTS);
        let started = async {
            let began = Instant::now();
            while server.get("/clients?limit=1").await["items"] == json!([]) {
                assert!(began.elapsed() < Duration::from_secs(60), "no client is imported");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            report = server.import_csv(csv.clone()) => panic!("it was to be killed in the middle: {report:?}"),
            () = started => {}
        }
        server.process.kill();
        let there: i64 = campaign.read(|c| Ok(client::table.count().get_result(c)?)).await;
        assert!(there > 0 && there % CHUNK == 0, "{there} clients");

        let server = campaign.serve().await;
        let report = server.import_csv(csv).await.expect("a report");
        assert_eq!((report["updated"].as_i64(), &report["rejected_count"]), (Some(there), &json!(0)), "{report}");
        assert_eq!(report["created"].as_i64().map(|created| created + there), i64::try_from(CLIENTS).ok());
    }
}
