//! Rules about the project's own text, checked by `cargo test`.
//!
//! What the compiler and clippy cannot see: which module may know which, what must not be written, and that
//! the README, the dashboard and the tables in the code say the same. `UPDATE=1 cargo test tidy` rewrites
//! the generated parts of the README.

#![allow(clippy::disallowed_methods)] // The project's files are read as they are.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::commands;
use crate::config;
use crate::metrics::{Kind, Metric, Metrics};

/// The layers from low to high: a module uses only those in lines above its own.
const LAYERS: [&[&str]; 10] = [
    &["error", "metrics", "glob", "mutants", "env"],
    &["resp", "store", "config"],
    &["types", "pubsub", "acl"],
    &["script", "tracking"],
    &["session"],
    &["commands"],
    &["machine"],
    &["raft"],
    &["node"],
    &["server"],
];

/// From here to `machine`, everything is deterministic: the same on every node, and again on each run.
const DETERMINISTIC: std::ops::RangeInclusive<usize> = 1..=6;

/// Longer files want to be two.
const LINES_MAX: usize = 650;

/// A source file of the library.
struct Source {
    /// Below `src`, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The module directly below the crate that the file belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a path has a first part")
    }

    /// Its lines with their numbers, without comments and without what follows `mod tests`.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(number, line)| (number + 1, line));
        let lines = lines.take_while(|(_, line)| !line.starts_with("mod tests"));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Whether it is a test as a whole, or a check of the project like this file.
    fn is_test(&self) -> bool {
        self.path == "tidy.rs" || self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// This package's; the interpreter that scripts run in is one of its own.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    rust_files(&src)
        .into_iter()
        .filter(|file| !file.starts_with(src.join("script/lua-src")))
        .map(|file| {
            let path = file.strip_prefix(&src).expect("it was found there").to_string_lossy().into_owned();
            Source { path, text: fs::read_to_string(&file).expect("it was just listed") }
        })
        .collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("a directory can be listed to its end").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn modules_use_lower_layers_only() {
    let mut complaints = Vec::new();
    for source in sources() {
        let own = source.module();
        // The roots of the two crates, and the tests of the whole, may see everything.
        if ["lib", "main", "dev", "tidy", "sim", "fuzz"].contains(&own) {
            continue;
        }
        let Some(own_layer) = layer(own) else {
            complaints.push(format!("src/{}: {own} is in no layer; give it one in tidy.rs", source.path));
            continue;
        };
        for (number, line) in source.code().filter(|_| !source.is_test()) {
            for used in used_modules(line) {
                let lower = layer(used).is_some_and(|layer| layer < own_layer);
                if used != own && !lower {
                    complaints.push(format!("src/{}:{number}: {own} must not use {used}", source.path));
                }
            }
        }
    }
    none(complaints);
}

/// The modules a line names after `crate::`, alone or in braces.
fn used_modules(line: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let (names, several) = rest.strip_prefix('{').map_or((rest, false), |names| (names, true));
        let mut depth = 0_i32;
        for part in names.split(',') {
            let name = part.trim().split(|c| !is_name(c)).next().unwrap_or_default();
            // Upper case is an item re-exported by the root, of which there is none to forbid.
            if depth == 0 && name.starts_with(|c: char| c.is_ascii_lowercase()) {
                found.push(name);
            }
            depth += part.matches('{').count() as i32 - part.matches('}').count() as i32;
            if !several || depth < 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn used_modules_are_found() {
    assert_eq!(used_modules("use crate::error::{Result, text};"), ["error"]);
    assert_eq!(used_modules("use crate::{env::{Clock, Rng}, store};"), ["env", "store"]);
    assert_eq!(used_modules("    crate::a::f(crate::b::g())"), ["a", "b"]);
    assert!(used_modules("use super::Key;").is_empty());
}

#[test]
fn below_consensus_all_is_deterministic() {
    let words = [
        "tokio",
        "async fn",
        "async move",
        ".await",
        "Instant::",
        "SystemTime",
        "getrandom",
        "RandomState",
        "std::thread",
        "std::env::",
    ];
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if layer(source.module()).is_some_and(|layer| DETERMINISTIC.contains(&layer)) {
            for (number, line) in source.code() {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    complaints.push(format!("src/{}:{number}: {word} has no place here", source.path));
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn only_raft_knows_openraft() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.module() != "raft" && source.path != "tidy.rs") {
        for (number, _) in source.code().filter(|(_, line)| line.contains("openraft::")) {
            complaints.push(format!("src/{}:{number}: only src/raft names openraft", source.path));
        }
    }
    none(complaints);
}

#[test]
fn some_words_are_not_written() {
    let everywhere = [
        "TODO",
        "FIXME",
        "XXX",
        "HACK",
        "dbg!(",
        "todo!(",
        "unimplemented!(",
        "#[ignore",
        "#[should_panic",
        "/home/",
    ];
    let in_code = [".unwrap()", "println!(", "print!("];
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tidy.rs") {
        for (number, line) in source.text.lines().enumerate() {
            for word in everywhere.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("src/{}:{}: {word}", source.path, number + 1));
            }
        }
        let may_print = source.path == "main.rs" || source.is_test();
        for (number, line) in source.code().filter(|_| !may_print) {
            for word in in_code.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("src/{}:{number}: {word}", source.path));
            }
        }
    }
    none(complaints);
}

#[test]
fn files_are_short() {
    let files = ["src", "bench", "compat-tests"].iter().flat_map(|folder| rust_files(&root().join(folder)));
    let mut complaints = Vec::new();
    for file in files {
        let lines = fs::read_to_string(&file).expect("it was just listed").lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{}: {lines} lines, more than {LINES_MAX}", file.display()));
        }
    }
    none(complaints);
}

#[test]
fn the_top_level_is_small() {
    let folders = ["src", "compat-tests", "bench", "grafana", "target", "quorate-data", "quorate-dev"];
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root()).expect("the project has a folder") {
        let entry = entry.expect("a directory can be listed to its end");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && !folders.contains(&name.as_str()) {
            complaints.push(format!("{name}: no such folder at the top"));
        }
    }
    none(complaints);
}

#[test]
fn dependencies_have_a_reason() {
    let manifest = read("Cargo.toml");
    let mut complaints = Vec::new();
    let mut in_dependencies = false;
    let mut line_before = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
            let reason = line.contains(" # ") || line_before.starts_with('#');
            if !reason {
                complaints.push(format!("Cargo.toml: no reason for {line}"));
            }
        }
        line_before = line;
    }
    none(complaints);
}

#[test]
fn commands_are_declared_once() {
    let mut seen = BTreeSet::new();
    let twice = commands::all().iter().map(|command| command.spec.name).filter(|name| !seen.insert(*name));
    none(twice.map(|name| format!("{name} is declared twice")).collect());
}

#[test]
fn the_readme_is_up_to_date() {
    let old = read("README.md");
    let mut new = old.clone();
    for (name, text) in [
        ("options", config::readme_table()),
        ("remembered", config::readme_remembered()),
        ("commands", command_table()),
    ] {
        new = replace_part(&new, name, &text);
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join("README.md"), &new).expect("the README can be written");
    } else {
        assert!(old == new, "README.md is out of date: UPDATE=1 cargo test tidy");
    }
}

/// `document` with `text` between the marks called `name`.
fn replace_part(document: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("README.md has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README.md has no {end}"));
    format!("{before}{begin}{text}{end}{after}")
}

fn command_table() -> String {
    let mut groups: Vec<(String, Vec<&commands::Spec>)> = Vec::new();
    for command in commands::all() {
        let group = format!("{:?}", command.spec.group);
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, specs)) => specs.push(command.spec),
            None => groups.push((group, vec![command.spec])),
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    let mut text = String::new();
    for (group, mut specs) in groups {
        specs.sort_by_key(|spec| spec.name);
        let _ = write!(text, "\n### {group}\n\n| command | |\n| --- | --- |\n");
        for spec in specs {
            let call = format!("{} {}", spec.name.replace('|', " "), spec.syntax);
            // A bar would end the cell.
            let _ = writeln!(text, "| `{}` | {} |", call.trim_end().replace('|', "\\|"), spec.summary);
        }
    }
    text + "\n"
}

#[test]
fn the_dashboard_names_real_metrics() {
    let dashboard = dashboard();
    let table = Metrics::new(Vec::new(), 1).table();
    let mut complaints = Vec::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = text(target, "expr");
            for (name, before) in metric_names(expression) {
                let Some(metric) = find_metric(&table, name) else {
                    complaints.push(format!("{title}: there is no metric {name}"));
                    continue;
                };
                let changes = ["rate(", "increase(", "changes("].iter().any(|call| before.ends_with(call));
                if metric.kind != Kind::Gauge && !changes {
                    complaints.push(format!("{title}: {name} only grows: take its rate"));
                }
            }
            if expression.contains("rate(") && !expression.contains("[$__rate_interval]") {
                complaints.push(format!("{title}: a rate over something else than $__rate_interval"));
            }
        }
    }
    none(complaints);
}

#[test]
fn the_dashboard_explains_itself() {
    let dashboard = dashboard();
    let mut complaints = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is there twice");
        if panel["type"] == "row" {
            continue;
        }
        if title.is_empty() || text(panel, "description").is_empty() {
            complaints.push(format!("panel {}: no title or description", panel["id"]));
        }
        if text(&panel["fieldConfig"]["defaults"], "unit").is_empty() {
            complaints.push(format!("{title}: no unit"));
        }
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        let chosen = panel["datasource"]["uid"] == "${datasource}";
        if targets == 0 || !chosen {
            complaints.push(format!("{title}: no query, or not of the chosen data source"));
        }
    }
    none(complaints);
}

fn dashboard() -> serde_json::Value {
    serde_json::from_str(&read("grafana/quorate.json")).expect("the dashboard is JSON")
}

fn panels(dashboard: &serde_json::Value) -> &Vec<serde_json::Value> {
    dashboard["panels"].as_array().expect("a dashboard has panels")
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The metrics an expression names, each with what stands before it.
fn metric_names(expression: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut at = 0;
    for word in expression.split(|c| !is_name(c)) {
        if ["quorate_", "redis_", "process_"].iter().any(|prefix| word.starts_with(prefix)) {
            found.push((word, &expression[..at]));
        }
        at += word.len() + 1;
    }
    found
}

/// The metric a series belongs to.
fn find_metric<'a>(table: &'a [Metric], series: &str) -> Option<&'a Metric> {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
    table.iter().find(|metric| match metric.kind {
        Kind::Histogram => base == Some(metric.name),
        _ => series == metric.name,
    })
}
