//! Locks that end by themselves, with fencing tokens.
//!
//! How a lock is taken is the recorder's business (SET NX PX, a script such as those here, a library); a history has
//!
//! ```text
//! LOCK lock holder ttl_ms        the token; nil if somebody else has it
//! RENEW lock holder ttl_ms       1; 0 if it was no longer held
//! UNLOCK lock holder             1; 0 if it was no longer held
//! STORE register token value     1; 0 if the register has seen a newer token
//! ```
//!
//! with a new holder for each LOCK. A holder has the lock for certain from the answer to LOCK until the time to live has
//! passed since LOCK or the last RENEW was *sent*, or UNLOCK was sent. No two holders ever do; within that time
//! nobody is told that it is not held; tokens rise; and a register that has taken a newer token takes no older one, though its
//! client may have slept through the end of its lock.

use std::collections::{BTreeMap, HashMap};

use super::Verdict;
use super::history::{Operation, Value};
use super::leases::Allowance;
use super::realtime::{Stamp, first_fall};

/// Takes a lock and draws a token, if that works: keys lock, tokens; arguments holder, ttl in ms.
pub const TAKE: &str = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then \
                        return redis.call('INCR', KEYS[2]) end return false";
/// Renews a lock that is still held: key lock; arguments holder, ttl in ms.
pub const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                         return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// Writes a register, unless a newer token has written: key register; arguments token, value.
pub const STORE: &str = "if tonumber(redis.call('HGET', KEYS[1], 'token') or 0) > tonumber(ARGV[1]) then return 0 end \
     redis.call('HSET', KEYS[1], 'token', ARGV[1], 'value', ARGV[2]) return 1";

/// How a script is sent: one command.
#[must_use]
pub fn eval(script: &str, keys: &[&str], arguments: &[&str]) -> Vec<Vec<String>> {
    let count = keys.len().to_string();
    let words = [&["EVAL", script, &count], keys, arguments].concat();
    vec![words.into_iter().map(str::to_owned).collect()]
}

/// Whether the locks excluded, and the registers were protected. How early a lock may end is the same as with leases.
#[must_use]
pub fn check(operations: &[Operation], allowance: &Allowance) -> Verdict {
    let mut locks: BTreeMap<&str, Lock<'_>> = BTreeMap::new();
    let mut registers: BTreeMap<&str, Vec<(u64, &Operation)>> = BTreeMap::new();
    for operation in operations {
        let understood = match words(operation).as_slice() {
            ["LOCK", lock, holder, ttl_ms] => locks.entry(lock).or_default().take(operation, holder, ttl_ms),
            ["RENEW", lock, holder, ttl_ms] => millis(ttl_ms).map(|ttl_ns| {
                let uses = &mut locks.entry(lock).or_default().uses;
                uses.entry(holder).or_default().push((operation, Some(ttl_ns)));
            }),
            ["UNLOCK", lock, holder] => {
                let uses = &mut locks.entry(lock).or_default().uses;
                uses.entry(holder).or_default().push((operation, None));
                Some(())
            }
            ["STORE", register, token, _] => token
                .parse()
                .ok()
                .map(|token| registers.entry(register).or_default().push((token, operation))),
            _ => None,
        };
        if understood.is_none() {
            return Verdict::Undecided(format!(
                "not of a lock, or a holder for the second time: {operation}"
            ));
        }
    }
    let locks = locks.iter().map(|(name, lock)| (name, lock.check(allowance)));
    let registers = registers.iter().map(|(name, stores)| (name, check_register(stores)));
    let named = |(name, checked): (&&str, Result<(), String>)| {
        Verdict::from(checked.map_err(|what| format!("{name}: {what}")))
    };
    Verdict::all(locks.chain(registers).map(named))
}

fn words(operation: &Operation) -> Vec<&str> {
    match operation.request.commands.as_slice() {
        [words] if operation.request.guards.is_empty() => words.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

fn millis(text: &str) -> Option<u64> {
    text.parse::<u64>().ok()?.checked_mul(1_000_000)
}

#[derive(Default)]
struct Lock<'a> {
    /// Who got it, with the token, and when it may end.
    holds: HashMap<&'a str, Hold<'a>>,
    /// What each holder did with it: renewed it for so long, or gave it back.
    uses: HashMap<&'a str, Vec<(&'a Operation, Option<u64>)>>,
}

struct Hold<'a> {
    operation: &'a Operation,
    /// If it was got.
    token: Option<u64>,
    ttl_ns: u64,
}

impl<'a> Lock<'a> {
    /// Nothing if it does not make sense.
    fn take(&mut self, operation: &'a Operation, holder: &'a str, ttl_ms: &str) -> Option<()> {
        let token = match operation.answer() {
            Some((Value::Int(token), _)) => Some(u64::try_from(*token).ok()?),
            Some((Value::Nil, _)) | None => None,
            Some(_) => return None,
        };
        let ttl_ns = millis(ttl_ms)?;
        self.holds.insert(holder, Hold { operation, token, ttl_ns }).is_none().then_some(())
    }

    fn check(&self, allowance: &Allowance) -> Result<(), String> {
        let mut stamps = Vec::new();
        let mut spans = Vec::new();
        for (holder, hold) in &self.holds {
            let (Some(number), Some((_, from_ns))) = (hold.token, hold.operation.answer()) else { continue };
            let invoked_ns = hold.operation.invoked_ns;
            let stamp = Stamp { number, invoked_ns, returned_ns: from_ns, is_new: true };
            stamps.push((stamp, hold.operation));
            spans.push((from_ns, self.until(holder, hold, allowance)?, hold.operation));
        }
        stamps.sort_by_key(|(stamp, _)| stamp.number);
        if let Some(twice) = stamps.windows(2).find(|pair| pair[0].0.number == pair[1].0.number) {
            return Err(format!("one token for two:\n    {}\n    {}\n", twice[0].1, twice[1].1));
        }
        let only = stamps.iter().map(|(stamp, _)| *stamp).collect::<Vec<_>>();
        if let Some((earlier, later)) = first_fall(&only) {
            let (earlier, later) = (stamps[earlier].1, stamps[later].1);
            return Err(format!("a token that is not above an earlier one:\n    {earlier}\n    {later}\n"));
        }
        spans.retain(|(from_ns, until_ns, _)| from_ns < until_ns);
        spans.sort_by_key(|(from_ns, ..)| *from_ns);
        let mut last: Option<(u64, &Operation)> = None;
        for (from_ns, until_ns, operation) in spans {
            if let Some((_, holder)) = last.filter(|(until_ns, _)| from_ns < *until_ns) {
                return Err(format!("two holders at once:\n    {holder}\n    {operation}\n"));
            }
            last = Some((until_ns, operation));
        }
        Ok(())
    }

    /// Until when the holder has the lock for certain. An error if it was told otherwise.
    fn until(&self, holder: &str, hold: &Hold<'_>, allowance: &Allowance) -> Result<u64, String> {
        let mut until_ns = allowance.certain_ns(hold.operation.invoked_ns, hold.ttl_ns);
        let mut uses = self.uses.get(holder).cloned().unwrap_or_default();
        uses.sort_by_key(|(operation, _)| operation.invoked_ns);
        for (operation, renewed_ns) in uses {
            let reply = operation.answer();
            if let Some((Value::Int(0), ns)) = reply {
                if ns < until_ns {
                    let since = hold.operation;
                    return Err(format!("lost while it was held:\n    {since}\n    {operation}\n"));
                }
                continue;
            }
            match renewed_ns {
                // One of unknown outcome may have done nothing.
                Some(renewed_ns) if reply.is_some() => {
                    until_ns = until_ns.max(allowance.certain_ns(operation.invoked_ns, renewed_ns));
                }
                Some(_) => {}
                None if operation.has_failed() => {}
                None => return Ok(until_ns.min(operation.invoked_ns)),
            }
        }
        Ok(until_ns)
    }
}

fn check_register(stores: &[(u64, &Operation)]) -> Result<(), String> {
    let mut stamps = Vec::new();
    for (number, operation) in stores {
        match operation.answer() {
            Some((Value::Int(0), returned_ns)) => {
                let may_be_newer = |(other, store): &(u64, &Operation)| {
                    other > number && !store.has_failed() && store.invoked_ns <= returned_ns
                };
                if !stores.iter().any(may_be_newer) {
                    return Err(format!("refused, though nobody had a newer token:\n    {operation}\n"));
                }
            }
            Some((_, returned_ns)) => {
                let invoked_ns = operation.invoked_ns;
                let stamp = Stamp { number: *number, invoked_ns, returned_ns, is_new: false };
                stamps.push((stamp, operation));
            }
            None => {}
        }
    }
    let only = stamps.iter().map(|(stamp, _)| *stamp).collect::<Vec<_>>();
    match first_fall(&only) {
        None => Ok(()),
        Some((earlier, later)) => {
            let (earlier, later) = (stamps[earlier].1, stamps[later].1);
            Err(format!("an older token was taken after a newer one:\n    {earlier}\n    {later}\n"))
        }
    }
}
