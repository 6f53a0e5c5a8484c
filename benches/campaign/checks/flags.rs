//! The measurements that each combination of flags selects.

use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum};

use crate::args::{Args, Kind, Part, RATED};

fn args(flags: &str) -> Args {
    Args::parse_from(std::iter::once("bench").chain(flags.split_whitespace()))
}

#[test]
fn the_flags_fit_together() {
    Args::command().debug_assert();
    for wrong in
        [["--rounds", "0"], ["--sizes", "99"], ["--delays", "-1"], ["--rows", "10"], ["--parts", "all"]]
    {
        assert!(Args::try_parse_from(["bench"].iter().chain(&wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn without_flags_everything_but_the_large_mailing_is_measured() {
    let args = args("");
    assert_eq!((args.rounds.get(), args.sizes()), (5, vec![10_000, 100_000]));
    assert_eq!(args.databases(), [Kind::Sqlite, Kind::Postgres]);
    let providers = args.providers();
    let in_flight: Vec<_> = providers.iter().map(|p| (p.delay.as_millis(), p.in_flight)).collect();
    assert_eq!(in_flight, [(0, 64), (20, 256)]);
    for part in Part::value_variants() {
        assert!(args.wants(*part), "{part:?}");
    }
}

#[test]
fn sizes_go_up_and_none_is_measured_twice() {
    let args = args("--sizes 5000,1000000,5000,200 --large --databases postgres,sqlite,postgres");
    assert_eq!(args.sizes(), [200, 5000, 1_000_000]);
    assert_eq!((args.middle(), args.largest()), (5000, 1_000_000));
    assert_eq!(args.databases(), [Kind::Sqlite, Kind::Postgres]);
}

#[test]
fn a_kill_is_measured_on_the_smallest_when_all_are_large() {
    let args = args("--sizes 300000,200000");
    assert_eq!((args.middle(), args.largest()), (200_000, 300_000));
}

#[test]
fn only_clients_that_are_needed_are_imported() {
    let sizes = "--sizes 1000,50000,200000";
    let imported = |parts: &str| args(&format!("{sizes} --parts {parts}")).imported();
    assert_eq!(imported("mailings"), [1000, 50_000, 200_000]);
    assert_eq!(imported("answers,recovery"), [50_000, 200_000]);
    assert_eq!(imported("recovery"), [50_000]);
    assert_eq!(imported("spike"), [50_000]);
    assert!(imported("ingest,notifications,brokers").is_empty());
    assert_eq!(imported("rates,recovery"), [50_000, RATED]);
    assert_eq!(args(&format!("--sizes {RATED} --parts rates,recovery")).imported(), [RATED]);
}

#[test]
fn more_requests_are_in_flight_to_a_provider_that_takes_its_time() {
    let args = args("--in-flight 8 --in-flight-delayed 16");
    assert_eq!(args.provider(Duration::ZERO).in_flight, 8);
    assert_eq!(args.provider(Duration::from_millis(1)).in_flight, 16);
}
