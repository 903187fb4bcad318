//! How much a client may leave unread: `client-output-buffer-limit`.
//!
//! The classes are those of Redis, by what is sent rather than by who reads it: replies have the limit of `normal`,
//! and what a client is sent unasked, that of `pubsub`. While a client reads no replies, its requests are read and not
//! served, up to the limit of its query buffer: so its replies do not become more, and only a single one can be
//! larger than the limit.

use std::time::Duration;

use crate::config::OutputLimit;

/// So much is sent in any case: Redis, too, begins to count behind its first buffer.
pub const UNLIMITED_BYTES: usize = 16 << 10;
/// How often somebody looks whether a client has been above its limit for too long.
pub const LOOK: Duration = Duration::from_millis(500);

/// Since when what a client has not read is above its soft limit.
#[derive(Debug, Default)]
pub struct Unread {
    above_since: Option<Duration>,
}

impl Unread {
    /// Whether the connection is to end, at `now`, with so many bytes unread.
    pub fn outgrows(&mut self, limit: OutputLimit, bytes: usize, now: Duration) -> bool {
        let unread = if bytes > UNLIMITED_BYTES { bytes as u64 } else { 0 };
        if limit.hard_bytes > 0 && unread >= limit.hard_bytes {
            return true;
        }
        if limit.soft_bytes == 0 || unread < limit.soft_bytes {
            self.above_since = None;
            return false;
        }
        let since = *self.above_since.get_or_insert(now);
        now.saturating_sub(since) > Duration::from_secs(limit.soft_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    /// Each step is a time in seconds, how much is unread then, and whether that is too much.
    fn check(hard_bytes: u64, soft_bytes: u64, steps: &[(u64, usize, bool)]) {
        let limit = OutputLimit { hard_bytes, soft_bytes, soft_seconds: 10 };
        let mut unread = Unread::default();
        for (second, bytes, expect) in steps {
            let outgrows = unread.outgrows(limit, *bytes, Duration::from_secs(*second));
            assert_eq!(outgrows, *expect, "{bytes} bytes at {second}");
        }
    }

    #[test]
    fn a_hard_limit_ends_at_once() {
        check(64 << 10, 0, &[(0, 64 * KIB - 1, false), (1, 64 * KIB, true)]);
        check(0, 0, &[(0, 1 << 40, false)]);
        check(1, 0, &[(0, 16 * KIB, false), (0, 16 * KIB + 1, true)]);
    }

    #[test]
    fn a_soft_limit_ends_after_its_time() {
        let above = 32 * KIB;
        check(0, 32 << 10, &[(5, above, false), (15, above, false), (16, above, true)]);
        check(
            0,
            32 << 10,
            &[(5, above, false), (14, above - 1, false), (16, above, false), (27, above, true)],
        );
    }
}
