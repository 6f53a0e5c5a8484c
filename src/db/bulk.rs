//! Statements for many rows that are prepared once for a connection and found again by their type, as diesel's own are
//! not: to parse and plan one, or only to compose its text, costs as much as to write some rows.
//!
//! PostgreSQL takes all rows in one statement ([`Bulk`]): diesel's `VALUES` lists have another text for each number of
//! rows, and `sql_query` is never kept. SQLite, which is a library, takes them one by one ([`Insertion`]): diesel composes
//! the text of an insertion for each row to find the prepared one by it.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::RunQueryDsl;
use diesel::result::Error;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;
use diesel::sqlite::Sqlite;
use diesel::{PgConnection, QueryResult, SqliteConnection};

/// Rows written by one statement at most: PostgreSQL takes 65535 parameters.
pub(crate) const ROWS_AT_ONCE: usize = 1000;

/// Inserts rows: in bulk where each statement is a round trip, one by one on SQLite, where diesel has no bulk insert for
/// a connection that may be either. Rows with `treat_none_as_default_value = false` have one statement, prepared once.
macro_rules! insert_rows {
    ($c:expr, $table:expr, $rows:expr) => {
        match $c {
            $crate::db::AnyConnection::Postgres(c) => {
                for rows in $rows.chunks($crate::db::bulk::ROWS_AT_ONCE) {
                    diesel::insert_into($table).values(rows).execute(c)?;
                }
                Ok(())
            }
            $crate::db::AnyConnection::Sqlite(c) => {
                for row in $rows.iter() {
                    diesel::insert_into($table).values(row).execute(c)?;
                }
                Ok(())
            }
        }
    };
}
pub(crate) use insert_rows;

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

/// How a row is written into SQLite.
pub trait Insert: 'static {
    /// The statement as far as its values.
    const HEAD: &'static str;
    /// What follows them.
    const TAIL: &'static str = ")";
    /// A row.
    type Row;

    /// Binds a row's values, in the order of the statement's columns.
    ///
    /// # Errors
    /// Those of diesel.
    fn bind<'r>(row: &'r Self::Row, values: &mut Values<'_, 'r>) -> QueryResult<()>;
}

/// The insertion of a row into SQLite.
pub struct Insertion<'r, S: Insert>(&'r S::Row);

impl<'r, S: Insert> Insertion<'r, S> {
    /// Of this row.
    pub fn of(_: S, row: &'r S::Row) -> Self {
        Self(row)
    }
}

impl<S: Insert> QueryId for Insertion<'_, S> {
    type QueryId = Insertion<'static, S>;
}

impl<S: Insert> RunQueryDsl<SqliteConnection> for Insertion<'_, S> {}

impl<S: Insert> QueryFragment<Sqlite> for Insertion<'_, S> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(S::HEAD);
        let mut values = Values { out: out.reborrow(), between: "" };
        S::bind(self.0, &mut values)?;
        out.push_sql(S::TAIL);
        Ok(())
    }
}

/// The insertion of several rows into SQLite by one statement, which opens the table's indexes once for all of them. With
/// `INSERT OR FAIL` those before a row that is refused are inserted all the same.
pub struct Insertions<'r, S: Insert, const N: usize>(&'r [S::Row; N]);

impl<'r, S: Insert, const N: usize> Insertions<'r, S, N> {
    /// Inserts these rows.
    pub fn of(_: S, rows: &'r [S::Row; N]) -> Self {
        Self(rows)
    }
}

impl<S: Insert, const N: usize> QueryId for Insertions<'_, S, N> {
    type QueryId = Insertions<'static, S, N>;
}

impl<S: Insert, const N: usize> RunQueryDsl<SqliteConnection> for Insertions<'_, S, N> {}

impl<S: Insert, const N: usize> QueryFragment<Sqlite> for Insertions<'_, S, N> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(S::HEAD);
        for (at, row) in self.0.iter().enumerate() {
            if at > 0 {
                out.push_sql("), (");
            }
            S::bind(row, &mut Values { out: out.reborrow(), between: "" })?;
        }
        out.push_sql(S::TAIL);
        Ok(())
    }
}

/// Takes the values of a row.
pub struct Values<'a, 'r> {
    out: AstPass<'a, 'r, Sqlite>,
    between: &'static str,
}

impl<'r> Values<'_, 'r> {
    /// The next value.
    ///
    /// # Errors
    /// Those of diesel.
    pub fn bind<T, U>(&mut self, value: &'r U) -> QueryResult<()>
    where
        Sqlite: HasSqlType<T>,
        U: ToSql<T, Sqlite> + ?Sized,
    {
        self.bind_within::<T, U>("", value, "")
    }

    /// The next values, of one type.
    ///
    /// # Errors
    /// Those of diesel.
    pub fn bind_all<T, U, const N: usize>(&mut self, values: [&'r U; N]) -> QueryResult<()>
    where
        Sqlite: HasSqlType<T>,
        U: ToSql<T, Sqlite>,
    {
        values.into_iter().try_for_each(|value| self.bind::<T, U>(value))
    }

    /// The next value, within an expression.
    ///
    /// # Errors
    /// Those of diesel.
    pub fn bind_within<T, U>(&mut self, before: &str, value: &'r U, after: &str) -> QueryResult<()>
    where
        Sqlite: HasSqlType<T>,
        U: ToSql<T, Sqlite> + ?Sized,
    {
        self.out.push_sql(self.between);
        self.between = ", ";
        self.out.push_sql(before);
        self.out.push_bind_param::<T, U>(value)?;
        self.out.push_sql(after);
        Ok(())
    }
}
