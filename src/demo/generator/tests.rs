//! The guarantees of the generator: reproducible by seed, distinct, valid.

use super::*;

fn csv_of(count: u64, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_csv(&mut bytes, count, seed).unwrap();
    bytes
}

#[test]
fn a_seed_makes_the_same_bytes_again_and_another_seed_others() {
    assert_eq!(csv_of(5_000, 1), csv_of(5_000, 1));
    assert_ne!(csv_of(5_000, 1), csv_of(5_000, 2));
    // A larger audience begins with the smaller one, so that runs of different sizes can be compared.
    assert!(csv_of(5_000, 1).starts_with(&csv_of(1_000, 1)));
}

#[test]
fn a_million_numbers_are_distinct_and_valid() {
    let mut numbers: Vec<u64> = Vec::with_capacity(1_000_000);
    for client in Generator::new(1_000_000, 42).unwrap() {
        let number = client.phone_number;
        assert!((79_000_000_000..80_000_000_000).contains(&number), "{number}");
        assert_eq!(number / 10_000_000 % 1000, u64::from(client.mobile_operator_code));
        numbers.push(number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 1_000_000);
}

#[test]
fn there_are_numbers_for_all_clients_that_may_be_asked_for() {
    let numbers = Numbers::new(0);
    assert!(numbers.slots >= MAX_CLIENTS);
    assert!(OPERATOR_CODES.iter().all(|(_, shares)| shares * NUMBERS_PER_SHARE <= 10_000_000));
    let mut codes: Vec<u16> = numbers.ends.iter().map(|(_, code)| *code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), numbers.ends.len(), "a code stands in two rows");
    assert_eq!(Generator::new(MAX_CLIENTS + 1, 0).err(), Some(TooManyClients(MAX_CLIENTS + 1)));
}

#[test]
fn the_permutation_hits_every_slot_once() {
    let numbers = Numbers { slots: 50_000, half_bits: 8, ..Numbers::new(9) };
    let mut hit: Vec<u64> = (0..50_000).map(|index| numbers.permute(index)).collect();
    hit.sort_unstable();
    assert!(hit.into_iter().eq(0..50_000));
}

#[test]
fn every_row_reads_back_with_its_citys_time_zone() {
    let bytes = csv_of(20_000, 3);
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>().join(","), CSV_HEADER);
    let mut rows = 0;
    for (row, client) in reader.records().zip(Generator::new(20_000, 3).unwrap()) {
        let row = row.unwrap();
        assert_eq!(row.get(0).unwrap(), client.phone_number.to_string());
        assert_eq!(row.get(5).unwrap(), client.external_id);
        let city = CITIES.iter().find(|city| city.name == client.city).unwrap();
        assert_eq!(row.get(3).unwrap(), city.timezone);
        assert!(row.get(4).unwrap().is_ascii());
        rows += 1;
    }
    assert_eq!(rows, 20_000);
}

#[test]
fn time_zones_are_known_and_shares_are_as_in_the_tables() {
    for city in CITIES {
        assert!(city.timezone.parse::<chrono_tz::Tz>().is_ok(), "{}", city.timezone);
    }
    let clients: Vec<_> = Generator::new(100_000, 5).unwrap().collect();
    let share = |tag| clients.iter().filter(|client| client.tag == tag).count() / 1000;
    assert!((4..=6).contains(&share("vip")) && (68..=72).contains(&share("regular")));
    let of_code = |code| clients.iter().filter(|client| client.mobile_operator_code == code).count();
    assert!(of_code(903) > 3 * of_code(958) && of_code(958) > 0);
}

#[test]
fn chunks_are_of_the_size_promised() {
    let chunks: Vec<_> = csv_chunks(10_000, 1).unwrap().collect();
    let (last, full) = chunks.split_last().unwrap();
    assert!(full.len() > 5 && !last.is_empty());
    assert!(full.iter().all(|chunk| (CHUNK_BYTES..CHUNK_BYTES + 256).contains(&chunk.len())));
    assert_eq!(chunks.concat(), csv_of(10_000, 1));
    assert_eq!(csv_of(0, 1), format!("{CSV_HEADER}\n").into_bytes());
}
