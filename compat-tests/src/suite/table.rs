//! The table of a suite in this package's README: computed from a run, and compared with it by the next.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::exceptions::Kind;

/// The line of a unit.
#[derive(Default)]
pub struct Row {
    pub unit: String,
    pub passed: usize,
    /// Exceptions: need what is not built yet.
    pub missing: usize,
    /// Exceptions: differ by design.
    pub by_design: usize,
    /// Exceptions: should pass.
    pub not_yet: usize,
    /// Left out by the suite's own tags and versions, or listed as what cannot pass here.
    pub left_out: usize,
}

impl Row {
    /// Counts an exception.
    pub fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Missing => self.missing += 1,
            Kind::ByDesign => self.by_design += 1,
            Kind::NotYet => self.not_yet += 1,
            Kind::Elsewhere => self.left_out += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.missing += other.missing;
        self.by_design += other.by_design;
        self.not_yet += other.not_yet;
        self.left_out += other.left_out;
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { unit, passed, missing, by_design, not_yet, left_out } = self;
        write!(f, "| {unit} | {passed} | {missing} | {by_design} | {not_yet} | {left_out} |")
    }
}

/// The sum of all rows.
#[must_use]
pub fn total(rows: &[Row]) -> Row {
    let mut total = Row { unit: "**all**".to_owned(), ..Row::default() };
    rows.iter().for_each(|row| total.add(row));
    total
}

/// Of the tests that need nothing that is missing, how many pass, in percent.
#[must_use]
pub fn percent(row: &Row) -> f64 {
    let all = row.passed + row.by_design + row.not_yet;
    100.0 * row.passed as f64 / all.max(1) as f64
}

/// Compares the part of the README between `<!-- name -->` and `<!-- /name -->` with the rows of a whole run, or
/// with `UPDATE=1` writes it. The rows of a part of the units must be in it.
pub fn check(name: &str, rows: &[Row], whole: bool) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let document = fs::read_to_string(&path)?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = document.split_once(&begin).with_context(|| format!("README.md has no {begin}"))?;
    let (part, after) = rest.split_once(&end).with_context(|| format!("README.md has no {end}"))?;
    if !whole {
        for row in rows {
            ensure!(
                part.contains(&row.to_string()),
                "README.md has another row than {row}; UPDATE=1 writes it"
            );
        }
        return Ok(());
    }
    let mut table = String::new();
    let heads = "passed | needs what is missing | by design | not yet | left out";
    writeln!(table, "| unit | {heads} |\n| --- | --- | --- | --- | --- | --- |")?;
    let total = total(rows);
    for row in rows.iter().chain([&total]) {
        writeln!(table, "{row}")?;
    }
    writeln!(table, "\nOf the tests that need nothing that is missing, {:.1} % pass.", percent(&total))?;
    if super::updating() {
        fs::write(&path, format!("{before}{begin}{table}{end}{after}"))?;
        return Ok(());
    }
    ensure!(
        part == table,
        "the table {name} in README.md is not what came out; UPDATE=1 writes it:\n{table}"
    );
    Ok(())
}
