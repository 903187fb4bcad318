//! A script's end depends on nothing but the state, its arguments and the entry.

use std::sync::Mutex;
use std::thread;

use bytes::Bytes;

use crate::commands::{Args, resolve};
use crate::resp::Reply;
use crate::store::{Chance, Store};
use crate::types::tests::{begin, dump, with_store};

/// Parts of scripts. Some of them fail, some go too far, and some look for what could differ between nodes.
const PARTS: [&str; 18] = [
    "redis.call('set', KEYS[1], math.random(1000000))",
    "redis.call('rpush', 'l', tostring({}), tostring(rawget(_G, 'print')), ARGV[1])",
    "redis.call('hset', 'h', redis.call('time')[1], redis.call('time')[2])",
    "redis.call('del', redis.call('randomkey') or 'none')",
    "for k, v in pairs({a = 1, [3] = 2, b = 3, [true] = 4}) do redis.call('append', 'p', tostring(k) .. v) end",
    "local t = {} for i = 1, 300 do t[{}] = i end for k in next, t do t[k] = nil end",
    "local t = setmetatable({}, {__mode = 'k'}) t[{}] = 1 for i = 1, 2000 do local x = {i} end \
     redis.call('append', 'w', #redis.sha1hex(ARGV[1]))",
    "redis.call('set', 'j', cjson.encode({z = 1, y = {1, 2}, x = {b = 1, a = 2}}))",
    "redis.call('set', 'm', cmsgpack.pack({z = 1, y = 2, [7] = 3}))",
    "local function f(n) return n == 0 and 0 or 1 + f(n - 1) end redis.call('set', 'd', tostring(pcall(f, 17000)))",
    "local s = 'x' for i = 1, 24 do s = s .. s end redis.call('set', 'big', #s)",
    "local t = {} for i = 1, 60000 do t[i] = {i} end redis.call('incrby', 'n', #t)",
    "redis.call('set', 'e', select(2, pcall(redis.call, 'incr', 'l')) or '')",
    "redis.call('publish', 'c', redis.call('dbsize'))",
    "redis.call('select', 1) redis.call('flushdb') redis.call('select', 0)",
    "local n = 0 for i = 1, 200000 do n = n + i % 7 end redis.call('set', 'sum', n)",
    "redis.call('set', 'gc', collectgarbage('count')) redis.call('pexpire', 'gc', 5)",
    "if math.random() < 0.2 then error('enough') end",
];

fn script(chance: &mut Chance) -> String {
    let parts = (0..=chance.below(4)).map(|_| PARTS[chance.below(PARTS.len() as u64) as usize]);
    parts.map(|part| format!("do {part} end\n")).collect()
}

fn run(store: &Store, entry: u64, script: &str) -> Reply {
    let argv: Vec<Bytes> =
        ["EVAL", script, "1", "k", "arg"].iter().map(|word| Bytes::from(word.to_string())).collect();
    let mut tx = begin(store, 1000 + entry);
    let resolved = resolve(&argv).expect("EVAL takes this");
    resolved.apply(Args::new(&argv, resolved.skip, 0), &mut tx).expect("the simulated disk works")
}

#[test]
fn an_interpreters_past_makes_no_difference() {
    let mut chance = Chance::new(41);
    let scripts: Vec<String> = (0..120).map(|_| script(&mut chance)).collect();
    let warm = with_store(|store| {
        let replies: Vec<Reply> =
            (0..).zip(&scripts).map(|(entry, script)| run(store, entry, script)).collect();
        (replies, dump(&store.view(0)))
    });
    let fresh = with_store(|store| {
        let replies = Mutex::new(Vec::new());
        for (entry, script) in (0..).zip(&scripts) {
            // A thread of its own, and so an interpreter that has seen nothing.
            thread::scope(|scope| {
                scope.spawn(|| replies.lock().expect("no other holds it").push(run(store, entry, script)));
            });
        }
        (replies.into_inner().expect("all have ended"), dump(&store.view(0)))
    });
    assert_eq!(warm.0, fresh.0);
    assert_eq!(warm.1, fresh.1);
    assert!(warm.0.iter().any(Reply::is_error) && warm.0.iter().any(|reply| !reply.is_error()));
}
