//! Keyset paging: `?limit=&cursor=` in, `{"items", "next_cursor"}` out.

use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};

/// How many items a list answers when nothing is said.
pub const DEFAULT_LIMIT: u32 = 50;
/// How many it answers at most.
pub const LARGEST_LIMIT: u32 = 1000;

/// One page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Hand this back as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The same page with its items shown otherwise.
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(show).collect(), next_cursor: self.next_cursor }
    }
}

/// Cuts a page to `limit` items, of which one more was read if there is one. Answers the cursor of the last, if another
/// page follows.
pub fn cut<T, K>(items: &mut Vec<T>, limit: i64, cursor: impl FnOnce(&T) -> K) -> Option<K> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| is_more).map(cursor)
}

/// The checked `limit`.
///
/// # Errors
/// [`Error::Invalid`] outside 1 to 1000.
pub fn limit(asked: Option<&str>) -> Result<i64> {
    // read here and not by the query's reader, which would not say which parameter is no number
    let Some(text) = asked else { return Ok(i64::from(DEFAULT_LIMIT)) };
    match text.parse::<u32>() {
        Ok(n @ 1..=LARGEST_LIMIT) => Ok(i64::from(n)),
        _ => Err(Error::invalid("limit", format!("must be a whole number from 1 to {LARGEST_LIMIT}"))),
    }
}

/// The checked `cursor`.
///
/// # Errors
/// [`Error::Invalid`] for one that no list answered.
pub fn cursor<T: FromStr>(asked: Option<&str>) -> Result<Option<T>> {
    asked
        .map(|text| text.parse().map_err(|_| Error::invalid("cursor", "is not one that this list answered")))
        .transpose()
}
