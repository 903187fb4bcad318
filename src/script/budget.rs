//! What a script may use up, counted so that every node comes to the same end.
//!
//! Time would differ between nodes, so work is counted in *steps*: one for each instruction of Lua's
//! machine, and what [`charge`] is told for loops outside of it (a library function over a long string, a
//! nested command). Instructions are counted by a hook that Lua calls every [`HOOK_STEPS`] of them.
//!
//! A script that has used up its budget is *aborted*: from then on the hook fails at each instruction, and
//! whatever catches an error raises it again (`prelude.lua`). So no `pcall` outlives the limit.
//!
//! Garbage is not collected while a script runs, so that weak tables and the moment at which memory runs
//! out cannot tell what the interpreter did before. Only where a script has a lot of memory does it stop
//! at fixed amounts to collect all of it, and pays for that in steps.

use std::cell::Cell;
use std::fmt;

use mlua::{Error, HookTriggers, Lua, Result, VmState};

/// How many instructions pass between two looks at the budget.
const HOOK_STEPS: u32 = 1000;
/// What creating a coroutine costs at least: its instructions are counted from zero.
pub const COROUTINE_STEPS: u64 = HOOK_STEPS as u64;
/// Bytes that a step's worth of copying covers, roughly.
pub const BYTES_PER_STEP: usize = 64;

/// How far a script may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub steps: u64,
    /// Memory beyond what the interpreter itself needs.
    pub bytes: usize,
    /// From how many bytes on garbage is collected on the way.
    pub collect_from: usize,
    /// Whether the interpreter is new. What depth Lua allows depends on the depths an interpreter has seen; in
    /// one that is not new, going too deep aborts.
    pub exact: bool,
}

/// Why a script was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    Steps,
    Memory,
    /// Calls were nested too deeply, in an interpreter that is not new.
    Depth,
    /// The node's disk failed under a nested command; [`super::Caller`] knows the error.
    Caller,
}

/// The account of the script that runs, kept as the interpreter's app data.
#[derive(Debug)]
pub(super) struct Budget {
    steps_left: Cell<u64>,
    limits: Cell<Limits>,
    /// The interpreter's own memory, when the script began.
    base_bytes: Cell<usize>,
    collect_at: Cell<usize>,
    aborted: Cell<Option<Abort>>,
}

impl Budget {
    /// An account with nothing on it.
    pub fn new() -> Self {
        let limits = Limits { steps: 0, bytes: 0, collect_from: 0, exact: true };
        Self {
            steps_left: Cell::new(0),
            limits: Cell::new(limits),
            base_bytes: Cell::new(0),
            collect_at: Cell::new(0),
            aborted: Cell::new(None),
        }
    }
}

/// Charges the running script for `steps` of work outside of Lua's machine. To be called before the work.
///
/// # Errors
/// When the budget is used up; the error ends the script whatever it catches.
pub fn charge(lua: &Lua, steps: usize) -> Result<()> {
    budget(lua, |budget| budget.spend(lua, steps as u64))
}

/// Charges for going through `bytes` once.
///
/// # Errors
/// As [`charge`].
pub fn charge_bytes(lua: &Lua, bytes: usize) -> Result<()> {
    charge(lua, bytes / BYTES_PER_STEP)
}

/// Aborts the running script, and answers the error that does it.
#[must_use]
pub fn abort(lua: &Lua, why: Abort) -> Error {
    budget(lua, |budget| budget.abort(lua, why))
}

/// Why the running script was aborted, as the error that aborts it.
///
/// # Errors
/// It was.
pub(super) fn check(lua: &Lua) -> Result<()> {
    budget(lua, |budget| budget.aborted.get()).map_or(Ok(()), |why| Err(error(why)))
}

/// Notes that calls were nested too deeply, and that somebody caught the error.
///
/// # Errors
/// The script is aborted, unless its interpreter is new.
pub(super) fn overflowed(lua: &Lua) -> Result<()> {
    if budget(lua, |budget| budget.limits.get().exact) { Ok(()) } else { Err(abort(lua, Abort::Depth)) }
}

/// How many bytes the running script may have.
pub(super) fn bytes_max(lua: &Lua) -> usize {
    budget(lua, |budget| budget.limits.get().bytes)
}

/// Begins a script's account: instructions are counted from here on.
pub(super) fn open(lua: &Lua, limits: Limits) -> Result<()> {
    budget(lua, |budget| {
        let base = lua.used_memory();
        budget.limits.set(limits);
        budget.steps_left.set(limits.steps);
        budget.base_bytes.set(base);
        budget.collect_at.set(base + limits.collect_from);
        budget.aborted.set(None);
        lua.set_memory_limit(base + limits.bytes)?;
        watch(lua, HOOK_STEPS)
    })
}

/// Ends it. Answers why the script was aborted, if it was.
pub(super) fn close(lua: &Lua) -> Result<Option<Abort>> {
    budget(lua, |budget| {
        lua.remove_global_hook();
        lua.set_memory_limit(0)?;
        Ok(budget.aborted.get())
    })
}

/// Has Lua look at the budget every `steps` instructions.
fn watch(lua: &Lua, steps: u32) -> Result<()> {
    lua.set_global_hook(HookTriggers::new().every_nth_instruction(steps), move |lua, _| {
        charge(lua, steps as usize)?;
        Ok(VmState::Continue)
    })
}

fn budget<R>(lua: &Lua, with: impl FnOnce(&Budget) -> R) -> R {
    let budget = lua.app_data_ref::<Budget>().expect("an interpreter is made with an account");
    with(&budget)
}

impl Budget {
    fn spend(&self, lua: &Lua, steps: u64) -> Result<()> {
        if let Some(why) = self.aborted.get() {
            return Err(error(why));
        }
        let Some(left) = self.steps_left.get().checked_sub(steps) else {
            self.steps_left.set(0);
            return Err(self.abort(lua, Abort::Steps));
        };
        self.steps_left.set(left);
        if lua.used_memory() >= self.collect_at.get() {
            return self.collect(lua);
        }
        Ok(())
    }

    /// Collects all garbage, for a price that keeps a script from doing nothing else.
    fn collect(&self, lua: &Lua) -> Result<()> {
        let before = lua.used_memory();
        self.collect_at.set(usize::MAX);
        lua.gc_collect()?;
        lua.gc_stop();
        let (after, base, limits) = (lua.used_memory(), self.base_bytes.get(), self.limits.get());
        if after > base + limits.bytes {
            return Err(self.abort(lua, Abort::Memory));
        }
        self.collect_at.set(after.max(base) + limits.collect_from);
        self.spend(lua, (before / BYTES_PER_STEP) as u64)
    }

    fn abort(&self, lua: &Lua, why: Abort) -> Error {
        if self.aborted.get().is_none() {
            self.aborted.set(Some(why));
            if let Err(error) = watch(lua, 1) {
                return error;
            }
        }
        error(why)
    }
}

fn error(why: Abort) -> Error {
    Error::runtime(why)
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steps => "Script exceeded its limit of instructions; nothing it did remains",
            Self::Memory => "Script exceeded its limit of memory; nothing it did remains",
            Self::Depth => "Script nested its calls too deeply; nothing it did remains",
            Self::Caller => "Script met a failure of the node's storage",
        })
    }
}
