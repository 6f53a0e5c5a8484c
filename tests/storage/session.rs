//! The settings of every session at a PostgreSQL server.

use diesel::prelude::*;
use diesel::sql_types::Text;
use fanfare::db::{Db, DbOptions};

use crate::support::{Database, TestDb};

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_in_a_transaction_keeps_its_locks_for_five_seconds() {
    let test_db = TestDb::new(Database::Postgres);
    let options = DbOptions::new(test_db.url.clone());
    let db = tokio::task::spawn_blocking(|| Db::open(options)).await.unwrap().unwrap();
    // between two statements, and while the client does not read the rows that the server sends
    for name in ["idle_in_transaction_session_timeout", "tcp_user_timeout"] {
        let ask = format!("SELECT current_setting('{name}') AS value");
        let setting: Setting = db.write(move |c| Ok(diesel::sql_query(ask).get_result(c)?)).await.unwrap();
        assert!(["5s", "5000"].contains(&setting.value.as_str()), "{name}: {}", setting.value);
    }
}
