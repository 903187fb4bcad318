//! A client that keeps copies is remembered with the keys it reads; see [`crate::tracking`].

use bytes::Bytes;

use super::dispatch::{Dispatcher, Item};
use crate::commands::Lane;
use crate::store::View;

impl Dispatcher {
    /// Remembers what a read has read in this state.
    pub(super) fn remember(&self, item: &Item, view: &View) {
        if item.keeps_copies {
            let tracking = self.node.registry().tracking();
            tracking.remember(self.session.id(), read_keys(item), view.head().revision);
        }
    }

    /// Remembers what these are going to read in a log entry, until it is answered.
    pub(super) fn hold(&self, items: &[Item]) {
        if items.iter().any(|item| item.keeps_copies) {
            self.node.registry().tracking().hold(self.session.id(), kept(items));
        }
    }

    /// The entry is answered.
    pub(super) fn release(&self, items: &[Item]) {
        if items.iter().any(|item| item.keeps_copies) {
            self.node.registry().tracking().release(self.session.id(), kept(items), true);
        }
    }
}

fn kept(items: &[Item]) -> impl Iterator<Item = &Bytes> {
    items.iter().filter(|item| item.keeps_copies).flat_map(read_keys)
}

/// The keys a command reads without writing them.
fn read_keys(item: &Item) -> impl Iterator<Item = &Bytes> {
    let reads = matches!(item.resolved.command.lane, Lane::Read(_));
    let keys = reads.then(|| item.resolved.command.spec.keys.places(item.argv.len()));
    keys.into_iter().flatten().map(|place| &item.argv[place])
}
