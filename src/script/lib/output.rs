//! Counting the work of a function, and keeping what it writes in bounds.

use mlua::{Error, Lua, Result, String};

use crate::script::budget;

/// The work of a function, charged in portions: counting is for inner loops.
pub struct Meter<'lua> {
    lua: &'lua Lua,
    uncharged: usize,
}

impl<'lua> Meter<'lua> {
    /// How many steps are charged at once.
    const PORTION: usize = 1000;

    /// One that has counted nothing yet.
    #[must_use]
    pub const fn new(lua: &'lua Lua) -> Self {
        Self { lua, uncharged: 0 }
    }

    /// The interpreter whose work this is.
    #[must_use]
    pub const fn lua(&self) -> &'lua Lua {
        self.lua
    }

    /// Counts that many steps.
    pub fn steps(&mut self, steps: usize) -> Result<()> {
        self.uncharged += steps;
        if self.uncharged >= Self::PORTION { self.settle() } else { Ok(()) }
    }

    /// Counts the work on that many bytes.
    pub fn bytes(&mut self, bytes: usize) -> Result<()> {
        self.steps(bytes / budget::BYTES_PER_STEP + 1)
    }

    /// Charges what is left. A function that fails need not: an error costs more than a portion.
    pub fn settle(&mut self) -> Result<()> {
        budget::charge(self.lua, std::mem::take(&mut self.uncharged))
    }
}

/// What a function writes into.
pub struct Output<'lua> {
    bytes: Vec<u8>,
    meter: Meter<'lua>,
}

impl<'lua> Output<'lua> {
    /// Longer ones do not fit into the memory that a script may have.
    const BYTES_MAX: usize = 64 << 20;

    /// An empty one.
    #[must_use]
    pub const fn new(lua: &'lua Lua) -> Self {
        Self { bytes: Vec::new(), meter: Meter::new(lua) }
    }

    /// Appends.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.meter.bytes(bytes.len())?;
        if self.bytes.len() + bytes.len() > Self::BYTES_MAX {
            return Err(Error::MemoryError("not enough memory".into()));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// To count other work on what is written.
    pub const fn meter(&mut self) -> &mut Meter<'lua> {
        &mut self.meter
    }

    /// How long it is.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All of it, as a string of Lua's.
    pub fn finish(mut self) -> Result<String> {
        self.meter.settle()?;
        self.meter.lua.create_string(self.bytes)
    }
}
