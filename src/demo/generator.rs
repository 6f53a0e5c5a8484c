//! Made-up clients for the demo and for measurements: realistic in their proportions, the same for the same
//! seed, and distinct without a memory of those made before.
//!
//! The phone numbers come from real ranges of Russian mobile numbers, so some of them belong to somebody: they
//! are for the sandbox, never for a real provider.

mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};

use tables::{CITIES, City, NAMES, NUMBERS_PER_SHARE, OPERATOR_CODES, TAGS};

/// The most clients that one seed makes.
pub const MAX_CLIENTS: u64 = 100_000_000;

/// The columns of the CSV, named as the fields of a client; `name` and `city` become attributes.
pub const CSV_HEADER: &str = "phone_number,mobile_operator_code,tag,timezone,email,external_id,name,city";

/// About what an HTTP body hands on at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// More clients were asked for than there are numbers set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {MAX_CLIENTS} clients can be generated, not {0}")]
pub struct TooManyClients(pub u64);

/// A made-up client. Displayed, it is its row of the CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedClient {
    /// 7 and ten digits; no two clients of a seed share one.
    pub phone_number: u64,
    /// The three digits after the 7.
    pub mobile_operator_code: u16,
    /// `vip`, `regular` or `new`.
    pub tag: &'static str,
    /// The IANA time zone of the city.
    pub timezone: &'static str,
    /// An address at example.com, which belongs to nobody.
    pub email: String,
    /// Distinct among all seeds.
    pub external_id: String,
    /// A first name.
    pub name: &'static str,
    /// A city of Russia.
    pub city: &'static str,
}

impl fmt::Display for GeneratedClient {
    /// Without quotes: no value has a comma, a quote or a line break in it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phone_number, mobile_operator_code, tag, timezone, email, external_id, name, city } = self;
        write!(
            out,
            "{phone_number},{mobile_operator_code},{tag},{timezone},{email},{external_id},{name},{city}"
        )
    }
}

/// The clients of a seed, one after the other.
#[derive(Debug, Clone)]
pub struct Generator {
    seed: u64,
    next: u64,
    count: u64,
    numbers: Numbers,
}

impl Generator {
    /// The first `count` clients of `seed`.
    ///
    /// # Errors
    /// When `count` is above [`MAX_CLIENTS`].
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
/// When `out` fails, or (invalid input) when `count` is above [`MAX_CLIENTS`].
pub fn write_csv(out: &mut impl Write, count: u64, seed: u64) -> io::Result<()> {
    let chunks =
        csv_chunks(count, seed).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    for chunk in chunks {
        out.write_all(&chunk)?;
    }
    Ok(())
}

/// The bytes of [`write_csv`] in chunks of about 64 KiB, to stream into an HTTP body. Chunks end between rows.
///
/// # Errors
/// When `count` is above [`MAX_CLIENTS`].
pub fn csv_chunks(count: u64, seed: u64) -> Result<CsvStream, TooManyClients> {
    Ok(CsvStream { rows: Generator::new(count, seed)?, header: Some(CSV_HEADER) })
}

/// What [`csv_chunks`] gives.
#[derive(Debug, Clone)]
pub struct CsvStream {
    rows: Generator,
    header: Option<&'static str>,
}

impl Iterator for CsvStream {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        // Room for the row that goes over the edge.
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + 256);
        if let Some(header) = self.header.take() {
            chunk.extend_from_slice(header.as_bytes());
            chunk.push(b'\n');
        }
        while chunk.len() < CHUNK_BYTES
            && let Some(row) = self.rows.next()
        {
            // A vector takes all that is written to it.
            let _ = writeln!(chunk, "{row}");
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// The phone numbers in an order of their own for each seed: a permutation of all numbers set aside. Numbers
/// drawn at random would have to be remembered to be distinct, which for ten million takes hundreds of MB.
#[derive(Debug, Clone)]
struct Numbers {
    key: u64,
    slots: u64,
    /// Half of the bits that hold a slot.
    half_bits: u32,
    /// The operator codes, each with the slot after its last.
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

    /// The operator code and the number of the client at `index`.
    fn at(&self, index: u64) -> (u16, u64) {
        let slot = self.permute(index);
        let place = self.ends.partition_point(|(end, _)| *end <= slot);
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |(end, _)| *end);
        let code = self.ends.get(place).map_or(0, |(_, code)| *code);
        // The factor shares no divisor with ten million, so that the numbers of a code stay distinct while
        // they spread over all seven digits.
        let subscriber = ((slot - start) * 7_654_321 + self.key % 10_000_000) % 10_000_000;
        (code, 70_000_000_000 + u64::from(code) * 10_000_000 + subscriber)
    }

    /// A Feistel network permutes the powers of two; walking on while the result is out of range makes it
    /// one of the slots.
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

/// Choices that depend on a client's index and seed alone. Not `fastrand`, whose numbers may change between
/// versions, and with them what a seed in someone's notes stands for.
struct Dice(u64);

impl Dice {
    /// One of the rows of a table, by weight.
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

/// The splitmix64 generator's step: every bit of the input changes half of the output's.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
