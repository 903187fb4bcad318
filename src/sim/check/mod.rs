//! Judges of what clients saw: they trust nothing that a server says, and know nothing of how it works.
//!
//! Whoever drives clients, a simulation or processes on real machines, records a [`History`](history::History):
//! when each request was sent, when its answer came and what it said, and what was done to the servers meanwhile.
//! Each checker here takes the part of it that it understands.
//!
//! ```
//! use quorate::sim::check::history::{History, Outcome, Request, Value};
//! use quorate::sim::check::{search, strings};
//!
//! let mut history = History::default();
//! let set = history.invoke(1, "n1", 1_000, Request::of(&["SET", "k", "1"]));
//! history.complete(set, 2_000, Outcome::Ok(Value::text("OK")));
//! let get = history.invoke(2, "n2", 3_000, Request::of(&["GET", "k"]));
//! history.complete(get, 4_000, Outcome::Ok(Value::Nil)); // stale
//!
//! let verdict = strings::check(&history.operations, search::STATES_MAX);
//! assert!(verdict.to_result().unwrap_err().contains("GET k"));
//! ```
//!
//! # How to read a verdict
//!
//! - [`Verdict::Accepted`]: a single copy of the data, one operation at a time, could have shown this to the clients.
//! - [`Verdict::Violation`]: it could not. The text says on which keys, shows the order that explains the most of it, and
//!   then the operations of which none can come next: at least one of their answers is wrong, or one given before.
//!   Times are milliseconds of the history's clock; an operation is `[sent .. answered]`, with `..` and nothing
//!   behind it if its outcome is not known.
//! - [`Verdict::Undecided`]: the checker gave up, or the history does not hold what it needs. That is a failure, too:
//!   nothing has been shown.
//!
//! Reading order: [`history`], [`lines`] (its text), [`coverage`]; [`model`] and [`search`] (the black-box checker),
//! [`strings`] (registers, counters, transactions on several keys); [`appends`] (lists, through [`cycles`] in a graph),
//! [`sets`]; [`locks`], [`leases`]; [`messages`] and [`events`] (what subscribers are told);
//! [`kinds`] (who judges which keys); [`revisions`] (the oracle for
//! servers that tell revisions, with [`object`] and [`realtime`]).

pub mod history;

pub mod lines;

pub mod coverage;

pub mod model;

pub mod scatter;

pub mod search;

pub mod strings;

pub mod cycles;

pub mod appends;

pub mod sets;

pub mod realtime;

pub mod locks;

pub mod leases;

pub mod messages;

pub mod events;

pub mod kinds;

pub mod object;

pub mod revisions;

#[cfg(test)]
mod tests;

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was seen can be explained.
    Accepted,
    /// Something cannot; what, in words and lines.
    Violation(String),
    /// Not known, and why.
    Undecided(String),
}

impl Verdict {
    /// An error for everything but acceptance.
    pub fn to_result(&self) -> Result<(), String> {
        match self {
            Self::Accepted => Ok(()),
            Self::Violation(what) => Err(format!("violation: {what}")),
            Self::Undecided(why) => Err(format!("no verdict: {why}")),
        }
    }

    /// Whether it was shown that something is wrong.
    #[must_use]
    pub const fn is_violation(&self) -> bool {
        matches!(self, Self::Violation(_))
    }

    /// The verdict on the whole: violations go before unknowns, and the first one is told.
    pub fn all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::Accepted;
        for verdict in verdicts {
            match verdict {
                Self::Accepted => {}
                Self::Violation(_) => return verdict,
                Self::Undecided(_) if whole == Self::Accepted => whole = verdict,
                Self::Undecided(_) => {}
            }
        }
        whole
    }
}

impl<E: Into<String>> From<Result<(), E>> for Verdict {
    /// An error is a violation.
    fn from(checked: Result<(), E>) -> Self {
        checked.map_or_else(|what| Self::Violation(what.into()), |()| Self::Accepted)
    }
}
