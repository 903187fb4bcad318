//! How long to wait for company before starting a round.
//!
//! A round of consensus costs about the same for one command as for fifty, so the number of commands a
//! round carries decides what a command costs. When a round ends its clients are answered and most of them
//! send again within some tens of microseconds; starting the next round at the first of them would carry one
//! and leave the others to wait a whole round. So the start waits until everybody who is *active* is back,
//! or until a limit (some hundreds of microseconds) has passed.
//!
//! Active are those seen in the last two rounds: connections that went idle stop counting by themselves, and
//! a lone client never waits at all, because it is everybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::env::Env;

/// Waits until `complete` says so, which is asked whenever `changed` rings, or until `limit` has passed.
pub async fn wait(env: &Env, limit: Duration, changed: &Notify, complete: impl Fn() -> bool) {
    let limit = env.clock.sleep_precise(limit);
    tokio::pin!(limit);
    loop {
        tokio::select! {
            biased;
            () = changed.notified() => if complete() { return },
            () = &mut limit => return,
        }
    }
}

/// Something that comes back for more: a connection.
#[derive(Debug, Default)]
pub struct Contributor {
    /// The last round it took part in; 0 before its first.
    round: AtomicU64,
    /// The connection's client, or 0.
    client: u64,
}

impl Contributor {
    /// The connection of a client.
    #[must_use]
    pub const fn of(client: u64) -> Self {
        Self { round: AtomicU64::new(0), client }
    }

    /// The client's number, or 0.
    #[must_use]
    pub const fn client(&self) -> u64 {
        self.client
    }
}

/// Counts who takes part in the rounds of one queue.
#[derive(Debug)]
pub struct Gather {
    /// The round being gathered, from 1.
    round: u64,
    /// Who is in it, and how many of them were in the one before.
    present: usize,
    returned: usize,
    /// Who was in the one before.
    previous: usize,
    /// Who was in either of the two before this one: whom to wait for.
    expected: usize,
}

impl Default for Gather {
    fn default() -> Self {
        Self { round: 1, present: 0, returned: 0, previous: 0, expected: 0 }
    }
}

impl Gather {
    /// `contributor` takes part in the coming round (as often as it likes).
    pub fn join(&mut self, contributor: &Contributor) {
        let last = contributor.round.swap(self.round, Ordering::Relaxed);
        if last == self.round {
            return;
        }
        self.present += 1;
        if last + 1 == self.round && last > 0 {
            self.returned += 1;
        }
    }

    /// Whether nobody is to be waited for.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.present >= self.expected
    }

    /// The round starts with those present; the next begins to gather.
    pub fn start(&mut self) {
        self.expected = self.previous + self.present - self.returned;
        self.previous = self.present;
        self.present = 0;
        self.returned = 0;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join_all(gather: &mut Gather, contributors: &[Contributor]) {
        contributors.iter().for_each(|contributor| gather.join(contributor));
    }

    fn contributors(count: usize) -> Vec<Contributor> {
        (0..count).map(|_| Contributor::default()).collect()
    }

    #[test]
    fn a_lone_client_never_waits() {
        let (mut gather, lone) = (Gather::default(), Contributor::default());
        for _ in 0..5 {
            gather.join(&lone);
            assert!(gather.is_complete());
            gather.start();
        }
    }

    #[test]
    fn two_halves_that_take_turns_become_one_round() {
        let (mut gather, all) = (Gather::default(), contributors(50));
        join_all(&mut gather, &all[..25]);
        gather.start();
        join_all(&mut gather, &all[25..]);
        gather.start();
        join_all(&mut gather, &all[..25]);
        assert!(!gather.is_complete());
        join_all(&mut gather, &all[25..]);
        assert!(gather.is_complete());
    }

    #[test]
    fn those_who_went_idle_are_forgotten_after_two_rounds() {
        let (mut gather, all) = (Gather::default(), contributors(50));
        join_all(&mut gather, &all);
        gather.start();
        for _ in 0..2 {
            gather.join(&all[0]);
            gather.start();
        }
        gather.join(&all[0]);
        assert!(gather.is_complete());
    }

    #[test]
    fn taking_part_twice_counts_once() {
        let (mut gather, two) = (Gather::default(), contributors(2));
        join_all(&mut gather, &two);
        gather.start();
        gather.join(&two[0]);
        gather.join(&two[0]);
        assert!(!gather.is_complete());
    }
}
