//! Clusters of real `quorate` processes, and what can happen to a process.
//!
//! Everything a cluster leaves on the machine (processes, ports, data, logs) ends with its value. When a test
//! fails, the ends of the logs are printed: they are the only witness.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Connection, http_get, info};
use crate::{free_ports, wait_for};

/// How long a node may take to become ready, a cluster to have a leader, a process to end.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How much of a log is printed when a test fails.
const LOG_TAIL_BYTES: u64 = 6_000;

/// The nodes of one cluster, running or not.
pub struct Cluster {
    pub nodes: Vec<Node>,
    directory: TempDir,
}

impl Cluster {
    /// One node without peers, ready.
    pub fn single() -> Result<Self> {
        Self::start(1)
    }

    /// `size` nodes, all of them ready.
    pub fn start(size: usize) -> Result<Self> {
        let mut cluster = Self::prepare(size)?;
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Addresses and empty directories, nothing running.
    pub fn prepare(size: usize) -> Result<Self> {
        let directory = TempDir::with_prefix("quorate-test-")?;
        let mut nodes: Vec<_> = (0..size).map(|i| Node::new(directory.path(), i)).collect();
        if size > 1 {
            let peers: Vec<_> = nodes.iter().map(|node| node.peer.to_string()).collect();
            for node in &mut nodes {
                node.peers.clone_from(&peers);
            }
        }
        Ok(Self { nodes, directory })
    }

    /// Where to put files that should go away with the cluster.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the nodes that are down, then waits for all.
    pub fn start_all(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.start()?;
            }
        }
        self.nodes.iter_mut().try_for_each(Node::wait_ready)
    }

    /// The node that all running nodes have agreed on, waited for.
    pub fn leader(&self) -> Result<usize> {
        wait_for("a leader", PATIENCE, || {
            let mut leaders = (0..self.nodes.len()).filter(|&i| self.nodes[i].is_leader());
            Ok(leaders.next().filter(|_| leaders.next().is_none()))
        })
    }

    /// A running node that does not lead.
    pub fn follower(&self) -> Result<usize> {
        let leader = self.leader()?;
        (0..self.nodes.len())
            .find(|&i| i != leader && self.nodes[i].child.is_some())
            .context("no node that could follow is running")
    }

    /// Where clients connect, one for each node.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.listen).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
            if std::thread::panicking() || is_output_captured() {
                let tail = node.log_tail().unwrap_or_else(|error| error.to_string());
                eprintln!("--- the end of {}\n{tail}", node.log.display());
            }
        }
    }
}

/// Whether what a test prints is shown only if it fails. A test that returns an error is not yet known to
/// have failed when its cluster ends, so the logs are printed always, if that is kept from those who did not
/// ask.
fn is_output_captured() -> bool {
    !std::env::args().any(|argument| argument == "--nocapture" || argument == "--no-capture")
}

/// A node: its addresses, its directory, and its process if it runs.
pub struct Node {
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub peer: SocketAddr,
    pub peers: Vec<String>,
    pub data: PathBuf,
    pub log: PathBuf,
    /// Further arguments: `["--buffer-bytes", "1mb"]`.
    pub options: Vec<String>,
    /// What the command line begins with, if not with `quorate`. It must become that process, not start it.
    pub launcher: Vec<String>,
    /// Variables it is started with.
    pub variables: Vec<(String, String)>,
    child: Option<Child>,
}

impl Node {
    fn new(directory: &Path, number: usize) -> Self {
        let [listen, http, peer] = free_ports();
        Self {
            listen,
            http,
            peer,
            peers: Vec::new(),
            data: directory.join(format!("node-{number}")),
            log: directory.join(format!("node-{number}.log")),
            options: Vec::new(),
            launcher: Vec::new(),
            variables: Vec::new(),
            child: None,
        }
    }

    /// The arguments of `quorate` for this node.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["serve".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--data", self.data.display().to_string());
        option("--listen", self.listen.to_string());
        option("--http-listen", self.http.to_string());
        option("--enable-debug-command", "yes".to_owned());
        if !self.peers.is_empty() {
            option("--peer-listen", self.peer.to_string());
            option("--peers", self.peers.join(","));
        }
        arguments.extend_from_slice(&self.options);
        arguments
    }

    /// Starts the process, waits for nothing.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&self.arguments(), &[])
    }

    /// Starts the process with arguments and variables that should come to the same.
    pub fn start_with(&mut self, arguments: &[String], variables: &[(&str, &str)]) -> Result<()> {
        ensure!(!self.is_running(), "the node on {} is running", self.listen);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = command(&self.launcher, arguments, variables)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| binary().display().to_string())?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the node says that it can serve, or reports how it ended instead.
    pub fn wait_ready(&mut self) -> Result<()> {
        wait_for(&format!("the node on {} to be ready", self.listen), PATIENCE, || {
            if let Some(status) = self.exit_status()? {
                bail!("the node on {} ended with {status}:\n{}", self.listen, self.log_tail()?);
            }
            Ok(http_get(self.http, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(()))
        })
    }

    /// Starts the process again and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        self.start()?;
        self.wait_ready()
    }

    /// A new connection to it.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.listen).with_context(|| format!("connecting to {}", self.listen))
    }

    /// Whether it thinks that it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.child.is_some()
            && info(self.listen, "replication", "role").is_ok_and(|role| role.as_deref() == Some("master"))
    }

    /// Whether there is a process.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && matches!(self.exit_status(), Ok(None))
    }

    /// How the process ended, if it did.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), |child| Ok(child.try_wait()?))
    }

    /// `kill -9`, whatever state it is in.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit()
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self) -> Result<ExitStatus> {
        let status = wait_for("the process to end", PATIENCE, || self.exit_status())?;
        self.child = None;
        Ok(status)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(self.child.as_ref().context("no process")?), signal)?)
    }

    /// A figure of /proc/PID/status in bytes: `VmRSS` (all), `RssAnon` (without mapped files).
    pub fn memory_bytes(&self, name: &str) -> Result<u64> {
        let child = self.child.as_ref().context("no process")?;
        memory_bytes(child.id(), name)
    }

    /// The processor time it has used.
    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.pid().context("no process")?)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Everything that it logged.
    pub fn log_text(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// The end of what it logged.
    pub fn log_tail(&self) -> Result<String> {
        let mut file = File::open(&self.log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A figure of /proc/PID/status in bytes.
pub fn memory_bytes(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("{name} of process {pid}"))? * 1024)
}

/// The processor time a process has used, from /proc/PID/stat.
pub fn processor_time(pid: u32) -> Result<Duration> {
    /// The unit of the figures there, for every Linux there is.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which stands in parentheses: user time is the 12th field, system time the 13th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// Runs `quorate` with these arguments and variables to its end, which must come soon: its status, and all it
/// said.
pub fn run(arguments: &[String], variables: &[(&str, &str)]) -> Result<(ExitStatus, String)> {
    let mut output = tempfile::tempfile()?;
    let mut child = command(&[], arguments, variables)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    let ended = wait_for("the process to end", PATIENCE, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let mut text = String::new();
    output.seek(SeekFrom::Start(0))?;
    output.read_to_string(&mut text)?;
    Ok((ended.with_context(|| format!("it ran on, and said:\n{text}"))?, text))
}

/// `quorate` behind what launches it, with no options but these: it reads `QUORATE_*` variables, and ours are none of its business.
fn command(launcher: &[String], arguments: &[String], variables: &[(&str, &str)]) -> Command {
    let mut command = match launcher {
        [] => Command::new(binary()),
        [program, its @ ..] => {
            let mut command = Command::new(program);
            command.args(its).arg(binary());
            command
        }
    };
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"QUORATE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied());
    command
}

/// The binary under test: `QUORATE_BIN`, or the one beside the running program, built first if it is missing or
/// older than its sources.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("QUORATE_BIN") {
        Some(path) => path.into(),
        None => binary_beside().expect("the binary under test"),
    })
}

fn binary_beside() -> Result<PathBuf> {
    // target/PROFILE/deps/test-0123456789abcdef, or target/PROFILE/prove
    let ours = std::env::current_exe()?;
    let mut directories = ours.ancestors().skip(1).filter(|directory| !directory.ends_with("deps"));
    let profile = directories.next().context("a program lives in target/PROFILE")?;
    let target = directories.next().context("a profile's directory lives in target")?;
    let path = profile.join("quorate");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
    if built.is_none_or(|built| newest(&sources.join("src")).is_some_and(|changed| changed > built)) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "quorate", "--target-dir"]).arg(target).current_dir(sources);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        ensure!(cargo.status()?.success(), "cargo build -p quorate failed");
    }
    Ok(path)
}

/// When the newest file below a directory was changed.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?;
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            if path.is_dir() { newest(&path) } else { fs::metadata(&path).ok()?.modified().ok() }
        })
        .max()
}
