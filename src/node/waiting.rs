//! Clients that wait until a key holds something: BLPOP and the like.
//!
//! A blocking command is a write that may find nothing. Its client is put down here *before* the first attempt is
//! proposed, and rung when an applied entry brings something to one of its keys; then it attempts again. So what
//! arrives between an attempt and the waiting is not missed, nothing about waiting is in the log, and a change of
//! leaders is nothing to those who wait.
//!
//! On one node, those who wait for a key are served in the order in which they came: only the first is rung, and
//! whoever leaves the line passes the ring on. Between nodes the order of their attempts in the log decides.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

/// Those who wait on this node.
#[derive(Default)]
pub struct Waiting {
    lines: Mutex<Lines>,
    /// How many places are taken in all lines: applying an entry costs nothing more while there are none.
    places: AtomicUsize,
}

/// Who waits for each key, by database and key; the first in line came first.
type Lines = HashMap<(u8, Bytes), VecDeque<Arc<Bell>>>;

#[derive(Default)]
struct Bell {
    notify: Notify,
    /// Rung, and the ring not yet passed on.
    rung: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }
}

/// A place in the lines of some keys. Dropping it leaves them.
pub struct Place {
    waiting: Arc<Waiting>,
    bell: Arc<Bell>,
    keys: Vec<(u8, Bytes)>,
}

impl Waiting {
    /// Takes a place at the end of the line of each of `keys`.
    #[must_use]
    pub fn join(self: &Arc<Self>, db: u8, mut keys: Vec<Bytes>) -> Place {
        keys.sort_unstable();
        keys.dedup();
        let keys = keys.into_iter().map(|key| (db, key)).collect::<Vec<_>>();
        let bell = Arc::<Bell>::default();
        let mut lines = self.lines.lock().expect("no holder panics");
        for key in &keys {
            lines.entry(key.clone()).or_default().push_back(Arc::clone(&bell));
        }
        self.places.fetch_add(keys.len(), Ordering::Relaxed);
        drop(lines);
        Place { waiting: Arc::clone(self), bell, keys }
    }

    /// Something came to a key.
    pub fn ring(&self, db: u8, key: &Bytes) {
        // Whoever took a place later has not proposed its first attempt yet.
        if self.places.load(Ordering::Relaxed) > 0 {
            let lines = self.lines.lock().expect("no holder panics");
            ring_first(&lines, &(db, key.clone()));
        }
    }

    /// Anything may have come to any key.
    pub fn ring_all(&self) {
        let lines = self.lines.lock().expect("no holder panics");
        lines.values().filter_map(VecDeque::front).for_each(|bell| bell.ring());
    }
}

fn ring_first(lines: &Lines, key: &(u8, Bytes)) {
    if let Some(bell) = lines.get(key).and_then(VecDeque::front) {
        bell.ring();
    }
}

impl Place {
    /// Waits until it is worth another attempt.
    pub async fn rung(&self) {
        self.bell.notify.notified().await;
    }

    /// The attempt found something: there may be more for those behind.
    pub fn served(self) {
        self.bell.rung.store(true, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.waiting.lines.lock().expect("no holder panics");
        for key in &self.keys {
            if let Entry::Occupied(mut line) = lines.entry(key.clone()) {
                line.get_mut().retain(|bell| !Arc::ptr_eq(bell, &self.bell));
                if line.get().is_empty() {
                    line.remove();
                }
            }
        }
        self.waiting.places.fetch_sub(self.keys.len(), Ordering::Relaxed);
        if self.bell.rung.load(Ordering::Relaxed) {
            self.keys.iter().for_each(|key| ring_first(&lines, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_rung(place: &Place) -> bool {
        place.rung().now_or_never().is_some()
    }

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn the_first_in_line_is_rung_and_passes_it_on() {
        let waiting = Arc::<Waiting>::default();
        let first = waiting.join(0, vec![key("a"), key("b"), key("a")]);
        let second = waiting.join(0, vec![key("a")]);
        let elsewhere = waiting.join(1, vec![key("a")]);
        waiting.ring(0, &key("a"));
        assert_eq!([is_rung(&first), is_rung(&second), is_rung(&elsewhere)], [true, false, false]);
        first.served();
        assert_eq!([is_rung(&second), is_rung(&elsewhere)], [true, false]);
        drop(second);
        waiting.ring(0, &key("a"));
        waiting.ring(0, &key("b"));
        assert_eq!(waiting.lines.lock().expect("no test panics here").len(), 1);
        drop(elsewhere);
        assert_eq!(waiting.places.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_ring_is_not_lost_with_who_leaves() {
        let waiting = Arc::<Waiting>::default();
        let first = waiting.join(0, vec![key("a")]);
        let second = waiting.join(0, vec![key("a")]);
        waiting.ring(0, &key("a"));
        drop(first);
        assert!(is_rung(&second));
    }

    #[test]
    fn a_ring_before_the_waiting_counts() {
        let waiting = Arc::<Waiting>::default();
        let place = waiting.join(0, vec![key("a")]);
        waiting.ring_all();
        assert!(is_rung(&place));
        assert!(!is_rung(&place), "once");
    }
}
