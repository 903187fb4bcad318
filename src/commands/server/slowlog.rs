//! SLOWLOG: the commands that took long of late.
//!
//! Kept in memory, newest first, with long arguments cut as Redis cuts them. What is slow, and how many
//! are kept, are options; whoever records knows them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use std::{fmt, iter};

use bytes::Bytes;

use super::READY;
use crate::commands::{Answer, Args, Flags, Group, Host, Node, Session, Spec, help};
use crate::error::{ClientError, Result};
use crate::resp::{Reply, number};
use crate::session::{Client, Session as Connection};

const ADMIN: Flags = Flags::ADMIN.and(READY);

/// How many arguments are kept, the last of which may say how many are not.
const ARGUMENTS_MAX: usize = 32;
/// How many bytes of an argument are kept.
const ARGUMENT_BYTES_MAX: usize = 128;
/// How many entries SLOWLOG GET shows when not told.
const SHOWN: i64 = 10;

/// The slowest commands of late.
#[derive(Default)]
pub struct SlowLog {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    next_id: i64,
    /// The newest first.
    kept: VecDeque<Entry>,
}

#[derive(Default)]
struct Entry {
    id: i64,
    wall_ms: u64,
    took: Duration,
    words: Words,
    address: Arc<str>,
    name: Bytes,
}

impl SlowLog {
    /// Adds a command that ended at `wall_ms`, and forgets the oldest beyond `entries_max`. Where rounds are slow, so is
    /// every command: the entry that goes lends its memory to the one that comes.
    pub fn record(&self, said: &Said, wall_ms: u64, took: Duration, client: &Client, entries_max: usize) {
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.kept.truncate(entries_max);
        let oldest = if entries.kept.len() == entries_max { entries.kept.pop_back() } else { None };
        if entries_max > 0 {
            let mut words = oldest.map(|entry| entry.words).unwrap_or_default();
            words.set(said);
            let (address, name) = (client.shared_address(), client.name());
            entries.kept.push_front(Entry { id, wall_ms, took, words, address, name });
        }
    }

    /// Forgets the oldest beyond `entries_max`.
    pub fn trim(&self, entries_max: usize) {
        self.lock().kept.truncate(entries_max);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("nothing panics while it holds the slow log")
    }
}

/// What is kept of a command's words until it is known how long it took.
pub enum Said<'a> {
    Whole(Cow<'a, [Bytes]>),
    /// What an entry would show.
    Cut(Words),
}

impl Said<'static> {
    /// Small ones as they are; of large ones what an entry would show.
    #[must_use]
    pub fn by(argv: Vec<Bytes>) -> Self {
        let bytes = argv.iter().map(Bytes::len).sum::<usize>();
        if argv.len() <= ARGUMENTS_MAX && bytes <= ARGUMENTS_MAX * ARGUMENT_BYTES_MAX {
            return Self::Whole(Cow::Owned(argv));
        }
        let mut words = Words::default();
        words.cut(&argv);
        Self::Cut(words)
    }
}

impl<'a> From<&'a [Bytes]> for Said<'a> {
    fn from(argv: &'a [Bytes]) -> Self {
        Self::Whole(Cow::Borrowed(argv))
    }
}

/// Words as an entry shows them. A copy: a slice of what was read would keep all that was read with it.
#[derive(Clone, Debug, Default)]
pub struct Words {
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Words {
    fn set(&mut self, said: &Said) {
        match said {
            Said::Whole(argv) => self.cut(argv),
            Said::Cut(words) => self.clone_from(words),
        }
    }

    /// Those of `argv`, in place of what was here.
    fn cut(&mut self, argv: &[Bytes]) {
        self.text.clear();
        self.ends.clear();
        let whole = if argv.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { argv.len() };
        for place in 0..whole {
            let word = shown(argv, place);
            let kept = &word[..word.len().min(ARGUMENT_BYTES_MAX)];
            self.text.extend_from_slice(kept);
            if kept.len() < word.len() {
                self.say(format_args!("... ({} more bytes)", word.len() - kept.len()));
            }
            self.ends.push(self.text.len());
        }
        if whole < argv.len() {
            self.say(format_args!("... ({} more arguments)", argv.len() - whole));
            self.ends.push(self.text.len());
        }
    }

    fn say(&mut self, text: fmt::Arguments) {
        self.text.write_fmt(text).expect("there is room in memory");
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// The word at a place, unless it is a password.
pub(super) fn shown(argv: &[Bytes], place: usize) -> &[u8] {
    let is = |place: usize, word: &str| {
        argv.get(place).is_some_and(|argument: &Bytes| argument.eq_ignore_ascii_case(word.as_bytes()))
    };
    let secret = place > 0
        && (is(0, "AUTH")
            || is(0, "HELLO") && (is(place - 1, "AUTH") || place > 2 && is(place - 2, "AUTH"))
            || is(0, "CONFIG")
                && is(1, "SET")
                && (is(place - 1, "requirepass") || is(place - 1, "masterauth")));
    if secret { b"(redacted)" } else { &argv[place] }
}

impl Entry {
    fn reply(&self) -> Reply {
        Reply::Array(vec![
            Reply::Int(self.id),
            Reply::Int((self.wall_ms / 1000) as i64),
            Reply::Int(self.took.as_micros() as i64),
            Reply::Array(self.words.iter().map(|word| Reply::Bulk(Bytes::copy_from_slice(word))).collect()),
            Reply::bulk(self.address.to_string()),
            Reply::Bulk(self.name.clone()),
        ])
    }
}

/// Shows the newest entries.
pub struct Get {
    /// `None` for all.
    count: Option<usize>,
}

impl Node for Get {
    const SPEC: Spec = Spec {
        name: "SLOWLOG|GET",
        syntax: "[count]",
        summary: "Get the slow log's entries",
        complexity: "O(N) where N is the number of entries returned",
        since: "2.2.12",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const OUT_OF_RANGE: ClientError =
            ClientError::fixed("ERR count should be greater than or equal to -1");
        if args.len() > 1 {
            return Err(args.wrong_subcommand().into());
        }
        let count = match args.rest().pop() {
            None => SHOWN,
            Some(count) => number::parse_int(&count).filter(|&count| count >= -1).ok_or(OUT_OF_RANGE)?,
        };
        Ok(Self { count: usize::try_from(count).ok() })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let entries = host.slow_log().lock();
        let shown = entries.kept.iter().take(self.count.unwrap_or(usize::MAX));
        Ok(Reply::Array(shown.map(Entry::reply).collect()).into())
    }
}

/// Counts the entries.
pub struct Len;

impl Node for Len {
    const SPEC: Spec = Spec {
        name: "SLOWLOG|LEN",
        summary: "Get the slow log's length",
        since: "2.2.12",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        Ok(Reply::Int(host.slow_log().lock().kept.len() as i64).into())
    }
}

/// Forgets the entries; their numbers are not given again.
pub struct Reset;

impl Node for Reset {
    const SPEC: Spec = Spec {
        name: "SLOWLOG|RESET",
        summary: "Clear all entries from the slow log",
        complexity: "O(N) where N is the number of entries in the slowlog",
        since: "2.2.12",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        host.slow_log().lock().kept.clear();
        Ok(Reply::Ok.into())
    }
}

/// Explains SLOWLOG.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "SLOWLOG|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "6.2.0",
        flags: READY,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "SLOWLOG",
            &[
                "GET [<count>]",
                "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
                "    Entries are made of:",
                "    id, timestamp, time in microseconds, arguments array, client IP and port,",
                "    client name",
                "LEN",
                "    Return the length of the slowlog.",
                "RESET",
                "    Reset the slowlog.",
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(argv: Vec<Bytes>) -> Vec<String> {
        let mut words = Words::default();
        words.set(&Said::by(argv.clone()));
        let shown = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>();
        words.set(&Said::from(&argv[..]));
        assert!(words.iter().eq(shown.iter().map(String::as_bytes)), "they are kept the same while it runs");
        shown
    }

    /// What is kept of so many arguments of so many bytes: how many, and the last.
    #[track_caller]
    fn check(arguments: usize, bytes: usize, count: usize, last: &str) {
        let words = kept(vec![Bytes::from("x".repeat(bytes)); arguments]);
        assert_eq!((words.len(), words.last().map(String::as_str)), (count, Some(last)));
    }

    #[track_caller]
    fn check_redacted(line: &str, expect: &str) {
        let argv = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        assert_eq!(kept(argv).join(" "), expect);
    }

    #[test]
    fn passwords_are_not_kept() {
        check_redacted("auth secret", "auth (redacted)");
        check_redacted("AUTH me secret", "AUTH (redacted) (redacted)");
        check_redacted(
            "HELLO 3 AUTH me secret SETNAME name",
            "HELLO 3 AUTH (redacted) (redacted) SETNAME name",
        );
        check_redacted(
            "config set requirepass secret timeout 5",
            "config set requirepass (redacted) timeout 5",
        );
        check_redacted("SET AUTH secret", "SET AUTH secret");
        check_redacted("HELLO", "HELLO");
    }

    #[test]
    fn cuts_what_is_long() {
        let whole = "x".repeat(128);
        check(1, 128, 1, &whole);
        check(1, 300, 1, &format!("{whole}... (172 more bytes)"));
        check(1, 5_000, 1, &format!("{whole}... (4872 more bytes)"));
        check(32, 1, 32, "x");
        check(81, 1, 32, "... (50 more arguments)");
    }
}
