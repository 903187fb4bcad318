//! Whether enough happened for a verdict to mean something.
//!
//! A run in which the fault did not strike, or struck when nobody was looking, shows nothing. So a fault counts only
//! if an operation was answered shortly before it, and one sent after it was answered shortly after it.

use std::collections::BTreeMap;

use super::Verdict;
use super::history::History;

/// What a run must have had.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// Operations that were carried out.
    pub operations: usize,
    /// How often each class of faults must have struck.
    pub faults: Vec<(&'static str, usize)>,
    /// What "shortly" means.
    pub near_ns: u64,
}

/// What a run had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Operations that were carried out, were not, and may have been.
    pub ok: usize,
    pub failed: usize,
    pub unknown: usize,
    /// By class: how often it struck with operations around it, and how often it struck.
    pub faults: BTreeMap<String, (usize, usize)>,
}

impl Coverage {
    /// [`Verdict::Undecided`] if anything is missing.
    #[must_use]
    pub fn check(&self, history: &History) -> Verdict {
        let counted = self.count(history);
        let mut missing = Vec::new();
        if counted.ok < self.operations {
            missing.push(format!("{} of {} operations", counted.ok, self.operations));
        }
        for (class, wanted) in &self.faults {
            let (covered, struck) = counted.faults.get(*class).copied().unwrap_or_default();
            if covered < *wanted {
                missing.push(format!("{covered} of {wanted} {class} (it struck {struck} times)"));
            }
        }
        if missing.is_empty() {
            Verdict::Accepted
        } else {
            Verdict::Undecided(format!("too little coverage: {}", missing.join(", ")))
        }
    }

    /// What there was.
    #[must_use]
    pub fn count(&self, history: &History) -> Counted {
        let mut counted = Counted::default();
        let mut answered = Vec::new();
        let mut sent = Vec::new();
        for operation in &history.operations {
            if let Some((_, ns)) = operation.answer() {
                counted.ok += 1;
                answered.push(ns);
                sent.push((operation.invoked_ns, ns));
            } else if operation.has_failed() {
                counted.failed += 1;
            } else {
                counted.unknown += 1;
            }
        }
        answered.sort_unstable();
        sent.sort_unstable();
        for fault in &history.faults {
            let end_ns = fault.end_ns.unwrap_or(fault.begin_ns);
            let before = answered.partition_point(|ns| *ns < fault.begin_ns);
            let before = before.checked_sub(1).map(|last| answered[last]);
            let is_before = before.is_some_and(|ns| fault.begin_ns - ns <= self.near_ns);
            let after = &sent[sent.partition_point(|(invoked, _)| *invoked <= end_ns)..];
            let mut after = after.iter().take_while(|(invoked, _)| invoked - end_ns <= self.near_ns);
            let is_after = after.any(|(_, returned)| returned - end_ns <= self.near_ns);
            let (covered, struck) = counted.faults.entry(fault.class.clone()).or_default();
            *struck += 1;
            *covered += usize::from(is_before && is_after);
        }
        counted
    }
}
