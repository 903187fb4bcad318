//! What campaigns came to, as a table for the README.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Report;

const BEGIN: &str = "<!-- proof -->\n";
const END: &str = "<!-- /proof -->\n";

/// A campaign that is over.
pub struct Row {
    pub name: &'static str,
    pub seed: u64,
    pub time: Duration,
    /// Nothing if it failed.
    pub report: Option<Report>,
}

/// A row for each.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text =
        "| campaign | seed | minutes | what it did | verdict |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for Row { name, seed, time, report } in rows {
        let minutes = time.as_secs_f64() / 60.0;
        let figures = report
            .iter()
            .flat_map(|report| &report.figures)
            .map(|(name, figure)| format!("{name}: {figure}"));
        let figures = figures.collect::<Vec<_>>().join("; ").replace('|', "\\|");
        let verdict = if report.is_some() { "passed" } else { "**failed**" };
        writeln!(text, "| `{name}` | {seed} | {minutes:.1} | {figures} | {verdict} |")
            .expect("a text takes all");
    }
    text
}

/// Puts the table into the README.
pub fn write(table: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&path)?;
    let (head, rest) = text.split_once(BEGIN).context("no place for the table")?;
    let (_, tail) = rest.split_once(END).context("no end of the place for the table")?;
    Ok(fs::write(path, [head, BEGIN, table, END, tail].concat())?)
}
