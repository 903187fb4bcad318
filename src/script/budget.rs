//! What a script may use up, counted so that every node comes to the same end.
//!
//! Time would differ between nodes, so work is counted in *steps*: one for each instruction of Lua's
//! machine, what that instruction says it does beyond (`lua-src`: it may join strings of any length, or move a table to
//! another place), and what [`charge`] is told for loops outside of the machine (a library function over a long
//! string, a nested command). Lua calls a hook for every [`HOOK_STEPS`] of its own.
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
const HOOK_STEPS: u32 = 200;
/// What creating a coroutine costs, with the instructions it runs before anybody looks: they are counted from zero.
pub const COROUTINE_STEPS: usize = 200 + HOOK_STEPS as usize;
/// What it costs to hand a value to Lua, or to be handed one.
pub const VALUE_STEPS: usize = 10;
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
        budget(lua, |budget| budget.spend(lua, u64::from(steps)))?;
        Ok(VmState::Continue)
    })
}

/// How many steps the last script left of its limit.
#[cfg(test)]
pub(super) fn steps_left(lua: &Lua) -> u64 {
    budget(lua, |budget| budget.steps_left.get())
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

#[cfg(test)]
mod tests {
    use mlua::Value;

    use super::super::Interpreter;
    use super::super::tests::LIMITS;
    use super::*;

    /// Checks how many steps `work` counts, in thousands, once `objects` are there.
    #[track_caller]
    fn check(objects: &str, work: &str, expect: u64) {
        const TURNS: u64 = 20;
        let limits = Limits { steps: 1 << 40, ..LIMITS };
        let steps = |source: &str| {
            let interpreter = Interpreter::new().expect("there is memory");
            let (result, aborted) = interpreter.evaluate::<Value>(source, limits);
            assert!(result.is_ok() && aborted.is_none(), "{source}: {result:?}");
            limits.steps - interpreter.steps_left()
        };
        let pay = format!("for _ = 1, {HOOK_STEPS} do end");
        let without = steps(&format!("{objects} {pay}"));
        let turns = format!("for i = 1, {TURNS} do {work} end {pay}");
        let each = (steps(&format!("{objects} {turns}")) - without) / TURNS;
        assert_eq!(each / 1000, expect, "{work}: {each}");
    }

    #[test]
    fn an_instruction_counts_what_it_does() {
        let long = "local s = '1' while #s < 2^20 do s = s .. s end";
        let longer = format!("{long} local t = s .. '2'");
        check(&longer, "local u = s .. '2'", 49);
        check(&longer, "local less = s < t", 16);
        check(long, "local number = s + 1", 65);
        check("local s = string.rep(' ', 2^20)", "pcall(function() return s + 1 end)", 131); // The error looks at it again.
        check(long, "local number = tonumber(s)", 131);
        let hash = "local t = {} for i = 1, 2^13 do t[-i] = i end";
        check(hash, "t[-i] = nil t['y' .. i] = 1", 32);
        check(&format!("{hash} for i = 1, 2^13 do t[-i] = nil end"), "local key = next(t)", 8);
        check("local s = {} for i = 1, 5000 do s[i] = i end", "local n = select('#', unpack(s))", 6);
        check(
            "local t = {} for i = 1, 90 do t = setmetatable({}, {__index = t}) end",
            "local x = t.x local x = t.x local x = t.x local x = t.x local x = t.x local x = t.x",
            1,
        );
    }

    #[test]
    fn keys_that_fall_into_one_place_are_counted() {
        // Lua hashes a number as the sum of its two halves, which is the same for all of these.
        let number = "1 + ((2^19 - i) * 2^32 + i) / 2^52";
        let keys = format!("local t = {{}} for i = 1, 3000 do t[{number}] = i end");
        check(&keys, &format!("local x = t[{number}] for _ = 1, 5 do x = t[1.5] end"), 17);
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
        count("for i = 1, 20000 do local s = 'key:' .. i end return 1");
        count("local t = {} for i = 1, 2000 do t[i] = {i, 'value ' .. i} end return #t");
        count(
            "local t = cjson.decode('[' .. string.rep('1234567,', 4000) .. '1]') for i = 1, 50000 do local x = t[i] end return #t",
        );
    }
}
