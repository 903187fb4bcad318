//! Attempts to break Quorate, for as long as one likes.
//!
//!     prove                                       what there is
//!     prove power-cut --minutes 10 --seed 7       one of them
//!     prove all --release                         all that a release has to have been through
//!
//! What came of it is a table; `UPDATE=1` writes it into the README's.

#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use compat_tests::campaigns::table::{self, Row};
use compat_tests::campaigns::{BUILT, Campaign, Extent, LAB, Length};
use compat_tests::dice::Dice;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> impl Iterator<Item = &'static Campaign> {
    LAB.iter().chain(&BUILT)
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let (mut names, mut length, mut seed) = (Vec::new(), Length::Least, Dice::seed()?);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--minutes" => {
                let minutes: f64 = value()?.parse().context("--minutes")?;
                length = Length::Lasting(Duration::try_from_secs_f64(60.0 * minutes).context("--minutes")?);
            }
            "--release" => length = Length::Release,
            "--seed" => seed = value()?.parse().context("--seed")?,
            name => names.push(name.to_owned()),
        }
    }
    if names.is_empty() {
        all().for_each(|campaign| println!("{:12} {}", campaign.name, campaign.about));
        println!("\nprove NAME... | all [--minutes M | --release] [--seed S]");
        return Ok(());
    }
    let is_asked_for = |campaign: &&Campaign| names.iter().any(|name| name == "all" || name == campaign.name);
    let chosen: Vec<_> = all().filter(is_asked_for).collect();
    if let Some(unknown) =
        names.iter().find(|name| *name != "all" && chosen.iter().all(|each| each.name != **name))
    {
        bail!("there is no {unknown}");
    }
    let mut rows = Vec::new();
    for campaign in chosen {
        let name = campaign.name;
        let long = match length {
            Length::Least => String::new(),
            Length::Lasting(time) => format!(" --minutes {}", time.as_secs_f64() / 60.0),
            Length::Release => " --release".to_owned(),
        };
        println!("{name}: prove {name}{long} --seed {seed}");
        let start = Instant::now();
        let outcome = (campaign.run)(&mut Extent::new(seed, length));
        let time = start.elapsed();
        println!("  time: {time:.0?}");
        match &outcome {
            Ok(report) => println!("{report}  verdict: passed"),
            Err(error) => println!("  verdict: FAILED\n{error:?}"),
        }
        rows.push(Row { name, seed, time, report: outcome.ok() });
    }
    let in_order = || all().map(|campaign| campaign.name);
    println!("\n{}", table::table(in_order(), &rows, ""));
    if std::env::var_os("UPDATE").is_some() {
        table::write(in_order(), &rows)?;
    }
    let failed = rows.iter().filter(|row| row.report.is_none()).map(|row| row.name).collect::<Vec<_>>();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
