//! What must be true of the whole cluster after each step any node takes, one file each.
//!
//! Every node of a simulated cluster tells what it does at the moment it does it (see
//! [`crate::env::observer`]). From that a [`Picture`] of all nodes is kept, which no node ever had, and each
//! invariant is asked whether it still holds. The first that does not ends the run.

mod committed_on_quorum;
mod election_safety;
mod equal_state;
mod fresh_reads;
mod jumps;
mod kept_is_synced;
mod keys_end_in_time;
mod leader_completeness;
mod log_matching;
mod monotone;
mod outcomes;
mod picture;
mod replies_after_commit;
mod state_machine_safety;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use keys_end_in_time::DRIFT;
pub use picture::{Happened, Picture};

use super::ledger::Ledger;
use crate::env::observer::{Observer, Sight};
use crate::env::sim::World;

/// The state is hashed after every so many entries: it costs reading all of it.
const HASH_EVERY: u64 = 64;

/// Something that must be true after every step.
trait Invariant: Send {
    /// Looks at what happened, once the picture shows it; an error says what is wrong.
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String>;
}

/// Watches a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<Watched>>);

struct Watched {
    picture: Picture,
    jumps: jumps::Jumps,
    outcomes: outcomes::Outcomes,
    invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    violation: Option<String>,
}

impl Watch {
    /// Watches a cluster that has not begun; `drift` says whether its clocks differ in rate.
    pub fn new(drift: bool) -> Self {
        let invariants: Vec<(&'static str, Box<dyn Invariant>)> = vec![
            ("election safety", Box::<election_safety::ElectionSafety>::default()),
            ("log matching", Box::<log_matching::LogMatching>::default()),
            ("leader completeness", Box::<leader_completeness::LeaderCompleteness>::default()),
            ("state machine safety", Box::<state_machine_safety::StateMachineSafety>::default()),
            ("committed on a quorum", Box::<committed_on_quorum::CommittedOnQuorum>::default()),
            ("kept is synced", Box::<kept_is_synced::KeptIsSynced>::default()),
            ("monotone", Box::<monotone::Monotone>::default()),
            ("replies after commit", Box::<replies_after_commit::RepliesAfterCommit>::default()),
            ("fresh reads", Box::<fresh_reads::FreshReads>::default()),
            ("equal state", Box::<equal_state::EqualState>::default()),
            ("keys end in time", Box::new(keys_end_in_time::KeysEndInTime::of(drift))),
        ];
        Self(Arc::new(Mutex::new(Watched {
            picture: Picture::default(),
            jumps: jumps::Jumps::default(),
            outcomes: outcomes::Outcomes::default(),
            invariants,
            violation: None,
        })))
    }

    /// Looks at the node on `host`.
    pub fn observer(&self, world: &World, host: &'static str, ledger: &Ledger) -> Arc<dyn Observer> {
        Arc::new(Eye { watch: self.clone(), ledger: ledger.clone(), world: world.clone(), host })
    }

    /// The first violation, if there was any.
    pub fn violation(&self) -> Option<String> {
        self.watched().violation.clone()
    }

    /// When the cluster's time went ahead by a wall clock.
    pub fn jumps(&self) -> Vec<(Duration, Duration)> {
        self.watched().jumps.spans().to_vec()
    }

    /// How often that happened which a run must have had.
    pub fn outcomes(&self) -> [(&'static str, u64); 3] {
        self.watched().outcomes.all()
    }

    /// Something happened on `host` at `now`, whose disk has synced so many times by then.
    fn happened(&self, happened: &Happened<'_>) {
        let Watched { picture, jumps, outcomes, invariants, violation } = &mut *self.watched();
        if violation.is_some() {
            return;
        }
        outcomes.see(picture, happened);
        picture.show(happened);
        jumps.see(happened);
        for (name, invariant) in invariants {
            if let Err(what) = invariant.check(picture, happened) {
                let Happened { host, now, sight, .. } = happened;
                *violation = Some(format!("{name}: {what}: {host} at {now:?}: {sight:?}"));
                return;
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().expect("no holder panics")
    }
}

/// Looks at one node.
struct Eye {
    watch: Watch,
    ledger: Ledger,
    world: World,
    host: &'static str,
}

impl Observer for Eye {
    fn hashes_at(&self, index: u64) -> bool {
        index.is_multiple_of(HASH_EVERY)
    }

    fn reads(&self, index: u64) -> bool {
        self.ledger.lacks(index)
    }

    fn saw(&self, sight: &Sight) {
        if matches!(sight, Sight::Ran { .. } | Sight::Replied { .. }) {
            return self.ledger.saw(self.host, sight);
        }
        let (now, syncs) = (self.world.elapsed(), self.world.syncs(self.host));
        self.watch.happened(&Happened { host: self.host, now, syncs, sight });
    }
}

#[cfg(test)]
mod script {
    //! A cluster of three in words, for tests: what each did, a millisecond after the other.

    use std::collections::BTreeSet;

    use super::*;
    use crate::env::observer::{AppliedEntry, Ballot, Extent, Place};

    pub const fn place(term: u64, index: u64) -> Place {
        Place { term, index }
    }

    /// `candidate` wins `term`, as one node hears of it.
    pub const fn won(term: u64, candidate: u64) -> Sight {
        Sight::Voted(Ballot { term, candidate, won: true })
    }

    /// A node starts with an empty disk.
    pub fn opened(node: u64) -> Sight {
        Sight::Opened { node, log: Extent::default(), applied: None }
    }

    /// An entry whose bytes add up to `checksum`.
    pub const fn appended(term: u64, index: u64, checksum: u32) -> Sight {
        Sight::Appended { place: place(term, index), checksum, voters: None }
    }

    /// The entry that says that nodes 1, 2 and 3 vote.
    pub fn formed() -> Sight {
        let voters = Some(vec![BTreeSet::from([1, 2, 3])]);
        Sight::Appended { place: place(0, 0), checksum: 0, voters }
    }

    /// A sync after which the log ends with this entry.
    pub const fn synced(term: u64, index: u64) -> Sight {
        Sight::Synced(Extent { vote: None, purged: None, last: Some(place(term, index)) })
    }

    /// An entry was applied that did nothing of note.
    pub const fn applied(term: u64, index: u64) -> AppliedEntry {
        AppliedEntry {
            place: place(term, index),
            checksum: 7,
            clock_ms: 1_000,
            revision: index,
            expired: 0,
            next_deadline: None,
            state_hash: None,
        }
    }

    /// Three nodes whose logs begin, which lead up to `rest`.
    pub fn cluster(rest: Vec<(&'static str, Sight)>) -> Vec<(&'static str, Sight)> {
        let mut script = Vec::new();
        for (host, node) in [("n1", 1), ("n2", 2), ("n3", 3)] {
            script.extend([(host, opened(node)), (host, formed()), (host, synced(0, 0))]);
        }
        script.extend(rest);
        script
    }

    /// What is found wrong with a script, if anything is.
    pub fn judge(script: &[(&'static str, Sight)]) -> Option<String> {
        let watch = Watch::new(false);
        for (at, (host, sight)) in script.iter().enumerate() {
            let now = Duration::from_millis(at as u64);
            watch.happened(&Happened { host, now, syncs: at as u64, sight });
        }
        watch.violation()
    }

    /// Checks that nothing is wrong until the last of a script, which violates `invariant`.
    #[track_caller]
    pub fn check(script: Vec<(&'static str, Sight)>, invariant: &str) {
        let script = cluster(script);
        let (_, sound) = script.split_last().expect("a script is not empty");
        assert_eq!(judge(sound), None, "before the last step");
        let violation = judge(&script).unwrap_or_default();
        assert!(violation.starts_with(invariant), "{invariant} is wanted: {violation:?}");
    }
}
