//! Per command: how many, how long, how many failed.
//!
//! The one place that is touched once for every command, so it is made of relaxed atomics in one shard
//! per thread. A histogram has four buckets an octave, 104 in all up to two minutes: fine enough for
//! INFO's percentiles (within a quarter), and the octaves' ends are Prometheus' buckets.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::text::Text;
use super::{Kind, Metric};

/// How a command is called in metrics.
#[derive(Clone, Debug)]
pub struct CommandLabel {
    /// Lower case; a subcommand's is `parent|name`.
    pub name: String,
    /// The few classes that have a latency histogram of their own: `read`, `write`, ...
    pub class: &'static str,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It ran.
    Done,
    /// It ran, and answered with an error.
    Failed,
    /// It did not run: wrong arguments, no leader, no memory.
    Rejected,
}

/// The figures of all commands.
pub struct CommandStats {
    labels: Vec<CommandLabel>,
    shards: Box<[Shard]>,
}

/// One thread's part: a cell per command. Boxed apart from the others, so threads share no cache line.
type Shard = Box<[Cell]>;

struct Cell {
    micros: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    untimed: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// Commands that ended alike one behind the other, as those of a pipeline do, and are not counted yet.
#[derive(Debug, Default)]
pub struct Tally {
    like: Option<(usize, Duration, Outcome)>,
    count: u64,
}

/// One command's figures.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Times it ran.
    pub calls: u64,
    /// Time spent, in microseconds.
    pub micros: u64,
    pub failed: u64,
    pub rejected: u64,
    /// Of `calls`, those whose time is in that of the script that made them.
    untimed: u64,
    buckets: [u64; BUCKETS],
}

/// Four an octave; the last holds everything longer.
const BUCKETS: usize = 104;
const SUB_BITS: u32 = 2;

impl CommandStats {
    /// Figures at zero, for `threads` threads.
    #[must_use]
    pub fn new(labels: Vec<CommandLabel>, threads: usize) -> Self {
        let cell = || Cell {
            micros: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            untimed: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        };
        let shard = || labels.iter().map(|_| cell()).collect();
        let shards = (0..threads.clamp(1, 64)).map(|_| shard()).collect();
        Self { labels, shards }
    }

    /// Counts `count` runs of one command: `index` is its place among the labels, `took` the time of each from the
    /// arrival of the request to the reply, waiting included.
    pub fn record(&self, index: usize, took: Duration, outcome: Outcome, count: u64) {
        let Some(cell) = self.end(index, outcome, count) else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        cell.micros.fetch_add(micros.wrapping_mul(count), Relaxed);
        cell.buckets[bucket(micros)].fetch_add(count, Relaxed);
    }

    /// Counts one command, together with those before it if they were its like; see [`CommandStats::settle`].
    pub fn tally(&self, tally: &mut Tally, index: usize, took: Duration, outcome: Outcome) {
        let like = Some((index, took, outcome));
        if tally.like != like {
            self.settle(tally);
            tally.like = like;
        }
        tally.count += 1;
    }

    /// Counts what was tallied.
    pub fn settle(&self, tally: &mut Tally) {
        if let Tally { like: Some((index, took, outcome)), count } = std::mem::take(tally) {
            self.record(index, took, outcome, count);
        }
    }

    /// Counts what scripts have called: the time it took is in theirs.
    pub fn record_untimed(&self, index: usize, outcome: Outcome, count: u64) {
        let Some(cell) = self.end(index, outcome, count) else { return };
        cell.untimed.fetch_add(count, Relaxed);
    }

    /// Counts how commands ended. Where they ran, how long they did is for the caller to add.
    fn end(&self, index: usize, outcome: Outcome, count: u64) -> Option<&Cell> {
        let cell = &self.shards[thread_number() % self.shards.len()][index];
        match outcome {
            Outcome::Done => {}
            Outcome::Failed => {
                cell.failed.fetch_add(count, Relaxed);
            }
            Outcome::Rejected => {
                cell.rejected.fetch_add(count, Relaxed);
                return None;
            }
        }
        Some(cell)
    }

    /// How the commands are called, in the order of their indexes.
    #[must_use]
    pub fn labels(&self) -> &[CommandLabel] {
        &self.labels
    }

    /// The figures of the command with this index.
    #[must_use]
    pub fn read(&self, index: usize) -> Figures {
        let mut sum = Figures::default();
        for cell in self.shards.iter().map(|shard| &shard[index]) {
            sum.micros = sum.micros.wrapping_add(cell.micros.load(Relaxed));
            sum.failed += cell.failed.load(Relaxed);
            sum.rejected += cell.rejected.load(Relaxed);
            sum.untimed += cell.untimed.load(Relaxed);
            for (sum, bucket) in sum.buckets.iter_mut().zip(&cell.buckets) {
                *sum += bucket.load(Relaxed);
            }
        }
        sum.calls = sum.timed() + sum.untimed;
        sum
    }

    /// Commands run so far, of all kinds.
    #[must_use]
    pub fn calls(&self) -> u64 {
        (0..self.labels.len()).map(|index| self.read(index).calls).sum()
    }

    /// Sets all to zero. What is counted meanwhile may or may not survive.
    pub fn reset(&self) {
        for cell in self.shards.iter().flatten() {
            let counters = [&cell.micros, &cell.failed, &cell.rejected, &cell.untimed];
            counters.into_iter().chain(&cell.buckets).for_each(|counter| counter.store(0, Relaxed));
        }
    }
}

impl Figures {
    /// Whether there is anything to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.calls == 0 && self.rejected == 0
    }

    /// Microseconds a call, on average.
    #[must_use]
    pub fn micros_per_call(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.micros as f64 / self.calls as f64 }
    }

    /// The calls whose time is known.
    fn timed(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time in microseconds that `percent` of the calls did not exceed, rounded up to the end of its
    /// bucket.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        let calls = self.timed();
        let rank = ((percent / 100.0 * calls as f64).ceil() as u64).clamp(1, calls.max(1));
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, |bucket| bucket_end(bucket) - 1)
    }

    /// How many calls took less than each power of two of microseconds: only where there are more than for the
    /// one before, and at last all of them.
    #[must_use]
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let last = BUCKETS.ilog2() + BUCKETS as u32 / 4;
        let mut shown: Vec<(u64, u64)> = Vec::new();
        for micros in (0..last).map(|octave| 1_u64 << octave) {
            let count = if bucket(micros) == BUCKETS - 1 { self.timed() } else { self.below(micros) };
            if shown.last().map_or(0, |(_, count)| *count) < count {
                shown.push((micros, count));
            }
        }
        shown
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.micros = self.micros.wrapping_add(other.micros);
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.untimed += other.untimed;
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
    }

    /// How many calls took less than `micros`, which is a power of two.
    fn below(&self, micros: u64) -> u64 {
        self.buckets[..bucket(micros)].iter().sum()
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self { calls: 0, micros: 0, failed: 0, rejected: 0, untimed: 0, buckets: [0; BUCKETS] }
    }
}

/// This thread's place among the shards.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Relaxed));
    NUMBER.with(|number| *number)
}

/// The bucket of a time: below 4 one a microsecond, above four for each doubling.
const fn bucket(micros: u64) -> usize {
    if micros < 1 << SUB_BITS {
        return micros as usize;
    }
    let octave = micros.ilog2() - SUB_BITS;
    let index = ((octave as usize) << SUB_BITS) + (micros >> octave) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The first time that is beyond a bucket.
const fn bucket_end(index: usize) -> u64 {
    if index < 1 << SUB_BITS {
        return index as u64 + 1;
    }
    let octave = (index >> SUB_BITS) as u64 - 1;
    let sub = (index as u64 & 3) + 4;
    (sub + 1) << octave
}

const fn metric(name: &'static str, kind: Kind, help: &'static str) -> Metric {
    Metric { name, kind, help }
}

const CALLS: Metric = metric("quorate_commands_total", Kind::Counter, "Commands run.");
const SECONDS: Metric =
    metric("quorate_commands_duration_seconds_total", Kind::Counter, "Time from request to reply.");
const FAILED: Metric =
    metric("quorate_commands_failed_total", Kind::Counter, "Commands that ran and answered with an error.");
const REJECTED: Metric =
    metric("quorate_commands_rejected_total", Kind::Counter, "Commands that did not run.");
const LATENCY: Metric =
    metric("quorate_command_duration_seconds", Kind::Histogram, "Time from request to reply, by class.");
const REDIS_CALLS: Metric = metric("redis_commands_total", Kind::Counter, "Commands run.");
const REDIS_SECONDS: Metric =
    metric("redis_commands_duration_seconds_total", Kind::Counter, "Time spent on commands.");
const REDIS_FAILED: Metric =
    metric("redis_commands_failed_calls_total", Kind::Counter, "Commands that answered with an error.");
const REDIS_REJECTED: Metric =
    metric("redis_commands_rejected_calls_total", Kind::Counter, "Commands that did not run.");
const REDIS_PROCESSED: Metric = metric("redis_commands_processed_total", Kind::Counter, "Commands run.");

/// The metrics about commands.
pub const TABLE: [Metric; 10] = [
    CALLS,
    SECONDS,
    FAILED,
    REJECTED,
    LATENCY,
    REDIS_CALLS,
    REDIS_SECONDS,
    REDIS_FAILED,
    REDIS_REJECTED,
    REDIS_PROCESSED,
];

/// How a metric is read from a command's figures.
type Value = fn(&Figures) -> f64;

/// Writes the metrics about commands: only commands that were used, and one histogram a class.
pub fn render(text: &mut Text, stats: &CommandStats) {
    let used: Vec<(&CommandLabel, Figures)> = stats
        .labels
        .iter()
        .enumerate()
        .map(|(index, label)| (label, stats.read(index)))
        .filter(|(_, figures)| !figures.is_empty())
        .collect();
    let by_command: [(Metric, Value); 8] = [
        (CALLS, |figures| figures.calls as f64),
        (SECONDS, |figures| figures.micros as f64 / 1e6),
        (FAILED, |figures| figures.failed as f64),
        (REJECTED, |figures| figures.rejected as f64),
        (REDIS_CALLS, |figures| figures.calls as f64),
        (REDIS_SECONDS, |figures| figures.micros as f64 / 1e6),
        (REDIS_FAILED, |figures| figures.failed as f64),
        (REDIS_REJECTED, |figures| figures.rejected as f64),
    ];
    for (metric, value) in by_command {
        text.describe(metric);
        for (label, figures) in &used {
            text.series(metric.name, &[("cmd", &label.name)], value(figures));
        }
    }
    text.single(REDIS_PROCESSED, used.iter().map(|(_, figures)| figures.calls).sum::<u64>());
    render_histograms(text, &stats.labels, &used);
}

fn render_histograms(text: &mut Text, labels: &[CommandLabel], used: &[(&CommandLabel, Figures)]) {
    let mut classes: Vec<&str> = labels.iter().map(|label| label.class).collect();
    classes.sort_unstable();
    classes.dedup();
    text.describe(LATENCY);
    for class in classes {
        let mut sum = Figures::default();
        used.iter().filter(|(label, _)| label.class == class).for_each(|(_, figures)| sum.add(figures));
        let name = LATENCY.name;
        let bucket = format!("{name}_bucket");
        // From 16 microseconds to 17 seconds.
        for micros in (4..=24).map(|octave| 1_u64 << octave) {
            let end = micros as f64 / 1e6;
            text.series(&bucket, &[("class", &class), ("le", &end)], sum.below(micros));
        }
        text.series(&bucket, &[("class", &class), ("le", &"+Inf")], sum.timed());
        text.series(&format!("{name}_sum"), &[("class", &class)], sum.micros as f64 / 1e6);
        text.series(&format!("{name}_count"), &[("class", &class)], sum.timed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> CommandStats {
        let label = |name: &str, class| CommandLabel { name: name.to_owned(), class };
        CommandStats::new(vec![label("get", "read"), label("set", "write")], 2)
    }

    #[test]
    fn buckets_meet_without_gaps() {
        let mut begin = 0;
        for index in 0..BUCKETS - 1 {
            let end = bucket_end(index);
            assert!(end > begin, "bucket {index}");
            assert_eq!((bucket(begin), bucket(end - 1), bucket(end)), (index, index, index + 1));
            begin = end;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_rejected_did_not_run() {
        let stats = stats();
        stats.record(0, Duration::from_micros(10), Outcome::Done, 1);
        stats.record(0, Duration::from_micros(30), Outcome::Failed, 1);
        stats.record(0, Duration::from_secs(1), Outcome::Rejected, 1);
        let figures = stats.read(0);
        assert_eq!((figures.calls, figures.micros, figures.failed, figures.rejected), (2, 40, 1, 1));
        assert!((figures.micros_per_call() - 20.0).abs() < f64::EPSILON);
        assert!(stats.read(1).is_empty());
        assert_eq!(stats.calls(), 2);
    }

    #[test]
    fn a_tally_counts_as_much_as_one_by_one() {
        let (one_by_one, together, mut tally) = (stats(), stats(), Tally::default());
        let ran = [
            (0, 5, Outcome::Done),
            (0, 5, Outcome::Done),
            (0, 5, Outcome::Failed),
            (1, 5, Outcome::Rejected),
        ];
        for (index, micros, outcome) in ran.into_iter().cycle().take(11) {
            one_by_one.record(index, Duration::from_micros(micros), outcome, 1);
            together.tally(&mut tally, index, Duration::from_micros(micros), outcome);
        }
        together.settle(&mut tally);
        together.settle(&mut tally);
        for index in 0..2 {
            assert_eq!(format!("{:?}", together.read(index)), format!("{:?}", one_by_one.read(index)));
        }
    }

    #[test]
    fn what_scripts_call_has_no_time_of_its_own() {
        let stats = stats();
        stats.record(0, Duration::from_micros(1000), Outcome::Done, 1);
        stats.record_untimed(0, Outcome::Done, 5);
        stats.record_untimed(0, Outcome::Failed, 2);
        stats.record_untimed(0, Outcome::Rejected, 1);
        let figures = stats.read(0);
        assert_eq!((figures.calls, figures.failed, figures.rejected), (8, 2, 1));
        assert!(figures.percentile(50.0) >= 1000);
        assert_eq!(figures.cumulative().last(), Some(&(1024, 1)));
    }

    #[test]
    fn percentiles_are_within_a_quarter() {
        let stats = stats();
        for micros in 1..=1000 {
            stats.record(1, Duration::from_micros(micros), Outcome::Done, 1);
        }
        let figures = stats.read(1);
        for (percent, exact) in [(50.0, 500), (99.0, 990), (99.9, 999), (100.0, 1000)] {
            let found = figures.percentile(percent);
            assert!(found >= exact && found <= exact * 5 / 4, "p{percent}: {found}");
        }
        assert_eq!(stats.read(0).percentile(50.0), 0);
    }

    #[test]
    fn threads_add_up() {
        let stats = stats();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| stats.record(0, Duration::ZERO, Outcome::Done, 1)));
            }
        });
        assert_eq!(stats.read(0).calls, 4000);
    }

    #[test]
    fn histograms_are_cumulative() {
        let stats = stats();
        stats.record(0, Duration::from_micros(15), Outcome::Done, 1);
        stats.record(0, Duration::from_micros(16), Outcome::Done, 1);
        stats.record(0, Duration::from_secs(1000), Outcome::Done, 1);
        let mut text = Text::default();
        render(&mut text, &stats);
        let text = text.into_string();
        for line in [
            r#"quorate_command_duration_seconds_bucket{class="read",le="0.000016"} 1"#,
            r#"quorate_command_duration_seconds_bucket{class="read",le="0.000032"} 2"#,
            r#"quorate_command_duration_seconds_bucket{class="read",le="16.777216"} 2"#,
            r#"quorate_command_duration_seconds_bucket{class="read",le="+Inf"} 3"#,
            r#"quorate_command_duration_seconds_count{class="write"} 0"#,
            r#"redis_commands_total{cmd="get"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains(r#"cmd="set""#), "SET was not used");
    }
}
