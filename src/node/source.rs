//! Where replies come from, for whoever looks on; nobody does on a real machine.

use super::{Answers, Node};
use crate::env::observer::{GroupId, Source};

impl Node {
    /// Where the answer at this place among these comes from, if somebody looks on.
    #[must_use]
    pub fn source_of(&self, answers: &Answers, place: usize) -> Option<Source> {
        self.env.observer.as_ref()?;
        let (node, boot) = (self.consensus.identity().node, self.proposals.boot());
        let group = GroupId { node, boot, sequence: answers.sequence() };
        Some(Source::Log { group, place: answers.place() + place })
    }

    /// Where a read comes from that has the state in its hands, if somebody looks on.
    #[must_use]
    pub fn source_here(&self) -> Option<Source> {
        self.env.observer.as_ref().map(|_| Source::State { index: self.applied.reached().index })
    }
}
