//! Bits that turn in values at rest.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::{Campaign, Extent, Report, Rounds};
use crate::client::ask;
use crate::cluster::Cluster;
use crate::reply::Reply;

pub const CAMPAIGN: Campaign = Campaign {
    name: "bit-flips",
    about: "a bit of a stored value turns: nobody ever reads the wrong value",
    run,
};

const KEYS: usize = 100;
const VALUE_BYTES: usize = 300;
const FLIPS: Rounds = Rounds { least: 3, release: 60 };
/// The code a node ends with when its store is not what it wrote.
const STORE_FAILED: i32 = 71;

fn run(extent: &mut Extent) -> Result<Report> {
    let mut cluster = Cluster::single()?;
    let node = cluster.nodes[0].listen;
    let values: Vec<String> = (0..KEYS).map(|number| value(number, extent)).collect();
    for (number, value) in values.iter().enumerate() {
        ask(node, &["SET", &key(number), value])?;
    }
    // From the log into the database, from which they are read after a start.
    ask(node, &["SAVE"])?;
    let (mut flips, mut refused, mut ended) = (0, 0, 0);
    while extent.goes_on(flips, &FLIPS) {
        cluster.nodes[0].terminate()?;
        let number = extent.dice.below(KEYS);
        let places = find(&cluster.nodes[0].data.join("state"), values[number].as_bytes())?;
        let (byte, bit) = (extent.dice.below(VALUE_BYTES) as u64, 1 << extent.dice.below(8));
        let flip_all = || places.iter().try_for_each(|(file, place)| flip(file, place + byte, bit));
        flip_all()?;
        cluster.nodes[0].restart()?;
        match cluster.nodes[0].connect()?.call(&["GET", &key(number)]) {
            Ok(Reply::Bulk(read)) => {
                bail!("{} was read, with bit {bit:#x} of byte {byte} turned: {read:?}", key(number))
            }
            Ok(reply) => {
                ensure!(reply.error().is_some(), "{} with a bit turned is {reply:?}", key(number));
                refused += 1;
            }
            Err(_closed) => ended += 1,
        }
        // A node that holds what it did not write must not go on.
        let code = cluster.nodes[0].wait_exit()?.code();
        ensure!(code == Some(STORE_FAILED), "the node ended with {code:?}");
        flip_all()?;
        cluster.nodes[0].restart()?;
        let read = ask(node, &["GET", &key(number)])?;
        ensure!(read == Reply::Bulk(values[number].clone().into_bytes()), "turned back it is {read:?}");
        flips += 1;
    }
    let mut report = Report::default();
    report.add(
        "bits turned",
        format!("{flips}, all detected: {refused} answered with an error, {ended} with the node's end"),
    );
    Ok(report)
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// Text like no other.
fn value(number: usize, extent: &mut Extent) -> String {
    let words = (0..).map(|_| format!("{number}-{:016x} ", extent.dice.next_u64()));
    words.take(VALUE_BYTES / 16).collect::<String>()[..VALUE_BYTES].to_owned()
}

/// All places below a directory that have these bytes: the database keeps what a page was before for a while.
fn find(directory: &Path, bytes: &[u8]) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let content = fs::read(&path)?;
            found
                .extend(memchr::memmem::find_iter(&content, bytes).map(|place| (path.clone(), place as u64)));
        }
    }
    ensure!(!found.is_empty(), "the value is not in the database as it was written");
    Ok(found)
}

fn flip(file: &Path, place: u64, bit: u8) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    Ok(file.write_all_at(&[byte[0] ^ bit], place)?)
}
