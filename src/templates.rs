//! Templates: texts with placeholders, kept under a name, by channel and locale, with all their versions.
//!
//! [`render`] reads a text and fills it, [`content`] is what a message says, in one to three texts. Both are used for
//! texts that stand in a mailing itself, too. The layers over them are those of every domain.

mod cache;
pub mod content;
pub mod handler;
pub mod model;
pub mod render;
pub mod repo;
mod scan;
pub mod usecase;
mod variants;

pub use content::{Content, Filled, Texts};
pub use render::{Form, Template, describe, environment, values};
pub use usecase::Templates;
pub use variants::{Variant, Variants};
