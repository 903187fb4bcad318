use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Counts milliseconds for as long as it is let.
fn ticking(env: &Env) -> Arc<AtomicU64> {
    let ticks = Arc::new(AtomicU64::new(0));
    let (clock, counted) = (env.clock.clone(), ticks.clone());
    spawn(env, async move {
        loop {
            clock.sleep(MS).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    ticks
}

#[test]
fn a_crash_stops_every_task_and_reboots_over_the_same_disk() {
    run(1, async |world| {
        let (client, env) = (world.client_env(), world.node("n1"));
        let ticks = ticking(&env);
        // As a library would that spawns by itself.
        let inside = env.clone();
        let adopted = Arc::new(AtomicU64::new(0));
        let counted = adopted.clone();
        spawn(&env, async move {
            tokio::spawn(adopt(async move {
                loop {
                    inside.clock.sleep(MS).await;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }));
        });
        let file = write_file(&*env.disk, "f", b"synced");
        file.sync().expect("works");
        env.disk.sync_dir(Path::new("")).expect("works");
        client.clock.sleep(MS * 10).await;
        world.crash("n1");
        assert!(!world.is_up("n1"));
        client.clock.sleep(MS * 10).await;
        assert!((9..=10).contains(&ticks.load(Ordering::Relaxed)));
        assert!((9..=10).contains(&adopted.load(Ordering::Relaxed)));
        assert_eq!(Arc::strong_count(&adopted), 1, "its future is dropped");

        file.write_at(b"ghost", 0).expect_err("dead");
        env.disk.create(Path::new("ghost")).map(drop).expect_err("dead");
        let late = tokio::time::timeout(SECOND, env.clock.sleep(MS)).await;
        assert!(late.is_err(), "no time passes for the dead");

        let rebooted = world.node("n1");
        assert_eq!(read_file(&*rebooted.disk, "f"), b"synced");
        assert_ne!(rebooted.rng.next_u64(), env.rng.next_u64());
        assert_eq!(world.exited("n1"), None);
    });
}

#[test]
fn a_node_that_exits_is_as_dead() {
    run(1, async |world| {
        let (client, env) = (world.client_env(), world.node("n1"));
        let ticks = ticking(&env);
        let spawner = env.spawner.clone();
        let worker = env.spawner.worker("log", Box::new(move || spawner.exit(Exit::LogFailed)));
        worker.wake();
        client.clock.sleep(SECOND).await;
        assert_eq!(world.exited("n1"), Some(Exit::LogFailed));
        assert_eq!(ticks.load(Ordering::Relaxed), 0, "it ended within the millisecond");
        drop(world.node("n1"));
        assert_eq!(world.exited("n1"), None);
    });
}

#[test]
fn a_panic_is_a_crash_and_ends_the_world() {
    let mut seen = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run(1, async |world| {
            let env = world.node("n1");
            seen = Some((world.clone(), ticking(&env)));
            spawn(&env, async { panic!("on purpose") });
            // As who waits for an answer of what has panicked.
            std::future::pending::<()>().await;
        });
    }));
    let told = ended.expect_err("a panic is told").downcast::<String>().expect("it is a text");
    assert_eq!(*told, "seed 1: n1: on purpose");
    let (world, ticks) = seen.expect("the world has begun");
    assert_eq!((world.is_up("n1"), ticks.load(Ordering::Relaxed)), (false, 0));
}

#[test]
fn a_paused_host_stands_still_and_goes_on() {
    run(1, async |world| {
        let (client, env) = (world.client_env(), world.node("n1"));
        let ticks = ticking(&env);
        let (mut ours, mut theirs) = pair(&client, &env, "n1:").await;
        world.pause("n1");
        let before = ticks.load(Ordering::Relaxed);
        ours.write_all(b"x").await.expect("its kernel takes it");
        client.clock.sleep(SECOND).await;
        assert_eq!(ticks.load(Ordering::Relaxed), before);
        world.resume("n1");
        client.clock.sleep(MS * 10).await;
        assert!(ticks.load(Ordering::Relaxed) >= before + 9);
        assert_eq!(theirs.read_u8().await.expect("it was taken"), b'x');
    });
}

#[test]
fn a_worker_gathers_wakes_and_ends_with_its_handle() {
    run(1, async |world| {
        let (client, env) = (world.client_env(), world.node("n1"));
        world.set_disk_latency("n1", MS * 5, MS * 5);
        let rounds = Arc::new(AtomicU64::new(0));
        let counted = rounds.clone();
        let worker = env.spawner.worker(
            "w",
            Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                Round::Again
            }),
        );
        worker.wake();
        worker.wake();
        client.clock.sleep(MS * 4).await;
        assert_eq!(rounds.load(Ordering::Relaxed), 0, "the disk takes its time");
        client.clock.sleep(MS * 20).await;
        assert_eq!(rounds.load(Ordering::Relaxed), 1);
        worker.wake();
        drop(worker);
        client.clock.sleep(MS * 20).await;
        assert_eq!(rounds.load(Ordering::Relaxed), 2, "the last wake counts");
        assert_eq!(Arc::strong_count(&rounds), 1, "ended");
    });
}

#[test]
fn blocking_work_is_done_though_nobody_waits() {
    run(1, async |world| {
        let env = world.node("n1");
        let done = Arc::new(AtomicU64::new(0));
        let count = || {
            let done = done.clone();
            env.spawner.blocking(Box::new(move || {
                done.fetch_add(1, Ordering::Relaxed);
            }))
        };
        drop(count());
        count().await;
        env.clock.sleep(MS).await;
        assert_eq!(done.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_dropped_handle_stops_its_task() {
    run(1, async |world| {
        let env = world.node("n1");
        let ended = Arc::new(());
        let held = ended.clone();
        let handle = env.spawner.spawn(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
        env.clock.sleep(MS).await;
        assert!(!handle.is_finished());
        drop(handle);
        env.clock.sleep(MS).await;
        assert_eq!(Arc::strong_count(&ended), 1);
    });
}

#[test]
fn a_clock_that_drifts_never_wakes_anybody_early() {
    for rate in [950, 1_050] {
        run(1, async |world| {
            world.set_clock_rate("n1", rate);
            let clock = world.node("n1").clock;
            let (began, start) = (world.elapsed(), clock.monotonic());
            for ns in 1..200 {
                let until = clock.monotonic() + Duration::from_nanos(ns);
                clock.sleep(Duration::from_nanos(ns)).await;
                assert!(clock.monotonic() >= until);
            }
            clock.sleep(Duration::from_secs(95)).await;
            let (took, shown) = (world.elapsed() - began, clock.monotonic() - start);
            assert_eq!(shown.as_millis(), (took * rate / 1_000).as_millis());
        });
    }
}
