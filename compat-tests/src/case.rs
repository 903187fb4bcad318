//! The case file: what to send, what to expect. README.md describes the format.
//!
//! Nothing here touches a socket, so that the same files can also be run against something that is no server.
//! A file keeps its comments and blank lines when it is written back, because `UPDATE=1` rewrites the
//! expectations of files that people wrote.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// A file.
#[derive(Debug)]
pub struct Case {
    pub path: PathBuf,
    pub items: Vec<Item>,
}

/// A part of a file.
#[derive(Debug)]
pub enum Item {
    /// A comment or a blank line.
    Text(String),
    Step(Step),
}

/// A line to act on, and what follows it.
#[derive(Debug)]
pub struct Step {
    /// The line's number, from 1.
    pub line: usize,
    pub source: String,
    pub action: Action,
    /// What redis-server answers.
    pub expected: Vec<String>,
    /// What Quorate may answer instead, each with its reason in the comment above.
    pub alternatives: Vec<Vec<String>>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a command, read a reply.
    Command(Vec<Word>),
    /// Send a command, read nothing.
    Send(Vec<Word>),
    /// Send bytes that need not be a command.
    Raw(Vec<u8>),
    /// Read this many replies.
    Receive(usize),
    /// SCAN with these arguments until the cursor is 0 again; the reply is all that it returned, sorted, each
    /// once.
    Scan(Vec<Word>),
    /// Go on with this connection, opened when it is first named.
    Client(String),
    /// Make this connection speak RESP3.
    Resp3,
    /// Let this time pass.
    Advance(Duration),
    /// Remember the last reply's text.
    Let(String),
    /// The server has closed this connection.
    Closed,
    /// Nothing is waiting to be read on this connection.
    Silent,
    /// The order of the next reply's elements, or of the next replies, means nothing.
    Unordered,
    /// Of the next reply, text of `name:value` lines, only these names matter.
    Fields(Vec<String>),
}

impl Action {
    /// Whether a reply follows.
    #[must_use]
    pub const fn replies(&self) -> bool {
        matches!(self, Self::Command(_) | Self::Receive(_) | Self::Scan(_))
    }
}

/// An argument of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    Bytes(Vec<u8>),
    /// `$name`: what `@ let name` remembered.
    Variable(String),
    /// `$now+n`: Unix time in seconds, with something added.
    Seconds(i64),
    /// `$now_ms+n`: in milliseconds.
    Milliseconds(i64),
}

impl Word {
    /// The bytes to send when Unix time is `now_ms`.
    pub fn resolve(&self, variables: &HashMap<String, Vec<u8>>, now_ms: i64) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Variable(name) => {
                variables.get(name).with_context(|| format!("no variable ${name}"))?.clone()
            }
            Self::Seconds(more) => (now_ms / 1000 + more).to_string().into_bytes(),
            Self::Milliseconds(more) => (now_ms + more).to_string().into_bytes(),
        })
    }
}

impl Case {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let items =
            parse(&text).map_err(|(line, error)| error.context(format!("{}:{line}", path.display())))?;
        Ok(Self { path: path.to_owned(), items })
    }

    /// Writes the file as it is now, if that is not what it says already.
    pub fn write(&self) -> Result<()> {
        let text = self.to_text();
        if fs::read_to_string(&self.path)? != text {
            fs::write(&self.path, text)?;
        }
        Ok(())
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: &[&str]| {
            words.iter().for_each(|word| text.push_str(word));
            text.push('\n');
        };
        for item in &self.items {
            match item {
                Item::Text(comment) => line(&[comment]),
                Item::Step(step) => {
                    line(&[&step.source]);
                    step.expected.iter().for_each(|expected| line(&[expected]));
                    for alternative in &step.alternatives {
                        for (i, expected) in alternative.iter().enumerate() {
                            line(&[if i == 0 { "! quorate: " } else { "! " }, expected]);
                        }
                    }
                }
            }
        }
        text
    }
}

/// All case files below a directory, in the order of their names.
pub fn find(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            paths.extend(find(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a reply's lines are those expected.
#[must_use]
pub fn matches(expected: &[String], lines: &[String]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (Some((first, _)), _) if first == "~ ..." => true,
        (Some((first, expected)), Some((line, lines))) => {
            let fits = match first.strip_prefix("~ ") {
                Some(pattern) => fits(pattern.as_bytes(), line.as_bytes()),
                None => first == line,
            };
            fits && matches(expected, lines)
        }
        (None, None) => true,
        _ => false,
    }
}

/// Whether a line fits a pattern: `*` stands for anything, `{1..9}` for a whole number in that range, `{a|b}`
/// for one of these texts, `\*` and `\{` for themselves.
fn fits(pattern: &[u8], line: &[u8]) -> bool {
    let (mut pattern, mut line) = (pattern, line);
    // Where to go on when what follows the last star did not fit: the star takes one byte more.
    let mut star = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            star = Some((rest, line));
            pattern = rest;
        } else if pattern.is_empty() && line.is_empty() {
            return true;
        } else if let Some(rest) = fits_once(pattern, line) {
            (pattern, line) = rest;
        } else if let Some((after, [_, shorter @ ..])) = star {
            star = Some((after, shorter));
            (pattern, line) = (after, shorter);
        } else {
            return false;
        }
    }
}

/// What is left of both when the pattern's first element fits.
fn fits_once<'a>(pattern: &'a [u8], line: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    match pattern {
        [b'\\', escaped @ (b'*' | b'{'), rest @ ..] => Some((rest, line.strip_prefix(&[*escaped])?)),
        [b'{', rest @ ..] => {
            let end = rest.iter().position(|&byte| byte == b'}')?;
            let choice = std::str::from_utf8(&rest[..end]).ok()?;
            let length = match choice.split_once("..") {
                Some((low, high)) => {
                    let end = line.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'-');
                    let digits = &line[..end.unwrap_or(line.len())];
                    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
                    (low.parse().ok()?..=high.parse().ok()?).contains(&number).then_some(digits.len())?
                }
                // The longest: one of them may begin as another does.
                None => choice
                    .split('|')
                    .map(str::as_bytes)
                    .filter(|text| line.starts_with(text))
                    .map(<[u8]>::len)
                    .max()?,
            };
            Some((&rest[end + 1..], &line[length..]))
        }
        [byte, rest @ ..] => Some((rest, line.strip_prefix(&[*byte])?)),
        [] => None,
    }
}

fn parse(text: &str) -> Result<Vec<Item>, (usize, anyhow::Error)> {
    let mut items = Vec::new();
    // Whether a comment stands in the paragraph so far: a deviation must have its reason there.
    let mut has_reason = false;
    for (number, line) in (1..).zip(text.lines()) {
        let failed = |error| (number, error);
        if line.is_empty() || line.starts_with('#') {
            has_reason = line.starts_with('#') || has_reason && !line.is_empty();
            items.push(Item::Text(line.to_owned()));
        } else if let Some(words) = line.strip_prefix("> ") {
            let action = Action::Command(split(words).map_err(failed)?);
            items.push(Item::Step(step(number, line, action)));
        } else if let Some(directive) = line.strip_prefix("@ ") {
            let action = parse_directive(directive).map_err(failed)?;
            items.push(Item::Step(step(number, line, action)));
        } else {
            let Some(Item::Step(step)) = items.last_mut() else {
                return Err(failed(anyhow!("an expectation of nothing: {line}")));
            };
            if !step.action.replies() {
                return Err(failed(anyhow!("nothing is read here that this could be: {line}")));
            }
            if let Some(expected) = line.strip_prefix("! quorate: ") {
                if !has_reason {
                    return Err(failed(anyhow!("a deviation needs its reason in a comment above")));
                }
                step.alternatives.push(vec![expected.to_owned()]);
            } else if let Some(expected) = line.strip_prefix("! ") {
                let last = step.alternatives.last_mut();
                last.ok_or_else(|| failed(anyhow!("`! ` continues a `! quorate: `")))?
                    .push(expected.to_owned());
            } else {
                step.expected.push(line.to_owned());
            }
        }
    }
    Ok(items)
}

fn step(line: usize, source: &str, action: Action) -> Step {
    Step { line, source: source.to_owned(), action, expected: Vec::new(), alternatives: Vec::new() }
}

fn parse_directive(text: &str) -> Result<Action> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words = || rest.split_whitespace().map(str::to_owned);
    let action = match name {
        "send" => Action::Send(split(rest)?),
        "scan" if rest.is_empty() => Action::Scan(Vec::new()),
        "scan" => Action::Scan(split(rest)?),
        "raw" => match split(rest)?.as_slice() {
            [Word::Bytes(bytes)] => Action::Raw(bytes.clone()),
            _ => bail!("@ raw takes one string"),
        },
        "client" => Action::Client(words().next().context("@ client takes a name")?),
        "let" => Action::Let(words().next().context("@ let takes a name")?),
        "fields" => Action::Fields(words().collect()),
        "advance" => {
            let milliseconds = rest.strip_suffix("ms").and_then(|number| number.parse().ok());
            Action::Advance(Duration::from_millis(
                milliseconds.context("@ advance takes a time such as 100ms")?,
            ))
        }
        "receive" if rest.is_empty() => Action::Receive(1),
        "receive" => Action::Receive(rest.parse().context("@ receive takes a number")?),
        "resp3" => Action::Resp3,
        "closed" => Action::Closed,
        "silent" => Action::Silent,
        "unordered" => Action::Unordered,
        _ => bail!("no directive is called {name:?}"),
    };
    Ok(action)
}

/// The words of a line, in redis-cli's notation: bare, `'single'`, or `"double"` with escapes; and
/// `"ab"*100`, which redis-cli does not know.
fn split(text: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.as_bytes()[0] {
            b'"' => split_quoted(&rest[1..])?,
            b'\'' => {
                let end = rest[1..].find('\'').context("a quote that does not end")?;
                (Word::Bytes(rest.as_bytes()[1..=end].to_vec()), &rest[end + 2..])
            }
            _ => {
                let end = rest.find(' ').unwrap_or(rest.len());
                (bare(&rest[..end])?, &rest[end..])
            }
        };
        ensure!(after.is_empty() || after.starts_with(' '), "a quote that ends inside a word: {text}");
        words.push(word);
        rest = after.trim_start();
    }
    ensure!(!words.is_empty(), "no words: {text:?}");
    Ok(words)
}

fn bare(word: &str) -> Result<Word> {
    let Some(name) = word.strip_prefix('$') else {
        return Ok(Word::Bytes(word.as_bytes().to_vec()));
    };
    Ok(match name.split_once('+') {
        Some(("now", more)) => Word::Seconds(more.parse()?),
        Some(("now_ms", more)) => Word::Milliseconds(more.parse()?),
        _ => Word::Variable(name.to_owned()),
    })
}

/// A word after its opening double quote, and what is left of the line.
fn split_quoted(text: &str) -> Result<(Word, &str)> {
    let mut bytes = Vec::new();
    let mut rest = text;
    loop {
        let Some(next) = rest.chars().next() else { bail!("a quote that does not end") };
        rest = &rest[next.len_utf8()..];
        match next {
            '"' => break,
            '\\' => {
                let escape = rest.chars().next().context("a backslash at the end")?;
                rest = &rest[escape.len_utf8()..];
                match escape {
                    'n' => bytes.push(b'\n'),
                    'r' => bytes.push(b'\r'),
                    't' => bytes.push(b'\t'),
                    'a' => bytes.push(0x07),
                    'b' => bytes.push(0x08),
                    'x' => {
                        let digits = rest.get(..2).context("\\x takes two digits")?;
                        bytes.push(u8::from_str_radix(digits, 16)?);
                        rest = &rest[2..];
                    }
                    other => bytes.extend_from_slice(other.to_string().as_bytes()),
                }
            }
            other => bytes.extend_from_slice(other.to_string().as_bytes()),
        }
    }
    if let Some(count) = rest.strip_prefix('*') {
        let end = count.find(' ').unwrap_or(count.len());
        bytes = bytes.repeat(count[..end].parse()?);
        rest = &count[end..];
    }
    Ok((Word::Bytes(bytes), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &[&str], lines: &[&str], expect: bool) {
        let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        assert_eq!(matches(&owned(pattern), &owned(lines)), expect, "{pattern:?} and {lines:?}");
    }

    #[test]
    fn patterns() {
        check(&["OK"], &["OK"], true);
        check(&["OK"], &["OK", "OK"], false);
        check(&["*"], &["OK"], false);
        check(&["~ *"], &["OK"], true);
        check(&["~ a*c"], &["abbc"], true);
        check(&["~ a*c"], &["abbd"], false);
        check(&["~ a\\*c"], &["abc"], false);
        check(&["~ a\\*c"], &["a*c"], true);
        check(&["~ (integer) {95..100}"], &["(integer) 97"], true);
        check(&["~ (integer) {95..100}"], &["(integer) 101"], false);
        check(&["~ (integer) {95..100}"], &["(nil)"], false);
        check(&["~ t={-1..1};*"], &["t=-1;x"], true);
        check(&["~ *role:{master|slave}*"], &["a:b role:slave x"], true);
        check(&["~ *role:{master|slave}"], &["a:b role:other"], false);
        check(&["~ \"{sync|synced}\""], &["\"synced\""], true);
        check(&["~ *a*a*b"], &["aaaaaaaaaaaaaaaaaaaac"], false);
        check(&["1) a", "~ ..."], &["1) a", "2) b", "3) c"], true);
        check(&["~ ..."], &[], true);
    }

    #[test]
    fn words() {
        let bytes = |word: &str| Word::Bytes(word.as_bytes().to_vec());
        let split = |text| split(text).expect("well-formed");
        assert_eq!(split("SET k  v"), [bytes("SET"), bytes("k"), bytes("v")]);
        assert_eq!(
            split(r#"a "" 'b "c' "\x00\"\n""#),
            [bytes("a"), bytes(""), bytes("b \"c"), bytes("\0\"\n")]
        );
        assert_eq!(split(r#""ab"*3 x"#), [bytes("ababab"), bytes("x")]);
        assert_eq!(split("$id $now+5"), [Word::Variable("id".into()), Word::Seconds(5)]);
        assert!(super::split(r#"a "b"#).is_err());
        assert!(super::split(r#"a "b"c"#).is_err());
    }

    #[test]
    fn a_file_is_written_back_as_it_was_read() {
        let text = "# why\n> GET k\n(nil)\n! quorate: 1) a\n! 2) b\n! quorate: ~ *\n\n@ advance 5ms\n@ receive\nOK\n";
        let items = parse(text).expect("well-formed");
        assert_eq!(Case { path: PathBuf::new(), items }.to_text(), text);
    }

    #[test]
    fn a_deviation_without_a_reason_is_refused() {
        let (line, _) =
            parse("# about something else\n\n> GET k\n(nil)\n! quorate: OK\n").expect_err("no reason");
        assert_eq!(line, 5);
    }
}
