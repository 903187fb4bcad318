//! `quorate dev`: a cluster on this machine, to try things out.
//!
//! The nodes are children that run `quorate serve`, just as three machines would, so what is seen here is
//! what a real cluster does: `kill -9` one of them and look. Their messages come out on ours, with the
//! node's name before each line.

#![allow(clippy::disallowed_methods)] // Nothing here is part of a node, and none of it is simulated.

use std::io::{self, Write as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use quorate::config::Dev;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Signals;

/// How long the nodes may take to hand over and stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the nodes are asked to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Stop,
    Kill,
}

/// Runs the cluster until a signal, or until no node is left.
pub fn run(dev: &Dev) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_nodes(dev))
}

async fn run_nodes(dev: &Dev) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (order, orders) = watch::channel(Order::Run);
    let mut nodes = JoinSet::new();
    for place in 0..dev.nodes {
        let node = Node::new(dev, place);
        let child = node.start(dev).with_context(|| format!("cannot start {}", node.name))?;
        say(&format!("{}: redis-cli -p {}    {}/metrics", node.name, node.port, node.http_url()));
        nodes.spawn(watch_node(node.name, child, orders.clone()));
    }
    say("Ctrl-C stops the cluster; its data stays.");
    loop {
        tokio::select! {
            ended = nodes.join_next() => match ended {
                Some(ended) => ended?,
                None => break,
            },
            _ = signals.next() => {
                // The second signal does not wait.
                let next = if *order.borrow() == Order::Run { Order::Stop } else { Order::Kill };
                order.send_replace(next);
            }
        }
    }
    if *order.borrow() == Order::Run {
        bail!("no node is left");
    }
    Ok(())
}

struct Node {
    name: String,
    port: u16,
    peer_port: u16,
    http_port: u16,
    sentinel_port: u16,
    data: std::path::PathBuf,
}

impl Node {
    fn new(dev: &Dev, place: u16) -> Self {
        let port = dev.base_port + place;
        let name = format!("node{}", place + 1);
        let data = dev.data.join(&name);
        let (peer_port, http_port, sentinel_port) = (port + 100, port + 200, port + 300);
        Self { name, port, peer_port, http_port, sentinel_port, data }
    }

    fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    fn start(&self, dev: &Dev) -> io::Result<Child> {
        let peers: Vec<String> =
            (0..dev.nodes).map(|place| format!("127.0.0.1:{}", Self::new(dev, place).peer_port)).collect();
        let mut command = Command::new(std::env::current_exe()?);
        // Our own variables are among `flags` already, and some of them are for `dev` only.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"QUORATE_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .args(&dev.flags)
            .arg("--data")
            .arg(&self.data)
            .arg(format!("--listen=127.0.0.1:{}", self.port))
            .arg(format!("--http-listen=127.0.0.1:{}", self.http_port))
            .arg(format!("--sentinel-listen=127.0.0.1:{}", self.sentinel_port))
            .arg(format!("--peer-listen=127.0.0.1:{}", self.peer_port))
            .arg(format!("--peers={}", peers.join(",")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Apart from the terminal's group: a Ctrl-C is passed on by us, and once.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Forwards a node's messages and orders until it has ended, and says how it ended.
async fn watch_node(name: String, mut child: Child, orders: watch::Receiver<Order>) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (ended, (), ()) =
        tokio::join!(obey(&mut child, orders), forward(&name, stdout), forward(&name, stderr));
    match ended {
        Ok(status) => say(&format!("{name} ended: {status}")),
        Err(error) => say(&format!("{name} is lost: {error}")),
    }
}

/// Waits for the end of a child, passing on what it is ordered meanwhile.
async fn obey(child: &mut Child, mut orders: watch::Receiver<Order>) -> io::Result<std::process::ExitStatus> {
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let kill = async {
        let stopped =
            orders.wait_for(|order| *order != Order::Run).await.is_ok_and(|order| *order == Order::Stop);
        if let Some(id) = id.filter(|_| stopped) {
            // The child may have ended just now: then there is nobody to tell.
            kill_process(id, Signal::TERM).unwrap_or_default();
            let killed = orders.wait_for(|order| *order == Order::Kill);
            drop(tokio::time::timeout(STOP_TIMEOUT, killed).await);
        }
    };
    tokio::select! {
        ended = child.wait() => return ended,
        () = kill => {}
    }
    child.kill().await?;
    child.wait().await
}

async fn forward(name: &str, output: Option<impl AsyncRead + Unpin>) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        say(&format!("{name} | {line}"));
    }
}

/// Writes a line at once. A reader that has gone is no reason to stop the cluster.
fn say(line: &str) {
    writeln!(io::stdout().lock(), "{line}").unwrap_or_default();
}
