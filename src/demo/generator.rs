//! Generated clients for the demo and for benchmarks: realistic in their proportions, the same for the same seed, and
//! distinct without storing the previous ones.
//!
//! The phone numbers come from real ranges of Russian mobile numbers, so some of them are in use. They are for the
//! sandbox, never for a real provider.

mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};

use tables::{CITIES, City, NAMES, NUMBERS_PER_SHARE, OPERATOR_CODES, TAGS};

/// The most clients of one seed.
pub const MAX_CLIENTS: u64 = 100_000_000;

/// The columns of the CSV, named after the fields of a client; `name` and `city` become attributes.
pub const CSV_HEADER: &str = "phone_number,mobile_operator_code,tag,timezone,email,external_id,name,city";

/// The approximate size of a chunk of an HTTP body.
const CHUNK_BYTES: usize = 64 * 1024;

/// The requested number of clients exceeds the reserved phone numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {MAX_CLIENTS} clients can be generated, not {0}")]
pub struct TooManyClients(pub u64);

/// A generated client. Its `Display` is its CSV row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedClient {
    /// 7 and ten digits, distinct among the clients of a seed.
    pub phone_number: u64,
    /// The three digits after the 7.
    pub mobile_operator_code: u16,
    /// `vip`, `regular` or `new`.
    pub tag: &'static str,
    /// The IANA time zone of the city.
    pub timezone: &'static str,
    /// An address at example.com, which is reserved for examples.
    pub email: String,
    /// Distinct across seeds.
    pub external_id: String,
    /// A first name.
    pub name: &'static str,
    /// A city of Russia.
    pub city: &'static str,
}

impl fmt::Display for GeneratedClient {
    /// Writes the row without quotes: no value contains a comma, a quote or a line break.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phone_number, mobile_operator_code, tag, timezone, email, external_id, name, city } = self;
        write!(
            out,
            "{phone_number},{mobile_operator_code},{tag},{timezone},{email},{external_id},{name},{city}"
        )
    }
}

/// An iterator over the clients of a seed.
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    next: u64,
    count: u64,
    numbers: Numbers,
}

impl Generator {
    /// Creates an iterator over the first `count` clients of `seed`.
    ///
    /// # Errors
    /// If `count` is above [`MAX_CLIENTS`].
    pub fn new(count: u64, seed: u64) -> Result<Self, TooManyClients> {
        if count > MAX_CLIENTS {
            return Err(TooManyClients(count));
        }
        Ok(Self { seed, next: 0, count, numbers: Numbers::new(seed) })
    }

    fn client(&self, index: u64) -> GeneratedClient {
        let mut dice = Dice(mix(self.seed ^ mix(index)));
        let (code, phone_number) = self.numbers.at(index);
        let city: &City = dice.weighted(CITIES, |city| city.weight);
        let (name, latin, _) = *dice.weighted(NAMES, |(_, _, weight)| *weight);
        let (tag, _) = *dice.weighted(TAGS, |(_, weight)| *weight);
        GeneratedClient {
            phone_number,
            mobile_operator_code: code,
            tag,
            timezone: city.timezone,
            email: format!("{latin}.{}@example.com", index + 1),
            external_id: format!("demo-{}-{:08}", self.seed, index + 1),
            name,
            city: city.name,
        }
    }
}

impl Iterator for Generator {
    type Item = GeneratedClient;

    fn next(&mut self) -> Option<GeneratedClient> {
        if self.next == self.count {
            return None;
        }
        let client = self.client(self.next);
        self.next += 1;
        Some(client)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.count - self.next).ok();
        (left.unwrap_or(usize::MAX), left)
    }
}

/// Writes the header and `count` clients of `seed` as CSV.
///
/// # Errors
/// If `out` fails, or (invalid input) if `count` is above [`MAX_CLIENTS`].
pub fn write_csv(out: &mut impl Write, count: u64, seed: u64) -> io::Result<()> {
    let chunks =
        csv_chunks(count, seed).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    for chunk in chunks {
        out.write_all(&chunk)?;
    }
    Ok(())
}

/// Returns the bytes of [`write_csv`] in chunks of about 64 KiB, to stream into an HTTP body. Chunks end between rows.
///
/// # Errors
/// If `count` is above [`MAX_CLIENTS`].
pub fn csv_chunks(count: u64, seed: u64) -> Result<CsvStream, TooManyClients> {
    Ok(CsvStream { rows: Generator::new(count, seed)?, header: Some(CSV_HEADER) })
}

/// The iterator that [`csv_chunks`] returns.
#[derive(Debug, Clone)]
pub struct CsvStream {
    rows: Generator,
    header: Option<&'static str>,
}

impl Iterator for CsvStream {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        // Extra space for the row that exceeds the chunk size.
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + 256);
        if let Some(header) = self.header.take() {
            chunk.extend_from_slice(header.as_bytes());
            chunk.push(b'\n');
        }
        while chunk.len() < CHUNK_BYTES
            && let Some(row) = self.rows.next()
        {
            // Writing to a vector never fails.
            let _ = writeln!(chunk, "{row}");
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// The phone numbers in a different order for each seed: a permutation of all reserved numbers. Random numbers would
/// have to be remembered to be distinct, which for ten million takes hundreds of MB.
#[derive(Debug, Clone)]
struct Numbers {
    key: u64,
    slots: u64,
    /// Half of the number of bits of a slot.
    half_bits: u32,
    /// The operator codes, each with the slot after its last one.
    ends: Vec<(u64, u16)>,
}

impl Numbers {
    fn new(seed: u64) -> Self {
        let mut slots = 0;
        let mut ends = Vec::new();
        for (codes, shares) in OPERATOR_CODES {
            for code in *codes {
                slots += shares * NUMBERS_PER_SHARE;
                ends.push((slots, *code));
            }
        }
        let bits = u64::BITS - slots.leading_zeros();
        Self { key: mix(seed), slots, half_bits: bits.div_ceil(2), ends }
    }

    /// Returns the operator code and the phone number of the client at `index`.
    fn at(&self, index: u64) -> (u16, u64) {
        let slot = self.permute(index);
        let place = self.ends.partition_point(|(end, _)| *end <= slot);
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |(end, _)| *end);
        let code = self.ends.get(place).map_or(0, |(_, code)| *code);
        // The factor has no common divisor with ten million, so that the numbers of a code stay distinct while they
        // spread over all seven digits.
        let subscriber = ((slot - start) * 7_654_321 + self.key % 10_000_000) % 10_000_000;
        (code, 70_000_000_000 + u64::from(code) * 10_000_000 + subscriber)
    }

    /// Permutes the slots with a Feistel network, which permutes a power of two: it is applied again until the result
    /// is a valid slot.
    fn permute(&self, index: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let mut value = index;
        loop {
            let (mut left, mut right) = (value >> self.half_bits, value & mask);
            for round in 0..4 {
                (left, right) = (right, left ^ (mix(self.key ^ (round << 56) ^ right) & mask));
            }
            value = left << self.half_bits | right;
            if value < self.slots {
                return value;
            }
        }
    }
}

/// Choices that depend only on a client's index and seed. Not `fastrand`, whose numbers may change between versions, so
/// that a seed would no longer reproduce its clients.
struct Dice(u64);

impl Dice {
    /// Draws a row of a table, by weight.
    fn weighted<T>(&mut self, table: &'static [T], weight: impl Fn(&T) -> u64) -> &'static T {
        self.0 = mix(self.0);
        let total: u64 = table.iter().map(&weight).sum();
        let mut left = self.0 % total.max(1);
        for row in table {
            match left.checked_sub(weight(row)) {
                None => return row,
                Some(rest) => left = rest,
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

/// The step of the splitmix64 generator: every bit of the input changes half of the output's bits.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
