//! The command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::curve::{CURVES, Curve};
use crate::server::{self, TARGETS, Target};
use crate::stage::Generator;
use crate::workload::{WORKLOADS, Workload};

pub const HELP: &str = "\
Quorate beside its peers, in one run: starts every server by itself on this machine, puts the same loads on
them in turn, and prints what they did as Markdown tables. All of it takes about half an hour; --quick, a minute.

Usage: cargo run --release -p bench -- [OPTIONS]

  --quick           One short pair of the main workloads, to see that everything works
  --seconds N       Length of each run [2; with --quick 1]
  --pairs N         Pairs of runs, one of each on the server and one on the reference [5; with --quick 1]
  --only NAME,...   These workloads, or these servers, or both; may be repeated. The reference is always measured
  --curves NAME,... Instead, draw how costs change as one thing grows: these curves, or all [3 runs at each point]
  --scale           Instead, measure what a large state costs: restarts, memory, checkpoints, a new follower
  --keys N          How large that state is [5000000]
  --by TOOL         Put the load on with another generator than our own: redis-benchmark, which has SET and GET
  --out DIR         Where results are kept, as JSON and Markdown [bench-results in cargo's target directory]
  --dir DIR         Where the servers' data is while they run; on the disk to be measured [cargo's target directory]
  --server PATH     A quorate program to measure instead of the one that cargo builds from these sources
  --list            Print the names of the workloads and servers
  --help            Print this
";

/// What is wanted.
#[derive(Debug)]
pub enum Invocation {
    Run(Options),
    List,
    Help,
}

/// What to run, and how.
#[derive(Debug)]
pub struct Options {
    pub seconds: f64,
    pub pairs: usize,
    pub workloads: Vec<&'static Workload>,
    /// Without the reference, unless it is all that was asked for.
    pub targets: Vec<&'static Target>,
    pub by: Generator,
    /// What to draw, instead of comparing.
    pub curves: Vec<&'static Curve>,
    /// How many keys to measure the costs of a large state with, instead of comparing.
    pub scale: Option<u64>,
    pub out: Option<PathBuf>,
    pub dir: Option<PathBuf>,
    pub server: Option<PathBuf>,
}

/// Reads the arguments that follow the program's name.
pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Invocation> {
    let (mut quick, mut by) = (false, Generator::Own);
    let (mut seconds, mut pairs) = (None, None);
    let (mut out, mut dir, mut server) = (None, None, None);
    let (mut only, mut curves) = (Vec::new(), Vec::new());
    let (mut scale, mut keys) = (false, 5_000_000);
    while let Some(flag) = args.next() {
        let mut value = || args.next().with_context(|| format!("{flag} wants a value"));
        match flag.as_str() {
            "--quick" => quick = true,
            "--seconds" => seconds = Some(number(&flag, &value()?, 0.1, 3_600.0)?),
            "--pairs" => pairs = Some(number(&flag, &value()?, 1.0, 1_000.0)? as usize),
            "--only" => only.extend(value()?.split(',').map(str::to_owned)),
            "--curves" => curves.extend(choose_curves(&value()?)?),
            "--scale" => scale = true,
            "--keys" => keys = number(&flag, &value()?, 1_000.0, 1e9)? as u64,
            "--by" => match value()?.as_str() {
                "redis-benchmark" => by = Generator::RedisBenchmark,
                other => bail!("--by knows redis-benchmark, not {other:?}"),
            },
            "--out" => out = Some(value()?.into()),
            "--dir" => dir = Some(value()?.into()),
            "--server" => server = Some(value()?.into()),
            "--list" => return Ok(Invocation::List),
            "--help" | "-h" => return Ok(Invocation::Help),
            _ => bail!("{flag:?} is no option; --help lists them"),
        }
    }
    if by != Generator::Own && (scale || !curves.is_empty()) {
        bail!(
            "--by is for the comparison: curves and --scale take steady rates, which only our own load generator keeps"
        );
    }
    let (workloads, targets) = select(&only, quick)?;
    Ok(Invocation::Run(Options {
        seconds: seconds.unwrap_or(if quick { 1.0 } else { 2.0 }),
        pairs: pairs.unwrap_or(if quick {
            1
        } else if curves.is_empty() {
            5
        } else {
            3
        }),
        workloads,
        targets,
        by,
        curves,
        scale: scale.then_some(keys),
        out,
        dir,
        server,
    }))
}

fn number(flag: &str, text: &str, min: f64, max: f64) -> Result<f64> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.with_context(|| format!("{flag} wants a number from {min} to {max}, not {text:?}"))
}

/// The curves named, or all.
fn choose_curves(names: &str) -> Result<Vec<&'static Curve>> {
    if names == "all" {
        return Ok(CURVES.iter().collect());
    }
    let named = |name: &str| CURVES.iter().find(|curve| curve.name == name);
    names
        .split(',')
        .map(|name| named(name).with_context(|| format!("{name:?} is no curve; --list lists them")))
        .collect()
}

/// The workloads and servers named in `only`; of a sort of which none is named, all, or the quick ones.
fn select(only: &[String], quick: bool) -> Result<(Vec<&'static Workload>, Vec<&'static Target>)> {
    let mut workloads: Vec<_> = WORKLOADS.iter().filter(|workload| names(only, workload.name)).collect();
    let mut targets: Vec<_> = TARGETS.iter().filter(|target| names(only, target.name)).collect();
    let is_known = |name: &str| {
        workloads.iter().any(|workload| workload.name == name)
            || targets.iter().any(|target| target.name == name)
    };
    if let Some(unknown) = only.iter().find(|name| !is_known(name)) {
        bail!("{unknown:?} is neither a workload nor a server; --list lists them");
    }
    if workloads.is_empty() {
        workloads.extend(WORKLOADS.iter().filter(|workload| workload.quick || !quick));
    }
    if targets.is_empty() {
        targets.extend(&TARGETS);
    }
    if targets.len() > 1 {
        targets.retain(|target| target.name != server::REFERENCE.name);
    }
    Ok((workloads, targets))
}

fn names(only: &[String], name: &str) -> bool {
    only.iter().any(|only| only == name)
}

/// The names of everything there is.
#[must_use]
pub fn list() -> String {
    let mut text = String::from("Workloads:\n");
    for workload in &WORKLOADS {
        let quick = if workload.quick { " (in --quick)" } else { "" };
        text += &format!("  {:<20} {workload}{quick}\n", workload.name);
    }
    text += "Servers:\n";
    for target in &TARGETS {
        text += &format!("  {:<20} {}\n", target.name, target.title);
    }
    text += "Curves:\n";
    for curve in &CURVES {
        text += &format!("  {:<20} {}\n", curve.name, curve.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Invocation::Run(options) => Ok(options),
            other => bail!("{other:?}"),
        }
    }

    /// Checks the length and number of the runs, and what is run.
    #[track_caller]
    fn check(line: &str, expect: &str) {
        let found = options(line).map(|options| {
            let workloads: Vec<_> = options.workloads.iter().map(|workload| workload.name).collect();
            let targets: Vec<_> = options.targets.iter().map(|target| target.name).collect();
            let (workloads, targets) = (workloads.join(","), targets.join(","));
            format!("{}x{}s {workloads} on {targets}", options.pairs, options.seconds)
        });
        assert_eq!(found.unwrap_or_else(|error| format!("! {error}")), expect, "{line:?}");
    }

    #[test]
    fn some_of_each_sort_can_be_chosen() {
        check("--only set-c50-p1,quorate-3", "5x2s set-c50-p1 on quorate-3");
        check("--only quorate-1 --only get-c50-p1 --pairs 3", "3x2s get-c50-p1 on quorate-1");
        check("--only redis-always,set-c1-p1 --seconds 0.5", "5x0.5s set-c1-p1 on redis-always");
        let quick = "set-c1-p1,set-c50-p1,set-c50-p16,get-c50-p1,get-c50-p16";
        check("--quick --only quorate-3,redis-always", &format!("1x1s {quick} on quorate-3"));
    }

    #[test]
    fn everything_is_the_default() {
        let options = options("").expect("no options are fine");
        assert_eq!((options.workloads.len(), options.targets.len()), (WORKLOADS.len(), TARGETS.len() - 1));
    }

    #[test]
    fn mistakes_are_named() {
        check("--fast", "! \"--fast\" is no option; --help lists them");
        check("--pairs", "! --pairs wants a value");
        check("--pairs 0", "! --pairs wants a number from 1 to 1000, not \"0\"");
        check("--seconds x", "! --seconds wants a number from 0.1 to 3600, not \"x\"");
        check("--only set", "! \"set\" is neither a workload nor a server; --list lists them");
        check("--curves circle", "! \"circle\" is no curve; --list lists them");
        let why = "curves and --scale take steady rates, which only our own load generator keeps";
        check("--by redis-benchmark --scale", &format!("! --by is for the comparison: {why}"));
        check("--by wrk", "! --by knows redis-benchmark, not \"wrk\"");
    }

    #[test]
    fn everything_is_listed() {
        let list = list();
        assert!(WORKLOADS.iter().all(|workload| list.contains(workload.name)));
        assert!(TARGETS.iter().all(|target| list.contains(target.name)));
    }
}
