//! Each campaign of real faults, for as short as it proves something. `prove` goes on for as long as one likes.

#![allow(clippy::print_stdout)]

use anyhow::{Context, Result};
use compat_tests::campaigns::{Extent, LAB, Length};
use compat_tests::dice::Dice;
use compat_tests::lab;

#[test]
fn every_campaign_ends_well() -> Result<()> {
    lab::possible().context("real faults need root, and what a machine for them has")?;
    let seed = Dice::seed()?;
    for campaign in &LAB {
        println!("{} (SEED={seed})", campaign.name);
        let report = (campaign.run)(&mut Extent::new(seed, Length::Least));
        println!("{}", report.with_context(|| format!("{}, SEED={seed}", campaign.name))?);
    }
    Ok(())
}
