//! The open loop: requests come at a steady rate, whatever becomes of those before, as they do from many clients who do not
//! know of each other.
//!
//! A latency counts from the moment a request was due, not from when it was sent. So a server that stands still for a
//! second is charged with everybody who would have waited for it, and the generator's own delays are in the figures instead
//! of being left out ("coordinated omission").

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{Dialect, LOOK, Limit, Load, PATIENCE, Tally, wait};

impl<D: Dialect> Load<D> {
    /// Sends `rate` requests a second up to the limit, spread evenly over time and connections, then waits for the last
    /// reply. Fails as [`Load::run`] does.
    pub fn run_at(&mut self, rate: f64, limit: Limit, stop: &AtomicBool) -> Result<Tally> {
        let all = limit.requests.min((rate * limit.time.as_secs_f64()) as u64);
        let start = Instant::now();
        let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        let mut tally = Tally::default();
        let (mut sent, mut answered) = (0, 0);
        let mut last = start;
        let mut events = Vec::with_capacity(256);
        while answered < all {
            let now = Instant::now();
            while sent < all && due(sent) <= now {
                let index = usize::try_from(sent % self.connections.len() as u64).expect("an index");
                self.send_one(index, due(sent))?;
                sent += 1;
            }
            let pause = if sent < all { due(sent).saturating_duration_since(Instant::now()) } else { LOOK };
            wait(&self.epoll, &mut events, pause.min(LOOK), stop)?;
            if answered < sent && last.elapsed() > PATIENCE {
                bail!("{} requests have waited {PATIENCE:?} in vain for their replies", sent - answered);
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).expect("an index of ours");
                let replies = self.receive(index)?;
                last = Instant::now();
                for _ in 0..replies.count {
                    let due =
                        self.connections[index].due.pop_front().context("more replies than requests")?;
                    tally.latency.record(last.saturating_duration_since(due), 1);
                }
                answered += replies.count;
                tally.replies.add(replies);
            }
            if answered == sent {
                // Nobody waits, so nobody waits in vain.
                last = Instant::now();
            }
        }
        tally.elapsed = last - start;
        Ok(tally)
    }

    fn send_one(&mut self, index: usize, due: Instant) -> Result<()> {
        self.wire.clear();
        let connection = &mut self.connections[index];
        self.dialect.request(&mut connection.state, &mut self.wire);
        connection.due.push_back(due);
        self.write(index)
    }
}
