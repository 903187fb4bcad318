//! Long attempts to break a cluster of real processes, each with one kind of violence.
//!
//! A campaign goes on for as long as it is given, and at least for a minimum that proves something. It says what it
//! did: a fault that did not happen, or happened to an idle cluster, proves nothing and is a failure. `cargo test` runs
//! each for its minimum; `cargo run -p compat-tests --bin prove` runs them for as long as one likes.

mod bit_flips;
mod disk_full;
mod failover;
mod faults;
mod fuzz;
mod mutants;
pub mod power_cut;
mod sim;
mod sync_error;
pub mod table;

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::client::ask;
use crate::cluster::{Cluster, PATIENCE};
use crate::dice::Dice;
use crate::lab::Lab;
use crate::wait_for;

/// One kind of violence.
pub struct Campaign {
    pub name: &'static str,
    /// What is done, and what must hold.
    pub about: &'static str,
    pub run: fn(&mut Extent) -> Result<Report>,
}

/// Those that need nothing to be built, the shortest first.
pub const LAB: [Campaign; 6] = [
    bit_flips::CAMPAIGN,
    disk_full::CAMPAIGN,
    sync_error::CAMPAIGN,
    failover::CAMPAIGN,
    power_cut::CAMPAIGN,
    faults::CAMPAIGN,
];

/// Those that build what they run.
pub const BUILT: [Campaign; 3] = [mutants::CAMPAIGN, sim::CAMPAIGN, fuzz::CAMPAIGN];

/// The size of a node's disk. Nodes want some of it to be left free.
const DISK_BYTES: u64 = 2 << 30;

/// What a node may end with whose disk fails: its log failed, its state failed.
const DISK_FAILED: [i32; 2] = [70, 71];

/// How much is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As little as proves something.
    Least,
    /// At least that, and for so long.
    Lasting(Duration),
    /// What a release has to have been through.
    Release,
}

/// How often something is done.
struct Rounds {
    least: usize,
    release: usize,
}

/// How much of a campaign is asked for.
pub struct Extent {
    /// Where all choices come from. The machine's timing does not: a seed repeats what was tried, not what came of it.
    pub seed: u64,
    pub dice: Dice,
    length: Length,
    start: Instant,
}

impl Extent {
    /// Begins now.
    #[must_use]
    pub fn new(seed: u64, length: Length) -> Self {
        Self { seed, dice: Dice::new(seed), length, start: Instant::now() }
    }

    /// Whether another round is asked for, after so many.
    fn goes_on(&self, done: usize, rounds: &Rounds) -> bool {
        match self.length {
            Length::Least => done < rounds.least,
            Length::Lasting(time) => done < rounds.least || self.start.elapsed() < time,
            Length::Release => done < rounds.release,
        }
    }

    /// How long it is to last, if a release takes so long.
    const fn lasts(&self, release: Duration) -> Duration {
        match self.length {
            Length::Least => Duration::ZERO,
            Length::Lasting(time) => time,
            Length::Release => release,
        }
    }

    /// Whether no more than the minimum is asked for.
    fn is_short(&self) -> bool {
        self.length == Length::Least
    }
}

/// What a campaign did, in figures.
#[derive(Default)]
pub struct Report {
    figures: Vec<(String, String)>,
    details: Vec<(String, String)>,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, figure: impl fmt::Display) {
        self.figures.push((name.into(), figure.to_string()));
    }

    /// Adds what is for those only who follow the run.
    pub fn add_detail(&mut self, name: impl Into<String>, detail: impl fmt::Display) {
        self.details.push((name.into(), detail.to_string()));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.figures.iter().chain(&self.details);
        lines.try_for_each(|(name, figure)| writeln!(to, "  {name}: {figure}"))
    }
}

/// Starts the nodes of a lab, with all that a campaign wants to ask them.
fn cluster_for(lab: &mut Lab) -> Result<()> {
    for node in &mut lab.cluster.nodes {
        node.options.extend(["--enable-debug-command", "yes"].map(str::to_owned));
    }
    lab.cluster.start_all()
}

/// The cargo that runs this, or the one that a shell would take.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Waits until all nodes hold the same, by their own account of it: the digest of all keys and values.
fn agree(cluster: &Cluster) -> Result<String> {
    let digest = |node| -> Result<String> {
        let reply = ask(node, &["DEBUG", "DIGEST"])?;
        Ok(String::from_utf8_lossy(reply.text().context("a digest is text")?).into_owned())
    };
    wait_for("all nodes to hold the same", PATIENCE, || {
        let digests: Result<Vec<_>> = cluster.addresses().into_iter().map(digest).collect();
        Ok(digests
            .ok()
            .filter(|digests| digests.windows(2).all(|pair| pair[0] == pair[1]))
            .and_then(|mut digests| digests.pop()))
    })
}
