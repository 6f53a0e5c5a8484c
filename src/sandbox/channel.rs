//! The channels that the sandbox knows. It shares no code with the service, so it has its own list.

use serde::{Deserialize, Serialize};

/// Defines the channels, and the counts of their messages.
macro_rules! channels {
    ($($(#[$meta:meta])* $variant:ident = $field:ident,)+) => {
        /// A channel, by its word in the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum Channel { $($variant,)+ }

        /// Received messages by channel.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct ByChannel { $($(#[$meta])* pub $field: u64,)+ }

        impl ByChannel {
            pub(super) fn count(&mut self, channel: Channel) {
                let field = match channel { $(Channel::$variant => &mut self.$field,)+ };
                *field += 1;
            }

            pub(super) fn add(&mut self, other: &Self) { $(self.$field += other.$field;)+ }
        }
    };
}

channels! {
    /// Text messages, on either path.
    Sms = sms,
    /// E-mails.
    Email = email,
    /// Push notifications.
    Push = push,
    /// Webhooks.
    Webhook = webhook,
    /// Messages to Discord channels.
    Discord = discord,
    /// Messages to inboxes.
    InApp = in_app,
    /// HTTP requests, in place of the servers that they name.
    #[serde(default)]
    Request = request,
}
