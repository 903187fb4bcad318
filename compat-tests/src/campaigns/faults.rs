//! Everything that can happen to processes, network, disks and clocks, in an order that the seed decides, under clients whose
//! every answer is judged.
//!
//! The classes of faults are a deck of cards: it is shuffled, dealt to its end, and shuffled again, so that each happens as
//! often as the others. Some are weather: they come over a node, and the next fault strikes meanwhile.

mod classes;
mod scene;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Campaign, DISK_BYTES, Extent, Report, agree, cluster_for};
use crate::lab::Lab;
use crate::traffic::Traffic;
use classes::{STRIKES, WEATHERS};
use scene::Scene;

pub const CAMPAIGN: Campaign = Campaign {
    name: "faults",
    about: "processes, network, disks and clocks fail in every way, under clients that do a bit of everything on all nodes: \
            one copy of the data could have given all their answers, and all nodes hold the same in the end",
    run,
};

const CLIENTS: usize = 16;
/// Answers a second there have to be over all, with the times in which nobody can be answered. The shortest run is
/// excused: it does nothing but fail.
const RATE_LEAST: f64 = 500.0;
/// How long a release's run is, and how often each class has to happen in it.
const RELEASE: Duration = Duration::from_secs(1_800);
const TIMES: usize = 10;
/// Answers before the first fault and after the last.
const PEACE: u64 = 500;

fn run(extent: &mut Extent) -> Result<Report> {
    let mut lab = Lab::prepare(3, DISK_BYTES)?;
    cluster_for(&mut lab)?;
    let traffic = Traffic::start(&lab.cluster.addresses(), CLIENTS, extent.seed)?;
    let mut scene = Scene { lab, traffic, dice: extent.dice.clone(), is_short: extent.is_short() };
    scene.traffic.wait_for(PEACE)?;
    let lasts = extent.lasts(RELEASE);
    let times = ((TIMES as f64 * lasts.div_duration_f64(RELEASE)) as usize).max(1);
    let mut decks = 0;
    while decks < times || extent.start.elapsed() < lasts {
        deal(&mut scene)?;
        decks += 1;
    }
    scene.traffic.wait_for(PEACE)?;
    let Scene { lab, traffic, .. } = scene;
    let summary = traffic.finish()?;

    let mut report = Report::default();
    report.add("operations", &summary);
    let faults = summary.faults.iter();
    let faults = faults.map(|(class, struck)| format!("{class} {} ({:.1?})", struck.times, struck.silence));
    report.add("faults, and the longest time without an answer", faults.collect::<Vec<_>>().join(", "));
    let judged = summary.judged.iter().map(|(name, operations)| format!("{operations} {name}"));
    report.add(
        "judged",
        format!(
            "{} in {} generations: no lost write, no stale or aborted read, no lock with two holders",
            judged.collect::<Vec<_>>().join(", "),
            summary.generations
        ),
    );
    report.add("keys as they were left", summary.left);
    report.add_detail("digest of all nodes", agree(&lab.cluster)?);
    let classes = STRIKES.iter().map(|strike| strike.name).chain(WEATHERS.iter().map(|weather| weather.name));
    let enough = classes.map(|class| (class, times)).collect::<Vec<_>>();
    summary.ensure_enough(PEACE, &enough).with_context(|| report.to_string())?;
    let rate = summary.rate();
    ensure!(extent.is_short() || rate >= RATE_LEAST, "{report}  no more than {rate:.0} answers a second");
    Ok(report)
}

/// Every class once.
fn deal(scene: &mut Scene) -> Result<()> {
    let mut strikes: Vec<_> = STRIKES.iter().collect();
    for place in (1..strikes.len()).rev() {
        strikes.swap(place, scene.dice.below(place + 1));
    }
    // Each weather goes with a strike that it fits.
    let mut under = vec![None; strikes.len()];
    for weather in &WEATHERS {
        let free = (0..strikes.len()).filter(|&at| under[at].is_none() && weather.fits(strikes[at]));
        let free = free.collect::<Vec<_>>();
        under[*scene.dice.pick(&free)] = Some(weather);
    }
    for (strike, weather) in strikes.into_iter().zip(under) {
        match weather {
            Some(weather) => scene.under(weather, strike)?,
            None => scene.strike(strike)?,
        }
    }
    Ok(())
}
