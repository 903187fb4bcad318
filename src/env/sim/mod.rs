//! The simulated world: a whole cluster in one process, on one thread, decided by a seed.
//!
//! The server code is the real one; only its [`Env`] is another. Time is virtual and jumps over
//! idle stretches (`agenda`), the network is in-memory queues with weather (`net`), a disk is a
//! tree that knows what a power cut would leave of it (`disk`, `content`), and a crash stops every task of a
//! host at once (`host`). Nothing here asks the machine for anything, so the same seed gives the
//! same run, to the last event: [`World::trace_hash`] is there to be compared.
//!
//! ```text
//! sim::run(seed, async |world| {
//!     let env = world.node("n1");
//!     env.spawner.spawn(Box::pin(serve(env.clone()))).detach();
//!     world.crash("n1");
//!     let rebooted = world.node("n1"); // the same disk, minus what was not synced
//! });
//! ```
//!
//! # What the same seed does not cover
//!
//! tokio draws random numbers of its own: in `select!` without `biased`, and for the order in which a
//! `watch` channel wakes several receivers. It takes a seed only under `--cfg tokio_unstable`, which
//! [`run`] uses when it is set. Threads (`spawn_blocking`, `std::thread`) are outside of it all.

mod agenda;
mod content;
mod disk;
mod host;
mod net;
#[cfg(test)]
mod tests;
mod weather;

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

pub use agenda::Happening;
pub use disk::Struck;
pub use host::adopt;

use super::real::SeededRng;
use super::{Env, Exit, Rng};
use agenda::{Agenda, FNV_OFFSET, fnv};
use disk::{HostDisk, Platter};
use host::{Condition, Life, Member};
use net::{HostNet, Wires};

/// The wall clock of a world at its beginning: 2026-01-01.
const WALL_START_MS: i64 = 1_767_225_600_000;

/// Runs `scenario` in a world of its own, on a paused single-threaded runtime.
///
/// # Panics
/// When a simulated task panicked, which would have ended a real node.
pub fn run<T>(seed: u64, scenario: impl AsyncFnOnce(World) -> T) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.build().expect("a runtime without io needs nothing of the system");
    runtime.block_on(async {
        let world = World::new(seed);
        // What panicked ends with its host, and whoever waits for that host would do so for ever.
        let outcome = tokio::select! {
            biased;
            outcome = scenario(world.clone()) => Some(outcome),
            () = world.0.struck.notified() => None,
        };
        match (world.panicked(), outcome) {
            (None, Some(outcome)) => outcome,
            (panic, _) => panic!("seed {seed}: {}", panic.unwrap_or_default()),
        }
    })
}

/// One simulated world. Clones are the same world.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    seed: u64,
    agenda: Arc<Agenda>,
    wires: Arc<Wires>,
    /// For disk times.
    rng: SeededRng,
    hosts: Mutex<BTreeMap<Arc<str>, Host>>,
    /// Hosts whose monotonic clock does not go at the world's rate, in thousandths of it.
    rates: Mutex<BTreeMap<String, u32>>,
    /// Below which directory the hosts' LMDB files are, if they have real ones.
    lmdb: Mutex<Option<PathBuf>>,
    panicked: Mutex<Option<String>>,
    /// Rung by a panic.
    struck: Notify,
}

/// What of a host outlives its crashes.
struct Host {
    life: Arc<Life>,
    platter: Arc<Platter>,
    exited: Option<Exit>,
    wall_offset_ms: i64,
    disk_latency: (Duration, Duration),
}

/// Where a host's last connection through one [`Env`] was made from, as the other side sees it.
#[derive(Clone, Default)]
pub struct Caller(Arc<Mutex<String>>);

impl Caller {
    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.0.lock().expect("no holder panics").clone()
    }
}

impl World {
    /// A world without hosts. Must be called inside a paused `current_thread` runtime; [`run`]
    /// makes one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let agenda = Agenda::start();
        let wires = Wires::new(Arc::clone(&agenda), fnv(seed ^ FNV_OFFSET, b"network"));
        Self(Arc::new(Inner {
            seed,
            agenda,
            wires,
            rng: SeededRng::new(fnv(seed ^ FNV_OFFSET, b"disks")),
            hosts: Mutex::default(),
            rates: Mutex::default(),
            lmdb: Mutex::default(),
            panicked: Mutex::default(),
            struck: Notify::new(),
        }))
    }

    /// What a process on `host` has of the world. Switches the host on: for the first time, or
    /// again after a crash. Start nodes inside a task of this `Env`'s spawner: only there do they
    /// end with their host.
    #[must_use]
    pub fn node(&self, host: &str) -> Env {
        self.node_and_caller(host).0
    }

    fn node_and_caller(&self, host: &str) -> (Env, Caller) {
        let name: Arc<str> = host.into();
        let rate = self.0.rates.lock().expect("no holder panics").get(host).copied().unwrap_or(1_000);
        let lmdb = self.0.lmdb.lock().expect("no holder panics").as_ref().map(|root| root.join(host));
        let mut hosts = self.hosts();
        let state = hosts.entry(Arc::clone(&name)).or_insert_with(|| Host {
            life: Life::new(Arc::clone(&name), 0, self.0.seed, rate),
            platter: Platter::new(fnv(fnv(self.0.seed ^ FNV_OFFSET, b"platter"), host.as_bytes()), lmdb),
            exited: None,
            wall_offset_ms: 0,
            disk_latency: (Duration::from_micros(100), Duration::from_micros(400)),
        });
        if state.life.is_dead() {
            state.life = Life::new(Arc::clone(&name), state.life.number + 1, self.0.seed, rate);
            state.exited = None;
        }
        self.0.wires.host_up(&name);
        self.0.agenda.trace("node", host, state.life.number);
        let member = Member { world: self.clone(), life: Arc::clone(&state.life) };
        let caller = Caller::default();
        let env = Env {
            clock: Arc::new(member.clone()),
            rng: Arc::new(member.clone()),
            net: Arc::new(HostNet { member: member.clone(), caller: caller.clone() }),
            disk: Arc::new(HostDisk { member: member.clone(), platter: Arc::clone(&state.platter) }),
            spawner: Arc::new(member),
            observer: None,
        };
        (env, caller)
    }

    /// The host of those who are no node: `client`.
    #[must_use]
    pub fn client_env(&self) -> Env {
        self.node("client")
    }

    /// The same, and what tells where its connections come from.
    #[must_use]
    pub fn client_env_and_caller(&self) -> (Env, Caller) {
        self.node_and_caller("client")
    }

    /// The time since the world began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.agenda.now()
    }

    /// Power cut: every task of `host` stops, unsynced bytes and names are lost in part or whole,
    /// its connections are reset. Nothing happens to a host that is off.
    pub fn crash(&self, host: &str) {
        let life = self.hosts().get(host).map(|host| Arc::clone(&host.life));
        if let Some(life) = life {
            self.end(&life, None);
        }
    }

    /// Stops `host` between two instructions, as SIGSTOP does. Its kernel goes on taking bytes.
    ///
    /// # Panics
    /// When the host was never switched on.
    pub fn pause(&self, host: &str) {
        self.set_condition(host, Condition::Paused);
    }

    /// Ends a [`World::pause`].
    pub fn resume(&self, host: &str) {
        self.set_condition(host, Condition::Running);
    }

    /// Whether `host` is on.
    #[must_use]
    pub fn is_up(&self, host: &str) -> bool {
        self.hosts().get(host).is_some_and(|host| !host.life.is_dead())
    }

    /// Why the node on `host` stopped itself, if it did; until the host is switched on again.
    #[must_use]
    pub fn exited(&self, host: &str) -> Option<Exit> {
        self.hosts().get(host).and_then(|host| host.exited)
    }

    /// The first panic of a simulated task, if any: always a defect.
    #[must_use]
    pub fn panicked(&self) -> Option<String> {
        self.0.panicked.lock().expect("no holder panics").clone()
    }

    /// A hash over every event so far: deliveries and syncs with their bytes, crashes, tasks, and
    /// the time of each.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.0.agenda.hash()
    }

    /// Keeps every event from now on for [`World::take_trace`], to find where two runs part.
    pub fn keep_trace(&self) {
        self.0.agenda.keep_trace();
    }

    /// The events kept since the last call.
    #[must_use]
    pub fn take_trace(&self) -> Vec<Happening> {
        self.0.agenda.take_trace()
    }
}

/// Network faults.
impl World {
    /// How long a packet takes, except on links with a latency of their own.
    pub fn set_latency(&self, min: Duration, max: Duration) {
        self.0.wires.set_latency(min, max);
    }

    /// Gives the link `from` -> `to` a latency of its own (min, max), or takes it back.
    pub fn set_link_latency(&self, from: &str, to: &str, latency: Option<(Duration, Duration)>) {
        self.0.wires.set_link_latency(from, to, latency);
    }

    /// Lets the link `from` -> `to` carry so many bytes a second on each connection, or any number again.
    pub fn set_bandwidth(&self, from: &str, to: &str, rate: Option<u64>) {
        self.0.wires.set_bandwidth(from, to, rate);
    }

    /// The chance, 0 to 1, that a packet is lost. TCP sends it again: loss is delay.
    pub fn set_loss(&self, chance: f64) {
        self.0.wires.set_loss(chance);
    }

    /// How long connecting may take, and sent bytes may go unacknowledged, until `TimedOut`.
    pub fn set_tcp_patience(&self, patience: Duration) {
        self.0.wires.set_patience(patience);
    }

    /// Cuts one direction: nothing from `from` reaches `to`.
    pub fn cut(&self, from: &str, to: &str) {
        self.0.wires.cut(from, to);
        self.0.agenda.trace("cut", from, fnv(FNV_OFFSET, to.as_bytes()));
    }

    /// Cuts both directions between two hosts.
    pub fn partition(&self, a: &str, b: &str) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// Cuts `host` off from every other.
    pub fn isolate(&self, host: &str) {
        self.0.wires.isolate(host);
        self.0.agenda.trace("isolate", host, 0);
    }

    /// Mends the links between two hosts, both directions.
    pub fn heal_between(&self, a: &str, b: &str) {
        self.0.wires.heal(|from, to| (from, to) == (a, b) || (from, to) == (b, a), |_| false);
        self.0.agenda.trace("heal", a, fnv(FNV_OFFSET, b.as_bytes()));
    }

    /// Mends every cut link and ends every isolation. Latencies and loss stay as they are set.
    pub fn heal(&self) {
        self.0.wires.heal(|_, _| true, |_| true);
        self.0.agenda.trace("heal", "", 0);
    }
}

/// Faults of disks and clocks. All panic on a host that was never switched on.
impl World {
    /// How long a worker's round and blocking work take.
    pub fn set_disk_latency(&self, host: &str, min: Duration, max: Duration) {
        self.with_host(host, |host| host.disk_latency = (min, max));
    }

    /// Makes the `nth` sync from now (1 is the next), of a file or directory, fail with `EIO`. As on
    /// Linux, what it should have made durable is lost at the next crash even if later syncs succeed.
    pub fn fail_nth_sync(&self, host: &str, nth: u64) {
        self.with_host(host, |host| host.platter.fail_nth_sync(nth));
    }

    /// Crashes the host inside its `nth` change of the disk from now: right after the write or
    /// renaming, or before the sync. Stepping `nth` through an operation visits every state a power
    /// cut can leave it in. The change must be made by a task of the host, which is unwound.
    pub fn crash_at_disk_change(&self, host: &str, nth: u64) {
        self.with_host(host, |host| host.platter.cut_power_at_change(nth));
    }

    /// Takes back what [`World::fail_nth_sync`] and [`World::crash_at_disk_change`] have announced, on all hosts, and what has
    /// not happened yet.
    pub fn mend_disks(&self) {
        self.hosts().values().for_each(|host| host.platter.mend());
    }

    /// Puts an empty disk in the place of that of a host, which is off.
    pub fn replace_disk(&self, host: &str) {
        assert!(!self.is_up(host), "nobody takes the disk out of {host} while it runs");
        self.with_host(host, |host| host.platter.replace());
    }

    /// How many files of `host` were synced so far.
    #[must_use]
    pub fn syncs(&self, host: &str) -> u64 {
        self.with_host(host, |host| host.platter.syncs())
    }

    /// How often the disk failed `host` so far, through all its lives.
    #[must_use]
    pub fn disk_struck(&self, host: &str) -> Struck {
        self.with_host(host, |host| host.platter.struck())
    }

    /// Refuses everything that takes space, until taken back.
    pub fn disk_full(&self, host: &str, full: bool) {
        self.with_host(host, |host| host.platter.set_full(full));
    }

    /// The size of the disk; files take as much of it as they are long.
    pub fn set_disk_capacity(&self, host: &str, bytes: u64) {
        self.with_host(host, |host| host.platter.set_capacity(bytes));
    }

    /// Lets the monotonic clock of a host go at another rate, in thousandths, from its next start on. What it waits
    /// for by that clock follows; openraft's own timers do not.
    pub fn set_clock_rate(&self, host: &str, thousandths: u32) {
        self.0.rates.lock().expect("no holder panics").insert(host.to_owned(), thousandths);
    }

    /// Gives hosts that are new from now on real LMDB files, below `root`, instead of ordered maps. They have no faults
    /// of their own: a crash leaves what was last committed.
    pub fn use_lmdb(&self, root: &Path) {
        *self.0.lmdb.lock().expect("no holder panics") = Some(root.to_owned());
    }

    /// Sets the wall clock forward, or back.
    pub fn jump_wall_clock(&self, host: &str, by_ms: i64) {
        self.with_host(host, |host| host.wall_offset_ms += by_ms);
    }
}

/// What the parts of the world ask of it.
impl World {
    fn agenda(&self) -> &Arc<Agenda> {
        &self.0.agenda
    }

    fn wires(&self) -> &Arc<Wires> {
        &self.0.wires
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Host>> {
        self.0.hosts.lock().expect("no holder panics")
    }

    fn with_host<T>(&self, name: &str, action: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = self.hosts();
        let host = hosts.get_mut(name);
        let outcome = host.map(action);
        drop(hosts);
        outcome.unwrap_or_else(|| panic!("there is no host {name}"))
    }

    fn set_condition(&self, host: &str, condition: Condition) {
        let life = self.with_host(host, |host| Arc::clone(&host.life));
        if life.enter(condition) {
            self.0.agenda.trace("condition", host, condition as u64);
        }
    }

    /// Ends a life, unless it has ended before.
    fn end(&self, life: &Arc<Life>, reason: Option<Exit>) {
        if !life.enter(Condition::Dead) {
            return;
        }
        let platter = self.with_host(&life.host, |host| {
            host.exited = reason;
            Arc::clone(&host.platter)
        });
        self.0.agenda.trace("crash", &life.host, reason.map_or(0, |reason| reason as u64));
        self.0.wires.host_down(&life.host);
        platter.crash();
    }

    fn panicked_on(&self, life: &Arc<Life>, cause: &(dyn Any + Send)) {
        if life.is_dead() {
            return;
        }
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or(cause.downcast_ref::<&str>().copied()).unwrap_or("panicked");
        let mut panicked = self.0.panicked.lock().expect("no holder panics");
        panicked.get_or_insert_with(|| format!("{}: {text}", life.host));
        drop(panicked);
        self.0.struck.notify_one();
        self.end(life, None);
    }

    fn wall_ms(&self, host: &str) -> u64 {
        let offset = self.with_host(host, |host| host.wall_offset_ms);
        let since_start = i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX);
        u64::try_from(WALL_START_MS.saturating_add(since_start).saturating_add(offset)).unwrap_or(0)
    }

    /// Completes when `host`'s disk has done one thing.
    async fn disk_time(&self, host: &str) {
        let (min, max) = self.with_host(host, |host| host.disk_latency);
        self.0.agenda.sleep(between(&self.0.rng, min, max)).await;
    }
}

/// A time from `min` to `max`.
fn between(rng: &SeededRng, min: Duration, max: Duration) -> Duration {
    let range = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX);
    min + Duration::from_nanos(rng.next_u64() % range.saturating_add(1))
}

/// `true` with a chance of `likelihood`.
fn chance(rng: &SeededRng, likelihood: f64) -> bool {
    // The upper 53 bits, as a fraction of 1.
    let drawn = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    drawn < likelihood
}
