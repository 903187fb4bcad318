//! DEBUG POPULATE: many keys, written as a client would write them that sends pipelines of SET.
//!
//! Nothing is undone when there is an error: the keys so far are there, and the next attempt goes on behind them.

use super::dispatch::Dispatcher;
use crate::commands::server::Population;
use crate::error::{ClientError, text};
use crate::resp::Reply;

/// Of how many keys, and of about how many bytes of values, a pipeline consists.
const KEYS: u64 = 1000;
const BYTES: u64 = 1 << 20;

impl Dispatcher {
    pub(super) async fn populate(&mut self, keys: &Population) -> Result<(), ClientError> {
        if keys.size as u64 > self.node.settings().argument_bytes_max() {
            return Err(text::STRING_TOO_LONG);
        }
        let step = KEYS.min(BYTES / (keys.size as u64).max(1)).max(1);
        let mut next = 0;
        while next < keys.count {
            if let Some(shortage) = self.node.shortage() {
                return Err(shortage.error());
            }
            let end = keys.count.min(next.saturating_add(step));
            let answers = self.propose(|group| {
                (next..end).for_each(|number| group.push_plain(keys.db, &keys.command(number)));
            });
            let answers = answers.await?;
            let failed = answers.replies().iter().find_map(|reply| match reply {
                Reply::Error(error) => Some(error.clone()),
                _ => None,
            });
            failed.map_or(Ok(()), Err)?;
            next = end;
        }
        Ok(())
    }
}
