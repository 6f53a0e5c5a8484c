//! Medians, percentiles, and their display.

use std::time::Duration;

use crate::args::Kind;
use crate::phones::{self, Readings};
use crate::sources::{Source, SourceSpike, SourceSpikes, sources_json, sources_text};
use crate::statistics::{Figure, Summary, mean_rate, most_in_a_second, percentile};
use crate::table::{Table, count, middle, number, ranged};
use crate::uploads::{Import, Imports, Program, imports_text, phones_text, uploads_json};

fn figure(values: &[f64]) -> Figure {
    Figure(values.to_vec())
}

#[test]
fn a_median_stands_in_the_middle_of_its_range() {
    let odd = figure(&[30.0, 10.0, 20.0]).summary().unwrap();
    assert_eq!(odd, Summary { median: 20.0, lowest: 10.0, highest: 30.0 });
    assert_eq!(figure(&[4.0, 1.0, 3.0, 2.0]).summary().unwrap().median, 2.5);
    assert_eq!(figure(&[7.0]).summary().unwrap(), Summary { median: 7.0, lowest: 7.0, highest: 7.0 });
    assert_eq!(figure(&[]).summary(), None);
}

#[test]
fn a_limit_is_steady_up_to_a_quarter_more_in_its_best_round() {
    assert!(figure(&[100.0, 125.0, 110.0]).summary().unwrap().is_steady());
    assert!(!figure(&[100.0, 126.0, 110.0]).summary().unwrap().is_steady());
    assert!(!figure(&[0.0, 1.0]).summary().unwrap().is_steady());
}

#[test]
fn ratios_are_taken_round_by_round() {
    // the machine was half as fast in the second round, which is not a difference between the two
    let (service, limit) = (figure(&[80.0, 40.0]), figure(&[100.0, 50.0]));
    assert_eq!(service.over(&limit), figure(&[0.8, 0.8]));
}

#[test]
fn a_percentile_is_a_value_that_was_measured() {
    let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(percentile(&hundred, 0.5), Some(50.0));
    assert_eq!(percentile(&hundred, 0.99), Some(99.0));
    assert_eq!(percentile(&hundred, 1.0), Some(100.0));
    assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.99), Some(3.0));
    assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.0), Some(1.0));
    assert_eq!(percentile(&[], 0.5), None);
}

#[test]
fn a_mean_rate_is_taken_over_whole_intervals_and_a_pause_at_its_end_is_in_it() {
    let ten_seconds = |times: &[i64]| mean_rate(times, Duration::from_secs(10));
    // one a second, and the first of two seconds later
    let steady: Vec<i64> = (0..=12).map(|second| 5 + second * 1_000_000).collect();
    assert_eq!(ten_seconds(&steady), Some(1.0));
    assert_eq!(ten_seconds(&steady[..10]), None, "too short");
    let mut paused = steady[..10].to_vec();
    paused.push(5 + 12_500_000);
    assert_eq!(ten_seconds(&paused), Some(10.0 / 12.5));
    assert_eq!(ten_seconds(&[]), None);
}

#[test]
fn a_second_may_begin_anywhere() {
    // four in each second of the clock, and five around the turn
    let times = [0, 400_000, 800_000, 900_000, 1_000_000, 1_100_000, 1_799_999, 1_800_000];
    assert_eq!(most_in_a_second(&times), 5);
    assert_eq!(most_in_a_second(&[]), 0);
}

#[test]
fn numbers_have_as_many_digits_as_are_read() {
    let cases = [
        (0.0, "0.00"),
        (0.8123, "0.81"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (999.6, "1,000"),
        (12_345.6, "12,346"),
        (1_234_567.0, "1,234,567"),
        (-1234.5, "-1,234"),
        (-0.25, "-0.25"),
    ];
    for (value, text) in cases {
        assert_eq!(number(value), text, "{value}");
    }
    assert_eq!(count(7.0), "7");
    assert_eq!(count(10_000.0), "10,000");
}

#[test]
fn a_range_is_shown_only_where_there_are_rounds() {
    assert_eq!(ranged(&figure(&[30.0, 10.0, 20.0]), count), "20 (10–30)");
    assert_eq!(ranged(&figure(&[20.0]), number), "20.0");
    assert_eq!(ranged(&figure(&[]), number), "-");
    assert_eq!(middle(&figure(&[30.0, 10.0, 20.0])), "20.0");
    assert_eq!(middle(&figure(&[])), "-");
}

#[test]
fn columns_are_as_wide_as_their_widest_cell() {
    let mut table = Table::new(1, &["who", "rate"]);
    table.row(vec!["a".into(), "20 (10–30)".into()]);
    table.row(vec!["somebody".into(), "5".into()]);
    assert_eq!(table.text(), "who             rate\na         20 (10–30)\nsomebody           5\n");
}

#[test]
fn an_import_is_compared_with_that_of_the_other_program_in_the_same_round() {
    let import = |rates: &[f64]| Import { rows_per_second: figure(rates), ..Import::default() };
    let mut imports = Imports::new();
    assert_eq!(imports_text(&imports, 1000), None);
    imports.insert((Kind::Sqlite, Program::This), import(&[300.0, 100.0]));
    assert!(imports_text(&imports, 1000).unwrap().contains("300"), "without another program, too");
    imports.insert((Kind::Sqlite, Program::Other), import(&[100.0, 50.0]));
    let json = uploads_json(&imports, 1000, &Readings::new());
    assert_eq!(json["files"][0]["over_other"]["rounds"], serde_json::json!([3.0, 2.0]));
    assert_eq!(json["files"][1]["over_other"], serde_json::Value::Null);
}

#[test]
fn events_of_a_broker_are_compared_with_posted_ones_of_the_same_round() {
    let spike = |rates: &[f64]| SourceSpike { per_second: figure(rates), ..SourceSpike::default() };
    let mut spikes = SourceSpikes::new();
    assert_eq!(sources_text(&spikes, 1000), None);
    spikes.insert((Kind::Sqlite, Source::Posts), spike(&[100.0, 50.0]));
    spikes.insert((Kind::Sqlite, Source::Kafka), spike(&[300.0, 100.0]));
    let text = sources_text(&spikes, 1000).unwrap();
    assert!(text.contains("2.50 (2.00–3.00)"), "{text}");
    let json = serde_json::Value::from(sources_json(&spikes, 1000));
    assert_eq!(json[0]["of_posts"], serde_json::Value::Null);
    assert_eq!(json[1]["of_posts"]["rounds"], serde_json::json!([3.0, 2.0]));
    assert_eq!((&json[1]["source"], &json[1]["events"]), (&"Kafka".into(), &1000.into()));
}

#[test]
fn only_a_broker_has_events_before_the_service_starts() {
    let brokers: Vec<_> = Source::ALL.into_iter().filter(|source| source.is_broker()).collect();
    assert_eq!(brokers, [Source::Nats, Source::Kafka]);
}

#[test]
fn phone_numbers_of_every_sort_are_read() {
    let mut readings = Readings::new();
    phones::measure(&mut readings).unwrap();
    assert!(readings.values().all(|reading| reading.took.0.len() == 1 && reading.digits.0.len() == 1));
    assert_eq!(phones_text(&readings).unwrap().lines().count(), 2 + readings.len());
}
