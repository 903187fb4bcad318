//! What the table of options looks like to people: `--help` and the README.

use std::fmt::Write as _;

use super::options::{self, Opt, Scope};

/// `quorate --help`.
pub(super) fn all() -> String {
    let mut text = String::from(
        "A Redis-protocol server in which +OK means a quorum has it on disk.\n\n\
         Usage: quorate [serve] [OPTIONS]    run a node\n\
         \x20      quorate dev [OPTIONS]        run a cluster on this machine, to try things out\n\
         \x20      quorate --help | --version\n\n\
         Every option is also a variable (QUORATE_HTTP_LISTEN for --http-listen) and a key of the\n\
         --config file. Flags go before variables, and variables before the file.\n",
    );
    for topic in &options::TOPICS {
        section(&mut text, topic.title, topic.options);
    }
    section(&mut text, "File", std::slice::from_ref(&options::FILE));
    section(&mut text, "quorate dev", &options::DEV);
    text
}

/// `quorate dev --help`.
pub(super) fn dev() -> String {
    let mut text = String::from(
        "Runs a cluster of nodes on this machine until Ctrl-C.\n\n\
         Usage: quorate dev [OPTIONS]\n\n\
         Options of quorate serve (see quorate --help) are handed on to every node, except the addresses.\n",
    );
    section(&mut text, "Options", &options::DEV);
    text
}

fn section(text: &mut String, title: &str, options: &[Opt]) {
    let mut rows = options.iter().filter(|option| option.scope.at_start()).peekable();
    if rows.peek().is_some() {
        let _ = write!(text, "\n{title}:\n");
    }
    for Opt { name, format, default, help, .. } in rows {
        let flag = format!("--{name} {}", format.placeholder());
        let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        let _ = writeln!(text, "  {flag}\n          {help}{default}");
    }
}

/// The README's table of options.
#[must_use]
pub fn readme_table() -> String {
    let mut text = String::from("| option | default | CONFIG SET | |\n| --- | --- | --- | --- |\n");
    let rows = options::all().filter(|option| option.scope.at_start() || option.scope == Scope::Cluster);
    for Opt { name, default, scope, help, .. } in rows.chain([&options::FILE]) {
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let live = match scope {
            Scope::Live => "yes",
            Scope::Cluster => "only, for all nodes",
            Scope::Start | Scope::Remembered | Scope::Hidden | Scope::Fact | Scope::Fixed => "",
        };
        let dashes = if scope.at_start() { "--" } else { "" };
        let _ = writeln!(text, "| `{dashes}{name}` | {default} | {live} | {help} |");
    }
    text
}

/// The README's list of parameters that are remembered without effect.
#[must_use]
pub fn readme_remembered() -> String {
    let remembered = |option: &&Opt| matches!(option.scope, Scope::Remembered | Scope::Hidden);
    let names = options::all().filter(remembered).map(|option| option.name);
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let mut text = String::new();
    let mut width = 0;
    for (i, name) in quoted.iter().enumerate() {
        let end = if i + 1 == quoted.len() { ".\n" } else { "," };
        if width + name.len() + end.len() >= 110 {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        let _ = write!(text, "{name}{end}");
        width += name.len() + end.len();
    }
    text
}
