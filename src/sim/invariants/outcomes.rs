//! How often that happened which a run must have had, since somebody judges what comes of it.

use std::collections::BTreeMap;

use super::{Happened, Picture};
use crate::env::observer::{AppliedEntry, Sight};

#[derive(Default)]
pub struct Outcomes {
    /// Keys that ended by themselves, by the entry that ended them.
    ended: BTreeMap<u64, u64>,
    /// Snapshots that took the place of a node's state.
    installed: u64,
    /// Logs that had entries at their ends that their leaders had not.
    truncated: u64,
}

impl Outcomes {
    /// Something happened, which the picture does not show yet.
    pub fn see(&mut self, picture: &Picture, happened: &Happened<'_>) {
        match *happened.sight {
            Sight::Applied(AppliedEntry { place, expired, .. }) if expired > 0 => {
                self.ended.insert(place.index, expired);
            }
            Sight::Installed { .. } => self.installed += 1,
            Sight::Truncated(upto) => {
                let last = picture.nodes.get(happened.host).and_then(|node| node.log.last);
                self.truncated += u64::from(last > upto);
            }
            _ => {}
        }
    }

    /// Each with its name.
    pub fn all(&self) -> [(&'static str, u64); 3] {
        [
            ("keys ended", self.ended.values().sum()),
            ("snapshots installed", self.installed),
            ("logs truncated", self.truncated),
        ]
    }
}
