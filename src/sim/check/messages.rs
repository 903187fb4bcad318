//! What subscribers of a channel are told: one order for all, without gaps, in real time.
//!
//! `PUBLISH channel message`, each message once in a channel. A subscriber is one connection, from its confirmed subscription
//! to the last message that it got; who connects again is another. In the order of all messages, each subscriber has a piece:
//!
//! - what it got next to one another stands so for all;
//! - a message that was published before another was sent stands before it, and so do those of one client;
//! - whatever was published for certain after its confirmation, and before the sending of the newest message that it got, it
//!   got;
//! - nothing that failed for certain, or was not sent yet.
//!
//! Messages behind the last one that a subscriber got are not missed: to judge to the very end, publish one more when all is over.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Verdict;
use super::history::{Delivery, Operation};

/// Whether the channels kept their order.
#[must_use]
pub fn check(operations: &[Operation], deliveries: &[Delivery]) -> Verdict {
    let mut channels: BTreeMap<&str, Channel<'_>> = BTreeMap::new();
    for (number, operation) in operations.iter().enumerate() {
        let [words] = operation.request.commands.as_slice() else {
            return Verdict::Undecided(format!("not a single command: {operation}"));
        };
        let ["PUBLISH", channel, message] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
            return Verdict::Undecided(format!("publishes nothing: {operation}"));
        };
        let published = &mut channels.entry(channel).or_default().published;
        if published.insert(message, (number, operation)).is_some() {
            return Verdict::Undecided(format!("{message} is published to {channel} twice"));
        }
    }
    for delivery in deliveries {
        let channel = channels.entry(&delivery.channel).or_default();
        channel.received.entry(delivery.subscriber).or_default().push(delivery);
    }
    Verdict::all(
        channels
            .iter()
            .map(|(name, channel)| Verdict::from(channel.check().map_err(|what| format!("{name}: {what}")))),
    )
}

#[derive(Default)]
struct Channel<'a> {
    /// By message: who published it, numbered in the order of sending.
    published: HashMap<&'a str, (usize, &'a Operation)>,
    received: BTreeMap<u64, Vec<&'a Delivery>>,
}

impl<'a> Channel<'a> {
    fn check(&self) -> Result<(), String> {
        for (subscriber, received) in &self.received {
            self.check_subscriber(received).map_err(|what| format!("subscriber {subscriber}: {what}"))?;
        }
        let orders = self.orders()?;
        orders.iter().try_for_each(|order| self.check_order(order))
    }

    fn messages(received: &[&'a Delivery]) -> impl Iterator<Item = (&'a str, u64)> {
        received.iter().filter_map(|delivery| Some((delivery.message.as_deref()?, delivery.ns)))
    }

    fn check_subscriber(&self, received: &[&'a Delivery]) -> Result<(), String> {
        let Some(first) = received.first().filter(|first| first.message.is_none()) else {
            return Err("a message before the subscription was confirmed".into());
        };
        let mut got = HashSet::new();
        let mut newest: Option<&Operation> = None;
        for (message, ns) in Self::messages(received) {
            let Some((_, operation)) = self.published.get(message) else {
                return Err(format!("nobody published {message}"));
            };
            if operation.has_failed() || operation.invoked_ns > ns {
                return Err(format!("{message} cannot have come:\n    {operation}\n"));
            }
            if !got.insert(message) {
                return Err(format!("{message} came twice"));
            }
            if newest.is_none_or(|newest| operation.invoked_ns > newest.invoked_ns) {
                newest = Some(operation);
            }
        }
        let Some(newest) = newest else { return Ok(()) };
        let missing = self.published.iter().filter(|(message, (_, operation))| {
            operation.invoked_ns > first.ns && operation.is_before(newest) && !got.contains(**message)
        });
        match missing.min_by_key(|(_, (number, _))| number) {
            None => Ok(()),
            Some((message, (_, operation))) => Err(format!(
                "{message} never came, though one that was sent later did:\n    {operation}\n    {newest}\n"
            )),
        }
    }

    /// The pieces of the one order, as far as they hang together.
    fn orders(&self) -> Result<Vec<Vec<&'a str>>, String> {
        let mut next: HashMap<&str, (&str, u64)> = HashMap::new();
        let mut previous: HashMap<&str, (&str, u64)> = HashMap::new();
        for (subscriber, received) in &self.received {
            let messages = Self::messages(received).map(|(message, _)| message).collect::<Vec<_>>();
            for pair in messages.windows(2) {
                for (neighbours, one, other, side) in
                    [(&mut next, pair[0], pair[1], "after"), (&mut previous, pair[1], pair[0], "before")]
                {
                    let (known, by) = *neighbours.entry(one).or_insert((other, *subscriber));
                    if known != other {
                        return Err(format!(
                            "right {side} {one}, subscriber {by} got {known}, subscriber {subscriber} got {other}"
                        ));
                    }
                }
            }
        }
        let mut orders = Vec::new();
        let mut placed = 0;
        for &first in next.keys().filter(|message| !previous.contains_key(*message)) {
            let order =
                std::iter::successors(Some(first), |message| next.get(message).map(|(next, _)| *next));
            orders.push(order.collect::<Vec<_>>());
            placed += orders.last().map_or(0, Vec::len) - 1;
        }
        match next.keys().min().filter(|_| placed < next.len()) {
            // What is not reached from any first message goes round.
            Some(_) => Err("the subscribers' pieces form a circle".into()),
            None => Ok(orders),
        }
    }

    fn check_order(&self, order: &[&'a str]) -> Result<(), String> {
        let mut newest: Option<&Operation> = None;
        let mut last_of: HashMap<u64, (usize, &Operation)> = HashMap::new();
        for message in order {
            let (number, operation) = self.published[message];
            let overtaken = newest.filter(|newest| operation.is_before(newest));
            let before = last_of.get(&operation.client).filter(|(before, _)| *before > number);
            // One of unknown outcome may be carried out after its client went on.
            let before = before.filter(|_| operation.answer().is_some()).map(|(_, before)| *before);
            if let Some(before) = overtaken.or(before) {
                return Err(format!("out of order:\n    {before}\n    {operation}\n"));
            }
            if newest.is_none_or(|newest| operation.invoked_ns > newest.invoked_ns) {
                newest = Some(operation);
            }
            if last_of.get(&operation.client).is_none_or(|(before, _)| *before < number) {
                last_of.insert(operation.client, (number, operation));
            }
        }
        Ok(())
    }
}
