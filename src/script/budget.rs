//! What a script may use up, counted so that every node comes to the same end.
//!
//! Time would differ between nodes, so work is counted in *steps*: one for each instruction of Lua's
//! machine, and what [`charge`] is told for loops outside of it (a library function over a long string, a
//! nested command). Instructions are counted by a hook that Lua calls every [`HOOK_STEPS`] of them.
//!
//! One instruction may do work of any length: it joins or compares strings, reads a number from one, or moves
//! a table to another place. Lua tells nobody how much, but there must be something that large. So each
//! instruction has a *weight*: one step, and one more for every [`WEIGHT_BYTES`] of the largest object that there
//! may be. How large a string is that came from outside, or from a library, is known ([`made`]). Instructions themselves
//! make strings and tables, too, and of these is known that memory has grown by as much at least, at the next
//! look. Small objects are never that many between two looks.
//!
//! A script that has used up its budget is *aborted*: from then on the hook fails at each instruction, and
//! whatever catches an error raises it again (`prelude/base.lua`). So no `pcall` outlives the limit.
//!
//! Garbage is not collected while a script runs, so that weak tables and the moment at which memory runs
//! out cannot tell what the interpreter did before. Only where a script has a lot of memory does it stop
//! at fixed amounts to collect all of it, and pays for that in steps.

use std::cell::Cell;
use std::fmt;

use mlua::{Error, HookTriggers, Lua, Result, VmState};

/// How many instructions pass between two looks at the budget.
const HOOK_STEPS: u32 = 50;
/// What creating a coroutine costs, ...
pub const COROUTINE_STEPS: usize = 200;
/// ... and how many instructions it runs before anybody looks: they are counted from zero.
pub const COROUTINE_INSTRUCTIONS: usize = HOOK_STEPS as usize;
/// How large the largest object must be for an instruction to weigh a step more.
const WEIGHT_BYTES: usize = 16 << 10;
/// Memory that has grown by more between two looks may have one new object in it.
const GROWTH_BYTES: usize = 16 << 10;
/// What Lua's own table of all strings needs for each, and what a string takes at least.
const STRING_SLOT_BYTES: usize = 8;
const STRING_BYTES: usize = 32;
/// A table of as many bytes as a string takes longer to go through by so much less often, and libraries that make
/// large tables make large strings only of larger ones.
const TABLE_SHARE: usize = 8;
/// Bytes that a step's worth of copying covers, roughly.
pub const BYTES_PER_STEP: usize = 64;

/// How far a script may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub steps: u64,
    /// Memory beyond what the interpreter itself needs.
    pub bytes: usize,
    /// The largest object.
    pub object_bytes: usize,
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
    /// How much memory there was at the last look.
    seen_bytes: Cell<usize>,
    /// How large an object there may be.
    largest_bytes: Cell<usize>,
    /// To which powers of two Lua's table of strings has grown, a bit each.
    string_tables: Cell<u64>,
    aborted: Cell<Option<Abort>>,
}

impl Budget {
    /// An account with nothing on it.
    pub fn new() -> Self {
        let limits = Limits { steps: 0, bytes: 0, object_bytes: 0, collect_from: 0, exact: true };
        Self {
            steps_left: Cell::new(0),
            limits: Cell::new(limits),
            base_bytes: Cell::new(0),
            collect_at: Cell::new(0),
            seen_bytes: Cell::new(0),
            largest_bytes: Cell::new(0),
            string_tables: Cell::new(0),
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

/// Charges for as much as so many instructions could do.
///
/// # Errors
/// As [`charge`].
pub fn charge_instructions(lua: &Lua, count: usize) -> Result<()> {
    budget(lua, |budget| budget.spend_instructions(lua, count as u64))
}

/// Notes that there is a string of so many bytes.
///
/// # Errors
/// It is too large.
pub fn made(lua: &Lua, bytes: usize) -> Result<()> {
    budget(lua, |budget| budget.note(lua, bytes))
}

/// Runs what makes many small objects: strings that [`made`] is told of, or that are part of one that there
/// was, and tables.
///
/// # Errors
/// Those of `make`; or something is too large.
pub fn making<R>(lua: &Lua, make: impl FnOnce() -> Result<R>) -> Result<R> {
    budget(lua, |budget| budget.look(lua))?;
    let made = make()?;
    budget(lua, |budget| {
        let grown = budget.grown(lua);
        budget.note(lua, grown / TABLE_SHARE)
    })?;
    Ok(made)
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
        budget.seen_bytes.set(base);
        budget.largest_bytes.set(0);
        budget.string_tables.set(0);
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
        budget(lua, |budget| budget.tick(lua, u64::from(steps)))?;
        Ok(VmState::Continue)
    })
}

fn budget<R>(lua: &Lua, with: impl FnOnce(&Budget) -> R) -> R {
    let budget = lua.app_data_ref::<Budget>().expect("an interpreter is made with an account");
    with(&budget)
}

impl Budget {
    /// So many instructions have been run.
    fn tick(&self, lua: &Lua, instructions: u64) -> Result<()> {
        self.look(lua)?;
        self.spend_instructions(lua, instructions)
    }

    /// Looks at how memory has grown.
    fn look(&self, lua: &Lua) -> Result<()> {
        let grown = self.grown(lua);
        if grown <= GROWTH_BYTES {
            return Ok(());
        }
        self.note(lua, if self.is_string_table(lua, grown) { grown / TABLE_SHARE } else { grown })
    }

    /// Whether Lua's table of strings may have become twice as large: it does so once, for as many strings as
    /// it has places.
    fn is_string_table(&self, lua: &Lua, grown: usize) -> bool {
        let power = (grown / STRING_SLOT_BYTES).ilog2();
        let used = lua.used_memory().saturating_sub(self.base_bytes.get());
        let (seen, bit) = (self.string_tables.get(), 1 << power);
        let fits = grown - (STRING_SLOT_BYTES << power) < GROWTH_BYTES && used >= STRING_BYTES << power;
        self.string_tables.set(if fits { seen | bit } else { seen });
        fits && seen & bit == 0
    }

    /// How much memory has grown since this was asked.
    fn grown(&self, lua: &Lua) -> usize {
        let used = lua.used_memory();
        used.saturating_sub(self.seen_bytes.replace(used))
    }

    fn note(&self, lua: &Lua, bytes: usize) -> Result<()> {
        self.largest_bytes.set(self.largest_bytes.get().max(bytes));
        // One that has been aborted may make what its last steps need.
        if bytes > self.limits.get().object_bytes && self.aborted.get().is_none() {
            return Err(self.abort(lua, Abort::Memory));
        }
        Ok(())
    }

    fn spend_instructions(&self, lua: &Lua, count: u64) -> Result<()> {
        let weight = 1 + (self.largest_bytes.get() / WEIGHT_BYTES) as u64;
        self.spend(lua, count.saturating_mul(weight))
    }

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
        self.look(lua)?;
        let before = lua.used_memory();
        self.collect_at.set(usize::MAX);
        lua.gc_collect()?;
        lua.gc_stop();
        let (after, base, limits) = (lua.used_memory(), self.base_bytes.get(), self.limits.get());
        if after > base + limits.bytes {
            return Err(self.abort(lua, Abort::Memory));
        }
        self.seen_bytes.set(after);
        self.largest_bytes.set(self.largest_bytes.get().min(after.saturating_sub(base)));
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

#[cfg(test)]
mod tests {
    use mlua::Value;

    use super::super::Interpreter;
    use super::super::tests::LIMITS;
    use super::*;

    /// How often a loop can do something with an object of a mebibyte, and how often more it cannot.
    const TURNS: [u32; 2] = [500, 15_000];

    /// Checks that `work` in a loop weighs what the objects that `objects` makes can cost.
    #[track_caller]
    fn check(objects: &str, work: &str) {
        for (turns, end) in TURNS.into_iter().zip([None, Some(Abort::Steps)]) {
            let interpreter = Interpreter::new().expect("there is memory");
            let source = format!("{objects} for i = 1, {turns} do {work} end");
            let (result, aborted) = interpreter.evaluate::<Value>(&source, LIMITS);
            assert_eq!(aborted, end, "{turns} turns of {work}: {result:?}");
            assert_eq!(result.is_err(), end.is_some());
        }
    }

    #[test]
    fn an_instruction_weighs_what_it_may_have_to_do() {
        let long = "local s = '1' while #s < 2^20 do s = s .. s end";
        check(&format!("{long} local t = s .. 'x'"), "local u = s .. 'x'");
        check(&format!("{long} local t = s .. '2'"), "local less = s < t");
        check(long, "local number = s + 1");
        check(long, "local number = tonumber(s)");
        check("local s = 'x' while #s < 2^20 do s = s .. s end", "local less = s .. 'y' < s");
        check(
            "local t = {} for i = 1, 2^14 do t[i] = i end",
            "t.x = nil t['y' .. i % 2] = 1 t['y' .. i % 2] = nil",
        );
        let hash = "local t = {} for i = 1, 2^13 do t[-i] = i end";
        check(hash, "t[i - 1000] = nil t['y' .. i] = 1 t['y' .. i] = nil");
        check(&format!("{hash} for i = 1, 2^13 do t[-i] = nil end"), "local key = next(t)");
    }

    #[test]
    fn many_arguments_weigh_what_their_copies_cost() {
        let grow = "local function grow(n, ...) if n > 0 then return grow(n - 1, n, ...) end return select('#', ...) end";
        for (count, end) in [(1000, None), (40_000, Some(Abort::Steps))] {
            let interpreter = Interpreter::new().expect("there is memory");
            let (result, aborted) =
                interpreter.evaluate::<Value>(&format!("{grow} return grow({count})"), LIMITS);
            assert_eq!(aborted, end, "{count}: {result:?}");
        }
    }

    #[test]
    fn small_objects_weigh_nothing() {
        let interpreter = Interpreter::new().expect("there is memory");
        let count = |source: &str| {
            let (result, aborted) = interpreter.evaluate::<f64>(source, LIMITS);
            assert_eq!(aborted, None, "{source}: {result:?}");
        };
        count("for i = 1, 50000 do local s = 'key:' .. i end return 1");
        count("local t = {} for i = 1, 2000 do t[i] = {i, 'value ' .. i} end return #t");
        count(
            "local t = cjson.decode('[' .. string.rep('1234567,', 4000) .. '1]') for i = 1, 50000 do local x = t[i] end return #t",
        );
    }
}
