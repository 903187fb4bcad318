//! What happens to keys is told on every node: keyspace events, and the caches of clients.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::client::{Connection, ask};
use compat_tests::cluster::{Cluster, PATIENCE};
use compat_tests::reply::Reply;
use compat_tests::{alone, wait_for};

const SETTING: &str = "notify-keyspace-events";
const ROUNDS: usize = 100;
const EXPIRIES: usize = 30;
const CACHED_KEYS: u64 = 400;
const CACHE_READS: usize = 1_500;

/// Waits until every node shows the setting.
fn wait_for_setting(nodes: &[SocketAddr], expected: &str) -> Result<()> {
    for node in nodes {
        wait_for("the setting on every node", PATIENCE, || {
            let reply = ask(*node, &["CONFIG", "GET", SETTING])?;
            let Reply::Array(pair) = &reply else { bail!("CONFIG GET: {reply:?}") };
            Ok((pair.get(1).and_then(Reply::text) == Some(expected.as_bytes())).then_some(()))
        })?;
    }
    Ok(())
}

/// The channel and the message of what a pattern's subscriber hears next.
fn hear(subscriber: &mut Connection) -> Result<(String, String)> {
    let Reply::Array(parts) = subscriber.receive()? else { bail!("a subscriber hears arrays") };
    let text = |place: usize| -> Result<String> {
        let text = parts.get(place).and_then(Reply::text).context("a message has four parts")?;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    Ok((text(2)?, text(3)?))
}

/// One setting for the whole cluster, and one order of events on all of its nodes, whichever nodes the writes go
/// through. The setting outlives the processes.
#[test]
fn events_reach_all_nodes_in_log_order() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::start(3)?;
    let nodes = cluster.addresses();
    ask(nodes[0], &["CONFIG", "SET", SETTING, "AKE"])?;
    wait_for_setting(&nodes, "AKE")?;
    let mut subscribers = Vec::new();
    for &node in &nodes {
        let mut connection = Connection::open(node)?;
        connection.call(&["PSUBSCRIBE", "__key*__:*"])?;
        subscribers.push(connection);
    }
    let writers = nodes.iter().copied().enumerate().map(|(writer, node)| {
        thread::spawn(move || -> Result<()> {
            let mut connection = Connection::open(node)?;
            let own = format!("own:{writer}");
            for _ in 0..ROUNDS {
                connection.call(&["SET", &own, "v"])?;
                connection.call(&["INCR", "shared"])?;
                connection.call(&["MULTI"])?;
                connection.call(&["APPEND", &own, "x"])?;
                connection.call(&["DEL", &own])?;
                connection.call(&["EXEC"])?;
            }
            Ok(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        let Ok(result) = writer.join() else { bail!("a writer panicked") };
        result?;
    }
    ask(nodes[2], &["SET", "end", "1"])?;
    let mut orders = Vec::new();
    for subscriber in &mut subscribers {
        let mut order = Vec::new();
        while order.last() != Some(&("__keyevent@0__:set".to_owned(), "end".to_owned())) {
            order.push(hear(subscriber)?);
        }
        orders.push(order);
    }
    // Four events a round and writer, each on two channels, and those of the end.
    ensure!(orders[0].len() == 3 * ROUNDS * 4 * 2 + 2, "{} events", orders[0].len());
    ensure!(orders[0] == orders[1] && orders[1] == orders[2], "subscribers saw different orders");
    println!("{} events reached three nodes in one order", orders[0].len());

    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all()?;
    wait_for_setting(&nodes, "AKE")?;
    ask(nodes[1], &["CONFIG", "SET", SETTING, ""])?;
    wait_for_setting(&nodes, "")
}

/// How late `expired` comes on an idle cluster, on each node.
#[test]
fn expired_is_told_everywhere_when_it_is_time() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    let nodes = cluster.addresses();
    ask(nodes[0], &["CONFIG", "SET", SETTING, "Ex"])?;
    wait_for_setting(&nodes, "xE")?;
    let mut subscribers = Vec::new();
    for &node in &nodes {
        let mut connection = Connection::open(node)?;
        connection.call(&["PSUBSCRIBE", "__keyevent@0__:expired"])?;
        subscribers.push(connection);
    }
    let mut late = Vec::new();
    for round in 0..EXPIRIES {
        let (key, life) = (format!("lease:{round}"), Duration::from_millis(80 + 7 * round as u64));
        let began = Instant::now();
        ask(nodes[round % 3], &["SET", &key, "v", "PX", &life.as_millis().to_string()])?;
        let heard = thread::scope(|scope| {
            let listeners = subscribers.iter_mut().map(|subscriber| {
                scope.spawn(move || hear(subscriber).map(|(_, key)| (key, began.elapsed())))
            });
            let listeners = listeners.collect::<Vec<_>>();
            listeners.into_iter().map(|listener| listener.join()).collect::<Vec<_>>()
        });
        for heard in heard {
            let Ok(heard) = heard else { bail!("a listener panicked") };
            let (name, after) = heard?;
            ensure!(name == key, "{name} has expired, not {key}");
            ensure!(after >= life, "{key} expired {:?} early", life - after);
            // From before it was set: the time on the way is in it, too.
            late.push(after - life);
        }
    }
    late.sort();
    let at = |percent: usize| late[late.len() * percent / 100];
    println!(
        "expired events after the deadline, the way of SET included: median {:.1?}, 90 % {:.1?}, longest {:.1?}",
        at(50),
        at(90),
        late[late.len() - 1]
    );
    Ok(())
}

/// A client with a cache, which it keeps right by what it is told.
struct Cache {
    connection: Connection,
    values: BTreeMap<Vec<u8>, Reply>,
    invalidations: usize,
    flushes: usize,
}

impl Cache {
    fn open(node: SocketAddr) -> Result<Self> {
        let mut connection = Connection::open(node)?;
        connection.call(&["HELLO", "3"])?;
        let reply = connection.call(&["CLIENT", "TRACKING", "ON"])?;
        ensure!(reply == Reply::Status(b"OK".to_vec()), "CLIENT TRACKING: {reply:?}");
        Ok(Self { connection, values: BTreeMap::new(), invalidations: 0, flushes: 0 })
    }

    /// The reply; what is told before it is done before it.
    fn call(&mut self, words: &[&str]) -> Result<Reply> {
        self.connection.send(words)?;
        loop {
            match self.connection.receive()? {
                Reply::Push(parts) => match parts.get(1) {
                    Some(Reply::Array(keys)) => {
                        self.invalidations += 1;
                        for key in keys {
                            self.values.remove(key.text().context("a key is text")?);
                        }
                    }
                    _ => {
                        self.flushes += 1;
                        self.values.clear();
                    }
                },
                Reply::Error(error) => bail!("{words:?}: {}", String::from_utf8_lossy(&error)),
                reply => return Ok(reply),
            }
        }
    }

    fn get(&mut self, key: &str) -> Result<Reply> {
        if let Some(value) = self.values.get(key.as_bytes()) {
            return Ok(value.clone());
        }
        let value = self.call(&["GET", key])?;
        self.values.insert(key.as_bytes().to_vec(), value.clone());
        Ok(value)
    }

    /// Reads a key and changes another as one.
    fn transact(&mut self, key: &str, other: &str) -> Result<()> {
        self.call(&["MULTI"])?;
        self.call(&["GET", key])?;
        self.call(&["INCR", other])?;
        let reply = self.call(&["EXEC"])?;
        let Reply::Array(mut replies) = reply else { bail!("EXEC: {reply:?}") };
        self.values.insert(key.as_bytes().to_vec(), replies.swap_remove(0));
        Ok(())
    }
}

/// Clients cache what they read on any node, while others write the same keys through others and the leader is
/// killed. In the end nothing in any cache is old.
#[test]
fn no_cache_holds_an_old_value() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let followers =
        cluster.addresses().into_iter().enumerate().filter(|(node, _)| *node != leader).map(|(_, node)| node);
    let followers = followers.collect::<Vec<_>>();
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let writers = followers.iter().copied().enumerate().map(|(number, node)| {
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        thread::spawn(move || -> Result<()> {
            let mut connection = Connection::open(node)?;
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("cached:{}", (round * 7 + number as u64 * 3) % CACHED_KEYS);
                let reply = match round % 11 {
                    0 => connection.call(&["DEL", &key])?,
                    1 => connection.call(&["SET", &key, "1", "PX", "20"])?,
                    _ => connection.call(&["INCR", &key])?,
                };
                if let Reply::Error(error) = reply {
                    bail!("a write failed: {}", String::from_utf8_lossy(&error));
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    });
    let writers = writers.collect::<Vec<_>>();
    let half = Arc::new(AtomicUsize::new(0));
    let readers = followers.iter().copied().enumerate().map(|(number, node)| {
        let half = Arc::clone(&half);
        thread::spawn(move || -> Result<Cache> {
            let mut cache = Cache::open(node)?;
            for round in 0..CACHE_READS {
                let key = |step: usize| format!("cached:{}", (round * step + number) as u64 % CACHED_KEYS);
                if round % 5 == 0 {
                    cache.transact(&key(13), &key(17))?;
                } else {
                    cache.get(&key(11))?;
                }
                half.fetch_add(usize::from(round == CACHE_READS / 2), Ordering::Relaxed);
            }
            Ok(cache)
        })
    });
    let readers = readers.collect::<Vec<_>>();
    wait_for("half of the reads", Duration::from_secs(120), || {
        Ok((half.load(Ordering::Relaxed) == followers.len()).then_some(()))
    })?;
    cluster.nodes[leader].kill();
    let mut caches = Vec::new();
    for reader in readers {
        let Ok(cache) = reader.join() else { bail!("a reader panicked") };
        caches.push(cache?);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let Ok(result) = writer.join() else { bail!("a writer panicked") };
        result?;
    }
    // The last of the keys that end by themselves.
    wait_for("the last deadlines", PATIENCE, || {
        let ends = (0..CACHED_KEYS).map(|key| {
            ask(followers[0], &["PTTL", &format!("cached:{key}")])
                .map(|reply| reply != Reply::Int(-1) && reply != Reply::Int(-2))
        });
        Ok((!ends.collect::<Result<Vec<_>>>()?.contains(&true)).then_some(()))
    })?;
    for cache in &mut caches {
        // What a read waits for has been applied, so it has been told, behind the reply.
        cache.call(&["GET", "nothing of this name"])?;
        cache.call(&["PING"])?;
        let kept = cache.values.clone();
        for (key, value) in &kept {
            let key = String::from_utf8_lossy(key).into_owned();
            let now = ask(followers[0], &["GET", &key])?;
            ensure!(*value == now, "{key} is {now:?}, and {value:?} in a cache that was never told");
        }
        println!(
            "a cache of {} keys is right after {} invalidations and {} times of forgetting all",
            kept.len(),
            cache.invalidations,
            cache.flushes
        );
        ensure!(!kept.is_empty() && cache.invalidations > 0, "nothing was cached, or nothing told");
        ensure!(cache.flushes > 0, "a change of leaders is told");
    }
    println!("{} writes meanwhile", written.load(Ordering::Relaxed));
    Ok(())
}
