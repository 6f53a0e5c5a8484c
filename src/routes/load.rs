//! A set of routes with their templates, from a file: `fanfare routes load FILE`.

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

use super::model::{Changes, DeliveryDraft};
use super::usecase::{Put, Routes};
use crate::error::{Error, FieldError, Result};

/// What a file holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set<T> {
    /// Texts, each as the API takes them.
    #[serde(default = "Vec::new")]
    pub templates: Vec<T>,
    /// Routes, each as the API takes them.
    #[serde(default)]
    pub routes: Vec<RouteEntry>,
}

/// A route of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    event: String,
    description: Option<String>,
    group: Option<String>,
    transactional: Option<bool>,
    enabled: Option<bool>,
    deliveries: Vec<DeliveryDraft>,
}

/// What became of a file's entries of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// They are new.
    pub created: usize,
    /// They are in the place of others.
    pub replaced: usize,
    /// They were there, or others were in their place.
    pub kept: usize,
}

impl Loaded {
    /// Counts one.
    pub fn count(&mut self, put: Put) {
        match put {
            Put::Created => self.created += 1,
            Put::Replaced => self.replaced += 1,
            Put::Kept => self.kept += 1,
        }
    }
}
