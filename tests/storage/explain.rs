//! Query plans of both databases as text.

use diesel::QueryableByName;
use diesel::sql_types::Text;

/// A line of a PostgreSQL plan.
#[derive(QueryableByName)]
pub struct PostgresStep {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    text: String,
}

/// A line of a SQLite plan.
#[derive(QueryableByName)]
pub struct SqliteStep {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// Joins the lines of a PostgreSQL plan.
pub fn postgres_plan(steps: Vec<PostgresStep>) -> String {
    steps.into_iter().map(|step| step.text + "\n").collect()
}

/// Joins the lines of a SQLite plan.
pub fn sqlite_plan(steps: Vec<SqliteStep>) -> String {
    steps.into_iter().map(|step| step.detail + "\n").collect()
}

/// Removes the comments of a statement: the first line after EXPLAIN must not be a comment.
pub fn without_comments(sql: &str) -> String {
    sql.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}
