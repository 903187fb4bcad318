//! The process dies, the power goes, the disk fails.

use super::disk::Unsynced;
use super::*;

/// Two durable batches, and a last one of which a crash may leave anything. Returns the disk before and
/// after the last batch, where it ends, and the states it goes through.
fn last_batch() -> (World, FaultyDisk, usize, Vec<(LogState, Vec<LogEntry>)>) {
    let world = World::new();
    let (wal, _) = world.open();
    wal.save_vote(Bytes::from_static(b"vote"), ignore());
    wal.append(entries(1, 0..4, 40), ignore());
    world.run();
    wal.append(entries(1, 4..6, 40), ignore());
    world.run();
    let before = world.disk.copy();

    let mut states = vec![(wal.state(), read_all(&wal))];
    let mut step = |act: &dyn Fn()| {
        act();
        states.push((wal.state(), read_all(&wal)));
    };
    step(&|| wal.append(vec![entry(1, 6, 30)], ignore()));
    step(&|| wal.truncate_after(Some(id(1, 4))));
    step(&|| wal.append(vec![entry(2, 5, 500)], ignore()));
    step(&|| wal.save_vote(Bytes::from_static(b"a second vote"), ignore()));
    step(&|| wal.append(vec![entry(2, 6, 0)], ignore()));
    step(&|| wal.purge(id(1, 2)));
    step(&|| wal.append(vec![entry(2, 7, 100)], ignore()));
    world.run();
    let last = wal.0.shared.log().view.slot(7);
    (World::on(before), world.disk.copy(), (last.offset + last.bytes) as usize, states)
}

/// Opens, goes on, and opens again: whatever was found must still be there. Returns what was found.
fn found(world: &World) -> (LogState, Vec<LogEntry>) {
    let (wal, recovered) = world.open();
    let found = (recovered.state, read_all(&wal));
    let next = found.0.last.map_or(0, |last| last.index + 1);
    let more = entries(9, next..next + 3, 60);
    wal.append(more.clone(), ignore());
    world.run();
    let (wal, recovered) = world.open();
    assert_eq!(recovered.dropped_tail_bytes, 0);
    assert_eq!(read_all(&wal), [found.1.clone(), more].concat());
    found
}

#[test]
fn cut_at_every_byte_of_the_last_batch() {
    let (world, after, end, states) = last_batch();
    let path = segment_path(1);
    let (old, new) = (world.disk.bytes(&path), after.bytes(&path));
    let start = (0..old.len()).find(|at| old[*at] != new[*at]).expect("they differ");
    assert!(end - start > 700);
    let mut seen = 0;
    for cut in start..=end {
        let world = World::on(world.disk.copy());
        world.disk.alter(&path, |bytes| bytes[start..cut].copy_from_slice(&new[start..cut]));
        let found = found(&world);
        let state = states.iter().position(|state| *state == found).expect("a state that was asked for");
        assert!(state == seen || state == seen + 1, "a longer piece holds as many records or one more");
        seen = state;
    }
    assert_eq!(seen, states.len() - 1);

    // The beginning is missing, the rest is there.
    for cut in start + 1..end {
        let world = World::on(world.disk.copy());
        world.disk.alter(&path, |bytes| bytes[cut..end].copy_from_slice(&new[cut..end]));
        assert!(states.contains(&found(&world)));
    }
}

#[test]
fn any_sectors_of_the_last_batch_may_be_missing() {
    for seed in 0..300 {
        let world = World::new();
        let (wal, _) = world.open();
        wal.append(entries(1, 0..3, 900), ignore());
        world.run();
        wal.append(entries(1, 3..12, 400), ignore());
        world.disk.power_fails_after(2);
        world.run();
        world.disk.cut_power(&Chance(AtomicU64::new(seed)), Unsynced::Mixed);
        let (_, entries_found) = found(&world);
        let count = entries_found.len() as u64;
        assert!(count >= 3);
        assert_eq!(entries_found, [entries(1, 0..3, 900), entries(1, 3..count.max(3), 400)].concat());
    }
}

#[test]
fn the_remains_of_a_torn_batch_do_not_come_back() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..2, 100), ignore());
    world.run();
    let before = world.disk.copy();
    // A batch of equal records whose first is lost,
    wal.append(entries(1, 2..8, 100), ignore());
    world.run();
    let path = segment_path(1);
    let (old, mut torn) = (before.bytes(&path), world.disk.bytes(&path));
    let start = (0..old.len()).find(|at| old[*at] != torn[*at]).expect("they differ");
    torn[start..start + 8].fill(0);
    before.alter(&path, |bytes| *bytes = torn);
    let world = World::on(before);
    let (wal, recovered) = world.open();
    assert!(recovered.dropped_tail_bytes > 600);
    assert_eq!(recovered.state.last, Some(id(1, 1)));
    // and then exactly that record again, after which the old second one would fit.
    wal.append(entries(1, 2..3, 100), ignore());
    world.run();
    assert_eq!(world.open().1.state.last, Some(id(1, 2)));
}

#[test]
fn what_a_dead_process_left_in_the_page_cache_is_synced_before_it_is_relied_on() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..3, 100), ignore());
    world.run();
    wal.append(entries(1, 3..6, 100), ignore());
    world.disk.power_fails_after(1); // The write is done, the sync is not.
    world.run();
    world.disk.heal();
    let (_, recovered) = world.open();
    assert_eq!(recovered.state.last, Some(id(1, 5)));
    world.disk.cut_power(&*world.rng, Unsynced::Lost);
    assert_eq!(world.open().1.state.last, Some(id(1, 5)));
}

#[test]
fn a_failed_sync_is_the_end_whichever_it_is() {
    for syncs in 0..40 {
        let world = World::new();
        let (wal, _) = world.open();
        world.disk.sync_fails_after(syncs);
        let told = Told::default();
        let mut next = 0;
        for label in 0..20 {
            wal.append(entries(1, next..next + 5, 300), told.done(label));
            next += 5;
            world.run();
        }
        let reported = told.all();
        assert_eq!(reported.iter().map(|(label, _)| *label).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        let ok = told.ok().len();
        assert!(reported[ok..].iter().all(|(_, result)| result.is_err()), "{reported:?}");
        if ok < 20 {
            assert_eq!(world.failures().len(), 1);
            assert!(world.failures()[0].contains(".log") || world.failures()[0].contains(".spare"));
        }
        let writes = world.disk.writes();
        wal.append(entries(1, next..next + 5, 300), told.done(20));
        world.run();
        if ok < 20 {
            assert_eq!(world.disk.writes(), writes, "nothing is written after a failure");
        }

        // The page cache shows what the disk never got, as if it were clean. Whatever the next process
        // reads there and relies on must survive the power.
        world.disk.heal();
        let (_, recovered) = world.open();
        world.disk.cut_power(&*world.rng, Unsynced::Lost);
        let (wal, after) = world.open();
        assert_eq!(after.state, recovered.state);
        let count = read_all(&wal).len();
        assert!(count >= ok * 5, "{count} of {}", ok * 5);
        assert_eq!(read_all(&wal), entries(1, 0..count as u64, 300));
    }
}

#[test]
fn a_full_disk_is_a_failure_once_there_is_no_segment_left() {
    for freed in [true, false] {
        let world = World::new();
        let (wal, _) = world.open();
        world.disk.fill();
        let told = Told::default();
        wal.append(entries(1, 0..10, 300), told.done(1));
        world.run();
        wal.append(entries(1, 10..20, 300), told.done(2));
        world.run();
        assert_eq!(world.failures(), <[String; 0]>::default());
        assert_eq!(world.disk.names(), ["0000000000000001.log"]);
        if freed {
            world.disk.heal();
        }
        wal.append(entries(1, 20..60, 300), told.done(3));
        world.run();
        assert_eq!(told.ok().len(), if freed { 3 } else { 2 });
        assert_eq!(world.failures().len(), usize::from(!freed));
        world.disk.heal();
        assert!(read_all(&world.open().0).len() >= 20);
    }
}

#[test]
fn a_mark_that_is_not_durable_gives_nothing_back() {
    for operations in 0.. {
        let world = World { workers: Workers::eager(), ..World::new() };
        let (wal, _) = world.open();
        wal.append(entries(1, 0..150, 300), ignore());
        world.run();
        world.disk.power_fails_after(operations);
        // One round, several batches: the first mark is durable before the second is written.
        wal.purge(id(1, 50));
        wal.append(entries(1, 150..250, 300), ignore());
        wal.purge(id(1, 240));
        world.run();
        if !world.disk.power_has_failed() {
            break;
        }
        world.disk.cut_power(&*world.rng, Unsynced::Lost);
        let (_, entries_found) = found(&world);
        let ids: Vec<_> = entries_found.iter().map(|entry| entry.id.index).collect();
        assert!([0, 51, 241].contains(&ids[0]) && ids.is_sorted() && *ids.last().expect("some") >= 149);
    }
}

#[test]
fn a_failure_of_the_other_worker_stops_the_log_too() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..1, 10), ignore());
    world.workers.step();
    world.disk.sync_fails_after(0);
    world.run();
    assert_eq!(world.failures().len(), 1);
    let told = Told::default();
    wal.save_vote(Bytes::from_static(b"vote"), told.done(1));
    world.run();
    assert!(told.all()[0].1.is_err());
    assert_eq!(world.failures().len(), 1);
}

/// A log that is filled and purged until the disk refuses, at that operation. Returns how many entries were
/// reported durable; `None` if the disk had no more operations to refuse.
fn fill(world: &World, operations: u64) -> Option<u64> {
    let (wal, _) = world.open();
    world.disk.power_fails_after(operations);
    let told = Told::default();
    for label in 0..20 {
        wal.append(entries(1, label * 10..label * 10 + 10, 300), told.done(label));
        if label % 5 == 4 {
            wal.purge(id(1, label * 10 - 10));
        }
        if label % 3 != 0 {
            world.run();
        }
    }
    world.run();
    world.disk.power_has_failed().then(|| told.ok().len() as u64 * 10)
}

/// Whether the log holds all of `acked`, and nothing but what was asked for.
fn check_filled(world: &World, acked: u64) -> Range<u64> {
    let (wal, recovered) = world.open();
    let last = recovered.state.last.map_or(0, |last| last.index + 1);
    assert!(last >= acked, "{last} of {acked}");
    let first = recovered.state.purged.map_or(0, |purged| purged.index + 1);
    assert_eq!(read_all(&wal), entries(1, first..last, 300));
    world.run();
    first..last
}

#[test]
fn the_power_may_go_at_any_operation() {
    for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Mixed] {
        for workers in [Workers::default, Workers::eager] {
            for operations in 0.. {
                let world = World { workers: workers(), ..World::new() };
                let Some(acked) = fill(&world, operations) else { break };
                world.disk.cut_power(&Chance(AtomicU64::new(operations)), unsynced);
                let range = check_filled(&world, acked);
                assert_eq!(found(&world).1, entries(1, range, 300));
            }
        }
    }
}

#[test]
fn the_process_may_die_at_any_operation_and_the_power_go_later() {
    // As many as fit in the segment that may have been made just then, and more.
    for more in [30, 100] {
        for operations in 0.. {
            let world = World::new();
            let Some(acked) = fill(&world, operations) else {
                assert!(operations > 50);
                break;
            };
            world.disk.heal();
            let range = check_filled(&world, acked);
            let end = range.end + more;
            let (wal, _) = world.open();
            let told = Told::default();
            wal.append(entries(1, range.end..end, 300), told.done(1));
            while told.ok().is_empty() {
                world.workers.step();
            }
            world.disk.cut_power(&*world.rng, Unsynced::Lost);
            assert_eq!(check_filled(&world, end), range.start..end);
        }
    }
}

#[test]
fn segments_that_a_crash_kept_from_being_given_back_are_given_back_later() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..200, 300), ignore());
    world.run();
    let count = world.disk.names().len();
    wal.purge(id(1, 199));
    world.workers.step();
    assert_eq!(world.disk.names().len(), count);
    world.open();
    world.run();
    let names = world.disk.names();
    assert_eq!(names.len(), 2 + options().recycle_max, "{names:?}");
}
