//! Tests the delivery contract on both databases, with the service and a provider in this process.

mod bench;
mod cancelling;
mod changes;
mod channels;
mod clock;
mod defects;
mod everyone;
mod locales;
mod nodes;
mod own_channel;
mod pause;
mod preferences;
mod priorities;
mod replays;
mod restart;
mod retries;
mod scripted;
mod sick_provider;
mod start;
mod states;
mod switch;
mod unrecorded;
mod window;
