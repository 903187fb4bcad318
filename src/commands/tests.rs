//! Rules that hold for the whole table: a command is tested here by being in it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::syntax::{self, Argument, Shape};
use super::{Args, Command, Lane, Resolved, Resolver, all, find, resolve};
use crate::error::Failure;
use crate::resp::Reply;
use crate::script::sha1_hex;
use crate::store::{Chance, Txn};
use crate::types::keyspace;
use crate::types::tests::{begin, check_counters, dump, with_store};

/// What COMMAND INFO of redis-server 7.0.15 says: name, arity, flags, places of the keys, ACL categories,
/// and the flags of each key specification.
const RECORDED: &str = include_str!("recorded.txt");

/// Commands of later versions and of Sentinel, which the recording cannot know.
const NEWER_THAN_RECORDED: [&str; 7] =
    ["CLIENT|CAPA", "CLIENT|NO-TOUCH", "CLIENT|SETINFO", "DELEX", "DELIFEQ", "DIGEST", "SENTINEL"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Arity,
    Flags,
    Keys,
    Categories,
    Access,
}

fn columns(command: &Command) -> [(Column, String); 5] {
    let join = |words: Vec<&str>| if words.is_empty() { "-".to_owned() } else { words.join(",") };
    let (first, last, step) = command.spec.keys.first_last_step();
    let categories = command.acl_categories().iter().map(|name| &name[1..]).collect();
    let keys = command.spec.keys;
    let accesses = [Some(keys.access).filter(|_| !keys.is_none()), keys.access_of_second];
    let accesses: Vec<_> = accesses.into_iter().flatten().map(|access| access.words().join("+")).collect();
    [
        (Column::Arity, command.arity().to_string()),
        (Column::Flags, join(command.flag_names())),
        (Column::Keys, format!("{first},{last},{step}")),
        (Column::Categories, join(categories)),
        (Column::Access, if accesses.is_empty() { "-".to_owned() } else { accesses.join(";") }),
    ]
}

#[test]
fn the_table_says_what_redis_says() {
    let recorded: BTreeMap<&str, Vec<&str>> = RECORDED
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .map(|columns| (columns[0], columns[1..].to_vec()))
        .collect();
    let mut wrong = Vec::new();
    for command in all() {
        let name = command.spec.name;
        let Some(recorded) = recorded.get(&*command.spec.lower_name()) else {
            if !NEWER_THAN_RECORDED.contains(&name) {
                wrong.push(format!("{name} is not in Redis 7.0"));
            }
            continue;
        };
        for ((column, ours), theirs) in columns(command).into_iter().zip(recorded) {
            if ours != *theirs {
                wrong.push(format!("{name} {column:?}: ours {ours}, Redis {theirs}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_are_unique_and_found_in_any_case() {
    for (index, command) in all().iter().enumerate() {
        let name = command.spec.name;
        assert_eq!(name, name.to_ascii_uppercase());
        assert_eq!(command.index, index, "{name}");
        for spelled in [name.to_owned(), command.spec.lower_name()] {
            assert_eq!(find(spelled.as_bytes()).map(|found| found.index), Some(index), "{name}");
        }
    }
    assert!(find(b"").is_none());
    assert!(find(b"GE").is_none());
    assert!(find(b"GETT").is_none());
}

#[test]
fn what_was_called_before_changes_nothing() {
    let mut resolver = Resolver::default();
    let calls = [
        "GET k",
        "GET k",
        "get k",
        "GET",
        "GET k k",
        "SET k v",
        "CONFIG GET x",
        "CONFIG SET x y",
        "CONFIG",
        "GET k",
        "CONFIG NONE",
        "CONFIG|GET x",
        "COMMAND",
        "COMMAND COUNT",
        "COMMAND",
        "GETT k",
        "GE k",
        "GET k",
        "a-name-that-is-far-too-long-to-be-kept x",
        "ZREVRANGEBYSCORE k",
        "GET k",
    ];
    for call in calls {
        let argv: Vec<Bytes> = call.split(' ').map(Bytes::from).collect();
        let found = |resolved: Resolved| (resolved.command.index, resolved.skip);
        let (remembering, anew) = (resolver.resolve(&argv).map(found), resolve(&argv).map(found));
        assert_eq!(
            remembering.map_err(|error| error.to_string()),
            anew.map_err(|error| error.to_string()),
            "{call}"
        );
    }
}

#[test]
fn declarations_are_complete() {
    for command in all() {
        let spec = command.spec;
        for said in [spec.summary, spec.complexity, spec.since] {
            assert!(!said.is_empty(), "{}", spec.name);
        }
        assert!(!spec.summary.ends_with(' ') && !spec.syntax.contains("  "), "{}", spec.name);
    }
}

/// The names of the arguments that cannot be left out, in order.
fn required(arguments: &[Argument]) -> Vec<&str> {
    let mut names = Vec::new();
    for argument in arguments.iter().filter(|argument| !argument.optional) {
        match &argument.shape {
            Shape::Block(parts) => names.extend(required(parts)),
            _ => names.push(argument.name.as_str()),
        }
    }
    names
}

fn names_key(argument: &str) -> bool {
    ["key", "newkey", "key1", "key2", "source", "destination", "shardchannel"].contains(&argument)
}

#[test]
fn keys_agree_with_the_syntax() {
    for command in all() {
        let spec = command.spec;
        let name_words = spec.name.split('|').count();
        let arguments = syntax::parse(spec.syntax);
        let required = required(&arguments);
        let named: Vec<usize> = (0..required.len()).filter(|place| names_key(required[*place])).collect();
        let places = spec.keys.places(name_words + required.len()).map(|place| place - name_words);
        let mut places = places.collect::<Vec<_>>();
        if spec.keys.counted_at > 0 {
            let counted_at = spec.keys.counted_at - name_words;
            assert_eq!(required[counted_at], "numkeys", "{}", spec.name);
            // They may be none.
            places
                .extend(required.get(counted_at + 1).filter(|name| names_key(name)).map(|_| counted_at + 1));
        }
        assert_eq!(places, named, "{}", spec.name);
    }
}

fn check_resolve(line: &str, expect: Result<(&str, usize), &str>) {
    let argv: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    let found =
        resolve(&argv).map(|found| (found.command.spec.name, found.skip)).map_err(|error| error.to_string());
    assert_eq!(found, expect.map_err(str::to_owned), "{line}");
}

#[test]
fn names_resolve_as_in_redis() {
    check_resolve("get k", Ok(("GET", 1)));
    check_resolve("oBject ENcoding k", Ok(("OBJECT|ENCODING", 2)));
    check_resolve("command", Ok(("COMMAND", 1)));
    check_resolve("command count", Ok(("COMMAND|COUNT", 2)));
    check_resolve("get", Err("ERR wrong number of arguments for 'get' command"));
    check_resolve("GET a b", Err("ERR wrong number of arguments for 'get' command"));
    check_resolve("OBJECT", Err("ERR wrong number of arguments for 'object' command"));
    check_resolve("OBJECT ENCODING", Err("ERR wrong number of arguments for 'object|encoding' command"));
    check_resolve("object foo k", Err("ERR unknown subcommand 'foo'. Try OBJECT HELP."));
    check_resolve("command foo", Err("ERR unknown subcommand 'foo'. Try COMMAND HELP."));
    check_resolve("foo", Err("ERR unknown command 'foo', with args beginning with: "));
    check_resolve("foo a b", Err("ERR unknown command 'foo', with args beginning with: 'a' 'b' "));
    check_resolve("foo a\r\nb", Err("ERR unknown command 'foo', with args beginning with: 'a  b' "));
    check_resolve(
        "object|encoding k",
        Err("ERR unknown command 'object|encoding', with args beginning with: 'k' "),
    );
    let long = "x".repeat(200);
    check_resolve(
        &format!("{long} {long} {long}"),
        Err(&format!("ERR unknown command '{0}', with args beginning with: '{0}' ", "x".repeat(128))),
    );
}

/// Scripts; some fail half way.
const SCRIPTS: [&str; 7] = [
    "return redis.call('incr', 'k1')",
    "redis.call('set', 'k2', math.random(100)) redis.call('incr', 'k0') return redis.call('time')",
    "for i = 1, 5 do redis.call('set', 'k' .. i, i, 'PX', i) end return redis.call('keys', '*')",
    "redis.call('del', 'k1', 'k2') redis.call('flushdb') redis.call('set', 'k3', 'v') error('x')",
    "redis.call('publish', 'c', redis.call('randomkey') or 'm') return redis.pcall('rename', 'k1', 'k2')[1]",
    "#!lua flags=no-writes\nreturn {redis.call('get', 'k1'), redis.call('dbsize')}",
    "x x",
];

/// A value for an argument of this name.
fn sample(name: &str, chance: &mut Chance) -> String {
    let number = chance.below(50).to_string();
    match name {
        name if names_key(name) => format!("k{}", chance.below(6)),
        "seconds" | "milliseconds" | "increment" | "decrement" | "start" | "end" | "stop" | "num-matches"
        | "offset" | "client-id" | "numreplicas" | "timeout" | "version" | "len" => number,
        "count" | "rank" | "slot" | "bits" => (chance.below(9) + 1).to_string(),
        "unix-time-seconds" => (1 + chance.below(2)).to_string(),
        "unix-time-milliseconds" => (900 + chance.below(300)).to_string(),
        "cursor" | "numkeys" => "0".into(),
        "script" => SCRIPTS[chance.below(SCRIPTS.len() as u64) as usize].to_owned(),
        "sha1" => sha1_hex(SCRIPTS[chance.below(SCRIPTS.len() as u64) as usize].as_bytes()),
        "index" | "index1" | "index2" => chance.below(16).to_string(),
        "db" | "destination-db" => (1 + chance.below(15)).to_string(),
        "protover" => "3".into(),
        "yes/no" => "yes".into(),
        "ip:port" => "127.0.0.1:6379".into(),
        _ => ["v", "10", "3.5", ""][chance.below(4) as usize].to_owned(),
    }
}

/// Arguments that fit the syntax.
fn generate(arguments: &[Argument], chance: &mut Chance, argv: &mut Vec<Bytes>) {
    let mut count_at = None;
    for argument in arguments {
        if argument.optional && chance.below(2) == 0 {
            continue;
        }
        let rounds = if argument.multiple { 1 + chance.below(3) } else { 1 };
        match (argument.name.as_str(), count_at) {
            ("numkeys", _) => count_at = Some(argv.len()),
            ("key", Some(place)) if !argument.optional => argv[place] = rounds.to_string().into(),
            _ => {}
        }
        for round in 0..rounds {
            // `ID client-id [client-id ...]` has its token once.
            if let Some(token) = argument.token.filter(|_| round == 0) {
                argv.push(Bytes::from_static(token.as_bytes()));
            }
            match &argument.shape {
                Shape::Value => argv.push(sample(&argument.name, chance).into()),
                Shape::Token => {}
                Shape::Block(parts) => generate(parts, chance, argv),
                Shape::OneOf(choices) => {
                    let choice = &choices[chance.below(choices.len() as u64) as usize];
                    generate(std::slice::from_ref(choice), chance, argv);
                }
            }
        }
    }
}

fn call_of(command: &Command, chance: &mut Chance) -> Vec<Bytes> {
    let mut argv = command.spec.name.split('|').map(|word| Bytes::from_static(word.as_bytes())).collect();
    generate(&syntax::parse(command.spec.syntax), chance, &mut argv);
    argv
}

/// Spoils a call a little.
fn mutate(argv: &mut Vec<Bytes>, chance: &mut Chance) {
    const WORDS: [&[u8]; 12] = [
        b"",
        b"-1",
        b"0",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"99999999999999999999",
        b"1e400",
        b"nan",
        b"\xff\x00\r\n",
        b"NX",
        b"GET",
        b"COUNT",
    ];
    let place = chance.below(argv.len() as u64) as usize;
    let word = Bytes::from_static(WORDS[chance.below(WORDS.len() as u64) as usize]);
    match chance.below(4) {
        0 if argv.len() > 1 => drop(argv.remove(place)),
        1 => argv.insert(place, word),
        2 => argv.swap(place, 0),
        _ => argv[place] = word,
    }
}

/// Commands whose syntax promises more than their rules allow, and why.
const PARTLY_PARSED: &[(&str, &str)] = &[
    ("CLIENT|KILL", "it knows one user"),
    ("CLIENT|LIST", "Redis documents its filters together and takes one of them"),
    ("CLIENT|TRACKING", "the word PREFIX stands before each prefix"),
    ("COPY", "a key is not copied over itself"),
    ("LCS", "one asks for the length or for the indexes"),
    ("DEBUG", "its subcommands are arguments to it"),
    ("SENTINEL", "its subcommands are arguments to it"),
    ("FAILOVER", "ABORT stands alone, and a port is a number"),
    ("SHUTDOWN", "ABORT stands alone"),
];

#[test]
fn what_fits_the_syntax_parses() {
    let mut chance = Chance::new(11);
    let mut failed = BTreeSet::new();
    for command in all() {
        for _ in 0..50 {
            let argv = call_of(command, &mut chance);
            let skip = command.spec.name.split('|').count();
            let error = match resolve(&argv) {
                Ok(found) if found.command.index == command.index => {
                    (command.check)(&mut Args::new(&argv, skip, 0)).err().map(|error| error.to_string())
                }
                Ok(_) => Some("resolves to another".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = error
                && !PARTLY_PARSED.iter().any(|(name, _)| *name == command.spec.name)
            {
                failed.insert(format!("{argv:?}: {error}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", Vec::from_iter(failed).join("\n"));
}

/// Runs a command as an entry at `now` does; `None` if it is none of those that entries hold.
fn run(tx: &mut Txn, argv: &[Bytes], db: u8) -> Option<Reply> {
    let resolved = match resolve(argv) {
        Ok(resolved) => resolved,
        Err(error) => return Some(error.into()),
    };
    let mut args = Args::new(argv, resolved.skip, db);
    let result = match resolved.command.lane {
        Lane::Write(execute) => execute(&mut args, tx),
        Lane::Read(execute) => execute(&mut args, tx),
        Lane::Session(_) | Lane::Node(_) => return None,
    };
    keyspace::commit(tx);
    match result {
        Ok(reply) => Some(reply),
        Err(Failure::Client(error)) => Some(error.into()),
        Err(Failure::Store(error)) => panic!("the simulated disk works: {error}"),
    }
}

/// Hands the test random calls, valid ones and spoilt ones, of all commands that touch the state.
fn for_calls(seed: u64, rounds: u64, mut test: impl FnMut(&[Bytes], u64, u8)) {
    let mut chance = Chance::new(seed);
    let commands: Vec<&Command> =
        all().iter().filter(|command| matches!(command.lane, Lane::Write(_) | Lane::Read(_))).collect();
    for round in 0..rounds {
        let command = commands[chance.below(commands.len() as u64) as usize];
        let mut argv = call_of(command, &mut chance);
        if chance.below(3) == 0 {
            mutate(&mut argv, &mut chance);
        }
        // Milliseconds pass, so that keys end under way.
        test(&argv, 1000 + round, chance.below(2) as u8);
    }
}

#[test]
fn spoilt_calls_are_refused_and_nothing_panics() {
    let mut chance = Chance::new(13);
    for command in all() {
        for _ in 0..100 {
            let mut argv = call_of(command, &mut chance);
            for _ in 0..=chance.below(3) {
                mutate(&mut argv, &mut chance);
            }
            if let Ok(found) = resolve(&argv) {
                let _ = (found.command.check)(&mut Args::new(&argv, found.skip, 15));
            }
        }
    }
}

#[test]
fn the_same_commands_give_the_same_replies_and_state() {
    let once = || {
        with_store(|store| {
            let mut replies = Vec::new();
            for_calls(17, 3000, |argv, now, db| replies.push(run(&mut begin(store, now), argv, db)));
            (replies, dump(&store.view(0)))
        })
    };
    assert_eq!(once(), once());
}

#[test]
fn an_error_leaves_the_state_as_it_was() {
    with_store(|store| {
        let (mut errors, mut fine) = (0, 0);
        for_calls(19, 1500, |argv, now, db| {
            let mut tx = begin(store, now);
            let before = dump(&tx);
            let revision = before.0.revision;
            tx.effects.events.clear();
            match run(&mut tx, argv, db) {
                Some(Reply::Error(error)) => {
                    errors += 1;
                    assert_eq!(dump(&tx), before, "{argv:?}: {error}");
                    assert!(tx.effects.events.is_empty(), "{argv:?}: {error}");
                }
                _ => {
                    fine += 1;
                    check_counters(&tx);
                    assert!(tx.head().revision <= revision + 1, "{argv:?}");
                }
            }
        });
        assert!(errors > 150 && fine > 500, "{errors} errors, {fine} other replies");
    });
}

#[test]
fn a_read_changes_nothing() {
    with_store(|store| {
        for_calls(23, 1000, |argv, now, db| {
            let mut tx = begin(store, now);
            let before = dump(&tx);
            run(&mut tx, argv, db);
            if let Ok(found) = resolve(argv)
                && let Lane::Read(_) = found.command.lane
            {
                assert_eq!(dump(&tx), before, "{argv:?}");
            }
        });
    });
}
