//! The whole cluster, as nobody in it knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::env::observer::{Ballot, Extent, Place, Sight};

/// Something that happened on a host.
pub struct Happened<'a> {
    pub host: &'static str,
    /// The world's time.
    pub now: Duration,
    /// How many syncs its disk had done by then.
    pub syncs: u64,
    pub sight: &'a Sight,
}

/// An entry that was in somebody's log.
pub struct Entry {
    /// The one before it.
    pub before: Option<Place>,
    pub checksum: u32,
    /// Who votes from then on, if it says so.
    pub voters: Option<Vec<BTreeSet<u64>>>,
    /// The last change of members before it.
    former_change: Option<Place>,
}

/// A node, as far as it told of itself.
#[derive(Default)]
pub struct Node {
    pub id: u64,
    /// When it last started.
    pub opened: Duration,
    /// The log, as it sees it, and as it is on its disk.
    pub log: Extent,
    pub disk: Extent,
    /// What of the log on its disk no truncation is about to take away: of one that was asked for and is not yet synced,
    /// a crash may leave either.
    lasting: Option<Place>,
    /// What its disk was sure to hold of its former life's log.
    pub left: Extent,
    pub vote: Option<Ballot>,
    pub committed: Option<Place>,
    pub applied: Option<Place>,
    /// Until when it did not know the time, in this life or the one before; `None` if it does not know it yet.
    pub ignorant_until: Option<Duration>,
}

/// Everything.
#[derive(Default)]
pub struct Picture {
    pub nodes: BTreeMap<&'static str, Node>,
    /// All entries there ever were.
    pub entries: BTreeMap<(u64, u64), Entry>,
    /// The term of each index that somebody took for committed.
    pub committed: BTreeMap<u64, u64>,
}

impl Picture {
    /// Draws what happened.
    pub(super) fn show(&mut self, happened: &Happened<'_>) {
        let node = self.nodes.entry(happened.host).or_default();
        match happened.sight {
            Sight::Opened { node: id, log, applied } => {
                let left = Extent { last: node.lasting, ..node.disk };
                let left = if node.id == *id { left } else { Extent::default() };
                *node = Node {
                    id: *id,
                    opened: happened.now,
                    log: *log,
                    disk: *log,
                    lasting: log.last,
                    left,
                    vote: log.vote,
                    applied: *applied,
                    ..Node::default()
                };
            }
            Sight::Voted(ballot) => node.vote = Some(*ballot),
            Sight::Appended { place, checksum, voters } => {
                let before = node.log.last;
                node.log.last = Some(*place);
                let former_change = self.last_change(before);
                let entry = Entry { before, checksum: *checksum, voters: voters.clone(), former_change };
                self.entries.entry((place.term, place.index)).or_insert(entry);
            }
            Sight::Truncated(last) => {
                node.log.last = (*last).max(node.log.purged);
                if index(node.lasting) > index(node.log.last) {
                    node.lasting = node.log.last;
                }
            }
            Sight::Purged(upto) => {
                node.log.purged = node.log.purged.max(Some(*upto));
                if node.log.last.is_none_or(|last| last.index <= upto.index) {
                    node.log.last = Some(*upto);
                }
            }
            Sight::Synced(extent) => {
                node.disk = *extent;
                node.lasting = extent.last;
            }
            Sight::Committed(place) => {
                node.committed = Some(*place);
                self.commit(*place);
            }
            Sight::Applied(entry) => node.applied = Some(entry.place),
            Sight::Installed { place, .. } => node.applied = Some(*place),
            Sight::TimeKept => node.ignorant_until = Some(happened.now),
            _ => {}
        }
    }

    fn commit(&mut self, place: Place) {
        let mut next = Some(place);
        while let Some(place) = next
            && !self.committed.contains_key(&place.index)
        {
            self.committed.insert(place.index, place.term);
            next = self.entries.get(&(place.term, place.index)).and_then(|entry| entry.before);
        }
    }

    /// Everything from `last` back to the oldest entry anybody had.
    pub fn back_from(&self, last: Option<Place>) -> impl Iterator<Item = Place> {
        let before =
            |place: &Place| self.entries.get(&(place.term, place.index)).and_then(|entry| entry.before);
        std::iter::successors(last, before)
    }

    /// Whether a log has `place`, or let go of it when it was committed.
    pub fn has(&self, log: &Extent, place: Place) -> bool {
        if log.purged.is_some_and(|purged| purged.index >= place.index) {
            return true;
        }
        let at = self.back_from(log.last).find(|at| at.index <= place.index);
        at == Some(place)
    }

    /// Who votes, by the log that ends with `last`: the sets of the newest change, then of those before it.
    pub fn voters(&self, last: Option<Place>) -> impl Iterator<Item = (u64, &[BTreeSet<u64>])> {
        let entry = |place: &Place| &self.entries[&(place.term, place.index)];
        let changes = std::iter::successors(self.last_change(last), move |place| entry(place).former_change);
        changes.map(move |place| (place.index, entry(&place).voters.as_deref().unwrap_or_default()))
    }

    /// The last change of members in the log that ends with `last`.
    fn last_change(&self, last: Option<Place>) -> Option<Place> {
        let last = last?;
        let entry = self.entries.get(&(last.term, last.index))?;
        if entry.voters.is_some() { Some(last) } else { entry.former_change }
    }

    /// The node with this number.
    pub fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.values().find(|node| node.id == id)
    }
}

fn index(place: Option<Place>) -> Option<u64> {
    place.map(|place| place.index)
}

/// Whether `yes` of these voters are a majority of each of their sets.
pub fn is_quorum(voters: &[BTreeSet<u64>], yes: impl Fn(u64) -> bool) -> bool {
    voters.iter().all(|set| set.iter().filter(|id| yes(**id)).count() > set.len() / 2)
}
