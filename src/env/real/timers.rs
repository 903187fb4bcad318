//! Timers finer than a millisecond, which is as fine as tokio's are: the system's own, kept from one wait to the next.
//! Making one, making it known to the runtime, and taking both back costs as much as reading from a socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// As many are kept while nobody waits.
const IDLE_MAX: usize = 8;

/// Those that nobody waits for. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Timers(Arc<Mutex<Vec<AsyncFd<OwnedFd>>>>);

impl Timers {
    /// Waits for `duration`.
    ///
    /// # Errors
    /// When the system gives no timer: it is out of descriptors.
    pub async fn wait(&self, duration: Duration) -> io::Result<()> {
        let timer = Borrowed { timer: Some(self.idle_or_new()?), from: self };
        set(timer.get(), duration.max(Duration::from_nanos(1)))?;
        loop {
            // One that had run out before it was set anew is still said to be readable, and is not.
            let mut readable = timer.get().readable().await?;
            match readable.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<AsyncFd<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that do not own themselves as this one does"
    )]
    fn idle_or_new(&self) -> io::Result<AsyncFd<OwnedFd>> {
        if let Some(timer) = self.idle().pop() {
            return Ok(timer);
        }
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        AsyncFd::with_interest(timer, Interest::READABLE)
    }
}

/// One that somebody waits for, and gives back.
struct Borrowed<'a> {
    /// Until it is given back.
    timer: Option<AsyncFd<OwnedFd>>,
    from: &'a Timers,
}

impl Borrowed<'_> {
    const fn get(&self) -> &AsyncFd<OwnedFd> {
        self.timer.as_ref().expect("it is given back last")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let Some(timer) = self.timer.take() else { return };
        let stopped = set(&timer, Duration::ZERO);
        let mut idle = self.from.idle();
        if stopped.is_ok() && idle.len() < IDLE_MAX {
            idle.push(timer);
        }
    }
}

/// Lets it run out after `duration`, once; never, if that is zero.
fn set(timer: &AsyncFd<OwnedFd>, duration: Duration) -> io::Result<()> {
    let value = Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    rustix::time::timerfd_settime(timer.get_ref().as_fd(), TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SHORT: Duration = Duration::from_micros(200);

    #[tokio::test]
    async fn one_that_ran_out_can_be_set_anew() {
        let timers = Timers::default();
        for _ in 0..20 {
            let start = Instant::now();
            timers.wait(SHORT).await.expect("the system has timers");
            assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
        }
        assert_eq!(timers.idle().len(), 1);
    }

    /// The runtime has heard that it ran out, and nobody asked.
    #[tokio::test]
    async fn one_that_was_given_up_does_not_end_the_next_wait() {
        let timers = Timers::default();
        for _ in 0..20 {
            let given_up = timers.wait(SHORT);
            tokio::pin!(given_up);
            assert!(futures_util::poll!(&mut given_up).is_pending());
            // The other runs out later, so that both are known to the runtime.
            timers.wait(2 * SHORT).await.expect("the system has timers");
        }
        assert_eq!(timers.idle().len(), 2);
        for _ in 0..2 {
            let start = Instant::now();
            timers.wait(50 * SHORT).await.expect("the system has timers");
            assert!(start.elapsed() >= 50 * SHORT, "{:?}", start.elapsed());
        }
    }
}
