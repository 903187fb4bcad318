//! Quorate beside its peers, in one run.
//!
//! One command starts all servers on this machine, fills them with the same keys, puts the same loads on them
//! and prints what they did. Everything that could favour one of them is meant to be the same for all: one
//! disk, one load generator, one moment. The moment is what alternation is for: each run stands beside one of
//! the reference's, in an order that changes from pair to pair.
//!
//! What it cannot see: work that a server puts off until after a run, as long as that run is short. Long runs
//! (`--seconds 60`) contain checkpoints and rewrites of logs; short ones wait for them to end, in between.

mod options;
mod workload;

mod stage;

mod comparison;
mod curve;
mod plot;
mod scale;

mod load;
mod measure;
mod server;

mod report;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use comparison::Comparison;
use measure::Machine;
use options::{Invocation, Options};
use report::Report;
use scale::Scale;
use serde_json::json;
use stage::Stage;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Invocation::Run(options)) => options,
        Ok(Invocation::List) => return end(print(&options::list())),
        Ok(Invocation::Help) => return end(print(options::HELP)),
        Err(error) => {
            eprintln!("bench: {error:#}");
            return ExitCode::from(2);
        }
    };
    end(run(&options))
}

fn end(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints to a reader that may have gone.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Measures everything, prints it, and keeps it in files.
fn run(options: &Options) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let place = Place::new(options)?;
    let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(&place.data)?;
    let machine = Machine::describe(directory.path())?;
    if machine.is_in_memory() {
        bail!("{} is in memory; --dir wants a directory on a disk", place.data.display());
    }
    fs::create_dir_all(&place.out)?;
    let mut stage = Stage::new(&place.quorate, directory.path(), &stop, options.by)?;
    if let Some(keys) = options.scale {
        let mut scale = Scale::default();
        let measured = scale::measure(&mut stage, keys, &mut scale);
        let json = json!({ "machine": machine.to_json(), "keys": keys, "found": scale.json() });
        keep(&place.out, "scale", &json, &scale.markdown())?;
        return measured;
    }
    if !options.curves.is_empty() {
        let run = (options.seconds, options.pairs);
        for curve in &options.curves {
            print(&curve::draw(curve, &mut stage, run, &machine, &place.out)?)?;
        }
        return Ok(());
    }
    let mut report = Report {
        machine,
        seconds: options.seconds,
        pairs: options.pairs,
        runs: Vec::new(),
        by: options.by,
        notes: Vec::new(),
    };
    Comparison::new(options, stage).run(&mut report);
    keep(&place.out, &report.machine.date.replace(':', ""), &report.json(), &report.markdown())?;
    ensure!(!stop.load(Ordering::Relaxed), "interrupted");
    ensure!(!report.runs.is_empty(), "nothing was measured");
    Ok(())
}

/// Prints what people read, and keeps it beside what programs read.
fn keep(out: &Path, name: &str, json: &serde_json::Value, markdown: &str) -> Result<()> {
    print(markdown)?;
    let file = out.join(name);
    for (extension, text) in [("json", serde_json::to_string_pretty(json)?), ("md", markdown.to_owned())] {
        let file = file.with_extension(extension);
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        eprintln!("kept in {}", file.display());
    }
    Ok(())
}

/// The files that a run needs.
struct Place {
    /// The program to measure.
    quorate: PathBuf,
    /// Where the servers' data goes.
    data: PathBuf,
    /// Where results go.
    out: PathBuf,
}

impl Place {
    fn new(options: &Options) -> Result<Self> {
        // target/PROFILE/bench
        let program = std::env::current_exe()?;
        let target = program.ancestors().nth(2).context("this program lives in target/PROFILE")?;
        if cfg!(debug_assertions) {
            eprintln!("This load generator is a debug build, and slow: cargo run --release -p bench");
        }
        let quorate = match &options.server {
            Some(path) => path.clone(),
            None if options.targets.iter().all(|target| target.service.foreign_program().is_some()) => {
                PathBuf::new()
            }
            None => build(target)?,
        };
        Ok(Self {
            quorate,
            data: options.dir.clone().unwrap_or_else(|| target.to_owned()),
            out: options.out.clone().unwrap_or_else(|| target.join("bench-results")),
        })
    }
}

/// Builds Quorate, if its sources have changed: cargo knows. Returns the program.
fn build(target: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "-p", "quorate", "--bin", "quorate", "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .context("cargo builds the server; --server PATH takes one that is built")?;
    ensure!(status.success(), "cargo build -p quorate failed");
    Ok(target.join("release/quorate"))
}
