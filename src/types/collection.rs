//! Values that are many elements, of whatever type.
//!
//! A small collection lies in its key's record and is written anew with each change. A large one lies apart: its
//! elements are entries of `Table::Elements`, under a number that no other collection ever had, and the record
//! keeps that number and the totals. So a change of a large collection costs the same whatever its size, and
//! deleting, renaming or overwriting its key touches none of its elements: the number goes to the head's garbage,
//! and [`sweep`](super::keyspace::sweep) removes what lies under it a little at a time.
//!
//! A collection that was moved apart stays apart for as long as its key lives.
//!
//! # Format
//! The value in the record begins with one byte that says what follows:
//!
//! | byte | then |
//! | --- | --- |
//! | 1 | the elements, as the type writes them |
//! | 2 | 8 bytes each, big-endian: number, count of the elements, sum of their bytes |
//!
//! An element's key in `Table::Elements` is the collection's number, 8 bytes big-endian, and the element's name.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use super::keyspace::{self, GENERATION_BYTES};
use super::record::{Kind, Record};
use super::scan;
use crate::error::StoreError;
use crate::store::{Table, Txn, View, Visit};

/// The most bytes of elements that a record holds: with them it fits its page of the database four times.
pub const INLINE_BYTES_MAX: usize = 1024;

/// Elements that are copied between two looks at the state.
const COPY_BATCH: usize = 1_000;

const LENGTH_BYTES: usize = 4;

const INLINE: u8 = 1;
const APART: u8 = 2;

/// What the record of a collection holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The elements.
    Inline(Bytes),
    /// Where the elements are.
    Apart(Apart),
}

/// A collection that lies apart from its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// Its number.
    pub id: u64,
    /// How many elements it has.
    pub count: u64,
    /// The bytes of all elements, with their names.
    pub bytes: u64,
}

impl Body {
    /// Reads a collection's value.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] on bytes that no version of Quorate wrote.
    pub fn decode(value: &Bytes) -> Result<Self, StoreError> {
        match value.first() {
            Some(&INLINE) => Ok(Self::Inline(value.slice(1..))),
            Some(&APART) => {
                let (numbers, rest) = value[1..].as_chunks();
                let [id, count, bytes] = numbers else { return Err(corrupt()) };
                let [id, count, bytes] = [id, count, bytes].map(|number| u64::from_be_bytes(*number));
                if rest.is_empty() { Ok(Self::Apart(Apart { id, count, bytes })) } else { Err(corrupt()) }
            }
            _ => Err(corrupt()),
        }
    }

    /// The value to store.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Inline(elements) => {
                let mut value = BytesMut::with_capacity(1 + elements.len());
                value.put_u8(INLINE);
                value.put_slice(elements);
                value.freeze()
            }
            Self::Apart(Apart { id, count, bytes }) => {
                let mut value = BytesMut::with_capacity(25);
                value.put_u8(APART);
                [id, count, bytes].into_iter().for_each(|number| value.put_u64(*number));
                value.freeze()
            }
        }
    }
}

impl Apart {
    /// An empty collection with a number of its own.
    pub fn create(tx: &mut Txn) -> Self {
        let head = tx.head_mut();
        let id = head.next_id;
        head.next_id += 1;
        Self { id, count: 0, bytes: 0 }
    }

    /// What is stored under an element's name.
    pub fn get(&self, view: &View, name: &[u8]) -> Result<Option<Bytes>, StoreError> {
        view.get(Table::Elements, &self.address(name))
    }

    /// Stores an element, over what is there. Says whether it is new.
    pub fn put(&mut self, tx: &mut Txn, name: &[u8], content: &[u8]) -> Result<bool, StoreError> {
        let address = self.address(name);
        let old = tx.get(Table::Elements, &address)?;
        match &old {
            Some(old) => self.bytes -= old.len() as u64,
            None => {
                self.count += 1;
                self.bytes += name.len() as u64;
            }
        }
        self.bytes += content.len() as u64;
        tx.put(Table::Elements, &address, content);
        Ok(old.is_none())
    }

    /// Removes an element, and says whether it was there.
    pub fn remove(&mut self, tx: &mut Txn, name: &[u8]) -> Result<bool, StoreError> {
        let address = self.address(name);
        let Some(old) = tx.get(Table::Elements, &address)? else { return Ok(false) };
        self.count -= 1;
        self.bytes -= (name.len() + old.len()) as u64;
        tx.delete(Table::Elements, &address);
        Ok(true)
    }

    /// Calls `visit` with the elements' names and contents, in the order of the names, from the one that
    /// follows `after` on.
    pub fn walk(&self, view: &View, after: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let (from, end) = keyspace::bounds(self.id);
        let mut visit = |address: &[u8], content: &[u8]| visit(&address[GENERATION_BYTES..], content);
        match after {
            Some(after) => view.scan_after(Table::Elements, &self.address(after), end.as_deref(), &mut visit),
            None => view.scan(Table::Elements, &from, end.as_deref(), &mut visit),
        }
    }

    /// Calls `visit` with the `count` elements that follow a cursor, as [`scan`] has them, and answers where the
    /// next page begins; 0 if there is none.
    pub fn page(
        &self,
        view: &View,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<u64, StoreError> {
        let after = if cursor == 0 { None } else { self.resolve(view, cursor)? };
        let (mut seen, mut last, mut next) = (0, Vec::new(), 0);
        self.walk(view, after.as_deref(), &mut |name, content| {
            if seen == count {
                next = scan::cursor_of(&last);
                return ControlFlow::Break(());
            }
            seen += 1;
            last.clear();
            last.extend_from_slice(name);
            visit(name, content);
            ControlFlow::Continue(())
        })?;
        if next != 0
            && let Some(local) = view.local()
        {
            local.remember_cursor(next, last.into());
        }
        Ok(next)
    }

    /// The name a cursor stands for; `None` if it cannot be found any more.
    fn resolve(&self, view: &View, cursor: u64) -> Result<Option<Bytes>, StoreError> {
        if let Some(name) = view.local().and_then(|local| local.recall_cursor(cursor)) {
            return Ok(Some(name));
        }
        let mut found = None;
        self.walk(view, None, &mut |name, _| {
            if scan::cursor_of(name) != cursor {
                return ControlFlow::Continue(());
            }
            found = Some(Bytes::copy_from_slice(name));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn address(&self, name: &[u8]) -> Vec<u8> {
        keyspace::address(self.id, name)
    }
}

/// Byte strings one after another, each behind its length, 4 bytes big-endian.
pub(super) fn pack<'a>(parts: impl IntoIterator<Item = &'a Bytes> + Clone) -> Bytes {
    let mut packed = BytesMut::with_capacity(packed_bytes(parts.clone()));
    for part in parts {
        packed.put_u32(u32::try_from(part.len()).expect("what lies in a record is short"));
        packed.put_slice(part);
    }
    packed.freeze()
}

/// How long [`pack`] makes them.
pub(super) fn packed_bytes<'a>(parts: impl IntoIterator<Item = &'a Bytes>) -> usize {
    parts.into_iter().map(|part| LENGTH_BYTES + part.len()).sum()
}

/// What was [packed](pack).
///
/// # Errors
/// [`StoreError::Corrupt`] when it is cut off.
pub(super) fn unpack(packed: &Bytes) -> Result<Vec<Bytes>, StoreError> {
    let mut rest = packed.clone();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(*rest.first_chunk().ok_or_else(corrupt)?) as usize;
        let end = LENGTH_BYTES + length;
        if rest.len() < end {
            return Err(corrupt());
        }
        parts.push(rest.split_to(end).slice(LENGTH_BYTES..));
    }
    Ok(parts)
}

/// The number of the collection that a value of this kind is, if it lies apart.
pub(super) fn apart_of(kind: Kind, value: &[u8]) -> Option<u64> {
    match value.split_first() {
        Some((&APART, numbers)) if kind != Kind::String => Some(u64::from_be_bytes(*numbers.first_chunk()?)),
        _ => None,
    }
}

/// The value of a record once more, for another key: elements that lie apart are copied.
pub(super) fn copy(tx: &mut Txn, record: &Record) -> Result<Bytes, StoreError> {
    if record.header.kind == Kind::String {
        return Ok(record.value.clone());
    }
    let Body::Apart(original) = Body::decode(&record.value)? else { return Ok(record.value.clone()) };
    let copy = Apart { id: Apart::create(tx).id, ..original };
    let mut after: Option<Bytes> = None;
    loop {
        let mut batch = Vec::new();
        original.walk(tx, after.as_deref(), &mut |name, content| {
            batch.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(content)));
            if batch.len() < COPY_BATCH { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        after = batch.last().map(|(name, _)| name.clone());
        for (name, content) in batch {
            tx.put(Table::Elements, &copy.address(&name), &content);
        }
        if after.is_none() {
            return Ok(Body::Apart(copy).encode());
        }
    }
}

/// Removes up to `budget` elements of a collection that no record names any more. Says how many.
pub(super) fn sweep(tx: &mut Txn, id: u64, budget: usize) -> Result<usize, StoreError> {
    if budget == 0 {
        return Ok(0);
    }
    let (from, end) = keyspace::bounds(id);
    let mut found = Vec::new();
    tx.scan(Table::Elements, &from, end.as_deref(), &mut |address, _| {
        found.push(address.to_vec());
        if found.len() < budget { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for address in &found {
        tx.delete(Table::Elements, address);
    }
    Ok(found.len())
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("a collection's value is not one this version reads".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &Body, stored: &[u8]) {
        assert_eq!(body.encode(), stored);
        assert_eq!(&Body::decode(&Bytes::copy_from_slice(stored)).expect("as it was written"), body);
    }

    #[test]
    fn every_released_form_is_read() {
        check(&Body::Inline(Bytes::from_static(b"ab")), b"\x01ab");
        check(&Body::Inline(Bytes::new()), b"\x01");
        check(
            &Body::Apart(Apart { id: 0x102, count: 3, bytes: 4 }),
            &[2, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4],
        );
    }

    #[test]
    fn what_is_cut_off_is_corrupt() {
        let packed = pack(&[Bytes::from("f"), Bytes::from("v1"), Bytes::new(), Bytes::new()]);
        assert_eq!(&packed[..], b"\0\0\0\x01f\0\0\0\x02v1\0\0\0\0\0\0\0\0");
        assert_eq!(unpack(&packed).expect("as it was written").len(), 4);
        for cut in [1, 4, 6, 9, 10, 12, 18] {
            unpack(&packed.slice(..cut)).expect_err("it is cut off");
        }
    }

    #[test]
    fn anything_else_is_corrupt() {
        for stored in [&b""[..], b"\x00", b"\x03ab", &[2; 24], &[2; 26], &[2; 33]] {
            Body::decode(&Bytes::copy_from_slice(stored)).expect_err("no version wrote this");
        }
    }
}
