#![allow(clippy::disallowed_methods)] // The corpora are read as they are.

use std::fs;

use super::*;

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fuzz/corpus")
}

#[test]
fn what_was_kept_is_replayed() {
    for target in &TARGETS {
        let directory = corpus().join(target.name);
        let mut files: Vec<_> = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.expect("it can be listed").path())
            .collect();
        files.sort();
        assert!(files.len() >= 5, "{} has only {} inputs", target.name, files.len());
        for file in files {
            let bytes = fs::read(&file).expect("it can be read");
            let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(outcome.is_ok(), "{} fails with {}", target.name, file.display());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    for entry in fs::read_dir(corpus()).expect("there is a corpus") {
        let name = entry.expect("it can be listed").file_name();
        assert!(TARGETS.iter().any(|target| name == target.name), "no target {}", name.display());
    }
}
