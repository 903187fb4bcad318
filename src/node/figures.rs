//! What a node remembers only for those who ask how it does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::host::port;
use crate::commands::server::{LatencyMonitor, SlowLog};
use crate::config::{Config, Settings};
use crate::env::Env;
use crate::metrics::Process;
use crate::store::Store;

/// Error codes counted one by one; more are counted as one, as a client may make them up.
const ERROR_CODES_MAX: usize = 128;
/// How long a reading of the data's size is good for.
const MEMORY_AGE: Duration = Duration::from_millis(100);

/// What is remembered.
pub struct Figures {
    pub(super) env: Env,
    pub(super) started: Duration,
    pub(super) run_id: String,
    pub(super) port: u16,
    /// What the node was started with.
    pub(super) config: Config,
    pub(super) startup_bytes: u64,
    pub(super) errors: Mutex<BTreeMap<String, u64>>,
    pub(super) slow_log: SlowLog,
    pub latency: Arc<LatencyMonitor>,
    pub(super) last_look: Mutex<Look>,
    /// By the wall clock; 0 before the first since the start.
    pub last_checkpoint_ms: Arc<AtomicU64>,
    /// The size of the data, and when it was read (both 0 before the first time).
    pub(super) memory_bytes: AtomicU64,
    pub(super) memory_read_ms: AtomicU64,
}

/// Counters at one moment. INFO's rates are those since the INFO before it.
#[derive(Clone, Copy, Default)]
pub(super) struct Look {
    at: Duration,
    commands: u64,
    input_bytes: u64,
    output_bytes: u64,
    pub rates: Rates,
}

/// Of late, each second.
#[derive(Clone, Copy, Default)]
pub(super) struct Rates {
    pub commands: u64,
    pub input_kib: f64,
    pub output_kib: f64,
}

impl Look {
    /// A look at `at`. Too soon after the one before it changes nothing: of so little time no rate can be told.
    pub fn again(self, at: Duration, commands: u64, input_bytes: u64, output_bytes: u64) -> Self {
        let seconds = at.saturating_sub(self.at).as_secs_f64();
        if seconds < 0.1 {
            return self;
        }
        // CONFIG RESETSTAT may have come between.
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let rates = Rates {
            commands: rate(commands, self.commands).round() as u64,
            input_kib: rate(input_bytes, self.input_bytes) / 1024.0,
            output_kib: rate(output_bytes, self.output_bytes) / 1024.0,
        };
        Self { at, commands, input_bytes, output_bytes, rates }
    }
}

impl Figures {
    pub fn new(env: &Env, config: &Config, client_address: &str) -> Self {
        let run_id = (0..3).map(|_| format!("{:016x}", env.rng.next_u64())).collect::<String>();
        Self {
            env: env.clone(),
            started: env.clock.monotonic(),
            run_id: run_id[..40].to_owned(),
            port: port(client_address),
            config: config.clone(),
            startup_bytes: Process::read().resident_bytes,
            errors: Mutex::default(),
            slow_log: SlowLog::default(),
            latency: Arc::default(),
            last_look: Mutex::new(Look { at: env.clock.monotonic(), ..Look::default() }),
            last_checkpoint_ms: Arc::default(),
            memory_bytes: AtomicU64::new(0),
            memory_read_ms: AtomicU64::new(0),
        }
    }

    /// The path of the file of options, empty without one.
    pub fn config_file(&self) -> String {
        let file = self
            .config
            .file
            .as_deref()
            .map(|file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
        file.map_or_else(String::new, |file| file.display().to_string())
    }

    /// Errors of a code were answered.
    pub fn count_errors(&self, code: &str, count: u64) {
        let mut errors = self.errors.lock().expect("no holder panics");
        if count > 0 && (errors.len() < ERROR_CODES_MAX || errors.contains_key(code)) {
            *errors.entry(code.to_owned()).or_default() += count;
        }
    }

    /// Whether the data is larger than it may be. Looked up now and then only: the database has to be asked.
    pub fn over_memory_limit(&self, settings: &Settings, store: &Store) -> bool {
        let Some(limit) = settings.memory_bytes_max() else { return false };
        let now = self.env.clock.monotonic().as_millis() as u64;
        let read = self.memory_read_ms.load(Ordering::Relaxed);
        if read == 0 || now.saturating_sub(read) > MEMORY_AGE.as_millis() as u64 {
            self.memory_bytes.store(data_bytes(store), Ordering::Relaxed);
            self.memory_read_ms.store(now.max(1), Ordering::Relaxed);
        }
        self.memory_bytes.load(Ordering::Relaxed) > limit
    }
}

/// The size of the data: the database's pages in use, and what is not in it yet. The process' own memory says
/// nothing of it, since the system counts the pages of the database that it happens to keep.
pub(super) fn data_bytes(store: &Store) -> u64 {
    let stats = store.stats().unwrap_or_default();
    stats.used_bytes + stats.active_bytes + stats.frozen_bytes
}
