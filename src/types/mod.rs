//! What a database holds: keys, their records, and what can be done with a value. Knows no protocol and
//! no client; everything here is a function of the state, of `now()` and of the arguments.

pub mod collection;
pub mod expiry;
pub mod hash;
pub mod keyspace;
pub mod lcs;
pub mod libraries;
pub mod list;
pub mod random;
pub mod record;
pub mod scan;
pub mod scripts;
pub mod size;
pub mod string;

#[cfg(test)]
pub(crate) mod tests;

pub use keyspace::{Ahead, Class, DATABASES, Expiry, Place};
pub use record::{Form, Header, Kind, Record};

/// The encoding Redis would use for a value.
#[must_use]
pub fn encoding(record: &Record) -> &'static str {
    match record.header.kind {
        Kind::String => string::encoding(record),
        Kind::Hash => hash::encoding(record),
        // Redis 7.0 has one for all lists.
        Kind::List => "quicklist",
    }
}
