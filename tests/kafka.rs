//! Events from a real Kafka broker into the whole service, on both databases.

mod access;
mod groups;
mod house;
mod interrupted;
mod kills;
mod outages;
mod records;
mod refused;
