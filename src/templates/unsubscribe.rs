//! `{{ unsubscribe_url }}` in texts: the link to the page on which a message's recipient opts out.

use std::cell::OnceCell;
use std::sync::Arc;

use super::language::{Data, Value};
use crate::kinds::ChannelKind;

/// The placeholder's name.
pub const UNSUBSCRIBE_URL: &str = "unsubscribe_url";

/// Creates the link for an address on a channel, and for a group or for all messages. Returns `None` if recipients
/// cannot reach the service.
pub type UnsubscribeUrl = Arc<dyn Fn(ChannelKind, &str, Option<&str>) -> Option<String> + Send + Sync>;

/// Data with an unsubscribe link, which is created when a text uses it.
pub struct WithLink<'d, F> {
    data: &'d dyn Data,
    make: F,
    link: OnceCell<Option<String>>,
    is_first: bool,
}

impl<'d, F: Fn() -> Option<String>> WithLink<'d, F> {
    /// Adds a link that has precedence over a value with its name, because a client's attribute may be the link of
    /// another system.
    pub fn before(data: &'d dyn Data, make: F) -> Self {
        Self { data, make, link: OnceCell::new(), is_first: true }
    }

    /// Adds a link that a value with its name replaces, because the values of a single message are given for it alone.
    pub fn after(data: &'d dyn Data, make: F) -> Self {
        Self { data, make, link: OnceCell::new(), is_first: false }
    }

    fn link(&self) -> Value<'_> {
        match self.link.get_or_init(&self.make) {
            Some(link) => Value::text(link),
            None => Value::Missing,
        }
    }
}

impl<F: Fn() -> Option<String>> Data for WithLink<'_, F> {
    fn get(&self, name: &str) -> Value<'_> {
        if name != UNSUBSCRIBE_URL {
            return self.data.get(name);
        }
        let (link, given) = (self.link(), self.data.get(name));
        let (first, second) = if self.is_first { (link, given) } else { (given, link) };
        if first.is_missing() { second } else { first }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::templates::{Form, Template};

    fn filled(data: &dyn Data) -> Result<String, String> {
        Template::parse("{{ unsubscribe_url }} {{ name }}", Form::of(ChannelKind::Sms))?.render(data)
    }

    #[test]
    fn a_link_stands_before_or_after_a_value_of_its_name() {
        let own: Map<_, _> = [("name".to_owned(), json!("Dora"))].into_iter().collect();
        let mut foreign = own.clone();
        foreign.insert(UNSUBSCRIBE_URL.to_owned(), json!("https://other.example/u"));
        let link = || Some("https://mail.example/u".to_owned());
        let (here, there) =
            (Ok("https://mail.example/u Dora".into()), Ok("https://other.example/u Dora".into()));
        assert_eq!(filled(&WithLink::before(&own, link)), here);
        assert_eq!(filled(&WithLink::after(&own, link)), here);
        assert_eq!(filled(&WithLink::before(&foreign, link)), here);
        assert_eq!(filled(&WithLink::after(&foreign, link)), there);
        assert_eq!(filled(&WithLink::before(&foreign, || None)), there);
        let why = filled(&WithLink::before(&own, || None)).unwrap_err();
        assert!(why.contains("PUBLIC_URL"), "{why}");
    }
}
