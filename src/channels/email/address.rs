//! Addresses of mail that can stand in a header and in a command of SMTP without more ado.

use lettre::message::Mailbox;

use crate::address::email::EmailAddress;

/// No line of a header becomes longer than a server takes.
const LONGEST_NAME: usize = 200;

/// The address for a header, with the name that is shown, if there is one.
///
/// # Errors
/// When the builder of mails knows better.
pub(super) fn mailbox(address: &EmailAddress, name: Option<String>) -> Result<Mailbox, &'static str> {
    let address = lettre::Address::new(address.local(), address.domain());
    Ok(Mailbox::new(name, address.map_err(|_| "is no e-mail address that can be written into a mail")?))
}

/// Reads `Name <a@b>`, `"Name, with a comma" <a@b>` or `a@b`.
///
/// # Errors
/// Says what is wrong.
pub(super) fn parse_mailbox(text: &str) -> Result<(EmailAddress, Mailbox), &'static str> {
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
    let address = EmailAddress::parse(address.trim())?;
    let mailbox = mailbox(&address, (!name.is_empty()).then_some(name))?;
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
