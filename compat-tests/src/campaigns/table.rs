//! What campaigns came to, as a table for the README.

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

impl Row {
    fn line(&self) -> String {
        let Self { name, seed, time, report } = self;
        let minutes = time.as_secs_f64() / 60.0;
        let figures = report
            .iter()
            .flat_map(|report| &report.figures)
            .map(|(name, figure)| format!("{name}: {figure}"));
        let figures = figures.collect::<Vec<_>>().join("; ").replace('|', "\\|");
        let verdict = if report.is_some() { "passed" } else { "**failed**" };
        format!("| `{name}` | {seed} | {minutes:.1} | {figures} | {verdict} |\n")
    }
}

/// A line for each campaign, in the order of `names`: that of its row if it has one, or else that of the table `before`.
#[must_use]
pub fn table<'n>(names: impl Iterator<Item = &'n str>, rows: &[Row], before: &str) -> String {
    let mut text =
        "| campaign | seed | minutes | what it did | verdict |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for name in names {
        match rows.iter().find(|row| row.name == name) {
            Some(row) => text.push_str(&row.line()),
            None => {
                let start = format!("| `{name}` |");
                text.extend(before.split_inclusive('\n').filter(|line| line.starts_with(&start)));
            }
        }
    }
    text
}

/// Brings the README's table up to date; the other campaigns' lines stay.
pub fn write<'n>(names: impl Iterator<Item = &'n str>, rows: &[Row]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&path)?;
    let (head, rest) = text.split_once(BEGIN).context("no place for the table")?;
    let (before, tail) = rest.split_once(END).context("no end of the place for the table")?;
    Ok(fs::write(path, [head, BEGIN, &table(names, rows, before), END, tail].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_run_is_replaced() {
        let row = |name, report| Row { name, seed: 7, time: Duration::from_secs(90), report };
        let mut passed = Report::default();
        passed.add("cuts", "3|4");
        let before = table(["a", "b"].into_iter(), &[row("a", None), row("b", None)], "");
        let after = table(["a", "c", "b"].into_iter(), &[row("b", Some(passed))], &before);
        let lines = after.lines().skip(2).collect::<Vec<_>>();
        assert_eq!(lines, ["| `a` | 7 | 1.5 |  | **failed** |", r"| `b` | 7 | 1.5 | cuts: 3\|4 | passed |"]);
    }
}
