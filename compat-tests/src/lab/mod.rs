//! A cluster whose nodes have a network and a disk of their own, so that both can fail.
//!
//! Each node runs in a network namespace, on one end of a cable to a switch; its data lies on an ext4 in a file. Cables
//! are cut and slowed, disks are cut from their power, broken and filled, processes are stopped and killed,
//! system calls are delayed and failed, wall clocks are set: all with the kernel's own means, and nothing in the
//! node knows. It takes root; what is missing on a machine is said, with how to get it.
//!
//! [`network`] and [`volume`] are the parts, [`syscalls`] and [`clock`] what is done to one process. All that a lab
//! leaves on the machine ends with its value; what one that was killed has left, the next one sweeps up.

pub mod clock;
pub mod network;
pub mod syscalls;
pub mod volume;

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{Cluster, Node};
use clock::{Residue, WallClock};
use network::Network;
use volume::Volume;

/// A cluster that things can happen to.
pub struct Lab {
    pub cluster: Cluster,
    pub volumes: Vec<Volume>,
    pub network: Network,
    pub clocks: Vec<WallClock>,
    _residue: Residue,
}

impl Lab {
    /// `size` nodes on disks of `disk_bytes`, all of them ready.
    pub fn start(size: usize, disk_bytes: u64) -> Result<Self> {
        let mut lab = Self::prepare(size, disk_bytes)?;
        lab.cluster.start_all()?;
        Ok(lab)
    }

    /// The same with nothing running yet.
    pub fn prepare(size: usize, disk_bytes: u64) -> Result<Self> {
        sweep()?;
        let mut cluster = Cluster::prepare(size)?;
        let network = Network::create(size)?;
        let mut volumes = Vec::new();
        let mut clocks = Vec::new();
        for (number, node) in cluster.nodes.iter_mut().enumerate() {
            let volume = Volume::create(&node.data, disk_bytes)?;
            node.data = volume.directory().join("data");
            volumes.push(volume);
            clocks.push(WallClock::of(&node.log.with_extension("clock"))?);
            let address = network.address(number);
            for place in [&mut node.listen, &mut node.http, &mut node.peer] {
                *place = SocketAddr::new(address, place.port());
            }
            node.launcher = network.enter(number);
            node.variables = clocks[number].variables();
        }
        let peers: Vec<_> = cluster.nodes.iter().map(|node| node.peer.to_string()).collect();
        cluster.nodes.iter_mut().for_each(|node| node.peers.clone_from(&peers));
        Ok(Self { cluster, volumes, network, clocks, _residue: Residue })
    }

    /// The node of this number.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.cluster.nodes[number]
    }

    /// Cuts the power of a node: nothing that its disk was not told to sync is there afterwards. It stays down.
    pub fn cut_power(&mut self, number: usize) -> Result<()> {
        self.volumes[number].cut_power()?;
        self.cluster.nodes[number].kill();
        self.volumes[number].remount()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.cluster.nodes.iter_mut().for_each(Node::kill);
        // Nobody uses them now, and the directory that they are in cannot go before them.
        self.volumes.clear();
    }
}

/// What a lab must have. An error says what is missing, and how to get it.
pub fn possible() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "namespaces and mounts need root");
    run("ip", &["netns", "list"])?;
    clock::library()?;
    for program in ["mkfs.ext4", "python3", "strace", "tc", "nsenter"] {
        run(program, &["-V"])?;
    }
    Ok(())
}

/// Runs a program to its end: what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let package = match program {
        "ip" | "tc" => "iproute2",
        "mkfs.ext4" => "e2fsprogs",
        "mount" | "umount" | "nsenter" => "util-linux",
        other => other,
    };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program}: apt-get install {package}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}

/// Takes away what labs of processes that are no more have left. The names of what is theirs begin with the process id.
fn sweep() -> Result<()> {
    for name in run("ip", &["netns", "list"])?.lines().filter_map(|line| line.split_whitespace().next()) {
        if network::owner(name).is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            run("ip", &["netns", "delete", name])?;
        }
    }
    for link in run("ip", &["-o", "link", "show", "type", "bridge"])?.lines() {
        let name = link.split(": ").nth(1).unwrap_or_default();
        if network::owner(name).is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            run("ip", &["link", "delete", name])?;
        }
    }
    clock::sweep()
}
