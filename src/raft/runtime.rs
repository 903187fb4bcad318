//! openraft's runtime: tokio, with chance from a seed and every task part of its host.
//!
//! openraft starts tasks by itself. In a simulated world they have to end and to pause with the host whose
//! node started them, like all its other tasks; on a real machine this is tokio and nothing else.

#![allow(clippy::disallowed_methods)] // openraft's own timers; in a simulated run tokio's clock is simulated.

use std::time::Duration;

use openraft::{OptionalSend, TokioRuntime};
use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;

/// What openraft runs on. Chance comes from a seed handed down from task to task (see `super::seeded`), so
/// that a simulated cluster elects the same leaders every time.
pub type Runtime = DeterministicRng<Hosted>;

/// tokio, whose tasks belong to the host they are started on.
#[derive(Debug)]
pub struct Hosted(TokioRuntime);

impl AsyncRuntime for Hosted {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, F: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, F>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<F>(task: F) -> Self::JoinHandle<F::Output>
    where
        F: Future + OptionalSend + 'static,
        F::Output: OptionalSend + 'static,
    {
        #[cfg(any(test, feature = "sim"))]
        let task = crate::env::sim::adopt(task);
        TokioRuntime::spawn(task)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
