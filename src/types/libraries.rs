//! Libraries of functions: what FCALL finds.
//!
//! They are part of the state, as scripts are. A library is kept as its code, which is run anew for each call, and
//! what it registered when it was loaded: so that to list functions, and to find one, no code has to run.
//!
//! # In `Table::Meta`
//!
//! | key | value |
//! | --- | --- |
//! | `library:` and a library's name | version, 1; the code's SHA-1, 20 bytes; how many functions, 4 bytes; the functions; the code |
//! | `function:` and a function's name, in lower case | the library's name |
//! | `libraries` | version, 1; 8 bytes each: how many libraries, functions, and bytes of code |
//!
//! A function is its name, its description and its flags, a byte of [`FLAGS`]. A name or description is its length in
//! 4 bytes, and itself; no description is the length `0xffff_ffff` alone. Numbers are little-endian.

use std::ops::ControlFlow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::StoreError;
use crate::store::{Table, Txn, View};

/// What functions can say about themselves, in the order of their bits.
pub const FLAGS: [&str; 5] = ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];
/// The bit of a function that does not write.
pub const NO_WRITES: u8 = 1;
/// The bit of a function that may add data where there is no room for more.
pub const ALLOW_OOM: u8 = 1 << 1;

/// How many bytes all libraries may have together, as [`size`] counts them.
pub const BYTES_MAX: u64 = 64 << 20;
/// What a function or a library counts beside its text.
const OVERHEAD_BYTES: u64 = 256;

const VERSION: u8 = 1;
const LIBRARY: &[u8] = b"library:";
const FUNCTION: &[u8] = b"function:";
const COUNTS: &[u8] = b"libraries";
const NO_DESCRIPTION: u32 = u32::MAX;

/// A library as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The SHA-1 of the code.
    pub digest: [u8; 20],
    /// Sorted by name.
    pub functions: Vec<Function>,
    /// All of it, the first line included.
    pub code: Bytes,
}

/// What is known of a function without running code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: Bytes,
    pub description: Option<Bytes>,
    pub flags: u8,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub libraries: u64,
    pub functions: u64,
    pub bytes: u64,
}

/// The library of this name.
///
/// # Errors
/// The store failed.
pub fn get(view: &View, name: &[u8]) -> Result<Option<Library>, StoreError> {
    let stored = view.get(Table::Meta, &key(LIBRARY, name))?;
    stored.map(|stored| decode(stored).ok_or_else(corrupt)).transpose()
}

/// The name of the library that a function is in, which is found in any case.
///
/// # Errors
/// The store failed.
pub fn library_of(view: &View, function: &[u8]) -> Result<Option<Bytes>, StoreError> {
    view.get(Table::Meta, &function_key(function))
}

/// All libraries and their names, which they are sorted by.
///
/// # Errors
/// The store failed.
pub fn all(view: &View) -> Result<Vec<(Bytes, Library)>, StoreError> {
    let mut all = Vec::new();
    let mut broken = false;
    view.scan_prefix(Table::Meta, LIBRARY, &mut |key, stored| {
        match decode(Bytes::copy_from_slice(stored)) {
            Some(library) => all.push((Bytes::copy_from_slice(&key[LIBRARY.len()..]), library)),
            None => broken = true,
        }
        ControlFlow::Continue(())
    })?;
    if broken { Err(corrupt()) } else { Ok(all) }
}

/// How many there are.
///
/// # Errors
/// The store failed.
pub fn counts(view: &View) -> Result<Counts, StoreError> {
    let Some(stored) = view.get(Table::Meta, COUNTS)? else { return Ok(Counts::default()) };
    let decoded = || {
        let (&version, numbers) = stored.split_first()?;
        let (numbers, []) = numbers.as_chunks() else { return None };
        let [libraries, functions, bytes] = numbers else { return None };
        let [libraries, functions, bytes] =
            [libraries, functions, bytes].map(|bytes| u64::from_le_bytes(*bytes));
        (version == VERSION).then_some(Counts { libraries, functions, bytes })
    };
    decoded().ok_or_else(corrupt)
}

/// Whether there is room for a library, in place of the one of that name.
///
/// # Errors
/// The store failed.
pub fn fits(view: &View, name: &[u8], library: &Library) -> Result<bool, StoreError> {
    let replaced = get(view, name)?.map_or(0, |replaced| size(&replaced));
    Ok(counts(view)?.bytes - replaced + size(library) <= BYTES_MAX)
}

/// Keeps a library, in place of the one of that name. No other library has one of its functions, and it fits.
///
/// # Errors
/// The store failed.
pub fn put(tx: &mut Txn, name: &[u8], library: &Library) -> Result<(), StoreError> {
    remove(tx, name)?;
    let counts = counts(tx)?;
    let counts = Counts {
        libraries: counts.libraries + 1,
        functions: counts.functions + library.functions.len() as u64,
        bytes: counts.bytes + size(library),
    };
    for function in &library.functions {
        tx.put(Table::Meta, &function_key(&function.name), name);
    }
    tx.put(Table::Meta, &key(LIBRARY, name), encode(library));
    counts.write(tx);
    Ok(())
}

/// Forgets a library; whether there was one.
///
/// # Errors
/// The store failed.
pub fn remove(tx: &mut Txn, name: &[u8]) -> Result<bool, StoreError> {
    let Some(library) = get(tx, name)? else { return Ok(false) };
    let counts = counts(tx)?;
    for function in &library.functions {
        tx.delete(Table::Meta, &function_key(&function.name));
    }
    tx.delete(Table::Meta, &key(LIBRARY, name));
    let left = Counts {
        libraries: counts.libraries - 1,
        functions: counts.functions - library.functions.len() as u64,
        bytes: counts.bytes - size(&library),
    };
    left.write(tx);
    Ok(true)
}

/// Forgets all libraries.
///
/// # Errors
/// The store failed.
pub fn flush(tx: &mut Txn) -> Result<(), StoreError> {
    for (name, _) in all(tx)? {
        remove(tx, &name)?;
    }
    Ok(())
}

impl Counts {
    fn write(self, tx: &mut Txn) {
        if self == Self::default() {
            return tx.delete(Table::Meta, COUNTS);
        }
        let mut stored = BytesMut::with_capacity(25);
        stored.put_u8(VERSION);
        for number in [self.libraries, self.functions, self.bytes] {
            stored.put_u64_le(number);
        }
        tx.put(Table::Meta, COUNTS, &stored);
    }
}

/// What a library counts.
#[must_use]
pub fn size(library: &Library) -> u64 {
    library.code.len() as u64 + OVERHEAD_BYTES * (library.functions.len() as u64 + 1)
}

fn encode(library: &Library) -> Bytes {
    let mut stored = BytesMut::with_capacity(64 * library.functions.len() + library.code.len() + 25);
    stored.put_u8(VERSION);
    stored.put_slice(&library.digest);
    stored.put_u32_le(length(library.functions.len()));
    for function in &library.functions {
        stored.put_u32_le(length(function.name.len()));
        stored.put_slice(&function.name);
        match &function.description {
            Some(description) => {
                stored.put_u32_le(length(description.len()));
                stored.put_slice(description);
            }
            None => stored.put_u32_le(NO_DESCRIPTION),
        }
        stored.put_u8(function.flags);
    }
    stored.put_slice(&library.code);
    stored.freeze()
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a library's code is bounded, and everything in it")
}

fn decode(mut stored: Bytes) -> Option<Library> {
    let mut digest = [0; 20];
    if stored.try_get_u8().ok()? != VERSION {
        return None;
    }
    stored.try_copy_to_slice(&mut digest).ok()?;
    let count = stored.try_get_u32_le().ok()?;
    let mut functions = Vec::new();
    for _ in 0..count {
        let length = stored.try_get_u32_le().ok()?;
        let name = take(&mut stored, length)?;
        let description = match stored.try_get_u32_le().ok()? {
            NO_DESCRIPTION => None,
            length => Some(take(&mut stored, length)?),
        };
        functions.push(Function { name, description, flags: stored.try_get_u8().ok()? });
    }
    Some(Library { digest, functions, code: stored })
}

fn take(stored: &mut Bytes, length: u32) -> Option<Bytes> {
    let length = length as usize;
    (length <= stored.len()).then(|| stored.split_to(length))
}

fn key(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    [prefix, name].concat()
}

fn function_key(name: &[u8]) -> Vec<u8> {
    key(FUNCTION, &name.to_ascii_lowercase())
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("what is kept about libraries of functions cannot be read".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::{begin, with_store};

    fn library(names: &[&'static str], code: &'static str) -> Library {
        let function = |name: &&'static str| Function {
            name: Bytes::from_static(name.as_bytes()),
            description: (name.len() > 1).then(|| Bytes::from_static(b"long")),
            flags: NO_WRITES,
        };
        Library {
            digest: [7; 20],
            functions: names.iter().map(function).collect(),
            code: Bytes::from_static(code.as_bytes()),
        }
    }

    #[test]
    fn the_stored_form_never_changes() {
        with_store(|store| {
            let mut tx = begin(store, 1);
            let one = library(&["f", "gg"], "code");
            put(&mut tx, b"lib", &one).expect("the simulated disk works");
            let stored = |key: &[u8]| tx.get(Table::Meta, key).expect("the simulated disk works");
            let functions = b"\x02\0\0\0\x01\0\0\0f\xff\xff\xff\xff\x01\x02\0\0\0gg\x04\0\0\0long\x01";
            let expected = [&[1][..], &[7; 20], functions, b"code"].concat();
            assert_eq!(stored(b"library:lib").expect("it is there"), expected);
            assert_eq!(stored(b"function:gg").expect("it is there"), &b"lib"[..]);
            let counts = b"\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0";
            assert_eq!(stored(b"libraries").expect("it is there"), &counts[..]);
            assert_eq!(get(&tx, b"lib").expect("it can be read"), Some(one));
        });
    }

    #[test]
    fn nothing_is_left_of_what_was_removed() {
        with_store(|store| {
            let mut tx = begin(store, 1);
            for (name, functions) in [(b"a", ["f", "gg"]), (b"b", ["h", "ii"])] {
                put(&mut tx, name, &library(&functions, "code")).expect("the simulated disk works");
            }
            assert!(remove(&mut tx, b"a").expect("the simulated disk works"));
            assert!(!remove(&mut tx, b"a").expect("the simulated disk works"));
            assert_eq!(library_of(&tx, b"gg").expect("the simulated disk works"), None);
            assert_eq!(
                library_of(&tx, b"ii").expect("the simulated disk works"),
                Some(Bytes::from_static(b"b"))
            );
            assert_eq!(counts(&tx).expect("the simulated disk works").functions, 2);
            flush(&mut tx).expect("the simulated disk works");
            assert_eq!(all(&tx).expect("the simulated disk works"), []);
            for key in [&b"libraries"[..], b"function:ii", b"library:b"] {
                assert_eq!(tx.get(Table::Meta, key).expect("the simulated disk works"), None);
            }
        });
    }

    #[test]
    fn libraries_are_bounded() {
        with_store(|store| {
            let mut tx = begin(store, 1);
            let large = Library { code: Bytes::from(vec![b' '; 40 << 20]), ..library(&["f"], "") };
            let fits = |tx: &Txn, name| fits(tx, name, &large).expect("the simulated disk works");
            assert!(fits(&tx, b"a"));
            put(&mut tx, b"a", &large).expect("the simulated disk works");
            assert!(fits(&tx, b"a") && !fits(&tx, b"b"));
        });
    }
}
