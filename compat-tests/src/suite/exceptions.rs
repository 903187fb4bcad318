//! The list of tests that need not pass, and why.
//!
//! ```text
//! == by design: why, in one line that a maintainer would accept
//! fail unit/of/the/suite the test's name, to the end of the line
//! skip unit/of/the/suite another
//! ```
//!
//! A test that is listed as `fail` runs and must fail: when it starts to pass, its line has to go (`UPDATE=1` takes
//! it away). Only what would keep the rest of its unit from running is listed as `skip`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::table::Row;
use super::{Outcome, Report};

/// The list.
pub struct Exceptions {
    list: Vec<Exception>,
}

struct Exception {
    unit: String,
    name: String,
    how: How,
    kind: Kind,
    line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Fail,
    Skip,
}

/// What the reasons of a section have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Needs a type or a command that is not built yet.
    Missing,
    /// Differs on purpose, or cannot be told by this test.
    ByDesign,
    /// Should pass and does not.
    NotYet,
    /// Passes with no server, or only with one that stands where the suite's authors have theirs.
    Elsewhere,
}

/// What a report comes to.
pub struct Verdict {
    pub row: Row,
    /// What is not as it is listed. Empty if all is well.
    pub complaints: Vec<String>,
    /// The lines of the list that have to go, because their tests pass.
    pub obsolete: Vec<usize>,
}

impl Exceptions {
    /// Reads the list.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut list = Vec::new();
        let mut kind = None;
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(heading) = line.strip_prefix("== ") {
                kind = Some(match heading.split_once(": ").map(|(kind, _)| kind) {
                    Some("missing") => Kind::Missing,
                    Some("by design") => Kind::ByDesign,
                    Some("not yet") => Kind::NotYet,
                    Some("elsewhere") => Kind::Elsewhere,
                    _ => bail!("line {number}: a section is `== missing|by design|not yet|elsewhere: why`"),
                });
                continue;
            }
            let mut parts = line.splitn(3, ' ');
            let how = match parts.next() {
                Some("fail") => How::Fail,
                Some("skip") => How::Skip,
                _ => bail!("line {number}: `fail UNIT NAME` or `skip UNIT NAME`"),
            };
            let (Some(unit), Some(name)) = (parts.next(), parts.next()) else {
                bail!("line {number}: `fail UNIT NAME` or `skip UNIT NAME`");
            };
            let kind = kind.with_context(|| format!("line {number}: no section gives the reason"))?;
            if list.iter().any(|other: &Exception| other.unit == unit && other.name == name) {
                bail!("line {number}: {unit} {name} is listed twice");
            }
            list.push(Exception { unit: unit.to_owned(), name: name.to_owned(), how, kind, line: number });
        }
        Ok(Self { list })
    }

    /// The tests of a unit that are not to be run.
    #[must_use]
    pub fn skipped(&self, unit: &str) -> Vec<&str> {
        let of_unit =
            self.list.iter().filter(|exception| exception.unit == unit && exception.how == How::Skip);
        of_unit.map(|exception| exception.name.as_str()).collect()
    }

    /// Units that are listed and do not exist.
    #[must_use]
    pub fn unknown_units(&self, units: &[&str]) -> Vec<String> {
        let unknown = self.list.iter().filter(|exception| !units.contains(&exception.unit.as_str()));
        unknown.map(|exception| format!("line {}: no unit {}", exception.line, exception.unit)).collect()
    }

    /// Compares what happened with what is listed.
    #[must_use]
    pub fn judge(&self, report: &Report) -> Verdict {
        let unit = &report.unit;
        let mut row = Row { unit: unit.clone(), ..Row::default() };
        let mut obsolete = Vec::new();
        let mut complaints: Vec<_> =
            report.aborts.iter().map(|said| format!("{unit} was aborted: {said}")).collect();
        // Whether a listed test has done what is listed at least once.
        let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
        for test in &report.tests {
            let listed =
                self.list.iter().find(|exception| exception.unit == *unit && exception.name == test.name);
            let fits = match (&test.outcome, listed.map(|exception| exception.how)) {
                (Outcome::LeftOut, _) => {
                    row.left_out += 1;
                    continue;
                }
                (Outcome::Passed, _) => {
                    row.passed += 1;
                    false
                }
                (Outcome::Skipped, how) => how == Some(How::Skip),
                (Outcome::Failed(said), how) => {
                    if how != Some(How::Fail) {
                        complaints.push(format!(
                            "fail {unit} {}\n    {}",
                            test.name,
                            said.replace('\n', "\n    ")
                        ));
                    }
                    how == Some(How::Fail)
                }
            };
            if let Some(exception) = listed {
                *seen.entry(&exception.name).or_default() |= fits;
                if fits {
                    row.count(exception.kind);
                }
            }
        }
        for exception in self.list.iter().filter(|exception| exception.unit == *unit) {
            match seen.get(exception.name.as_str()) {
                Some(true) => {}
                Some(false) => obsolete.push(exception.line),
                // What came after an abort was not reached.
                None if !report.aborts.is_empty() => {}
                None => complaints
                    .push(format!("line {}: no test `{}`; remove the line", exception.line, exception.name)),
            }
        }
        Verdict { row, complaints, obsolete }
    }

    /// The complaint about a line that has to go.
    #[must_use]
    pub fn obsolete(&self, line: usize) -> String {
        let name =
            self.list.iter().find(|exception| exception.line == line).map_or("", |exception| &exception.name);
        format!("line {line}: `{name}` passes; UPDATE=1 removes the line")
    }
}

/// Takes lines, counted from 1, out of the list at `path`.
pub fn remove_lines(path: &Path, lines: &[usize]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = fs::read_to_string(path)?;
    let mut kept = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !lines.contains(&number) {
            kept.extend([line, "\n"]);
        }
    }
    Ok(fs::write(path, kept)?)
}

#[cfg(test)]
mod tests {
    use super::super::Test;
    use super::*;

    const LIST: &str =
        "# Two of them.\n== missing: needs a list\nfail a/b LPUSH x\n\n== by design: no\nskip a/b EVIL\n";

    fn judge(tests: &[(&str, Outcome)], aborts: &[&str]) -> Vec<String> {
        let copy = |outcome: &Outcome| match outcome {
            Outcome::Passed => Outcome::Passed,
            Outcome::Failed(said) => Outcome::Failed(said.clone()),
            Outcome::Skipped => Outcome::Skipped,
            Outcome::LeftOut => Outcome::LeftOut,
        };
        let tests = tests
            .iter()
            .map(|(name, outcome)| Test { name: (*name).to_owned(), outcome: copy(outcome) })
            .collect();
        let aborts = aborts.iter().map(|&said| said.to_owned()).collect();
        let exceptions = Exceptions::parse(LIST).expect("it is well-formed");
        let mut verdict = exceptions.judge(&Report { unit: "a/b".to_owned(), tests, aborts });
        verdict.complaints.extend(verdict.obsolete.iter().map(|&line| exceptions.obsolete(line)));
        verdict.complaints
    }

    fn failed() -> Outcome {
        Outcome::Failed("Expected 1".to_owned())
    }

    #[test]
    fn a_run_that_is_as_listed_has_no_complaints() {
        let tests = [("LPUSH x", failed()), ("EVIL", Outcome::Skipped), ("other", Outcome::Passed)];
        assert_eq!(judge(&tests, &[]), Vec::<String>::new());
    }

    #[test]
    fn all_that_is_not_as_listed_is_a_complaint() {
        let tests = [("LPUSH x", failed()), ("EVIL", Outcome::Skipped), ("other", failed())];
        assert_eq!(judge(&tests, &[]), ["fail a/b other\n    Expected 1"]);
        let tests = [("LPUSH x", Outcome::Passed), ("EVIL", Outcome::Skipped)];
        assert_eq!(judge(&tests, &[]), ["line 3: `LPUSH x` passes; UPDATE=1 removes the line"]);
        let tests = [("EVIL", Outcome::Skipped)];
        assert_eq!(judge(&tests, &[]), ["line 3: no test `LPUSH x`; remove the line"]);
        assert_eq!(judge(&tests, &["ERR"]), ["a/b was aborted: ERR"]);
    }

    #[test]
    fn malformed_lists_are_refused() {
        for text in
            ["fail a b\n", "== by design: x\nfail a\n", "== because: x\n", "== missing: x\npass a b\n"]
        {
            assert!(Exceptions::parse(text).is_err(), "{text}");
        }
        let twice = "== missing: x\nfail a b\nskip a b\n";
        assert!(Exceptions::parse(twice).is_err());
    }
}
