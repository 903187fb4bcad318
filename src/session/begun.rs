//! What others may know of the command a connection is at.

use bytes::Bytes;

/// The last command that a connection has begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Begun {
    /// Its name, upper case; empty before the first.
    pub command: &'static str,
    /// Its length on the wire.
    pub query_bytes: usize,
    /// The length of its words alone.
    pub argument_bytes: usize,
}

impl Begun {
    pub(super) fn of(command: &'static str, argv: &[Bytes]) -> Self {
        let argument_bytes = argv.iter().map(Bytes::len).sum();
        Self { command, query_bytes: request_bytes(argv), argument_bytes }
    }
}

/// The length of a request as clients send it: an array of bulk strings.
fn request_bytes(argv: &[Bytes]) -> usize {
    let digits = |number: usize| number.checked_ilog10().unwrap_or(0) as usize + 1;
    // `*`, or `$`, a number and a line end; for words, a line end behind them.
    argv.iter().map(|word| digits(word.len()) + 3 + word.len() + 2).sum::<usize>() + digits(argv.len()) + 3
}
