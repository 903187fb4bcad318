//! How costs change as one thing grows: connections, values, keys, nodes, cores, load, subscribers.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::measure::{Figures, Machine};
use crate::plot::{self, Line, Scale};
use crate::report::{digits, figures_json, median_of, thousands};
use crate::server::{Cluster, Service, TARGETS, Target};
use crate::stage::{Conditions, Pace, Stage};
use crate::workload::{Command, Mix, Popularity, Shape, USUAL, Workload};

/// One thing that grows.
#[derive(Debug)]
pub struct Curve {
    pub name: &'static str,
    pub about: &'static str,
    /// What is along the horizontal axis.
    axis: &'static str,
    points: &'static [u64],
    targets: &'static [&'static str],
    at: fn(u64) -> Point,
    figures: &'static [Figure],
}

/// What is done at a point of a curve.
struct Point {
    task: Task,
    conditions: Conditions,
    /// How many nodes, if the target's is not meant.
    nodes: Option<usize>,
}

/// What clients do.
enum Task {
    Requests(Workload, Pace),
    /// One publishes, so many are subscribed.
    FanOut(usize),
}

/// A figure that is drawn.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    scale: Scale,
    of: fn(&Figures) -> f64,
}

const THROUGHPUT: Figure = Figure {
    name: "throughput",
    unit: "operations a second",
    scale: Scale::Linear,
    of: |figures| figures.throughput,
};
const CPU: Figure = Figure {
    name: "cpu",
    unit: "CPU of all servers for an operation, us",
    scale: Scale::Log,
    of: Figures::cpu_us_sum,
};
const DELIVERIES: Figure = Figure { unit: "deliveries a second", ..THROUGHPUT };
const DELIVERY_CPU: Figure = Figure { unit: "CPU of all servers for a delivery, us", ..CPU };
const P50: Figure =
    Figure { name: "p50", unit: "p50, ms", scale: Scale::Log, of: |figures| figures.p50_us / 1e3 };
const P99: Figure =
    Figure { name: "p99", unit: "p99, ms", scale: Scale::Log, of: |figures| figures.p99_us / 1e3 };
const P999: Figure = Figure {
    name: "p999",
    unit: "p99.9, ms",
    scale: Scale::Log,
    of: |figures| figures.p999_us.unwrap_or(f64::NAN) / 1e3,
};
const MEMORY: Figure = Figure {
    name: "memory",
    unit: "peak RSS of the largest node, MiB",
    scale: Scale::Log,
    of: |figures| figures.memory_bytes_max() / f64::from(1 << 20),
};

const DURABLE: &[&str] = &["redis-always", "quorate-1", "quorate-3", "etcd-3"];
const OURS: &[&str] = &["quorate-3"];

/// All of them.
pub const CURVES: [Curve; 9] = [
    Curve {
        name: "set-connections",
        about: "SET by more and more clients",
        axis: "connections",
        points: &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000],
        targets: DURABLE,
        at: |connections| Point::of(Command::Set, connections, 1),
        figures: &[THROUGHPUT, CPU, P50, P99],
    },
    Curve {
        name: "get-connections",
        about: "GET by more and more clients",
        axis: "connections",
        points: &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000],
        targets: DURABLE,
        at: |connections| Point::of(Command::Get, connections, 1),
        figures: &[THROUGHPUT, CPU, P50, P99],
    },
    Curve {
        name: "value-bytes",
        about: "SET of larger and larger values by 50 clients",
        axis: "bytes of a value",
        points: &[16, 64, 256, 1_024, 4_096, 16_384, 65_536],
        targets: DURABLE,
        at: |bytes| {
            Point::with(Shape { keys: 10_000, value_bytes: to_usize(bytes), popularity: Popularity::Even }, 1)
        },
        figures: &[THROUGHPUT, CPU, P99],
    },
    Curve {
        name: "set-load",
        about: "SET at a steady rate by 50 clients that do not wait for each other",
        axis: "operations a second that are asked for",
        points: &[1_000, 2_000, 4_000, 8_000, 12_000, 16_000, 20_000, 24_000],
        targets: &["redis-always", "quorate-3", "etcd-3"],
        at: |rate| Point::at_rate(Command::Set, rate),
        figures: &[P50, P99, P999],
    },
    Curve {
        name: "get-load",
        about: "GET at a steady rate by 50 clients that do not wait for each other",
        axis: "operations a second that are asked for",
        points: &[1_000, 2_000, 4_000, 8_000, 16_000, 24_000, 32_000, 40_000],
        targets: &["redis-always", "quorate-3", "etcd-3"],
        at: |rate| Point::at_rate(Command::Get, rate),
        figures: &[P50, P99, P999],
    },
    Curve {
        name: "keys",
        about: "SET of 50 clients, 16 at once, on more and more keys",
        axis: "keys",
        points: &[1_000, 10_000, 100_000, 1_000_000, 5_000_000],
        targets: &["redis-always", "quorate-1", "quorate-3"],
        at: |keys| Point::with(Shape { keys, ..USUAL }, 16),
        figures: &[THROUGHPUT, CPU, P99, MEMORY],
    },
    Curve {
        name: "nodes",
        about: "SET by 50 clients to more and more nodes, which share the machine",
        axis: "nodes",
        points: &[1, 3, 5],
        targets: OURS,
        at: |nodes| Point { nodes: usize::try_from(nodes).ok(), ..Point::of(Command::Set, 50, 1) },
        figures: &[THROUGHPUT, CPU, P50],
    },
    Curve {
        name: "cores",
        about: "SET by 50 clients to servers that share so many cores",
        axis: "cores",
        points: &[1, 2],
        targets: &["redis-always", "quorate-1", "quorate-3"],
        at: |cores| Point { conditions: Conditions { cores: Some(cores) }, ..Point::of(Command::Set, 50, 1) },
        figures: &[THROUGHPUT, CPU, P50],
    },
    Curve {
        name: "fan-out",
        about: "PUBLISH to more and more subscribers, one message at a time",
        axis: "subscribers",
        points: &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000],
        targets: &["redis-always", "quorate-1", "quorate-3"],
        at: |subscribers| Point::doing(Task::FanOut(to_usize(subscribers))),
        figures: &[DELIVERIES, DELIVERY_CPU, P50, P99],
    },
];

impl Point {
    fn of(command: Command, connections: u64, pipeline: usize) -> Self {
        Self::doing(Task::Requests(workload(command, to_usize(connections), pipeline), Pace::Closed))
    }

    fn with(shape: Shape, pipeline: usize) -> Self {
        let usual = workload(Command::Set, 50, pipeline);
        Self::doing(Task::Requests(Workload { shape, ..usual }, Pace::Closed))
    }

    fn at_rate(command: Command, rate: u64) -> Self {
        Self::doing(Task::Requests(workload(command, 50, 1), Pace::Open(rate as f64)))
    }

    fn doing(task: Task) -> Self {
        Self { task, conditions: Conditions::default(), nodes: None }
    }
}

fn workload(command: Command, connections: usize, pipeline: usize) -> Workload {
    Workload { name: "", connections, pipeline, mix: Mix::Only(command), shape: USUAL, quick: false }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}

impl Task {
    /// What keys and values a server is filled with before.
    const fn shape(&self) -> Shape {
        match self {
            Self::Requests(workload, _) => workload.shape,
            Self::FanOut(_) => USUAL,
        }
    }
}

/// What was found of a server at a point.
struct Found {
    target: &'static Target,
    x: u64,
    figures: Figures,
}

/// Measures a curve, `times` at each point, and keeps it: a table, what programs read, and a picture of each figure.
/// Returns the table.
pub fn draw(
    curve: &Curve,
    stage: &mut Stage,
    (seconds, times): (f64, usize),
    machine: &Machine,
    out: &Path,
) -> Result<String> {
    let mut found = Vec::new();
    for name in curve.targets {
        let target = TARGETS.iter().find(|target| target.name == *name).context("a known server")?;
        if let Err(error) = along(curve, target, stage, (seconds, times), &mut found) {
            stage.check_stop()?;
            eprintln!("{}: {} could not be measured: {error:#}", curve.name, target.title);
        }
    }
    ensure!(!found.is_empty(), "nothing was measured");
    for figure in curve.figures {
        let lines = curve.lines(&found, figure);
        let title = format!("{}: {}", curve.name, curve.about);
        let file = out.join(format!("{}-{}.svg", curve.name, figure.name));
        plot::draw(&file, &title, (curve.axis, Scale::Log), (figure.unit, figure.scale), &lines)?;
        eprintln!("kept in {}", file.display());
    }
    let json = json!({ "machine": machine.to_json(), "curve": curve.name, "seconds": seconds, "times": times,
        "points": found.iter().map(Found::json).collect::<Vec<_>>() });
    fs::write(out.join(format!("{}.json", curve.name)), serde_json::to_string_pretty(&json)?)?;
    Ok(curve.table(&found))
}

/// A server along a curve.
fn along(
    curve: &Curve,
    target: &'static Target,
    stage: &mut Stage,
    (seconds, times): (f64, usize),
    found: &mut Vec<Found>,
) -> Result<()> {
    let mut running: Option<(Target, Shape, Conditions, Cluster)> = None;
    for &x in curve.points {
        let Point { task, conditions, nodes } = (curve.at)(x);
        let shape = task.shape();
        let service = match (target.service, nodes) {
            (Service::Quorate { .. }, Some(nodes)) => Service::Quorate { nodes },
            (service, _) => service,
        };
        let asked = Target { service, ..*target };
        let fits = |(of, filled, under, _): &(Target, Shape, Conditions, Cluster)| {
            (of.service, *filled, *under) == (service, shape, conditions)
        };
        if !running.as_ref().is_some_and(fits) {
            // The one before ends first.
            drop(running.take());
            let cluster = stage.start(&asked, &shape, conditions)?;
            running = Some((asked, shape, conditions, cluster));
        }
        let (asked, _, _, cluster) = running.as_ref().context("it was started")?;
        let mut runs = Vec::new();
        for _ in 0..times {
            stage.rest(std::iter::once(cluster))?;
            runs.push(match &task {
                Task::Requests(workload, pace) => stage.measure(workload, asked, cluster, seconds, *pace)?,
                Task::FanOut(subscribers) => stage.measure_fan_out(*subscribers, asked, cluster, seconds)?,
            });
        }
        let figures = median_of(&runs.iter().collect::<Vec<_>>());
        let (throughput, p99) = (thousands(figures.throughput), digits(figures.p99_us / 1e3));
        eprintln!(
            "{}, {} {x}: {}: {throughput}/s, p99 {p99} ms, CPU {} us/op",
            curve.name,
            curve.axis,
            target.title,
            digits(figures.cpu_us_sum())
        );
        found.push(Found { target, x, figures });
    }
    Ok(())
}

impl Curve {
    fn lines(&self, found: &[Found], figure: &Figure) -> Vec<Line> {
        let line = |name: &&str| {
            let points = found.iter().filter(|found| found.target.name == *name);
            let points = points.map(|found| (found.x as f64, (figure.of)(&found.figures)));
            let title = TARGETS.iter().find(|target| target.name == *name).map_or("", |target| target.title);
            Line { title, points: points.filter(|(_, y)| y.is_finite()).collect() }
        };
        self.targets.iter().map(line).filter(|line| !line.points.is_empty()).collect()
    }

    /// A row for each point, a column for each figure of each server.
    fn table(&self, found: &[Found]) -> String {
        let mut text = format!("## {}: {}\n\n| {} |", self.name, self.about, self.axis);
        let columns =
            self.targets.iter().flat_map(|target| self.figures.iter().map(move |figure| (target, figure)));
        let columns = columns.collect::<Vec<_>>();
        for (target, figure) in &columns {
            let _ = write!(text, " {target}: {} |", figure.unit);
        }
        let _ = writeln!(text, "\n| ---: |{}", " ---: |".repeat(columns.len()));
        for x in self.points {
            let _ = write!(text, "| {x} |");
            for (target, figure) in &columns {
                let at = found.iter().find(|found| found.x == *x && found.target.name == **target);
                let _ = write!(
                    text,
                    " {} |",
                    at.map_or_else(String::new, |found| digits((figure.of)(&found.figures)))
                );
            }
            text.push('\n');
        }
        text + "\n"
    }
}

impl Found {
    fn json(&self) -> Value {
        json!({ "server": self.target.name, "x": self.x, "figures": figures_json(&self.figures) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_servers_known() {
        for (place, curve) in CURVES.iter().enumerate() {
            assert!(CURVES[..place].iter().all(|other| other.name != curve.name), "{}", curve.name);
            for name in curve.targets {
                assert!(TARGETS.iter().any(|target| target.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_point() {
        let curve = CURVES.iter().find(|curve| curve.name == "nodes").expect("there is one");
        let target = TARGETS.iter().find(|target| target.name == "quorate-3").expect("there is one");
        let figures =
            Figures { throughput: 1_234.0, cpu_us: vec![10.0, 5.0], p50_us: 1_500.0, ..Figures::default() };
        let table = curve.table(&[Found { target, x: 3, figures }]);
        assert!(table.contains("| 3 | 1234 | 15.0 | 1.50 |\n"), "{table}");
        assert!(table.contains("| 1 |  |  |  |\n"), "{table}");
    }
}
