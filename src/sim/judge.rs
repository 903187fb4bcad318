//! What the judges of histories say to what the clients saw.

use std::collections::BTreeSet;

use super::check::history::{Delivery, History, Operation};
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
