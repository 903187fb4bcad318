//! Quorate judged from outside, as its users meet it: real processes, real sockets, real `kill -9`.
//!
//! Two kinds of test live here. *Cases* ([`case`], [`runner`]) are transcripts whose replies were recorded
//! from redis-server and must come out of Quorate byte for byte; the same file runs against the oracle, one
//! node and a cluster. *Process tests* (`tests/`) start [`cluster`]s and take them apart. What cannot be seen
//! from a socket, a log line or an exit code is not promised to anybody: so nothing here links the server, but for the judges of
//! histories ([`traffic`]), which know nothing of it.

pub mod bystander;
pub mod campaigns;
pub mod case;
pub mod client;
pub mod cluster;
pub mod dice;
pub mod lab;
pub mod oracle;
pub mod program;
pub mod reply;
pub mod runner;
pub mod suite;
pub mod traffic;
pub mod workload;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a polling loop looks.
pub const POLL: Duration = Duration::from_millis(10);

/// The right to start processes. Tests of one binary run side by side; on a machine with two cores, clusters
/// in each other's way would measure nothing.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed has cleaned up after itself.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks again and again until `look` finds something; an error that names `what` when the time is up.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {patience:?} in vain for {what}");
        }
        std::thread::sleep(POLL);
    }
}

/// Loopback ports `base, base + 1, ...` that nobody listens on. They lie below the range from which the
/// kernel takes the ports of outgoing connections, so that none of those takes one while its node is down.
#[must_use]
pub fn free_ports<const N: usize>() -> [SocketAddr; N] {
    const FIRST: u16 = 10_000;
    const LAST: u16 = 31_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    if NEXT.load(Ordering::Relaxed) == 0 {
        // Test binaries may run at the same time: each starts somewhere else.
        let spread = std::process::id() % u32::from((LAST - FIRST) / 50);
        let _ = NEXT.compare_exchange(
            0,
            FIRST + 50 * u16::try_from(spread).expect("the remainder is small"),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
    let step = u16::try_from(N).expect("a handful of ports");
    for _ in 0..2_000 {
        let base = NEXT.fetch_add(step, Ordering::Relaxed);
        if base + step > LAST {
            NEXT.store(FIRST, Ordering::Relaxed);
            continue;
        }
        let addresses: [SocketAddr; N] = std::array::from_fn(|i| {
            SocketAddr::from((Ipv4Addr::LOCALHOST, base + u16::try_from(i).expect("a handful of ports")))
        });
        if addresses.iter().all(|address| TcpListener::bind(address).is_ok()) {
            return addresses;
        }
    }
    panic!("no {N} free ports in a row between {FIRST} and {LAST}");
}
