//! Templates: named texts with placeholders, one for each channel and locale, with all their versions.
//!
//! [`language`] parses and evaluates templates, [`render`] defines the kinds of texts, and [`content`] combines the one
//! to three texts of a message. They are also used for the own texts of mailings. The other modules are the usual
//! layers of a domain.

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
pub mod views;

pub use content::{Content, Filled, Texts};
pub use language::Data;
pub use pool::RenderPool;
pub use render::{Form, Template};
pub use unsubscribe::{UNSUBSCRIBE_URL, UnsubscribeUrl, WithLink};
pub use usecase::Templates;
pub use variants::{Variant, Variants};
