//! What clients saw, and whether a single copy of the data could have shown it to them.
//!
//! Each check is exact for its kind of key, and cheap, because the workload keeps to rules: a register has one
//! writer, who writes 1, 2, 3 and so on, and leaves it after a write whose outcome he does not know; a fleeting key
//! is set once. Times are the client host's, so "before" is real time.

use std::collections::BTreeMap;
use std::time::Duration;

/// When a request was sent, and when its answer came.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: Duration,
    pub end: Duration,
}

impl Span {
    fn before(&self, other: &Self) -> bool {
        self.end < other.start
    }
}

/// What a client knows of a write of his.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Applied,
    NotApplied,
    Unknown,
}

/// Everything that happened.
#[derive(Default)]
pub struct History {
    pub registers: BTreeMap<String, Register>,
    pub counters: BTreeMap<String, Counter>,
    pub fleeting: BTreeMap<String, Fleeting>,
    pub pairs: Vec<Pair>,
}

/// A key with one writer.
#[derive(Default)]
pub struct Register {
    pub writes: Vec<(u64, Fate, Span)>,
    pub reads: Vec<(u64, Span)>,
}

/// A key that many increment.
#[derive(Default)]
pub struct Counter {
    /// The replies of those that were answered.
    pub replies: Vec<(u64, Span)>,
    pub unknown: u64,
    pub reads: Vec<(u64, Span)>,
}

/// A key that was set once, to end after `ttl`.
#[derive(Default)]
pub struct Fleeting {
    pub set: Option<(Fate, Span)>,
    pub ttl: Duration,
    /// Whether it was there.
    pub reads: Vec<(bool, Span)>,
}

/// Two keys that are only ever incremented together, read together.
pub struct Pair {
    pub values: [u64; 2],
    pub span: Span,
}

impl History {
    /// The first thing that no single copy could have shown. A key must be there for so many hundredths of its time.
    pub fn check(&self, kept_percent: u32) -> Result<(), String> {
        let named =
            |name: &str, checked: Result<(), String>| checked.map_err(|what| format!("{name}: {what}"));
        for (name, register) in &self.registers {
            named(name, register.check())?;
        }
        for (name, counter) in &self.counters {
            named(name, counter.check())?;
        }
        for (name, fleeting) in &self.fleeting {
            named(name, fleeting.check(kept_percent))?;
        }
        for pair in &self.pairs {
            if pair.values[0] != pair.values[1] {
                return Err(format!("half a transaction was seen: {:?} at {:?}", pair.values, pair.span));
            }
        }
        Ok(())
    }

    /// How many requests were answered, to tell a quiet run from a broken one.
    pub fn answered(&self) -> usize {
        let registers = self.registers.values().map(|register| {
            let applied = register.writes.iter().filter(|(_, fate, _)| *fate == Fate::Applied).count();
            applied + register.reads.len()
        });
        let counters = self.counters.values().map(|counter| counter.replies.len() + counter.reads.len());
        registers.sum::<usize>() + counters.sum::<usize>()
    }
}

impl Register {
    fn check(&self) -> Result<(), String> {
        for (value, span) in &self.reads {
            let write = self.writes.iter().find(|(written, ..)| written == value);
            match write {
                None if *value == 0 => {}
                Some((_, Fate::Applied | Fate::Unknown, written)) if !span.before(written) => {}
                Some((_, Fate::NotApplied, _)) => {
                    return Err(format!("{value}, which was said not to be applied, was read at {span:?}"));
                }
                _ => return Err(format!("{value} was read at {span:?}, before it was written")),
            }
            let applied = self.writes.iter().filter(|(_, fate, _)| *fate == Fate::Applied);
            let written = applied.filter(|(.., write)| write.before(span)).map(|(value, ..)| *value);
            let read = self.reads.iter().filter(|(_, earlier)| earlier.before(span)).map(|(value, _)| *value);
            if let Some(least) = written.chain(read).max().filter(|least| value < least) {
                return Err(format!("{value} was read at {span:?}, though {least} was there before"));
            }
        }
        Ok(())
    }
}

impl Counter {
    fn check(&self) -> Result<(), String> {
        let mut replies = self.replies.clone();
        replies.sort_by_key(|(value, _)| *value);
        if let Some(twice) = replies.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("two increments were answered {}: {twice:?}", twice[0].0));
        }
        // Increments and reads in the order of their values must not go back in time. A read stands after
        // the increment whose value it shows.
        let increments = replies.iter().map(|(value, span)| (*value, 0, *span));
        let reads = self.reads.iter().map(|(value, span)| (*value, 1, *span));
        let mut all = increments.chain(reads).collect::<Vec<_>>();
        all.sort_by_key(|(value, kind, _)| (*value, *kind));
        let mut latest_start = (0, Duration::ZERO);
        for (value, kind, span) in all {
            // Two reads of one value are in no order.
            if span.end < latest_start.1 && (latest_start.0, 1) != (value, kind) {
                return Err(format!(
                    "{value} was answered at {span:?}, though {} came before",
                    latest_start.0
                ));
            }
            if span.start > latest_start.1 {
                latest_start = (value, span.start);
            }
        }
        let answered = replies.len() as u64;
        let most = answered + self.unknown;
        if let Some((value, _)) = self.reads.iter().chain(&self.replies).find(|(value, _)| *value > most) {
            return Err(format!("{value} was seen, after at most {most} increments"));
        }
        Ok(())
    }

    /// Whether `last`, read when all was over, can be what the increments added up to.
    pub fn check_sum(&self, last: u64) -> Result<(), String> {
        let answered = self.replies.len() as u64;
        if (answered..=answered + self.unknown).contains(&last) {
            return Ok(());
        }
        Err(format!("ended as {last}, after {answered} increments and {} of unknown outcome", self.unknown))
    }
}

impl Fleeting {
    fn check(&self, kept_percent: u32) -> Result<(), String> {
        let Some((fate, set)) = self.set else { return Ok(()) };
        let gone = self.reads.iter().filter(|(there, _)| !there);
        for (_, span) in gone.filter(|(_, span)| fate == Fate::Applied && set.before(span)) {
            if span.end < set.start + self.ttl * kept_percent / 100 {
                return Err(format!("set at {set:?} for {:?}, it was gone at {span:?}", self.ttl));
            }
            if let Some((_, later)) = self.reads.iter().find(|(there, later)| *there && span.before(later)) {
                return Err(format!("gone at {span:?}, it was back at {later:?}"));
            }
        }
        Ok(())
    }
}
