//! Planted bugs, to see whether the simulator would notice: a judge who has never found anything has shown nothing.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Campaign, Extent, Report};

/// Fewer than this have shown nothing.
const LEAST: usize = 15;

pub const CAMPAIGN: Campaign = Campaign {
    name: "mutants",
    about: "bugs planted in the simulated server, one after another: each must be found, and for what it is; without them \
            nothing may be",
    run,
};

/// The same however much is asked for.
fn run(_: &mut Extent) -> Result<Report> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = super::cargo();
    cargo.args(["test", "-p", "quorate", "--lib", "sim::mutants", "--", "--nocapture"]);
    cargo.env("MUTANT", "all").env_remove("SEED");
    let ran = cargo.current_dir(&package).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{}\n{said}\n{}", ran.status, String::from_utf8_lossy(&ran.stdout));
    let mut found = said.lines().filter_map(|line| line.strip_prefix("found ")).collect::<Vec<_>>();
    found.sort_unstable();
    ensure!(found.len() >= LEAST, "only {} bugs were planted\n{said}", found.len());
    let mut report = Report::default();
    report.add("bugs planted and found", found.len());
    for line in found {
        let (name, figure) = line.split_once(": ").context("a bug and what found it")?;
        report.add_detail(name, figure);
    }
    Ok(report)
}
