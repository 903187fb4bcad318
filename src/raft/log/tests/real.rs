//! Real files and real threads.

use super::*;
use std::sync::mpsc;

fn open(env: &Env, dir: &std::path::Path) -> (Wal, Recovered) {
    let hooks = Hooks {
        on_failure: Box::new(|error| panic!("{error}")),
        on_durable: Box::new(|_| ()),
        on_sync: Box::new(|_| ()),
    };
    let options = Options { dir: dir.join("log"), ..options() };
    Wal::open(env, &options, hooks).expect("opens")
}

/// Waits until the workers have ended, as the end of a process does.
fn close(wal: Wal) {
    let shared = Arc::downgrade(&wal.0.shared);
    drop(wal);
    while shared.strong_count() > 0 {
        std::thread::yield_now();
    }
}

/// Waits until all that was asked for is durable.
fn settle(wal: &Wal) {
    let (sender, receiver) = mpsc::channel();
    wal.append(Vec::new(), Box::new(move |result| drop(sender.send(result))));
    receiver.recv().expect("told").expect("durable");
}

#[tokio::test]
async fn a_log_on_a_real_disk() {
    let env = crate::env::real::env().expect("the world as it is");
    let dir = tempfile::tempdir().expect("a directory");
    let mut next = 0;
    for round in 1..4 {
        let (wal, recovered) = open(&env, dir.path());
        assert_eq!(recovered.state.last.map_or(0, |last| last.index + 1), next);
        assert_eq!(recovered.dropped_tail_bytes, 0);
        for _ in 0..50 {
            wal.append(entries(round, next..next + 4, 200), ignore());
            next += 4;
        }
        wal.save_vote(Bytes::from(round.to_string()), ignore());
        wal.purge(id(round, next - 30));
        settle(&wal);
        assert_eq!(
            wal.read(next - 29..next, usize::MAX).expect("reads"),
            entries(round, next - 29..next, 200)
        );
        assert_eq!(wal.state().vote, Some(Bytes::from(round.to_string())));
        close(wal);
    }
}

#[tokio::test]
async fn readers_never_see_a_gap_while_the_log_moves_on() {
    const LAST: u64 = 2500;
    let env = crate::env::real::env().expect("the world as it is");
    let dir = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(&env, dir.path());
    let read_on = || {
        let mut next = 0;
        while next < LAST {
            // Some of it from disk; what is purged meanwhile is passed over.
            let start = wal.first_index().map_or(0, |first| first.max(next.saturating_sub(100)));
            let read = wal.read(start..LAST, 80_000).expect("reads");
            for (entry, expected) in read.iter().zip(start..) {
                assert_eq!(*entry, super::entry(1, expected, 300));
            }
            next = next.max(read.last().map_or(0, |last| last.id.index + 1));
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(read_on);
        for first in (0..LAST).step_by(50) {
            wal.append(entries(1, first..first + 50, 300), ignore());
            if first % 500 == 0 && first > 1000 {
                wal.purge(id(1, first - 600));
            }
            settle(&wal);
        }
    });
    assert!(wal.stats().syncs >= 50);
}
