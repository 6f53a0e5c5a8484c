//! Invalid rows and files, and the committed rows of an import that stops.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::SimpleConnection;
use fanfare::clients::import::{self as road, ImportOptions, LISTED_REJECTIONS};
use fanfare::db::AnyConnection;
use fanfare::error::Error;

use super::{complaints, counts, import};
use crate::on_each_database;
use crate::storage::stage::Stage;

on_each_database! {
    async fn a_wrong_row_is_rejected_with_all_its_fields_and_the_rest_goes_on(kind: Database) {
        let stage = Stage::new(kind).await;
        let report = import(
            &stage,
            "phone_number,tag,email,timezone,name\n\
             79030000001,vip,a@example.com,,Anna\n\
             123,vip,not an address,Mars/Base,x\n\
             ,,,,\n\
             79030000002\n\
             79030000003,a,a@example.com,,x,y\n\
             79030000004,,,,Boris\n",
        ).await.unwrap();
        // a line of separators does not count as a row
        assert_eq!((report.created, report.rejected_count), (2, 3));
        let expected = [(3, "phone_number"), (3, "email"), (3, "timezone"), (5, "row"), (6, "row")];
        assert_eq!(complaints(&report), expected);
        assert!(report.rejected[3].reason.contains("has 1 cells"), "{:?}", report.rejected[3]);
    }
}

on_each_database! {
    async fn lines_are_those_of_the_file_whatever_ends_them(kind: Database) {
        let stage = Stage::new(kind).await;
        let unix = "phone_number,note\n\n\n1,first\n79030000001,\"two\nlines\"\n2,\"three\n\nlines\"\n\n3,last";
        let expected = [(4, "phone_number"), (7, "phone_number"), (11, "phone_number")];
        for csv in [unix.to_owned(), unix.replace('\n', "\r\n"), format!("\u{feff}{unix}\n\n")] {
            let report = import(&stage, csv.clone()).await.unwrap();
            assert_eq!(complaints(&report), expected, "{csv:?}");
            assert_eq!(report.created + report.updated, 1, "{csv:?}");
        }
        let anna = stage.by_number("79030000001").await;
        assert_eq!(serde_json::to_value(&anna.attributes).unwrap()["note"], "two\nlines");
    }
}

on_each_database! {
    async fn what_is_not_utf8_in_a_file_that_is_loses_its_cell(kind: Database) {
        let stage = Stage::new(kind).await;
        let mut csv = b"phone_number,name\n79030000001,\xc0\xed\xed\xe0\n".to_vec();
        csv.extend((2..20).flat_map(|n| format!("790300000{n:02},Анна\n").into_bytes()));
        let report = import(&stage, csv).await.unwrap();
        assert_eq!((report.created, report.rejected_count, report.warning_count), (19, 0, 1));
        assert_eq!((report.warnings[0].line, report.warnings[0].field.as_str()), (2, "name"));
        assert_eq!(report.assumed.encoding, "UTF-8");
    }
}

on_each_database! {
    async fn more_rejections_than_can_be_listed_are_counted(kind: Database) {
        let stage = Stage::new(kind).await;
        let csv = format!("phone_number\n{}79030000001\n", "1\n".repeat(2_500));
        let report = import(&stage, csv).await.unwrap();
        assert_eq!((report.created, report.rejected_count), (1, 2_500));
        assert_eq!(report.rejected.len(), LISTED_REJECTIONS);
        assert_eq!(complaints(&report).last(), Some(&(1_001, "phone_number")));
    }
}

on_each_database! {
    async fn a_first_line_that_names_no_columns_refuses_the_file(kind: Database) {
        let stage = Stage::new(kind).await;
        let many: String = (0..1009).map(|n| format!(",a{n}")).collect();
        for (header, wrong) in [
            ("", "phone_number"),
            ("tag;name", "phone_number"),
            ("tag,first name,created_at,", "phone_number"),
            (&format!("phone_number{many}"), "columns"),
            (&",".repeat(58), "phone_number"),
        ] {
            let stopped = import(&stage, format!("{header}\n79030000001,,,\n")).await.unwrap_err();
            let Error::Invalid(fields) = stopped.why else { panic!("{header}: {stopped:?}") };
            let fields: Vec<_> = fields.iter().map(|e| e.field.as_str()).collect();
            assert_eq!(fields, [wrong], "{header}");
        }
        assert!(matches!(import(&stage, "").await.unwrap_err().why, Error::Invalid(_)));
        assert_eq!(stage.all().await, []);
    }
}

/// A reader that counts the bytes that are read.
struct Counted<R>(R, Arc<AtomicUsize>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.fetch_add(count, Ordering::SeqCst);
        Ok(count)
    }
}

on_each_database! {
    async fn a_line_without_an_end_stops_the_import(kind: Database) {
        let stage = Stage::new(kind).await;
        let begin = Cursor::new("phone_number,name\n79030000001,Anna\n79030000002,\"Bor");
        let read = Arc::new(AtomicUsize::new(0));
        let endless = Counted(begin.chain(io::repeat(b'x')), Arc::clone(&read));
        let stopped = road::import(&stage.db, &stage.clock, endless, ImportOptions::default(), |_| ()).await.unwrap_err();
        assert!(read.load(Ordering::SeqCst) < 20_000_000, "{read:?}");
        let Error::Invalid(fields) = &stopped.why else { panic!("{stopped:?}") };
        assert_eq!(fields[0].field, "line 3");
        assert_eq!((stopped.report.created, stopped.line), (1, 2));
        assert!(stopped.to_string().contains("1 clients created"), "{stopped}");
        assert_eq!(stage.all().await.len(), 1);
    }
}

on_each_database! {
    async fn a_quote_that_is_never_closed_costs_its_own_row(kind: Database) {
        let stage = Stage::new(kind).await;
        for end in ["", "\n"] {
            let csv = format!("phone_number,name\n79030000001,Anna\n79030000002,\"Boris\n79030000003,Vera{end}");
            let report = import(&stage, csv).await.unwrap();
            assert_eq!((report.created + report.updated, complaints(&report)), (2, vec![(3, "row")]));
        }
        assert_eq!(counts(&stage, "phone_number,name\n79030000002,\"Bo\nris\"").await, (1, 0, 0));
        assert_eq!(stage.all().await.len(), 3);
    }
}

/// A reader that fails, like the end of a body that is cut off.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

on_each_database! {
    async fn what_came_before_a_broken_end_stays_and_half_a_row_is_no_row(kind: Database) {
        let stage = Stage::new(kind).await;
        let rows: String = (0..2_500).map(|n| format!("{}\n", 79_030_000_000_u64 + n)).collect();
        let source = Cursor::new(format!("phone_number\n{rows}7904000")).chain(Broken);
        let stopped = road::import(&stage.db, &stage.clock, source, ImportOptions::default(), |_| ()).await.unwrap_err();
        assert!(matches!(stopped.why, Error::Malformed(_)), "{stopped:?}");
        assert_eq!((stopped.report.created, stopped.report.rejected_count, stopped.line), (2_500, 0, 2_501));
        assert_eq!(stage.all().await.len(), 2_500);
    }
}

/// Makes the database fail as with a full disk when this number is stored.
async fn fill_the_disk_at(stage: &Stage, number: u64) {
    let sqlite = format!(
        "CREATE TRIGGER no_room BEFORE INSERT ON client WHEN NEW.phone_number = {number} \
         BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    );
    let function = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS \
                    $$ BEGIN RAISE EXCEPTION 'kein Platz' USING ERRCODE = '53100'; END $$";
    let trigger = format!(
        "CREATE TRIGGER no_room BEFORE INSERT ON client FOR EACH ROW WHEN (NEW.phone_number = {number}) \
         EXECUTE FUNCTION no_room()"
    );
    let made = stage.db.write(move |connection| match connection {
        AnyConnection::Sqlite(c) => Ok(c.batch_execute(&sqlite)?),
        AnyConnection::Postgres(c) => Ok(c.batch_execute(&format!("{function}; {trigger}"))?),
    });
    made.await.unwrap();
}

on_each_database! {
    async fn what_was_committed_before_the_database_failed_is_said_and_stays(kind: Database) {
        let stage = Stage::new(kind).await;
        fill_the_disk_at(&stage, 79_030_002_500).await;
        let rows: String = (0..20_000).map(|n| format!("{}\n", 79_030_000_000_u64 + n)).collect();
        let stopped = import(&stage, format!("phone_number\n{rows}")).await.unwrap_err();
        assert!(matches!(stopped.why, Error::Unavailable(_)), "{stopped:?}");
        assert_eq!(stopped.line, 2_001);
        let stored = stage.all().await;
        assert_eq!(u64::try_from(stored.len()).unwrap(), stopped.report.created);
        assert!((2_000..19_000).contains(&stored.len()), "{}", stored.len());
    }
}
