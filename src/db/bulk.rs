//! Many rows in one statement on PostgreSQL, whose text never changes: it is parsed and planned once for a connection,
//! which for the few rows of a group costs more than to write them. diesel's own `VALUES` lists have another text for
//! each number of rows, and `sql_query` is never kept.

use std::marker::PhantomData;

use diesel::PgConnection;
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::RunQueryDsl;
use diesel::result::Error;

/// Stands in a statement's text where the columns are, as arrays.
const COLUMNS: &str = "$columns";

/// A statement that unnests columns.
pub trait Statement: 'static {
    /// Its text, with `unnest($columns)`.
    const TEXT: &'static str;
    /// What it returns.
    type Row;
}

/// A statement with its columns: a tuple of bound arrays.
pub struct Bulk<S, C> {
    columns: C,
    statement: PhantomData<S>,
}

impl<S: Statement, C> Bulk<S, C> {
    /// The statement with these columns.
    pub fn of(_: S, columns: C) -> Self {
        Self { columns, statement: PhantomData }
    }
}

impl<S: Statement, C> QueryId for Bulk<S, C> {
    // the columns' types are always the same for one statement
    type QueryId = Bulk<S, ()>;
}

impl<S: Statement, C> Query for Bulk<S, C> {
    type SqlType = S::Row;
}

impl<S, C> RunQueryDsl<PgConnection> for Bulk<S, C> {}

impl<S: Statement, C: QueryFragment<Pg>> QueryFragment<Pg> for Bulk<S, C> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let around = S::TEXT.split_once(COLUMNS);
        let (before, after) =
            around.ok_or_else(|| Error::QueryBuilderError("a bulk statement names no columns".into()))?;
        out.push_sql(before);
        self.columns.walk_ast(out.reborrow())?;
        out.push_sql(after);
        Ok(())
    }
}
