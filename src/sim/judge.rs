//! What the judges of histories say to what the clients saw.

use std::collections::BTreeSet;

use super::check::history::{Delivery, History, Operation, Value};
use super::check::leases::Allowance;
use super::check::{Verdict, events, kinds, messages};
use super::workload::{CHANNEL, EVENTS, LAST};

/// What each judge says, and on how many operations.
pub fn verdicts(history: &History, allowance: &Allowance) -> Vec<(&'static str, usize, Verdict)> {
    let news = history.deliveries.iter().filter(|delivery| delivery.channel == CHANNEL);
    let news = news.cloned().collect::<Vec<_>>();
    let drained = news.iter().filter(|delivery| delivery.message.as_deref() == Some(LAST));
    let drained = drained.map(|delivery| delivery.subscriber).collect::<BTreeSet<_>>();
    let published = history.on_keys(CHANNEL);
    let told_of = history.on_keys(EVENTS);
    let events = events::check(&told_of, &told(&told_of, &history.deliveries), &drained);
    let mut verdicts = kinds::verdicts(history, allowance);
    verdicts.push(("messages", published.len(), messages::check(&published, &news)));
    verdicts.push(("events", told_of.len(), events));
    verdicts
}

/// How often clients got what they have to get now and then, for there to be something to judge.
pub fn outcomes(history: &History) -> [(&'static str, u64); 3] {
    let count = |fits: &dyn Fn(&Operation) -> bool| {
        history.operations.iter().filter(|operation| fits(operation)).count() as u64
    };
    let is_guarded = |operation: &Operation| !operation.request.guards.is_empty();
    [
        (
            "locks taken",
            count(&|operation| {
                let is_taken = matches!(operation.answer(), Some((Value::Int(_), _)));
                operation.request.commands[0][0] == "LOCK" && is_taken
            }),
        ),
        (
            "guarded transactions done",
            count(&|operation| is_guarded(operation) && operation.answer().is_some()),
        ),
        (
            "guarded transactions given up",
            count(&|operation| is_guarded(operation) && operation.is_given_up()),
        ),
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
