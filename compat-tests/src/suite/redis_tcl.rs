//! Redis' own test suite, which is written in Tcl and can be pointed at a server it did not start.
//!
//! Each unit has a process of its own: an error outside a test ends the process, and clients that a failing
//! test left blocked end with it. What the suite prints is its only report; it is read line by line.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Outcome, Report, Test, run_to_the_end};
use crate::free_ports;

/// What the suite's options for foreign servers leave out.
const OPTIONS: [&str; 4] = [
    "--ignore-encoding",
    "--ignore-digest",
    "--no-latency",
    "--durable", // an error reply fails a test, and not the unit
];
/// Tests that start further servers or look into Redis' memory and files.
const TAGS: &str = "-needs:repl -needs:pfdebug -needs:save -needs:latency";
/// And of single units: 80,000 requests that wait for one another take minutes.
const TAGS_OF_UNITS: [(&str, &str); 1] = [("type/list-3", "-slow")];

/// How long a unit may be silent, in seconds, and how long it may take in all. Single tests wait for tens of thousands of
/// replies, one after the other, which takes half a minute or, on a machine that is busy with other things, many.
const SILENCE_SECONDS: &str = "1500";
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs a unit of the suite in `source` against the server at `address`, without the tests in `skipped`.
pub fn run(source: &Path, unit: &str, skipped: &[&str], address: SocketAddr) -> Result<Report> {
    let skip_file = tempfile::NamedTempFile::new()?;
    fs::write(skip_file.path(), skipped.join("\n"))?;
    // The suite's two processes talk over a port between this one less 32 and this one.
    let ports: [SocketAddr; 33] = free_ports();
    let mut command = Command::new("tclsh");
    command
        .arg("tests/test_helper.tcl")
        .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(OPTIONS)
        .args(["--tags", &tags(unit)])
        .args(["--single", &format!("unit/{unit}"), "--clients", "1", "--timeout", SILENCE_SECONDS])
        .args(["--baseport", &ports[32].port().to_string(), "--skipfile"])
        .arg(skip_file.path())
        .env("TERM", "dumb") // no colours
        .current_dir(source);
    match run_to_the_end(&mut command, PATIENCE) {
        Ok((_, text)) => Ok(read(unit, &text)),
        Err(error) if is_not_found(&error) => {
            Err(error).context("Redis' test suite is written in Tcl: apt-get install tcl")
        }
        Err(error) => bail!("unit/{unit}: {error:#}"),
    }
}

fn tags(unit: &str) -> String {
    let own = TAGS_OF_UNITS.iter().filter(|(name, _)| *name == unit).map(|(_, tags)| *tags);
    [TAGS].into_iter().chain(own).collect::<Vec<_>>().join(" ")
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Reads what the suite printed about a unit.
fn read(unit: &str, text: &str) -> Report {
    let mut report = Report { unit: unit.to_owned(), tests: Vec::new(), aborts: Vec::new() };
    let mut done = false;
    for message in messages(text) {
        let Message { status, text } = message;
        match status {
            "ok" => {
                // NAME (12 ms)
                let name = text.rsplit_once(" (").map_or(text.as_str(), |(name, _)| name);
                report.tests.push(Test { name: name.to_owned(), outcome: Outcome::Passed });
            }
            "err" => match text.split_once(&format!(" in tests/unit/{unit}.tcl")) {
                Some((name, said)) if !name.contains('\n') => {
                    let outcome = Outcome::Failed(said.trim().to_owned());
                    report.tests.push(Test { name: name.to_owned(), outcome });
                }
                _ => report.aborts.push(text),
            },
            "skip" => report.tests.push(Test { name: text, outcome: Outcome::Skipped }),
            "ignore" => report.tests.push(Test { name: text, outcome: Outcome::LeftOut }),
            "exception" | "TIMEOUT" => report.aborts.push(text),
            status if status.ends_with(" done") => done = true,
            _ => {}
        }
    }
    if !done && report.aborts.is_empty() {
        report.aborts.push(format!("it did not run to its end:\n{text}"));
    }
    report
}

/// `[status]: text`, and the lines up to the next of that form.
struct Message<'a> {
    status: &'a str,
    text: String,
}

fn messages(text: &str) -> Vec<Message<'_>> {
    let mut messages: Vec<Message> = Vec::new();
    // What follows says the same again.
    for line in text.lines().take_while(|line| line.trim() != "The End") {
        let first = line.strip_prefix('[').and_then(|line| line.split_once("]: "));
        match (first, messages.last_mut()) {
            (Some((status, text)), _) => messages.push(Message { status, text: text.to_owned() }),
            (None, Some(last)) => {
                last.text.push('\n');
                last.text.push_str(line);
            }
            (None, None) => {}
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_suite_prints_is_read() {
        let text = "Starting test server at port 21079\n[ready]: 17\nTesting unit/quit\n\
                    [ok]: QUIT (really) returns OK (3 ms)\n\
                    [err]: Pipelined in tests/unit/quit.tcl\nExpected '1' to be equal to '2'\n (context: x)\n\
                    [skip]: of our list\n\
                    [ignore]: of its tags: Tag: slow denied\n\
                    [1/1 done]: unit/quit (0 seconds)\n\n                   The End\n\n\
                    *** [err]: Pipelined in tests/unit/quit.tcl\n";
        let report = read("quit", text);
        let seen: Vec<_> = report
            .tests
            .iter()
            .map(|test| match &test.outcome {
                Outcome::Passed => format!("{}: passed", test.name),
                Outcome::Failed(said) => format!("{}: {said}", test.name),
                Outcome::Skipped => format!("{}: skipped", test.name),
                Outcome::LeftOut => "left out".to_owned(),
            })
            .collect();
        assert_eq!(
            seen,
            [
                "QUIT (really) returns OK: passed",
                "Pipelined: Expected '1' to be equal to '2'\n (context: x)",
                "of our list: skipped",
                "left out"
            ]
        );
        assert!(report.aborts.is_empty());
    }

    #[test]
    fn a_unit_that_ends_early_is_noticed() {
        for text in [
            "[ok]: one (1 ms)\n",
            "[ok]: one (1 ms)\n[exception]: Executing test client: ERR unknown command\nwhile executing\n",
            "[TIMEOUT]: clients state report follows.\nsock => (IN PROGRESS) x\n",
            "[err]: unknown command in a block\n[1/1 done]: unit/quit (0 seconds)\n",
        ] {
            assert_eq!(read("quit", text).aborts.len(), 1, "{text}");
        }
    }
}
