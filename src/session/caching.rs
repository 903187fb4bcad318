//! What a connection says about its cache: CLIENT TRACKING and CLIENT CACHING.

use std::sync::Arc;

use bytes::Bytes;

use super::Session;
use super::registry::Tracks;
use crate::tracking::{Keeper, Options, Overlap, Redirect};

/// Which keys a connection is remembered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// All that it reads.
    All,
    /// Those that the command after CLIENT CACHING YES reads.
    OptIn,
    /// All but those that the command after CLIENT CACHING NO reads.
    OptOut,
    /// None: it asks for prefixes.
    Broadcast,
}

/// How a connection tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    pub caching: Caching,
    pub noloop: bool,
    /// Whether CLIENT CACHING was said of the next command.
    pub said: bool,
}

impl Session {
    /// How it tracks, if it does.
    #[must_use]
    pub const fn tracking(&self) -> Option<&Tracking> {
        self.tracking.as_ref()
    }

    /// CLIENT TRACKING ON: changes go to the client called `redirect`, if that is not 0.
    ///
    /// # Errors
    /// If prefixes overlap.
    pub fn start_tracking(
        &mut self,
        redirect: u64,
        tracking: Tracking,
        prefixes: Vec<Bytes>,
    ) -> Result<(), Overlap> {
        let target = self.registry.get(redirect).map(|client| {
            let keeper: Arc<dyn Keeper> = client;
            Redirect { id: redirect, keeper: Arc::downgrade(&keeper) }
        });
        let options = Options {
            redirect: target,
            noloop: tracking.noloop,
            prefixes: (tracking.caching == Caching::Broadcast).then_some(prefixes),
        };
        self.registry.tracking().start(Arc::clone(&self.client) as Arc<dyn Keeper>, options)?;
        let broadcast = tracking.caching == Caching::Broadcast;
        self.client.update(|face| face.tracks = Some(Tracks { redirect, broadcast, broken: false }));
        self.tracking = Some(tracking);
        Ok(())
    }

    /// CLIENT TRACKING OFF.
    pub fn stop_tracking(&mut self) {
        if self.tracking.take().is_some() {
            self.registry.tracking().stop(self.id());
            self.client.update(|face| face.tracks = None);
        }
    }

    /// CLIENT CACHING, of the next command.
    pub fn say_caching(&mut self) {
        if let Some(tracking) = &mut self.tracking {
            tracking.said = true;
        }
    }

    /// A command other than CLIENT has been served, so what CLIENT CACHING said is over, unless a transaction is
    /// open: then it is for EXEC.
    pub fn end_caching(&mut self) {
        if let Some(tracking) = &mut self.tracking
            && self.transaction.is_none()
        {
            tracking.said = false;
        }
    }

    /// Whether the keys that the running command reads are remembered.
    #[must_use]
    pub fn keeps_copies(&self) -> bool {
        self.tracking.as_ref().is_some_and(|tracking| match tracking.caching {
            Caching::All => true,
            Caching::OptIn => tracking.said,
            Caching::OptOut => !tracking.said,
            Caching::Broadcast => false,
        })
    }
}
