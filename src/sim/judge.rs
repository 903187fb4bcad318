//! What the judges of histories say to what the clients saw.

use std::collections::BTreeSet;

use super::check::history::{Delivery, History, Operation};
use super::check::leases::Allowance;
use super::check::search::STATES_MAX;
use super::check::{Verdict, appends, events, leases, locks, messages, sets, strings};
use super::workload::{CHANNEL, EVENTS, LAST};

/// What each judge says, and on how many operations.
pub fn verdicts(history: &History, allowance: &Allowance) -> Vec<(&'static str, usize, Verdict)> {
    let judge = |name, prefix: &str, check: &dyn Fn(&[Operation]) -> Verdict| {
        let operations = history.on_keys(prefix);
        (name, operations.len(), check(&operations))
    };
    let in_strings = |operations: &[_]| strings::check(operations, STATES_MAX);
    let news = history.deliveries.iter().filter(|delivery| delivery.channel == CHANNEL);
    let news = news.cloned().collect::<Vec<_>>();
    let drained = news.iter().filter(|delivery| delivery.message.as_deref() == Some(LAST));
    let drained = drained.map(|delivery| delivery.subscriber).collect::<BTreeSet<_>>();
    vec![
        judge("registers", "register:", &in_strings),
        judge("counters", "counter:", &in_strings),
        judge("transactions", "account:", &in_strings),
        judge("lists", "list:", &appends::check),
        judge("sets", "set:", &sets::check),
        judge("leases", "lease:", &|operations| leases::check(operations, allowance)),
        judge("locks", "lock:", &|operations| locks::check(operations, allowance.early_ns)),
        judge("messages", CHANNEL, &|operations| messages::check(operations, &news)),
        judge("events", EVENTS, &|operations| {
            events::check(operations, &told(operations, &history.deliveries), &drained)
        }),
    ]
}

/// What subscribers to a pattern were told, as if each had subscribed to each key's channel of its own.
fn told(operations: &[Operation], deliveries: &[Delivery]) -> Vec<Delivery> {
    let keys = operations.iter().flat_map(|operation| operation.request.keys()).collect::<BTreeSet<_>>();
    let pattern = format!("{}{EVENTS}*", events::CHANNEL);
    let mut told = Vec::new();
    for delivery in deliveries {
        if delivery.channel == pattern {
            let channels = keys.iter().map(|key| format!("{}{key}", events::CHANNEL));
            told.extend(channels.map(|channel| Delivery { channel, ..delivery.clone() }));
        } else if delivery.channel.starts_with(events::CHANNEL) {
            told.push(delivery.clone());
        }
    }
    told
}
