//! The two schemas: the same tables and columns, created and dropped by migrations of the same names.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use fanfare::db::{AnyConnection, Db, migrations};

use crate::on_each_database;
use crate::storage::stage::Stage;
use crate::support::Database;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Bool)]
    nullable: bool,
}

#[derive(Debug, QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

const POSTGRES_COLUMNS: &str = "SELECT table_name::text, column_name::text, is_nullable = 'YES' AS nullable \
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_diesel%'";
const SQLITE_COLUMNS: &str = "SELECT t.name AS table_name, c.name AS column_name, c.\"notnull\" = 0 AS nullable \
    FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE '\\_\\_diesel%' ESCAPE '\\'";
/// The indexes that the migrations name; the database names the index of a constraint.
const POSTGRES_INDEXES: &str = "SELECT indexname::text AS name FROM pg_indexes WHERE schemaname = 'public' \
    AND indexname NOT IN (SELECT conname FROM pg_constraint)";
const SQLITE_INDEXES: &str = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";

async fn columns(db: &Db) -> BTreeSet<Column> {
    let rows: Vec<Column> = db
        .read(|connection| {
            Ok(match connection {
                AnyConnection::Postgres(c) => diesel::sql_query(POSTGRES_COLUMNS).load(c)?,
                AnyConnection::Sqlite(c) => diesel::sql_query(SQLITE_COLUMNS).load(c)?,
            })
        })
        .await
        .unwrap();
    rows.into_iter().collect()
}

async fn indexes(db: &Db) -> BTreeSet<String> {
    let rows: Vec<Name> = db
        .read(|connection| {
            Ok(match connection {
                AnyConnection::Postgres(c) => diesel::sql_query(POSTGRES_INDEXES).load(c)?,
                AnyConnection::Sqlite(c) => diesel::sql_query(SQLITE_INDEXES).load(c)?,
            })
        })
        .await
        .unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_tables_columns_and_indexes() {
    let (sqlite, postgres) = (Stage::new(Database::Sqlite).await, Stage::new(Database::Postgres).await);
    let seen = columns(&sqlite.db).await;
    assert!(seen.iter().any(|c| c.table_name == "client" && c.column_name == "tag" && c.nullable));
    assert_eq!(seen, columns(&postgres.db).await);
    let seen = indexes(&sqlite.db).await;
    assert!(seen.contains("client_by_tag"));
    assert_eq!(seen, indexes(&postgres.db).await);
}

#[test]
fn both_databases_have_migrations_of_the_same_names_with_a_way_back() {
    let names = |database: &str| -> BTreeSet<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let names = entries.map(|entry| {
            for file in ["up.sql", "down.sql"] {
                let text = std::fs::read_to_string(entry.path().join(file)).unwrap();
                assert!(!text.trim().is_empty(), "{:?} {file}", entry.path());
            }
            entry.file_name().into_string().unwrap()
        });
        names.collect()
    };
    assert!(!names("sqlite").is_empty());
    assert_eq!(names("sqlite"), names("postgres"));
}

on_each_database! {
    async fn migrations_go_down_and_up_again(kind: Database) {
        let stage = Stage::new(kind).await;
        let (tables, named) = (columns(&stage.db).await, indexes(&stage.db).await);
        stage.db.read(migrations::revert_all).await.unwrap();
        assert_eq!(columns(&stage.db).await, BTreeSet::new());
        let done = stage.db.read(migrations::run).await.unwrap();
        assert!(!done.is_empty());
        assert_eq!((columns(&stage.db).await, indexes(&stage.db).await), (tables, named));
        assert_eq!(stage.db.read(migrations::run).await.unwrap(), Vec::<String>::new());
    }
}

on_each_database! {
    async fn a_schema_that_is_newer_than_the_binary_is_refused_and_both_are_named(kind: Database) {
        let database = crate::support::TestDb::new(kind);
        let open = || {
            let options = fanfare::db::DbOptions::new(database.url.clone());
            tokio::task::spawn_blocking(|| Db::open(options))
        };
        let db = open().await.unwrap().unwrap();
        let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')";
        db.write(move |c| Ok(diesel::sql_query(newer).execute(c).map(drop)?)).await.unwrap();
        drop(db);
        let Err(error) = open().await.unwrap() else { panic!("it was opened") };
        let said = error.to_string();
        let newest = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .max().unwrap();
        let version: String = newest.split('_').next().unwrap().chars().filter(char::is_ascii_digit).collect();
        assert!(said.contains("20991231000000") && said.contains(&version), "{said}");
    }
}
