//! Any steps, any crashes, against a model that is nothing but a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::disk::Unsynced;
use super::*;

#[derive(Clone, Debug)]
enum Op {
    Append { count: u64, bytes: usize },
    Huge,
    Vote(u8),
    Committed,
    Truncate { back: u64 },
    Purge { percent: u64 },
    Seal,
    Step,
    Run,
    PowerFailsAfter(u64),
    Kill,
    CutPower { seed: u64, unsynced: Unsynced, again_after: Option<u64> },
}

fn op() -> impl Strategy<Value = Op> {
    let unsynced = prop_oneof![Just(Unsynced::Lost), Just(Unsynced::Kept), Just(Unsynced::Mixed)];
    let cut = (any::<u64>(), unsynced, proptest::option::of(1..12_u64));
    prop_oneof![
        8 => (1..6_u64, 0..2500_usize).prop_map(|(count, bytes)| Op::Append { count, bytes }),
        1 => Just(Op::Huge),
        2 => any::<u8>().prop_map(Op::Vote),
        2 => Just(Op::Committed),
        2 => (0..8_u64).prop_map(|back| Op::Truncate { back }),
        2 => (0..120_u64).prop_map(|percent| Op::Purge { percent }),
        2 => Just(Op::Seal),
        6 => Just(Op::Step),
        3 => Just(Op::Run),
        1 => (1..30_u64).prop_map(Op::PowerFailsAfter),
        1 => Just(Op::Kill),
        1 => cut.prop_map(|(seed, unsynced, again_after)| Op::CutPower { seed, unsynced, again_after }),
    ]
}

/// The log as a map, the last saved committed id aside.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Bytes>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: BTreeMap<u64, LogEntry>,
}

impl Model {
    fn of(wal: &Wal) -> Self {
        let LogState { vote, purged, last, .. } = wal.state();
        let entries = read_all(wal).into_iter().map(|entry| (entry.id.index, entry)).collect();
        Self { vote, purged, last, entries }
    }
}

/// A log, and every state it may be in after a crash.
struct Run {
    world: World,
    wal: Wal,
    /// One for each record asked for. The first is durable.
    states: Vec<Model>,
    /// How many of `states` are reported durable.
    acked: Arc<AtomicU64>,
    committed: Vec<Option<LogId>>,
    term: u64,
}

impl Run {
    fn new(workers: Workers) -> Self {
        let world = World { workers, ..World::new() };
        let wal = world.open().0;
        let states = vec![Model::default()];
        Self { world, wal, states, acked: Arc::default(), committed: vec![None], term: 1 }
    }

    fn now(&self) -> &Model {
        self.states.last().expect("there is always a state")
    }

    fn push(&mut self, change: impl FnOnce(&mut Model)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.states.push(state);
    }

    fn done(&self) -> Done {
        let (acked, state) = (Arc::clone(&self.acked), self.states.len() as u64 - 1);
        Box::new(move |result| {
            if result.is_ok() {
                assert!(acked.swap(state, Ordering::Relaxed) <= state, "reported out of order");
            }
        })
    }

    fn append(&mut self, count: u64, bytes: usize) {
        let first = self.now().last.map_or(0, |last| last.index + 1);
        let added = entries(self.term, first..first + count, bytes);
        for entry in &added {
            self.push(|model| {
                model.last = Some(entry.id);
                model.entries.insert(entry.id.index, entry.clone());
            });
        }
        self.wal.append(added, self.done());
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Append { count, bytes } => self.append(count, bytes),
            Op::Huge => self.append(1, 40_000),
            Op::Vote(vote) => {
                let vote = Bytes::copy_from_slice(&[vote]);
                self.push(|model| model.vote = Some(vote.clone()));
                self.wal.save_vote(vote, self.done());
            }
            Op::Committed => {
                self.committed.push(self.now().last);
                self.wal.save_committed(self.now().last);
            }
            Op::Truncate { back } => {
                let Some(kept) = self.now().entries.keys().rev().nth(back as usize).copied() else { return };
                let kept = self.now().entries[&kept].id;
                self.push(|model| {
                    model.entries.split_off(&(kept.index + 1));
                    model.last = Some(kept);
                });
                self.wal.truncate_after(Some(kept));
                self.term += 1;
            }
            Op::Purge { percent } => {
                let Some((first, last)) = self.bounds() else { return };
                let upto = first + (last - first) * percent / 100;
                let upto = self.now().entries.get(&upto).map_or(id(self.term, upto), |entry| entry.id);
                self.push(|model| {
                    model.entries = model.entries.split_off(&(upto.index + 1));
                    model.purged = Some(upto);
                    if model.entries.is_empty() {
                        model.last = Some(upto);
                    }
                });
                self.wal.purge(upto);
            }
            Op::Seal => self.wal.seal(self.done()),
            Op::Step => drop(self.world.workers.step()),
            Op::Run => self.world.run(),
            Op::PowerFailsAfter(operations) => self.world.disk.power_fails_after(operations),
            Op::Kill => self.restart(),
            Op::CutPower { seed, unsynced, again_after } => {
                self.cut_power(seed, unsynced);
                if let Some(operations) = again_after {
                    self.world.disk.power_fails_after(operations);
                    if self.world.try_open(&options()).is_ok() {
                        self.world.run();
                    }
                    self.cut_power(seed + 1, unsynced);
                }
                self.restart();
            }
        }
        if self.world.disk.power_has_failed() {
            self.cut_power(self.states.len() as u64, Unsynced::Mixed);
            self.restart();
        }
        assert_eq!(Model::of(&self.wal), *self.now());
    }

    fn bounds(&self) -> Option<(u64, u64)> {
        let entries = &self.now().entries;
        Some((*entries.first_key_value()?.0, *entries.last_key_value()?.0))
    }

    fn cut_power(&self, seed: u64, unsynced: Unsynced) {
        self.world.workers.kill();
        self.world.disk.cut_power(&Chance(AtomicU64::new(seed)), unsynced);
    }

    /// Opens again, and takes what is found for the only state there is.
    fn restart(&mut self) {
        let (wal, recovered) = match self.world.try_open(&options()) {
            Err(_) if self.world.disk.power_has_failed() => {
                self.cut_power(self.states.len() as u64, Unsynced::Mixed);
                self.world.open()
            }
            result => result.expect("opens"),
        };
        let found = Model::of(&wal);
        let acked = self.acked.swap(0, Ordering::Relaxed) as usize;
        let possible = &self.states[acked..];
        assert!(possible.contains(&found), "found {found:?}\nnot in {possible:?}");
        assert!(self.committed.contains(&recovered.state.committed));
        (self.wal, self.states) = (wal, vec![found]);
        self.term += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_was_asked_for_and_holds_all_that_was_reported(
        ops in proptest::collection::vec(op(), 1..80),
        eager in any::<bool>(),
    ) {
        let mut run = Run::new(if eager { Workers::eager() } else { Workers::default() });
        for op in ops {
            run.apply(op);
        }
        run.apply(Op::Kill);
    }
}
