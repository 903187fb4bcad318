//! The black-box checker: is there an order in which a sequential object would have given all these answers?
//!
//! Wing and Gong's search with Lowe's memory of what was tried. A position of the search is the set of operations
//! that have been put in order, and the state they lead to. From there, the next one may be any that was sent before the
//! first answer among those that remain. Three observations keep the search short:
//!
//! - A read that is right in the present state can come next without loss: nothing else can tell. Its alternatives are
//!   never tried.
//! - An operation of unknown outcome need not come at all. Those are tried last; and of two positions with the same
//!   state and the same certain operations, one that has used fewer of the unknown ones can do all that the other can.
//!   So positions that have used more are dropped. So is an order in which one of them turns out to have made no
//!   difference: it was overwritten before any reply needed it.
//! - Of two equal operations of unknown outcome, the one that was sent first is used first.
//!
//! The number of positions is bounded, as it can be exponential in the number of clients that write at the same time.
//!
//! Sets of certain operations are compared by fingerprints of 128 bits, the XOR of a number per operation; among the
//! 2^24 positions that are the most ever kept, two different sets share one with a probability below 2^-80. States and sets
//! of unknown operations are compared exactly.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use super::model::{Call, Model};
use super::scatter::{Mix, mark};

/// As many positions as take some hundred megabytes.
pub const STATES_MAX: usize = 1 << 22;

/// How many operations of the best order are shown.
const SHOWN: usize = 12;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    Nothing(Stuck),
    /// The bound was reached first.
    TooMany,
}

/// The furthest that any order gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stuck {
    /// How many operations it puts in order.
    pub placed: usize,
    /// The last of them.
    pub last: Vec<usize>,
    /// The state they lead to.
    pub state: String,
    /// The operations that could come next in real time, but whose replies do not fit; first the one whose answer came
    /// before anything later was sent.
    pub unplaced: Vec<usize>,
}

/// Looks for an order of `calls`, at not more than `states_max` positions. Returns how many it took, too.
pub fn search<M: Model>(model: &M, calls: &[Call<M::Op>], states_max: usize) -> (Found, usize) {
    let mut search = Search::new(model, calls);
    let found = search.run(states_max);
    (found, search.seen.len())
}

/// The place before the first event.
const HEAD: usize = 0;

/// Where an event of a certain operation stands, and which. The events that remain are a linked list.
#[derive(Clone, Copy)]
struct Event {
    call: usize,
    is_return: bool,
    ns: u64,
    previous: usize,
    next: usize,
}

/// An operation that was put in order, and what to try instead.
struct Step<State> {
    call: usize,
    /// Before it.
    state: State,
    without: Vec<State>,
    /// Where the alternatives to it begin.
    resume: Next,
}

#[derive(Clone, Copy)]
enum Next {
    /// This event and those behind it; then the unknown ones.
    Certain(usize),
    /// The unknown ones from this one on.
    Unknown(usize),
    /// There are no alternatives.
    Nothing,
}

/// Which sets of unknown operations have been used with a set of certain ones and a state; none contains another.
/// None at all stands for the empty set, which nothing beats.
type Used = Vec<Box<[u32]>>;

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::Op>],
    /// The first is [`HEAD`], the last one is not there: 0 again.
    events: Vec<Event>,
    /// The places of a call's two events.
    places: Vec<(usize, usize)>,
    /// The calls of unknown outcome, in the order in which they were sent, each with the one that goes before it.
    unknown: Vec<(usize, Option<usize>)>,
    is_used: Vec<bool>,
    used: Vec<u32>,
    steps: Vec<Step<M::State>>,
    state: M::State,
    /// For each unknown operation in the order that no reply has needed yet: the state that would be without it.
    without: Vec<M::State>,
    fingerprint: u128,
    seen: HashMap<(u128, M::State), Used, BuildHasherDefault<Mix>>,
    stuck: Stuck,
    /// When the answer came that the best order could not get past.
    stuck_ns: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, calls: &'a [Call<M::Op>]) -> Self {
        let mut order = Vec::new();
        let mut unknown = Vec::new();
        for (call, Call { op, invoked_ns, returned_ns }) in calls.iter().enumerate() {
            match returned_ns {
                Some(returned_ns) => {
                    // Who was sent when another was answered did not come after it.
                    order.push((*invoked_ns, false, call));
                    order.push((*returned_ns, true, call));
                }
                None if model.is_read(op) => {}
                None => unknown.push(call),
            }
        }
        order.sort_unstable();
        let mut places = vec![(0, 0); calls.len()];
        let mut events = vec![Event { call: usize::MAX, is_return: false, ns: 0, previous: 0, next: 1 }];
        for (i, &(ns, is_return, call)) in order.iter().enumerate() {
            let place = i + 1;
            if is_return {
                places[call].1 = place;
            } else {
                places[call].0 = place;
            }
            events.push(Event { call, is_return, ns, previous: i, next: place + 1 });
        }
        let last = events.len() - 1;
        events[last].next = HEAD;
        unknown.sort_by_key(|&call| calls[call].invoked_ns);
        let twin =
            |at: usize| unknown[..at].iter().rposition(|&other| calls[other].op == calls[unknown[at]].op);
        let unknown = (0..unknown.len()).map(|at| (unknown[at], twin(at))).collect::<Vec<_>>();
        Self {
            model,
            calls,
            events,
            places,
            is_used: vec![false; unknown.len()],
            unknown,
            used: Vec::new(),
            steps: Vec::new(),
            state: model.start(),
            without: Vec::new(),
            fingerprint: 0,
            seen: HashMap::default(),
            stuck: Stuck::default(),
            stuck_ns: 0,
        }
    }

    fn run(&mut self, states_max: usize) -> Found {
        let mut next = Next::Certain(self.events[HEAD].next);
        while self.events[HEAD].next != HEAD {
            if self.seen.len() > states_max {
                return Found::TooMany;
            }
            next = match next {
                Next::Certain(place) if self.events[place].is_return => Next::Unknown(0),
                Next::Certain(place) => self.try_certain(place),
                Next::Unknown(at) if at < self.unknown.len() => self.try_unknown(at),
                Next::Unknown(_) | Next::Nothing => {
                    self.remember_stuck();
                    match self.undo() {
                        Some(next) => next,
                        None => return Found::Nothing(std::mem::take(&mut self.stuck)),
                    }
                }
            };
        }
        Found::Order
    }

    /// Puts the call at `place` next, if that fits and leads anywhere new.
    fn try_certain(&mut self, place: usize) -> Next {
        let Event { call, next, .. } = self.events[place];
        let op = &self.calls[call].op;
        let otherwise = Next::Certain(next);
        let Some(state) = self.model.step(&self.state, op) else { return otherwise };
        let Some(without) = self.without(op, &state) else { return otherwise };
        let fingerprint = self.fingerprint ^ mark(call);
        let resume = if self.model.is_read(op) { Next::Nothing } else { otherwise };
        if !self.is_new(fingerprint, &state) {
            return resume;
        }
        self.fingerprint = fingerprint;
        self.take(call, state, without, resume);
        self.lift(call);
        Next::Certain(self.events[HEAD].next)
    }

    /// Puts a call of unknown outcome next, if it was sent in time, changes anything and leads anywhere new.
    fn try_unknown(&mut self, at: usize) -> Next {
        let (call, twin) = self.unknown[at];
        let otherwise = Next::Unknown(at + 1);
        if self.calls[call].invoked_ns > self.first_return().ns {
            return Next::Unknown(self.unknown.len());
        }
        if self.is_used[at] || twin.is_some_and(|twin| !self.is_used[twin]) {
            return otherwise;
        }
        let op = &self.calls[call].op;
        let Some(state) = self.model.step(&self.state, op) else { return otherwise };
        if state == self.state {
            return otherwise;
        }
        let Some(mut without) = self.without(op, &state) else { return otherwise };
        without.push(self.state.clone());
        let number = u32::try_from(at).expect("fewer than 2^32 operations fit into memory");
        let slot = self.used.binary_search(&number).expect_err("it is not used yet");
        self.used.insert(slot, number);
        if !self.is_new(self.fingerprint, &state) {
            self.used.remove(slot);
            return otherwise;
        }
        self.is_used[at] = true;
        self.take(call, state, without, otherwise);
        Next::Certain(self.events[HEAD].next)
    }

    fn take(&mut self, call: usize, state: M::State, without: Vec<M::State>, resume: Next) {
        let state = std::mem::replace(&mut self.state, state);
        let without = std::mem::replace(&mut self.without, without);
        self.steps.push(Step { call, state, without, resume });
    }

    /// What becomes of [`Self::without`] by an operation that leads to `state`. Nothing if one of the unknown
    /// operations made no difference to any reply, nor to the state.
    fn without(&self, op: &M::Op, state: &M::State) -> Option<Vec<M::State>> {
        let mut without = Vec::new();
        for other in &self.without {
            match self.model.step(other, op) {
                Some(other) if other == *state => return None,
                Some(other) => without.push(other),
                // It was needed for this reply.
                None => {}
            }
        }
        Some(without)
    }

    /// Takes back the last step, and says what to try instead.
    fn undo(&mut self) -> Option<Next> {
        let Step { call, state, without, resume } = self.steps.pop()?;
        (self.state, self.without) = (state, without);
        if self.calls[call].returned_ns.is_some() {
            self.fingerprint ^= mark(call);
            self.unlift(call);
        } else {
            let at =
                self.unknown.iter().position(|(unknown, _)| *unknown == call).expect("it was one of them");
            self.is_used[at] = false;
            self.used.retain(|number| *number as usize != at);
        }
        Some(resume)
    }

    /// Whether no position as good as this one has been seen; from now on, it has.
    fn is_new(&mut self, fingerprint: u128, state: &M::State) -> bool {
        match self.seen.entry((fingerprint, state.clone())) {
            Entry::Vacant(entry) => {
                let used = (!self.used.is_empty()).then(|| self.used.as_slice().into());
                entry.insert(Used::from_iter(used));
                true
            }
            Entry::Occupied(mut entry) => {
                let sets = entry.get_mut();
                if sets.is_empty() || sets.iter().any(|set| is_subset(set, &self.used)) {
                    return false;
                }
                sets.retain(|set| !is_subset(&self.used, set));
                if !self.used.is_empty() {
                    sets.push(self.used.as_slice().into());
                }
                true
            }
        }
    }

    /// Takes a call's events out of the list.
    fn lift(&mut self, call: usize) {
        let (invoked, returned) = self.places[call];
        for place in [invoked, returned] {
            let Event { previous, next, .. } = self.events[place];
            self.events[previous].next = next;
            self.events[next].previous = previous;
        }
    }

    /// Puts them back; the last that was lifted first.
    fn unlift(&mut self, call: usize) {
        let (invoked, returned) = self.places[call];
        for place in [returned, invoked] {
            let Event { previous, next, .. } = self.events[place];
            self.events[previous].next = place;
            self.events[next].previous = place;
        }
    }

    fn remaining(&self) -> impl Iterator<Item = Event> {
        let mut place = HEAD;
        std::iter::from_fn(move || {
            place = self.events[place].next;
            (place != HEAD).then(|| self.events[place])
        })
    }

    /// The first answer of those operations that remain.
    fn first_return(&self) -> Event {
        self.remaining().find(|event| event.is_return).expect("who was sent was answered")
    }

    /// Keeps the present position if no other got further in time.
    fn remember_stuck(&mut self) {
        let blocking = self.first_return();
        let placed = self.steps.len();
        if (blocking.ns, placed) <= (self.stuck_ns, self.stuck.placed) {
            return;
        }
        self.stuck_ns = blocking.ns;
        let last = self.steps[placed.saturating_sub(SHOWN)..].iter().map(|step| step.call).collect();
        let open = self.remaining().take_while(|event| !event.is_return).map(|event| event.call);
        let others = open.filter(|call| *call != blocking.call);
        let unplaced = std::iter::once(blocking.call).chain(others).collect();
        self.stuck = Stuck { placed, last, state: self.model.describe(&self.state), unplaced };
    }
}

/// Whether all of `small` is in `large`; both are sorted.
fn is_subset(small: &[u32], large: &[u32]) -> bool {
    let mut rest = large.iter();
    small.len() <= large.len() && small.iter().all(|number| rest.any(|other| other == number))
}
