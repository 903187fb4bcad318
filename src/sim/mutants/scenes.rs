//! What clients at random do not come upon: one thing after another.

use super::{Campaign, Lived};
use crate::sim::client::{Answer, Client};
use crate::sim::cluster::{Cluster, HOSTS};
use crate::sim::{RECOVERY, SECOND, a_low_disk_refuses_growth_until_there_is_room, with_cluster};

/// A disk has little room.
pub const LOW_DISK: Campaign = Campaign {
    name: "a low disk refuses growth",
    live: |_| {
        a_low_disk_refuses_growth_until_there_is_room();
        Ok(())
    },
    seeds: 1,
};

/// A node loses power within one write, sync or renaming after another, while the others go on.
pub const POWER_CUTS: Campaign = Campaign { name: "power cuts at every step", live: power_cuts, seeds: 2 };

/// A node is away for longer than the log reaches, so that it is sent a snapshot.
pub const SNAPSHOTS: Campaign = Campaign { name: "a snapshot is sent", live: snapshots, seeds: 2 };

/// A node loses power while it makes a checkpoint, for which its disk takes seconds.
pub const SLOW_CHECKPOINTS: Campaign =
    Campaign { name: "power cuts in slow checkpoints", live: slow_checkpoints, seeds: 2 };

/// A script draws lots.
pub const LOTS: Campaign = Campaign { name: "lots are drawn", live: lots, seeds: 1 };

/// A leader is cut off, and its clients go on reading while the others have another.
pub const DEPOSED: Campaign = Campaign { name: "a leader is deposed", live: deposed, seeds: 2 };

/// A node is cut off whose client keeps copies: one that follows, and one that leads.
pub const CUT_OFF: Campaign = Campaign { name: "copies on a node that is cut off", live: copies, seeds: 1 };

/// All of them.
pub const ALL: [Campaign; 7] = [LOTS, CUT_OFF, DEPOSED, LOW_DISK, POWER_CUTS, SNAPSHOTS, SLOW_CHECKPOINTS];

fn power_cuts(seed: u64) -> Lived {
    with_cluster(seed, async |cluster| {
        let world = cluster.world();
        let env = world.client_env();
        let mut client = Client::of(&cluster, "n1");
        for round in 0..40 {
            world.crash_at_disk_change("n3", 1 + env.rng.next_u64() % 30);
            write(&mut client, 8).await;
            cluster.start_all();
            if round % 8 == 7 {
                // All at once: what none of them had synced is lost.
                HOSTS.into_iter().for_each(|host| world.crash(host));
                cluster.start_all();
            }
            env.clock.sleep(SECOND / 4).await;
            cluster.sound()?;
        }
        cluster.settle(RECOVERY).await
    })
}

fn slow_checkpoints(seed: u64) -> Lived {
    with_cluster(seed, async |cluster| {
        let world = cluster.world();
        let clock = world.client_env().clock;
        let mut client = Client::of(&cluster, "n1");
        for _ in 0..10 {
            write(&mut client, 2).await;
            world.set_disk_latency("n3", SECOND, 6 * SECOND);
            clock.sleep(SECOND * 11 / 2).await;
            world.crash("n3");
            world.set_disk_latency("n3", SECOND / 10_000, SECOND / 2_000);
            cluster.start_all();
            clock.sleep(SECOND).await;
            cluster.sound()?;
        }
        cluster.settle(RECOVERY).await
    })
}

fn deposed(seed: u64) -> Lived {
    with_cluster(seed, async |cluster| {
        let world = cluster.world();
        for round in 1..=8 {
            let leader = cluster.led(RECOVERY).await.ok_or("nobody leads")?;
            let other = *HOSTS.iter().find(|host| **host != leader).ok_or("it is alone")?;
            let round = u64::to_string(&round);
            cut_off(&cluster, leader);
            goes_on(&cluster, other, &round).await?;
            Client::of(&cluster, leader).call(&["GET", "key"]).await;
            cluster.sound()?;
            world.heal();
            cluster.settle(RECOVERY).await?;
        }
        Ok(())
    })
}

fn lots(seed: u64) -> Lived {
    const DRAW: &str = "return redis.call('SET', KEYS[1], math.random(1000000))";
    with_cluster(seed, async |cluster| {
        for _ in 0..4 {
            Client::new(&cluster).call(&["EVAL", DRAW, "1", "lot"]).await;
        }
        cluster.settle(RECOVERY).await
    })
}

fn copies(seed: u64) -> Lived {
    with_cluster(seed, async |cluster| {
        let world = cluster.world();
        for leads in [false, true] {
            let leader = cluster.led(RECOVERY).await.ok_or("nobody leads")?;
            let host = *HOSTS.iter().find(|host| (**host == leader) == leads).ok_or("no such node")?;
            let other = *HOSTS.iter().find(|other| **other != host).ok_or("it is alone")?;
            let (mut hearing, mut reading) = (Client::of(&cluster, host), Client::of(&cluster, host));
            let id = hearing.call(&["CLIENT", "ID"]).await.number().ok_or("no number")?.to_string();
            let calls = [
                Client::new(&cluster).call(&["SET", "key", "1"]).await,
                hearing.call(&["SUBSCRIBE", "__redis__:invalidate"]).await,
                reading.call(&["CLIENT", "TRACKING", "ON", "REDIRECT", &id]).await,
                reading.call(&["GET", "key"]).await,
            ];
            if !calls.iter().all(Answer::is_reply) {
                return Err(format!("nothing should fail yet: {calls:?}"));
            }
            cut_off(&cluster, host);
            goes_on(&cluster, other, "2").await?;
            if hearing.hear(4 * SECOND).await.is_none() {
                return Err("a copy is old, and its client was told nothing".into());
            }
            world.heal();
            cluster.settle(RECOVERY).await?;
        }
        Ok(())
    })
}

/// Clients reach this node, and no other node does.
fn cut_off(cluster: &Cluster, host: &str) {
    HOSTS.into_iter().filter(|other| *other != host).for_each(|other| cluster.world().partition(host, other));
}

/// Waits until the key is changed through this node.
async fn goes_on(cluster: &Cluster, host: &'static str, value: &str) -> Lived {
    for _ in 0..10 {
        if Client::of(cluster, host).call(&["SET", "key", value]).await.is_reply() {
            return Ok(());
        }
    }
    Err("two of three do not go on".into())
}

fn snapshots(seed: u64) -> Lived {
    with_cluster(seed, async |cluster| {
        let world = cluster.world();
        let clock = world.client_env().clock;
        let mut client = Client::of(&cluster, "n1");
        for _ in 0..4 {
            world.crash("n3");
            write(&mut client, 6).await;
            // The others make a checkpoint, and let go of their log.
            clock.sleep(SECOND * 4).await;
            cluster.start("n3");
            clock.sleep(SECOND).await;
            write(&mut client, 2).await;
            cluster.sound()?;
        }
        cluster.settle(RECOVERY).await
    })
}

/// A bit of everything that a checkpoint holds, and enough that one is made every few rounds.
async fn write(client: &mut Client, rounds: usize) {
    let text = "x".repeat(1_000);
    for round in 0..rounds {
        let keys = (0..8).map(|place| format!("key-{}", (8 * round + place) % 50)).collect::<Vec<_>>();
        let mut commands = keys.iter().map(|key| vec!["SET", key, &text]).collect::<Vec<_>>();
        let fleeting = format!("fleeting-{round}");
        commands.push(vec!["SET", &fleeting, "1", "PX", "8000"]);
        commands.extend([vec!["MULTI"], vec!["INCR", "left"], vec!["INCR", "right"], vec!["EXEC"]]);
        client.pipeline(&commands.iter().map(|command| &command[..]).collect::<Vec<_>>()).await;
    }
}
