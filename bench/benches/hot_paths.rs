//! How many instructions the hot paths take: the same on every day and, nearly, on every machine.
//!
//! A benchmark is one step of a pipeline of sixteen commands on its way through a node, with values of 256 bytes. It fails
//! when it takes more instructions than its limit below, which is what it took when somebody last looked, and a tenth.
//! Valgrind counts them:
//!
//! ```text
//! apt-get install valgrind
//! cargo install gungraun-runner --version 0.20.0
//! cargo bench -p bench
//! ```

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use quorate::commands;
use quorate::machine::entry::{self, GroupBuilder};
use quorate::machine::{Applied, Machine, Position};
use quorate::raft::wire::{self, Request};
use quorate::resp::{Limits, Protocol, Reader, Reply, encode};
use quorate::store::{Options, Store};

const PIPELINE: usize = 16;
const LIMITS: Limits = Limits::authenticated(512 << 20, 1 << 30);

/// No more instructions than this.
fn limit(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]));
    config
}

fn value() -> Bytes {
    Bytes::from(vec![b'v'; 256])
}

/// A pipeline of SETs.
fn sets() -> Vec<Vec<Bytes>> {
    let set = |number| vec![Bytes::from_static(b"SET"), format!("key:{number:012}").into(), value()];
    (0..PIPELINE).map(set).collect()
}

/// The same as a client sends it.
fn sent() -> Bytes {
    let mut sent = BytesMut::new();
    for argv in sets() {
        let argv = argv.into_iter().map(Reply::Bulk).collect();
        encode(&Reply::Array(argv), Protocol::Resp2, &mut sent);
    }
    sent.freeze()
}

#[library_benchmark(config = limit(25_300))]
#[bench::sixteen(sent())]
fn read(sent: Bytes) -> Vec<Vec<Bytes>> {
    let mut reader = Reader::new();
    reader.buffer().extend_from_slice(&sent);
    let requests = std::iter::from_fn(|| reader.next(&LIMITS).expect("they are well formed"));
    black_box(requests.collect())
}

/// Once the table of commands is made.
fn resolvable() -> Vec<Vec<Bytes>> {
    commands::find(b"SET").expect("it is known");
    sets()
}

#[library_benchmark(config = limit(16_200))]
#[bench::sixteen(resolvable())]
fn resolve(requests: Vec<Vec<Bytes>>) -> Vec<Vec<Bytes>> {
    for argv in &requests {
        let resolved = commands::resolve(argv).expect("SET is known");
        let checked = (resolved.command.check)(&mut commands::Args::new(argv, resolved.skip, 0));
        checked.expect("it is right");
    }
    requests
}

/// A log entry of a pipeline.
fn entry_of(requests: &[Vec<Bytes>], sequence: u64) -> Bytes {
    let mut group = GroupBuilder::default();
    for argv in requests {
        group.push_plain(0, argv);
    }
    entry::encode(1_700_000_000_000, 1_700_000_000_000, 7, &[group.seal(1, 1, sequence, sequence - 1)])
}

#[library_benchmark(config = limit(13_700))]
#[bench::sixteen(sets())]
fn propose(requests: Vec<Vec<Bytes>>) -> Bytes {
    black_box(entry_of(&requests, 1))
}

#[library_benchmark(config = limit(4_300))]
#[bench::sixteen(entry_of(&sets(), 1))]
fn send(group: Bytes) -> (u64, Request) {
    let mut frames = BytesMut::new();
    wire::put_request(&mut frames, 1, &Request::Propose { group });
    let (_, body) = wire::take_frame(&mut frames).expect("it is a frame").expect("it is whole");
    black_box(wire::take_request(&body).expect("it is a request"))
}

/// A machine in whose state the keys are already, and the entry that comes next.
struct Ready {
    machine: Machine,
    entry: Bytes,
    _runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

fn ready() -> Ready {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    let directory = tempfile::tempdir().expect("there is room");
    let env = {
        let _inside = runtime.enter();
        quorate::env::real::env().expect("the world as it is")
    };
    // Valgrind has no room for the usual map.
    let options = Options { map_bytes: 1 << 30, ..Options::default() };
    let (store, _): (Arc<Store>, _) = Store::open(&env, directory.path(), options).expect("it is empty");
    let mut machine = Machine::open(store, None, 1, 1).expect("it is new");
    let at = |index| Position { term: 1, index };
    machine.apply(at(1), entry_of(&sets(), 1)).expect("it is an entry");
    Ready { machine, entry: entry_of(&sets(), 2), _runtime: runtime, _directory: directory }
}

#[library_benchmark(config = limit(66_000))]
#[bench::sixteen(ready())]
fn apply(mut ready: Ready) -> (Applied, Ready) {
    let entry = ready.entry.clone();
    let applied = ready.machine.apply(Position { term: 1, index: 2 }, entry).expect("it is an entry");
    black_box((applied, ready))
}

#[library_benchmark(config = limit(5_100))]
#[bench::sixteen(vec![Reply::Bulk(value()); PIPELINE])]
fn answer(replies: Vec<Reply>) -> BytesMut {
    let mut out = BytesMut::with_capacity(8 << 10);
    for reply in &replies {
        encode(reply, Protocol::Resp2, &mut out);
    }
    black_box(out)
}

library_benchmark_group!(name = hot_paths; benchmarks = read, resolve, propose, send, apply, answer);

main!(library_benchmark_groups = hot_paths);
