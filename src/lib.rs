#![doc = include_str!("ARCHITECTURE.md")]

pub mod error;
pub mod glob;

pub mod env;
pub mod metrics;

pub mod config;
pub mod resp;
pub mod store;

pub mod pubsub;
pub mod types;

pub mod script;

pub mod tracking;

pub mod session;

pub mod commands;

pub mod machine;

pub mod raft;

pub mod node;

pub mod server;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tidy;
