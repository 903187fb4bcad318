//! Flags, variables and the file, read into values.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Config;
use super::help;
use super::options::{self, Opt};
use super::texts::Texts;

/// What the command line asks for.
pub enum Invocation {
    /// `quorate serve`.
    Serve(Box<Config>),
    /// `quorate dev`.
    Dev(Dev),
    /// `--help`: print this.
    Help(String),
    /// `--version`.
    Version,
}

/// `quorate dev`: a cluster of child processes on this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Dev {
    pub nodes: u16,
    /// Node `i` (from 0) has port `base_port + i`; its peers' port is 100 higher, its HTTP port 200.
    pub base_port: u16,
    /// Node `i` keeps its data in `node<i + 1>` below.
    pub data: PathBuf,
    /// Flags for every node, as they were given to us.
    pub flags: Vec<String>,
}

/// Why there is nothing to start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown option {origin}{}", suggestion(.like))]
    Unknown { origin: Origin, like: Option<&'static str> },
    #[error("{origin} needs a value")]
    NoValue { origin: Origin },
    #[error("{origin}: '{text}': {why}")]
    Malformed { origin: Origin, text: String, why: String },
    #[error("unexpected argument '{0}'; see quorate --help")]
    Unexpected(String),
    #[error("{origin}: 'quorate dev' chooses the addresses itself; see --base-port")]
    NotInDev { origin: Origin },
    #[error("{option}: {why}")]
    Misfit { option: &'static str, why: String },
    #[error("cannot read {}, given by {origin}: {error}", .path.display())]
    Unreadable { path: PathBuf, origin: Origin, error: io::Error },
    #[error("{}:{line}: {why}", .path.display())]
    NotToml { path: PathBuf, line: usize, why: String },
}

fn suggestion(like: &Option<&'static str>) -> String {
    like.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// Where a value was given.
#[derive(Clone, Debug)]
pub enum Origin {
    /// As it was written: `--data`.
    Flag(String),
    /// `QUORATE_DATA`.
    Variable(String),
    /// A line of the file.
    File { path: PathBuf, line: usize, key: String },
    /// Code, in tests and simulations.
    Code(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) | Self::Code(name) => f.write_str(name),
            Self::File { path, line, key } => write!(f, "{key} ({}:{line})", path.display()),
        }
    }
}

/// A value that somebody gave, not yet checked.
struct Given {
    option: &'static Opt,
    text: String,
    origin: Origin,
}

/// Reads a file's text.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Reads the command line (without the program's name) and the variables of the environment.
///
/// # Errors
/// Whatever is unknown, malformed or missing, by name and place.
pub fn parse(
    args: &[String],
    variables: &[(String, String)],
    read_file: ReadFile<'_>,
) -> Result<Invocation, ConfigError> {
    let (verb, args) = match args.split_first() {
        Some((word, rest)) if !word.starts_with('-') => (word.as_str(), rest),
        _ => ("serve", args),
    };
    let known: Vec<&'static Opt> = match verb {
        "serve" => serve_options().collect(),
        // First come, first found: `data` is here the directory of all nodes.
        "dev" => options::DEV.iter().chain(serve_options()).collect(),
        _ => return Err(ConfigError::Unexpected(verb.to_owned())),
    };
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok(Invocation::Help(if verb == "dev" { help::dev() } else { help::all() }));
    }
    if args.iter().any(|arg| arg == "--version" || arg == "-V") {
        return Ok(Invocation::Version);
    }
    let given = from_variables(variables, &known)?.into_iter().chain(from_flags(args, &known)?).collect();
    if verb == "dev" { dev(given, read_file) } else { serve(given, read_file) }
}

/// The configuration in which these options have these values.
pub(super) fn values(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let known: Vec<&'static Opt> = options::all().filter(|option| option.scope.at_start()).collect();
    let given = |(name, text): &(&str, &str)| {
        let origin = Origin::Code((*name).to_owned());
        Ok(Given { option: find(&known, name, &origin)?, text: (*text).to_owned(), origin })
    };
    config(values.iter().map(given).collect::<Result<_, ConfigError>>()?)
}

fn serve_options() -> impl Iterator<Item = &'static Opt> {
    options::all().filter(|option| option.scope.at_start()).chain([&options::FILE])
}

fn serve(given: Vec<Given>, read_file: ReadFile<'_>) -> Result<Invocation, ConfigError> {
    let mut values = from_file(&given, read_file)?;
    values.extend(given);
    let file = values.iter().rfind(|given| is_file(given)).map(|given| PathBuf::from(&given.text));
    Ok(Invocation::Serve(Box::new(Config { file, ..config(values)? })))
}

fn dev(given: Vec<Given>, read_file: ReadFile<'_>) -> Result<Invocation, ConfigError> {
    // The file is read here too, so that a mistake in it is told once and not by every node.
    let mut for_nodes = from_file(&given, read_file)?;
    for_nodes.retain(|given| !chosen_by_dev(given.option.name));
    let mut dev = Dev { nodes: 0, base_port: 0, data: PathBuf::new(), flags: Vec::new() };
    let defaults = options::DEV.iter().map(|option| Given {
        option,
        text: option.default.to_owned(),
        origin: Origin::Code(option.name.to_owned()),
    });
    for value in defaults.chain(given) {
        let Given { option, text, .. } = &value;
        if options::DEV.iter().any(|own| std::ptr::eq(own, *option)) {
            let text = canonical(&value)?;
            match option.name {
                "nodes" => dev.nodes = text.parse().expect("its format is a small number"),
                "base-port" => dev.base_port = text.parse().expect("its format is a port"),
                _ => dev.data = PathBuf::from(text),
            }
        } else if chosen_by_dev(option.name) {
            return Err(ConfigError::NotInDev { origin: value.origin });
        } else {
            dev.flags.push(format!("--{}={text}", option.name));
            for_nodes.push(value);
        }
    }
    config(for_nodes)?;
    Ok(Invocation::Dev(dev))
}

/// Options that `quorate dev` gives each node itself.
fn chosen_by_dev(name: &str) -> bool {
    ["data", "listen", "http-listen", "sentinel-listen", "peer-listen", "peers"].contains(&name)
}

/// Checks the values, of which later ones go before earlier ones.
fn config(given: Vec<Given>) -> Result<Config, ConfigError> {
    let mut texts = Texts::default();
    for value in given.iter().filter(|given| !is_file(given)) {
        texts.put(options::place(value.option.name), canonical(value)?);
    }
    Config::from_texts(texts)
}

/// Whether this names the file, rather than being a value itself.
fn is_file(given: &Given) -> bool {
    std::ptr::eq(given.option, &options::FILE)
}

fn canonical(Given { option, text, origin }: &Given) -> Result<String, ConfigError> {
    option.format.canonical(text).map_err(|why| ConfigError::Malformed {
        origin: origin.clone(),
        text: text.clone(),
        why,
    })
}

fn find(known: &[&'static Opt], name: &str, origin: &Origin) -> Result<&'static Opt, ConfigError> {
    let option = known.iter().find(|option| option.name == name).copied();
    option.ok_or_else(|| {
        let distance = |option: &&Opt| edit_distance(option.name, name);
        let like = known.iter().map(|option| (distance(option), option.name)).min();
        ConfigError::Unknown {
            origin: origin.clone(),
            like: like.filter(|(far, _)| *far <= 2).map(|(_, n)| n),
        }
    })
}

/// How many characters must be inserted, removed or replaced to make `b` of `a`.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn from_flags(args: &[String], known: &[&'static Opt]) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let flag = arg.strip_prefix("--").ok_or_else(|| ConfigError::Unexpected(arg.clone()))?;
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let origin = Origin::Flag(format!("--{name}"));
        let option = find(known, name, &origin)?;
        let next = || args.next().filter(|next| !next.starts_with("--")).cloned();
        let text = value.or_else(next).ok_or(ConfigError::NoValue { origin: origin.clone() })?;
        given.push(Given { option, text, origin });
    }
    Ok(given)
}

fn from_variables(variables: &[(String, String)], known: &[&'static Opt]) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::new();
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix("QUORATE_").filter(|name| !is_service_link(name)) else {
            continue;
        };
        let origin = Origin::Variable(variable.clone());
        let option = find(known, &name.to_ascii_lowercase().replace('_', "-"), &origin)?;
        given.push(Given { option, text: text.clone(), origin });
    }
    Ok(given)
}

/// Whether `QUORATE_<name>` is one of the variables that Kubernetes sets in every container when there
/// is a service called `quorate`. They are not meant for us.
fn is_service_link(name: &str) -> bool {
    name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_")
}

/// The values in the file that `given` names, if it names one.
fn from_file(given: &[Given], read_file: ReadFile<'_>) -> Result<Vec<Given>, ConfigError> {
    let Some(file) = given.iter().rfind(|given| is_file(given)) else {
        return Ok(Vec::new());
    };
    let path = PathBuf::from(&file.text);
    let text = read_file(&path).map_err(|error| ConfigError::Unreadable {
        path: path.clone(),
        origin: file.origin.clone(),
        error,
    })?;
    let values = file_values(&path, &text)?;
    Ok(values.into_iter().map(|(_, value)| value).collect())
}

/// The values in a file's text, in its order, and which bytes of it say them.
fn file_values(path: &Path, text: &str) -> Result<Vec<(Range<usize>, Given)>, ConfigError> {
    let line_at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| ConfigError::NotToml {
        path: path.to_owned(),
        line: line_at(error.span().map_or(0, |span| span.start)),
        why: error.message().to_owned(),
    })?;
    let known: Vec<&'static Opt> = options::all().filter(|option| option.scope.at_start()).collect();
    let mut values = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_at(key.span().start);
        let origin = Origin::File { path: path.to_owned(), line, key: key.get_ref().to_string() };
        let option = find(&known, key.get_ref(), &origin)?;
        let text = toml_text(value.get_ref()).ok_or_else(|| ConfigError::Malformed {
            origin: origin.clone(),
            text: text[value.span()].to_owned(),
            why: "must be a string, a whole number, true, false or an array of strings".to_owned(),
        })?;
        values.push((value.span(), Given { option, text, origin }));
    }
    values.sort_by_key(|(span, _)| span.start);
    Ok(values)
}

/// A file's text with the values of now: those in it are replaced where they differ, others added where
/// they differ from what they were at the start. `values` are options with the texts of now and then.
pub(super) fn rewrite<'a>(
    path: &Path,
    file: &str,
    values: impl Iterator<Item = (&'static Opt, &'a str, &'a str)>,
) -> Result<String, ConfigError> {
    let found = file_values(path, file)?;
    let mut replacements = Vec::new();
    let mut added = String::new();
    for (option, now, then) in values {
        match found.iter().find(|(_, given)| std::ptr::eq(given.option, option)) {
            Some((span, given)) if canonical(given)? != now => replacements.push((span.clone(), quoted(now))),
            None if now != then => added.push_str(&format!("{} = {}\n", option.name, quoted(now))),
            _ => {}
        }
    }
    let mut text = file.to_owned();
    replacements.sort_by_key(|(span, _)| span.start);
    for (span, value) in replacements.into_iter().rev() {
        text.replace_range(span, &value);
    }
    if !(text.is_empty() || text.ends_with('\n') || added.is_empty()) {
        text.push('\n');
    }
    Ok(text + &added)
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(character)));
            }
            character => quoted.push(character),
        }
    }
    quoted + "\""
}

/// A TOML value as a flag's value would be written.
fn toml_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(if *value { "yes" } else { "no" }.to_owned()),
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# cluster\nlisten = '10.0.0.1:1'\nmaxclients = 5\n\npeers = ['a:1', 'b:1']\npeer-listen = 'a:1'\n";

    fn run(args: &str, variables: &[(&str, &str)], file: &str) -> Result<Invocation, ConfigError> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let variables: Vec<_> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let read = |path: &Path| match path.to_str() {
            Some("q.toml") => Ok(file.to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        parse(&args, &variables, &read)
    }

    fn config(args: &str, variables: &[(&str, &str)], file: &str) -> Config {
        match run(args, variables, file) {
            Ok(Invocation::Serve(config)) => *config,
            Ok(_) => panic!("not serve"),
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn check_error(args: &str, variables: &[(&str, &str)], file: &str, expect: &str) {
        let found = run(args, variables, file).map_or_else(|error| error.to_string(), |_| "fine".to_owned());
        assert_eq!(found, expect);
    }

    #[test]
    fn nothing_is_serve_with_defaults() {
        assert_eq!(config("", &[], "").listen, "127.0.0.1:6379");
        assert_eq!(config("serve", &[], "").listen, "127.0.0.1:6379");
        assert_eq!(config("--data=d", &[("HOME", "/")], "").data, PathBuf::from("d"));
    }

    #[test]
    fn flags_go_before_variables_before_the_file() {
        let variables = [("QUORATE_LISTEN", "b:2"), ("QUORATE_CONFIG", "q.toml")];
        assert_eq!(config("", &variables[1..], FILE).listen, "10.0.0.1:1");
        assert_eq!(config("", &variables, FILE).listen, "b:2");
        assert_eq!(config("serve --listen c:3", &variables, FILE).listen, "c:3");
        assert_eq!(config("", &variables, FILE).peers, ["a:1", "b:1"]);
        assert_eq!(config("", &variables, FILE).texts.number("maxclients"), 5);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        check_error("--lisen a:1", &[], "", "unknown option --lisen; did you mean listen?");
        check_error("--frobnicate", &[], "", "unknown option --frobnicate");
        check_error("--listen", &[], "", "--listen needs a value");
        check_error("--listen --data x", &[], "", "--listen needs a value");
        check_error("--hz 10", &[], "", "unknown option --hz");
        check_error("frobnicate", &[], "", "unexpected argument 'frobnicate'; see quorate --help");
        check_error("serve here", &[], "", "unexpected argument 'here'; see quorate --help");
        check_error(
            "--maxclients x",
            &[],
            "",
            "--maxclients: 'x': argument couldn't be parsed into an integer",
        );
        check_error(
            "",
            &[("QUORATE_MAXCLIENTS", "0")],
            "",
            "QUORATE_MAXCLIENTS: '0': argument must be between 1 and 4294967295 inclusive",
        );
        check_error(
            "",
            &[("QUORATE_MAX_CLIENTS", "1")],
            "",
            "unknown option QUORATE_MAX_CLIENTS; did you mean maxclients?",
        );
        check_error("--config q.toml", &[], "\nspeed = 1", "unknown option speed (q.toml:2)");
        check_error(
            "--config q.toml",
            &[],
            "data = 'd'\nmaxmemory = '1x'",
            "maxmemory (q.toml:2): '1x': argument must be a memory value",
        );
        check_error(
            "--config q.toml",
            &[],
            "maxmemory = 1.5",
            "maxmemory (q.toml:1): '1.5': must be a string, a whole number, true, false or an array of strings",
        );
        check_error("--config no.toml", &[], "", "cannot read no.toml, given by --config: entity not found");
    }

    #[test]
    fn a_broken_file_says_where() {
        let Err(ConfigError::NotToml { line, .. }) = run("--config q.toml", &[], "data = 'd'\nlisten =\n")
        else {
            panic!("the file is not TOML");
        };
        assert_eq!(line, 2);
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_not_options() {
        let variables = [("QUORATE_PORT", "tcp://10.0.0.1:6379"), ("QUORATE_SERVICE_HOST", "10.0.0.1")];
        assert_eq!(config("", &variables, "").listen, "127.0.0.1:6379");
        let clash = |option: &Opt| is_service_link(&option.name.to_ascii_uppercase().replace('-', "_"));
        assert!(!serve_options().any(clash));
    }

    #[test]
    fn dev_hands_on_what_is_not_its_own() {
        let Ok(Invocation::Dev(dev)) =
            run("dev --nodes 5 --log-format json", &[("QUORATE_THREADS", "1")], "")
        else {
            panic!("not dev");
        };
        let flags = ["--threads=1", "--log-format=json"].map(str::to_owned).to_vec();
        let data = PathBuf::from("./quorate-dev");
        assert_eq!(dev, Dev { nodes: 5, base_port: 7001, data, flags });
        check_error(
            "dev --listen a:1",
            &[],
            "",
            "--listen: 'quorate dev' chooses the addresses itself; see --base-port",
        );
        check_error("dev --nodes 10", &[], "", "--nodes: '10': argument must be between 1 and 9 inclusive");
        check_error("dev --maxclients 0", &[], "", {
            "--maxclients: '0': argument must be between 1 and 4294967295 inclusive"
        });
        check_error("--nodes 3", &[], "", "unknown option --nodes");
    }

    #[test]
    fn help_and_version_are_asked_for() {
        assert!(matches!(run("--version", &[], ""), Ok(Invocation::Version)));
        let Ok(Invocation::Help(text)) = run("serve --help", &[], "") else { panic!("not help") };
        for option in serve_options() {
            assert!(text.contains(&format!("--{}", option.name)), "{}", option.name);
        }
    }
}
