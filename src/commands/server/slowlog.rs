//! SLOWLOG: the commands that took long of late.
//!
//! Kept in memory, newest first, with long arguments cut as Redis cuts them. What is slow, and how many
//! are kept, are options; whoever records knows them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

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

struct Entry {
    id: i64,
    wall_ms: u64,
    took: Duration,
    argv: Vec<Bytes>,
    address: String,
    name: Bytes,
}

impl SlowLog {
    /// Adds a command that ended at `wall_ms`, and forgets the oldest beyond `entries_max`.
    pub fn record(&self, argv: &[Bytes], wall_ms: u64, took: Duration, client: &Client, entries_max: usize) {
        let entry = Entry {
            id: 0,
            wall_ms,
            took,
            argv: redacted(cut(argv)),
            address: client.address().to_owned(),
            name: client.face().name,
        };
        let mut entries = self.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.kept.push_front(Entry { id, ..entry });
        entries.kept.truncate(entries_max);
    }

    /// Forgets the oldest beyond `entries_max`.
    pub fn trim(&self, entries_max: usize) {
        self.lock().kept.truncate(entries_max);
    }

    /// What is to be kept of arguments until it is known how long their command took: small ones as they
    /// are, of large ones what an entry would show.
    #[must_use]
    pub fn abridge(argv: Vec<Bytes>) -> Vec<Bytes> {
        let bytes = argv.iter().map(Bytes::len).sum::<usize>();
        if argv.len() <= ARGUMENTS_MAX && bytes <= ARGUMENTS_MAX * ARGUMENT_BYTES_MAX {
            argv
        } else {
            cut(&argv)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("nothing panics while it holds the slow log")
    }
}

/// The arguments as they are kept.
fn cut(argv: &[Bytes]) -> Vec<Bytes> {
    let whole = if argv.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { argv.len() };
    let mut kept: Vec<Bytes> = argv[..whole].iter().map(cut_argument).collect();
    if whole < argv.len() {
        kept.push(Bytes::from(format!("... ({} more arguments)", argv.len() - whole)));
    }
    kept
}

/// The arguments without the passwords among them.
pub(super) fn redacted(mut argv: Vec<Bytes>) -> Vec<Bytes> {
    const REDACTED: Bytes = Bytes::from_static(b"(redacted)");
    let is = |place: usize, word: &str| {
        argv.get(place).is_some_and(|argument: &Bytes| argument.eq_ignore_ascii_case(word.as_bytes()))
    };
    let secret = |place: usize| {
        is(0, "AUTH")
            || is(0, "HELLO") && (is(place - 1, "AUTH") || place > 2 && is(place - 2, "AUTH"))
            || is(0, "CONFIG")
                && is(1, "SET")
                && (is(place - 1, "requirepass") || is(place - 1, "masterauth"))
    };
    let secrets = (1..argv.len()).filter(|&place| secret(place)).collect::<Vec<_>>();
    for place in secrets {
        argv[place] = REDACTED;
    }
    argv
}

fn cut_argument(argument: &Bytes) -> Bytes {
    // A copy even when it is short: a slice would keep the whole read buffer alive.
    if argument.len() <= ARGUMENT_BYTES_MAX {
        return Bytes::copy_from_slice(argument);
    }
    let mut kept = argument[..ARGUMENT_BYTES_MAX].to_vec();
    kept.extend_from_slice(format!("... ({} more bytes)", argument.len() - ARGUMENT_BYTES_MAX).as_bytes());
    Bytes::from(kept)
}

impl Entry {
    fn reply(&self) -> Reply {
        Reply::Array(vec![
            Reply::Int(self.id),
            Reply::Int((self.wall_ms / 1000) as i64),
            Reply::Int(self.took.as_micros() as i64),
            Reply::Array(self.argv.iter().cloned().map(Reply::Bulk).collect()),
            Reply::bulk(self.address.clone()),
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

    /// What is kept of so many arguments of so many bytes: how many, and the last.
    fn check(arguments: usize, bytes: usize, kept: usize, last: &str) {
        let argv = vec![Bytes::from("x".repeat(bytes)); arguments];
        let cut = cut(&argv);
        assert_eq!((cut.len(), cut.last().map(|last| &last[..])), (kept, Some(last.as_bytes())));
    }

    #[track_caller]
    fn check_redacted(line: &str, expect: &str) {
        let argv = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        let argv = redacted(argv);
        let words = argv.iter().map(|word| std::str::from_utf8(word).expect("it was text"));
        assert_eq!(words.collect::<Vec<_>>().join(" "), expect);
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
        check(32, 1, 32, "x");
        check(81, 1, 32, "... (50 more arguments)");
    }
}
