use super::*;

/// What 200 seeds leave of what `prepare` did to a disk, as `look` sees it after a crash.
fn leftovers<T: Ord>(prepare: impl Fn(&dyn Disk), look: impl Fn(&dyn Disk) -> T) -> BTreeSet<T> {
    let after_crash = |seed| {
        run(seed, async |world| {
            prepare(&*world.node("n1").disk);
            world.crash("n1");
            look(&*world.node("n1").disk)
        })
    };
    (0..200).map(after_crash).collect()
}

fn durable_file(disk: &dyn Disk, bytes: &[u8]) -> Box<dyn crate::env::File> {
    let file = write_file(disk, "log", bytes);
    file.sync().expect("works");
    disk.sync_dir(Path::new("")).expect("works");
    file
}

#[test]
fn synced_bytes_stay_and_the_rest_may_be_torn() {
    let seen = leftovers(
        |disk| {
            let file = durable_file(disk, &[1; 5000]);
            file.write_at(&[2; 9000], 5000).expect("there is space");
        },
        |disk| {
            let bytes = read_file(disk, "log");
            assert!(bytes.len() >= 5000 && bytes[..5000] == [1; 5000]);
            assert!(bytes[5000..].iter().all(|byte| [0, 2].contains(byte)));
            (bytes.len(), bytes[5000..].iter().filter(|byte| **byte == 2).count())
        },
    );
    assert!(seen.contains(&(5000, 0)), "all may be lost");
    assert!(seen.contains(&(14000, 9000)), "all may be kept");
    assert!(seen.iter().any(|(length, new)| *new > 0 && length - 5000 == *new && *new < 9000), "a prefix");
    assert!(seen.iter().any(|(length, new)| *new > 0 && length - 5000 > *new), "holes");
}

#[test]
fn an_overwrite_is_torn_but_never_touches_its_surroundings() {
    let seen = leftovers(
        |disk| durable_file(disk, &[1; 3000]).write_at(&[2; 1000], 1000).expect("there is space"),
        |disk| {
            let bytes = read_file(disk, "log");
            assert_eq!(bytes.len(), 3000);
            assert!(bytes[..1000] == [1; 1000] && bytes[2000..] == [1; 1000]);
            bytes.iter().filter(|byte| **byte == 2).count()
        },
    );
    assert!(seen.contains(&0) && seen.contains(&1000) && seen.len() > 10, "{seen:?}");
}

#[test]
fn a_cut_is_done_or_not() {
    let seen = leftovers(
        |disk| {
            let file = durable_file(disk, &[1; 9000]);
            file.set_len(10).expect("there is space");
            file.write_at(&[2; 10], 10).expect("there is space");
        },
        |disk| read_file(disk, "log"),
    );
    let cut = [[1; 10], [2; 10]].concat();
    assert_eq!(seen, BTreeSet::from([vec![1; 9000], cut]));
}

#[test]
fn zeros_cost_nothing_and_read_back() {
    run(1, async |world| {
        let disk = world.node("n1").disk;
        let file = write_file(&*disk, "log", &[0; 100_000]);
        file.write_at(b"x", 70_000).expect("there is space");
        file.set_len(70_001).expect("there is space");
        file.set_len(80_000).expect("there is space");
        let bytes = read_file(&*disk, "log");
        assert_eq!((bytes.len(), bytes[70_000]), (80_000, b'x'));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 1);
        let past = file.read_at(&mut [0; 2], 79_999).expect_err("past the end");
        assert_eq!(past.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn names_are_durable_only_after_their_directory_is_synced() {
    let prepare = |disk: &dyn Disk| {
        disk.create_dir_all(Path::new("./a/b")).expect("works");
        write_file(disk, "a/b/new", b"new").sync().expect("works");
        write_file(disk, "a/b/old", b"old").sync().expect("works");
        disk.sync_dir(Path::new("a/b")).expect("works");
        disk.rename(Path::new("a/b/new"), Path::new("a/b/old")).expect("works");
    };
    let look = |disk: &dyn Disk| {
        let names = disk.list(Path::new("a/b")).expect("create_dir_all syncs");
        (names, read_file(disk, "a/b/old"))
    };
    let undone = (vec!["new".to_owned(), "old".to_owned()], b"old".to_vec());
    let done = (vec!["old".to_owned()], b"new".to_vec());
    assert_eq!(leftovers(prepare, look), BTreeSet::from([undone, done.clone()]));
    let synced = |disk: &dyn Disk| {
        prepare(disk);
        disk.sync_dir(Path::new("a/b")).expect("works");
    };
    assert_eq!(leftovers(synced, look), BTreeSet::from([done]));
}

#[test]
fn a_file_that_moves_is_never_in_two_places() {
    let seen = leftovers(
        |disk| {
            disk.create_dir_all(Path::new("a")).expect("works");
            disk.create_dir_all(Path::new("b")).expect("works");
            write_file(disk, "a/x", b"x").sync().expect("works");
            disk.rename(Path::new("a/x"), Path::new("b/x")).expect("works");
            disk.sync_dir(Path::new("b")).expect("works");
        },
        |disk| (disk.exists(Path::new("a/x")), disk.exists(Path::new("b/x"))),
    );
    assert_eq!(seen, BTreeSet::from([(false, true)]));
}

#[test]
fn directories_move_and_go_with_all_they_hold() {
    run(1, async |world| {
        let disk = world.node("n1").disk;
        disk.create_dir_all(Path::new("/snap/tmp")).expect("works");
        write_file(&*disk, "/snap/tmp/part", b"x");
        disk.rename(Path::new("/snap/tmp"), Path::new("/snap/7")).expect("works");
        assert_eq!(disk.list(Path::new("/snap")).expect("there"), ["7"]);
        assert_eq!(read_file(&*disk, "/snap/7/part"), b"x");
        disk.remove(Path::new("/snap")).expect("works");
        assert!(!disk.exists(Path::new("/snap/7/part")));
        let gone = disk.remove(Path::new("/snap")).expect_err("gone");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_failed_sync_loses_the_bytes_even_if_the_next_succeeds() {
    run(1, async |world| {
        let env = world.node("n1");
        let file = durable_file(&*env.disk, b"old");
        world.fail_nth_sync("n1", 2);
        file.sync().expect("the first of two");
        file.write_at(b"new", 0).expect("there is space");
        file.sync().expect_err("the second");
        file.sync().expect("claims to work");
        assert_eq!(read_file(&*env.disk, "log"), b"new");
        world.crash("n1");
        assert_eq!(read_file(&*world.node("n1").disk, "log"), b"old");
    });
}

#[test]
fn a_full_disk_refuses_growth_only() {
    run(1, async |world| {
        let env = world.node("n1");
        let file = durable_file(&*env.disk, b"old");
        world.disk_full("n1", true);
        assert_eq!(env.disk.free_bytes(Path::new("")).expect("alive"), 0);
        file.write_at(b"new", 0).expect("in place");
        let full = file.write_at(b"x", 3).expect_err("grows");
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        world.disk_full("n1", false);
        world.set_disk_capacity("n1", 10);
        assert_eq!(env.disk.free_bytes(Path::new("")).expect("alive"), 7);
        file.set_len(10).expect("fits");
        file.set_len(11).expect_err("does not fit");
    });
}

#[test]
fn a_lock_is_held_until_dropped_or_crashed() {
    run(1, async |world| {
        let env = world.node("n1");
        let path = Path::new("LOCK");
        let held = env.disk.lock(path).expect("free");
        let kind = |disk: &dyn Disk| disk.lock(path).err().map(|error| error.kind());
        assert_eq!(kind(&*env.disk), Some(ErrorKind::WouldBlock));
        world.crash("n1");
        let disk = world.node("n1").disk;
        let next = disk.lock(path).expect("its holder died");
        drop(held);
        assert_eq!(kind(&*disk), Some(ErrorKind::WouldBlock));
        drop(next);
        assert_eq!(kind(&*disk), None);
    });
}

/// Creates, writes, syncs, syncs the directory, overwrites, syncs.
#[test]
fn power_can_go_at_every_change() {
    for nth in 1..=7 {
        run(nth, async |world| {
            let env = world.node("n1");
            world.crash_at_disk_change("n1", nth);
            let disk = env.disk.clone();
            spawn(&env, async move {
                let file = durable_file(&*disk, b"one");
                file.write_at(b"two", 0).expect("there is space");
                file.sync().expect("works");
            });
            world.client_env().clock.sleep(MS).await;
            assert_eq!(world.is_up("n1"), nth == 7, "it goes at the change asked for");
            let disk = world.node("n1").disk;
            if nth < 5 && !disk.exists(Path::new("log")) {
                return;
            }
            let bytes = read_file(&*disk, "log");
            match nth {
                ..4 => assert!(bytes.len() <= 3),
                4 => assert_eq!(bytes, b"one"),
                5 | 6 => assert!((0..3).all(|at| bytes[at] == b"one"[at] || bytes[at] == b"two"[at])),
                _ => assert_eq!(bytes, b"two"),
            }
        });
    }
}
