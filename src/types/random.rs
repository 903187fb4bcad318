//! RANDOMKEY.
//!
//! Keys are kept in order, and nobody knows which is the millionth. So we walk down their common
//! beginnings: of the bytes that can come next, one is drawn, until one key is left. Every key can come
//! up, and where keys are named evenly all are equally likely; a key with few neighbours comes up more
//! often.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::keyspace::{self, GENERATION_BYTES};
use super::scan;
use crate::error::StoreError;
use crate::store::{Chance, Table, View};

/// Keys that agree in this many bytes count as one, and the first of them stands for all.
const DEPTH_MAX: usize = 128;
/// How many keys past their deadline are met before the next living key is good enough.
const TRIES: usize = 16;

/// Some key of the database; `None` if it is empty.
pub fn key(view: &View, db: u8, chance: &mut Chance) -> Result<Option<Bytes>, StoreError> {
    for _ in 0..TRIES {
        let Some(key) = draw(view, db, chance)? else { return Ok(None) };
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

/// Some key, which may be past its deadline.
fn draw(view: &View, db: u8, chance: &mut Chance) -> Result<Option<Bytes>, StoreError> {
    let generation = keyspace::database(view, db).generation;
    let mut prefix = generation.to_be_bytes().to_vec();
    loop {
        let Some(first) = first_from(view, &prefix, &prefix)? else { return Ok(None) };
        if prefix.len() == DEPTH_MAX {
            return Ok(Some(first.slice(GENERATION_BYTES..)));
        }
        let nexts = next_bytes(view, &prefix, &first)?;
        let drawn = usize::try_from(chance.below(nexts.len() as u64)).expect("below a length");
        match nexts[drawn] {
            Some(byte) => prefix.push(byte),
            None => return Ok(Some(Bytes::from(prefix).slice(GENERATION_BYTES..))),
        }
    }
}

/// The bytes that come after `prefix` in the addresses that begin with it, of which `first` is the
/// first; `None` is the end of an address.
fn next_bytes(view: &View, prefix: &[u8], first: &Bytes) -> Result<Vec<Option<u8>>, StoreError> {
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
        address = first_from(view, prefix, &[prefix, &[from]].concat())?;
    }
    Ok(nexts)
}

/// The first address from `from` on, if it begins with `prefix`.
fn first_from(view: &View, prefix: &[u8], from: &[u8]) -> Result<Option<Bytes>, StoreError> {
    let mut first = None;
    view.scan(Table::Keys, from, None, &mut |address, _| {
        if address.starts_with(prefix) {
            first = Some(Bytes::copy_from_slice(address));
        }
        ControlFlow::Break(())
    })?;
    Ok(first)
}
