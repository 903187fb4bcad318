//! What an object does when it is used by one client at a time.

use std::fmt;
use std::hash::Hash;

/// A sequential object.
pub trait Model {
    /// An operation together with its reply, or without if that is not known.
    type Op: PartialEq;
    /// All that later operations can see. Compared exactly, so it should be small.
    type State: Clone + Eq + Hash + fmt::Debug;

    /// Before the first operation.
    fn start(&self) -> Self::State;

    /// The state after `op`, if an object in `state` would have given its reply. An operation whose reply is not known
    /// can be carried out in every state.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// Whether the operation leaves every state as it is in which its reply is right. To say so of all such
    /// operations makes the search much shorter; to say so wrongly of one makes it wrong.
    fn is_read(&self, op: &Self::Op) -> bool;

    /// A state, for a human.
    fn describe(&self, state: &Self::State) -> String;
}

/// An operation, and when a single copy may have carried it out.
#[derive(Clone, Debug)]
pub struct Call<Op> {
    pub op: Op,
    pub invoked_ns: u64,
    /// Absent if the outcome is not known: it may take effect any time later, or never.
    pub returned_ns: Option<u64>,
}
