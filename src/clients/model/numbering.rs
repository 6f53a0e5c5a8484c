//! Telephone numbering plans: the numbers of each country and their national form.
//!
//! The data is libphonenumber's (build.rs). A number that begins with `+` or `00` has to be *possible*: its country
//! code exists, and its length occurs in that country. A number without a prefix also has to match its country's
//! pattern, because any digits could be the beginning of a valid number.

use std::sync::OnceLock;

use regex::Regex;

/// The numbering plan of a country, or of an international service.
struct Region {
    /// ISO 3166-1 alpha-2; `001` for an international service.
    id: &'static str,
    /// The country code of ITU-T E.164.
    code: u16,
    /// The possible lengths of a number without its country code, as a bit mask.
    lengths: u16,
    /// Matches a whole number without its country code.
    pattern: &'static str,
    /// Matches the digits dialled before a country code in this region.
    international_prefix: &'static str,
    /// The digits dialled before a national number.
    trunk_prefix: &'static str,
    /// Matches the trunk prefix and anything else that may be dialled before a number, for example a carrier code.
    national_prefix: &'static str,
    /// The replacement for a matched national prefix; empty if the prefix is dropped.
    transform: &'static str,
}

static REGIONS: &[Region] = include!(concat!(env!("OUT_DIR"), "/regions.rs"));

/// The compiled patterns of a region. A pattern that does not compile matches nothing.
#[derive(Default)]
struct Patterns {
    number: OnceLock<Option<Regex>>,
    international_prefix: OnceLock<Option<Regex>>,
    national_prefix: OnceLock<Option<Regex>>,
}

/// The patterns of [`REGIONS`]. Each is compiled at its first use, because a service needs few of them.
static PATTERNS: OnceLock<Vec<Patterns>> = OnceLock::new();

/// The index of a region in [`REGIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberingPlan(usize);

impl NumberingPlan {
    /// Returns the plan of a country by its ISO 3166-1 alpha-2 code.
    pub(super) fn of_country(id: &str) -> Option<Self> {
        let is_country = |region: &&Region| region.id.eq_ignore_ascii_case(id) && region.id != "001";
        REGIONS.iter().position(|region| is_country(&region)).map(Self)
    }

    /// Returns the plans that share a country code, the main country first.
    fn of_code(code: u16) -> impl Iterator<Item = Self> {
        let first = REGIONS.partition_point(|region| region.code < code);
        let is_of_code = move |plan: &Self| plan.region().is_some_and(|region| region.code == code);
        (first..REGIONS.len()).map(Self).take_while(is_of_code)
    }

    fn region(self) -> Option<&'static Region> {
        REGIONS.get(self.0)
    }

    fn patterns(self) -> Option<(&'static Region, &'static Patterns)> {
        let all = PATTERNS.get_or_init(|| REGIONS.iter().map(|_| Patterns::default()).collect());
        Some((self.region()?, all.get(self.0)?))
    }

    fn country_code(self) -> Option<u16> {
        self.region().map(|region| region.code)
    }

    fn is_possible(self, number: &str) -> bool {
        self.region().is_some_and(|region| number.len() < 16 && region.lengths & (1 << number.len()) != 0)
    }

    /// Returns true if the digits, without a country code, are a number of this plan.
    fn matches(self, number: &str) -> bool {
        let Some((region, patterns)) = self.patterns() else { return false };
        let whole = || format!("^(?:{})$", region.pattern);
        self.is_possible(number) && compiled(&patterns.number, whole).is_some_and(|r| r.is_match(number))
    }

    /// Removes the national prefix; `None` if there is none.
    fn without_national_prefix(self, digits: &str) -> Option<String> {
        let (region, patterns) = self.patterns()?;
        if region.national_prefix.is_empty() {
            return None;
        }
        let prefix = compiled(&patterns.national_prefix, || at_start(region.national_prefix))?;
        let found = prefix.captures(digits)?;
        let has_kept =
            !region.transform.is_empty() && found.len() > 1 && found.get(found.len() - 1).is_some();
        let replacement = if has_kept { braced(region.transform) } else { String::new() };
        let number = prefix.replace(digits, replacement.as_str()).into_owned();
        (number != digits).then_some(number)
    }

    /// Removes the international prefix; `None` if there is none.
    fn without_international_prefix(self, digits: &str) -> Option<&str> {
        let (region, patterns) = self.patterns()?;
        if region.international_prefix.is_empty() {
            return None;
        }
        let prefix = compiled(&patterns.international_prefix, || at_start(region.international_prefix))?;
        digits.get(prefix.find(digits)?.end()..)
    }
}

fn compiled(
    cell: &'static OnceLock<Option<Regex>>,
    pattern: impl FnOnce() -> String,
) -> Option<&'static Regex> {
    cell.get_or_init(|| Regex::new(&pattern()).ok()).as_ref()
}

fn at_start(pattern: &str) -> String {
    format!("^(?:{pattern})")
}

/// Rewrites `9$1` as `9${1}`, the syntax of the regex crate. Without braces `$12` would be group 12.
fn braced(transform: &str) -> String {
    let mut braced = String::with_capacity(transform.len() + 4);
    let mut rest = transform.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('$', Some(group)) if group.is_ascii_digit() => {
                rest.next();
                braced.extend(['$', '{', group, '}']);
            }
            _ => braced.push(c),
        }
    }
    braced
}

/// The reason why digits are not a valid number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusedNumber {
    /// They begin with a country code that does not exist.
    NoCountry,
    /// Their number is too small or too large for the country.
    Length,
    /// They have no country code and match no plan.
    Unclear,
}

/// A country code and the number after it.
type ReadNumber = Result<(u16, String), RefusedNumber>;

/// Parses the digits after a plus: a country code and a number of a possible length. A trunk prefix between the two, as
/// in +44 (0)20, is dropped.
pub(super) fn international(digits: &str) -> ReadNumber {
    let (code, number) = split(digits).ok_or(RefusedNumber::NoCountry)?;
    if NumberingPlan::of_code(code).any(|plan| plan.matches(number)) {
        return Ok((code, number.to_owned()));
    }
    // a rule that makes the number longer would add an area code that the caller did not give
    let without = |plan: NumberingPlan| {
        plan.without_national_prefix(number)
            .filter(|without| without.len() < number.len() && plan.matches(without))
    };
    if let Some(without) = NumberingPlan::of_code(code).find_map(without) {
        return Ok((code, without));
    }
    if NumberingPlan::of_code(code).any(|plan| plan.is_possible(number)) {
        Ok((code, number.to_owned()))
    } else {
        Err(RefusedNumber::Length)
    }
}

/// Parses digits without a plus. `home` is the plan that national numbers are parsed by.
pub(super) fn dialled(digits: &str, home: Option<NumberingPlan>) -> ReadNumber {
    if let Some(digits) = digits.strip_prefix("00").filter(|digits| !digits.starts_with('0')) {
        return international(digits);
    }
    if let Some((home, code)) = home.and_then(|home| Some((home, home.country_code()?))) {
        if let Some(number) = national(digits, home) {
            return Ok((code, number));
        }
        let abroad = home.without_international_prefix(digits);
        if let Some(found) = abroad.and_then(|digits| international(digits).ok()) {
            return Ok(found);
        }
    }
    let (code, number) = split(digits).ok_or(RefusedNumber::Unclear)?;
    if NumberingPlan::of_code(code).any(|plan| plan.matches(number)) {
        Ok((code, number.to_owned()))
    } else {
        Err(RefusedNumber::Unclear)
    }
}

/// Parses a number as it is dialled within its country; `None` if the country has no such number.
fn national(digits: &str, home: NumberingPlan) -> Option<String> {
    let prefix = home.region().map_or("", |region| region.trunk_prefix);
    let without_trunk = || digits.strip_prefix(prefix).filter(|_| !prefix.is_empty()).map(str::to_owned);
    home.without_national_prefix(digits)
        .filter(|number| home.matches(number))
        .or_else(|| without_trunk().filter(|number| home.matches(number)))
        // a number may itself begin with the digits of the prefix
        .or_else(|| home.matches(digits).then(|| digits.to_owned()))
}

/// Splits off the country code. No code is a prefix of another one, and none begins with 0.
fn split(digits: &str) -> Option<(u16, &str)> {
    if digits.starts_with('0') {
        return None;
    }
    (1..=3).find_map(|length| {
        let (code, number) = digits.split_at_checked(length)?;
        let code = code.parse().ok()?;
        NumberingPlan::of_code(code).next().map(|_| (code, number))
    })
}
