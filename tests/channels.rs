//! The channels' adapters against real peers: programs in other languages that speak the providers' protocols.

mod credentials;
mod discord;
mod email;
mod hook;
mod peer;
mod push;
mod requests;
mod sms;
mod unsubscribe;
mod webhook;
mod whole;
