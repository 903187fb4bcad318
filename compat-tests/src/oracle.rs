//! The oracle: a redis-server of our own, nothing on its disk.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::client::{ask, info};
use crate::{free_ports, wait_for};

/// The version whose replies are Quorate's law.
pub const VERSION: &str = "7.0.15";

/// A running redis-server; ends with this value.
pub struct Oracle {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

/// One of the programs that come with it, in the same version: redis-cli, redis-benchmark.
pub fn program(name: &str) -> Result<Command> {
    let told = Command::new(name).arg("--version").output();
    let told = told.with_context(|| format!("{name} {VERSION} is missing: apt-get install redis-tools"))?;
    let told = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    ensure!(told == format!("{name} {VERSION}"), "{name} is to be that of Redis {VERSION}, and is {told:?}");
    Ok(Command::new(name))
}

impl Oracle {
    /// Starts it. Fails, saying how to install it, when there is none: cases that nobody vouches for are
    /// worth nothing.
    pub fn start() -> Result<Self> {
        Self::start_with(&[["--appendonly", "no"]])
    }

    /// One that keeps the promise a lone Quorate node keeps: `OK` means on disk.
    pub fn start_durable() -> Result<Self> {
        Self::start_with(&[["--appendonly", "yes"], ["--appendfsync", "always"]])
    }

    /// One that is a cluster by itself, with all slots.
    pub fn start_as_cluster() -> Result<Self> {
        let oracle = Self::start_with(&[["--cluster-enabled", "yes"]])?;
        ask(oracle.address, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
        wait_for("redis-server's cluster", Duration::from_secs(10), || {
            let told = ask(oracle.address, &["CLUSTER", "INFO"])?;
            let told = String::from_utf8_lossy(told.text().unwrap_or_default()).into_owned();
            Ok(told.contains("cluster_state:ok").then_some(()))
        })?;
        Ok(oracle)
    }

    fn start_with(further: &[[&str; 2]]) -> Result<Self> {
        let directory = TempDir::with_prefix("quorate-oracle-")?;
        let [address] = free_ports();
        let port = address.port().to_string();
        let options =
            [["--bind", "127.0.0.1"], ["--port", &port], ["--save", ""], ["--enable-debug-command", "yes"]];
        let child = Command::new("redis-server")
            .args(options.as_flattened())
            .args(further.as_flattened())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("redis-server {VERSION} is the oracle: apt-get install redis-server"))?;
        let oracle = Self { child, address, _directory: directory };
        wait_for("redis-server to answer", Duration::from_secs(10), || Ok(ask(address, &["PING"]).ok()))?;
        let version = info(address, "server", "redis_version")?;
        ensure!(
            version.as_deref() == Some(VERSION),
            "the cases are recorded from redis-server {VERSION}, and this is {version:?}"
        );
        Ok(oracle)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
