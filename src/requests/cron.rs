//! When a recurring request runs: an expression of cron in a time zone.
//!
//! `croner` reads the expressions and finds the times of the wall clock that they name. Which moments these are is said
//! here, since the crate goes other ways where clocks change: it skips what `30 * * * *` names in a gap, looks no further
//! than two hours for a gap's end (Samoa once skipped a day), and has `*/5 2 * * *` run twice over.
//!
//! - A time that does not exist is the first moment after the gap.
//! - A time that comes twice is the first of the two. But where the hours are all hours, as in `*/5 * * * *` and
//!   `0 * * * *`, it is both: such an expression says how often, and would stand still for the hour that is repeated.
//!
//! Times that become one moment that way are one run.

#[cfg(test)]
mod tests;

use std::fmt;

use chrono::{LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

use crate::db::types::Timestamp;

/// Characters of an expression at most.
pub const LONGEST: usize = 200;
/// More than a clock ever skipped (a day: Samoa, 2011) or repeated, in minutes.
const LONGEST_CHANGE: i64 = 25 * 60;
const ALL_HOURS: usize = 24;
/// Words in place of an expression, and what they stand for.
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
/// The fields: what each is called, what stands in it, and which words may.
const FIELDS: [(&str, &str, &[&str]); 5] = [
    ("minute", "0 to 59", &[]),
    ("hour", "0 to 23", &[]),
    (
        "day of the month",
        "1 to 31, L for the last one, or as 15W for the working day next to it",
        &["L", "W", "LW"],
    ),
    ("month", "1 to 12 or JAN to DEC", &MONTHS),
    (
        DAY_OF_THE_WEEK,
        "0 to 7 or SUN to SAT (0 and 7 are Sunday), or as 5#2 and 5L for the second and the last Friday",
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

/// Which of the two moments at which a clock shows a time, if there are two.
#[derive(Clone, Copy)]
enum Pass {
    First,
    Second,
}

impl Cron {
    /// Reads five fields (minute, hour, day of the month, month, day of the week), or a word such as `@daily`.
    ///
    /// # Errors
    /// Says what would be right. What never comes, such as the 30th of February, is refused too.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let cron = Self::from_stored(text, zone);
        check_fields(text)?;
        cron
    }

    /// Reads what [`parse`](Self::parse) of this version or an earlier one took.
    ///
    /// # Errors
    /// For what none did.
    pub fn from_stored(text: &str, zone: Tz) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("must be at most {LONGEST} characters"));
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let pattern = read(expression(&text)?)?;
        let is_every_hour = pattern.pattern.hours.values().len() == ALL_HOURS;
        let cron = Self { text, pattern, zone, is_every_hour };
        // the calendar repeats itself after 400 years, and the search ends with the year 5000
        let last = NaiveDate::from_ymd_opt(4590, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN);
        match cron.pattern.find_next_occurrence(&last, true) {
            Ok(_) => Ok(cron),
            Err(_) => Err("never comes: no month that it names has such a day".into()),
        }
    }

    /// As it was given, but for spaces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose clock it goes by.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first time after this one; none after the year 5000.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let next = |pass: Pass| {
            let wall = self.first_wall(at, pass)?;
            let wall = self.pattern.find_next_occurrence(&wall, true).ok()?;
            self.moment(wall, pass)
        };
        let first = next(Pass::First);
        if self.is_every_hour { first.into_iter().chain(next(Pass::Second)).min() } else { first }
    }

    /// The first minute of the wall clock whose moment is after this one. A later minute of the wall clock is never of an
    /// earlier moment, as long as one looks at the same pass.
    fn first_wall(&self, at: Timestamp, pass: Pass) -> Option<NaiveDateTime> {
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

    /// When the clock shows this, or the first moment after the gap that it falls into.
    fn moment(&self, wall: NaiveDateTime, pass: Pass) -> Option<Timestamp> {
        let found = (0..=LONGEST_CHANGE).find_map(|skipped| {
            let wall = wall.checked_add_signed(TimeDelta::minutes(skipped))?;
            match self.zone.from_local_datetime(&wall) {
                LocalResult::None => None,
                LocalResult::Single(at) => Some(at),
                both @ LocalResult::Ambiguous(..) => match pass {
                    Pass::First => both.earliest(),
                    Pass::Second => both.latest(),
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

/// The zone of this name.
///
/// # Errors
/// Says what would be right.
pub fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("`{name}` is no IANA time zone such as Europe/Berlin"))
}

/// The fields that a word stands for, or those that are there.
fn expression(text: &str) -> Result<&str, String> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let known = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    known.map(|(_, fields)| *fields).ok_or_else(|| {
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        format!("`{text}` is none of {}", words.join(", "))
    })
}

fn wrong_field(field: &str, name: &str, range: &str, size: u32) -> String {
    let is_nothing = |step: &str| step.parse() == Ok(0_u32);
    if steps(field).any(is_nothing) {
        return wrong_step(field, name, size);
    }
    format!(
        "has `{field}` as {name}, which must be {range}; `*`, lists (1,5), ranges (1-5) and steps (*/5) are fine"
    )
}

fn wrong_step(field: &str, name: &str, size: u32) -> String {
    format!("has `{field}` as {name}, whose step must be 1 to {size}")
}

/// The steps of a field's parts.
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
        // by itself, so that what is wrong can be named
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

/// Writes `5/15` as `5-59/15`, which it stands for: the parser knows steps of ranges alone.
fn with_ends(field: &str, last: u32) -> String {
    let part = |part: &str| match part.split_once('/') {
        Some((start, step)) => match number(start) {
            // Sunday is the first day as well
            Some(7) if last == 6 => format!("0-{last}/{step}"),
            Some(start) => format!("{start}-{last}/{step}"),
            None => part.to_owned(),
        },
        None => part.to_owned(),
    };
    field.split(',').map(part).collect::<Vec<_>>().join(",")
}

/// A number, or the name of a month or a day.
fn number(text: &str) -> Option<u32> {
    let named = |names: &[&str], first| {
        let at = names.iter().position(|name| name.eq_ignore_ascii_case(text) && name.len() == 3)?;
        u32::try_from(at).ok().map(|at| at + first)
    };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { named(&MONTHS, 1).or_else(|| named(&DAYS, 0)) }
}

/// Refuses what the parser takes and nobody means. A step that is larger than its field is most often one of another
/// field: `*/90` is not every 90 minutes. A day of the week that is `L` alone names no day.
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

/// Whether a field has no word that belongs into another and no empty place, which the parser overlooks.
fn is_plain(field: &str, known: &[&str]) -> bool {
    let mut words = field.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    words.all(|word| known.iter().any(|known| known.eq_ignore_ascii_case(word)))
        && field.split(',').all(|part| !part.is_empty())
}
