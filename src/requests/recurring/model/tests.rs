use proptest::prelude::*;

use super::*;
use crate::error::Error;

fn at(text: &str) -> Timestamp {
    Timestamp::from_datetime(chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc())
}

fn schedule(cron: &str, catch_up: CatchUp) -> CronSchedule {
    let cron = Cron::parse(cron, chrono_tz::UTC).unwrap();
    CronSchedule { cron, catch_up, starts_at: None, ends_at: None }
}

fn asked(cron: &str, timezone: Option<&str>, catch_up: Option<&str>) -> Recurrence {
    Recurrence { cron: cron.into(), timezone: timezone.map(Into::into), catch_up: catch_up.map(Into::into) }
}

#[test]
fn each_wrong_field_is_named() {
    let complaints = |recurrence: Recurrence| {
        let mut wrong = Complaints::default();
        assert!(CronSchedule::read(&recurrence, (None, None), &mut wrong).is_none());
        match wrong.finish() {
            Err(Error::Invalid(fields)) => fields.into_iter().map(|error| error.field).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(complaints(asked("nope", None, None)), ["cron"]);
    assert_eq!(complaints(asked("@daily", Some("Mars"), None)), ["timezone"]);
    assert_eq!(complaints(asked("* *", Some("Mars"), Some("twice"))), ["timezone", "catch_up", "cron"]);
    let mut wrong = Complaints::default();
    let read = CronSchedule::read(&asked("@daily", None, None), (None, None), &mut wrong).unwrap();
    assert_eq!((read.cron.zone(), read.catch_up), (chrono_tz::UTC, CatchUp::Once));
}

#[test]
fn what_is_on_time_runs_and_what_was_missed_runs_once_or_not() {
    let hourly = |catch_up, now| schedule("0 * * * *", catch_up).due(at("2026-03-01T10:00:00Z"), at(now));
    let due = |runs: &[&str], next: &str| Due {
        runs: runs.iter().map(|text| at(text)).collect(),
        next_at: Some(at(next)),
    };
    let on_time = due(&["2026-03-01T10:00:00Z"], "2026-03-01T11:00:00Z");
    for catch_up in [CatchUp::Once, CatchUp::Skip] {
        assert_eq!(hourly(catch_up, "2026-03-01T10:00:00Z"), on_time);
        assert_eq!(hourly(catch_up, "2026-03-01T10:01:00Z"), on_time, "a minute is not too late");
        assert_eq!(hourly(catch_up, "2026-03-01T09:59:59Z"), due(&[], "2026-03-01T10:00:00Z"));
    }
    let late = "2026-03-01T13:30:00Z";
    assert_eq!(hourly(CatchUp::Once, late), due(&["2026-03-01T10:00:00Z"], "2026-03-01T14:00:00Z"));
    assert_eq!(hourly(CatchUp::Skip, late), due(&[], "2026-03-01T14:00:00Z"));
    // an occurrence that is due now does not count as missed
    let both = ["2026-03-01T10:00:00Z", "2026-03-01T13:00:00Z"];
    assert_eq!(hourly(CatchUp::Once, "2026-03-01T13:00:59Z"), due(&both, "2026-03-01T14:00:00Z"));
    assert_eq!(hourly(CatchUp::Skip, "2026-03-01T13:00:59Z"), due(&both[1..], "2026-03-01T14:00:00Z"));
}

#[test]
fn nothing_runs_before_its_beginning_or_from_its_end_on() {
    let (begin, end) = (at("2026-03-01T12:00:00Z"), at("2026-03-01T14:00:00Z"));
    let bounded =
        CronSchedule { starts_at: Some(begin), ends_at: Some(end), ..schedule("@hourly", CatchUp::Once) };
    assert_eq!(bounded.next_after(at("2026-02-01T00:00:00Z")), Some(begin), "the start is included");
    assert_eq!(bounded.next_after(begin), Some(at("2026-03-01T13:00:00Z")));
    assert_eq!(bounded.next_after(at("2026-03-01T13:00:00Z")), None);
    assert_eq!(bounded.upcoming(begin, SHOWN), [begin, at("2026-03-01T13:00:00Z")]);
    assert_eq!(bounded.due(at("2026-03-01T13:00:00Z"), at("2026-03-01T13:00:01Z")).next_at, None);
    assert_eq!(
        bounded.due(begin, end),
        Due { runs: Vec::new(), next_at: None },
        "missed ones are dropped too"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whenever_it_is_looked_each_time_runs_once_unless_it_was_missed(
        looks in proptest::collection::vec(1_u64..400, 1..40),
        every in 1_u32..20,
        skips in any::<bool>(),
    ) {
        let catch_up = if skips { CatchUp::Skip } else { CatchUp::Once };
        let schedule = schedule(&format!("*/{every} * * * *"), catch_up);
        let began = at("2026-03-01T00:00:30Z");
        let (mut now, mut next_at) = (began, schedule.next_after(began).unwrap());
        let (mut made, mut missed) = (Vec::new(), 0);
        for seconds in looks {
            now = now.plus(Duration::from_secs(seconds));
            let due = schedule.due(next_at, now);
            let late = due.runs.iter().filter(|run| **run < now.minus(MISSED)).count();
            missed += late;
            prop_assert!(late <= usize::from(!skips), "one for all missed occurrences, or none");
            made.extend(due.runs.into_iter().filter(|run| *run >= now.minus(MISSED)));
            next_at = due.next_at.unwrap();
            prop_assert!(next_at > now);
        }
        prop_assert!(made.is_sorted_by(|a, b| a < b), "each time once");
        let all = std::iter::successors(schedule.next_after(began), |time| schedule.next_after(*time));
        let all = all.take_while(|time| *time <= now);
        let left_out = all.filter(|time| !made.contains(time)).count();
        let is_made_up_for = left_out >= missed && (left_out == 0) == (missed == 0);
        let is_right = if skips { missed == 0 } else { is_made_up_for };
        prop_assert!(is_right, "{} skipped", left_out);
    }
}
