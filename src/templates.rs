//! Templates: texts with placeholders, kept under a name, by channel and locale, with all their versions.
//!
//! [`language`] parses and evaluates, [`render`] knows the kinds of texts, [`content`] is what a message says, in one to three texts. Both are used for
//! texts that stand in a mailing itself, too. The layers over them are those of every domain.

mod cache;
pub mod content;
pub mod handler;
pub mod language;
pub mod model;
pub mod pool;
pub mod render;
pub mod repo;
pub mod unsubscribe;
pub mod usecase;
mod variants;

pub use content::{Content, Filled, Texts};
pub use language::Data;
pub use pool::Pool;
pub use render::{Form, Template};
pub use unsubscribe::{UNSUBSCRIBE_URL, UnsubscribeUrl, WithLink};
pub use usecase::Templates;
pub use variants::{Variant, Variants};
