//! What scripts have called, for this node's figures and those who monitor it; see [`Called`].

use super::dispatch::Dispatcher;
use crate::commands::server::monitor;
use crate::store::Called;

/// Whom those who monitor see as the client of what a script calls.
const SOURCE: &str = "lua";

impl Dispatcher {
    /// Counts and shows what this connection's scripts have called.
    pub(super) fn tell(&self, called: &Called) {
        for (&(index, outcome), &count) in &called.counts {
            self.node.metrics().commands.record_untimed(index, outcome, count);
        }
        for (code, &count) in &called.errors {
            self.node.count_errors(code, count);
        }
        let wall_ms = self.node.env().clock.wall_ms();
        for (db, argv) in &called.shown {
            self.session.registry().show(&monitor::line(wall_ms, *db, SOURCE, argv));
        }
    }
}
