//! What scripts have called, told to the node that they came through: for its figures, and for those who monitor it.
//!
//! What it sleeps is told as well: no node waits while it applies an entry, only the reply does. All of it is gathered
//! where somebody wants to hear of it, so it is not the same on every node, and nothing that is
//! decided may depend on it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::error::ClientError;
use crate::metrics::Outcome;

/// How much is kept for those who monitor, in bytes: they would be disconnected if they were sent more at once.
const SHOWN_BYTES_MAX: usize = 32 << 20;

/// How much of what scripts call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    Nothing,
    Figures,
    /// Figures, and the calls themselves.
    Words,
}

/// What one command's script has called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// How often each command, by its place in the table, ended how.
    pub counts: BTreeMap<(usize, Outcome), u64>,
    /// How many errors of each code there were that the script's own reply does not tell.
    pub errors: BTreeMap<String, u64>,
    /// Databases and words, in order.
    pub shown: Vec<(u8, Vec<Bytes>)>,
    /// For how long the script asked to sleep: its client's reply is kept back for so long.
    pub slept: Duration,
    shown_bytes: usize,
    last_error: Option<ClientError>,
}

impl Called {
    /// A command ended, or was refused.
    pub fn count(&mut self, index: usize, outcome: Outcome) {
        *self.counts.entry((index, outcome)).or_default() += 1;
    }

    /// The script was answered an error.
    pub fn fail(&mut self, error: &ClientError) {
        *self.errors.entry(error.code().to_owned()).or_default() += 1;
        self.last_error = Some(error.clone());
    }

    /// Keeps a call for those who monitor.
    pub fn show(&mut self, db: u8, words: Vec<Bytes>) {
        let bytes = words.iter().map(|word| word.len() + 8).sum::<usize>();
        if self.shown_bytes + bytes <= SHOWN_BYTES_MAX {
            self.shown_bytes += bytes;
            self.shown.push((db, words));
        }
    }

    /// The script asked to sleep.
    pub fn sleep(&mut self, pause: Duration) {
        self.slept = self.slept.saturating_add(pause);
    }

    /// The script replied, with an error or without. If that is the error of its last call that failed, it is counted
    /// with the reply.
    #[must_use]
    pub fn end(mut self, error: Option<&ClientError>) -> Self {
        if let (Some(error), Some(last)) = (error, self.last_error.take())
            && error.as_str().starts_with(last.as_str())
            && let Some(count) = self.errors.get_mut(last.code())
        {
            *count -= 1;
        }
        self
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.errors.is_empty() && self.slept.is_zero()
    }

    /// Adds what another script has called, later.
    pub fn add(&mut self, other: Self) {
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        for (db, words) in other.shown {
            self.show(db, words);
        }
        self.sleep(other.slept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_the_script_replies_is_not_counted_twice() {
        let wrong = ClientError::fixed("WRONGTYPE no");
        let check = |error: Option<&ClientError>, expect: u64| {
            let mut called = Called::default();
            called.fail(&wrong);
            assert_eq!(called.end(error).errors["WRONGTYPE"], expect, "{error:?}");
        };
        check(None, 1);
        check(Some(&ClientError::fixed("WRONGTYPE no script: abc, on @user_script:1.")), 0);
        check(Some(&ClientError::fixed("ERR another")), 1);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let mut called = Called::default();
        let word = Bytes::from(vec![0; SHOWN_BYTES_MAX / 2]);
        for _ in 0..3 {
            called.show(0, vec![word.clone()]);
        }
        assert_eq!(called.shown.len(), 1);
    }
}
