//! Storage tests. Every test runs on SQLite and on PostgreSQL.

mod audience;
mod backlog;
mod clients;
mod credentials;
mod dead_letters;
mod endpoints;
mod engine;
mod engine_plans;
mod explain;
mod failures;
mod import;
mod import_jobs;
mod inbox;
mod messages;
mod notifications;
mod plans;
mod pooler;
mod positions;
mod preferences;
mod recurring;
mod schema;
mod session;
mod shared_addresses;
mod stage;
mod templates;
