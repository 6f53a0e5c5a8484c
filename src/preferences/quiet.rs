//! Quiet hours: hours of the day, in the client's time zone, in which no message is sent to it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, LocalResult, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::db::types::Timestamp;

const MINUTES: u16 = 24 * 60;
/// The longest time that a local clock has ever skipped, a whole day (Samoa, 2011), and an hour.
const LONGEST_GAP: u16 = MINUTES + 60;

/// A time of the day, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Creates the time from minutes after midnight; `None` if a day has fewer minutes.
    pub fn of_minutes(minutes: u16) -> Option<Self> {
        (minutes < MINUTES).then_some(Self(minutes))
    }

    /// Returns the minutes after midnight.
    pub fn minutes(self) -> u16 {
        self.0
    }

    fn of(time: NaiveTime) -> Self {
        Self(u16::try_from(time.hour() * 60 + time.minute()).unwrap_or_default())
    }

    fn on(self, day: chrono::NaiveDate) -> NaiveDateTime {
        day.and_time(NaiveTime::MIN) + TimeDelta::minutes(i64::from(self.0))
    }
}

impl FromStr for TimeOfDay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be a time of day like 22:00, from 00:00 to 23:59";
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let (hours, minutes) = text.split_once(':').filter(|(h, m)| digits(h) && digits(m)).ok_or(WRONG)?;
        let number = |part: &str| part.parse::<u16>().map_err(|_| WRONG);
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        if minutes < 60 { Self::of_minutes(hours * 60 + minutes).ok_or(WRONG) } else { Err(WRONG) }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// The hours `[from, until)` of each day. They span midnight if `until` is earlier than `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: TimeOfDay,
    until: TimeOfDay,
}

impl QuietHours {
    /// Creates quiet hours; `None` if the two times are equal.
    pub fn new(from: TimeOfDay, until: TimeOfDay) -> Option<Self> {
        (from != until).then_some(Self { from, until })
    }

    /// Returns the first minute.
    pub fn from(self) -> TimeOfDay {
        self.from
    }

    /// Returns the first minute after the quiet hours.
    pub fn until(self) -> TimeOfDay {
        self.until
    }

    fn hold(self, time: TimeOfDay) -> bool {
        if self.from < self.until {
            self.from <= time && time < self.until
        } else {
            self.from <= time || time < self.until
        }
    }

    /// Returns true if the local time in this zone is within the quiet hours.
    pub fn contain(self, at: Timestamp, zone: Tz) -> bool {
        self.hold(TimeOfDay::of(at.datetime().with_timezone(&zone).time()))
    }

    /// Returns the end of the quiet hours that contain `now`; `None` if `now` is not within quiet hours. If the local
    /// clock skips the minute of the end, the end is right after the gap. If the clock shows that minute twice, the end
    /// is the first time after `now`.
    pub fn end(self, now: Timestamp, zone: Tz) -> Option<Timestamp> {
        let mut at = now;
        // a clock that skips the end may land in the next quiet hours
        while self.contain(at, zone) {
            at = self.next_until(at, zone)?;
        }
        (at != now).then_some(at)
    }

    fn next_until(self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        let local = at.datetime().with_timezone(&zone).naive_local();
        let today = self.until.on(local.date());
        let ends = if today > local { today } else { today.checked_add_days(Days::new(1))? };
        // a clock that is put back past midnight shows a time of the previous day again, and the same end is still to
        // come
        let shown = (0..=LONGEST_GAP).find_map(|skipped| {
            let ends = ends + TimeDelta::minutes(i64::from(skipped));
            first_after(zone.from_local_datetime(&ends), at.datetime())
        });
        shown.map(|shown| Timestamp::from_datetime(shown.to_utc()))
    }
}

fn first_after(found: LocalResult<DateTime<Tz>>, after: DateTime<Utc>) -> Option<DateTime<Tz>> {
    [found.earliest(), found.latest()].into_iter().flatten().find(|at| *at > after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(from: &str, until: &str) -> QuietHours {
        QuietHours::new(from.parse().unwrap(), until.parse().unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_datetime(DateTime::parse_from_rfc3339(text).unwrap().to_utc())
    }

    fn end(quiet: QuietHours, now: &str, zone: Tz) -> Option<Timestamp> {
        quiet.end(at(now), zone)
    }

    #[test]
    fn they_end_at_the_clients_own_time_also_the_next_day() {
        let night = hours("22:00", "08:00");
        let moscow = chrono_tz::Europe::Moscow;
        assert_eq!(end(night, "2026-03-01T21:59:59+03:00", moscow), None);
        assert_eq!(end(night, "2026-03-01T22:00:00+03:00", moscow), Some(at("2026-03-02T08:00:00+03:00")));
        assert_eq!(end(night, "2026-03-02T07:59:59+03:00", moscow), Some(at("2026-03-02T08:00:00+03:00")));
        assert_eq!(end(night, "2026-03-02T08:00:00+03:00", moscow), None);
        let noon = hours("12:00", "13:30");
        assert_eq!(end(noon, "2026-03-02T12:10:00Z", Tz::UTC), Some(at("2026-03-02T13:30:00Z")));
        assert_eq!(end(noon, "2026-03-02T13:30:00Z", Tz::UTC), None);
    }

    #[test]
    fn a_clock_that_skips_their_end_or_shows_it_twice_ends_them_once() {
        let berlin = chrono_tz::Europe::Berlin;
        // the clock is put forward from 02:00 to 03:00 on that day
        let until_the_gap = hours("22:00", "02:30");
        assert_eq!(
            end(until_the_gap, "2026-03-29T01:10:00+01:00", berlin),
            Some(at("2026-03-29T03:00:00+02:00"))
        );
        // the clock is put back from 03:00 to 02:00
        assert_eq!(
            end(until_the_gap, "2026-10-25T01:10:00+02:00", berlin),
            Some(at("2026-10-25T02:30:00+02:00"))
        );
        assert_eq!(
            end(until_the_gap, "2026-10-25T02:10:00+01:00", berlin),
            Some(at("2026-10-25T02:30:00+01:00"))
        );
        // the whole day except a quarter of an hour that the clock skips
        let nearly_always = hours("02:45", "02:30");
        assert_eq!(
            end(nearly_always, "2026-03-29T01:10:00+01:00", berlin),
            Some(at("2026-03-30T02:30:00+02:00"))
        );
        // the clock skips a whole day
        let samoa = chrono_tz::Pacific::Apia;
        assert_eq!(
            end(hours("20:00", "06:00"), "2011-12-29T23:00:00-10:00", samoa),
            Some(at("2011-12-31T06:00:00+14:00"))
        );
    }

    #[test]
    fn a_time_of_the_day_is_read_as_it_is_written() {
        for text in ["00:00", "08:05", "23:59"] {
            assert_eq!(text.parse::<TimeOfDay>().unwrap().to_string(), text);
        }
        for text in ["", "8:00", "08:0", "24:00", "08:60", "08.00", "+8:00", "08:00:00", "ab:cd", "08:00 "] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
        assert_eq!(QuietHours::new(TimeOfDay(5), TimeOfDay(5)), None);
    }

    fn zones() -> impl Strategy<Value = Tz> {
        proptest::sample::select(chrono_tz::TZ_VARIANTS.to_vec())
    }

    proptest! {
        /// For any hours, zone and time, also where clocks are put forward and back: the end is later than now, is not
        /// a quiet time, and is within three days. Until then the clock shows only quiet times, unless it is put back.
        #[test]
        fn they_end_at_the_first_minute_that_is_not_quiet(
            from in 0u16..1440, length in 1u16..1440, zone in zones(), minute in 0i64..16_000_000,
        ) {
            let until = TimeOfDay((from + length) % 1440);
            let quiet = QuietHours::new(TimeOfDay(from), until).unwrap();
            // the years 2005 to 2035, in which no clock was put forward or back by less than a minute
            let now = Timestamp::from_micros((1_104_537_600 + minute * 60) * 1_000_000);
            let shows = |at: Timestamp| at.datetime().with_timezone(&zone).naive_local();
            match quiet.end(now, zone) {
                None => prop_assert!(!quiet.contain(now, zone)),
                Some(end) => {
                    prop_assert!(quiet.contain(now, zone) && end > now);
                    prop_assert!(!quiet.contain(end, zone));
                    prop_assert!(end.micros() - now.micros() <= 3 * 86_400_000_000);
                    let mut at = now;
                    let mut was_put_back = false;
                    while at < end {
                        prop_assert!(was_put_back || quiet.contain(at, zone), "{}", shows(at));
                        let next = Timestamp::from_micros(at.micros() + 60_000_000);
                        was_put_back |= shows(next) < shows(at);
                        at = next;
                    }
                }
            }
        }
    }
}
