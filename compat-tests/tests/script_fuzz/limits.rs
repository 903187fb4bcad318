//! Scripts without an end, and scripts that take all memory: they are stopped at their limit, nothing of them is left, and
//! others hardly notice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use compat_tests::client::Connection;
use compat_tests::cluster::{Cluster, Node, PATIENCE};
use compat_tests::reply::Reply;
use compat_tests::{alone, wait_for};

/// How much more memory than before a node may have after all of them: much less than one of them had.
const GROWTH_BYTES_MAX: u64 = 24 << 20;
/// How much more a node may have meanwhile: a script's own limit, and what holds its copies.
const PEAK_BYTES_MAX: u64 = 512 << 20;
/// No script may take so long, on any machine. What others send meanwhile waits for it.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(60);

const HOSTILE: [(&str, &str); 30] = [
    ("a loop", "while true do end"),
    ("a loop in pcall in a loop", "while true do pcall(function() while true do end end) end"),
    ("a loop in a coroutine", "coroutine.wrap(function() while true do end end)()"),
    ("a coroutine for each step", "while true do coroutine.wrap(function() end)() end"),
    ("a loop in a comparison", "table.sort({1, 2, 3}, function() while true do end end)"),
    (
        "a loop in a metamethod",
        "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
    ),
    ("a loop in xpcall's handler", "xpcall(error, function() while true do end end)"),
    ("a loop in gsub's function", "string.gsub(string.rep('x', 10), '.', function() while true do end end)"),
    ("a pattern that backtracks", "return string.find(string.rep('a', 5000), string.rep('a*', 30) .. 'b')"),
    ("long copies", "local s = string.rep('x', 1e7) while true do s:upper() end"),
    ("nested commands", "while true do redis.call('INCR', 'k') end"),
    ("nested reads", "while true do redis.pcall('GET', 'k') end"),
    ("doubling a string", "local s = 'x' while true do s = s .. s end"),
    ("a huge string", "return string.rep('x', 2 ^ 31 - 1)"),
    ("a table of strings", "local t = {} while true do t[#t + 1] = string.rep('x', 10000) .. #t end"),
    ("a table of tables", "local t = {} while true do t = {t} end"),
    (
        "caught again and again",
        "local t = {} while true do pcall(function() while true do t[#t + 1] = {} end end) end",
    ),
    (
        "the same long string again and again",
        "local s = 'x' while #s < 2 ^ 24 do s = s .. s end while true do local t = s .. 'y' end",
    ),
    (
        "strings just below what is noticed",
        "local s = 'x' while #s < 2 ^ 14 do s = s .. s end while true do local t = s .. 'y' end",
    ),
    (
        "comparisons of long strings",
        "local s = 'x' while #s < 2 ^ 24 do s = s .. s end local t = s .. 'y' while true do local less = s < t end",
    ),
    (
        "sorting long strings",
        "local s = 'x' while #s < 2 ^ 20 do s = s .. s end local t = {} for i = 1, 20 do t[i] = s .. i end \
         while true do table.sort(t) end",
    ),
    (
        "a large table that is laid anew for each key",
        "local t = {} for i = 1, 2 ^ 16 do t[i + 0.5] = i end local i = 0 \
         while true do t[i + 0.5] = nil i = i + 1 t['x' .. i] = i t['x' .. i] = nil end",
    ),
    (
        "a large table without keys",
        "local t = {} for i = 1, 2 ^ 16 do t[i + 0.5] = i end for i = 1, 2 ^ 16 do t[i + 0.5] = nil end \
         while true do next(t) end",
    ),
    ("arguments that become more", "local function f(...) return f(1, ...) end f()"),
    (
        "many arguments",
        "local t = {} for i = 1, 7000 do t[i] = i end local function f(...) while true do select('#', ...) end end \
         f(unpack(t))",
    ),
    (
        "an error that does not end",
        "while true do pcall(error, setmetatable({}, {__tostring = function() while true do end end})) end",
    ),
    ("text that is compiled", "while true do loadstring(string.rep('do local x = {} end ', 1000))() end"),
    (
        "JSON in JSON",
        "local s = string.rep('[', 900) .. string.rep(']', 900) while true do cjson.encode(cjson.decode(s)) end",
    ),
    ("wide formats", "while true do string.format('%99.99f%99.99f%99.99f', 1e300, 1e300, 1e300) end"),
    ("a value that grows", "while true do redis.call('APPEND', 'big', string.rep('x', 100000)) end"),
];

/// Whether an error says that a script was stopped at a limit.
pub fn is_limit(error: &str) -> bool {
    error.contains("exceeded its limit")
}

#[test]
fn scripts_stop_at_their_limits() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::prepare(3)?;
    for node in &mut cluster.nodes {
        node.options = vec!["--request-timeout-ms".to_owned(), SCRIPT_TIME_MAX.as_millis().to_string()];
    }
    cluster.start_all()?;
    let follower = cluster.follower()?;
    let bystander = cluster.nodes[(0..3).find(|&i| i != follower).unwrap_or_default()].listen;
    let mut connection = cluster.nodes[follower].connect()?;
    connection.set_patience(SCRIPT_TIME_MAX)?;
    // Whatever scripts need once is not theirs.
    connection.call(&["EVAL", "return 1", "0"])?;
    let before = memory(&cluster.nodes)?;
    let done = AtomicBool::new(false);
    let (attacked, (commands, slowest), peak) = thread::scope(|scope| {
        let bystander = scope.spawn(|| stand_by(bystander, &done));
        let watcher = scope.spawn(|| watch_memory(&cluster.nodes, &done));
        let attacked = attack(&mut connection);
        done.store(true, Ordering::Relaxed);
        let (Ok(stood_by), Ok(peak)) = (bystander.join(), watcher.join()) else { bail!("a thread panicked") };
        Ok((attacked, stood_by?, peak))
    })?;
    attacked?;
    let grown = |now: &[u64]| now.iter().zip(&before).map(|(now, before)| now.saturating_sub(*before)).max();
    let after = wait_for("the nodes' memory to return", PATIENCE, || {
        let after = memory(&cluster.nodes)?;
        Ok((grown(&after) <= Some(GROWTH_BYTES_MAX)).then_some(after))
    });
    let mebibytes =
        |bytes: &[u64]| bytes.iter().map(|bytes| (bytes >> 20).to_string()).collect::<Vec<_>>().join(", ");
    println!(
        "memory of the nodes in MiB: {} before, at most {}, {} after; another client ran {commands} commands, the \
         slowest took {slowest:.1?}",
        mebibytes(&before),
        mebibytes(&peak),
        mebibytes(&memory(&cluster.nodes)?)
    );
    after?;
    ensure!(grown(&peak) <= Some(PEAK_BYTES_MAX), "memory grew to {peak:?} bytes");
    ensure!(slowest < SCRIPT_TIME_MAX, "another client had to wait for {slowest:?}");
    Ok(())
}

/// Each hostile script is stopped, and what it wrote before that is not there.
fn attack(connection: &mut Connection) -> Result<()> {
    let mut slowest = (Duration::ZERO, "");
    let show = std::env::var_os("SHOW").is_some();
    for (name, script) in HOSTILE {
        let script = format!("redis.call('SET', 'left', 'behind') {script}");
        let began = Instant::now();
        let reply = connection.call(&["EVAL", &script, "0"])?;
        let took = began.elapsed();
        slowest = slowest.max((took, name));
        if show {
            println!("{took:>8.1?} {name}: {}", reply.render().join(" "));
        }
        let Some(error) = reply.error() else { bail!("{name}: it ended with {reply:?}") };
        ensure!(is_limit(&error), "{name}: it failed of something else: {error}");
        ensure!(took < SCRIPT_TIME_MAX, "{name}: it took {took:?}");
        let left = connection.call(&["EXISTS", "left", "k", "big"])?;
        ensure!(left == Reply::Int(0), "{name}: something is left behind after {error}");
    }
    println!("{} hostile scripts; the slowest was {}: {:.1?}", HOSTILE.len(), slowest.1, slowest.0);
    Ok(())
}

/// The processes' own memory; mapped files are the kernel's to keep or drop.
fn memory(nodes: &[Node]) -> Result<Vec<u64>> {
    nodes.iter().map(|node| node.memory_bytes("RssAnon")).collect()
}

fn watch_memory(nodes: &[Node], done: &AtomicBool) -> Vec<u64> {
    let mut peaks = vec![0; nodes.len()];
    while !done.load(Ordering::Relaxed) {
        for (peak, now) in peaks.iter_mut().zip(memory(nodes).unwrap_or_default()) {
            *peak = now.max(*peak);
        }
        thread::sleep(Duration::from_millis(2));
    }
    peaks
}

/// Writes and reads on one connection until it is over: how often, and the longest wait.
fn stand_by(address: SocketAddr, done: &AtomicBool) -> Result<(usize, Duration)> {
    let mut connection = Connection::open(address)?;
    connection.set_patience(SCRIPT_TIME_MAX)?;
    let (mut commands, mut slowest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        let value = commands.to_string();
        let start = Instant::now();
        let reply = connection.call(&["SET", "bystander", &value])?;
        ensure!(reply == Reply::Status(b"OK".to_vec()), "SET: {reply:?}");
        slowest = slowest.max(start.elapsed());
        commands += 1;
        thread::sleep(Duration::from_millis(2));
    }
    Ok((commands, slowest))
}
