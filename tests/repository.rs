//! Tests of the files of the repository: sources, documentation, the compose file and the image's build context. They
//! need no server and no network.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking"
)]

mod architecture;
mod compose;
mod documents;
mod image_context;
mod settings;
mod sources;
mod words;
