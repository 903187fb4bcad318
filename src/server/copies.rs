//! A client that keeps copies is remembered with the keys it reads; see [`crate::tracking`].

use bytes::Bytes;

use super::dispatch::{Dispatcher, Item};
use crate::commands::{Access, Group, Lane};
use crate::store::View;

impl Dispatcher {
    /// Remembers what a command has just read in this state. A script that read anything counts as having read all
    /// keys it was given, as in Redis.
    pub(super) fn remember(&self, item: &Item, view: &View) {
        let read = view.take_read() || item.resolved.command.spec.group != Group::Scripting;
        if item.keeps_copies && read {
            let tracking = self.node.registry().tracking();
            tracking.remember(self.session.id(), &read_keys(item), view.head().revision);
        }
    }

    /// Remembers what these may read in a log entry, until it is answered: see [`Dispatcher::release`].
    pub(super) fn hold(&self, items: &[Item]) -> Vec<Bytes> {
        let keys = items.iter().filter(|item| item.keeps_copies).flat_map(read_keys).collect::<Vec<_>>();
        if !keys.is_empty() {
            self.node.registry().tracking().hold(self.session.id(), &keys);
        }
        keys
    }

    /// The entry for which these keys were held is answered.
    pub(super) fn release(&self, keys: &[Bytes]) {
        if !keys.is_empty() {
            self.node.registry().tracking().release(self.session.id(), keys);
        }
    }
}

/// The keys a command reads without writing them, or may.
fn read_keys(item: &Item) -> Vec<Bytes> {
    let command = item.resolved.command;
    let reads = matches!(command.lane, Lane::Read(_)) || command.spec.group == Group::Scripting;
    if reads && command.spec.keys.access != Access::Channel {
        command.spec.keys.of(&item.argv)
    } else {
        Vec::new()
    }
}
