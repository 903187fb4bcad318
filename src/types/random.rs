//! RANDOMKEY, and HRANDFIELD of large hashes.
//!
//! Keys are kept in order, and nobody knows which is the millionth. So we walk down their common
//! beginnings: of the bytes that can come next, one is drawn, until one key is left. Every key can come
//! up, and where keys are named evenly all are equally likely; a key with few neighbours comes up more
//! often.
//!
//! Where a whole collection is walked through anyway, because it is not large or because much of it is wanted,
//! all its elements are equally likely.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::collection::Apart;
use super::keyspace::{self, GENERATION_BYTES};
use super::scan;
use crate::error::StoreError;
use crate::store::{Chance, Table, View};

/// Keys that agree in this many bytes count as one, and the first of them stands for all.
const DEPTH_MAX: usize = 128;
/// How many elements can be walked through while one is drawn by itself.
const DRAW_STEPS: u64 = 1_000;
/// How many keys past their deadline are met before the next living key is good enough.
const TRIES: usize = 16;

/// Some key of the database; `None` if it is empty.
pub fn key(view: &View, db: u8, chance: &mut Chance) -> Result<Option<Bytes>, StoreError> {
    for _ in 0..TRIES {
        let generation = keyspace::database(view, db).generation;
        let Some(key) = draw(view, Table::Keys, generation, chance)? else { return Ok(None) };
        if keyspace::exists(view, db, &key)? {
            return Ok(Some(key));
        }
    }
    let mut first = None;
    scan::walk(view, db, &[], None, &mut |key, _| {
        first = Some(Bytes::copy_from_slice(key));
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// The places of `count` different ones of `length` things, in order; of all, if there are not more.
pub(super) fn places(length: u64, count: u64, chance: &mut Chance) -> Vec<u64> {
    let mut wanted = count.min(length);
    let mut places = Vec::new();
    for place in 0..length {
        // Of those that are left, so many are still wanted: each is as likely as any other.
        if chance.below(length - place) < wanted {
            places.push(place);
            wanted -= 1;
        }
    }
    places
}

/// `count` different elements of a collection; all, if there are not more.
pub(super) fn distinct(
    view: &View,
    collection: &Apart,
    count: u64,
    chance: &mut Chance,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    if is_drawn(collection, count) {
        let mut drawn = BTreeMap::new();
        // Drawing unevenly can take long to come to the last of them, so at some point the walk is shorter.
        for _ in 0..4 * count {
            drawn.extend(draw_element(view, collection, chance)?);
            if drawn.len() as u64 == count {
                return Ok(drawn.into_iter().collect());
            }
        }
    }
    elements_at(view, collection, &places(collection.count, count, chance))
}

/// `count` elements of a collection that has any, each drawn anew.
pub(super) fn repeated(
    view: &View,
    collection: &Apart,
    count: u64,
    chance: &mut Chance,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    if is_drawn(collection, count) {
        return (0..count).filter_map(|_| draw_element(view, collection, chance).transpose()).collect();
    }
    let drawn: Vec<u64> = (0..count).map(|_| chance.below(collection.count)).collect();
    let mut places = drawn.clone();
    places.sort_unstable();
    places.dedup();
    let elements = elements_at(view, collection, &places)?;
    let element =
        |place| elements[places.binary_search(place).expect("all that were drawn are there")].clone();
    Ok(drawn.iter().map(element).collect())
}

/// Whether so few elements are wanted of so many that drawing each by itself is shorter than a walk.
fn is_drawn(collection: &Apart, count: u64) -> bool {
    count.saturating_mul(DRAW_STEPS) < collection.count
}

fn draw_element(
    view: &View,
    collection: &Apart,
    chance: &mut Chance,
) -> Result<Option<(Bytes, Bytes)>, StoreError> {
    let Some(name) = draw(view, Table::Elements, collection.id, chance)? else { return Ok(None) };
    Ok(collection.get(view, &name)?.map(|content| (name, content)))
}

/// The elements at these places, which are in order.
fn elements_at(view: &View, collection: &Apart, places: &[u64]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut elements = Vec::with_capacity(places.len());
    let mut place = 0;
    if places.is_empty() {
        return Ok(elements);
    }
    collection.walk(view, None, &mut |name, content| {
        if places[elements.len()] == place {
            elements.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(content)));
        }
        place += 1;
        if elements.len() < places.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(elements)
}

/// The name of some entry under a number: a key of a generation, which may be past its deadline, or an element of
/// a collection.
pub(super) fn draw(
    view: &View,
    table: Table,
    id: u64,
    chance: &mut Chance,
) -> Result<Option<Bytes>, StoreError> {
    let mut prefix = id.to_be_bytes().to_vec();
    loop {
        let Some(first) = first_from(view, table, &prefix, &prefix)? else { return Ok(None) };
        if prefix.len() == DEPTH_MAX {
            return Ok(Some(first.slice(GENERATION_BYTES..)));
        }
        let nexts = next_bytes(view, table, &prefix, &first)?;
        let drawn = usize::try_from(chance.below(nexts.len() as u64)).expect("below a length");
        match nexts[drawn] {
            Some(byte) => prefix.push(byte),
            None => return Ok(Some(Bytes::from(prefix).slice(GENERATION_BYTES..))),
        }
    }
}

/// The bytes that come after `prefix` in the addresses that begin with it, of which `first` is the
/// first; `None` is the end of an address.
fn next_bytes(
    view: &View,
    table: Table,
    prefix: &[u8],
    first: &Bytes,
) -> Result<Vec<Option<u8>>, StoreError> {
    let mut nexts = Vec::new();
    let mut address = Some(first.clone());
    while let Some(found) = address {
        let next = found.get(prefix.len()).copied();
        nexts.push(next);
        let from = match next {
            None => 0,
            Some(u8::MAX) => break,
            Some(byte) => byte + 1,
        };
        address = first_from(view, table, prefix, &[prefix, &[from]].concat())?;
    }
    Ok(nexts)
}

/// The first address from `from` on, if it begins with `prefix`.
fn first_from(view: &View, table: Table, prefix: &[u8], from: &[u8]) -> Result<Option<Bytes>, StoreError> {
    let mut first = None;
    view.scan(table, from, None, &mut |address, _| {
        if address.starts_with(prefix) {
            first = Some(Bytes::copy_from_slice(address));
        }
        ControlFlow::Break(())
    })?;
    Ok(first)
}
