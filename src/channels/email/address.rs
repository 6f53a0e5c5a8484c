//! Addresses of mail that can stand in a header and in a command of SMTP without more ado.

use lettre::message::Mailbox;
use url::Host;

const LONGEST_ADDRESS: usize = 254;
const LONGEST_LOCAL: usize = 64;
/// No line of a header becomes longer than a server takes.
const LONGEST_NAME: usize = 200;

/// `local@domain`: the local part without quotes, the domain in ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    local: String,
    domain: String,
}

impl Address {
    /// Reads one address, which has nothing in it that a header or a command would take for anything else.
    ///
    /// # Errors
    /// Says what an address is, and does not repeat it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let wrong = "is no e-mail address like anna@example.com";
        let (local, domain) = text.rsplit_once('@').ok_or(wrong)?;
        let domain = ascii_domain(domain).ok_or(wrong)?;
        let is_good = text.len() <= LONGEST_ADDRESS
            && domain.len() <= LONGEST_ADDRESS
            && local.len() <= LONGEST_LOCAL
            && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_of_atom));
        if is_good { Ok(Self { local: local.to_owned(), domain }) } else { Err(wrong) }
    }

    /// What stands behind the `@`.
    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether a server must know UTF-8 for it (RFC 6531).
    pub(super) fn is_utf8(&self) -> bool {
        !self.local.is_ascii()
    }

    /// For a header, with the name that is shown, if there is one.
    ///
    /// # Errors
    /// When the builder of mails knows better.
    pub(super) fn mailbox(&self, name: Option<String>) -> Result<Mailbox, &'static str> {
        let address = lettre::Address::new(&*self.local, &*self.domain);
        Ok(Mailbox::new(name, address.map_err(|_| "is no e-mail address that can be written into a mail")?))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// What may stand in an address without quotes: `atext` (RFC 5322, 3.2.3; RFC 6532, 3.2).
fn is_of_atom(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && !c.is_control() && !c.is_whitespace() && !is_invisible(c))
}

/// Marks of direction and joining: they show one address and mean another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn ascii_domain(domain: &str) -> Option<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let ascii = if domain.is_ascii() {
        domain.to_owned()
    } else {
        // it would decode %XX
        if domain.contains('%') {
            return None;
        }
        match Host::parse(domain).ok()? {
            Host::Domain(domain) => domain,
            Host::Ipv4(_) | Host::Ipv6(_) => return None,
        }
    };
    ascii.split('.').all(is_label).then_some(ascii)
}

/// Reads `Name <a@b>`, `"Name, with a comma" <a@b>` or `a@b`.
///
/// # Errors
/// Says what is wrong.
pub(super) fn parse_mailbox(text: &str) -> Result<(Address, Mailbox), &'static str> {
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>') {
        Some(text) => text.rsplit_once('<').ok_or("must be Name <a@b> or a@b")?,
        None => ("", text),
    };
    let name = unquoted(name.trim());
    if name.chars().any(char::is_control) {
        return Err("the name must have no line breaks and other control characters");
    }
    if name.len() > LONGEST_NAME {
        return Err("the name must be at most 200 bytes long");
    }
    let address = Address::parse(address.trim())?;
    let mailbox = address.mailbox((!name.is_empty()).then_some(name))?;
    Ok((address, mailbox))
}

/// Without the quotes around it, and without the backslashes of a quoted string.
fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    let Some(inner) = inner else { return name.to_owned() };
    let mut escaped = false;
    inner
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are_and_domains_become_ascii() {
        for (text, kept) in [
            ("anna@example.com", "anna@example.com"),
            ("a.b+c_d%e@sub.example.com", "a.b+c_d%e@sub.example.com"),
            ("root@localhost", "root@localhost"),
            ("anna@münchen.example", "anna@xn--mnchen-3ya.example"),
            ("änna@example.com", "änna@example.com"),
            ("anna@Example.COM", "anna@Example.COM"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), kept);
            assert_eq!(address.is_utf8(), text.starts_with('ä'));
            assert_eq!(address.mailbox(None).unwrap().to_string(), kept);
        }
    }

    #[test]
    fn what_is_more_than_one_address_is_none() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}example.com", "a.".repeat(130));
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
            "a\u{202e}b@c.d",
            "a\u{85}b@c.d",
            "a\u{a0}b@c.d",
            "a@ü%2ecom",
            "a@ü\r\n.com",
            "a@ü b.com",
            "a@b\u{ad}\u{3002}",
            &long,
            &longer,
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn mailboxes_have_names() {
        for (text, name, address) in [
            ("anna@example.com", None, "anna@example.com"),
            (" <anna@example.com> ", None, "anna@example.com"),
            ("Anna <anna@example.com>", Some("Anna"), "anna@example.com"),
            ("Ännas Läden, Köln <anna@example.com>", Some("Ännas Läden, Köln"), "anna@example.com"),
            (r#""Shop, \"the\" <best>" <a@b.c>"#, Some(r#"Shop, "the" <best>"#), "a@b.c"),
        ] {
            let (found, mailbox) = parse_mailbox(text).unwrap();
            assert_eq!(found.to_string(), address, "{text}");
            assert_eq!(mailbox.name.as_deref(), name, "{text}");
        }
        for text in [
            "",
            "Anna",
            "Anna <>",
            "Anna <a@b.c",
            "Anna a@b.c>",
            "a@b.c <",
            "Anna\r\nBcc: x@y.z <a@b.c>",
            "An\rna <a@b.c>",
            "An\0na <a@b.c>",
            "Anna <a@b.c> <",
            "<a@b.c>, <d@e.f",
        ] {
            assert!(parse_mailbox(text).is_err(), "{text:?}");
        }
        assert!(parse_mailbox(&format!("{} <a@b.c>", "n".repeat(201))).is_err());
    }
}
