//! LATENCY: what took long, and how long commands take.
//!
//! Events are things that can take long, each with its last samples, at most one a second. An event is
//! remembered when it took longer than the option `latency-monitor-threshold`; whoever records knows that.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::READY;
use crate::commands::{Answer, Args, Command, Flags, Group, Host, Node, Session, Spec, all, help};
use crate::error::{ClientError, Result};
use crate::resp::Reply;
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[
    Command::node::<Histogram>(),
    Command::node::<Latest>(),
    Command::node::<History>(),
    Command::node::<Reset>(),
    Command::node::<Graph>(),
    Command::node::<Doctor>(),
    Command::session::<Help>(),
];

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(READY);

/// Samples kept of an event.
const SAMPLES_MAX: usize = 160;
/// How high a graph's columns are.
const GRAPH_LEVELS: u64 = 4;
/// How many of the last samples a graph shows.
const GRAPH_COLUMNS: usize = 80;

/// Something that can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A command, the wait for a quorum included.
    Command,
    /// One that is marked as fast.
    FastCommand,
    /// A durable write of the log.
    Sync,
}

impl Event {
    /// What Redis calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::FastCommand => "fast-command",
            Self::Sync => "aof-fsync-always",
        }
    }
}

/// The events of late.
#[derive(Default)]
pub struct LatencyMonitor {
    events: Mutex<BTreeMap<&'static str, Series>>,
}

#[derive(Default)]
struct Series {
    samples: VecDeque<Sample>,
    longest_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    second: u64,
    took_ms: u64,
}

impl LatencyMonitor {
    /// Adds an event that ended at `wall_ms`. Of several in a second the longest counts.
    pub fn record(&self, event: Event, wall_ms: u64, took: Duration) {
        let sample = Sample { second: wall_ms / 1000, took_ms: took.as_millis() as u64 };
        let mut events = self.lock();
        let series = events.entry(event.name()).or_default();
        series.longest_ms = series.longest_ms.max(sample.took_ms);
        match series.samples.back_mut() {
            Some(last) if last.second == sample.second => last.took_ms = last.took_ms.max(sample.took_ms),
            _ => series.samples.push_back(sample),
        }
        if series.samples.len() > SAMPLES_MAX {
            series.samples.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Series>> {
        self.events.lock().expect("nothing panics while it holds the events")
    }
}

/// Tells how many calls of each command took how long.
pub struct Histogram {
    names: Vec<Bytes>,
}

impl Node for Histogram {
    const SPEC: Spec = Spec {
        name: "LATENCY|HISTOGRAM",
        syntax: "[command [command ...]]",
        summary: "Return the cumulative distribution of latencies of a subset of commands or all.",
        complexity: "O(N) where N is the number of commands with latency information being retrieved.",
        since: "7.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { names: args.rest() })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let named = |command: &&Command, name: &Bytes| {
            let spec = command.spec;
            // A container stands for all that is in it.
            [Some(spec.name), spec.parent()]
                .into_iter()
                .flatten()
                .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        };
        let wanted: Vec<&Command> = if self.names.is_empty() {
            all().iter().collect()
        } else {
            self.names.iter().flat_map(|name| all().iter().filter(move |row| named(row, name))).collect()
        };
        let mut shown: Vec<(Reply, Reply)> = Vec::new();
        for command in wanted {
            let histogram = host.histogram(command.index);
            let Some((_, calls)) = histogram.last() else { continue };
            let name = Reply::bulk(command.spec.lower_name());
            if shown.iter().any(|(other, _)| *other == name) {
                continue;
            }
            let calls = Reply::Int(*calls as i64);
            let buckets = histogram
                .iter()
                .map(|(micros, calls)| (Reply::Int(*micros as i64), Reply::Int(*calls as i64)));
            let figures = Reply::Map(vec![
                (Reply::text("calls"), calls),
                (Reply::text("histogram_usec"), Reply::Map(buckets.collect())),
            ]);
            shown.push((name, figures));
        }
        Ok(Reply::Map(shown).into())
    }
}

/// Shows each event's last sample.
pub struct Latest;

impl Node for Latest {
    const SPEC: Spec = Spec {
        name: "LATENCY|LATEST",
        summary: "Return the latest latency samples for all events.",
        since: "2.8.13",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let events = host.latency_monitor().lock();
        let shown = events.iter().filter_map(|(name, series)| {
            let last = series.samples.back()?;
            let figures =
                [last.second, last.took_ms, series.longest_ms].map(|figure| Reply::Int(figure as i64));
            Some(Reply::Array(std::iter::once(Reply::text(name)).chain(figures).collect()))
        });
        Ok(Reply::Array(shown.collect()).into())
    }
}

/// Shows an event's samples.
pub struct History {
    event: Bytes,
}

impl Node for History {
    const SPEC: Spec = Spec {
        name: "LATENCY|HISTORY",
        syntax: "event",
        summary: "Return timestamp-latency samples for the event.",
        since: "2.8.13",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { event: args.bytes()? })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let events = host.latency_monitor().lock();
        let samples =
            find(&events, &self.event).map(|(_, series)| series.samples.iter()).into_iter().flatten();
        let samples = samples.map(|sample| {
            Reply::Array(vec![Reply::Int(sample.second as i64), Reply::Int(sample.took_ms as i64)])
        });
        Ok(Reply::Array(samples.collect()).into())
    }
}

fn find<'a>(events: &'a BTreeMap<&'static str, Series>, name: &[u8]) -> Option<(&'static str, &'a Series)> {
    let name = std::str::from_utf8(name).ok()?;
    events.get_key_value(name).map(|(name, series)| (*name, series))
}

/// Forgets events.
pub struct Reset {
    events: Vec<Bytes>,
}

impl Node for Reset {
    const SPEC: Spec = Spec {
        name: "LATENCY|RESET",
        syntax: "[event [event ...]]",
        summary: "Reset latency data for one or more events.",
        since: "2.8.13",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { events: args.rest() })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let mut events = host.latency_monitor().lock();
        let before = events.len();
        if self.events.is_empty() {
            events.clear();
        } else {
            events.retain(|name, _| self.events.iter().all(|event| event != name));
        }
        Ok(Reply::Int((before - events.len()) as i64).into())
    }
}

/// Draws an event's samples.
pub struct Graph {
    event: Bytes,
}

impl Node for Graph {
    const SPEC: Spec = Spec {
        name: "LATENCY|GRAPH",
        syntax: "event",
        summary: "Return a latency graph for the event.",
        since: "2.8.13",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { event: args.bytes()? })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let now = host.wall_ms() / 1000;
        let events = host.latency_monitor().lock();
        let Some((name, series)) = find(&events, &self.event) else {
            let event = String::from_utf8_lossy(&self.event);
            return Err(ClientError::new(format!("ERR No samples available for event '{event}'")).into());
        };
        Ok(Reply::Verbatim(Bytes::from(draw(name, series, now))).into())
    }
}

/// A column a sample, the older to the left, and how long ago it was below.
fn draw(name: &str, series: &Series, now: u64) -> String {
    let shown = series.samples.iter().skip(series.samples.len().saturating_sub(GRAPH_COLUMNS));
    let shown: Vec<Sample> = shown.copied().collect();
    let high = shown.iter().map(|sample| sample.took_ms).max().unwrap_or(0);
    let low = shown.iter().map(|sample| sample.took_ms).min().unwrap_or(0);
    let mut text = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.longest_ms,
        "-".repeat(80)
    );
    for level in (0..GRAPH_LEVELS).rev() {
        for sample in &shown {
            let reached = (sample.took_ms - low) * (GRAPH_LEVELS - 1) / (high - low).max(1);
            text.push(match reached.cmp(&level) {
                std::cmp::Ordering::Less => ' ',
                std::cmp::Ordering::Equal => '#',
                std::cmp::Ordering::Greater => '|',
            });
        }
        text.push('\n');
    }
    let ages: Vec<String> = shown.iter().map(|sample| age(now.saturating_sub(sample.second))).collect();
    let rows = ages.iter().map(String::len).max().unwrap_or(0);
    text.push('\n');
    for row in 0..rows {
        text.extend(ages.iter().map(|age| age.chars().nth(row).unwrap_or(' ')));
        text.push('\n');
    }
    text
}

/// `5s`, `12m`, `3h`, `2d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Says what the events are, in sentences.
pub struct Doctor;

impl Node for Doctor {
    const SPEC: Spec = Spec {
        name: "LATENCY|DOCTOR",
        summary: "Return a human readable latency analysis report.",
        since: "2.8.13",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let threshold = host.config_get(&[Bytes::from_static(b"latency-monitor-threshold")]);
        let off = threshold.iter().any(|(_, value)| value == "0");
        let events = host.latency_monitor().lock();
        let text = if events.is_empty() && off {
            "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> switches it on.\n"
                .to_owned()
        } else if events.is_empty() {
            "Nothing took longer than latency-monitor-threshold so far.\n".to_owned()
        } else {
            report(&events)
        };
        Ok(Reply::Verbatim(Bytes::from(text)).into())
    }
}

fn report(events: &BTreeMap<&'static str, Series>) -> String {
    let mut text = String::from("What took longer than latency-monitor-threshold:\n\n");
    for (place, (name, series)) in events.iter().enumerate() {
        let count = series.samples.len() as u64;
        let average = series.samples.iter().map(|sample| sample.took_ms).sum::<u64>() / count.max(1);
        let written = writeln!(
            text,
            "{}. {name}: {count} seconds with events, {average} ms on average, {} ms at most.",
            place + 1,
            series.longest_ms
        );
        written.expect("writing to a String does not fail");
    }
    if events.contains_key(Event::Sync.name()) {
        text.push_str(
            "\nThe disk is slow to make the log durable, and every write waits for a quorum's disks.\n",
        );
    }
    text.push_str("\nSLOWLOG GET shows which commands were slow.\n");
    text
}

/// Explains LATENCY.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "LATENCY|HELP",
        summary: "Show helpful text about the different subcommands.",
        since: "2.8.13",
        flags: READY,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "LATENCY",
            &[
                "DOCTOR",
                "    Return a human readable latency analysis report.",
                "GRAPH <event>",
                "    Return an ASCII latency graph for the <event> class.",
                "HISTORY <event>",
                "    Return time-latency samples for the <event> class.",
                "LATEST",
                "    Return the latest latency samples for all events.",
                "RESET [<event> ...]",
                "    Reset latency data of one or more <event> classes.",
                "    (default: reset all data for all event classes)",
                "HISTOGRAM [COMMAND ...]",
                "    Return a cumulative distribution of the latencies of commands.",
                "    If no commands are specified then all histograms are replied.",
            ],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_a_second_counts() {
        let monitor = LatencyMonitor::default();
        for (wall_ms, took_ms) in [(1_000, 5), (1_900, 9), (1_999, 7), (2_000, 6)] {
            monitor.record(Event::Command, wall_ms, Duration::from_millis(took_ms));
        }
        let events = monitor.lock();
        let (_, series) = find(&events, b"command").expect("it was recorded");
        let samples: Vec<_> = series.samples.iter().map(|sample| (sample.second, sample.took_ms)).collect();
        assert_eq!((samples, series.longest_ms), (vec![(1, 9), (2, 6)], 9));
    }

    #[test]
    fn old_samples_are_forgotten() {
        let monitor = LatencyMonitor::default();
        for second in 0..200 {
            monitor.record(Event::Sync, second * 1000, Duration::from_millis(200 - second));
        }
        let events = monitor.lock();
        let (_, series) = find(&events, b"aof-fsync-always").expect("it was recorded");
        assert_eq!((series.samples.len(), series.samples[0].second, series.longest_ms), (160, 40, 200));
    }

    #[test]
    fn graphs_are_as_wide_as_there_are_samples() {
        let mut series = Series { longest_ms: 40, ..Series::default() };
        series
            .samples
            .extend([(10, 10), (68, 40), (69, 25)].map(|(second, took_ms)| Sample { second, took_ms }));
        let text = draw("command", &series, 70);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 40 ms, low 10 ms (all time high 40 ms)");
        assert_eq!(lines[2..], [" # ", " | ", " |#", "#||", "", "121", "mss"]);
    }
}
