//! What the links between hosts are like: latency, bandwidth, loss, cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{between, chance};
use crate::env::Rng;
use crate::env::real::SeededRng;

/// The first retransmission; each further one takes twice as long.
pub(super) const RETRANSMIT: Duration = Duration::from_millis(200);

/// What the links are like.
pub(super) struct Weather {
    pub(super) latency: (Duration, Duration),
    /// Links, from one host to another, that differ.
    pub(super) link_latency: BTreeMap<(String, String), (Duration, Duration)>,
    /// Bytes a second that a link from one host to another lets through; any number if it is not here.
    pub(super) bandwidth: BTreeMap<(String, String), u64>,
    /// The chance that a packet must be sent again.
    pub(super) loss: f64,
    pub(super) cut: BTreeSet<(String, String)>,
    pub(super) isolated: BTreeSet<String>,
    /// How long a sender waits for an acknowledgement, and a connecting side for an answer.
    pub(super) patience: Duration,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(50), Duration::from_micros(500)),
            link_latency: BTreeMap::new(),
            bandwidth: BTreeMap::new(),
            loss: 0.0,
            cut: BTreeSet::new(),
            isolated: BTreeSet::new(),
            patience: Duration::from_secs(15),
        }
    }
}

impl Weather {
    pub(super) fn is_open(&self, from: &str, to: &str) -> bool {
        from == to
            || !(self.isolated.contains(from)
                || self.isolated.contains(to)
                || self.cut.iter().any(|(cut_from, cut_to)| cut_from == from && cut_to == to))
    }

    /// How long a link is busy with so many bytes.
    pub(super) fn transmission(&self, from: &str, to: &str, bytes: usize) -> Duration {
        let slow = self.bandwidth.iter().find(|((link_from, link_to), _)| link_from == from && link_to == to);
        slow.map_or(Duration::ZERO, |(_, rate)| {
            Duration::from_micros(bytes as u64 * 1_000_000 / rate.max(&1))
        })
    }

    /// How long one packet takes.
    pub(super) fn delay(&self, rng: &SeededRng, from: &str, to: &str) -> Duration {
        if from == to {
            return Duration::from_micros(10 + rng.next_u64() % 20);
        }
        let special =
            self.link_latency.iter().find(|((link_from, link_to), _)| link_from == from && link_to == to);
        let (min, max) = special.map_or(self.latency, |(_, latency)| *latency);
        let mut delay = between(rng, min, max);
        let mut again = RETRANSMIT;
        while again < self.patience && chance(rng, self.loss) {
            delay += again;
            again *= 2;
        }
        delay
    }
}
