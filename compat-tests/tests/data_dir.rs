//! What a node finds in its data directory: it starts only from what is its own and whole.

#![allow(clippy::print_stdout)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use compat_tests::alone;
use compat_tests::cluster::{Cluster, Node, run};
use compat_tests::reply::Reply;
use rustix::process::Signal;

/// Records begin after a segment's header.
const SEGMENT_HEADER_BYTES: usize = 4096;
const KEYS: usize = 200;

#[test]
fn one_in_use_is_refused() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::prepare(2)?;
    for node in &mut cluster.nodes {
        node.peers.clear();
    }
    let [first, second] = cluster.nodes.as_mut_slice() else { unreachable!("two nodes") };
    first.start()?;
    first.wait_ready()?;
    second.data.clone_from(&first.data);
    is_refused(second, "a directory in use")?;
    first.connect()?.call(&["PING"]).context("the node that has it goes on")?;
    Ok(())
}

#[test]
fn that_of_another_cluster_is_refused() -> Result<()> {
    let _alone = alone();
    let mut ours = Cluster::start(3)?;
    let mut theirs = Cluster::start(3)?;
    theirs.nodes.iter_mut().for_each(Node::kill);
    ours.nodes[0].kill();
    ours.nodes[0].data.clone_from(&theirs.nodes[0].data);
    is_refused(&mut ours.nodes[0], "another cluster's directory")?;
    still_works(&ours.nodes[1])
}

#[test]
fn that_of_another_node_is_refused() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::start(3)?;
    cluster.nodes[0].kill();
    let stolen = cluster.directory().join("stolen");
    copy_directory(&cluster.nodes[0].data, &stolen)?;
    cluster.nodes[0].restart()?;
    cluster.nodes[1].kill();
    cluster.nodes[1].data = stolen;
    is_refused(&mut cluster.nodes[1], "another node's directory")?;
    still_works(&cluster.nodes[2])
}

/// What a crash may leave behind the last record is dropped, and nothing that was acknowledged with it.
#[test]
fn a_torn_tail_is_dropped() -> Result<()> {
    let _alone = alone();
    let (mut cluster, segment) = killed_after_writes()?;
    let (bytes, end) = read_segment(&segment)?;
    // The beginning of a record like the ones before it, and then what was in the blocks.
    let mut torn = bytes[SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 20].to_vec();
    torn.extend_from_slice(&[0xa5; 45]);
    OpenOptions::new().write(true).open(&segment)?.write_all_at(&torn, end.next_multiple_of(8) as u64)?;

    cluster.nodes[0].restart()?;
    let mut connection = cluster.nodes[0].connect()?;
    for number in 0..KEYS {
        let reply = connection.call(&["GET", &format!("key:{number}")])?;
        ensure!(reply == Reply::Bulk(number.to_string().into_bytes()), "key:{number}: {reply:?}");
    }
    println!("a torn tail of {} bytes after byte {end} was dropped, all {KEYS} keys are there", torn.len());
    Ok(())
}

/// A record in the middle was whole once: something else than a crash has happened, and only a person can
/// know what.
#[test]
fn a_corrupt_record_before_the_tail_is_refused() -> Result<()> {
    let _alone = alone();
    let (mut cluster, segment) = killed_after_writes()?;
    let (bytes, end) = read_segment(&segment)?;
    let place = SEGMENT_HEADER_BYTES + (end - SEGMENT_HEADER_BYTES) / 2;
    let flipped = [bytes[place] ^ 0x10];
    OpenOptions::new().write(true).open(&segment)?.write_all_at(&flipped, place as u64)?;

    let said = is_refused(&mut cluster.nodes[0], "a corrupt record")?;
    let file = segment.file_name().context("it has a name")?.to_string_lossy().into_owned();
    ensure!(said.contains(&file), "the message names no file:\n{said}");
    // The record that the byte belongs to begins a little before it.
    let numbers = said.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<usize>().ok());
    let offset = numbers.filter(|number| (place.saturating_sub(1024)..=place).contains(number)).max();
    println!("byte {place} of {file} was flipped; the message says offset {offset:?}");
    ensure!(offset.is_some(), "the message names no offset near {place}:\n{said}");

    let flipped_back = [bytes[place]];
    OpenOptions::new().write(true).open(&segment)?.write_all_at(&flipped_back, place as u64)?;
    cluster.nodes[0].restart().context("nothing else was changed")
}

/// A node that was killed with acknowledged writes in its log, and the segment of the log they are in.
fn killed_after_writes() -> Result<(Cluster, PathBuf)> {
    let mut cluster = Cluster::single()?;
    let mut connection = cluster.nodes[0].connect()?;
    for number in 0..KEYS {
        let reply = connection.call(&["SET", &format!("key:{number}"), &number.to_string()])?;
        ensure!(reply == Reply::Status(b"OK".to_vec()), "{reply:?}");
    }
    cluster.nodes[0].signal(Signal::KILL)?;
    cluster.nodes[0].kill();
    let mut segments = Vec::new();
    find_segments(&cluster.nodes[0].data, &mut segments)?;
    segments.sort();
    let in_use = segments.into_iter().rev().find(|path| read_segment(path).is_ok());
    Ok((cluster, in_use.context("no segment of the log has records")?))
}

/// Files of the log: sixteen hexadecimal digits, `.log`.
fn find_segments(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find_segments(&path, found)?;
        } else if path
            .file_name()
            .is_some_and(|name| name.len() == 20 && name.to_string_lossy().ends_with(".log"))
        {
            found.push(path);
        }
    }
    Ok(())
}

/// A segment's bytes, and where what was written ends: segments are filled with zeros beforehand.
fn read_segment(path: &Path) -> Result<(Vec<u8>, usize)> {
    let bytes = fs::read(path)?;
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    let end = bytes.len() - zeros;
    ensure!(end > SEGMENT_HEADER_BYTES, "{} has no records", path.display());
    Ok((bytes, end))
}

/// The node must end by itself, with an error that names the directory: everything that it said.
fn is_refused(node: &mut Node, what: &str) -> Result<String> {
    let (status, said) = run(&node.arguments(), &[]).with_context(|| what.to_owned())?;
    let last = said.lines().last().unwrap_or_default();
    println!("{what}: {status}: {last}");
    ensure!(!status.success(), "{what} was accepted:\n{said}");
    ensure!(said.contains(&node.data.display().to_string()), "{what}: the message does not name it:\n{said}");
    Ok(said)
}

fn still_works(node: &Node) -> Result<()> {
    let reply = node.connect()?.call(&["SET", "still", "works"])?;
    ensure!(reply == Reply::Status(b"OK".to_vec()), "{reply:?}");
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
