//! Chunks of a file: storing several at a time has the same result as storing them one after the other.

use fanfare::clients::import::{self as road, ImportOptions, MatchBy};
use fanfare::clients::views::ClientView;
use serde_json::Value;

use super::{complaints, counts, import};
use crate::on_each_database;
use crate::storage::stage::Stage;

const FIRST: u64 = 79_030_000_000;

/// Returns rows of new clients with these external ids.
fn people(ids: impl Iterator<Item = u64>) -> Vec<String> {
    ids.map(|n| format!("{},x{n},new", FIRST + n)).collect()
}

fn file(rows: &[String]) -> String {
    format!("phone_number,external_id,tag\n{}\n", rows.join("\n"))
}

/// Returns the tag and the external id of the client with this number.
async fn shown(stage: &Stage, number: u64) -> (Value, Value) {
    let shown = serde_json::to_value(ClientView::from(stage.by_number(&number.to_string()).await)).unwrap();
    (shown["tag"].clone(), shown["external_id"].clone())
}

on_each_database! {
    async fn a_row_that_comes_again_chunks_later_updates_its_client(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut rows = people(0..6000);
        rows[1500] = format!("{},x10,later", FIRST + 10);
        rows[2600] = format!("{},x10,latest", FIRST + 10);
        assert_eq!(counts(&stage, file(&rows)).await, (5_998, 2, 0));
        assert_eq!(shown(&stage, FIRST + 10).await.0, "latest");
    }
}

on_each_database! {
    async fn known_and_new_people_may_stand_in_any_order(kind: Database) {
        let stage = Stage::new(kind).await;
        let known: Vec<_> = people((0..5000).filter(|n| n % 700 == 3));
        assert_eq!(counts(&stage, file(&known)).await, (8, 0, 0));
        assert_eq!(counts(&stage, file(&people(0..5000))).await, (4_992, 8, 0));
        assert_eq!(counts(&stage, file(&people(0..5500))).await, (500, 5_000, 0));
        let clients = stage.all().await;
        assert_eq!(clients.len(), 5_500);
        // the known clients were created first, and an update assigns no new id
        assert!(clients.iter().skip(8).is_sorted_by_key(|client| client.phone_number));
    }
}

on_each_database! {
    async fn complaints_are_in_the_order_of_the_file(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut rows = people(0..5000);
        // another client has the external id, in the database or in the file, or the number is invalid
        assert_eq!(counts(&stage, file(&["79039999999,x4200,known".into()])).await, (1, 0, 0));
        rows[700] = "1,,wrong".into();
        rows[3100] = format!("{},x5,taken", FIRST + 3100);
        rows[3900] = "2,,wrong".into();
        let report = import(&stage, file(&rows)).await.unwrap();
        assert_eq!((report.created, report.updated, report.rejected_count), (4_996, 0, 4));
        let (wrong, taken) = ("phone_number", "external_id");
        let lines: Vec<_> = complaints(&report).iter().map(|(line, field)| (*line, field.to_string())).collect();
        let expected = [(702, wrong), (3_102, taken), (3_902, wrong), (4_202, taken)];
        assert_eq!(lines, expected.map(|(line, field)| (line, field.to_owned())));
    }
}

on_each_database! {
    async fn an_external_id_that_one_chunk_gives_up_the_next_may_take(kind: Database) {
        let stage = Stage::new(kind).await;
        assert_eq!(counts(&stage, file(&["79039999999,x1500,known".into()])).await, (1, 0, 0));
        let mut rows = people(0..3000);
        rows[990] = "79039999999,,free".into();
        assert_eq!(counts(&stage, file(&rows)).await, (2_999, 1, 0));
        assert_eq!(shown(&stage, FIRST + 1500).await.1, "x1500");
        assert_eq!(shown(&stage, 79_039_999_999).await, ("free".into(), Value::Null));
    }
}

on_each_database! {
    async fn people_known_by_their_address_alone_find_those_of_the_chunk_before(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut rows: Vec<_> = (0..3000).map(|n| format!("{},p{n}@example.com,new", FIRST + n)).collect();
        rows[1200] = ",p7@example.com,again".into();
        rows[2900] = ",p1800@example.com,again".into();
        let csv = format!("phone_number,email,tag\n{}\n", rows.join("\n"));
        assert_eq!(counts(&stage, csv).await, (2_998, 2, 0));
        assert_eq!(shown(&stage, FIRST + 7).await.0, "again");
        assert_eq!(shown(&stage, FIRST + 1800).await.0, "again");
    }
}

on_each_database! {
    async fn numbers_pass_from_chunk_to_chunk_when_people_are_known_by_another_id(kind: Database) {
        let stage = Stage::new(kind).await;
        assert_eq!(counts(&stage, file(&people(0..10))).await, (10, 0, 0));
        // the second client has a new number, and a new client in a later chunk gets the old one
        let mut rows = people(100..2600);
        rows[5] = format!("{},x2,moved", FIRST + 9_000);
        rows[1400] = format!("{},x9001,new", FIRST + 2);
        let options = ImportOptions { match_by: Some(MatchBy::ExternalId), ..ImportOptions::default() };
        let source = std::io::Cursor::new(file(&rows).into_bytes());
        let report = road::import(&stage.db, &stage.clock, source, options, |_| ()).await.unwrap();
        assert_eq!((report.created, report.updated, report.rejected_count), (2_499, 1, 0));
        assert_eq!(shown(&stage, FIRST + 2).await.1, "x9001");
        assert_eq!(shown(&stage, FIRST + 9_000).await, ("moved".into(), "x2".into()));
    }
}

on_each_database! {
    async fn a_dry_run_of_many_chunks_counts_in_order_and_stores_nothing(kind: Database) {
        let stage = Stage::new(kind).await;
        assert_eq!(counts(&stage, file(&people(0..1))).await, (1, 0, 0));
        let file = file(&people((0..20_000).map(|n| n % 15_000)));
        let options = ImportOptions { is_dry_run: true, ..ImportOptions::default() };
        let source = std::io::Cursor::new(file);
        let report = road::import(&stage.db, &stage.clock, source, options, |_| ()).await.unwrap();
        assert_eq!((report.created, report.updated, report.rejected_count), (14_999, 5_001, 0));
        assert_eq!(stage.all().await.len(), 1);
    }
}
