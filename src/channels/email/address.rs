//! E-mail addresses in the form that mail headers and SMTP commands accept.

use lettre::message::Mailbox;

use crate::address::email::EmailAddress;

/// Keeps the lines of a header shorter than the limit of mail servers.
const LONGEST_NAME: usize = 200;

/// Returns the address for a header, with its display name if there is one.
///
/// # Errors
/// If `lettre` refuses the address.
pub(super) fn mailbox(address: &EmailAddress, name: Option<String>) -> Result<Mailbox, &'static str> {
    let address = lettre::Address::new(address.local(), address.domain());
    Ok(Mailbox::new(name, address.map_err(|_| "is not an e-mail address that a mail header can contain")?))
}

/// Reads `Name <a@b>`, `"Name, with a comma" <a@b>` or `a@b`.
///
/// # Errors
/// The rule that the text breaks.
pub(super) fn parse_mailbox(text: &str) -> Result<(EmailAddress, Mailbox), &'static str> {
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>') {
        Some(text) => text.rsplit_once('<').ok_or("must be Name <a@b> or a@b")?,
        None => ("", text),
    };
    let name = unquoted(name.trim());
    if name.chars().any(char::is_control) {
        return Err("the name must not have line breaks or other control characters");
    }
    if name.len() > LONGEST_NAME {
        return Err("the name must be at most 200 bytes long");
    }
    let address = EmailAddress::parse(address.trim())?;
    let mailbox = mailbox(&address, (!name.is_empty()).then_some(name))?;
    Ok((address, mailbox))
}

/// Removes the surrounding quotes and the backslashes of a quoted string.
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
