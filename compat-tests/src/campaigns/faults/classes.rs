//! The classes of faults.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::scene::Scene;
use crate::client::ask;
use crate::cluster::PATIENCE;
use crate::lab::syscalls::{FailingDisk, SlowDisk};
use crate::wait_for;

/// What is done to nodes, and taken back.
pub struct Strike {
    pub name: &'static str,
    /// Whom it strikes.
    pub target: fn(&mut Scene) -> Result<Vec<usize>>,
    pub run: fn(&mut Scene, &[usize]) -> Result<()>,
}

/// What comes over a node and lasts while something else strikes.
pub struct Weather {
    pub name: &'static str,
    /// Begins; what it returns ends it.
    pub begin: fn(&mut Scene, usize) -> Result<Undo>,
    /// The strikes that it must not last through.
    not_with: &'static [&'static str],
}

pub type Undo = Box<dyn FnOnce(&mut Scene) -> Result<()>>;

impl Weather {
    /// Whether the strike may happen meanwhile.
    pub fn fits(&self, strike: &Strike) -> bool {
        !self.not_with.contains(&strike.name)
    }
}

const KILL_ALL: &str = "kill of all";
const POWER_CUT_ALL: &str = "power cut of all";
const SYNC_ERROR: &str = "sync error";

pub const STRIKES: [Strike; 16] = [
    Strike { name: "kill of the leader", target: leader, run: kill },
    Strike { name: "kill of a follower", target: follower, run: kill },
    Strike { name: KILL_ALL, target: all, run: kill },
    Strike { name: "hand-over", target: leader, run: hand_over },
    Strike { name: "pause of the leader", target: leader, run: stop },
    Strike { name: "pause of a follower", target: follower, run: stop },
    Strike { name: "leader cut off", target: leader, run: cut_off },
    Strike { name: "one-way cut", target: any, run: cut_one_way },
    Strike { name: "bridge", target: any, run: cut_link },
    Strike { name: "ring", target: all, run: cut_to_ring },
    Strike { name: "flapping", target: any, run: flap },
    Strike { name: "full disk", target: any, run: fill },
    Strike { name: "power cut of one", target: any, run: cut_power },
    Strike { name: POWER_CUT_ALL, target: all, run: cut_power },
    Strike { name: SYNC_ERROR, target: any, run: fail_syncs },
    Strike { name: "block errors", target: any, run: fail_blocks },
];

pub const WEATHERS: [Weather; 4] = [
    Weather { name: "slow link", begin: slow_link, not_with: &[] },
    // One process is traced by one.
    Weather { name: "slow disk", begin: slow_disk, not_with: &[SYNC_ERROR] },
    // After the end of all nodes the cluster's time goes on from the wall clock's, as Redis' does.
    Weather { name: "clock forward", begin: clock_forward, not_with: &[KILL_ALL, POWER_CUT_ALL] },
    Weather { name: "clock back", begin: clock_back, not_with: &[KILL_ALL, POWER_CUT_ALL] },
];

fn leader(scene: &mut Scene) -> Result<Vec<usize>> {
    Ok(vec![scene.lab.cluster.leader()?])
}

fn follower(scene: &mut Scene) -> Result<Vec<usize>> {
    let leader = scene.lab.cluster.leader()?;
    Ok(vec![(leader + 1 + scene.dice.below(2)) % 3])
}

fn any(scene: &mut Scene) -> Result<Vec<usize>> {
    Ok(vec![scene.dice.below(3)])
}

fn all(_: &mut Scene) -> Result<Vec<usize>> {
    Ok(vec![0, 1, 2])
}

/// Lets it last; where a majority is left, that must go on.
fn last(scene: &mut Scene, struck: &[usize]) -> Result<()> {
    if struck.len() == 1 {
        return scene.goes_on();
    }
    scene.pause();
    Ok(())
}

fn kill(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    nodes.iter().for_each(|&number| scene.lab.node(number).kill());
    last(scene, nodes)?;
    nodes.iter().try_for_each(|&number| scene.lab.node(number).start())
}

/// The leader is asked to end, and hands over first.
fn hand_over(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    let status = scene.lab.node(nodes[0]).terminate()?;
    ensure!(status.success(), "asked to end, it ended with {status}");
    scene.goes_on()?;
    scene.lab.node(nodes[0]).start()
}

fn stop(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    scene.lab.node(nodes[0]).signal(Signal::STOP)?;
    scene.goes_on()?;
    scene.lab.node(nodes[0]).signal(Signal::CONT)
}

fn cut_off(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    scene.lab.network.isolate(nodes[0])?;
    scene.goes_on()?;
    scene.lab.network.join()
}

/// A node is heard by the others but does not hear them, or the other way round.
fn cut_one_way(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    let is_deaf = scene.dice.below(2) == 0;
    for other in (0..3).filter(|other| *other != nodes[0]) {
        let (from, to) = if is_deaf { (other, nodes[0]) } else { (nodes[0], other) };
        scene.lab.network.cut(from, to)?;
    }
    scene.goes_on()?;
    scene.lab.network.join()
}

/// Two nodes that do not reach each other, and a third that reaches both.
fn cut_link(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    let (one, other) = ((nodes[0] + 1) % 3, (nodes[0] + 2) % 3);
    scene.lab.network.cut(one, other)?;
    scene.lab.network.cut(other, one)?;
    scene.goes_on()?;
    scene.lab.network.join()
}

/// Each hears one neighbour, and is heard by the other.
fn cut_to_ring(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    nodes.iter().try_for_each(|&number| scene.lab.network.cut(number, (number + 2) % 3))?;
    scene.pause();
    scene.lab.network.join()
}

fn flap(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    for _ in 0..3 + scene.dice.below(4) {
        scene.lab.network.isolate(nodes[0])?;
        let ms = 50 + scene.dice.below(400) as u64;
        crate::client::pause(Duration::from_millis(ms));
        scene.lab.network.join()?;
        let ms = 50 + scene.dice.below(200) as u64;
        crate::client::pause(Duration::from_millis(ms));
    }
    scene.goes_on()
}

/// A disk without the room that nodes want: growth is refused on every node until there is room again.
fn fill(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    /// Less than nodes want, more than they need.
    const LEFT_BYTES: u64 = 96 << 20;
    let asked = scene.lab.cluster.nodes[scene.dice.below(3)].listen;
    let grow = || ask(asked, &["SET", "disk:growth", "x"]);
    scene.lab.volumes[nodes[0]].fill(LEFT_BYTES)?;
    wait_for("growth to be refused", PATIENCE, || {
        Ok(grow().is_err_and(|error| error.to_string().contains("DISKFULL")).then_some(()))
    })?;
    scene.goes_on()?;
    ask(asked, &["DEL", "disk:growth"]).context("DEL with a full disk")?;
    scene.lab.volumes[nodes[0]].empty()?;
    wait_for("growth to be taken again", PATIENCE, || Ok(grow().ok())).map(drop)
}

/// All file systems stop before the first process does.
fn cut_power(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    nodes.iter().try_for_each(|&number| scene.lab.volumes[number].cut_power())?;
    nodes.iter().try_for_each(|&number| scene.lab.cut_power(number))?;
    last(scene, nodes)?;
    nodes.iter().try_for_each(|&number| scene.lab.node(number).start())
}

/// Every sync fails from one moment on: the node ends by itself, and starts again on a good disk.
fn fail_syncs(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    let pid = scene.lab.node(nodes[0]).pid().context("it runs")?;
    let disk = FailingDisk::of(pid)?;
    scene.wait_disk_failure(nodes[0])?;
    drop(disk);
    scene.goes_on()?;
    scene.lab.node(nodes[0]).start()
}

/// Every block fails, below a file system that knows of nothing: the node ends by itself.
fn fail_blocks(scene: &mut Scene, nodes: &[usize]) -> Result<()> {
    scene.lab.volumes[nodes[0]].break_blocks()?;
    scene.wait_disk_failure(nodes[0])?;
    scene.goes_on()?;
    scene.lab.volumes[nodes[0]].remount()?;
    scene.lab.node(nodes[0]).start()
}

fn slow_link(scene: &mut Scene, number: usize) -> Result<Undo> {
    let kilobits = *scene.dice.pick(&[512, 1_024, 4_096]);
    scene.lab.network.slow(number, kilobits)?;
    Ok(Box::new(move |scene| scene.lab.network.hasten(number)))
}

fn slow_disk(scene: &mut Scene, number: usize) -> Result<Undo> {
    let delay = Duration::from_millis(5 + scene.dice.below(50) as u64);
    let disk = SlowDisk::of(scene.lab.node(number).pid().context("it runs")?, delay)?;
    Ok(Box::new(move |_| {
        drop(disk);
        Ok(())
    }))
}

fn clock_forward(scene: &mut Scene, number: usize) -> Result<Undo> {
    jump(scene, number, 1)
}

fn clock_back(scene: &mut Scene, number: usize) -> Result<Undo> {
    jump(scene, number, -1)
}

fn jump(scene: &mut Scene, number: usize, direction: i64) -> Result<Undo> {
    let seconds = direction * *scene.dice.pick(&[1, 60, 3_600, 86_400]);
    scene.lab.clocks[number].set(seconds)?;
    Ok(Box::new(move |scene| {
        scene.lab.clocks[number].set(0)?;
        // A node looks at it once a second.
        crate::client::pause(Duration::from_millis(1_100));
        Ok(())
    }))
}
