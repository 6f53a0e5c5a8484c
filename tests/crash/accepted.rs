//! What the API accepted is there after a kill.

use serde_json::json;

use crate::BINARY;
use crate::process::{Launch, Server};
use crate::support::{TestDb, after};

use std::time::Duration;

crate::on_each_database! {
    async fn a_mailing_accepted_right_before_a_kill_is_there_after_the_restart(kind: Database) {
        let db = TestDb::new(kind);
        let env = [("DATABASE_URL", db.url.as_str())];
        let launch = Launch { binary: BINARY, dir: db.dir(), name: "serve", env: &env, file_limit: None };
        let mut server = Server::start(&launch).await;
        let body = json!({"text": "hello", "filter": "vip", "starts_at": after(Duration::from_secs(60)),
            "ends_at": after(Duration::from_secs(120))});
        let mailing = server.post("/mailings", body).await;
        server.process.kill();

        let server = Server::start(&launch).await;
        let found = server.get(&format!("/mailings/{}", mailing["id"].as_str().expect("an id"))).await;
        assert_eq!(found, mailing);
    }
}
