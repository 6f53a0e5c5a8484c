//! What the databases answer to EXPLAIN, as text.

use diesel::QueryableByName;
use diesel::sql_types::Text;

/// A line of PostgreSQL's plan.
#[derive(QueryableByName)]
pub struct PostgresStep {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    text: String,
}

/// A line of SQLite's plan.
#[derive(QueryableByName)]
pub struct SqliteStep {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// A plan, line by line.
pub fn postgres_plan(steps: Vec<PostgresStep>) -> String {
    steps.into_iter().map(|step| step.text + "\n").collect()
}

/// A plan, line by line.
pub fn sqlite_plan(steps: Vec<SqliteStep>) -> String {
    steps.into_iter().map(|step| step.detail + "\n").collect()
}

/// A statement of a file: behind EXPLAIN its first line must not be a comment.
pub fn without_comments(sql: &str) -> String {
    sql.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}
