#![doc = include_str!("ARCHITECTURE.md")]

pub mod error;
pub mod glob;
mod mutants;

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

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
#[cfg(test)]
mod sim;
/// Of the simulated world, other packages get the judges of histories.
#[cfg(all(feature = "check", not(test)))]
pub mod sim {
    pub mod check;
}
#[cfg(test)]
mod tidy;
