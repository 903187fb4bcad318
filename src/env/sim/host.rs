//! One life of one host: its tasks and workers, and how they end.
//!
//! A process that dies stops between two instructions. A task cannot be stopped that way, but it
//! can be kept from ever being polled again, which is the same to everybody who watches. So every
//! task runs inside a [`Gated`]: it asks, before each poll, whether its host still lives and is not
//! paused. A crash drops the task's future at its next turn; what its destructors do meanwhile
//! meets a network and a disk that no longer listen to this life.
//!
//! Tasks that a library starts with `tokio::spawn` do not pass here. They survive a crash as
//! ghosts: they see no more bytes, get errors from the disk, and end when the channels to the tasks
//! that were dropped close. [`adopt`] makes such a task a real member of the host.

#![allow(clippy::disallowed_methods)] // The one place that spawns simulated tasks.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::World;
use super::agenda::{FNV_OFFSET, fnv};
use crate::env::real::SeededRng;
use crate::env::{BoxFuture, Clock, Exit, Rng, Round, Spawner, TaskHandle, Wake, WorkerHandle};

/// What unwinds a simulated task whose host stopped under it. Nobody reports it: it is what
/// `std::process::exit` is to a process.
struct Stopped;

/// A host from power-on to crash.
pub(super) struct Life {
    pub(super) host: Arc<str>,
    /// How many lives the host had before this one.
    pub(super) number: u64,
    /// Where this life's monotonic clock began: another value for each, so that a monotonic time
    /// which leaves its node is noticed.
    clock_start: Duration,
    /// How fast that clock goes, in thousandths.
    rate: u32,
    pub(super) rng: SeededRng,
    state: Mutex<State>,
}

struct State {
    condition: Condition,
    /// The newest waker of each task, by task number.
    wakers: BTreeMap<u64, Waker>,
    tasks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Running,
    Paused,
    Dead,
}

impl Life {
    pub(super) fn new(host: Arc<str>, number: u64, seed: u64, rate: u32) -> Arc<Self> {
        let seed = fnv(fnv(seed ^ FNV_OFFSET, host.as_bytes()), &number.to_le_bytes());
        let rng = SeededRng::new(seed);
        let clock_start = Duration::from_micros(rng.next_u64() % 1_000_000_000_000);
        let state = State { condition: Condition::Running, wakers: BTreeMap::new(), tasks: 0 };
        Arc::new(Self { host, number, clock_start, rate, rng, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().condition == Condition::Dead
    }

    /// Changes the condition unless the host is dead, for death is final, and lets every task
    /// notice. Says whether anything changed.
    pub(super) fn enter(&self, condition: Condition) -> bool {
        let mut state = self.state();
        if state.condition == condition || state.condition == Condition::Dead {
            return false;
        }
        state.condition = condition;
        let wakers: Vec<Waker> = state.wakers.values().cloned().collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }
}

tokio::task_local! {
    static HOST: Member;
}

/// A life, and the world it is lived in: what everything of an [`Env`](crate::env::Env) holds.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) world: World,
    pub(super) life: Arc<Life>,
}

impl Member {
    /// Crashes the host from the inside; the caller never runs on.
    pub(super) fn stop(&self, reason: Option<Exit>) -> ! {
        self.world.end(&self.life, reason);
        panic::resume_unwind(Box::new(Stopped))
    }

    /// Never completes on a dead host, where a ghost must not run on.
    pub(super) async fn alive(&self) {
        if self.life.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let gated = Gated::new(self.clone(), task);
        self.world.agenda().trace("spawn", &self.life.host, gated.number);
        TaskHandle::new(
            tokio::spawn(async {
                gated.await;
            })
            .abort_handle(),
        )
    }
}

/// Makes `future` part of the host whose task calls this: it ends and pauses with the host, and so
/// does what it spawns through `adopt`. Outside of a simulated task it changes nothing.
///
/// For an asynchronous library that spawns by itself but lets one say how.
pub fn adopt<F>(future: F) -> impl Future<Output = F::Output>
where
    F: Future,
{
    let member = HOST.try_with(Member::clone).ok();
    async move {
        match member {
            None => future.await,
            Some(member) => match Gated::new(member, future).await {
                Some(output) => output,
                None => std::future::pending().await,
            },
        }
    }
}

/// A task that is polled only while its host runs. Gives `None`, the task dropped, once the host is
/// dead.
struct Gated<F> {
    member: Member,
    number: u64,
    task: Option<Pin<Box<F>>>,
}

impl<F: Future> Gated<F> {
    fn new(member: Member, task: F) -> Self {
        let number = {
            let mut state = member.life.state();
            state.tasks += 1;
            state.tasks
        };
        Self { member, number, task: Some(Box::pin(task)) }
    }
}

impl<F: Future> Future for Gated<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let condition = {
            let mut state = this.member.life.state();
            let waker = state.wakers.entry(this.number).or_insert_with(|| context.waker().clone());
            waker.clone_from(context.waker());
            state.condition
        };
        let Some(task) = &mut this.task else { return Poll::Ready(None) };
        match condition {
            Condition::Paused => Poll::Pending,
            Condition::Dead => {
                this.task = None;
                Poll::Ready(None)
            }
            Condition::Running => {
                let poll = AssertUnwindSafe(|| task.as_mut().poll(context));
                match HOST.sync_scope(this.member.clone(), || panic::catch_unwind(poll)) {
                    Ok(polled) => polled.map(Some),
                    Err(cause) => {
                        this.task = None;
                        if !cause.is::<Stopped>() {
                            // A real node aborts on a panic.
                            this.member.world.panicked_on(&this.member.life, cause.as_ref());
                        }
                        Poll::Ready(None)
                    }
                }
            }
        }
    }
}

impl<F> Drop for Gated<F> {
    fn drop(&mut self) {
        let waker = self.member.life.state().wakers.remove(&self.number);
        drop(waker);
    }
}

impl Clock for Member {
    fn monotonic(&self) -> Duration {
        self.life.clock_start + self.world.agenda().now() * self.life.rate / 1_000
    }

    fn wall_ms(&self) -> u64 {
        self.world.wall_ms(&self.life.host)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let duration = match self.life.rate {
            1_000 => duration,
            // Never early by this clock: who waits for the rest of a moment would wait for nothing, for ever.
            rate => (duration.saturating_mul(1_000) / rate).saturating_add(Duration::from_nanos(2)),
        };
        let slept = self.world.agenda().sleep(duration);
        let member = self.clone();
        Box::pin(async move {
            slept.await;
            member.alive().await;
        })
    }

    fn sleep_precise(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep(duration)
    }
}

impl Rng for Member {
    fn next_u64(&self) -> u64 {
        self.life.rng.next_u64()
    }
}

impl Spawner for Member {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.spawn(task)
    }

    /// Each round first waits as long as the disk takes: what is queued during the wait is still
    /// part of the round, and what the round reports durable is reported at its end.
    fn worker(&self, _name: &str, mut round: Box<dyn FnMut() -> Round + Send>) -> WorkerHandle {
        let bell = Arc::new(Bell::default());
        let heard = Arc::clone(&bell);
        let member = self.clone();
        let task = async move {
            while heard.wait().await {
                member.world.disk_time(&member.life.host).await;
                if round() == Round::End {
                    break;
                }
            }
        };
        self.spawn(task).detach();
        WorkerHandle(Arc::new(BellRope(bell)))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (done, finished) = oneshot::channel();
        let member = self.clone();
        let task = async move {
            member.world.disk_time(&member.life.host).await;
            work();
            // Nobody may be waiting any more.
            let _ = done.send(());
        };
        self.spawn(task).detach();
        let member = self.clone();
        Box::pin(async move {
            if finished.await.is_err() {
                member.alive().await;
            }
        })
    }

    /// Crashes the host, then unwinds the caller with a payload that only [`Gated`] knows. Code that
    /// catches every panic would survive its own exit; it must not, and on a dead host can do no
    /// harm.
    fn exit(&self, reason: Exit) -> ! {
        self.stop(Some(reason))
    }
}

/// Wakes a worker. Wakes before the worker looks are remembered as one.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    closed: AtomicBool,
    changed: Notify,
}

impl Bell {
    /// Waits for a ring; `false` once there is nobody left to ring.
    async fn wait(&self) -> bool {
        loop {
            if self.rung.swap(false, Ordering::Relaxed) {
                return true;
            }
            if self.closed.load(Ordering::Relaxed) {
                return false;
            }
            self.changed.notified().await;
        }
    }
}

/// The ringing end; closes the bell when the last clone goes.
struct BellRope(Arc<Bell>);

impl Wake for BellRope {
    fn wake(&self) {
        self.0.rung.store(true, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

impl Drop for BellRope {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}
