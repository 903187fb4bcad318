//! Listing keys: KEYS, and SCAN's pages.
//!
//! Keys come in key order, so a pattern that begins with plain text costs what it matches and not the
//! whole database, and a page begins where the page before ended: behind its last key, whatever was
//! added or removed meanwhile. A key that is there throughout is therefore always returned.
//!
//! The protocol wants a number where we have a key. The cursor is a hash of the last key returned, of 48
//! bits because many clients read it as a double. Each node remembers the keys behind the cursors it
//! gave out of late ([`store::Local`](crate::store::Local)). A cursor that it does not know, because
//! another node gave it or because it was long ago, is looked for by one pass over the database; if its
//! key was removed too, the scan starts again. Where two keys have the same hash the earlier is taken. So
//! whatever happens, a scan may return a key twice but never leaves one out.
//!
//! Inside a transaction or a script every node must give the same page, so there is no memory, and the
//! place is always found by the pass.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::expiry;
use super::keyspace::{self, GENERATION_BYTES};
use super::record::Header;
use crate::error::StoreError;
use crate::glob;
use crate::store::{Table, View};

/// How much of a pattern's plain beginning bounds a listing. Longer keys are not stored in the order of
/// all their bytes.
const PREFIX_BYTES_MAX: usize = 256;

/// Which keys are wanted.
#[derive(Debug, Default)]
pub struct Filter {
    /// A glob pattern that the key matches.
    pub pattern: Option<Bytes>,
    /// The name of the value's type, in any case.
    pub kind: Option<Bytes>,
}

impl Filter {
    fn prefix(&self) -> Vec<u8> {
        let mut prefix = self.pattern.as_deref().map(glob::literal_prefix).unwrap_or_default().into_owned();
        prefix.truncate(PREFIX_BYTES_MAX);
        prefix
    }

    fn accepts(&self, key: &[u8], header: &Header) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(header.kind.name().as_bytes()))
            && self.matches(key)
    }

    /// Whether a name matches the pattern, if there is one.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        // Redis takes `*` for all names, the empty one included, which no pattern with a `*` matches.
        self.pattern.as_ref().is_none_or(|pattern| pattern == "*" || glob::matches(pattern, name))
    }
}

/// A part of the keys.
#[derive(Debug, Default)]
pub struct Page {
    pub keys: Vec<Bytes>,
    /// Where the next page begins; 0 if there is none.
    pub cursor: u64,
}

/// All keys of a database that are wanted, in key order.
pub fn all(view: &View, db: u8, filter: &Filter) -> Result<Vec<Bytes>, StoreError> {
    let mut keys = Vec::new();
    walk(view, db, &filter.prefix(), None, &mut |key, header| {
        if filter.accepts(key, header) {
            keys.push(Bytes::copy_from_slice(key));
        }
        ControlFlow::Continue(())
    })?;
    Ok(keys)
}

/// The wanted ones among the next `count` keys after the cursor.
pub fn page(view: &View, db: u8, cursor: u64, filter: &Filter, count: usize) -> Result<Page, StoreError> {
    let after = if cursor == 0 { None } else { resolve(view, db, cursor)? };
    let mut page = Page::default();
    let (mut seen, mut last) = (0, Vec::new());
    walk(view, db, &filter.prefix(), after.as_deref(), &mut |key, header| {
        if seen == count {
            page.cursor = cursor_of(&last);
            return ControlFlow::Break(());
        }
        seen += 1;
        last.clear();
        last.extend_from_slice(key);
        if filter.accepts(key, header) {
            page.keys.push(Bytes::copy_from_slice(key));
        }
        ControlFlow::Continue(())
    })?;
    if page.cursor != 0
        && let Some(local) = view.local()
    {
        local.remember_cursor(page.cursor, last.into());
    }
    Ok(page)
}

/// Calls `visit` with a database's living keys in key order: those that begin with `prefix`, of at most
/// [`PREFIX_BYTES_MAX`], and come after `after`.
pub(super) fn walk(
    view: &View,
    db: u8,
    prefix: &[u8],
    after: Option<&[u8]>,
    visit: &mut dyn FnMut(&[u8], &Header) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let generation = keyspace::database(view, db).generation;
    let from = keyspace::address(generation, prefix);
    let end = successor(&from);
    let mut failed = None;
    let mut visit = |address: &[u8], stored: &[u8]| match Header::decode(stored) {
        Ok(header) if expiry::is_past(view, header.deadline) => ControlFlow::Continue(()),
        Ok(header) => visit(&address[GENERATION_BYTES..], &header),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    };
    match after {
        Some(after) if after >= prefix => {
            let after = keyspace::address(generation, after);
            view.scan_after(Table::Keys, &after, end.as_deref(), &mut visit)?;
        }
        _ => view.scan(Table::Keys, &from, end.as_deref(), &mut visit)?,
    }
    failed.map_or(Ok(()), Err)
}

/// The key a cursor stands for; `None` if it cannot be found any more.
fn resolve(view: &View, db: u8, cursor: u64) -> Result<Option<Bytes>, StoreError> {
    if let Some(key) = view.local().and_then(|local| local.recall_cursor(cursor)) {
        return Ok(Some(key));
    }
    let mut found = None;
    walk(view, db, &[], None, &mut |key, _| {
        if cursor_of(key) != cursor {
            return ControlFlow::Continue(());
        }
        found = Some(Bytes::copy_from_slice(key));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// 48 bits of FNV-1a, stirred; never 0. Nodes of different versions must agree on it.
pub(super) fn cursor_of(key: &[u8]) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 16).max(1)
}

/// The first address after all that begin with `prefix`; `None` if there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut successor = prefix[..=keep].to_vec();
    successor[keep] += 1;
    Some(successor)
}
