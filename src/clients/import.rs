//! The import of clients from CSV: millions of rows in the memory of a few thousand. An upload and the command line
//! share it.
//!
//! A thread reads and validates rows and groups them into chunks; each chunk is one unit of work for the database. Only
//! a few chunks wait between the two, so that a slow database slows the reader, and through it the sender.
//!
//! From bytes to rows: [`decode`] detects the encoding, [`header`] the separator and the header line, [`split`] splits
//! records into cells, and [`columns`] maps columns to fields. Everything is detected unless the sender specifies it,
//! and the report lists the result. A column that is not a field of a client is an attribute with text values.
//!
//! Rows are applied in the order of the file, as if each were imported alone:
//!
//! - A row whose key (the phone number by default) is known, from the database or from an earlier row, updates that
//!   client. A column overwrites its field, an empty cell clears it (an attribute is removed), and a field without a
//!   column stays. An empty operator code counts as absent: it is derived from the number.
//! - An invalid cell is skipped with a warning. A row that cannot be used, because its key is invalid or its quotes do
//!   not match, is rejected with its line and all its invalid fields, and the import continues.
//! - A row with an external id of another client is rejected.

mod cells;
mod chunk;
pub mod cli;
mod columns;
mod committed;
mod decode;
mod encoding;
mod fresh;
mod header;
mod importer;
mod lenient;
mod merge;
mod names;
mod options;
mod progress;
mod reader;
mod records;
mod report;
mod row;
mod run;
mod split;
mod store;

pub use self::columns::MOST_ATTRIBUTES;
pub use self::encoding::labelled;
pub use self::options::{ImportOptions, Mapping, MatchBy};
pub use self::progress::{FileProgress, Stopped};
pub use self::report::{
    Assumed, ImportReport, LISTED_REJECTIONS, MappedColumn, PreviewRow, Rejection, Warning,
};
pub use self::run::{import, import_file};
