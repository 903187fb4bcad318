//! The servers: how each is started, found ready, asked for its leader, and ended.
//!
//! All of them run at the same time, on free ports of the loopback device, and are idle while another one is
//! measured. A server ends with its value, by its own process id, whatever happens to the benchmark.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use compat_tests::client::{ask, info, metric};
use compat_tests::{free_ports, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to start, and a cluster to have a leader.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of a log that are shown when its server does not start.
const LOG_LINES: usize = 20;

/// What all others are compared with.
pub const REFERENCE: &Target = &TARGETS[0];

/// Everything that can be measured.
pub const TARGETS: [Target; 7] = [
    target(
        "redis-always",
        "redis-server, appendfsync always",
        Service::Redis { durable: true },
        Entry::Leader,
    ),
    target("redis-memory", "redis-server, in memory", Service::Redis { durable: false }, Entry::Leader),
    target(
        "redis-3-wait",
        "redis-server, appendfsync always, 2 replicas, WAIT 1",
        Service::RedisReplicas { replicas: 2 },
        Entry::Leader,
    ),
    target("quorate-1", "Quorate, 1 node", Service::Quorate { nodes: 1 }, Entry::Leader),
    target("quorate-3", "Quorate, 3 nodes", Service::Quorate { nodes: 3 }, Entry::Leader),
    target(
        "quorate-3-follower",
        "Quorate, 3 nodes, a follower",
        Service::Quorate { nodes: 3 },
        Entry::Follower,
    ),
    target("etcd-3", "etcd, 3 nodes", Service::Etcd { nodes: 3 }, Entry::Leader),
];

/// A service, and the node of it to which clients connect.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    pub title: &'static str,
    pub service: Service,
    pub entry: Entry,
}

const fn target(name: &'static str, title: &'static str, service: Service, entry: Entry) -> Target {
    Target { name, title, service, entry }
}

/// The node to which clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Leader,
    Follower,
}

/// A kind of server, in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Redis {
        durable: bool,
    },
    /// A durable one with so many replicas. Clients wait until one of them has what was written (WAIT 1).
    RedisReplicas {
        replicas: usize,
    },
    Quorate {
        nodes: usize,
    },
    Etcd {
        nodes: usize,
    },
}

impl Service {
    /// Whether it speaks the Redis protocol.
    #[must_use]
    pub const fn speaks_resp(self) -> bool {
        !matches!(self, Self::Etcd { .. })
    }

    /// The name of the program, where it has to be installed.
    #[must_use]
    pub const fn foreign_program(self) -> Option<&'static str> {
        match self {
            Self::Redis { .. } | Self::RedisReplicas { .. } => Some("redis-server"),
            Self::Etcd { .. } => Some("etcd"),
            Self::Quorate { .. } => None,
        }
    }

    const fn nodes(self) -> usize {
        match self {
            Self::Redis { .. } => 1,
            Self::RedisReplicas { replicas } => 1 + replicas,
            Self::Quorate { nodes } | Self::Etcd { nodes } => nodes,
        }
    }

    /// The metric that counts durable writes of the log, where there is one.
    const fn syncs_metric(self) -> Option<&'static str> {
        match self {
            Self::Redis { .. } | Self::RedisReplicas { .. } => None,
            Self::Quorate { .. } => Some("quorate_disk_wal_fsync_duration_seconds_count"),
            Self::Etcd { .. } => Some("etcd_disk_wal_fsync_duration_seconds_count"),
        }
    }
}

/// Where `program` is, if it is installed.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// The running processes of a service.
pub struct Cluster {
    pub service: Service,
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts a program as all nodes of the service, with their data below `directory`, and waits until they are ready.
    /// `command` is the program, perhaps with what becomes that program before it.
    pub fn start(service: Service, command: &[PathBuf], directory: &Path, stop: &AtomicBool) -> Result<Self> {
        let addresses: Vec<_> = (0..service.nodes()).map(|_| Addresses::free()).collect();
        let mut cluster = Self { service, nodes: Vec::new() };
        for (number, own) in addresses.iter().enumerate() {
            let directory = directory.join(format!("node-{number}"));
            fs::create_dir_all(&directory)?;
            let arguments = arguments(service, number, &addresses, &directory);
            cluster.nodes.push(Node::start(command, arguments, *own, &directory)?);
        }
        for node in &mut cluster.nodes {
            node.wait_ready(service, stop)?;
        }
        cluster.leader()?;
        Ok(cluster)
    }

    /// The nodes in the order in which they are reported: the leader first, the others as they were started.
    pub fn leader_first(&self) -> Result<Vec<&Node>> {
        let leader = self.leader()?;
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes[..=leader].rotate_right(1);
        Ok(nodes)
    }

    /// The ends of the nodes' logs.
    #[must_use]
    pub fn log_tails(&self) -> String {
        self.nodes.iter().map(Node::log_tail).collect()
    }

    fn leader(&self) -> Result<usize> {
        wait_for("a leader", START_TIMEOUT, || {
            let mut leaders = (0..self.nodes.len()).filter(|&i| self.nodes[i].leads(self.service));
            Ok(leaders.next().filter(|_| leaders.next().is_none()))
        })
    }
}

/// The addresses of a node: for clients, for metrics, for other nodes.
#[derive(Clone, Copy)]
struct Addresses {
    clients: SocketAddr,
    http: SocketAddr,
    peers: SocketAddr,
}

impl Addresses {
    fn free() -> Self {
        let [clients, http, peers] = free_ports();
        Self { clients, http, peers }
    }
}

/// The command line of a node. Everything is as it comes, but for addresses, durability and logs.
fn arguments(service: Service, number: usize, addresses: &[Addresses], directory: &Path) -> Vec<String> {
    let own = addresses[number];
    let directory = directory.display().to_string();
    let list = |item: &dyn Fn(usize, &Addresses) -> String| {
        addresses.iter().enumerate().map(|(number, node)| item(number, node)).collect::<Vec<_>>().join(",")
    };
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    match service {
        Service::Redis { .. } | Service::RedisReplicas { .. } => {
            let durable = service != Service::Redis { durable: false };
            option("--bind", Ipv4Addr::LOCALHOST.to_string());
            option("--port", own.clients.port().to_string());
            option("--dir", directory);
            option("--save", String::new());
            option("--appendonly", if durable { "yes" } else { "no" }.to_owned());
            option("--appendfsync", "always".to_owned());
            if number > 0 {
                option("--replicaof", format!("127.0.0.1 {}", addresses[0].clients.port()));
            }
        }
        Service::Quorate { nodes } => {
            option("--data", directory);
            option("--listen", own.clients.to_string());
            option("--http-listen", own.http.to_string());
            if nodes > 1 {
                option("--peer-listen", own.peers.to_string());
                option("--peers", list(&|_, node| node.peers.to_string()));
            }
            arguments.insert(0, "serve".to_owned());
        }
        Service::Etcd { .. } => {
            option("--name", number.to_string());
            option("--data-dir", directory);
            for name in ["--listen-client-urls", "--advertise-client-urls"] {
                option(name, format!("http://{}", own.clients));
            }
            for name in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
                option(name, format!("http://{}", own.peers));
            }
            option("--initial-cluster", list(&|number, node| format!("{number}=http://{}", node.peers)));
            option("--log-level", "error".to_owned());
            option("--logger", "zap".to_owned());
        }
    }
    arguments
}

/// A process, which ends with its value.
pub struct Node {
    /// Where clients connect.
    pub address: SocketAddr,
    http: SocketAddr,
    /// The program with all its arguments.
    command: Vec<OsString>,
    directory: PathBuf,
    child: Child,
}

impl Node {
    fn start(
        command: &[PathBuf],
        arguments: Vec<String>,
        addresses: Addresses,
        directory: &Path,
    ) -> Result<Self> {
        let command = command.iter().map(OsString::from).chain(arguments.into_iter().map(OsString::from));
        let command = command.collect::<Vec<_>>();
        let child = spawn(&command, &directory.with_extension("log"))?;
        let (address, http) = (addresses.clients, addresses.http);
        Ok(Self { address, http, command, directory: directory.to_owned(), child })
    }

    /// Ends the process with this signal, and starts it again; with `wiped`, on an empty directory. Waits for nothing.
    pub fn start_again(&mut self, signal: Signal, wiped: bool) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)?;
        self.child.wait()?;
        if wiped {
            fs::remove_dir_all(&self.directory)?;
            fs::create_dir_all(&self.directory)?;
        }
        self.child = spawn(&self.command, &self.log())?;
        Ok(())
    }

    /// What all files of the node take on the disk.
    pub fn disk_bytes(&self) -> Result<u64> {
        fn below(directory: &Path) -> Result<u64> {
            let mut bytes = 0;
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let about = entry.metadata()?;
                bytes += if about.is_dir() { below(&entry.path())? } else { about.blocks() * 512 };
            }
            Ok(bytes)
        }
        below(&self.directory)
    }

    fn log(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How often it has made its log durable, if it counts that.
    pub fn syncs(&self, service: Service) -> Result<Option<f64>> {
        let Some(name) = service.syncs_metric() else { return Ok(None) };
        let text = self.metrics(service)?;
        Ok(Some(
            metric(&text, name).with_context(|| format!("no {name} in the metrics of {}", self.address))?,
        ))
    }

    /// Waits until it serves.
    fn wait_ready(&mut self, service: Service, stop: &AtomicBool) -> Result<()> {
        let ready = wait_for("the server to be ready", START_TIMEOUT, || {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}");
            }
            Ok(self.is_ready(service).then_some(()))
        });
        ready.inspect_err(|_| eprint!("{}", self.log_tail()))
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_ready(&self, service: Service) -> bool {
        match service {
            Service::Redis { .. } | Service::RedisReplicas { .. } => {
                // A replica that has not heard of its primary is none yet.
                let is_linked = || {
                    info(self.address, "replication", "master_link_status")
                        .map(|link| link != Some("down".to_owned()))
                };
                ask(self.address, &["PING"]).is_ok() && is_linked().unwrap_or(false)
            }
            Service::Quorate { .. } => http_get(self.http, "/readyz").is_ok(),
            Service::Etcd { .. } => {
                http_get(self.address, "/health").is_ok_and(|body| body.contains("\"true\""))
            }
        }
    }

    fn leads(&self, service: Service) -> bool {
        match service {
            Service::Redis { .. } => true,
            Service::RedisReplicas { .. } | Service::Quorate { .. } => {
                info(self.address, "replication", "role").is_ok_and(|role| role.as_deref() == Some("master"))
            }
            Service::Etcd { .. } => {
                self.metrics(service).is_ok_and(|text| metric(&text, "etcd_server_is_leader") == Some(1.0))
            }
        }
    }

    /// A metric without labels, if the node has it.
    pub fn metric(&self, service: Service, name: &str) -> Result<Option<f64>> {
        Ok(metric(&self.metrics(service)?, name))
    }

    fn metrics(&self, service: Service) -> Result<String> {
        let address = if matches!(service, Service::Etcd { .. }) { self.address } else { self.http };
        http_get(address, "/metrics")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("the log of {} ends so:\n{}\n", self.address, tail.join("\n"))
    }
}

/// Starts a program that writes its messages into a file, behind what is there.
fn spawn(command: &[OsString], log: &Path) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log)?;
    let (program, arguments) = command.split_first().context("a program")?;
    let mut process = Command::new(program);
    // Variables are options, too, and those of whoever starts the benchmark are not meant for it.
    for (name, _) in std::env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.starts_with(b"QUORATE_") || name_bytes.starts_with(b"ETCD_") {
            process.env_remove(name);
        }
    }
    let process = process.args(arguments).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    process.spawn().with_context(|| format!("starting {}", program.display()))
}

impl Drop for Node {
    fn drop(&mut self) {
        // If it ends by itself, this finds nobody; the id is ours until it is waited for.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = wait_for("the server to stop", STOP_TIMEOUT, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The body of a resource, if its status is 200. HTTP/1.0, for a body in one piece.
fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, HTTP_TIMEOUT)?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer without end")?;
    let status = head.split(' ').nth(1);
    if status != Some("200") {
        bail!("{path} has status {status:?}");
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, target) in TARGETS.iter().enumerate() {
            assert!(TARGETS[..i].iter().all(|other| other.name != target.name), "{}", target.name);
        }
    }

    #[test]
    fn nodes_of_a_cluster_know_each_other() {
        let addresses = [Addresses::free(), Addresses::free()];
        let peers: Vec<_> = addresses.iter().map(|node| node.peers.to_string()).collect();
        let line = arguments(Service::RedisReplicas { replicas: 1 }, 1, &addresses, Path::new("d")).join(" ");
        assert!(line.contains(&format!("--replicaof 127.0.0.1 {}", addresses[0].clients.port())), "{line}");
        for service in [Service::Quorate { nodes: 2 }, Service::Etcd { nodes: 2 }] {
            let line = arguments(service, 1, &addresses, Path::new("d")).join(" ");
            assert!(peers.iter().all(|peer| line.contains(peer)), "{line}");
            assert!(line.contains(&addresses[1].clients.to_string()), "{line}");
            assert!(!line.contains(&addresses[0].clients.to_string()), "{line}");
        }
        let alone = arguments(Service::Quorate { nodes: 1 }, 0, &addresses[..1], Path::new("d")).join(" ");
        assert!(!alone.contains("peer"), "{alone}");
    }
}
