//! Keyset paging: `?limit=&cursor=` in, `{"items", "next_cursor"}` out.

use std::io;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};

/// How many items a list answers when nothing is said.
pub const DEFAULT_LIMIT: u32 = 50;
/// How many it answers at most.
pub const LARGEST_LIMIT: u32 = 1000;
/// Bytes of JSON that a page has at most, unless it has one item alone.
pub const LARGEST_PAGE: usize = 4 * 1024 * 1024;
/// Items that are read before their size is known.
const FIRST_PART: usize = 8;

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

/// Reads a page of at most `limit` items and [`LARGEST_PAGE`] bytes of JSON, a part at a time, so that the memory for it is
/// bounded as well; at least one item, however large. `read` returns so many items after a cursor. Returns the items, and
/// the cursor of the last if more follow.
///
/// # Errors
/// Those of `read`.
pub fn page_of<T: Serialize, K>(
    limit: i64,
    first: Option<K>,
    mut read: impl FnMut(Option<&K>, i64) -> Result<Vec<T>>,
    cursor: impl Fn(&T) -> K,
) -> Result<(Vec<T>, Option<K>)> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let (mut items, mut bytes, mut after) = (Vec::new(), 0, first);
    while items.len() < limit {
        // as many as the page has room for, if they are like those before
        let likely = match items.len() {
            0 => FIRST_PART,
            read => (LARGEST_PAGE - bytes) / (bytes / read).max(1),
        };
        let wanted = likely.clamp(1, limit - items.len());
        let mut part = read(after.as_ref(), i64::try_from(wanted).unwrap_or(i64::MAX).saturating_add(1))?;
        let is_more = part.len() > wanted;
        part.truncate(wanted);
        for item in part {
            bytes += json_length(&item);
            if bytes > LARGEST_PAGE && !items.is_empty() {
                return Ok((items, after));
            }
            after = Some(cursor(&item));
            items.push(item);
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

/// Bytes of a value as JSON.
fn json_length(value: &impl Serialize) -> usize {
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
    // what cannot be written as JSON is found out when it is answered
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page of a list of texts of these lengths, and how many items were read for it at most at once.
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
        // each writes many MiB
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
