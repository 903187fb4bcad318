//! Power cuts and damaged files.

use super::*;
use crate::env::Disk;

/// Carries a file from one world's disk to another's.
pub fn carry(from: &World, to: &World, name: &str) {
    let source = from.disk.open(&from.path(name)).unwrap();
    let mut bytes = vec![0; usize::try_from(source.len().unwrap()).unwrap()];
    source.read_at(&mut bytes, 0).unwrap();
    write_file(to, name, &bytes);
}

fn write_file(world: &World, name: &str, bytes: &[u8]) {
    let path = world.path(name);
    if world.disk.exists(&path) {
        world.disk.remove(&path).unwrap();
    }
    let file = world.disk.create(&path).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    world.disk.sync_dir(path.parent().unwrap()).unwrap();
}

fn read_file(world: &World, name: &str) -> Vec<u8> {
    let file = world.disk.open(&world.path(name)).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A snapshot's file with the one key `new`.
fn new_state() -> Vec<u8> {
    let world = World::new(Kind::Map);
    let (store, _) = world.open();
    put(&store, "new", "2");
    checkpoint(&world, &store, "new");
    store.snapshot_to(&world.path("copy")).unwrap();
    read_file(&world, "copy")
}

#[test]
fn an_install_that_is_cut_short_leaves_one_of_both_states() {
    let snapshot = new_state();
    for (kind, lose) in [(Kind::Lmdb, false), (Kind::Map, false), (Kind::Map, true)] {
        let mut outcomes = Vec::new();
        for changes in 0.. {
            let world = World::new(kind);
            let (store, _) = world.open();
            put(&store, "old", "1");
            checkpoint(&world, &store, "old");
            write_file(&world, "copy", &snapshot);
            world.stop_after(changes);
            let result = store.install(&world.path("copy"));
            assert_eq!(result.is_err(), world.stopped());
            drop(store);
            let ended = !world.stopped();
            world.restart(lose);

            let (store, opened) = world.open();
            let (stamp, key) =
                if ended || opened.stamp == Some("new".into()) { ("new", "new") } else { ("old", "old") };
            assert_eq!(opened.stamp, Some(stamp.into()), "after {changes} changes");
            let keys: Vec<_> = all(&store.view(0), Table::Keys).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [key.as_bytes()]);
            assert_eq!(world.disk.list(&world.path("state")).unwrap().len(), 2, "leftovers are removed");
            // What was cut short can be done again.
            store.install(&world.path("copy")).unwrap();
            assert_eq!(get(&store, "new").unwrap(), "2");
            outcomes.push(stamp);
            if ended {
                break;
            }
        }
        let switched = outcomes.iter().position(|stamp| *stamp == "new").unwrap();
        assert!(switched >= 5, "{kind:?} switched after {switched} changes");
        assert!(outcomes[switched..].iter().all(|stamp| *stamp == "new"));
    }
}

#[test]
fn a_checkpoint_that_is_cut_short_leaves_the_one_before() {
    for lose in [false, true] {
        for changes in 0.. {
            let world = World::new(Kind::Map);
            let (store, _) = world.open();
            put(&store, "k", "1");
            checkpoint(&world, &store, "first");
            put(&store, "k", "2");
            assert!(store.freeze("second".into()));
            world.stop_after(changes);
            // A worker whose commit fails stops the node.
            let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.work()));
            assert_eq!(stopped.is_err(), world.stopped());
            drop(store);
            let ended = !world.stopped();
            world.restart(lose);
            let (store, opened) = world.open();
            let second = ended || opened.stamp == Some("second".into());
            assert_eq!(opened.stamp, Some(if second { "second" } else { "first" }.into()));
            assert_eq!(get(&store, "k").unwrap(), if second { "2" } else { "1" });
            if ended {
                break;
            }
        }
    }
}

#[test]
fn a_first_start_that_is_cut_short_starts_again() {
    for (kind, lose) in [(Kind::Lmdb, false), (Kind::Map, false), (Kind::Map, true)] {
        for changes in 0.. {
            let world = World::new(kind);
            world.stop_after(changes);
            let ended = world.try_open().is_ok();
            world.restart(lose);
            let (store, opened) = world.open();
            assert_eq!(opened.stamp, None);
            put(&store, "k", "1");
            checkpoint(&world, &store, "first");
            assert_eq!(world.disk.list(&world.path("state")).unwrap(), ["CURRENT", "state-1"]);
            if ended {
                break;
            }
        }
    }
}

#[test]
fn a_lost_file_is_not_an_empty_state() {
    for kind in KINDS {
        for lost in ["state/CURRENT", "state/state-1"] {
            let world = World::new(kind);
            let (store, _) = world.open();
            put(&store, "k", "1");
            checkpoint(&world, &store, "first");
            drop(store);
            world.disk.remove(&world.path(lost)).unwrap();
            assert!(matches!(world.try_open(), Err(StoreError::Corrupt(_))), "{lost}");
            assert_eq!(world.disk.list(&world.path("state")).unwrap().len(), 1, "nothing more is lost");
        }
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_harms_nothing() {
    let whole = new_state();
    let world = World::new(Kind::Map);
    let (store, _) = world.open();
    put(&store, "old", "1");
    checkpoint(&world, &store, "old");
    put(&store, "old", "2");
    let refuse = |bytes: &[u8], what: &str| {
        write_file(&world, "copy", bytes);
        assert!(matches!(store.install(&world.path("copy")), Err(StoreError::Corrupt(_))), "{what}");
        assert!(matches!(verify_snapshot(&*world.disk, &world.path("copy")), Err(StoreError::Corrupt(_))));
        assert_eq!(get(&store, "old").unwrap(), "2");
    };
    for at in 0..whole.len() {
        refuse(&whole[..at], &format!("cut at {at}"));
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            refuse(&bytes, &format!("bit {bit} of byte {at}"));
        }
    }
    refuse(&[&whole[..], b"x"].concat(), "something behind the end");
    checkpoint(&world, &store, "still works");
}

/// The bytes of a snapshot of version 1, with this head in it.
fn snapshot_version_1(head: &[u8]) -> Vec<u8> {
    let mut bytes = b"QUORATE\0\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.extend_from_slice(b"\x03\0\0\0");
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(b"new");
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let records = b"\x01\x03\0\0\0\x01\0\0\0new2";
    bytes.extend_from_slice(b"\x01\x0d\0\0\0");
    bytes.extend_from_slice(&crc32c::crc32c(records).to_le_bytes());
    bytes.extend_from_slice(records);
    let crc = crc32c::crc32c(&bytes);
    let mut trailer = b"\x02\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    trailer.extend_from_slice(&crc.to_le_bytes());
    trailer.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
    bytes.extend_from_slice(&trailer);
    bytes
}

#[test]
fn every_released_version_of_a_snapshot_is_read() {
    let mut head = Head::default();
    head.revision = 1;
    let mut head_version_1 =
        vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 16];
    for generation in 0..16_u64 {
        head_version_1.extend_from_slice(&generation.to_le_bytes());
        head_version_1.extend_from_slice(&[0; 16]);
    }
    assert_eq!(new_state(), snapshot_version_1(&head.encode()));
    for bytes in [snapshot_version_1(&head_version_1), snapshot_version_1(&head.encode())] {
        let world = World::new(Kind::Lmdb);
        let (store, _) = world.open();
        write_file(&world, "copy", &bytes);
        assert_eq!(store.install(&world.path("copy")).unwrap(), (head.clone(), "new".into()));
        assert_eq!(get(&store, "new").unwrap(), "2");
    }
}
