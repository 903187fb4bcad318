//! The leader's side of a write: groups in, log entries out.
//!
//! Whatever groups are waiting, of this node and of others, become one entry, stamped with the cluster's
//! time and a seed. At most [`IN_FLIGHT`] entries are on their way at once: more would only make each
//! smaller.
//!
//! A group's sender learns whether it must send again. It may be told so although the group was, or will be,
//! applied: the machine drops repeats.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{Notify, oneshot};

use super::clock::ClusterClock;
use crate::env::Env;
use crate::env::observer::Sight;
use crate::machine::entry;
use crate::metrics::Metrics;
use crate::raft::wire::Response;
use crate::raft::{Consensus, Fate, Role};

/// Entries proposed and not yet applied.
const IN_FLIGHT: usize = 2;
/// An entry takes no further group once it is this large.
const ENTRY_BYTES: usize = 1 << 20;
/// Groups that may wait; beyond, their senders are told to come again.
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// The queue of groups to propose.
pub struct Lead {
    env: Env,
    clock: Arc<ClusterClock>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    groups: Vec<Waiting>,
    bytes: usize,
    /// Somebody wants the cluster's clock to be in the log, with or without a group.
    tick: bool,
}

struct Waiting {
    group: Bytes,
    sender: oneshot::Sender<Response>,
}

impl Lead {
    #[must_use]
    pub fn new(env: Env, clock: Arc<ClusterClock>, metrics: Arc<Metrics>) -> Self {
        Self { env, clock, metrics, queue: Mutex::default(), filled: Notify::new() }
    }

    /// Queues a group, behind those queued before it. The answer is [`Response::Done`] once it is applied,
    /// else (also when the sender is dropped) it must be sent again.
    pub fn enqueue(&self, group: Bytes) -> oneshot::Receiver<Response> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.queue.lock().expect("no holder panics");
        if queue.bytes + group.len() <= QUEUE_BYTES_MAX {
            queue.bytes += group.len();
            queue.groups.push(Waiting { group, sender });
            self.filled.notify_one();
        }
        receiver
    }

    /// Puts the cluster's present time into the log.
    pub fn tick(&self) {
        self.queue.lock().expect("no holder panics").tick = true;
        self.filled.notify_one();
    }

    /// Proposes what is queued, for ever. Sets the clock to lead or to follow before anything is stamped:
    /// openraft may lead a moment before this hears of it, and what comes meanwhile is refused.
    pub async fn run(&self, consensus: Consensus) {
        let mut view = consensus.view();
        let mut kept = self.clock.kept();
        let mut in_flight = FuturesOrdered::new();
        loop {
            let elected = view.borrow_and_update().role == Role::Leader;
            // Without the time nothing can be stamped.
            let leads = elected && *kept.borrow_and_update();
            self.clock.set_leading(leads);
            tokio::select! {
                biased;
                Some((fate, senders)) = in_flight.next(), if !in_flight.is_empty() => {
                    self.answer(fate, senders);
                }
                changed = view.changed() => if changed.is_err() { return },
                Ok(()) = kept.changed() => {}
                () = self.filled.notified(), if !leads => {
                    while let Some((_, senders)) = self.next_entry() {
                        self.answer(Fate::NotProposed, senders);
                    }
                }
                () = self.filled.notified(), if in_flight.len() < IN_FLIGHT => {
                    while in_flight.len() < IN_FLIGHT
                        && let Some((body, senders)) = self.next_entry()
                    {
                        let fate = consensus.propose(body).await;
                        in_flight.push_back(async move { (fate.await, senders) });
                    }
                    if in_flight.len() == IN_FLIGHT {
                        // What is left is taken up when one of them ends.
                        self.filled.notify_one();
                    }
                }
            }
        }
    }

    /// An entry of what is queued, up to a limit.
    fn next_entry(&self) -> Option<(Bytes, Vec<oneshot::Sender<Response>>)> {
        let (groups, senders) = {
            let mut queue = self.queue.lock().expect("no holder panics");
            if queue.groups.is_empty() && !std::mem::take(&mut queue.tick) {
                return None;
            }
            queue.tick = false;
            let mut bytes = 0;
            let fitting = queue.groups.iter().take_while(|waiting| {
                let first = bytes == 0;
                bytes += waiting.group.len();
                first || bytes <= ENTRY_BYTES
            });
            let count = fitting.count();
            let taken = queue.groups.drain(..count).collect::<Vec<_>>();
            queue.bytes -= taken.iter().map(|waiting| waiting.group.len()).sum::<usize>();
            taken.into_iter().map(|waiting| (waiting.group, waiting.sender)).unzip::<_, _, Vec<_>, Vec<_>>()
        };
        let clock_ms = self.clock.now_ms();
        self.env.saw(|| Sight::Stamped { clock_ms });
        let body = entry::encode(clock_ms, self.env.clock.wall_ms(), self.env.rng.next_u64(), &groups);
        self.metrics.recorded.entry_bytes.record(body.len() as f64);
        Some((body, senders))
    }

    fn answer(&self, fate: Fate, senders: Vec<oneshot::Sender<Response>>) {
        let response = match fate {
            Fate::Applied => Response::Done,
            Fate::NotProposed => Response::Refused { reason: "not the leader".into() },
            Fate::Unknown => Response::Refused { reason: "no longer the leader".into() },
        };
        if fate != Fate::Applied {
            self.metrics.recorded.proposals_failed.increment(1);
        }
        for sender in senders {
            // The asker's link may be gone.
            drop(sender.send(response.clone()));
        }
    }
}
