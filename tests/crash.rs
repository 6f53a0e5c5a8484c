//! Kills the real binary: accepted messages are sent, once.

mod accepted;
mod campaign;
mod disk_full;
mod events;
mod failpoints;
mod kills;
mod lost_file;
mod mails;
mod nodes;
mod notifications;
mod postgres_restart;
mod posting;
mod program;
mod recurring;
mod replay;
mod requests;
mod silent_postgres;
mod stop;
