//! Bytes that no client should send: the node says so, hangs up, and goes on serving the others in bounded
//! memory.

#![allow(clippy::print_stdout)]

use std::io;
use std::net::SocketAddr;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::bystander::stand_by;
use compat_tests::client::{Connection, encode, is_end, is_silence};
use compat_tests::cluster::{Cluster, memory_bytes};
use compat_tests::dice::Dice;
use compat_tests::reply::{Reply, quoted};

/// How much the memory of the node may grow, whatever it is sent.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// How long silence must last to count as the answer.
const SILENCE: Duration = Duration::from_millis(300);
const MUTATIONS: u64 = 2_000;
/// Connections that stop in the middle of a command and stay.
const STALLED: usize = 200;
/// How long a well-behaved client's command may take meanwhile: no hostile input may keep a node busy for
/// seconds.
const UNDISTURBED: Duration = Duration::from_secs(5);

#[test]
fn a_node_survives_bad_input() -> Result<()> {
    let cluster = Cluster::start(3)?;
    // A follower, so that what gets through is forwarded as well.
    let node = &cluster.nodes[cluster.follower()?];
    let pid = node.pid().context("it runs")?;
    let before = memory(pid)?;
    let done = AtomicBool::new(false);
    let (peak, bystander) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_memory(pid, &done));
        let bystander = scope.spawn(|| stand_by(node.listen, &done));
        // A panic, too, must let the other two come to their end.
        let attacks = catch_unwind(|| run_attacks(node.listen));
        done.store(true, Ordering::Relaxed);
        let peak = watcher.join().expect("it only reads /proc");
        let bystander = bystander.join().expect("it returns its errors");
        attacks.unwrap_or_else(|panic| resume_unwind(panic)).map(|()| (peak, bystander))
    })?;
    let (commands, slowest) = bystander.context("the well-behaved client")?;
    println!(
        "a well-behaved client ran {commands} commands meanwhile, the slowest took {slowest:.1?}; memory: {} MiB before, \
         at most {} MiB meanwhile, {} MiB after",
        before >> 20,
        peak >> 20,
        memory(pid)? >> 20
    );
    ensure!(slowest < UNDISTURBED, "another client had to wait for {slowest:?}");
    ensure!(peak.saturating_sub(before) <= GROWTH_BYTES_MAX, "memory grew from {before} to {peak} bytes");
    for node in &cluster.nodes {
        node.connect()?.call(&["PING"]).context("every node is alive")?;
    }
    Ok(())
}

/// Everything of the process's own; mapped files are the kernel's to keep or drop.
fn memory(pid: u32) -> Result<u64> {
    memory_bytes(pid, "RssAnon")
}

fn watch_memory(pid: u32, done: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !done.load(Ordering::Relaxed) {
        peak = peak.max(memory(pid).unwrap_or(0));
        thread::sleep(Duration::from_millis(2));
    }
    peak
}

fn run_attacks(address: SocketAddr) -> Result<()> {
    refused(address, "200,000 nested arrays", &b"*1\r\n".repeat(200_000))?;
    for length in [
        "-2",
        "-2147483649",
        "-9223372036854775809",
        "2147483648",
        "99999999999",
        "9223372036854775808",
        "1e3",
        "NaN",
        "inf",
        "",
        " 1",
        "+",
        "0x10",
        "1 ",
        "--1",
        "\x001",
    ] {
        refused(address, "an array's length", format!("*{length}\r\n").as_bytes())?;
        refused(address, "a string's length", format!("*1\r\n${length}\r\nPING\r\n").as_bytes())?;
    }
    refused(address, "a length without end", &[b"*", "1".repeat(200_000).as_bytes()].concat())?;
    refused(
        address,
        "a string's length without end",
        &[b"*1\r\n$", "1".repeat(200_000).as_bytes()].concat(),
    )?;
    refused(address, "a length of zeros", &[b"*", "0".repeat(200_000).as_bytes(), b"1\r\n"].concat())?;
    refused(address, "200 KB without a newline", &b"a".repeat(200_000))?;
    refused(address, "200 KB of zeros", &[0; 200_000])?;
    refused(address, "quotes that do not end", &[b"SET k \"".as_slice(), &b"a".repeat(200_000)].concat())?;
    refused(address, "half a gigabyte announced", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc")?;
    refused(address, "a million arguments announced", b"*1000000\r\n$3\r\nDEL\r\n$1\r\na\r\n")?;

    // Not against the protocol, so a reply is fine, and so is a limit.
    let arguments = [b"*1000001\r\n$3\r\nDEL\r\n".as_slice(), &b"$1\r\na\r\n".repeat(1_000_000)].concat();
    well_formed(address, "a million arguments", &arguments)?;
    well_formed(
        address,
        "many inline words",
        &[b"DEL ".as_slice(), &b"a ".repeat(30_000), b"\r\n"].concat(),
    )?;
    well_formed(address, "many empty commands", &b"*0\r\n\r\n*-1\r\n".repeat(20_000))?;
    well_formed(address, "a deep RESP3 map", &b"%1\r\n+k\r\n".repeat(20_000))?;

    mutate(address)?;
    stall(address)
}

/// The answer is an error and the end of the connection, or the end, or nothing at all.
fn refused(address: SocketAddr, what: &str, bytes: &[u8]) -> Result<()> {
    let answer = attack(address, bytes).with_context(|| what.to_owned())?;
    let fine = match answer.replies.as_slice() {
        [] => true,
        [Reply::Error(_)] => answer.closed,
        _ => false,
    };
    let start = quoted(&bytes[..bytes.len().min(40)]);
    let said = answer.replies.iter().flat_map(Reply::render).collect::<Vec<_>>().join("\n");
    ensure!(fine, "{what} ({start}...): closed: {}, replies:\n{said}", answer.closed);
    alive(address, what)
}

/// The answer is whatever Redis would call one, at least in its form.
fn well_formed(address: SocketAddr, what: &str, bytes: &[u8]) -> Result<()> {
    attack(address, bytes).with_context(|| what.to_owned())?;
    alive(address, what)
}

#[derive(Debug)]
struct Answer {
    replies: Vec<Reply>,
    closed: bool,
}

/// Sends the bytes on a connection of their own and reads until nothing more comes.
fn attack(address: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    let mut connection = Connection::open(address)?;
    let mut answer = Answer { replies: Vec::new(), closed: false };
    // The node may hang up before it has read all. What it said before that must still be read.
    if let Err(error) = connection.send_raw(bytes) {
        ensure!(is_end(&error), "sending: {error}");
    }
    connection.set_patience(SILENCE)?;
    loop {
        match connection.receive() {
            Ok(reply) => answer.replies.push(reply),
            Err(error) => {
                answer.closed = is_end(&error);
                ensure!(answer.closed || is_silence(&error), "after {:?}: {error}", answer.replies);
                return Ok(answer);
            }
        }
    }
}

fn alive(address: SocketAddr, after: &str) -> Result<()> {
    let ping = || -> io::Result<Reply> { Connection::open(address)?.call(&["PING"]) };
    let reply = ping().with_context(|| format!("the node after {after}"))?;
    ensure!(reply == Reply::Status(b"PONG".to_vec()), "PING after {after}: {reply:?}");
    Ok(())
}

/// Valid commands with bytes changed, removed, added and repeated at dice. `SEED=n` repeats a run.
fn mutate(address: SocketAddr) -> Result<()> {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().context("SEED")?,
        Err(_) => 1,
    };
    let templates: Vec<Vec<u8>> = [
        &["SET", "key", "value", "PX", "100000"][..],
        &["GET", "key"],
        &["MSET", "a", "1", "b", "2"],
        &["EXPIRE", "key", "100", "GT"],
        &["SETRANGE", "key", "100", "value"],
        &["SCAN", "0", "MATCH", "a[b-c]*", "COUNT", "10"],
        &["COPY", "a", "b", "DB", "1"],
        &["MULTI"],
        &["EXEC"],
        &["HELLO", "3", "SETNAME", "name"],
        &["SUBSCRIBE", "a", "b"],
        &["INCRBYFLOAT", "f", "1e5"],
        &["CLIENT", "LIST", "TYPE", "normal"],
        &["COMMAND", "GETKEYS", "MSET", "a", "1"],
    ]
    .iter()
    .map(|words| encode(words))
    .collect();
    let mut dice = Dice::new(seed);
    let (mut closed, mut replies) = (0, 0);
    for number in 0..MUTATIONS {
        let mut bytes = Vec::new();
        for _ in 0..=dice.below(3) {
            bytes.extend_from_slice(&templates[dice.below(templates.len())]);
        }
        for _ in 0..=dice.below(4) {
            let place = dice.below(bytes.len());
            match dice.below(5) {
                0 => bytes[place] = byte(&mut dice),
                1 if bytes.len() > 1 => drop(bytes.remove(place)),
                1 | 2 => bytes.insert(place, byte(&mut dice)),
                3 => bytes.truncate(place.max(1)),
                _ => {
                    let part = bytes[place..].to_vec();
                    bytes.extend_from_slice(&part);
                }
            }
        }
        let answer = exchange(address, &bytes)
            .with_context(|| format!("SEED={seed}, mutation {number}: {}", quoted(&bytes)))?;
        closed += usize::from(answer.closed);
        replies += answer.replies.len();
    }
    println!(
        "{MUTATIONS} mutations (SEED={seed}): {replies} replies, {closed} connections closed by the node"
    );
    alive(address, "mutations")
}

/// As [`attack`], but the node is told that no more will come, so that nobody waits for the rest of half a
/// command.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    let mut connection = Connection::open(address)?;
    let _may_be_closed = connection.send_raw(bytes).and_then(|()| connection.finish_sending());
    let mut replies = Vec::new();
    loop {
        match connection.receive() {
            Ok(reply) => replies.push(reply),
            Err(error) if is_end(&error) => return Ok(Answer { replies, closed: true }),
            Err(error) => bail!("after {replies:?}: {error}"),
        }
    }
}

/// Clients that send half a command and then nothing: they may stay, they may not be in anybody's way.
fn stall(address: SocketAddr) -> Result<()> {
    let halves: [&[u8]; 6] =
        [b"*", b"*3\r\n$3\r\nSET", b"*2\r\n$3\r\nGET\r\n$5\r\nab", b"*1\r\n$100000000\r\n", b"SE", b"*1\r"];
    let mut stalled = Vec::new();
    for number in 0..STALLED {
        let mut connection = Connection::open(address)?;
        connection.send_raw(halves[number % halves.len()])?;
        stalled.push(connection);
    }
    let start = Instant::now();
    for _ in 0..100 {
        alive(address, "half a command")?;
    }
    println!("{STALLED} connections with half a command: 100 others were served in {:.1?}", start.elapsed());
    // One of them goes on as if nothing had been.
    let connection = &mut stalled[1];
    connection.send_raw(b"\r\n$1\r\nk\r\n$1\r\nv\r\n")?;
    let reply = connection.receive()?;
    ensure!(reply == Reply::Status(b"OK".to_vec()), "the other half: {reply:?}");
    Ok(())
}

fn byte(dice: &mut Dice) -> u8 {
    // Often one that means something.
    *b"*$\r\n:-+0129 \"'\0\xff%>_a".get(dice.below(40)).unwrap_or(&dice.next_u64().to_le_bytes()[0])
}
