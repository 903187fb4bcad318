//! libFuzzer at everything that reads what strangers send.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Campaign, Extent, Report};

pub const CAMPAIGN: Campaign = Campaign {
    name: "fuzz",
    about: "bytes that nobody thought of, at parsers and decoders; what breaks one is kept in target/fuzz/found",
    run,
};

/// What libFuzzer asks of the compiler: counters on every edge, and what is compared with what.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";
/// What no input of a few kilobytes should need.
const MEMORY_MB: u32 = 512;
const LONGEST_INPUT_SECONDS: u32 = 10;
/// For each target, when no time is asked for.
const LEAST: Duration = Duration::from_secs(5);
/// For all of them.
const RELEASE: Duration = Duration::from_secs(600);

fn run(extent: &mut Extent) -> Result<Report> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpora = manifest.join("../src/fuzz/corpus");
    let output = manifest.join("../target/fuzz");
    let program = build(&manifest.join("fuzz"), &output)?;
    let mut targets = Vec::new();
    for entry in fs::read_dir(&corpora)? {
        targets.push(entry?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    let each = LEAST.max(extent.lasts(RELEASE) / u32::try_from(targets.len())?);
    let mut report = Report::default();
    for target in targets {
        // What is found by the way is kept for the next time, apart from what the tests replay.
        let (grown, found) = (output.join("corpus").join(&target), output.join("found").join(&target));
        fs::create_dir_all(&grown)?;
        fs::create_dir_all(&found)?;
        let ran = Command::new(&program)
            .env("TARGET", &target)
            .args([&grown, &corpora.join(&target)])
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(format!("-max_total_time={}", each.as_secs()))
            .arg(format!("-rss_limit_mb={MEMORY_MB}"))
            .arg(format!("-timeout={LONGEST_INPUT_SECONDS}"))
            .arg(format!("-seed={}", extent.dice.below(1 << 31)))
            .arg("-print_final_stats=1")
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "{target}: {}\n{said}", ran.status);
        let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        let runs: u64 = runs.context("libFuzzer gives no figures")?.trim().parse()?;
        ensure!(runs > 0, "{target} was not run at all");
        report.add(target, format!("{runs} inputs"));
    }
    Ok(report)
}

/// Compiles the targets, all of the code under them, and libFuzzer.
fn build(package: &Path, output: &Path) -> Result<PathBuf> {
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output()?;
    let host = String::from_utf8(host.stdout)?.trim().to_owned();
    let mut cargo = super::cargo();
    // For a target by name, so that build scripts and macros are compiled as ever.
    cargo.args(["build", "--release", "--target", &host, "--target-dir"]).arg(output);
    let status = cargo.current_dir(package).env("RUSTFLAGS", FLAGS).status()?;
    ensure!(
        status.success(),
        "the targets are not built: libFuzzer takes a C++ compiler, apt-get install g++"
    );
    Ok(output.join(host).join("release/quorate-fuzz"))
}
