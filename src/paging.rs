//! Keyset pagination: `?limit=&cursor=` in the request, `{"items", "next_cursor"}` in the response.

use std::io;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};

/// The default number of items of a page.
pub const DEFAULT_LIMIT: u32 = 50;
/// The largest number of items of a page.
pub const LARGEST_LIMIT: u32 = 1000;
/// The largest size of a page in bytes of JSON. A page with a single item may be larger.
pub const LARGEST_PAGE: usize = 4 * 1024 * 1024;
/// The number of items in the first read, before their size is known.
const FIRST_PART: usize = 8;

/// One page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Converts the items of the page.
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(show).collect(), next_cursor: self.next_cursor }
    }

    /// Returns the views of the items.
    pub fn view<'p, V: From<&'p T>>(&'p self) -> Page<V> {
        Page { items: self.items.iter().map(V::from).collect(), next_cursor: self.next_cursor.clone() }
    }
}

/// An item of a page.
pub trait PageItem {
    /// Returns its size in the response, in bytes of JSON.
    fn length(&self) -> usize;
}

impl<T: Serialize> PageItem for T {
    fn length(&self) -> usize {
        json_length(self)
    }
}

/// Truncates a page to `limit` items; the caller reads one item more, if there is one. Returns the cursor of the last
/// item if another page follows.
pub fn cut<T, K>(items: &mut Vec<T>, limit: i64, cursor: impl FnOnce(&T) -> K) -> Option<K> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| is_more).map(cursor)
}

/// Reads a page of at most `limit` items and [`LARGEST_PAGE`] bytes of JSON, but at least one item. It reads a part at
/// a time, so that its memory is bounded as well. `read` returns a number of items after a cursor. Returns the items,
/// and the cursor of the last item if more follow.
///
/// # Errors
/// Those of `read`.
pub fn page_of<T: PageItem, K>(
    limit: i64,
    first: Option<K>,
    read: impl FnMut(Option<&K>, i64) -> Result<Vec<T>>,
    cursor: impl Fn(&T) -> K,
) -> Result<(Vec<T>, Option<K>)> {
    page_of_views(limit, first, read, cursor, |item| item)
}

/// Does the same as [`page_of`], and returns the items in the form of `show`, whose JSON is limited.
///
/// # Errors
/// Those of `read`.
pub fn page_of_views<T, V: PageItem, K>(
    limit: i64,
    first: Option<K>,
    mut read: impl FnMut(Option<&K>, i64) -> Result<Vec<T>>,
    cursor: impl Fn(&T) -> K,
    show: impl Fn(T) -> V,
) -> Result<(Vec<V>, Option<K>)> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let (mut items, mut bytes, mut after) = (Vec::new(), 0, first);
    while items.len() < limit {
        // an estimate of the items that fit, from the average size of the items so far
        let likely = match items.len() {
            0 => FIRST_PART,
            read => (LARGEST_PAGE - bytes) / (bytes / read).max(1),
        };
        let wanted = likely.clamp(1, limit - items.len());
        let mut part = read(after.as_ref(), i64::try_from(wanted).unwrap_or(i64::MAX).saturating_add(1))?;
        let is_more = part.len() > wanted;
        part.truncate(wanted);
        for item in part {
            let key = cursor(&item);
            let view = show(item);
            bytes += view.length();
            if bytes > LARGEST_PAGE && !items.is_empty() {
                return Ok((items, after));
            }
            after = Some(key);
            items.push(view);
        }
        if !is_more {
            return Ok((items, None));
        }
        if bytes >= LARGEST_PAGE {
            break;
        }
    }
    Ok((items, after))
}

/// Returns the size of a value in bytes of JSON.
pub fn json_length(value: &impl Serialize) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // a value that cannot be serialized fails when the response is written
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

/// Parses the parameter `limit`.
///
/// # Errors
/// [`Error::Invalid`] outside 1 to 1000.
pub fn limit(asked: Option<&str>) -> Result<i64> {
    // parsed here and not by the query's deserializer, whose error would not name the parameter
    let Some(text) = asked else { return Ok(i64::from(DEFAULT_LIMIT)) };
    match text.parse::<u32>() {
        Ok(n @ 1..=LARGEST_LIMIT) => Ok(i64::from(n)),
        _ => Err(Error::invalid("limit", format!("must be a whole number from 1 to {LARGEST_LIMIT}"))),
    }
}

/// Parses the parameter `cursor`.
///
/// # Errors
/// [`Error::Invalid`] for a text that is not a cursor.
pub fn cursor<T: FromStr>(asked: Option<&str>) -> Result<Option<T>> {
    asked
        .map(|text| text.parse().map_err(|_| Error::invalid("cursor", "is not a cursor of this list")))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a page of a list of texts of these lengths, and the largest number of bytes in one read.
    fn page(lengths: &[usize], limit: i64, first: Option<usize>) -> (Vec<usize>, Option<usize>, usize) {
        let mut most = 0;
        let read = |after: Option<&usize>, count: i64| {
            let from = after.map_or(0, |after| after + 1);
            let items = lengths.iter().enumerate().skip(from).take(count as usize);
            let items: Vec<(usize, String)> = items.map(|(at, length)| (at, "x".repeat(*length))).collect();
            most = most.max(items.iter().map(|(_, text)| text.len()).sum());
            Ok(items)
        };
        let (items, next) = page_of(limit, first, read, |(at, _)| *at).unwrap();
        (items.into_iter().map(|(at, _)| at).collect(), next, most)
    }

    #[test]
    fn a_page_has_so_many_bytes_and_at_least_one_item() {
        let mib = 1024 * 1024;
        assert_eq!(page(&[mib; 600], 1000, None), ((0..3).collect(), Some(2), 9 * mib));
        assert_eq!(page(&[6 * mib, 10], 1000, None).0, [0]);
        assert_eq!(page(&[6 * mib, 10], 1000, Some(0)), (vec![1], None, 10));
        assert_eq!(page(&[10; 1000], 1000, None).1, None);
        assert_eq!(page(&[10; 1001], 1000, None).1, Some(999));
        assert_eq!(page(&[], 10, None), (vec![], None, 0));
    }

    proptest! {
        // each case writes many MiB
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_pages_of_a_list_are_the_list(
            lengths in prop::collection::vec(prop_oneof![0..100_usize, 100_000..3_000_000_usize], 0..40),
            limit in 1..30_i64,
        ) {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let (items, next, _) = page(&lengths, limit, after);
                prop_assert!(items.len() <= limit as usize);
                let bytes: usize = items.iter().map(|at| lengths[*at]).sum();
                prop_assert!(items.len() == 1 || bytes <= LARGEST_PAGE);
                seen.extend(items);
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        }
    }
}
