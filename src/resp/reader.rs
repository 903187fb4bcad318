//! Requests: what a connection read, as argument vectors.
//!
//! The connection reads into [`Reader::buffer`] and then takes requests with [`Reader::next`] until there
//! is no whole one left. An argument leaves the buffer as soon as it is complete, as a slice of the memory
//! it was read into, so a request of any number of arguments is resumed where it stopped, and the buffer
//! holds no more than one unfinished argument (or line) and what follows it.
//!
//! Memory follows what has arrived, never what was announced. There is one exception, so that a large
//! value is not copied each time the buffer has grown full: it gets a buffer of exactly its size, up to a
//! mebibyte at once, and beyond that three times what it has sent so far.
//!
//! An argument keeps alive the chunk it was read into. Whoever keeps an argument for long, copies it.

use bytes::{Buf, Bytes, BytesMut};

use super::inline;
use super::number::parse_int;
use crate::error::ClientError;

/// The size of a buffer, and so of a read, unless one argument needs more.
const CHUNK_BYTES: usize = 16 * 1024;
/// A read with less room than this is not worth its system call.
const READ_BYTES_MIN: usize = 2 * 1024;
/// An argument of at least so many bytes gets a buffer of its own size (Redis' `PROTO_MBULK_BIG_ARG`).
const BIG_ARGUMENT_BYTES: usize = 32 * 1024;
/// What is reserved for a big argument on its length's word alone.
const RESERVED_UNSEEN_BYTES: usize = 1024 * 1024;
/// Places reserved for a request's arguments on their count's word alone.
const RESERVED_ARGS: usize = 64;

/// How much a client may ask for at once. Judged when a length is read: limits that change in the middle
/// of a request apply to the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of a request, its command's name among them.
    pub args_max: usize,
    /// Bytes of one argument: `proto-max-bulk-len`.
    pub bulk_bytes_max: usize,
    /// Bytes of an inline request, and of the line that holds a count or a length.
    pub inline_bytes_max: usize,
    /// Bytes of a whole request as sent.
    pub request_bytes_max: usize,
    /// Whether the client has logged in, or needs not: only the words of the refusal depend on it.
    pub authenticated: bool,
}

impl Limits {
    const INLINE_BYTES_MAX: usize = 64 * 1024;
    /// Every argument takes 32 bytes, several times over while a command is on its way, though it may be a
    /// single byte; and a command is applied in one go, while all others wait.
    const ARGS_MAX: usize = 256 * 1024;

    /// For a client that has yet to log in: enough for AUTH and HELLO.
    pub const UNAUTHENTICATED: Self = Self {
        args_max: 10,
        bulk_bytes_max: 16 * 1024,
        inline_bytes_max: Self::INLINE_BYTES_MAX,
        request_bytes_max: 11 * 16 * 1024,
        authenticated: false,
    };

    /// For everybody else.
    #[must_use]
    pub const fn authenticated(bulk_bytes_max: usize, request_bytes_max: usize) -> Self {
        Self {
            args_max: Self::ARGS_MAX,
            bulk_bytes_max,
            inline_bytes_max: Self::INLINE_BYTES_MAX,
            request_bytes_max,
            authenticated: true,
        }
    }
}

/// Why a client's bytes are not a request. Where its next request would begin is not known, so the
/// connection is to be closed after [`Violation::reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("invalid multibulk length")]
    InvalidCount,
    #[error("unauthenticated multibulk length")]
    UnauthenticatedCount,
    #[error("too big mbulk count string")]
    CountLineTooLong,
    /// Holds the byte that was there instead; one above 0x7f is shown as Latin-1.
    #[error("expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    #[error("invalid bulk length")]
    InvalidLength,
    #[error("unauthenticated bulk length")]
    UnauthenticatedLength,
    #[error("too big bulk count string")]
    LengthLineTooLong,
    #[error("too big inline request")]
    InlineTooLong,
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// Ours: Redis closes the connection without a word.
    #[error("too big request")]
    RequestTooBig,
    /// A web page makes a browser send HTTP to this port, hoping that a line of its body is a command.
    #[error("an HTTP request")]
    CrossProtocol,
}

impl Violation {
    /// What to answer before closing the connection. `None`: nothing, the sender is not a client.
    #[must_use]
    pub fn reply(&self) -> Option<ClientError> {
        match self {
            Self::CrossProtocol => None,
            violation => Some(ClientError::new(format!("ERR Protocol error: {violation}"))),
        }
    }
}

/// The requests of one connection, from its bytes.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// So many bytes of the buffer are known not to hold the end of the line.
    scanned: usize,
    /// The complete arguments of the unfinished request.
    args: Vec<Bytes>,
    /// How many arguments the unfinished request still lacks; 0 between requests.
    args_missing: usize,
    /// The length of the argument that stands at the front of the buffer, once it is known.
    argument_bytes: Option<usize>,
    /// Bytes of the unfinished request that have left the buffer.
    request_bytes: usize,
}

impl Reader {
    /// A reader of a new connection. It holds no memory before the first read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to append what the connection reads: there is room for a good read, and no need to make more.
    /// To be called when [`Reader::next`] has nothing left to give.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let held = self.buffer.len();
        let room = self.buffer.capacity() - held;
        let argument = self.argument_bytes.map_or(0, |bytes| bytes + 2);
        let missing = argument.saturating_sub(held);
        let enough = if missing == 0 { READ_BYTES_MIN } else { missing.min(READ_BYTES_MIN) };
        if room < enough {
            let more = if argument < BIG_ARGUMENT_BYTES {
                // As much again, where nobody takes what there is: each byte is moved a few times at most.
                missing.max(CHUNK_BYTES).max(if held > CHUNK_BYTES { held } else { 0 })
            } else {
                missing.min(RESERVED_UNSEEN_BYTES.max(3 * held))
            };
            // Not `reserve`, which would give a huge request's memory to the small ones after it.
            let mut buffer = BytesMut::with_capacity(held + more);
            buffer.extend_from_slice(&self.buffer);
            self.buffer = buffer;
        }
        &mut self.buffer
    }

    /// The next whole request: at least one argument. `None`: more bytes are needed. Empty arrays and
    /// empty lines are not requests and are passed over.
    pub fn next(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, Violation> {
        loop {
            if self.args_missing > 0 {
                return self.next_args(limits);
            }
            self.request_bytes = 0;
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'*') => match self.next_count(limits)? {
                    None => return Ok(None),
                    Some(count) => {
                        self.args = Vec::with_capacity(count.min(RESERVED_ARGS));
                        self.args_missing = count;
                    }
                },
                Some(_) => match self.next_inline(limits)? {
                    Some(args) if args.is_empty() => {}
                    args => return Ok(args),
                },
            }
        }
    }

    /// Bytes that were read and not yet given out: those in the buffer, and the unfinished request's.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let taken = if self.args_missing > 0 { self.request_bytes } else { 0 };
        taken + self.buffer.len()
    }

    /// The `*<count>` line; a negative count is none.
    fn next_count(&mut self, limits: &Limits) -> Result<Option<usize>, Violation> {
        let Some(end) = self.find_header_end(limits, Violation::CountLineTooLong)? else { return Ok(None) };
        let count = parse_int(&self.buffer[1..end])
            .filter(|&count| count <= i64::from(i32::MAX))
            .ok_or(Violation::InvalidCount)?;
        let count = usize::try_from(count).unwrap_or(0);
        if count > limits.args_max {
            return Err(if limits.authenticated {
                Violation::InvalidCount
            } else {
                Violation::UnauthenticatedCount
            });
        }
        self.take_line(end + 2);
        Ok(Some(count))
    }

    /// The arguments that an array still lacks.
    fn next_args(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, Violation> {
        while self.args_missing > 0 {
            let Some(length) = self.next_length(limits)? else { return Ok(None) };
            // Redis, too, takes any two bytes for the end of an argument.
            if self.buffer.len() < length + 2 {
                return Ok(None);
            }
            self.args.push(self.buffer.split_to(length).freeze());
            self.buffer.advance(2);
            if length >= BIG_ARGUMENT_BYTES && self.buffer.is_empty() {
                self.buffer = BytesMut::new(); // or it would keep the argument's memory alive
            }
            self.request_bytes += length + 2;
            self.argument_bytes = None;
            self.args_missing -= 1;
        }
        Ok(Some(std::mem::take(&mut self.args)))
    }

    /// The `$<length>` line of the next argument, unless it was read before.
    fn next_length(&mut self, limits: &Limits) -> Result<Option<usize>, Violation> {
        if self.argument_bytes.is_some() {
            return Ok(self.argument_bytes);
        }
        let Some(end) = self.find_header_end(limits, Violation::LengthLineTooLong)? else { return Ok(None) };
        if self.buffer[0] != b'$' {
            return Err(Violation::ExpectedBulk(self.buffer[0]));
        }
        let length = parse_int(&self.buffer[1..end])
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(Violation::InvalidLength)?;
        if length > limits.bulk_bytes_max {
            return Err(if limits.authenticated {
                Violation::InvalidLength
            } else {
                Violation::UnauthenticatedLength
            });
        }
        if self.request_bytes.saturating_add(length) > limits.request_bytes_max {
            return Err(Violation::RequestTooBig);
        }
        self.take_line(end + 2);
        self.argument_bytes = Some(length);
        Ok(Some(length))
    }

    /// An inline request: empty if its line is.
    fn next_inline(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, Violation> {
        let Some(end) = self.find(b'\n', limits, Violation::InlineTooLong)? else { return Ok(None) };
        let line = &self.buffer[..end];
        let args =
            inline::split(line.strip_suffix(b"\r").unwrap_or(line)).ok_or(Violation::UnbalancedQuotes)?;
        self.take_line(end + 1);
        match args.first() {
            // Only here: a browser cannot be made to send an array.
            Some(name) if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:") => {
                Err(Violation::CrossProtocol)
            }
            _ => Ok(Some(args)),
        }
    }

    /// Where the line of a count or a length ends, once its end is here. Redis looks for the `\r` only and
    /// takes any byte for the `\n`.
    fn find_header_end(&mut self, limits: &Limits, too_long: Violation) -> Result<Option<usize>, Violation> {
        let end = self.find(b'\r', limits, too_long)?;
        Ok(end.filter(|&end| end + 2 <= self.buffer.len()))
    }

    /// Where the line at the front of the buffer ends.
    fn find(&mut self, end: u8, limits: &Limits, too_long: Violation) -> Result<Option<usize>, Violation> {
        let found = self.buffer[self.scanned..].iter().position(|&byte| byte == end);
        self.scanned = found.map_or(self.buffer.len(), |after| self.scanned + after);
        if self.scanned > limits.inline_bytes_max {
            return Err(too_long);
        }
        Ok(found.map(|_| self.scanned))
    }

    /// Takes a line and its end from the front of the buffer.
    fn take_line(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.scanned = 0;
        self.request_bytes += bytes;
    }
}

#[cfg(test)]
mod tests;
