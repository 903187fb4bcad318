//! A lab with traffic on it, and what every fault has in common.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::super::DISK_FAILED;
use super::classes::{Strike, Weather};
use crate::client::pause;
use crate::dice::Dice;
use crate::lab::Lab;
use crate::traffic::Traffic;

/// Answers after which the cluster has gone on.
const GOING: u64 = 50;
/// How long a fault may last, if nothing else ends it; in the shortest run, and otherwise. Elections take less than the
/// one, and clients give up before the other.
const SHORT: Duration = Duration::from_millis(1_000);
const LONG: Duration = Duration::from_millis(4_000);

/// Where it happens.
pub struct Scene {
    pub lab: Lab,
    pub traffic: Traffic,
    pub dice: Dice,
    pub is_short: bool,
}

impl Scene {
    /// Does it, and waits until everything is well again.
    pub fn strike(&mut self, strike: &Strike) -> Result<()> {
        let target = (strike.target)(self)?;
        self.during(strike.name, &target, |scene| {
            (strike.run)(scene, &target)?;
            scene.lab.cluster.nodes.iter_mut().try_for_each(crate::cluster::Node::wait_ready)
        })
    }

    /// Does it in bad weather.
    pub fn under(&mut self, weather: &Weather, strike: &Strike) -> Result<()> {
        let over = self.dice.below(self.lab.cluster.nodes.len());
        let mut undo = None;
        self.during(weather.name, &[over], |scene| {
            undo = Some((weather.begin)(scene, over)?);
            scene.pause();
            scene.strike(strike)?;
            if let Some(undo) = undo.take() {
                undo(scene)?;
            }
            Ok(())
        })
    }

    fn during(
        &mut self,
        class: &str,
        nodes: &[usize],
        action: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let target = nodes.iter().map(|node| format!("node {node}")).collect::<Vec<_>>().join(", ");
        let begun = self.traffic.begin_fault(class, &target)?;
        let done = action(self);
        self.traffic.end_fault(begun, done)
    }

    /// Lets a fault last for a while.
    pub fn pause(&mut self) {
        let longest = if self.is_short { SHORT } else { LONG };
        let part = 25 + self.dice.below(75);
        pause(longest * u32::try_from(part).expect("a percentage") / 100);
    }

    /// Lets it last, and wants somebody to be served meanwhile: a majority is well.
    pub fn goes_on(&mut self) -> Result<()> {
        self.pause();
        self.traffic.wait_for(GOING)
    }

    /// Waits for a node to end because of its disk.
    pub fn wait_disk_failure(&mut self, number: usize) -> Result<()> {
        let node = self.lab.node(number);
        let status = node.wait_exit()?;
        match status.code() {
            Some(code) => ensure!(DISK_FAILED.contains(&code), "it ended with {code}:\n{}", node.log_tail()?),
            None => bail!("it ended with {status}:\n{}", node.log_tail()?),
        }
        Ok(())
    }
}
