//! Judges generations, one after the other: each by itself, what subscribers were told across two of them, and all that was
//! left behind once more when everything is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::time::Duration;

use anyhow::{Result, bail};
use quorate::sim::check::history::{Delivery, History, Operation, Outcome, Request, Returned};
use quorate::sim::check::leases::Allowance;
use quorate::sim::check::{Verdict, events, kinds, messages};

use super::recorder::{Recorder, nanoseconds};
use super::residue::Residue;
use super::subscriber::{CHANNEL, EVENTFUL, LAST, OVER};

/// By how much too early a deadline may seem to come: the nodes' clock counts milliseconds.
const EARLY_NS: u64 = 2_000_000;

/// How late a key may end while a leader answers: its end has to go through the log of a busy machine.
const LATE: Duration = Duration::from_secs(1);

/// Judges what it is given, and counts it.
#[derive(Default)]
pub(super) struct Judge {
    /// By what was judged: how many operations.
    pub judged: BTreeMap<&'static str, usize>,
    pub residues: Vec<Residue>,
    previous: Option<Told>,
}

/// What subscribers should have been told of a generation.
struct Told {
    number: u64,
    /// What is published, as such: events that come once are messages, too.
    messages: Vec<Operation>,
    /// What has events.
    writes: Vec<Operation>,
}

impl Judge {
    /// Judges a generation that is over, and what is to be said of the one before.
    pub fn generation(&mut self, number: u64, mut history: History, recorder: &Recorder) -> Result<()> {
        let began = history.operations.first().map_or(0, |first| first.invoked_ns);
        let silences = recorder.tally().silences;
        let silences = silences.into_iter().filter(|(_, to)| *to > began).collect::<Vec<_>>();
        history.faults = recorder.faults().faults.clone();
        history.faults.retain(|fault| fault.end_ns.is_none_or(|end| end > began));
        let allowance = Allowance {
            early_ns: EARLY_NS,
            late_ns: nanoseconds(LATE),
            leaderless: silences,
            jumps: Vec::new(),
        };
        for (name, operations, verdict) in kinds::verdicts(&history, &allowance) {
            accept(name, verdict, &history)?;
            *self.judged.entry(name).or_default() += operations;
        }
        self.residues.push(Residue::of(number, &history));
        let told = Told::of(number, &history);
        if let Some(previous) = self.previous.take() {
            self.told(previous, Some(&told), recorder)?;
        }
        self.previous = Some(told);
        Ok(())
    }

    /// Judges what is left when the last subscriber was told everything.
    pub fn finish(&mut self, recorder: &Recorder) -> Result<()> {
        self.previous.take().map_or(Ok(()), |last| self.told(last, None, recorder))
    }

    /// What subscribers were told of a generation, and in which order with the next one.
    fn told(&mut self, told: Told, next: Option<&Told>, recorder: &Recorder) -> Result<()> {
        let (confirmed, deliveries) = {
            let mut heard = recorder.heard();
            heard.deliveries.retain(|(generation, _)| *generation >= told.number);
            (heard.confirmed.clone(), heard.deliveries.clone())
        };
        let newest = next.map_or(told.number, |next| next.number);
        let deliveries = deliveries.into_iter().filter(|(generation, _)| *generation <= newest);
        let (of_it, all): (Vec<_>, Vec<_>) = deliveries
            .map(|(generation, delivery)| ((generation == told.number).then(|| delivery.clone()), delivery))
            .unzip();
        let of_it = of_it.into_iter().flatten().collect::<Vec<_>>();

        let mut published = told.messages.clone();
        published.extend(next.iter().flat_map(|next| next.messages.iter().cloned()));
        published.sort_by_key(|operation| operation.invoked_ns);
        let said = all.iter().filter_map(as_message).collect::<Vec<_>>();
        let history = |operations: &[Operation], deliveries: &[Delivery]| History {
            operations: operations.to_vec(),
            faults: recorder.faults().faults.clone(),
            deliveries: deliveries.to_vec(),
        };
        let subscribers = all.iter().map(|delivery| delivery.subscriber).collect::<BTreeSet<_>>();
        let on = |channels: &BTreeSet<&str>, deliveries: Vec<Delivery>| {
            let confirmations = subscribers.iter().flat_map(|subscriber| {
                let ns = confirmed[subscriber];
                channels.iter().map(move |channel| Delivery {
                    ns,
                    subscriber: *subscriber,
                    channel: (*channel).to_owned(),
                    message: None,
                })
            });
            confirmations.collect::<Vec<_>>().into_iter().chain(deliveries).collect::<Vec<_>>()
        };
        let said = on(&BTreeSet::from([CHANNEL]), said);
        accept("messages", messages::check(&published, &said), &history(&published, &said))?;
        *self.judged.entry("messages").or_default() += told.messages.len();

        let channels = told.writes.iter().flat_map(|operation| operation.request.keys());
        let channels = channels.map(|key| format!("{}{key}", events::CHANNEL)).collect::<BTreeSet<_>>();
        let channels = channels.iter().map(String::as_str).collect();
        let is_last = |text: &str| text.ends_with(LAST) || text.ends_with(OVER);
        let is_last = |delivery: &&Delivery| delivery.message.as_deref().is_some_and(is_last);
        let drained = of_it.iter().filter(is_last).map(|delivery| delivery.subscriber).collect();
        let events = of_it.iter().filter(|delivery| delivery.channel != CHANNEL).cloned().collect();
        let events = on(&channels, events);
        accept("events", events::check(&told.writes, &events, &drained), &history(&told.writes, &events))?;
        *self.judged.entry("events").or_default() += told.writes.len();
        Ok(())
    }
}

impl Told {
    fn of(number: u64, history: &History) -> Self {
        let mut messages = history.on_keys(CHANNEL);
        let mut writes = Vec::new();
        for kind in EVENTFUL {
            writes.extend(history.on_keys(kind));
        }
        // A lease is set once.
        let is_set = |operation: &&Operation| operation.request.commands[0][0] == "SET";
        let leases = history.on_keys("lease:");
        messages.extend(leases.iter().filter(is_set).map(|set| {
            let key = set.request.commands[0][1].clone();
            Operation { request: Request::of(&["PUBLISH", CHANNEL, &key]), ..set.clone() }
        }));
        Self { number, messages, writes }
    }
}

/// What was said in the channel, or an event that comes once.
fn as_message(delivery: &Delivery) -> Option<Delivery> {
    if delivery.channel == CHANNEL {
        return Some(delivery.clone());
    }
    let key = delivery.channel.strip_prefix(events::CHANNEL)?;
    let is_once = key.starts_with("lease:") && delivery.message.as_deref() == Some("set");
    let message = Some(key.to_owned());
    is_once.then(|| Delivery { channel: CHANNEL.to_owned(), message, ..delivery.clone() })
}

/// An error for everything but acceptance; the history is left in a file.
pub(super) fn accept(name: &str, verdict: Verdict, history: &History) -> Result<()> {
    let Err(what) = verdict.to_result() else { return Ok(()) };
    let path = std::env::temp_dir().join(format!("quorate-history-{}.jsonl", std::process::id()));
    history.write(BufWriter::new(File::create(&path)?))?;
    bail!("{name}: {what}\nthe whole history is in {}", path.display())
}

/// An operation that somebody without a network carried out.
pub(super) fn settled(at: u64, request: Request, reply: quorate::sim::check::history::Value) -> Operation {
    Operation {
        client: u64::from(u32::MAX),
        node: "before".to_owned(),
        request,
        invoked_ns: 2 * at,
        returned: Some(Returned { ns: 2 * at + 1, outcome: Outcome::Ok(reply), revision: None }),
    }
}
