//! Simulated clusters, which live through more in a minute than real ones in half an hour.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Campaign, Extent, Length, Report};

pub const CAMPAIGN: Campaign = Campaign {
    name: "sim",
    about: "clusters of three and five in one process each, on a network, disks and clocks that a seed has fail; eleven \
            invariants after each step",
    run,
};

/// How long clusters have to have lived, all together and in their own time.
const RELEASE_HOURS: u64 = 20;

fn run(extent: &mut Extent) -> Result<Report> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = super::cargo();
    cargo.args(["test", "-p", "quorate", "--lib"]);
    if !extent.is_short() {
        // What makes it faster takes minutes to build. Assertions stay.
        cargo.args(["--release", "--target-dir"]).arg(package.join("target/sim"));
        cargo.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
        // Seeds one after the other from one of its own.
        cargo.env("SEED", extent.seed.to_string());
        match extent.length {
            Length::Lasting(time) => cargo.env("MINUTES", time.as_secs().div_ceil(60).to_string()),
            _ => cargo.env("HOURS", RELEASE_HOURS.to_string()),
        };
    }
    cargo.args(["sim::campaign::campaign", "--", "--exact", "--nocapture"]);
    let ran = cargo.current_dir(&package).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{}\n{said}\n{}", ran.status, String::from_utf8_lossy(&ran.stdout));
    let summary = said.lines().skip_while(|line| !line.contains("cluster-hours"));
    let summary = summary.map(str::to_owned).collect::<Vec<_>>();
    let [clusters, operations, judged, outcomes, faults, verdict, ..] = summary.as_slice() else {
        return Err(anyhow::anyhow!("{said}")).context("the simulator gives no figures");
    };
    let mut report = Report::default();
    report.add("clusters", clusters);
    for line in [operations, judged, outcomes, faults] {
        let (name, figure) = line.split_once(": ").context("a name and a figure")?;
        report.add(name, figure);
    }
    report.add("simulated", verdict);
    Ok(report)
}
