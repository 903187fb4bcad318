//! What is told of the runs: medians, ratios to the reference, goals; as Markdown and as JSON.
//!
//! A ratio is always between two runs that followed each other, and what is reported is the median of these
//! ratios: on a machine that others use, too, minutes differ more than servers do.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::{Figures, Machine};
use crate::server::{REFERENCE, TARGETS, Target};
use crate::stage::Generator;
use crate::workload::{Shape, USUAL, WORKLOADS, Workload};

/// One run of a workload on a server.
#[derive(Debug)]
pub struct Run {
    pub workload: &'static Workload,
    pub target: &'static Target,
    pub figures: Figures,
    /// The reference's run next to it; none for the reference itself.
    pub reference: Option<Figures>,
}

/// Everything that was found.
#[derive(Debug)]
pub struct Report {
    pub machine: Machine,
    /// Who put the load on.
    pub by: Generator,
    pub seconds: f64,
    pub pairs: usize,
    pub runs: Vec<Run>,
    /// What was not measured, or went wrong.
    pub notes: Vec<String>,
}

/// What a server is to the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratios {
    pub throughput: f64,
    pub cpu: f64,
    pub p50: f64,
}

/// What Quorate is to reach against the reference; bounds that do not apply are absent.
struct Goal {
    workload: &'static str,
    target: &'static str,
    cpu_max: Option<f64>,
    throughput_min: Option<f64>,
    p50_max: Option<f64>,
}

const GOALS: [Goal; 10] = [
    goal("set-c50-p1", "quorate-3", 1.8, 0.8),
    goal("set-c256-p1", "quorate-3", 1.4, 0.85),
    goal("set-c50-p16", "quorate-3", 1.25, 1.0),
    goal("set-c256-p16", "quorate-3", 1.1, 1.3),
    goal("get-c50-p1", "quorate-3", 1.35, 0.85),
    goal("get-c50-p16", "quorate-3", 1.0, 1.1),
    goal("set-c50-p1", "quorate-1", 1.1, 0.95),
    goal("set-c50-p16", "quorate-3-follower", 2.0, 0.6),
    goal("get-c50-p16", "quorate-3-follower", 2.5, 0.5),
    Goal {
        workload: "set-c1-p1",
        target: "quorate-3",
        cpu_max: None,
        throughput_min: None,
        p50_max: Some(2.0),
    },
];

const fn goal(workload: &'static str, target: &'static str, cpu_max: f64, throughput_min: f64) -> Goal {
    Goal { workload, target, cpu_max: Some(cpu_max), throughput_min: Some(throughput_min), p50_max: None }
}

impl Report {
    /// The median of each figure of a server under a workload; none if there was no run.
    #[must_use]
    pub fn typical(&self, workload: &str, target: &str) -> Option<Figures> {
        let figures: Vec<_> = self.of(workload, target).map(|run| &run.figures).collect();
        (!figures.is_empty()).then(|| median_of(&figures))
    }

    /// The medians of the pairs' ratios.
    #[must_use]
    pub fn ratios(&self, workload: &str, target: &str) -> Option<Ratios> {
        let pairs: Vec<_> = self
            .of(workload, target)
            .filter_map(|run| Some((&run.figures, run.reference.as_ref()?)))
            .collect();
        let ratio = |of: &dyn Fn(&Figures) -> f64| {
            median(pairs.iter().map(|(own, reference)| of(own) / of(reference)).collect())
        };
        (!pairs.is_empty()).then(|| Ratios {
            throughput: ratio(&|figures| figures.throughput),
            cpu: ratio(&Figures::cpu_us_sum),
            p50: ratio(&|figures| figures.p50_us),
        })
    }

    fn of<'a>(&'a self, workload: &'a str, target: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.workload.name == workload && run.target.name == target)
    }

    /// The report for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = self.heading();
        for workload in &WORKLOADS {
            text += &self.table(workload);
        }
        text += &self.goals_table();
        if !self.notes.is_empty() {
            text += "## Not as planned\n\n";
            for note in &self.notes {
                let _ = writeln!(text, "- {note}");
            }
        }
        text
    }

    fn heading(&self) -> String {
        let Machine { date, cores, processor, kernel, filesystem, fdatasync_us, load_average, .. } =
            &self.machine;
        let commit = self.machine.commit.as_deref().unwrap_or("unknown");
        let memory = self.machine.memory_bytes as f64 / f64::from(1 << 30);
        let (pairs, seconds, by) = (self.pairs, self.seconds, self.by.title());
        let Shape { keys, value_bytes, .. } = USUAL;
        format!(
            "# Quorate beside its peers\n\n\
             {date}, commit {commit}. {cores} cores ({processor}), {memory:.1} GiB, Linux {kernel}, {filesystem}; \
             fdatasync p50 {fdatasync_us:.0} us; load average before {load_average}.\n\n\
             Values of {value_bytes} bytes, {keys} keys; medians of runs of {seconds} s, {pairs} for each server, by \
             {by}. \
             CPU is user and system time of all server processes for one operation (by node: the leader first). \
             Disk is what went to the device meanwhile; syncs are those of the logs of all nodes. Peak RSS is \
             that of the largest node since its start. The last three columns compare with {}: medians of the \
             ratios of runs side by side.\n\n",
            REFERENCE.title
        )
    }

    fn table(&self, workload: &Workload) -> String {
        let rows = TARGETS.iter().filter_map(|target| self.row(workload, target));
        let rows: String = rows.collect();
        if rows.is_empty() {
            return rows;
        }
        format!(
            "## {}: {workload}\n\n\
             | server | ops/s | p50 ms | p99 ms | p99.9 ms | CPU us/op | by node | disk B/op | syncs/s \
             | peak RSS MiB | ops/s × | CPU × | p50 × |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n\
             {rows}\n",
            workload.name
        )
    }

    fn row(&self, workload: &Workload, target: &Target) -> Option<String> {
        let figures = self.typical(workload.name, target.name)?;
        let nodes: Vec<_> = figures.cpu_us.iter().map(|&cpu| digits(cpu)).collect();
        let mut cells = vec![
            target.title.to_owned(),
            thousands(figures.throughput),
            digits(figures.p50_us / 1e3),
            digits(figures.p99_us / 1e3),
            figures.p999_us.map_or_else(String::new, |micros| digits(micros / 1e3)),
            digits(figures.cpu_us_sum()),
            if nodes.len() > 1 { nodes.join(" + ") } else { String::new() },
            figures.disk_bytes.map_or_else(String::new, |bytes| format!("{bytes:.0}")),
            figures.syncs.map_or_else(String::new, |syncs| format!("{syncs:.0}")),
            format!("{:.0}", figures.memory_bytes_max() / f64::from(1 << 20)),
        ];
        match self.ratios(workload.name, target.name) {
            Some(Ratios { throughput, cpu, p50 }) => cells.extend([throughput, cpu, p50].map(ratio)),
            None => cells.extend([const { String::new() }; 3]),
        }
        Some(format!("| {} |\n", cells.join(" | ")))
    }

    fn goals_table(&self) -> String {
        let mut text = String::new();
        for Goal { workload, target, cpu_max, throughput_min, p50_max } in &GOALS {
            let Some(ratios) = self.ratios(workload, target) else { continue };
            let bounds = [
                ("CPU", ratios.cpu, *cpu_max, Bound::Most),
                ("ops/s", ratios.throughput, *throughput_min, Bound::Least),
                ("p50", ratios.p50, *p50_max, Bound::Most),
            ];
            for (what, found, goal, bound) in bounds {
                let Some(goal) = goal else { continue };
                let (word, is_met) = match bound {
                    Bound::Most => ("at most", found <= goal),
                    Bound::Least => ("at least", found >= goal),
                };
                let verdict = if is_met { "met" } else { "**missed**" };
                let found = ratio(found);
                let _ =
                    writeln!(text, "| {workload} | {target} | {what} {word} {goal}× | {found} | {verdict} |");
            }
        }
        if text.is_empty() {
            return text;
        }
        format!(
            "## Goals\n\n| workload | server | goal | found | |\n| --- | --- | --- | ---: | --- |\n{text}\n"
        )
    }

    /// The report for programs: each run, and the medians.
    #[must_use]
    pub fn json(&self) -> Value {
        let runs = self.runs.iter().map(|run| {
            json!({
                "workload": run.workload.name,
                "server": run.target.name,
                "figures": figures_json(&run.figures),
                "reference": run.reference.as_ref().map(figures_json),
            })
        });
        let pairs =
            WORKLOADS.iter().flat_map(|workload| TARGETS.iter().map(move |target| (workload, target)));
        let medians = pairs.filter_map(|(workload, target)| {
            let figures = self.typical(workload.name, target.name)?;
            let ratios = self.ratios(workload.name, target.name);
            Some(json!({
                "workload": workload.name,
                "server": target.name,
                "figures": figures_json(&figures),
                "ratios": ratios.map(|Ratios { throughput, cpu, p50 }| json!({
                    "throughput": throughput, "cpu": cpu, "p50": p50,
                })),
            }))
        });
        json!({
            "machine": self.machine.to_json(),
            "load_generator": self.by.title(),
            "seconds": self.seconds,
            "pairs": self.pairs,
            "keys": USUAL.keys,
            "value_bytes": USUAL.value_bytes,
            "reference": REFERENCE.name,
            "medians": medians.collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

enum Bound {
    Most,
    Least,
}

/// Figures for programs.
#[must_use]
pub fn figures_json(figures: &Figures) -> Value {
    json!({
        "ops_per_second": figures.throughput,
        "p50_us": figures.p50_us,
        "p99_us": figures.p99_us,
        "p999_us": figures.p999_us,
        "cpu_us_per_op_by_node": figures.cpu_us,
        "cpu_us_per_op": figures.cpu_us_sum(),
        "disk_bytes_per_op": figures.disk_bytes,
        "accounted_write_bytes_per_op": figures.accounted_bytes,
        "syncs_per_second": figures.syncs,
        "peak_rss_bytes_by_node": figures.memory_bytes,
        "errors": figures.errors,
        "first_error": figures.first_error,
    })
}

/// The median of each figure.
#[must_use]
pub fn median_of(runs: &[&Figures]) -> Figures {
    let of = |figure: &dyn Fn(&Figures) -> f64| median(runs.iter().map(|run| figure(run)).collect());
    let by_node = |list: &dyn Fn(&Figures) -> &[f64]| {
        let nodes = runs.iter().map(|run| list(run).len()).min().unwrap_or_default();
        (0..nodes).map(|node| of(&|run| list(run)[node])).collect()
    };
    let where_known = |figure: &dyn Fn(&Figures) -> Option<f64>| {
        let known: Vec<_> = runs.iter().filter_map(|run| figure(run)).collect();
        (!known.is_empty()).then(|| median(known))
    };
    Figures {
        throughput: of(&|run| run.throughput),
        p50_us: of(&|run| run.p50_us),
        p99_us: of(&|run| run.p99_us),
        p999_us: where_known(&|run| run.p999_us),
        cpu_us: by_node(&|run| &run.cpu_us),
        disk_bytes: where_known(&|run| run.disk_bytes),
        accounted_bytes: of(&|run| run.accounted_bytes),
        syncs: where_known(&|run| run.syncs),
        memory_bytes: by_node(&|run| &run.memory_bytes),
        errors: runs.iter().map(|run| run.errors).sum(),
        first_error: runs.iter().find_map(|run| run.first_error.clone()),
    }
}

/// The middle of the numbers, or between the two that are; 0 of none.
#[must_use]
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let Some(last) = numbers.len().checked_sub(1) else { return 0.0 };
    f64::midpoint(numbers[last / 2], numbers[last - last / 2])
}

/// A number with three digits that count.
#[must_use]
pub fn digits(number: f64) -> String {
    let decimals = match number.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{number:.decimals$}")
}

/// A number of operations a second.
#[must_use]
pub fn thousands(number: f64) -> String {
    if number < 1e4 { format!("{number:.0}") } else { format!("{}k", digits(number / 1e3)) }
}

/// A ratio; empty if there was nothing to divide by, as with processor time below what the kernel counts.
fn ratio(ratio: f64) -> String {
    if ratio.is_finite() { format!("{ratio:.2}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(throughput: f64, cpu_us: &[f64]) -> Figures {
        Figures {
            throughput,
            p50_us: 1e6 / throughput,
            p99_us: 2e6 / throughput,
            p999_us: Some(4e6 / throughput),
            cpu_us: cpu_us.to_vec(),
            disk_bytes: Some(300.0),
            syncs: (cpu_us.len() > 1).then_some(1000.0),
            memory_bytes: vec![f64::from(50 << 20); cpu_us.len()],
            ..Figures::default()
        }
    }

    fn run(target: &str, own: Figures, reference: Option<Figures>) -> Run {
        let target = TARGETS.iter().find(|known| known.name == target).expect("there is such a server");
        let workload = WORKLOADS.iter().find(|known| known.name == "set-c50-p1").expect("there is one");
        Run { workload, target, figures: own, reference }
    }

    fn report(runs: Vec<Run>) -> Report {
        let machine = Machine {
            date: "2026-11-22T18:00:00Z".to_owned(),
            commit: Some("abc".to_owned()),
            cores: 2,
            processor: "a processor".to_owned(),
            memory_bytes: 8 << 30,
            kernel: "6.1".to_owned(),
            filesystem: "ext4".to_owned(),
            fdatasync_us: 127.0,
            load_average: 0.25,
        };
        Report { machine, by: Generator::Own, seconds: 2.0, pairs: 3, runs, notes: Vec::new() }
    }

    /// A slow minute in the middle: the reference's own runs differ by more than the servers do.
    fn three_pairs() -> Report {
        let pair = |ours: f64, theirs: f64| {
            let reference = figures(theirs, &[20.0]);
            let own = run("quorate-3", figures(ours, &[18.0, 10.0, 12.0]), Some(reference.clone()));
            [own, run("redis-always", reference, None)]
        };
        report(
            [pair(20_000.0, 25_000.0), pair(9_000.0, 10_000.0), pair(21_000.0, 30_000.0)]
                .into_iter()
                .flatten()
                .collect(),
        )
    }

    #[test]
    fn medians_are_in_the_middle() {
        for (numbers, expect) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 5.0], 5.0), (vec![4.0, 2.0], 3.0)]
        {
            assert_eq!(median(numbers.clone()), expect, "{numbers:?}");
        }
    }

    #[test]
    fn ratios_are_of_pairs() {
        let ratios = three_pairs().ratios("set-c50-p1", "quorate-3").expect("there are pairs");
        assert_eq!(ratios, Ratios { throughput: 0.8, cpu: 2.0, p50: 1.25 });
        assert_eq!(three_pairs().ratios("set-c50-p1", "redis-always"), None);
    }

    #[test]
    fn tables_have_a_row_for_each_server() {
        let text = three_pairs().markdown();
        for expect in [
            "| redis-server, appendfsync always | 25.0k | 0.040 | 0.080 | 0.160 | 20.0 |  | 300 |  | 50 |  |  |  |\n",
            "| Quorate, 3 nodes | 20.0k | 0.050 | 0.100 | 0.200 | 40.0 | 18.0 + 10.0 + 12.0 | 300 | 1000 | 50 | 0.80 | 2.00 | 1.25 |\n",
            "| set-c50-p1 | quorate-3 | CPU at most 1.8× | 2.00 | **missed** |\n",
            "| set-c50-p1 | quorate-3 | ops/s at least 0.8× | 0.80 | met |\n",
        ] {
            assert!(text.contains(expect), "{expect}is not in\n{text}");
        }
        assert!(!text.contains("Not as planned") && !text.contains("set-c1-p1"), "{text}");
        let rows =
            text.lines().filter(|line| line.starts_with("| server |") || line.starts_with("| redis-server"));
        let columns: Vec<_> = rows.map(|row| row.matches('|').count()).collect();
        assert_eq!(columns, [14, 14]);
    }

    #[test]
    fn programs_can_read_it() {
        let json = three_pairs().json();
        assert_eq!(json["machine"]["cores"], 2);
        assert_eq!(json["runs"].as_array().map(Vec::len), Some(6));
        assert_eq!(json["medians"][1]["ratios"]["cpu"], 2.0);
    }

    #[test]
    fn goals_are_about_what_is_measured() {
        for goal in &GOALS {
            assert!(WORKLOADS.iter().any(|workload| workload.name == goal.workload), "{}", goal.workload);
            assert!(TARGETS.iter().any(|target| target.name == goal.target), "{}", goal.target);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, expect) in [(0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234")] {
            assert_eq!(digits(number), expect);
        }
        assert_eq!((thousands(9_999.4), thousands(28_049.0)), ("9999".to_owned(), "28.0k".to_owned()));
        assert_eq!(ratio(1.0 / 0.0), "");
    }
}
