//! Installing a snapshot: another state takes this one's place.
//!
//! It is loaded into a database of its own beside the one in use, and becomes the one by a single
//! atomic rename. A crash before that rename leaves the old state, a crash after it the new one.

use std::path::Path;

use bytes::Bytes;

use super::{Head, State, Store, Table, directory, lock, snapshot};
use crate::error::StoreError;
use crate::mutants::{Mutant, planted};

/// How much is handed to the database at a time: what a load holds in memory.
const BATCH_BYTES: usize = 16 << 20;

impl Store {
    /// Replaces the state by the one in the file `path`, and returns its head and stamp. What the
    /// buffers hold is dropped; a checkpoint that was waiting to be written is never reported. For the
    /// applying thread, between two entries.
    ///
    /// # Errors
    /// `Corrupt` when the file is not a whole snapshot: the old state is still there, in memory and on
    /// disk. After any other error nothing is known of the disk: the node must stop.
    pub fn install(&self, path: &Path) -> Result<(Head, Bytes), StoreError> {
        // Read once more than needed, so that a bad file costs nothing but the reading.
        snapshot::verify(&*self.env.disk, path)?;
        // Waits for a checkpoint that is being written.
        let mut number = lock(&self.writer);
        let next = *number + 1;
        let engine = directory::create(&self.env, &self.dir, &self.options, next)?;
        let mut reader = snapshot::Reader::open(&*self.env.disk, path)?;
        let mark = reader.mark().clone();
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        while let Some(mut records) = reader.next_block()? {
            if planted(Mutant::SnapshotWithoutDeadlines) {
                records.retain(|record| record.stored.as_bytes()[0] != Table::Expiry as u8);
            }
            batch_bytes += records.iter().map(|record| record.packed.len()).sum::<usize>();
            batch.extend(records);
            if batch_bytes >= BATCH_BYTES {
                engine.append(&batch)?;
                batch.clear();
                batch_bytes = 0;
            }
        }
        engine.append(&batch)?;
        engine.commit(&mut std::iter::empty(), &mark)?;
        directory::switch(&*self.env.disk, &self.dir, next)?;
        *number = next;

        let installed = State::new(engine, mark.head.clone(), &self.options, self.env.rng.next_u64());
        let replaced = std::mem::replace(&mut *self.write(), installed);
        self.gauges.installed(self.env.clock.monotonic());
        *lock(&self.durable) = Some(mark.stamp.clone());
        drop(replaced);
        directory::remove_leftovers(&*self.env.disk, &self.dir, next)?;
        Ok((mark.head, mark.stamp))
    }
}
