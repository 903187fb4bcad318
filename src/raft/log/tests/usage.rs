//! What the log does for those who use it, as long as nothing goes wrong.

use super::*;

#[test]
fn an_empty_log_stays_empty() {
    let world = World::new();
    for _ in 0..3 {
        let (wal, recovered) = world.open();
        assert_eq!(recovered, Recovered::default());
        assert_eq!(wal.read(0..10, 100).expect("reads"), []);
        assert_eq!((wal.first_index(), wal.bytes()), (None, 0));
        world.run();
    }
}

#[test]
fn entries_can_be_read_at_once_and_are_reported_after_the_sync() {
    let world = World::new();
    let (wal, _) = world.open();
    let told = Told::default();
    wal.append(entries(1, 0..3, 50), told.done(1));
    assert_eq!(read_all(&wal), entries(1, 0..3, 50));
    assert_eq!(told.all(), []);
    world.run();
    assert_eq!(told.ok(), [1]);
    assert_eq!(read_all(&wal), entries(1, 0..3, 50));
}

#[test]
fn everything_queued_is_one_batch_reported_in_order() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..1, 10), ignore());
    world.run();
    let syncs = world.disk.syncs();
    let told = Told::default();
    wal.append(entries(1, 1..3, 100), told.done(1));
    wal.save_vote(Bytes::from_static(b"vote 2"), told.done(2));
    wal.truncate_after(Some(id(1, 1)));
    wal.append(entries(2, 2..4, 100), told.done(3));
    wal.append(Vec::new(), told.done(4));
    world.run();
    assert_eq!(told.ok(), [1, 2, 3, 4]);
    assert_eq!(world.disk.syncs(), syncs + 1);
    assert_eq!(wal.stats().syncs, 2);
    assert_eq!(wal.stats().entries, 5);
    assert_eq!(read_all(&wal), [entries(1, 0..1, 10), entries(1, 1..2, 100), entries(2, 2..4, 100)].concat());
}

#[test]
fn what_was_reported_is_there_after_a_restart() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.save_vote(Bytes::from_static(b"first"), ignore());
    wal.append(entries(1, 0..5, 700), ignore());
    wal.save_committed(Some(id(1, 3)));
    wal.save_vote(Bytes::from_static(b"second"), ignore());
    world.run();
    let (wal, recovered) = world.open();
    let state = LogState {
        vote: Some(Bytes::from_static(b"second")),
        committed: Some(id(1, 3)),
        purged: None,
        last: Some(id(1, 4)),
    };
    assert_eq!(recovered, Recovered { state: state.clone(), dropped_tail_bytes: 0 });
    assert_eq!(wal.state(), state);
    assert_eq!(read_all(&wal), entries(1, 0..5, 700));
}

#[test]
fn the_longest_vote_fits_wherever_it_goes() {
    let world = World::new();
    let (wal, _) = world.open();
    let vote = Bytes::from(vec![7; VOTE_BYTES_MAX]);
    wal.append(entries(1, 0..1, 10), ignore());
    wal.save_committed(Some(id(1, 0)));
    wal.purge(id(1, 0));
    wal.save_vote(vote.clone(), ignore());
    wal.append(entries(1, 1..100, 500), ignore());
    world.run();
    let (wal, recovered) = world.open();
    assert_eq!(recovered.state.vote, Some(vote));
    assert_eq!(read_all(&wal), entries(1, 1..100, 500));
}

#[test]
fn committed_goes_with_the_next_batch_and_syncs_nothing_itself() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..2, 10), ignore());
    world.run();
    let syncs = world.disk.syncs();
    wal.save_committed(Some(id(1, 1)));
    world.run();
    assert_eq!(world.disk.syncs(), syncs);
    assert_eq!(world.open().1.state.committed, None);

    let (wal, _) = world.open();
    wal.save_committed(Some(id(1, 1)));
    wal.append(entries(1, 2..3, 10), ignore());
    world.run();
    assert_eq!(world.open().1.state.committed, Some(id(1, 1)));
}

#[test]
fn reads_are_contiguous_and_capped_and_never_empty_for_nothing() {
    let world = World::new();
    let (wal, _) = world.open();
    // The cache holds 4 KiB, so most of these are read from four segments.
    wal.append(entries(1, 0..100, 500), ignore());
    world.run();
    let record_bytes = wal.bytes() as usize / 100;
    for (bytes_max, count) in [(0, 1), (record_bytes - 1, 1), (record_bytes, 1), (10 * record_bytes, 10)] {
        for start in [0, 1, 13, 55, 89, 90] {
            let expected = entries(1, start..start + count, 500);
            assert_eq!(wal.read(start..100, bytes_max).expect("reads"), expected, "{start}, {bytes_max}");
        }
    }
    assert_eq!(wal.read(20..23, usize::MAX).expect("reads"), entries(1, 20..23, 500));
    assert_eq!(wal.read(90..1000, usize::MAX).expect("reads"), entries(1, 90..100, 500));
    assert_eq!(wal.read(0..100, usize::MAX).expect("reads"), entries(1, 0..100, 500));
    for nothing in [100..101, 5..5, Range { start: 7, end: 6 }] {
        assert_eq!(wal.read(nothing, usize::MAX).expect("reads"), []);
    }

    wal.purge(id(1, 49));
    assert_eq!(wal.read(49..60, usize::MAX).expect("reads"), []);
    assert_eq!(wal.read(50..60, usize::MAX).expect("reads"), entries(1, 50..60, 500));
}

#[test]
fn every_kind_of_entry_comes_back() {
    let world = World::new();
    let (wal, _) = world.open();
    let kinds = [EntryKind::Blank, EntryKind::Normal, EntryKind::Membership];
    let written: Vec<_> = (0..)
        .zip(kinds)
        .map(|(index, kind)| LogEntry { kind, ..entry(1, index, index as usize * 9) })
        .collect();
    wal.append(written.clone(), ignore());
    world.run();
    assert_eq!(read_all(&wal), written);
    assert_eq!(read_all(&world.open().0), written);
}

#[test]
fn truncation_shows_at_once_and_lasts() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..10, 100), ignore());
    world.run();
    wal.truncate_after(Some(id(1, 6)));
    assert_eq!(wal.state().last, Some(id(1, 6)));
    assert_eq!(wal.read(7..10, 1000).expect("reads"), []);
    wal.append(entries(2, 7..9, 100), ignore());
    let expected = [entries(1, 0..7, 100), entries(2, 7..9, 100)].concat();
    assert_eq!(read_all(&wal), expected);
    world.run();
    let (wal, recovered) = world.open();
    assert_eq!(recovered.state.last, Some(id(2, 8)));
    assert_eq!(read_all(&wal), expected);

    wal.truncate_after(None);
    assert_eq!((wal.state().last, wal.bytes()), (None, 0));
    world.run();
    assert_eq!(world.open().1.state.last, None);
}

#[test]
fn a_truncation_that_removes_nothing_is_not_written() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..3, 10), ignore());
    world.run();
    let writes = world.disk.writes();
    wal.truncate_after(Some(id(1, 2)));
    wal.truncate_after(Some(id(1, 9)));
    world.run();
    assert_eq!(world.disk.writes(), writes);
    assert_eq!(read_all(&wal), entries(1, 0..3, 10));
}

#[test]
fn a_truncation_overtakes_nothing_while_the_writer_is_behind() {
    let world = World::new();
    let (wal, _) = world.open();
    // Two lives of the same indexes in one batch, larger than the cache.
    wal.append(entries(1, 0..20, 600), ignore());
    wal.truncate_after(Some(id(1, 3)));
    wal.append(entries(2, 4..20, 600), ignore());
    let expected = [entries(1, 0..4, 600), entries(2, 4..20, 600)].concat();
    assert_eq!(read_all(&wal), expected);
    world.run();
    assert_eq!(read_all(&wal), expected);
    assert_eq!(read_all(&world.open().0), expected);
}

#[test]
fn purging_gives_segments_back_once_the_mark_is_durable() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..200, 500), ignore());
    world.run();
    let logs = |world: &World| world.disk.names().iter().filter(|name| name.ends_with(".log")).count();
    let spares = |world: &World| world.disk.names().len() - logs(world);
    let before = logs(&world);
    assert!(before >= 7);
    wal.purge(id(1, 150));
    assert_eq!((wal.state().purged, wal.first_index()), (Some(id(1, 150)), Some(151)));
    assert_eq!(logs(&world), before);
    world.run();
    assert!(logs(&world) <= 5, "{:?}", world.disk.names());
    assert_eq!(spares(&world), options().recycle_max);
    assert_eq!(read_all(&wal), entries(1, 151..200, 500));

    let (wal, recovered) = world.open();
    assert_eq!((recovered.state.purged, recovered.state.last), (Some(id(1, 150)), Some(id(1, 199))));
    assert_eq!(read_all(&wal), entries(1, 151..200, 500));
    let record_bytes = wal.bytes() / 49;
    wal.purge(id(1, 160));
    wal.purge(id(1, 155));
    assert_eq!(wal.bytes(), 39 * record_bytes);
}

#[test]
fn purging_past_the_end_goes_on_after_the_mark() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..5, 100), ignore());
    wal.purge(id(3, 1000));
    assert_eq!((wal.state().last, wal.first_index(), wal.bytes()), (Some(id(3, 1000)), None, 0));
    wal.append(entries(4, 1001..1003, 100), ignore());
    world.run();
    let (wal, recovered) = world.open();
    assert_eq!((recovered.state.purged, recovered.state.last), (Some(id(3, 1000)), Some(id(4, 1002))));
    assert_eq!(read_all(&wal), entries(4, 1001..1003, 100));
    // And nothing below the mark comes back by truncating.
    wal.truncate_after(None);
    assert_eq!(wal.state().last, Some(id(3, 1000)));
    world.run();
    assert_eq!(world.open().1.state.last, Some(id(3, 1000)));
}

#[test]
fn a_purge_behind_truncated_entries_leaves_an_openable_log() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..100, 500), ignore());
    wal.truncate_after(Some(id(1, 50)));
    wal.append(entries(2, 51..100, 500), ignore());
    world.run();
    for purged in [10, 40, 60, 98] {
        wal.purge(id(2, purged));
        world.run();
        let copy = World::on(world.disk.copy());
        let (copied, recovered) = copy.open();
        assert_eq!(recovered.state.purged, Some(id(2, purged)));
        assert_eq!(copied.first_index(), Some(purged + 1));
        assert_eq!(read_all(&copied), read_all(&wal));
    }
}

#[test]
fn a_huge_entry_has_a_segment_of_its_own_size() {
    let world = World::new();
    for restart in [false, true] {
        let (wal, _) = world.open();
        let next = wal.state().last.map_or(0, |last| last.index + 1);
        let huge = 5 * SEGMENT as usize;
        let told = Told::default();
        wal.append(entries(1, next..next + 2, 100), told.done(1));
        wal.append(vec![entry(1, next + 2, huge), entry(1, next + 3, huge)], told.done(2));
        wal.append(vec![entry(1, next + 4, 100)], told.done(3));
        world.run();
        assert_eq!(told.ok(), [1, 2, 3]);
        let wal = if restart { world.open().0 } else { wal };
        let read = wal.read(next + 2..next + 4, 100).expect("reads");
        assert_eq!(read, [entry(1, next + 2, huge)]);
        assert_eq!(read_all(&wal).len() as u64, next + 5);
    }
    // The grown files are not kept for reuse.
    let (wal, _) = world.open();
    wal.purge(id(1, 9));
    world.run();
    for name in world.disk.names() {
        assert_eq!(world.disk.bytes(&options().dir.join(&name)).len() as u64, SEGMENT, "{name}");
    }
}

#[test]
fn the_first_entry_ever_may_be_huge() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(vec![entry(1, 0, 100_000)], ignore());
    world.run();
    assert_eq!(read_all(&wal), [entry(1, 0, 100_000)]);
    assert_eq!(read_all(&world.open().0), [entry(1, 0, 100_000)]);
}

#[test]
fn the_next_segment_is_ready_before_it_is_needed() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..1, 10), ignore());
    world.run();
    assert_eq!(world.disk.names(), ["0000000000000001.log", "0000000000000002.log"]);
    let syncs = world.disk.syncs();
    let told = Told::default();
    // Fills the rest of the first segment, and begins the second: two batches, and nothing else.
    wal.append(entries(1, 1..30, 500), told.done(1));
    world.workers.step();
    assert_eq!(told.ok(), [1]);
    assert_eq!(world.disk.syncs(), syncs + 2);
}

#[test]
fn recycled_segments_show_nothing_of_their_former_lives() {
    let world = World::new();
    let (mut wal, _) = world.open();
    let mut next = 0;
    let mut reused = 0;
    for term in 1..20_u64 {
        let bytes = 500 + term as usize % 7;
        wal.append(entries(term, next..next + 40, bytes), ignore());
        next += 40;
        world.run();
        wal.purge(id(term, next - 2));
        world.run();
        (wal, _) = world.open();
        assert_eq!(read_all(&wal), [entry(term, next - 1, bytes)]);
        let last = world.disk.names().into_iter().rfind(|name| name.ends_with(".log")).expect("a segment");
        let bytes = world.disk.bytes(&options().dir.join(last));
        reused += u64::from(bytes[segment::HEADER_BYTES as usize..].iter().any(|byte| *byte != 0));
    }
    assert!(reused > 10, "segments were reused as they were: {reused}");
}

#[test]
fn a_reader_whose_segment_is_recycled_finds_nothing() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..100, 500), ignore());
    world.run();
    let plan = wal.0.shared.log().view.plan(0..10, usize::MAX);
    wal.purge(id(1, 98));
    world.run();
    wal.append(entries(1, 100..200, 500), ignore());
    world.run();
    assert_eq!(wal.carry_out(plan, 0).expect("reads"), []);
    assert_eq!(wal.read(0..10, usize::MAX).expect("reads"), []);
}

#[test]
fn the_segment_size_may_change() {
    let world = World::new();
    let mut expected = Vec::new();
    for (round, segment_bytes) in [SEGMENT, 4 * SEGMENT, 2 * SEGMENT, SEGMENT].into_iter().enumerate() {
        let (wal, _) = world.try_open(&Options { segment_bytes, ..options() }).expect("opens");
        let more = entries(1, round as u64 * 100..(round as u64 + 1) * 100, 300);
        wal.append(more.clone(), ignore());
        expected.extend(more);
        world.run();
        assert_eq!(read_all(&wal), expected);
    }
    assert_eq!(read_all(&world.open().0), expected);
}

#[test]
fn a_log_whose_handles_are_gone_ends_its_workers() {
    let world = World::new();
    let (wal, _) = world.open();
    let other = wal.clone();
    drop(wal);
    other.append(entries(1, 0..1, 10), ignore());
    world.run();
    let shared = Arc::downgrade(&other.0.shared);
    drop(other);
    world.workers.kill();
    assert_eq!(shared.strong_count(), 0);
}
