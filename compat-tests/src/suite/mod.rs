//! Other people's test suites as ours.
//!
//! They are fetched in pinned versions ([`source`]), run unchanged against a cluster, and every test that does
//! not pass must stand in a list with its reason ([`exceptions`]). The list is exact in both directions: a
//! failure that is not listed fails the run, and so does a listed test that passes, or that does not exist. So
//! the list, and the table that is computed from a run, always say what is true.

pub mod exceptions;
pub mod redis_py;
pub mod redis_tcl;
pub mod source;
pub mod table;

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait_for;
use exceptions::Exceptions;

/// Of the tests that need nothing that is missing, how many must pass, in percent.
const PASSING_MIN: f64 = 97.0;

/// What became of one unit (a file of tests).
pub struct Report {
    pub unit: String,
    /// In the order in which they ran; a name may come twice.
    pub tests: Vec<Test>,
    /// What kept the unit from running to its end, or happened outside any test.
    pub aborts: Vec<String>,
}

/// One test of a suite.
pub struct Test {
    pub name: String,
    pub outcome: Outcome,
}

/// What became of a test.
pub enum Outcome {
    Passed,
    /// With what the suite says about it.
    Failed(String),
    /// Not run because the list of exceptions says so.
    Skipped,
    /// Not run because the suite itself leaves it out: a tag, a version, an option that is missing.
    LeftOut,
}

/// Runs the units of a suite, or the one that `UNIT` names, and holds what comes out against the suite's list
/// of exceptions and its table in the README. `run` is given a unit and the tests of it that are not to be run.
#[expect(clippy::print_stdout, reason = "progress, in a run of minutes")]
pub fn hold(suite: &str, units: &[&str], mut run: impl FnMut(&str, &[&str]) -> Result<Report>) -> Result<()> {
    let only = std::env::var("UNIT").ok();
    let chosen: Vec<_> =
        units.iter().filter(|&&unit| only.as_deref().is_none_or(|only| only == unit)).collect();
    ensure!(!chosen.is_empty(), "UNIT is one of {}", units.join(", "));
    let list = format!("{suite}/exceptions.txt");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&list);
    let exceptions = Exceptions::read(&path)?;
    let (mut rows, mut obsolete) = (Vec::new(), Vec::new());
    let mut complaints = exceptions.unknown_units(units);
    for unit in chosen {
        let start = Instant::now();
        let report = run(unit, &exceptions.skipped(unit))?;
        let verdict = exceptions.judge(&report);
        let (passed, odd) = (verdict.row.passed, verdict.complaints.len() + verdict.obsolete.len());
        println!("{unit}: {passed} passed, {odd} not as listed, {:.1?}", start.elapsed());
        complaints.extend(verdict.complaints);
        obsolete.extend(verdict.obsolete);
        rows.push(verdict.row);
    }
    if updating() {
        exceptions::remove_lines(&path, &obsolete)?;
    } else {
        complaints.extend(obsolete.iter().map(|&line| exceptions.obsolete(line)));
    }
    ensure!(
        complaints.is_empty(),
        "{} differences from compat-tests/{list}\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    let percent = table::percent(&table::total(&rows));
    ensure!(
        only.is_some() || percent >= PASSING_MIN,
        "{percent:.1} % of the tests that need nothing that is missing pass, which is less than {PASSING_MIN} %"
    );
    table::check(suite, &rows, only.is_none())
}

/// Whether lists and tables are to be written, not compared.
fn updating() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// Runs a program and all that it starts to the end: its status and what it printed. Nothing it started
/// outlives `patience`.
pub fn run_to_the_end(command: &mut Command, patience: Duration) -> Result<(ExitStatus, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut output = tempfile::tempfile()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let ended = wait_for(&format!("{program} to end"), patience, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    let mut bytes = Vec::new();
    output.seek(SeekFrom::Start(0))?;
    output.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((ended.with_context(|| format!("it printed:\n{text}"))?, text))
}
