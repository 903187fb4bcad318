//! What a node opens on its disk when it starts, and why it cannot.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::LOG_CACHE_BYTES;
use super::figures::Figures;
use crate::commands::server::LatencyEvent;
use crate::config::{Config, Settings};
use crate::env::observer::Sight;
use crate::env::{DirLock, Env, Exit};
use crate::error::StoreError;
use crate::metrics::Metrics;
use crate::raft;
use crate::raft::log::{self, Wal};

/// Why a node cannot start. The message is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory {0} is in use by another process")]
    InUse(String),
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
    #[error(transparent)]
    Log(#[from] log::OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(String),
}

impl StartError {
    /// What the process should end with, if it should tell its supervisor that a disk has failed: the same as later.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Log(_) => Some(Exit::LogFailed),
            Self::Store(_) => Some(Exit::StoreFailed),
            Self::Io { error, .. } => (error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()))
                .then_some(Exit::StoreFailed),
            Self::InUse(_) | Self::Refused(_) => None,
        }
    }
}

/// Names what an I/O error happened to.
pub(crate) fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    |error| StartError::Io { what: what.into(), error }
}

/// Takes the data directory for this process alone.
pub fn take_lock(env: &Env, data: &Path) -> Result<Box<dyn DirLock>, StartError> {
    env.disk.lock(&data.join("LOCK")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StartError::InUse(data.display().to_string()),
        _ => StartError::Io { what: format!("cannot lock {}", data.display()), error },
    })
}

/// Removes what a crash left of snapshots being sent or received.
pub fn clear(env: &Env, scratch: &Path) -> Result<(), StartError> {
    if env.disk.exists(scratch) {
        env.disk.remove(scratch).map_err(doing(format!("cannot remove {}", scratch.display())))?;
    }
    Ok(())
}

/// Tells LATENCY of syncs of the log that take long.
pub fn slow_syncs(
    env: &Env,
    settings: &Arc<Settings>,
    figures: &Figures,
) -> impl Fn(Duration) + Send + Sync + 'static {
    let (clock, settings) = (Arc::clone(&env.clock), Arc::clone(settings));
    let latency = Arc::clone(&figures.latency);
    move |took| {
        if settings.latency_threshold().is_some_and(|threshold| took >= threshold) {
            latency.record(LatencyEvent::Sync, clock.wall_ms(), took);
        }
    }
}

/// Opens the log; `on_sync` is told how long each durable write took.
pub fn open_log(
    env: &Env,
    config: &Config,
    metrics: &Arc<Metrics>,
    on_sync: impl Fn(Duration) + Send + Sync + 'static,
) -> Result<Wal, StartError> {
    let mut options = log::Options::new(config.data.join("wal"));
    options.segment_bytes = config.wal_segment_bytes;
    options.cache_bytes_max = LOG_CACHE_BYTES;
    let observing = env.clone();
    let (spawner, synced) = (Arc::clone(&env.spawner), Arc::clone(metrics));
    let hooks = log::Hooks {
        on_failure: Box::new(move |error| {
            tracing::error!(%error, "the log cannot be written");
            spawner.exit(Exit::LogFailed)
        }),
        on_durable: Box::new(move |state| observing.saw(|| Sight::Synced(raft::extent(state)))),
        on_sync: Box::new(move |sync| {
            let figures = &synced.recorded;
            figures.wal_fsync_seconds.record(sync.sync);
            on_sync(sync.sync);
            figures.wal_write_bytes.increment(sync.bytes);
            figures.wal_sync_entries.record(sync.entries as f64);
        }),
    };
    let (wal, recovered) = Wal::open(env, &options, hooks)?;
    if recovered.dropped_tail_bytes > 0 {
        tracing::warn!(
            bytes = recovered.dropped_tail_bytes,
            "dropped the torn end of the log, which nobody was told is durable"
        );
    }
    Ok(wal)
}
