//! What can be done with a list.
//!
//! The elements of a small list lie in its key's record, those of a large one [apart](super::collection), each under its
//! *position*: a number that grows from the first element to the last without a gap, and that no other change of the
//! list alters. So pushing and popping cost the same whatever the list's length; changes in the middle move the
//! elements on the shorter side, as many as there are.
//!
//! # Format
//! In a record: the elements, each as [`collection::pack`] has it. Apart: the name is the position, 8 bytes big-endian; the first element
//! a list is given has position 2^63.

use std::collections::VecDeque;
use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;

use super::collection::{self, Apart, Body, INLINE_BYTES_MAX};
use super::keyspace::{self, Expiry, Place};
use super::record::{Form, Kind, Record};
use crate::error::{Failure, StoreError, text};
use crate::store::{Txn, View};

/// The position of a list's very first element.
const MIDDLE: u64 = 1 << 63;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

/// A list, as it was found. Without a key it has no elements.
#[derive(Clone, Debug)]
pub enum List {
    Small(VecDeque<Bytes>),
    /// And the position of the first element.
    Large(Apart, u64),
}

/// The list at a key.
///
/// # Errors
/// "wrong kind of value".
pub fn get(view: &View, db: u8, key: &[u8]) -> Result<List, Failure> {
    of(view, keyspace::get(view, db, key)?.as_ref())
}

fn of(view: &View, record: Option<&Record>) -> Result<List, Failure> {
    let Some(record) = record else { return Ok(List::Small(VecDeque::new())) };
    if record.header.kind != Kind::List {
        return Err(text::WRONG_TYPE.into());
    }
    Ok(match Body::decode(&record.value)? {
        Body::Inline(elements) => List::Small(collection::unpack(&elements)?.into()),
        Body::Apart(apart) => {
            let mut first = MIDDLE;
            apart.walk(view, None, &mut |name, _| {
                first = position(name);
                ControlFlow::Break(())
            })?;
            List::Large(apart, first)
        }
    })
}

impl List {
    /// How many elements it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Small(elements) => elements.len() as u64,
            Self::Large(apart, _) => apart.count,
        }
    }

    /// Whether it has no elements, that is, whether there is no such key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of the element at a client's index, which counts from the end if it is negative.
    #[must_use]
    pub fn place(&self, index: i64) -> Option<u64> {
        let from_end = || self.len().checked_sub(index.unsigned_abs());
        let place = if index < 0 { from_end()? } else { index.unsigned_abs() };
        (place < self.len()).then_some(place)
    }

    /// The places that a client's range from `start` to `stop` names; `None` if there are none.
    #[must_use]
    pub fn places(&self, start: i64, stop: i64) -> Option<RangeInclusive<u64>> {
        let from_end = |index: i64| self.len().checked_sub(index.unsigned_abs());
        let start = if start < 0 { from_end(start).unwrap_or(0) } else { start.unsigned_abs() };
        let stop = if stop < 0 { from_end(stop)? } else { stop.unsigned_abs() };
        let stop = stop.min(self.len().checked_sub(1)?);
        (start <= stop).then_some(start..=stop)
    }

    /// The element at a place.
    pub fn element(&self, view: &View, place: u64) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Small(elements) => Ok(elements.get(place as usize).cloned()),
            Self::Large(apart, first) => apart.get(view, &name(first + place)),
        }
    }

    /// Calls `visit` with the elements from a place on, and their places.
    pub fn walk(
        &self,
        view: &View,
        from: u64,
        visit: &mut dyn FnMut(u64, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Small(elements) => {
                let elements = elements.iter().enumerate().skip(from as usize);
                for (place, element) in elements {
                    if visit(place as u64, element.clone()).is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Self::Large(apart, first) => {
                let before = name((first + from).wrapping_sub(1));
                apart.walk(view, Some(&before), &mut |name, element| {
                    visit(position(name) - first, Bytes::copy_from_slice(element))
                })
            }
        }
    }

    /// The elements at these places.
    pub fn range(&self, view: &View, places: RangeInclusive<u64>) -> Result<Vec<Bytes>, StoreError> {
        let mut elements = Vec::new();
        self.walk(view, *places.start(), &mut |place, element| {
            if place > *places.end() {
                return ControlFlow::Break(());
            }
            elements.push(element);
            ControlFlow::Continue(())
        })?;
        Ok(elements)
    }

    /// All elements.
    pub fn elements(&self, view: &View) -> Result<Vec<Bytes>, StoreError> {
        self.range(view, 0..=u64::MAX)
    }
}

/// A list that is being changed: nothing is seen of it before [`Change::finish`].
pub struct Change<'k> {
    place: Place<'k>,
    list: List,
}

impl<'k> Change<'k> {
    /// Looks a list up, to change it.
    ///
    /// # Errors
    /// "wrong kind of value".
    pub fn find(view: &View, db: u8, key: &'k [u8]) -> Result<Self, Failure> {
        let place = Place::find(view, db, key)?;
        let list = of(view, place.record())?;
        Ok(Self { place, list })
    }

    /// The list with what was changed.
    #[must_use]
    pub const fn list(&self) -> &List {
        &self.list
    }

    /// Adds an element at an end.
    pub fn push(&mut self, tx: &mut Txn, end: End, element: &Bytes) -> Result<(), StoreError> {
        match (&mut self.list, end) {
            (List::Small(elements), End::Left) => elements.push_front(element.clone()),
            (List::Small(elements), End::Right) => elements.push_back(element.clone()),
            (List::Large(apart, first), End::Left) => {
                *first -= 1;
                apart.put(tx, &name(*first), element)?;
            }
            (List::Large(apart, first), End::Right) => {
                apart.put(tx, &name(*first + apart.count), element)?;
            }
        }
        self.move_apart(tx)
    }

    /// Takes the element at an end away.
    pub fn pop(&mut self, tx: &mut Txn, end: End) -> Result<Option<Bytes>, StoreError> {
        match (&mut self.list, end) {
            (List::Small(elements), End::Left) => Ok(elements.pop_front()),
            (List::Small(elements), End::Right) => Ok(elements.pop_back()),
            (List::Large(apart, first), end) => {
                let at = if end == End::Left { *first } else { (*first + apart.count).wrapping_sub(1) };
                let element = apart.get(tx, &name(at))?;
                apart.remove(tx, &name(at))?;
                if end == End::Left {
                    *first += 1;
                }
                Ok(element)
            }
        }
    }

    /// Replaces the element at a place where there is one.
    pub fn set(&mut self, tx: &mut Txn, place: u64, element: &Bytes) -> Result<(), StoreError> {
        match &mut self.list {
            List::Small(elements) => elements[place as usize] = element.clone(),
            List::Large(apart, first) => {
                apart.put(tx, &name(*first + place), element)?;
            }
        }
        self.move_apart(tx)
    }

    /// Replaces all elements. What both have at the start or at the end stays where it is, whichever is more.
    pub fn replace(&mut self, tx: &mut Txn, new: Vec<Bytes>) -> Result<(), StoreError> {
        let old = self.list.elements(tx)?;
        match &mut self.list {
            List::Small(elements) => *elements = new.into(),
            List::Large(apart, first) => {
                let prefix = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
                let suffix =
                    old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
                let end = *first + old.len() as u64;
                let (begin, kept) = if prefix >= suffix {
                    (*first, 0..prefix)
                } else {
                    (end - new.len() as u64, new.len() - suffix..new.len())
                };
                for (at, element) in (begin..)
                    .zip(&new)
                    .enumerate()
                    .filter(|(place, _)| !kept.contains(place))
                    .map(|(_, put)| put)
                {
                    apart.put(tx, &name(at), element)?;
                }
                let stays = begin..begin + new.len() as u64;
                for at in (*first..end).filter(|at| !stays.contains(at)) {
                    apart.remove(tx, &name(at))?;
                }
                *first = begin;
            }
        }
        self.move_apart(tx)
    }

    /// Writes the list, or removes the key of one that has no elements left. Says whether there is one.
    pub fn finish(self, tx: &mut Txn) -> bool {
        if self.list.is_empty() {
            self.place.remove(tx);
            return false;
        }
        let body = match self.list {
            List::Small(elements) => Body::Inline(collection::pack(&elements)),
            List::Large(apart, _) => Body::Apart(apart),
        };
        self.place.put(tx, Kind::List, Form::Whole, &body.encode(), Expiry::Keep);
        true
    }

    /// Moves the elements out of the record if they have become too many for it.
    fn move_apart(&mut self, tx: &mut Txn) -> Result<(), StoreError> {
        if let List::Small(elements) = &self.list
            && collection::packed_bytes(elements) > INLINE_BYTES_MAX
        {
            let mut apart = Apart::create(tx);
            for (at, element) in (MIDDLE..).zip(elements) {
                apart.put(tx, &name(at), element)?;
            }
            self.list = List::Large(apart, MIDDLE);
        }
        Ok(())
    }
}

fn name(position: u64) -> [u8; 8] {
    position.to_be_bytes()
}

fn position(name: &[u8]) -> u64 {
    name.first_chunk().map_or(MIDDLE, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Chance;
    use crate::types::tests::{begin, with_store};

    /// Random changes, each compared with the same change of a deque.
    #[test]
    fn is_what_a_deque_is() {
        for seed in 1..=8 {
            let mut dice = Chance::new(seed);
            let mut model = VecDeque::new();
            let key = Bytes::from_static(b"l");
            with_store(|store| {
                for step in 0..400 {
                    let mut tx = begin(store, step);
                    let mut change = Change::find(&tx, 0, &key).expect("a list");
                    let element = Bytes::from(vec![b'a' + (step % 7) as u8; 1 + dice.below(90) as usize]);
                    let end = if dice.below(2) == 0 { End::Left } else { End::Right };
                    match dice.below(8) {
                        0..=3 => {
                            change.push(&mut tx, end, &element).expect("in memory");
                            if end == End::Left {
                                model.push_front(element)
                            } else {
                                model.push_back(element)
                            }
                        }
                        4..=5 => {
                            let popped = change.pop(&mut tx, end).expect("in memory");
                            let expected =
                                if end == End::Left { model.pop_front() } else { model.pop_back() };
                            assert_eq!(popped, expected, "seed {seed}, step {step}");
                        }
                        6 if !model.is_empty() => {
                            let place = dice.below(model.len() as u64);
                            change.set(&mut tx, place, &element).expect("in memory");
                            model[place as usize] = element;
                        }
                        _ => {
                            let at = dice.below(model.len() as u64 + 1) as usize;
                            if dice.below(2) == 0 {
                                model.insert(at, element);
                            } else {
                                model.remove(at);
                            }
                            change.replace(&mut tx, model.iter().cloned().collect()).expect("in memory");
                        }
                    }
                    assert_eq!(change.list().len(), model.len() as u64);
                    change.finish(&mut tx);
                    keyspace::commit(&mut tx);
                    let list = get(&tx, 0, &key).expect("a list");
                    assert_eq!(model, list.elements(&tx).expect("in memory"), "seed {seed}, step {step}");
                    let place = dice.below(model.len() as u64 + 2);
                    let element = list.element(&tx, place).expect("in memory");
                    assert_eq!(element.as_ref(), model.get(place as usize), "seed {seed}, step {step}");
                }
            });
        }
    }

    #[test]
    fn indexes_count_from_both_ends() {
        let list = List::Small(["a", "b", "c"].map(Bytes::from).into());
        assert_eq!(
            [0, 2, 3, -1, -3, -4].map(|index| list.place(index)),
            [Some(0), Some(2), None, Some(2), Some(0), None]
        );
        let places = |start, stop| list.places(start, stop).map(|places| (*places.start(), *places.end()));
        assert_eq!(places(0, -1), Some((0, 2)));
        assert_eq!(places(-100, 100), Some((0, 2)));
        assert_eq!(places(1, 1), Some((1, 1)));
        assert_eq!(places(2, 1), None);
        assert_eq!(places(3, 5), None);
        assert_eq!(places(0, -4), None);
        assert_eq!(List::Small(VecDeque::new()).places(0, -1), None);
    }
}
