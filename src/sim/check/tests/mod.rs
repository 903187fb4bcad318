//! Histories whose verdicts are known, and agreement with checkers that try everything.

mod appends;
mod brute;
mod files;
mod locks;
mod revisions;
mod sets;
mod speed;
mod strings;
mod subscribers;

use super::Verdict;
use super::history::{History, Outcome, Request, Value};

/// `nil`, `7`, `OK`, `[a 1]` (texts).
fn value(text: &str) -> Value {
    if let Some(items) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Value::List(items.split_whitespace().map(Value::text).collect());
    }
    match (text, text.parse()) {
        ("nil", _) => Value::Nil,
        (_, Ok(number)) => Value::Int(number),
        _ => Value::text(text),
    }
}

/// A history from lines such as these, with times in milliseconds and clients from 1; `;` stands between the commands
/// of a transaction and between their replies, `key=seen` before its commands are guards.
///
/// ```text
/// 1 0..10 SET k v -> OK
/// 2 5..6 INCR n; GET k -> 1; v
/// 2 7..8 k=v SET k w -> ?     (its outcome is not known; ! if it failed)
/// ```
#[track_caller]
fn history(lines: &str) -> History {
    let mut history = History::default();
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.map(|line| line.split(" (").next().expect("split gives one").trim());
    let ms = |text: &str| text.parse::<u64>().expect("milliseconds") * 1_000_000;
    for line in lines {
        let (asked, reply) = line.split_once(" -> ").expect("a reply");
        let mut words = asked.splitn(3, ' ');
        let mut word = || words.next().expect("client, time, commands");
        let (client, (from, to)) =
            (word().parse().expect("a client"), word().split_once("..").expect("a time"));
        let mut request = Request::default();
        let mut commands = word();
        while let Some((guard, rest)) = commands.split_once(' ').filter(|(guard, _)| guard.contains('=')) {
            let (key, seen) = guard.split_once('=').expect("just seen");
            request.guards.push((key.into(), value(seen)));
            commands = rest;
        }
        let words = |command: &str| command.split_whitespace().map(str::to_owned).collect();
        request.commands = commands.split(';').map(words).collect();
        let operation = history.invoke(client, "n1", ms(from), request);
        let outcome = match reply {
            "?" => Outcome::Info("broken".into()),
            "!" => Outcome::Fail("refused".into()),
            _ if commands.contains(';') || asked.contains('=') => {
                Outcome::Ok(Value::List(reply.split(';').map(|reply| value(reply.trim())).collect()))
            }
            _ => Outcome::Ok(value(reply)),
        };
        history.complete(operation, ms(to), outcome);
    }
    history
}

/// The checker finds nothing wrong.
#[track_caller]
fn accepted(verdict: &Verdict) {
    assert_eq!(verdict.to_result(), Ok(()));
}

/// The checker finds something wrong, and says so in these words among others.
#[track_caller]
fn rejected(verdict: &Verdict, words: &str) {
    match verdict {
        Verdict::Violation(what) => assert!(what.contains(words), "{words} is not in: {what}"),
        other => panic!("{other:?}"),
    }
}

/// Chance for histories: a seed gives the same again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // Marsaglia's xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
