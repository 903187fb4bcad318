//! The order of events: servers are started, filled, and measured in turn.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::measure::Figures;
use crate::options::Options;
use crate::report::{Report, Run, digits, thousands};
use crate::server::{Cluster, REFERENCE, Target};
use crate::stage::{Conditions, Pace, Stage};
use crate::workload::{self, Workload};

/// Servers and what is to be done with them.
pub struct Comparison<'a> {
    options: &'a Options,
    stage: Stage<'a>,
    clusters: Vec<Cluster>,
    progress: Progress,
}

impl<'a> Comparison<'a> {
    /// A comparison in which nothing runs yet.
    #[must_use]
    pub fn new(options: &'a Options, stage: Stage<'a>) -> Self {
        Self { options, stage, clusters: Vec::new(), progress: Progress::new(0) }
    }

    /// Runs everything, and then ends the servers. What fails is noted in the report, and the rest goes on.
    pub fn run(mut self, report: &mut Report) {
        let targets = self.start(report);
        let pairs = self.options.pairs;
        let by = self.stage.by();
        let plans = self.options.workloads.iter().map(|&workload| {
            let suited = targets.iter().copied().filter(|target| by.can(workload, target.service));
            (workload, suited.collect::<Vec<_>>())
        });
        let plans: Vec<_> = plans.collect();
        for (workload, _) in plans.iter().filter(|(_, targets)| targets.is_empty()) {
            note(report, format!("{} has no {}", by.title(), workload.name));
        }
        let runs = plans.iter().map(|(_, targets)| groups(targets, 0).concat().len() * pairs);
        self.progress = Progress::new(runs.sum());
        for (workload, mut targets) in plans {
            for pair in 0..pairs {
                for group in groups(&targets, pair) {
                    let failed = self.measure_group(workload, pair, &group, report);
                    targets.retain(|target| !failed.contains(&target.name));
                }
            }
        }
        if self.stage.is_stopped() {
            note(report, "interrupted before all runs were made".to_owned());
        }
    }

    /// Starts and fills what the targets need. Returns the targets that can be measured, with the reference.
    fn start(&mut self, report: &mut Report) -> Vec<&'static Target> {
        let mut targets = vec![REFERENCE];
        targets.extend(self.options.targets.iter().filter(|target| target.name != REFERENCE.name));
        let mut tried = Vec::new();
        for target in &targets {
            // Targets that differ only in the node they talk to share their processes.
            if tried.contains(&target.service) {
                continue;
            }
            tried.push(target.service);
            if let Err(error) = self.start_service(target) {
                note(report, format!("{} could not be measured: {error:#}", target.title));
            }
        }
        targets.retain(|target| self.clusters.iter().any(|cluster| cluster.service == target.service));
        targets
    }

    fn start_service(&mut self, target: &Target) -> Result<()> {
        let cluster = self.stage.start(target, &workload::USUAL, Conditions::default())?;
        self.clusters.push(cluster);
        Ok(())
    }

    /// Runs a workload on each target of a group. Returns the names of those that failed, which have been
    /// started anew.
    fn measure_group(
        &mut self,
        workload: &'static Workload,
        pair: usize,
        group: &[&'static Target],
        report: &mut Report,
    ) -> Vec<&'static str> {
        let mut failed = Vec::new();
        let mut runs = Vec::new();
        for &target in group {
            if self.stage.is_stopped() {
                break;
            }
            let found = self.measure(workload, target);
            let what = format!("{}, pair {}: {}", workload.name, pair + 1, target.title);
            self.progress.tell(&what, &found);
            match found {
                Ok(figures) => {
                    if let Some(error) = &figures.first_error {
                        note(report, format!("{what}: {} requests failed, first: {error}", figures.errors));
                    }
                    runs.push(Run { workload, target, figures, reference: None });
                }
                Err(error) if !self.stage.is_stopped() => {
                    note(report, format!("{what} failed: {error:#}"));
                    failed.push(target.name);
                    self.restart(target, report);
                }
                Err(_) => {}
            }
        }
        let reference = runs.iter().find(|run| run.target.name == REFERENCE.name);
        let reference = reference.map(|run| run.figures.clone());
        for run in runs.iter_mut().filter(|run| run.target.name != REFERENCE.name) {
            run.reference.clone_from(&reference);
        }
        report.runs.extend(runs);
        failed
    }

    fn restart(&mut self, target: &Target, report: &mut Report) {
        if let Some(position) = self.clusters.iter().position(|cluster| cluster.service == target.service) {
            let cluster = self.clusters.swap_remove(position);
            eprint!("{}", cluster.log_tails());
        }
        if let Err(error) = self.start_service(target) {
            note(report, format!("{} could not be started again: {error:#}", target.title));
        }
    }

    /// One run of a workload on a target.
    fn measure(&mut self, workload: &Workload, target: &Target) -> Result<Figures> {
        self.stage.rest(self.clusters.iter())?;
        let cluster = running(&self.clusters, target)?;
        self.stage.measure(workload, target, cluster, self.options.seconds, Pace::Closed)
    }
}

/// The cluster of a target among those that run.
fn running<'c>(clusters: &'c [Cluster], target: &Target) -> Result<&'c Cluster> {
    let found = clusters.iter().find(|cluster| cluster.service == target.service);
    found.context("it does not run any more")
}

/// The targets in the order in which they run, in groups of up to three: the reference stands between the two
/// that are compared with it. From pair to pair, the order in a group is turned round.
fn groups<'a>(targets: &[&'a Target], pair: usize) -> Vec<Vec<&'a Target>> {
    let (reference, others): (Vec<&Target>, Vec<&Target>) =
        targets.iter().partition(|target| target.name == REFERENCE.name);
    if others.is_empty() {
        return vec![reference];
    }
    let group = |two: &[&'a Target]| {
        let mut group = [&two[..1], &reference, &two[1..]].concat();
        if !pair.is_multiple_of(2) {
            group.reverse();
        }
        group
    };
    others.chunks(2).map(group).collect()
}

fn note(report: &mut Report, text: String) {
    eprintln!("{text}");
    report.notes.push(text);
}

/// What is told on the way.
struct Progress {
    begin: Instant,
    done: usize,
    all: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { begin: Instant::now(), done: 0, all }
    }

    fn tell(&mut self, what: &str, found: &Result<Figures>) {
        self.done += 1;
        let left = self.begin.elapsed() / u32::try_from(self.done).unwrap_or(u32::MAX)
            * u32::try_from(self.all.saturating_sub(self.done)).unwrap_or_default();
        let (minutes, seconds) = (left.as_secs() / 60, left.as_secs() % 60);
        let found = match found {
            Ok(figures) => {
                let (throughput, p50) = (thousands(figures.throughput), digits(figures.p50_us / 1e3));
                format!("{throughput}/s, p50 {p50} ms, CPU {} us/op", digits(figures.cpu_us_sum()))
            }
            Err(error) => format!("{error:#}"),
        };
        eprintln!("[{}/{}, {minutes}:{seconds:02} left] {what}: {found}", self.done, self.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::TARGETS;

    #[track_caller]
    fn check(names: &[&str], pair: usize, expect: &str) {
        let targets: Vec<_> = TARGETS.iter().filter(|target| names.contains(&target.name)).collect();
        let groups = groups(&targets, pair);
        let names =
            |group: &Vec<&Target>| group.iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
        assert_eq!(groups.iter().map(names).collect::<Vec<_>>().join(" | "), expect);
    }

    #[test]
    fn each_target_runs_next_to_the_reference() {
        let all = ["redis-always", "redis-memory", "quorate-1", "quorate-3"];
        check(&all, 0, "redis-memory redis-always quorate-1 | quorate-3 redis-always");
        check(&all, 1, "quorate-1 redis-always redis-memory | redis-always quorate-3");
        check(&all[..1], 1, "redis-always");
        check(&["quorate-1", "quorate-3", "etcd-3"], 0, "quorate-1 quorate-3 | etcd-3");
        check(&[], 0, "");
    }
}
