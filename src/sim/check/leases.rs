//! Keys that end by themselves: never early, never back, and gone soon after their time.
//!
//! A key is set once, `SET key value PX ttl_ms`, perhaps renewed by `PEXPIRE key ttl_ms`, perhaps deleted by `DEL key`, by
//! one client at a time; everybody looks with GET or EXISTS. Since nobody but the server knows when a write took
//! effect, its time to live runs from some time between its sending and its answer.

use std::collections::BTreeMap;

use super::Verdict;
use super::history::{Operation, Value};

/// What a server is allowed.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// How much earlier a key may end, by the client's clock: what a clock that only counts milliseconds loses, and how
    /// far two clocks may drift apart.
    pub early_ns: u64,
    /// How much later.
    pub late_ns: u64,
    /// When nobody led. A key whose time comes then may stay for as long.
    pub leaderless: Vec<(u64, u64)>,
    /// When the servers' time may have gone ahead by any amount: no time to live that runs then is worth anything.
    pub jumps: Vec<(u64, u64)>,
}

impl Allowance {
    /// Until when a time to live certainly lasts that begins at `from_ns` or later.
    #[must_use]
    pub fn certain_ns(&self, from_ns: u64, ttl_ns: u64) -> u64 {
        let until_ns = from_ns + ttl_ns.saturating_sub(self.early_ns);
        let jumps = self.jumps.iter().filter(|(_, to)| from_ns <= *to);
        jumps.map(|(from, _)| *from.max(&from_ns)).fold(until_ns, u64::min)
    }

    /// How many of these operations are on nothing whose time to live may have been worth nothing.
    #[must_use]
    pub fn strict(&self, operations: &[Operation]) -> usize {
        let longest_ns = operations.iter().filter_map(ttl_ns).max().unwrap_or(0);
        let is_strict = |operation: &&Operation| {
            let returned_ns = operation.answer().map_or(u64::MAX, |(_, ns)| ns);
            let touches = |(from, to): &(u64, u64)| {
                operation.invoked_ns <= to.saturating_add(longest_ns) && *from <= returned_ns
            };
            !self.jumps.iter().any(touches)
        };
        operations.iter().filter(is_strict).count()
    }
}

/// For how long a key or a lock is to be there, at most.
fn ttl_ns(operation: &Operation) -> Option<u64> {
    let [words] = operation.request.commands.as_slice() else { return None };
    let is_timed = matches!(words[0].as_str(), "SET" | "PEXPIRE" | "LOCK" | "RENEW");
    words.last().filter(|_| is_timed)?.parse::<u64>().ok()?.checked_mul(1_000_000)
}

/// Whether the keys kept their deadlines.
#[must_use]
pub fn check(operations: &[Operation], allowance: &Allowance) -> Verdict {
    let mut keys: BTreeMap<&str, Lease<'_>> = BTreeMap::new();
    for operation in operations {
        let words = match operation.request.commands.as_slice() {
            [words] => words.iter().map(String::as_str).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let ttl_ns = |text: &str| text.parse::<u64>().ok()?.checked_mul(1_000_000);
        let reply = operation.answer();
        let lease = words.get(1).map(|key| keys.entry(key).or_default());
        let understood = match (words.as_slice(), lease) {
            (["SET", _, _, "PX", ttl], Some(lease)) => ttl_ns(ttl).and_then(|ttl_ns| {
                let is_first = lease.writes.iter().all(|(_, write)| !matches!(write, Write::Set(_)));
                is_first.then(|| lease.writes.push((operation, Write::Set(ttl_ns))))
            }),
            // It was not there.
            (["PEXPIRE" | "DEL" | "GET" | "EXISTS", ..], Some(lease))
                if reply.is_some_and(|(value, _)| matches!(value, Value::Int(0) | Value::Nil)) =>
            {
                lease.looks.push((operation, false));
                Some(())
            }
            (["PEXPIRE", _, ttl], Some(lease)) => {
                ttl_ns(ttl).map(|ttl_ns| lease.writes.push((operation, Write::Renew(ttl_ns))))
            }
            (["DEL", _], Some(lease)) => {
                lease.writes.push((operation, Write::Delete));
                Some(())
            }
            (["GET" | "EXISTS", _], Some(lease)) => {
                if reply.is_some() {
                    lease.looks.push((operation, true));
                }
                Some(())
            }
            _ => None,
        };
        if understood.is_none() {
            return Verdict::Undecided(format!("not of a lease, or set for the second time: {operation}"));
        }
    }
    let checked = keys.into_iter().map(|(key, lease)| {
        if let Some(pair) = lease.overlap() {
            return Verdict::Undecided(format!(
                "{key}: two writes at once:\n    {}\n    {}\n",
                pair.0, pair.1
            ));
        }
        Verdict::from(lease.check(allowance).map_err(|what| format!("{key}: {what}")))
    });
    Verdict::all(checked)
}

#[derive(Clone, Copy)]
enum Write {
    Set(u64),
    Renew(u64),
    Delete,
}

/// What a key may be: not there, or there for so long from some time on, and until `most_ns` at most.
#[derive(Clone, Copy)]
enum Life {
    Gone,
    Until { from_ns: u64, ttl_ns: u64, most_ns: u64 },
}

#[derive(Default)]
struct Lease<'a> {
    writes: Vec<(&'a Operation, Write)>,
    /// Whether it was there.
    looks: Vec<(&'a Operation, bool)>,
}

impl<'a> Lease<'a> {
    fn overlap(&self) -> Option<(&'a Operation, &'a Operation)> {
        let mut certain = self.writes.iter().map(|(write, _)| *write).collect::<Vec<_>>();
        certain.retain(|write| write.answer().is_some());
        certain.sort_by_key(|write| write.invoked_ns);
        certain.windows(2).find(|pair| !pair[0].is_before(pair[1])).map(|pair| (pair[0], pair[1]))
    }

    fn check(&self, allowance: &Allowance) -> Result<(), String> {
        for (look, is_there) in &self.looks {
            let Some((_, returned_ns)) = look.answer() else { continue };
            let lives = self.lives(look, returned_ns);
            let fits = |life: &(Option<&Operation>, Life)| match life.1 {
                Life::Gone => !is_there,
                Life::Until { from_ns, ttl_ns, .. } if !is_there => {
                    allowance.certain_ns(from_ns, ttl_ns) <= returned_ns
                }
                Life::Until { most_ns, .. } => {
                    let out = allowance
                        .leaderless
                        .iter()
                        .map(|(from, to)| to.min(&look.invoked_ns).saturating_sub(*from.max(&most_ns)));
                    look.invoked_ns <= most_ns + allowance.late_ns + out.sum::<u64>()
                }
            };
            if !lives.iter().any(fits) {
                let writes = lives.iter().filter_map(|(write, _)| *write);
                let writes = writes.map(|write| format!("    {write}\n")).collect::<String>();
                let what = if *is_there { "there, though its time was over" } else { "gone before its time" };
                return Err(format!("{what}:\n{writes}    {look}\n"));
            }
        }
        self.check_return()
    }

    /// What the key may be for one who looks, each with the write that made it so.
    fn lives(&self, look: &Operation, returned_ns: u64) -> Vec<(Option<&'a Operation>, Life)> {
        let over = self.writes.iter().filter(|(write, _)| write.is_before(look));
        let last = over.max_by_key(|(write, _)| write.invoked_ns);
        let mut lives =
            vec![last.map_or((None, Life::Gone), |(write, kind)| (Some(*write), life(write, *kind)))];
        for (write, kind) in &self.writes {
            let is_open = !write.has_failed() && !write.is_before(look) && write.invoked_ns <= returned_ns;
            if is_open {
                lives.push((Some(*write), life(write, *kind)));
            }
        }
        lives
    }

    /// Once it was seen to be gone, after it was set for certain, it is gone for good.
    fn check_return(&self) -> Result<(), String> {
        let set = self.writes.iter().find(|(_, write)| matches!(write, Write::Set(_)));
        let Some((set, _)) = set.filter(|(set, _)| set.answer().is_some()) else { return Ok(()) };
        let gone = self.looks.iter().filter(|(look, is_there)| !is_there && set.is_before(look));
        let gone = gone.min_by_key(|(look, _)| look.answer().map(|(_, ns)| ns));
        let Some((gone, _)) = gone else { return Ok(()) };
        match self.looks.iter().find(|(look, is_there)| *is_there && gone.is_before(look)) {
            Some((back, _)) => Err(format!("it was gone, and came back:\n    {gone}\n    {back}\n")),
            None => Ok(()),
        }
    }
}

fn life(write: &Operation, kind: Write) -> Life {
    match kind {
        Write::Delete => Life::Gone,
        Write::Set(ttl_ns) | Write::Renew(ttl_ns) => Life::Until {
            from_ns: write.invoked_ns,
            ttl_ns,
            // One of unknown outcome may take effect any time later.
            most_ns: write.answer().map_or(u64::MAX / 2, |(_, ns)| ns + ttl_ns),
        },
    }
}
