//! E-mail addresses. The API and the e-mail channel share one parser, so every accepted address can be sent to.

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use super::text::{composed, is_invisible};

/// The longest address, in bytes (RFC 5321, 4.5.3.1.3).
const LONGEST: usize = 254;
/// The longest part before the `@`, in bytes (RFC 5321, 4.5.3.1.1).
const LONGEST_LOCAL: usize = 64;

const FORM: &str = "must be an e-mail address like anna@example.com";
const INVISIBLE: &str = "has an invisible character: type the address instead of pasting it";

/// `local@domain`. The local part is unquoted and composed (NFC); the domain is lower-case ASCII (IDNA).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailAddress {
    local: String,
    domain: String,
}

impl EmailAddress {
    /// Parses one address. An accepted address cannot inject anything into a header or an SMTP command.
    ///
    /// # Errors
    /// The form of an address, without repeating this one.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (local, domain) = text.rsplit_once('@').ok_or(FORM)?;
        if text.chars().any(is_invisible) {
            return Err(INVISIBLE);
        }
        let local = composed(local);
        let is_local = local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_of_atom));
        let domain = ascii_domain(domain).ok_or(FORM)?;
        if is_local
            && local.len() <= LONGEST_LOCAL
            && text.len().max(local.len() + 1 + domain.len()) <= LONGEST
        {
            Ok(Self { local: local.into_owned(), domain })
        } else {
            Err(FORM)
        }
    }

    /// The part before the `@`.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the address with its domain in Unicode, as people write it.
    pub fn in_unicode(&self) -> String {
        let (domain, _) =
            Uts46::new().to_unicode(self.domain.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        format!("{}@{domain}", self.local)
    }

    /// Returns true if servers need SMTPUTF8 for it (RFC 6531).
    pub fn is_utf8(&self) -> bool {
        !self.local.is_ascii()
    }

    /// Returns the form in which all spellings of one address are equal. Servers may distinguish upper and lower case
    /// before the `@` (RFC 5321, 2.4), but no public mail service does.
    pub fn normal(&self) -> String {
        let local = self.local.to_lowercase();
        format!("{}@{}", composed(&local), self.domain)
    }
}

impl std::fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// Returns true for a domain in lower-case ASCII that UTS #46 does not change, as most are. The check costs a tenth of
/// the full algorithm.
fn is_plain(domain: &str) -> bool {
    let is_plain_label = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.starts_with("xn--")
    };
    let has_name = |last: &str| last.bytes().any(|b| !b.is_ascii_digit());
    domain.len() <= 253
        && domain.split('.').all(is_plain_label)
        && domain.rsplit('.').next().is_some_and(has_name)
}

/// Returns true if the character may occur in an unquoted address: `atext` (RFC 5322, 3.2.3; RFC 6532, 3.2).
fn is_of_atom(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
}

/// Returns the domain in ASCII (UTS #46), if it is a valid DNS name.
fn ascii_domain(domain: &str) -> Option<String> {
    if is_plain(domain) {
        return Some(domain.to_owned());
    }
    let ascii = Uts46::new()
        .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .ok()?
        .into_owned();
    // a name that ends in digits is an IP address
    let is_name = ascii.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
    is_name.then_some(ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_plain_stays_as_it_is(domain in "(xn-)?[a-z0-9-]{0,5}(\\.[a-z0-9-]{0,70}){0,4}|\\PC{0,12}") {
            let ascii = Uts46::new().to_ascii(
                domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify,
            );
            if is_plain(&domain) {
                prop_assert_eq!(ascii.unwrap_or_default(), domain.as_str());
            }
        }
    }

    #[test]
    fn addresses_of_every_script_are_taken_and_domains_become_ascii() {
        for (text, kept) in [
            ("anna@example.com", "anna@example.com"),
            ("a.b+c_d%e@sub.example.com", "a.b+c_d%e@sub.example.com"),
            ("o'brien@example.com", "o'brien@example.com"),
            ("root@localhost", "root@localhost"),
            ("Anna@Example.COM", "Anna@example.com"),
            ("anna@münchen.example", "anna@xn--mnchen-3ya.example"),
            ("anna@MÜNCHEN.example", "anna@xn--mnchen-3ya.example"),
            ("zoe\u{308}@example.com", "zoë@example.com"),
            ("имя@почта.рф", "имя@xn--80a1acny.xn--p1ai"),
            ("ผู้ใช้@ตัวอย่าง.ไทย", "ผู้ใช้@xn--72c1a1bt4awk9o.xn--o3cw4h"),
            ("संपर्क@डाटामेल.भारत", "संपर्क@xn--c2bd4bq1db8d.xn--h2brj9c"),
            ("δοκιμή@παράδειγμα.δοκιμή", "δοκιμή@xn--hxajbheg2az3al.xn--jxalpdlp"),
        ] {
            let address = EmailAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), kept);
            assert_eq!(address.is_utf8(), !kept.is_ascii());
            assert_eq!(EmailAddress::parse(&address.in_unicode()), Ok(address));
        }
    }

    #[test]
    fn what_is_more_than_one_address_or_none_is_refused() {
        let (long, longer) = (format!("{}@b.co", "a".repeat(65)), format!("a@{}co", "b.".repeat(130)));
        let label = format!("a@{}.co", "b".repeat(64));
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b.c",
            "a@b@c.d",
            "a b@c.d",
            "a@b.c d",
            "a@b.c\r\nRCPT TO:<x@y.z>",
            "a\r\n@b.c",
            "a\0@b.c",
            "a@b.c\0",
            "<a@b.c>",
            "a@b.c>",
            "a@b.c> SIZE=1",
            "a,x@b.c",
            "a@b.c,d@e.f",
            "\"a b\"@c.d",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@[IPv6:::1]",
            ".a@b.c",
            "a.@b.c",
            "a..b@c.d",
            "a@b..c",
            "a@-b.c",
            "a@b-.c",
            "a@b.c.",
            "a:b@c.d",
            "a;b@c.d",
            "(x)a@b.c",
            "a\\@b.c",
            "a\u{85}b@c.d",
            "a\u{a0}b@c.d",
            "a@ü%2ecom",
            "a@ü\r\n.com",
            "a@ü b.com",
            "a@b.co'",
            "anna@exam!ple.com",
            "anna@example.com?subject=x",
            "a@%62.example",
            "a@b_c.example",
            "mailto:a@b.c",
            &long,
            &longer,
            &label,
        ] {
            assert_eq!(EmailAddress::parse(text), Err(FORM), "{text:?}");
        }
        for text in ["a\u{202e}b@c.d", "a@ex\u{200b}ample.com", "a@b\u{ad}\u{3002}", "a\u{feff}@b.example"] {
            assert_eq!(EmailAddress::parse(text), Err(INVISIBLE), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_again_changes_nothing(local in "[A-Za-zëЖ\u{308}.+]{1,8}", domain in "[a-zA-ZüßЯ-]{1,6}\\.[a-zрф]{2,4}") {
            let Ok(address) = EmailAddress::parse(&format!("{local}@{domain}")) else { return Ok(()) };
            prop_assert_eq!(&EmailAddress::parse(&address.to_string()).unwrap(), &address);
            let normal = EmailAddress::parse(&address.normal()).unwrap();
            prop_assert_eq!(normal.normal(), address.normal());
            prop_assert_eq!(normal.to_string(), normal.normal());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}@?\\PC{0,20}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert!(!address.to_string().contains(['\r', '\n', ' ', '<', '>', ',']));
            }
        }
    }
}
