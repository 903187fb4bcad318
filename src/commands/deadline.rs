//! When a key is to end, as a client says it.

use bytes::Bytes;

use super::{Args, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::number;
use crate::types::Expiry;

/// What a time counts, and from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl Clock {
    /// Takes `EX`, `PX`, `EXAT` or `PXAT`, if that is the next argument.
    pub fn take(args: &mut Args) -> Option<Self> {
        [
            ("EX", Self::Seconds),
            ("PX", Self::Milliseconds),
            ("EXAT", Self::UnixSeconds),
            ("PXAT", Self::UnixMilliseconds),
        ]
        .into_iter()
        .find_map(|(word, clock)| args.take(word).then_some(clock))
    }

    /// The milliseconds since the epoch of a time on this clock, which may be before the epoch; `None`
    /// if there is no such number.
    pub fn resolve(self, time: i64, now_ms: u64) -> Option<i64> {
        let milliseconds = match self {
            Self::Seconds | Self::UnixSeconds => time.checked_mul(1000)?,
            Self::Milliseconds | Self::UnixMilliseconds => time,
        };
        match self {
            Self::Seconds | Self::Milliseconds => milliseconds.checked_add_unsigned(now_ms),
            Self::UnixSeconds | Self::UnixMilliseconds => Some(milliseconds),
        }
    }
}

/// A time that must be positive, as SET and its kin want it. It stays text until the command runs:
/// Redis looks at it after all options, and GETEX only if there is a key.
pub(super) struct Deadline {
    pub clock: Clock,
    pub text: Bytes,
}

impl Deadline {
    /// When the key ends, in cluster milliseconds, for an error of the command `spec`.
    pub fn resolve_ms(&self, now_ms: u64, spec: &Spec) -> Result<u64> {
        let time = number::parse_int(&self.text).ok_or(text::NOT_AN_INTEGER)?;
        let deadline = if time > 0 { self.clock.resolve(time, now_ms) } else { None };
        Ok(deadline.and_then(|deadline| u64::try_from(deadline).ok()).ok_or_else(|| invalid(spec))?)
    }

    /// The same for a value that is put.
    pub fn resolve(&self, now_ms: u64, spec: &Spec) -> Result<Expiry> {
        Ok(Expiry::At(self.resolve_ms(now_ms, spec)?))
    }
}

/// "invalid expire time".
pub(super) fn invalid(spec: &Spec) -> ClientError {
    ClientError::new(format!("ERR invalid expire time in '{}' command", spec.name.to_ascii_lowercase()))
}
