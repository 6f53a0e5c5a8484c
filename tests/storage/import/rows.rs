//! The clients that rows create and change.

use std::sync::Mutex;

use fanfare::clients::import::{self as road, FileProgress, ImportOptions};
use fanfare::clients::repo;
use fanfare::clients::views::ClientView;
use serde_json::{Value, json};

use super::{complaints, counts, import};
use crate::on_each_database;
use crate::storage::stage::{Stage, at};

async fn shown(stage: &Stage, number: &str) -> Value {
    serde_json::to_value(ClientView::from(stage.by_number(number).await)).unwrap()
}

on_each_database! {
    async fn columns_are_fields_and_the_rest_are_attributes(kind: Database) {
        let stage = Stage::new(kind).await;
        let report = import(
            &stage,
            "phone_number,mobile_operator_code,tag,timezone,locale,email,push_token,external_id,name,city\n\
             +79031234567,900,vip,Europe/Moscow,zh-hant-TW,anna@example.com,token,crm-1,Анна,\"Омск, левый берег\"\n\
             4915112345678,,,,,,,,,\n",
        ).await.unwrap();
        assert_eq!((report.created, report.updated, report.rejected_count), (2, 0, 0));
        let anna = stage.by_number("79031234567").await;
        let expected = json!({
            "id": anna.id, "phone_number": "79031234567", "mobile_operator_code": "900", "tag": "vip", "tags": ["vip"],
            "timezone": "Europe/Moscow", "locale": "zh-Hant-TW", "email": "anna@example.com", "push_token": "token",
            "external_id": "crm-1",
            "attributes": {"name": "Анна", "city": "Омск, левый берег"},
            "created_at": at(1_000), "updated_at": at(1_000),
        });
        assert_eq!(serde_json::to_value(ClientView::from(anna.clone())).unwrap(), expected);
        let hans = shown(&stage, "4915112345678").await;
        assert_eq!((&hans["tag"], &hans["mobile_operator_code"]), (&Value::Null, &Value::Null));
        assert_eq!(hans["attributes"], json!({}));
        assert_eq!(stage.db.read(repo::attribute_names).await.unwrap(), ["city", "name"]);
    }
}

on_each_database! {
    async fn a_column_overwrites_an_empty_cell_clears_and_absence_leaves(kind: Database) {
        let stage = Stage::new(kind).await;
        stage.create(json!({
            "phone_number": "79031234567", "mobile_operator_code": "900", "tag": "vip", "email": "anna@example.com",
            "external_id": "crm-1", "attributes": {"name": "Anna", "bonus": 7, "gone": true},
        })).await.unwrap();
        stage.clock.set(at(2_000));
        let csv = "gone,phone_number,tag,timezone,external_id,name\n,79031234567,,Asia/Omsk,crm-1,Ann\n";
        assert_eq!(counts(&stage, csv).await, (0, 1, 0));
        let anna = shown(&stage, "79031234567").await;
        assert_eq!(anna["tag"], Value::Null);
        assert_eq!(anna["timezone"], "Asia/Omsk");
        assert_eq!(anna["email"], "anna@example.com");
        assert_eq!(anna["mobile_operator_code"], "900");
        assert_eq!(anna["attributes"], json!({"name": "Ann", "bonus": 7}));
        assert_eq!((&anna["created_at"], &anna["updated_at"]), (&json!(at(1_000)), &json!(at(2_000))));
    }
}

on_each_database! {
    async fn an_operator_code_that_is_not_given_comes_from_the_number(kind: Database) {
        let stage = Stage::new(kind).await;
        stage.create(json!({"phone_number": "79031234567", "mobile_operator_code": "900"})).await.unwrap();
        assert_eq!(counts(&stage, "phone_number\n79161234567\n79031234567\n").await, (1, 1, 0));
        assert_eq!(shown(&stage, "79161234567").await["mobile_operator_code"], "916");
        assert_eq!(shown(&stage, "79031234567").await["mobile_operator_code"], "900");
        let csv = "phone_number,mobile_operator_code\n79031234567, \n79161234567,999\n";
        assert_eq!(counts(&stage, csv).await, (0, 2, 0));
        assert_eq!(shown(&stage, "79031234567").await["mobile_operator_code"], "903");
        assert_eq!(shown(&stage, "79161234567").await["mobile_operator_code"], "999");
    }
}

on_each_database! {
    async fn a_file_that_says_nothing_new_changes_nothing(kind: Database) {
        let stage = Stage::new(kind).await;
        let csv = "phone_number,tag,external_id,name\n79031234567,vip,a,Anna\n79031234568,,b,\n";
        assert_eq!(counts(&stage, csv).await, (2, 0, 0));
        let before = stage.all().await;
        stage.clock.set(at(2_000));
        assert_eq!(counts(&stage, csv).await, (0, 2, 0));
        assert_eq!(stage.all().await, before);
    }
}

on_each_database! {
    async fn the_later_of_two_rows_with_one_number_updates_the_earlier(kind: Database) {
        let stage = Stage::new(kind).await;
        let csv = "phone_number,tag,name\n79031234567,vip,Anna\n79031234568,,\n+79031234567,gold,\n";
        assert_eq!(counts(&stage, csv).await, (2, 1, 0));
        let anna = shown(&stage, "79031234567").await;
        assert_eq!((&anna["tag"], &anna["attributes"]), (&json!("gold"), &json!({})));
    }
}

on_each_database! {
    async fn an_external_id_of_another_client_is_a_reason_to_reject(kind: Database) {
        let stage = Stage::new(kind).await;
        stage.create(json!({"phone_number": "79030000001", "external_id": "a"})).await.unwrap();
        let report = import(
            &stage,
            "phone_number,external_id\n79030000002,a\n79030000003,c\n79030000004,c\n79030000001,a\n79030000001,c\n",
        ).await.unwrap();
        assert_eq!((report.created, report.updated, report.rejected_count), (1, 1, 3));
        assert_eq!(complaints(&report), [(2, "external_id"), (4, "external_id"), (6, "external_id")]);
        assert_eq!(shown(&stage, "79030000001").await["external_id"], "a");
        assert_eq!(shown(&stage, "79030000003").await["external_id"], "c");
    }
}

on_each_database! {
    async fn an_external_id_that_one_row_gives_up_another_may_take(kind: Database) {
        let stage = Stage::new(kind).await;
        let first = "phone_number,external_id\n79030000001,a\n79030000002,b\n79030000003,c\n";
        assert_eq!(counts(&stage, first).await, (3, 0, 0));
        // 2 takes what 1 gives up, 1 takes what 3 gives up, and a new one takes what 2 gave up
        let then = "phone_number,external_id\n79030000001,x\n79030000002,a\n79030000003,\n79030000001,c\n79030000004,b\n";
        assert_eq!(counts(&stage, then).await, (1, 4, 0));
        let ids: Vec<_> = stage.all().await.into_iter().map(|c| c.external_id.map(|id| id.to_string())).collect();
        let expected = [Some("c"), Some("a"), None, Some("b")].map(|id| id.map(str::to_owned));
        assert_eq!(ids, expected);
    }
}

on_each_database! {
    async fn ten_thousand_rows_go_in_by_chunks_and_none_is_lost(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut csv = String::from("phone_number,tag,external_id,n\n");
        for n in 0..10_000 {
            // every tenth number is invalid, and every seventh repeats the previous one
            let number = if n % 10 == 9 { 0 } else { 79_030_000_000_u64 + n - u64::from(n % 7 == 6) };
            csv.push_str(&format!("{number},t{},,{n}\n", n % 3));
        }
        let size = u64::try_from(csv.len()).unwrap();
        let seen = Mutex::new(Vec::new());
        let source = std::io::Cursor::new(csv.into_bytes());
        let note = |progress| seen.lock().unwrap().push(progress);
        let report = road::import(&stage.db, &stage.clock, source, ImportOptions::default(), note).await.unwrap();
        assert_eq!(report.created + report.updated + report.rejected_count, 10_000);
        assert_eq!(report.rejected_count, 1_000);
        let clients = stage.all().await;
        assert_eq!(u64::try_from(clients.len()).unwrap(), report.created);
        assert!(clients.is_sorted_by_key(|c| c.phone_number), "ids follow the file");
        let seen = seen.into_inner().unwrap();
        assert!(seen.len() > 5 && seen.is_sorted_by_key(|p: &FileProgress| p.bytes), "{seen:?}");
        let all = FileProgress {
            bytes: size,
            rows: 10_000,
            line: 10_001,
            created: report.created,
            updated: report.updated,
            rejected: report.rejected_count,
        };
        assert_eq!(seen.last(), Some(&all));
    }
}

on_each_database! {
    async fn imports_of_the_same_people_at_once_end_with_each_of_them_once(kind: Database) {
        let stage = Stage::new(kind).await;
        let file = |numbers: Vec<u64>, tag: &str| {
            let rows: String = numbers.iter().map(|n| format!("{},{tag},x{n}\n", 79_030_000_000 + n)).collect();
            format!("phone_number,tag,external_id\n{rows}")
        };
        let up = file((0..3000).collect(), "up");
        let down = file((0..3000).rev().collect(), "down");
        let (up, down) = tokio::join!(import(&stage, up), import(&stage, down));
        let (up, down) = (up.unwrap(), down.unwrap());
        assert_eq!(up.created + down.created, 3000);
        assert_eq!(up.updated + down.updated, 3000);
        assert_eq!(stage.all().await.len(), 3000);
    }
}
