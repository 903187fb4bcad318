//! The wire protocol: bytes to argument vectors, replies to bytes.
//!
//! # Why not redis-protocol's decoder
//!
//! The `redis-protocol` crate is sound for what it is made for: a client that reads the replies of a
//! server it trusts. We use it on that side (`bench`, `compat-tests`) and as the oracle of this module's
//! tests. It must not see a byte that a client sent, for three reasons:
//!
//! 1. *It recurses.* A request is a flat array of bulk strings, but a decoder of replies accepts arrays
//!    within arrays and calls itself for each. `*1\r\n` repeated, 6 KB of it for RESP3 and 32 KB for
//!    RESP2, overflows a worker's 2 MiB stack. That is an abort, not a panic: nothing catches it, and the
//!    sender needed no password.
//! 2. *It starts again.* A frame of which a part has arrived is parsed anew from its first byte when
//!    more arrives. 160,000 tiny arguments (1.1 MB) in reads of 4 KiB cost seconds of CPU, four times as
//!    much for twice the bytes.
//! 3. *It knows no inline commands*, which `telnet`, `nc` and health checks of load balancers send.
//!
//! Requests are so much simpler than replies that a reader of our own is shorter than the armour around
//! that decoder would be. [`Reader`] never recurses, looks at each byte once however it was cut up on its
//! way, believes no declared number further than a bounded reservation, and refuses what Redis refuses in
//! Redis' words.
//!
//! Replies are written by hand too ([`encode`]), since going through another crate's frames would copy
//! each of them once more. What replies and requests have in common, the text of numbers, is in
//! [`number`]; the one number that is not a Rust type, in [`extended`].

mod encode;
pub mod extended;
pub mod inline;
pub mod number;
mod reader;
mod reply;
mod stored;

pub use encode::{Protocol, encode};
pub use reader::{Limits, Reader, Violation};
pub use reply::Reply;
