//! What no crash leaves behind.

use super::record::Record;
use super::segment::Segment;
use super::*;
use crate::env::Disk;

fn refused(world: &World) -> (PathBuf, u64, String) {
    match world.try_open(&options()) {
        Err(OpenError::Corrupt { path, offset, reason }) => (path, offset, reason),
        Err(error) => panic!("{error}"),
        Ok((wal, recovered)) => panic!("opened with {recovered:?} and {:?}", read_all(&wal).len()),
    }
}

/// A log whose batches are known: where each lies in its segment.
fn batches(world: &World, count: u64) -> Vec<(PathBuf, Range<u64>)> {
    let (wal, _) = world.open();
    (0..count)
        .map(|batch| {
            wal.append(entries(1, batch * 3..batch * 3 + 3, 70), ignore());
            world.run();
            let records = 3 * u64::from(record::entry_bytes(70));
            let view = &wal.0.shared.log().view;
            let slot = view.slot(batch * 3 + 2);
            let end = u64::from(slot.offset + slot.bytes);
            (segment_path(u64::from(slot.segment)), end - records..end)
        })
        .collect()
}

#[test]
fn a_flip_before_the_last_batch_refuses_and_says_where() {
    let world = World::new();
    let batches = batches(&world, 3);
    let record = u64::from(record::entry_bytes(70));
    for (path, range) in &batches[..2] {
        for at in range.clone() {
            let world = World::on(world.disk.copy());
            world.disk.alter(path, |bytes| bytes[at as usize] ^= 0x20);
            let (refused_path, offset, _) = refused(&world);
            assert_eq!(refused_path, *path);
            assert_eq!(offset, range.start + (at - range.start) / record * record, "byte {at}");
        }
    }
    let message = OpenError::Corrupt { path: segment_path(1), offset: 77, reason: "why".to_owned() };
    assert_eq!(message.to_string(), "cannot use the log: /log/0000000000000001.log, offset 77: why");
}

#[test]
fn a_flip_in_the_last_batch_refuses_if_the_log_was_sealed() {
    let world = World::new();
    let batches = batches(&world, 2);
    let (path, range) = batches.last().expect("two batches");
    let (wal, _) = world.open();
    wal.seal(ignore());
    world.run();
    for at in range.clone() {
        let world = World::on(world.disk.copy());
        world.disk.alter(path, |bytes| bytes[at as usize] ^= 0x20);
        assert_eq!(refused(&world).0, *path);

        // Without the seal it may as well have been a crash, and nothing but that batch goes.
        world.disk.alter(path, |bytes| bytes[range.end as usize..].fill(0));
        let (wal, _) = world.open();
        let count = read_all(&wal).len() as u64;
        assert_eq!(read_all(&wal), entries(1, 0..count, 70));
        assert!((3..6).contains(&count));
    }
}

#[test]
fn a_log_is_sealed_once_until_it_grows() {
    let world = World::new();
    let (wal, _) = world.open();
    let writes = |act: &dyn Fn()| {
        let writes = world.disk.writes();
        act();
        wal.seal(ignore());
        world.run();
        world.disk.writes() - writes
    };
    wal.append(entries(1, 0..1, 10), ignore());
    world.run();
    assert_eq!(writes(&|| ()), 1);
    assert_eq!(writes(&|| ()), 0);
    assert_eq!(writes(&|| wal.append(entries(1, 1..2, 10), ignore())), 2);
    assert_eq!(writes(&|| wal.save_committed(Some(id(1, 1)))), 2);
    assert_eq!(writes(&|| ()), 0);
}

#[test]
fn a_damaged_seal_costs_nothing() {
    let world = World::new();
    let batches = batches(&world, 2);
    let (path, range) = batches.last().expect("two batches");
    let (wal, _) = world.open();
    wal.seal(ignore());
    world.run();
    for at in range.end..range.end + record::SEAL_BYTES {
        let world = World::on(world.disk.copy());
        world.disk.alter(path, |bytes| bytes[at as usize] ^= 0x20);
        assert_eq!(read_all(&world.open().0), entries(1, 0..6, 70));
    }
}

#[test]
fn earlier_segments_must_be_whole_to_their_last_byte() {
    let world = World::new();
    let batches = batches(&world, 60);
    let (path, range) = batches.iter().rfind(|(path, _)| *path == segment_path(1)).expect("a first segment");
    assert_ne!(batches.last().expect("many").0, *path);
    for at in range.clone() {
        let world = World::on(world.disk.copy());
        world.disk.alter(path, |bytes| bytes[at as usize] ^= 1);
        let (refused_path, offset, _) = refused(&world);
        assert_eq!(refused_path, *path);
        assert!(range.contains(&offset));
    }
    // What follows its end belongs to nobody.
    world.disk.alter(path, |bytes| bytes[range.end as usize..].fill(0xab));
    assert_eq!(read_all(&world.open().0), entries(1, 0..180, 70));
}

#[test]
fn headers_names_and_gaps() {
    let world = World::new();
    batches(&world, 150);
    assert!(world.disk.names().len() >= 4);
    let check = |expected: PathBuf, expected_offset: u64, damage: &dyn Fn(&FaultyDisk)| {
        let world = World::on(world.disk.copy());
        damage(&world.disk);
        let (path, offset, _) = refused(&world);
        assert_eq!((path, offset), (expected, expected_offset));
    };
    for at in 0..32 {
        check(segment_path(2), 0, &|disk| disk.alter(&segment_path(2), |bytes| bytes[at] ^= 4));
    }
    check(segment_path(2), 0, &|disk| disk.alter(&segment_path(2), |bytes| bytes.truncate(100)));
    let remove = |disk: &FaultyDisk, sequence| disk.remove(&segment_path(sequence)).expect("removes");
    check(segment_path(3), 0, &|disk| remove(disk, 2));
    check(segment_path(2), 4096, &|disk| remove(disk, 1));
    let swap = |disk: &FaultyDisk| {
        disk.rename(&segment_path(2), &segment_path(0)).expect("renames");
        disk.rename(&segment_path(1), &segment_path(2)).expect("renames");
        disk.rename(&segment_path(0), &segment_path(1)).expect("renames");
    };
    check(segment_path(1), 0, &swap);
    let copy = |disk: &FaultyDisk| {
        let old = disk.bytes(&segment_path(1));
        disk.alter(&segment_path(2), |bytes| bytes[4096..].copy_from_slice(&old[4096..]));
    };
    check(segment_path(2), 4096, &copy);
}

#[test]
fn records_that_contradict_each_other_refuse() {
    let world = World::new();
    let (_, end) = batches(&world, 1).pop().map(|(path, range)| (path, range.end)).expect("a batch");
    let check = |batch_offset: u64, record: Record<'_>, expected: &str| {
        let world = World::on(world.disk.copy());
        let segment = Segment::open(&world.disk, segment_path(1)).expect("opens");
        let mut bytes = vec![0; (end - batch_offset) as usize];
        record::encode(&mut bytes, segment.life, batch_offset, &record);
        let record = &bytes[(end - batch_offset) as usize..];
        segment.file.write_at(record, end).expect("writes");
        let (path, offset, reason) = refused(&world);
        assert_eq!((path, offset, reason.as_str()), (segment_path(1), end, expected));
    };
    let entry = |index| Record::Entry { id: id(1, index), kind: EntryKind::Blank, body: b"" };
    let does_not_follow = "the entry's index does not follow the one before";
    check(end, entry(4), does_not_follow);
    check(end, entry(2), does_not_follow);
    check(end - 8, entry(3), "the record belongs to another batch");
    let checkpoint = Record::Checkpoint { state: LogState::default(), previous_end: 0 };
    check(end, checkpoint, "a checkpoint begins a segment, and is nowhere else");
}

#[test]
fn a_checkpoint_must_agree_with_what_came_before() {
    let world = World::new();
    batches(&world, 60);
    let segment = Segment::open(&world.disk, segment_path(2)).expect("opens");
    let bytes = world.disk.bytes(&segment.path);
    let found = record::decode(&bytes[4096..], segment.life, 4096).expect("a record");
    let Record::Checkpoint { mut state, previous_end } = found.record else { panic!("{found:?}") };
    state.last = state.last.map(|last| id(last.term + 1, last.index));
    let mut other = Vec::new();
    record::encode(&mut other, segment.life, 4096, &Record::Checkpoint { state, previous_end });
    assert_eq!(other.len() as u64, found.bytes);
    segment.file.write_at(&other, 4096).expect("writes");
    let expected = "the checkpoint does not agree with the records before it".to_owned();
    assert_eq!(refused(&world), (segment_path(2), 4096, expected));
}

#[test]
fn a_segment_in_use_must_not_be_empty() {
    let world = World::new();
    batches(&world, 1);
    assert_eq!(world.disk.names(), ["0000000000000001.log", "0000000000000002.log"]);
    // Its successor exists, so its first batch was durable.
    let emptied = World::on(world.disk.copy());
    emptied.disk.alter(&segment_path(1), |bytes| bytes[4096..].fill(0));
    assert_eq!(refused(&emptied).0, segment_path(1));

    batches(&world, 0);
    let (wal, _) = world.open();
    wal.append(entries(1, 3..100, 300), ignore());
    wal.purge(id(1, 99));
    world.run();
    let names: Vec<_> = world.disk.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(names.len(), 2);
    let path = options().dir.join(&names[0]);
    world.disk.alter(&path, |bytes| bytes[4096..].fill(0));
    let before = world.disk.bytes(&path);
    assert_eq!(refused(&world).0, path);
    assert_eq!(world.disk.bytes(&path), before, "a refused log is left as it is");
}

#[test]
fn a_newer_format_is_refused() {
    let world = World::new();
    batches(&world, 1);
    world.disk.alter(&segment_path(1), |bytes| bytes[8] = 2);
    let (_, _, reason) = refused(&world);
    assert_eq!(reason, "format version 2, and this program reads version 1");
}

#[test]
fn half_made_spares_and_strangers_are_no_harm() {
    let world = World::new();
    batches(&world, 2);
    let dir = options().dir;
    let half = dir.join("0000000000000009.spare");
    world.disk.create(&half).and_then(|file| file.write_at(b"zeros", 0)).expect("writes");
    world.disk.create(&dir.join("lost+found")).expect("creates");
    assert_eq!(read_all(&world.open().0), entries(1, 0..6, 70));
    assert!(!world.disk.exists(&half));
    assert!(world.disk.exists(&dir.join("lost+found")));
}

#[test]
fn an_entry_that_the_disk_lost_is_an_error_that_says_where() {
    let world = World::new();
    let (wal, _) = world.open();
    wal.append(entries(1, 0..10, 1000), ignore());
    world.run();
    let slot = wal.0.shared.log().view.slot(3);
    let path = segment_path(u64::from(slot.segment));
    world.disk.alter(&path, |bytes| bytes[slot.offset as usize + 50] ^= 1);
    assert_eq!(wal.read(0..3, usize::MAX).expect("reads"), entries(1, 0..3, 1000));
    let error = wal.read(0..10, usize::MAX).expect_err("damaged");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let place = format!("{}, offset {}", path.display(), slot.offset);
    assert!(error.to_string().starts_with(&place), "{error}");
}
