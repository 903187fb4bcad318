//! For the revision oracle: every reply of every client, where in the log it was computed, and that log.
//!
//! Each node tells which reply it gives on which connection and from where it has it, and the first one that applies an entry
//! what was in it and what it answered ([`Sight::Ran`], [`Sight::Replied`]). Clients put down what they asked and were told.
//! What went through the log is numbered, commands and entries alike, and that number is its revision; a read has that of
//! the last thing that the state it saw had in it. Nothing here sends a byte or draws a lot: what is watched goes its way as
//! if nobody looked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

use super::check::history::{Operation, Outcome, Request, Returned, Value};
use super::check::revisions::{self, Log, Logged};
use super::check::{Verdict, history};
use super::client::Answer;
use super::recorder::{nanoseconds, value};
use crate::env::observer::{GroupId, Sight, Source};
use crate::machine::entry::{Call, Entry, GroupHeader, Proposed};

/// What is known so far. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Entries by index.
    entries: BTreeMap<u64, Ran>,
    /// Where each reply of a host's connection comes from that the client has not seen yet.
    sources: HashMap<(&'static str, String), BTreeMap<u64, Source>>,
    operations: Vec<(Operation, Option<Source>)>,
    connections: u64,
    last_ns: u64,
}

struct Ran {
    body: Bytes,
    answers: Vec<(GroupId, Vec<Bytes>)>,
}

/// What the ledger comes to.
pub struct Judged {
    /// How many operations were answered.
    pub answered: usize,
    /// How many groups of commands were in the log again, and were not carried out again.
    pub repeated: u64,
    pub verdict: Verdict,
}

/// A client's connection, as the ledger knows it.
pub struct Account {
    number: u64,
    host: &'static str,
    address: String,
    replies: u64,
    /// Commands between MULTI and EXEC.
    queued: Option<Vec<Vec<String>>>,
}

impl Ledger {
    /// Whether nobody has said yet what the entry at `index` was.
    pub fn lacks(&self, index: u64) -> bool {
        !self.known().entries.contains_key(&index)
    }

    /// Something happened on `host`.
    pub fn saw(&self, host: &'static str, sight: &Sight) {
        let mut known = self.known();
        match sight {
            Sight::Ran { index, body, answers } => {
                let ran = || Ran { body: body.clone(), answers: answers.clone() };
                known.entries.entry(*index).or_insert_with(ran);
            }
            Sight::Replied { address, number, source } => {
                known.sources.entry((host, address.clone())).or_default().insert(*number, *source);
            }
            _ => {}
        }
    }

    /// A client has connected, from this address.
    pub fn open(&self, host: &'static str, address: String) -> Account {
        let mut known = self.known();
        known.connections += 1;
        Account { number: known.connections, host, address, replies: 0, queued: None }
    }

    /// A time that nothing else has.
    pub fn stamp(&self, now: Duration) -> u64 {
        let mut known = self.known();
        known.last_ns = nanoseconds(now).max(known.last_ns + 1);
        known.last_ns
    }

    /// What was asked at once, at `invoked_ns`, and what became of it.
    pub fn note(&self, account: &mut Account, commands: &[&[&str]], answers: &[Answer], at: (u64, u64)) {
        let mut known = self.known();
        let mut sources = known.sources.remove(&(account.host, account.address.clone())).unwrap_or_default();
        for (words, answer) in commands.iter().zip(answers) {
            let source = sources.remove(&account.replies);
            account.replies += 1;
            let owned = || words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
            let request = match (words[0], &mut account.queued) {
                // What nodes are told is not in the keys.
                ("CONFIG" | "FAILOVER" | "CLUSTER", _) => continue,
                ("MULTI", _) => {
                    account.queued = Some(Vec::new());
                    continue;
                }
                ("EXEC", queued) => {
                    Request { commands: queued.take().unwrap_or_default(), ..Request::default() }
                }
                (_, Some(queued)) => {
                    queued.push(owned());
                    continue;
                }
                (_, None) => Request { commands: vec![owned()], ..Request::default() },
            };
            let outcome = match answer {
                Answer::Reply(frame) => Outcome::Ok(only(&request, words[0] == "EXEC", value(frame))),
                Answer::NotApplied => Outcome::Fail("an error that promises it".into()),
                Answer::Unknown | Answer::Silence => Outcome::Info("an error, or nothing".into()),
            };
            let (client, node) = (account.number, account.host.to_owned());
            let (invoked_ns, ns) = at;
            let returned = Some(Returned { ns, outcome, revision: None });
            known.operations.push((Operation { client, node, request, invoked_ns, returned }, source));
        }
    }

    /// What the oracle says; it must have been shown `least` operations that were answered.
    pub fn judge(&self, least: usize) -> Judged {
        let known = self.known();
        let numbered = match Numbered::of(&known.entries) {
            Ok(numbered) => numbered,
            Err(what) => return Judged { answered: 0, repeated: 0, verdict: Verdict::Undecided(what) },
        };
        let repeated = numbered.repeated;
        let judged = |answered, verdict| Judged { answered, repeated, verdict };
        let mut operations = Vec::with_capacity(known.operations.len());
        for (operation, source) in &known.operations {
            let mut operation = operation.clone();
            let Some(returned) = operation.returned.as_mut().filter(|_| source.is_some()) else {
                operations.push(operation);
                continue;
            };
            returned.revision = source.and_then(|source| numbered.revision(source));
            if returned.revision.is_none() && operation.answer().is_some() {
                let what = format!("a reply that no entry gave:\n    {operation}\n");
                return judged(0, Verdict::Violation(what));
            }
            operations.push(operation);
        }
        let answered = operations.iter().filter(|operation| operation.answer().is_some()).count();
        if answered < least {
            let what = format!("{answered} operations were answered of {least} that others know of");
            return judged(answered, Verdict::Undecided(what));
        }
        judged(answered, revisions::check(&operations, Some(&numbered.log)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no holder panics")
    }
}

/// The log, with a number for each thing in it.
#[derive(Default)]
struct Numbered {
    log: Log,
    /// The number of each command, by its group and place.
    places: HashMap<(GroupId, usize), u64>,
    /// The last number in each entry.
    ends: BTreeMap<u64, u64>,
    /// How many groups came again.
    repeated: u64,
}

impl Numbered {
    fn of(entries: &BTreeMap<u64, Ran>) -> Result<Self, String> {
        let mut numbered = Self::default();
        let mut counted = BTreeSet::new();
        let mut last = 0;
        for (index, ran) in entries {
            let unreadable = |what| format!("the entry at {index} cannot be read: {what}");
            let mut entry = Entry::decode(&ran.body).map_err(|error| unreadable(error.to_string()))?;
            let clock_ms = entry.clock_ms;
            last += 1;
            numbered.log.insert(last, Logged { clock_ms, ..Logged::default() });
            let mut answers = ran.answers.iter().peekable();
            while let Some((header, mut commands)) =
                entry.next_group().map_err(|error| unreadable(error.to_string()))?
            {
                let GroupHeader { node, boot, sequence, .. } = header;
                let group = GroupId { node, boot, sequence };
                // One that was refused, or has run before, did not run.
                let Some((_, replies)) = answers.next_if(|(ran, _)| *ran == group) else {
                    numbered.repeated += u64::from(counted.contains(&group));
                    continue;
                };
                counted.insert(group);
                for (place, reply) in replies.iter().enumerate() {
                    let command = commands.next_command().map_err(|error| unreadable(error.to_string()))?;
                    let command = command.ok_or_else(|| unreadable("more answers than commands".into()))?;
                    last += 1;
                    numbered.places.insert((group, place), last);
                    numbered.log.insert(last, logged(clock_ms, &command, reply));
                }
            }
            numbered.ends.insert(*index, last);
        }
        Ok(numbered)
    }

    fn revision(&self, source: Source) -> Option<u64> {
        match source {
            Source::Log { group, place } => self.places.get(&(group, place)).copied(),
            Source::State { index } => {
                Some(self.ends.range(..=index).next_back().map_or(0, |(_, last)| *last))
            }
        }
    }
}

fn logged(clock_ms: u64, command: &Proposed<&[u8]>, reply: &Bytes) -> Logged {
    let words = |call: &Call<&[u8]>| call.argv.iter().map(|word| text(word)).collect::<Vec<_>>();
    let (commands, guards) = match command {
        Proposed::Plain(call) => (vec![words(call)], &[][..]),
        Proposed::Transaction { guards, calls } => (calls.iter().map(words).collect(), &guards[..]),
    };
    let frame = decode_bytes_mut(&mut BytesMut::from(&reply[..])).ok().flatten().map(|(frame, _, _)| frame);
    let is_refused = matches!(frame, Some(BytesFrame::Error(_)));
    let request = Request { commands, ..Request::default() };
    if is_refused || request.commands[0][0] == "CONFIG" {
        return Logged { clock_ms, ..Logged::default() };
    }
    let is_transaction = matches!(command, Proposed::Transaction { .. });
    let reply = frame.map(|frame| only(&request, is_transaction, value(&frame)));
    let watched = guards.iter().map(|guard| text(guard.key)).collect();
    Logged { clock_ms, request: Some(request), watched, reply }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A transaction of one command replies with a list of one; a history knows it as the command.
fn only(request: &Request, is_transaction: bool, reply: history::Value) -> Value {
    match reply {
        Value::List(mut replies) if is_transaction && request.commands.len() == 1 => {
            replies.pop().unwrap_or(Value::Nil)
        }
        reply => reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::entry::{GroupBuilder, Guard, encode};

    const GROUP: GroupId = GroupId { node: 1, boot: 1, sequence: 1 };

    fn call(words: &str) -> Call<Bytes> {
        Call { db: 0, argv: words.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect() }
    }

    /// An entry of one group at this time, as the node that applied it tells of it.
    fn ran(
        index: u64,
        sequence: u64,
        clock_ms: u64,
        commands: &[Proposed<Bytes>],
        replies: &[&'static str],
    ) -> Sight {
        let mut group = GroupBuilder::default();
        commands.iter().for_each(|command| group.push(command));
        let body = encode(clock_ms, 0, 7, &[group.seal(1, 1, sequence, 0)]);
        Sight::Ran { index, body, answers: vec![(GroupId { sequence, ..GROUP }, bytes(replies))] }
    }

    fn bytes(replies: &[&'static str]) -> Vec<Bytes> {
        replies.iter().map(|reply| Bytes::from_static(reply.as_bytes())).collect()
    }

    fn plain(index: u64, clock_ms: u64, words: &str, reply: &'static str) -> Sight {
        ran(index, index, clock_ms, &[Proposed::Plain(call(words))], &[reply])
    }

    fn from_log(sequence: u64) -> Option<Source> {
        Some(Source::Log { group: GroupId { sequence, ..GROUP }, place: 0 })
    }

    const fn from_state(index: u64) -> Option<Source> {
        Some(Source::State { index })
    }

    /// What clients see, each on a connection of its own: the commands, from when to when, the last reply (`?` if it is not
    /// known, `!` if refused), and whence it came. What is watched is seen in the first state.
    type Seen<'a> = (&'a str, (u64, u64), &'static str, Option<Source>);

    fn judge(log: &[Sight], seen: &[Seen<'_>]) -> String {
        let ledger = Ledger::default();
        log.iter().for_each(|sight| ledger.saw("n1", sight));
        for (at, (commands, time, reply, source)) in seen.iter().enumerate() {
            let mut account = ledger.open("n1", format!("client:{at}"));
            let commands = commands.split("; ").map(|words| words.split(' ').collect::<Vec<_>>());
            let commands = commands.collect::<Vec<_>>();
            let commands = commands.iter().map(Vec::as_slice).collect::<Vec<_>>();
            let last = commands.len() as u64 - 1;
            let watch = (commands[0][0] == "WATCH").then_some((0, Source::State { index: 1 }));
            for (number, source) in source.map(|source| (last, source)).into_iter().chain(watch) {
                ledger.saw("n1", &Sight::Replied { address: format!("client:{at}"), number, source });
            }
            let read = |reply: &'static str| {
                decode_bytes_mut(&mut BytesMut::from(reply)).expect("it is a reply").expect("a whole one").0
            };
            let mut answers = vec![Answer::Reply(read(OK)); commands.len()];
            *answers.last_mut().expect("a command") = match *reply {
                "?" => Answer::Unknown,
                "!" => Answer::NotApplied,
                reply => Answer::Reply(read(reply)),
            };
            ledger.note(&mut account, &commands, &answers, *time);
        }
        ledger.judge(1).verdict.to_result().err().unwrap_or_default()
    }

    #[track_caller]
    fn check(log: &[Sight], seen: &[Seen<'_>], found: &str) {
        let judged = judge(log, seen);
        assert!(judged.contains(found) && found.is_empty() == judged.is_empty(), "{found:?}: {judged:?}");
    }

    const OK: &str = "+OK\r\n";
    const NIL: &str = "$-1\r\n";
    const A: &str = "$1\r\na\r\n";

    #[test]
    fn what_the_log_explains() {
        let log = [plain(1, 100, "SET k a", OK), plain(2, 200, "SET k b", OK)];
        let set = ("SET k a", (0, 9), OK, from_log(1));
        check(&log, &[set, ("SET k b", (1, 2), "?", None)], "");
        check(&log, &[set, ("SET k b", (1, 2), "?", None), ("GET k", (3, 4), A, from_state(1))], "");
        check(
            &log,
            &[set, ("SET k b", (1, 2), "?", None), ("GET k", (3, 4), A, from_state(2))],
            "should be b",
        );
        check(&log, &[set], "nobody can have had done");
        check(&log, &[set, ("SET k b", (1, 2), "!", None)], "nobody can have had done");
        check(&log, &[set, ("SET k c", (1, 2), OK, from_log(2))], "not in the log");
        check(&log, &[set, ("SET k b", (10, 12), OK, from_log(3))], "a reply that no entry gave");
        check(&log, &[set, ("SET k b", (1, 2), OK, None)], "without a revision");
        check(&log, &[("SET k b", (0, 1), OK, from_log(2)), ("SET k a", (2, 3), OK, from_log(1))], "too low");
        check(&log, &[], "0 operations were answered of 1");
    }

    #[test]
    fn a_group_counts_once() {
        let one = Proposed::Plain(call("INCR n"));
        let again = ran(2, 1, 200, std::slice::from_ref(&one), &[":1\r\n"]);
        let Sight::Ran { index, body, .. } = again.clone() else { unreachable!("it is one") };
        let not_again = Sight::Ran { index, body, answers: Vec::new() };
        let log = [ran(1, 1, 100, &[one], &[":1\r\n"]), not_again];
        let incr = ("INCR n", (0, 9), ":1\r\n", from_log(1));
        check(&log, &[incr, ("GET n", (10, 11), "$1\r\n1\r\n", from_state(2))], "");
        check(&log, &[incr, ("GET n", (10, 11), "$1\r\n2\r\n", from_state(2))], "should be 1");
        check(&[log[0].clone(), again], &[incr], "nobody can have had done");
    }

    /// A node may start again and propose something before what it proposed last is in the log: seed 20261543.
    #[test]
    fn two_boots_of_a_node_in_one_entry() {
        let incr = Proposed::Plain(call("INCR n"));
        let sealed = [1, 2].map(|boot| {
            let mut group = GroupBuilder::default();
            group.push(&incr);
            group.seal(1, boot, 1, 0)
        });
        let ids = [1, 2].map(|boot| GroupId { boot, ..GROUP });
        let answers = vec![(ids[0], bytes(&[":1\r\n"])), (ids[1], bytes(&[":2\r\n"]))];
        let log = [Sight::Ran { index: 1, body: encode(100, 0, 7, &sealed), answers }];
        let second = ("INCR n", (5, 9), ":2\r\n", Some(Source::Log { group: ids[1], place: 0 }));
        check(&log, &[("INCR n", (0, 1), "?", None), second], "");
        check(&log, &[second], "nobody can have had done");
    }

    #[test]
    fn a_key_ends_with_its_time_and_not_before() {
        let log =
            [plain(1, 100, "SET k a PX 50", OK), plain(2, 149, "SET j a", OK), plain(3, 150, "SET l a", OK)];
        let seen = |index, reply| {
            let sets = [("SET k a PX 50", 1), ("SET j a", 2), ("SET l a", 3)];
            let mut seen = sets.map(|(set, sequence)| (set, (0, 9), OK, from_log(sequence))).to_vec();
            seen.push(("GET k", (10, 11), reply, from_state(index)));
            seen
        };
        // Later than the last writes, so no state before them may be read.
        check(&log, &seen(3, NIL), "");
        check(&log, &seen(3, A), "should be nil");
        check(&log, &seen(2, A), "too low");
        let early = |index, reply| {
            let mut seen = seen(index, reply);
            seen[3].1 = (1, 2);
            seen
        };
        check(&log, &early(2, A), "");
        check(&log, &early(2, NIL), "should be a");
    }

    #[test]
    fn what_a_server_notes_must_be_right_though_nobody_sees_it() {
        let log = [plain(1, 100, "INCR n", ":1\r\n"), plain(2, 100, "INCR n", ":1\r\n")];
        let seen = [("INCR n", (0, 9), ":1\r\n", from_log(1)), ("INCR n", (0, 9), "?", None)];
        check(&log, &seen, "a server notes 1");
    }

    #[test]
    fn watched_keys_have_not_changed() {
        let transaction = Proposed::Transaction {
            guards: vec![Guard { db: 0, key: "k".into(), revision: 1 }],
            calls: vec![call("SET k b"), call("GET k")],
        };
        let log = |before: &str, reply| {
            let own = ran(3, 3, 100, std::slice::from_ref(&transaction), &[reply]);
            [plain(1, 100, "SET k a", OK), plain(2, 100, before, OK), own]
        };
        let seen = |before, reply| {
            let sets = [("SET k a", (0, 9), OK, from_log(1)), (before, (0, 9), OK, from_log(2))];
            let exec = ("WATCH k; MULTI; SET k b; GET k; EXEC", (1, 8), reply, from_log(3));
            [&sets[..], &[exec]].concat()
        };
        let (done, refused) = ("*2\r\n+OK\r\n$1\r\nb\r\n", "*-1\r\n");
        check(&log("SET j c", done), &seen("SET j c", done), "");
        check(&log("SET k c", refused), &seen("SET k c", refused), "");
        check(&log("SET k c", done), &seen("SET k c", done), "a watched key had changed");
        check(&log("SET j c", refused), &seen("SET j c", refused), "no watched key had changed");
        // One that only reads is not in the log.
        let reading = |before| {
            let log = [plain(1, 100, "SET k a", OK), plain(2, 100, before, OK)];
            let sets = [("SET k a", (0, 9), OK, from_log(1)), (before, (0, 9), OK, from_log(2))];
            let exec = ("WATCH k; MULTI; GET k; GET j; EXEC", (1, 8), refused, from_state(2));
            (log, [&sets[..], &[exec]].concat())
        };
        let (log_of_k, seen_of_k) = reading("SET k c");
        check(&log_of_k, &seen_of_k, "");
        let (log_of_j, seen_of_j) = reading("SET j c");
        check(&log_of_j, &seen_of_j, "no watched key had changed");
        check(&log("SET j c", refused), &seen("SET j c", done), "should be nil");
    }
}
