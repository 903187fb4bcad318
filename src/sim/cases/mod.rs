//! The case files of `compat-tests`, on a node in memory: the same files and the same runner as on real servers, in
//! virtual time.

// Of what is shared, recording expectations and the like is used there only. The files are on the machine's disk.
#[allow(dead_code, clippy::disallowed_methods)]
#[path = "../../../compat-tests/src/case.rs"]
mod case;
mod client;
#[allow(dead_code)]
#[path = "../../../compat-tests/src/reply.rs"]
mod reply;
#[allow(dead_code)]
#[path = "../../../compat-tests/src/runner.rs"]
mod runner;

use std::path::Path;

use case::{Case, find};
use runner::{Judge, check};

#[test]
fn every_case_in_memory() {
    let server = client::start();
    let mut paths =
        find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/cases")).expect("the case files");
    if let Ok(part) = std::env::var("CASE") {
        paths.retain(|path| path.display().to_string().contains(&part));
    }
    let mut failures = Vec::new();
    for path in paths {
        let case = Case::read(&path).expect("a case file");
        failures.extend(check(&case, server, Judge::Quorate));
    }
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n\n"));
}
