//! Each campaign of real faults, for as short as it proves something. `prove` goes on for as long as one likes.

#![allow(clippy::print_stdout)]

use anyhow::{Context, Result};
use compat_tests::campaigns::{Extent, LAB, Length, power_cut};
use compat_tests::dice::Dice;
use compat_tests::{alone, lab};

#[test]
fn every_campaign_ends_well() -> Result<()> {
    let _alone = alone();
    lab::possible().context("real faults need root, and what a machine for them has")?;
    let seed = Dice::seed()?;
    for campaign in &LAB {
        println!("{} (SEED={seed})", campaign.name);
        let report = (campaign.run)(&mut Extent::new(seed, Length::Least));
        println!("{}", report.with_context(|| format!("{}, SEED={seed}", campaign.name))?);
    }
    Ok(())
}

#[test]
fn power_cuts_find_what_was_not_synced() -> Result<()> {
    let _alone = alone();
    lab::possible()?;
    println!("{}", power_cut::finds_lost_syncs()?);
    Ok(())
}
