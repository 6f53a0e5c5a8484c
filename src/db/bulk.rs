//! Statements for many rows. They are prepared once per connection and cached by their type, which diesel's own
//! statements are not: parsing and planning a statement, or only composing its text, takes as long as writing some
//! rows.
//!
//! On PostgreSQL, one statement writes all rows ([`Bulk`]): diesel's `VALUES` lists have a different text for each
//! number of rows, and `sql_query` is never cached. On SQLite, which is a library, rows are written one by one
//! ([`Insertion`]): diesel would compose the text of each row's insertion as its cache key.

use std::borrow::Borrow;
use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::RunQueryDsl;
use diesel::result::Error;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;
use diesel::sqlite::Sqlite;
use diesel::{PgConnection, QueryResult, SqliteConnection};

/// The greatest number of rows in one statement: PostgreSQL allows 65535 parameters.
pub(crate) const ROWS_AT_ONCE: usize = 1000;

/// Inserts rows: in bulk on PostgreSQL, where each statement is a round trip, and one by one on SQLite, where diesel
/// has no bulk insert for an [`AnyConnection`](crate::db::AnyConnection). Rows with `treat_none_as_default_value =
/// false` have one statement, which is prepared once.
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

/// Defines the row of a table and the statement that inserts it on both databases, from one list of columns.
///
/// `insert NAME "CONFLICT" returning COLUMN: TYPE` generates `NAME::insert`, which returns this column of the inserted
/// rows; without `returning`, it returns their number. `CONFLICT` is the statement's `ON CONFLICT` clause, or empty.
macro_rules! table_row {
    (
        $(#[$meta:meta])*
        $vis:vis struct $row:ident in $table:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty $(as $around:ident)?,)+
        }
        insert $insert_vis:vis $name:ident $($rest:tt)+
    ) => {
        $(#[$meta])*
        $vis struct $row { $($(#[$field_meta])* $field_vis $field: $type,)+ }

        $crate::db::bulk::bulk_insert! {
            $insert_vis $name: $row in $table ($($field $(as $around)?),+) $($rest)+
        }
    };
}
pub(crate) use table_row;

/// Defines the statement that inserts some columns of a row on both databases; see [`table_row`]. On SQLite the first
/// column may be wrapped in an expression: `as AROUND` names a constant with its two halves. `only sqlite "INSERT OR
/// …"` omits PostgreSQL.
macro_rules! bulk_insert {
    (
        $vis:vis $name:ident: $row:ident in $table:ident ($first:ident $(as $around:ident)?, $($column:ident),+ $(,)?)
        only sqlite $insert:literal
    ) => {
        $vis struct $name;

        $crate::db::bulk::bulk_insert! { @sqlite $name: $row, $table, $insert, "", ($first $(as $around)?, $($column),+) }
    };
    (
        $vis:vis $name:ident: $row:ident in $table:ident ($first:ident $(as $around:ident)?, $($column:ident),+ $(,)?) $conflict:literal
        $(returning $key:ident: $id:ty)?
    ) => {
        $vis struct $name;

        impl $crate::db::bulk::Statement for $name {
            const TEXT: &'static str = concat!(
                "INSERT INTO ", stringify!($table), " (", stringify!($first), $(", ", stringify!($column),)+
                ") SELECT * FROM unnest($columns) ", $conflict, $(" RETURNING ", stringify!($key))?
            );
            type Row = $crate::db::bulk::bulk_insert!(@sql_type $table $($key)?);
        }

        $crate::db::bulk::bulk_insert! {
            @sqlite $name: $row, $table, "INSERT", $conflict, ($first $(as $around)?, $($column),+)
        }

        impl $name {
            /// Inserts rows: on PostgreSQL by one statement, on SQLite one by one, since there is no round trip to
            /// save.
            $vis fn insert<R: std::borrow::Borrow<$row>>(
                c: &mut $crate::db::AnyConnection,
                rows: &[R],
            ) -> diesel::QueryResult<$crate::db::bulk::bulk_insert!(@result $($id)?)> {
                use $crate::db::element::Element as _;
                use diesel::IntoSql as _;
                use diesel::RunQueryDsl as _;
                match c {
                    $crate::db::AnyConnection::Postgres(_) if rows.is_empty() => Ok(Default::default()),
                    $crate::db::AnyConnection::Postgres(c) => {
                        let columns = (
                            $crate::db::bulk::column(rows, |row: &$row| row.$first.element())
                                .into_sql::<diesel::sql_types::Array<
                                    diesel::dsl::SqlTypeOf<$crate::db::schema::$table::$first>,
                                >>(),
                            $($crate::db::bulk::column(rows, |row: &$row| row.$column.element())
                                .into_sql::<diesel::sql_types::Array<
                                    diesel::dsl::SqlTypeOf<$crate::db::schema::$table::$column>,
                                >>(),)+
                        );
                        let statement = $crate::db::bulk::Bulk::of($name, columns);
                        $crate::db::bulk::bulk_insert!(@run statement, c $(, $id)?)
                    }
                    $crate::db::AnyConnection::Sqlite(c) => {
                        let mut inserted = <$crate::db::bulk::bulk_insert!(@result $($id)?)>::default();
                        for row in rows {
                            let row: &$row = row.borrow();
                            let count = $crate::db::bulk::Insertion::of($name, row).execute(c)?;
                            $crate::db::bulk::bulk_insert!(@add inserted, count $(, row.$key)?);
                        }
                        Ok(inserted)
                    }
                }
            }
        }
    };
    (
        @sqlite $name:ident: $row:ident, $table:ident, $insert:literal, $conflict:literal,
        ($first:ident $(as $around:ident)?, $($column:ident),+)
    ) => {
        impl $crate::db::bulk::Insert for $name {
            const HEAD: &'static str = concat!(
                $insert, " INTO ", stringify!($table), " (", stringify!($first), $(", ", stringify!($column),)+ ") VALUES ("
            );
            const TAIL: &'static str = concat!(") ", $conflict);
            type Row = $row;

            fn bind<'r>(row: &'r $row, values: &mut $crate::db::bulk::Values<'_, 'r>) -> diesel::QueryResult<()> {
                let around: [&str; 2] = $crate::db::bulk::bulk_insert!(@around $($around)?);
                values.bind_within::<diesel::dsl::SqlTypeOf<$crate::db::schema::$table::$first>, _>(
                    around[0], &row.$first, around[1],
                )?;
                $(values.bind::<diesel::dsl::SqlTypeOf<$crate::db::schema::$table::$column>, _>(&row.$column)?;)+
                Ok(())
            }
        }
    };
    (@sql_type $table:ident) => { () };
    (@sql_type $table:ident $key:ident) => { diesel::dsl::SqlTypeOf<$crate::db::schema::$table::$key> };
    (@around) => { ["", ""] };
    (@around $around:ident) => { $around };
    (@result) => { usize };
    (@result $id:ty) => { Vec<$id> };
    (@run $statement:ident, $c:ident) => { $statement.execute($c) };
    (@run $statement:ident, $c:ident, $id:ty) => { $statement.load::<$id>($c) };
    (@add $inserted:ident, $count:ident) => { $inserted += $count };
    (@add $inserted:ident, $count:ident, $key:expr) => { $inserted.extend(($count > 0).then(|| $key.clone())) };
}
pub(crate) use bulk_insert;

/// Returns the values of one column.
pub(crate) fn column<'r, T: 'r, R: Borrow<T>, E>(rows: &'r [R], value: impl Fn(&'r T) -> E) -> Vec<E> {
    rows.iter().map(|row| value(row.borrow())).collect()
}

/// The placeholder of the columns in a statement's text; the columns are bound as arrays.
const COLUMNS: &str = "$columns";

/// A statement that unnests columns.
pub trait Statement: 'static {
    /// The text, with `unnest($columns)`.
    const TEXT: &'static str;
    /// The SQL type of a returned row.
    type Row;
}

/// A statement with its columns: a tuple of bound arrays.
pub struct Bulk<S, C> {
    columns: C,
    statement: PhantomData<S>,
}

impl<S: Statement, C> Bulk<S, C> {
    /// Creates the statement with these columns.
    pub fn of(_: S, columns: C) -> Self {
        Self { columns, statement: PhantomData }
    }
}

impl<S: Statement, C> QueryId for Bulk<S, C> {
    // a statement's columns always have the same types
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
            around.ok_or_else(|| Error::QueryBuilderError("a bulk statement has no columns".into()))?;
        out.push_sql(before);
        self.columns.walk_ast(out.reborrow())?;
        out.push_sql(after);
        Ok(())
    }
}

/// An insertion into SQLite.
pub trait Insert: 'static {
    /// The statement's text up to its values.
    const HEAD: &'static str;
    /// The text after the values.
    const TAIL: &'static str = ")";
    /// A row.
    type Row;

    /// Binds a row's values, in the order of the statement's columns.
    ///
    /// # Errors
    /// Errors of diesel.
    fn bind<'r>(row: &'r Self::Row, values: &mut Values<'_, 'r>) -> QueryResult<()>;
}

/// The insertion of a row into SQLite.
pub struct Insertion<'r, S: Insert>(&'r S::Row);

impl<'r, S: Insert> Insertion<'r, S> {
    /// Inserts this row.
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

/// The insertion of several rows into SQLite by one statement, which opens the table's indexes once for all of them.
/// With `INSERT OR FAIL`, the rows before a refused row are still inserted.
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

/// Receives the values of a row.
pub struct Values<'a, 'r> {
    out: AstPass<'a, 'r, Sqlite>,
    between: &'static str,
}

impl<'r> Values<'_, 'r> {
    /// Binds the next value.
    ///
    /// # Errors
    /// Errors of diesel.
    pub fn bind<T, U>(&mut self, value: &'r U) -> QueryResult<()>
    where
        Sqlite: HasSqlType<T>,
        U: ToSql<T, Sqlite> + ?Sized,
    {
        self.bind_within::<T, U>("", value, "")
    }

    /// Binds the next value within an expression.
    ///
    /// # Errors
    /// Errors of diesel.
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
