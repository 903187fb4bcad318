#![allow(clippy::disallowed_methods)] // `adopt` is about tasks that others spawn.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{World, adopt, run};
use crate::env::{BoxStream, Disk, Env, Exit, Round};

mod disks;
mod hosts;
mod network;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn spawn(env: &Env, task: impl Future<Output = ()> + Send + 'static) {
    env.spawner.spawn(Box::pin(task)).detach();
}

/// Answers every byte on every connection with itself.
async fn echo(env: Env, port: u16) {
    let listener = env.net.listen(&format!("0.0.0.0:{port}")).await.expect("a free port");
    loop {
        let mut accepted = listener.accept().await.expect("accepts");
        spawn(&env, async move {
            let mut bytes = [0; 64];
            while let Ok(read @ 1..) = accepted.stream.read(&mut bytes).await {
                if accepted.stream.write_all(&bytes[..read]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// A connection from `from` to a listener on `to`, both ends.
async fn pair(from: &Env, to: &Env, host: &str) -> (BoxStream, BoxStream) {
    let listener = to.net.listen("0.0.0.0:0").await.expect("a free port");
    let address = listener.local_address();
    assert!(address.starts_with(host), "{address}");
    let ours = from.net.connect(&address).await.expect("it listens");
    (ours, listener.accept().await.expect("somebody connected").stream)
}

fn write_file(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Box<dyn crate::env::File> {
    let file = disk.create(Path::new(path)).expect("a new file");
    file.write_at(bytes, 0).expect("there is space");
    file
}

fn read_file(disk: &dyn Disk, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path)).expect("it exists");
    let mut bytes = vec![0; usize::try_from(file.len().expect("alive")).expect("small")];
    file.read_at(&mut bytes, 0).expect("as long as it says");
    bytes
}

mod determinism {
    use super::*;

    /// Five nodes that gossip and keep a log, under every fault at once.
    async fn storm(world: World) -> u64 {
        async fn node(env: Env, names: Vec<String>) {
            spawn(&env, echo(env.clone(), 7));
            env.disk.create_dir_all(Path::new("data")).expect("alive");
            let path = format!("data/{}", env.rng.next_u64());
            let log = Arc::new(write_file(&*env.disk, &path, b"log"));
            let (disk, spawner) = (env.disk.clone(), env.spawner.clone());
            let worker = env.spawner.worker(
                "log",
                Box::new(move || {
                    let end = log.len().expect("alive");
                    log.write_at(&end.to_le_bytes(), end).expect("there is space");
                    if log.sync().and_then(|()| disk.sync_dir(Path::new("data"))).is_err() {
                        spawner.exit(Exit::LogFailed);
                    }
                    Round::Again
                }),
            );
            loop {
                worker.wake();
                let name = &names[usize::try_from(env.rng.next_u64() % 5).expect("small")];
                let Ok(mut stream) = env.net.connect(&format!("{name}:7")).await else { continue };
                for _ in 0..env.rng.next_u64() % 8 {
                    let told = env.rng.next_u64().to_le_bytes();
                    let mut heard = [0; 8];
                    if stream.write_all(&told).await.is_err() || stream.read_exact(&mut heard).await.is_err()
                    {
                        break;
                    }
                    assert_eq!(told, heard);
                    env.clock.sleep(MS * 3).await;
                }
            }
        }

        let names: Vec<String> = (1..=5).map(|number| format!("n{number}")).collect();
        let start = |name: &String| {
            let env = world.node(name);
            spawn(&env, node(env.clone(), names.clone()));
        };
        names.iter().for_each(start);
        let nemesis = world.client_env();
        world.set_loss(0.01);
        world.set_tcp_patience(SECOND);
        for _ in 0..60 {
            nemesis.clock.sleep(MS * 50).await;
            let pick = || &names[usize::try_from(nemesis.rng.next_u64() % 5).expect("small")];
            match nemesis.rng.next_u64() % 8 {
                0 => world.crash(pick()),
                1 => world.partition(pick(), pick()),
                2 => world.cut(pick(), pick()),
                3 => world.heal(),
                4 => world.fail_nth_sync(pick(), 3),
                5 => world.pause(pick()),
                6 => names.iter().for_each(|name| world.resume(name)),
                _ => names.iter().filter(|name| !world.is_up(name)).for_each(start),
            }
        }
        world.trace_hash()
    }

    #[test]
    fn a_seed_is_a_run() {
        let hashes: BTreeSet<u64> = (0..20)
            .map(|seed| {
                let hash = run(seed, storm);
                assert_eq!(run(seed, storm), hash, "seed {seed}");
                hash
            })
            .collect();
        assert_eq!(hashes.len(), 20, "every seed is another run");
    }

    #[test]
    fn a_world_that_ended_is_freed() {
        let world = run(1, async |world| {
            storm(world.clone()).await;
            Arc::downgrade(&world.0)
        });
        assert!(world.upgrade().is_none());
    }

    #[test]
    fn kept_traces_are_equal() {
        let trace = || {
            run(7, async |world| {
                world.keep_trace();
                storm(world.clone()).await;
                world.take_trace()
            })
        };
        let first = trace();
        assert!(first.len() > 1000, "{}", first.len());
        assert_eq!(trace(), first);
    }
}

mod time {
    use super::*;

    #[test]
    fn is_finer_than_a_millisecond() {
        run(1, async |world| {
            let env = world.node("n1");
            let before = env.clock.monotonic();
            env.clock.sleep_precise(Duration::from_micros(70)).await;
            env.clock.sleep(Duration::from_nanos(1)).await;
            assert_eq!(env.clock.monotonic() - before, Duration::from_nanos(70_001));
            env.clock.sleep(SECOND * 3600).await;
            assert_eq!(world.elapsed(), SECOND * 3600 + Duration::from_nanos(70_001));
        });
    }

    #[test]
    fn what_is_due_first_happens_first() {
        run(1, async |world| {
            let env = world.node("n1");
            let order = Arc::new(std::sync::Mutex::new(Vec::new()));
            for (name, first, second) in [("slow", 300, 300), ("fast", 100, 150)] {
                let (clock, order) = (env.clock.clone(), order.clone());
                spawn(&env, async move {
                    for delay in [first, second] {
                        clock.sleep(Duration::from_micros(delay)).await;
                        order.lock().expect("no panic").push(name);
                    }
                });
            }
            env.clock.sleep(MS).await;
            assert_eq!(*order.lock().expect("no panic"), ["fast", "fast", "slow", "slow"]);
        });
    }

    #[test]
    fn wall_clocks_jump_and_monotonic_clocks_do_not() {
        run(1, async |world| {
            let (one, two) = (world.node("n1"), world.node("n2"));
            assert_eq!(one.clock.wall_ms(), two.clock.wall_ms());
            assert_ne!(one.clock.monotonic(), two.clock.monotonic());
            let before = one.clock.monotonic();
            world.jump_wall_clock("n1", -5000);
            assert_eq!(one.clock.wall_ms() + 5000, two.clock.wall_ms());
            assert_eq!(one.clock.monotonic(), before);
        });
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing() {
        run(1, async |world| {
            let env = world.node("n1");
            drop(env.clock.sleep(SECOND));
            env.clock.sleep(MS).await;
            assert_eq!(world.elapsed(), MS);
        });
    }
}
