//! The times of a recurring request: a cron expression in a time zone.
//!
//! `croner` parses the expressions and finds the matching wall-clock times. This module maps wall-clock times to
//! moments, since the crate behaves differently where clocks change: it skips the times of `30 * * * *` within a gap,
//! searches at most two hours for the end of a gap (Samoa once skipped a day), and runs `*/5 2 * * *` twice in a
//! repeated hour.
//!
//! - A time that does not exist becomes the first moment after the gap.
//! - A time that occurs twice becomes the first of the two moments. If the expression matches all hours, as
//!   `*/5 * * * *` and `0 * * * *` do, it becomes both: such an expression is an interval, which would otherwise pause
//!   for the repeated hour.
//!
//! Times that become the same moment are one occurrence.

#[cfg(test)]
mod tests;

use std::fmt;

use chrono::{LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

use crate::db::types::Timestamp;

/// The longest expression, in bytes.
pub const LONGEST: usize = 200;
/// A change of the clock longer than any so far (a day: Samoa, 2011), in minutes.
const LONGEST_CHANGE: i64 = 25 * 60;
const ALL_HOURS: usize = 24;
/// Nicknames and their expressions.
const WORDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 8] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"];
const DAY_OF_THE_WEEK: &str = "day of the week";
/// The fields: the name, the accepted values, and the accepted words.
const FIELDS: [(&str, &str, &[&str]); 5] = [
    ("minute", "0 to 59", &[]),
    ("hour", "0 to 23", &[]),
    (
        "day of the month",
        "1 to 31, L for the last day, or 15W for the working day closest to the 15th",
        &["L", "W", "LW"],
    ),
    ("month", "1 to 12 or JAN to DEC", &MONTHS),
    (
        DAY_OF_THE_WEEK,
        "0 to 7 or SUN to SAT (0 and 7 are Sunday), 5#2 for the second Friday, or 5L for the last Friday",
        &DAYS,
    ),
];
/// The first and the last number of each field.
const BOUNDS: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];

/// The times of a recurring request.
#[derive(Clone)]
pub struct Cron {
    text: String,
    pattern: croner::Cron,
    zone: Tz,
    is_every_hour: bool,
}

/// The first or the second moment of a wall-clock time that occurs twice.
#[derive(Clone, Copy)]
enum SearchPass {
    First,
    Second,
}

impl Cron {
    /// Parses five fields (minute, hour, day of the month, month, day of the week), or a nickname such as `@daily`.
    ///
    /// # Errors
    /// A message with the accepted values. A time that never occurs, such as the 30th of February, is refused too.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let cron = Self::from_stored(text, zone);
        check_fields(text)?;
        cron
    }

    /// Parses an expression that [`parse`](Self::parse) of this version or an earlier one accepted.
    ///
    /// # Errors
    /// If no version accepted it.
    pub fn from_stored(text: &str, zone: Tz) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("must be at most {LONGEST} characters"));
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let pattern = read(expression(&text)?)?;
        let is_every_hour = pattern.pattern.hours.values().len() == ALL_HOURS;
        let cron = Self { text, pattern, zone, is_every_hour };
        // the calendar repeats after 400 years, and the search ends with the year 5000
        let last = NaiveDate::from_ymd_opt(4590, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN);
        match cron.pattern.find_next_occurrence(&last, true) {
            Ok(_) => Ok(cron),
            Err(_) => Err("never occurs: its months have no such day".into()),
        }
    }

    /// Returns the expression as given, with normalized spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns its time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Returns the first occurrence after `at`; `None` after the year 5000.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let next = |pass: SearchPass| {
            let wall = self.first_wall(at, pass)?;
            let wall = self.pattern.find_next_occurrence(&wall, true).ok()?;
            self.moment(wall, pass)
        };
        let first = next(SearchPass::First);
        if self.is_every_hour { first.into_iter().chain(next(SearchPass::Second)).min() } else { first }
    }

    /// Returns the first minute of the wall clock whose moment is after `at`. Within one pass, a later minute of the
    /// wall clock never has an earlier moment, which allows a binary search.
    fn first_wall(&self, at: Timestamp, pass: SearchPass) -> Option<NaiveDateTime> {
        let shown = at.datetime().with_timezone(&self.zone).naive_local();
        let shown = shown.with_second(0)?.with_nanosecond(0)?;
        let wall = |minutes: i64| shown.checked_add_signed(TimeDelta::minutes(minutes));
        let (mut before, mut after) = (-LONGEST_CHANGE, LONGEST_CHANGE);
        while after - before > 1 {
            let middle = i64::midpoint(before, after);
            if self.moment(wall(middle)?, pass)? > at {
                after = middle;
            } else {
                before = middle;
            }
        }
        wall(after)
    }

    /// Returns the moment at which the clock shows `wall`, or the first moment after the gap that contains it.
    fn moment(&self, wall: NaiveDateTime, pass: SearchPass) -> Option<Timestamp> {
        let found = (0..=LONGEST_CHANGE).find_map(|skipped| {
            let wall = wall.checked_add_signed(TimeDelta::minutes(skipped))?;
            match self.zone.from_local_datetime(&wall) {
                LocalResult::None => None,
                LocalResult::Single(at) => Some(at),
                both @ LocalResult::Ambiguous(..) => match pass {
                    SearchPass::First => both.earliest(),
                    SearchPass::Second => both.latest(),
                },
            }
        });
        found.map(|at| Timestamp::from_datetime(at.to_utc()))
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone)
    }
}

/// Returns the time zone with this name.
///
/// # Errors
/// A message with an example of a valid name.
pub fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("`{name}` is not an IANA time zone such as Europe/Berlin"))
}

/// Returns the expression of a nickname, or the text itself.
fn expression(text: &str) -> Result<&str, String> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let known = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    known.map(|(_, fields)| *fields).ok_or_else(|| {
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        format!("`{text}` is not one of {}", words.join(", "))
    })
}

fn wrong_field(field: &str, name: &str, range: &str, size: u32) -> String {
    let is_nothing = |step: &str| step.parse() == Ok(0_u32);
    if steps(field).any(is_nothing) {
        return wrong_step(field, name, size);
    }
    format!(
        "has `{field}` as {name}, which must be {range}; `*`, lists (1,5), ranges (1-5) and steps (*/5) are allowed"
    )
}

fn wrong_step(field: &str, name: &str, size: u32) -> String {
    format!("has `{field}` as {name}, whose step must be 1 to {size}")
}

/// Returns the steps of a field's parts.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').filter_map(|part| Some(part.split_once('/')?.1))
}

fn read(text: &str) -> Result<croner::Cron, String> {
    let given: Vec<&str> = text.split(' ').filter(|field| !field.is_empty()).collect();
    if given.len() != FIELDS.len() {
        let names: Vec<&str> = FIELDS.iter().map(|(name, ..)| *name).collect();
        let count = given.len();
        return Err(format!(
            "must have five fields ({}) such as `0 9 * * 1-5`, not {count}",
            names.join(", ")
        ));
    }
    let fields: Vec<String> =
        given.iter().zip(BOUNDS).map(|(field, (_, last))| with_ends(field, last)).collect();
    let text = &fields.join(" ");
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let whole = parser.parse(text);
    for (at, ((field, (name, range, words)), (first, last))) in
        given.iter().zip(FIELDS).zip(BOUNDS).enumerate()
    {
        // each field is parsed alone, so that the error names the wrong one
        let is_right = || {
            let alone = fields.iter().enumerate().map(|(place, field)| if place == at { field } else { "*" });
            parser.parse(&alone.collect::<Vec<_>>().join(" ")).is_ok()
        };
        if !is_plain(field, words) || (whole.is_err() && !is_right()) {
            return Err(wrong_field(field, name, range, last - first + 1));
        }
    }
    whole.map_err(|why| why.to_string())
}

/// Rewrites `5/15` to its meaning `5-59/15`: the parser supports steps of ranges only.
fn with_ends(field: &str, last: u32) -> String {
    let part = |part: &str| match part.split_once('/') {
        Some((start, step)) => match number(start) {
            // 7 is Sunday, as is 0
            Some(7) if last == 6 => format!("0-{last}/{step}"),
            Some(start) => format!("{start}-{last}/{step}"),
            None => part.to_owned(),
        },
        None => part.to_owned(),
    };
    field.split(',').map(part).collect::<Vec<_>>().join(",")
}

/// Parses a number, or the name of a month or a day.
fn number(text: &str) -> Option<u32> {
    let named = |names: &[&str], first| {
        let at = names.iter().position(|name| name.eq_ignore_ascii_case(text) && name.len() == 3)?;
        u32::try_from(at).ok().map(|at| at + first)
    };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { named(&MONTHS, 1).or_else(|| named(&DAYS, 0)) }
}

/// Refuses expressions that the parser accepts although they are mistakes. A step that is larger than its field usually
/// belongs to another field: `*/90` does not mean every 90 minutes. `L` alone does not name a day of the week.
fn check_fields(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Ok(());
    }
    for ((field, (name, range, _)), (first, last)) in fields.iter().zip(FIELDS).zip(BOUNDS) {
        let size = last - first + 1;
        let is_no_day = |part: &str| part.split('/').next().is_some_and(|day| day.eq_ignore_ascii_case("L"));
        if name == DAY_OF_THE_WEEK && field.split(',').any(is_no_day) {
            return Err(wrong_field(field, name, range, size));
        }
        if steps(field).any(|step| step.parse().is_ok_and(|step: u128| step > u128::from(size))) {
            return Err(wrong_step(field, name, size));
        }
    }
    Ok(())
}

/// Returns true if a field has only its own words and no empty parts. The parser does not check this.
fn is_plain(field: &str, known: &[&str]) -> bool {
    let mut words = field.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    words.all(|word| known.iter().any(|known| known.eq_ignore_ascii_case(word)))
        && field.split(',').all(|part| !part.is_empty())
}
