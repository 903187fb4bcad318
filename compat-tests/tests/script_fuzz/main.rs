//! Scripts that nobody would write, on three nodes at once: what they leave behind must be the same everywhere, and
//! none of them may take a node's time or memory away from the others.

#![allow(clippy::print_stdout)]

mod generator;
mod limits;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::client::Connection;
use compat_tests::cluster::Cluster;
use compat_tests::dice::Dice;
use compat_tests::reply::Reply;
use compat_tests::{alone, wait_for};

use generator::Generator;

/// Connections that send scripts, spread over the nodes.
const CLIENTS: u64 = 6;
/// Scripts on each of them; `SCRIPTS` asks for another number.
const SCRIPTS: u64 = 150;
const DATABASES: usize = 16;
/// How long what expires may take to be gone everywhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one client met.
#[derive(Default)]
struct Outcomes {
    replies: u64,
    errors: u64,
    /// Scripts that were stopped at a limit.
    stopped: u64,
}

#[test]
fn random_scripts_leave_the_same_on_all_nodes() -> Result<()> {
    let _alone = alone();
    let seed = Dice::seed()?;
    println!("SEED={seed}");
    fuzz(seed).with_context(|| format!("SEED={seed}"))
}

fn fuzz(seed: u64) -> Result<()> {
    let scripts = std::env::var("SCRIPTS").map_or(Ok(SCRIPTS), |scripts| scripts.parse())?;
    let cluster = Cluster::start(3)?;
    let nodes = cluster.addresses();
    let commands = commands(nodes[0])?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let node = nodes[usize::try_from(client)? % nodes.len()];
            let mut generator = Generator::new(seed.wrapping_mul(CLIENTS) + client, commands.clone());
            Ok(thread::spawn(move || send_scripts(node, &mut generator, scripts)))
        })
        .collect::<Result<_>>()?;
    let mut all = Outcomes::default();
    for client in clients {
        let Ok(outcomes) = client.join() else { bail!("a client panicked") };
        let outcomes = outcomes?;
        all.replies += outcomes.replies;
        all.errors += outcomes.errors;
        all.stopped += outcomes.stopped;
    }
    let contents = wait_for("equal contents of all nodes", PATIENCE, || {
        let contents = nodes.iter().map(|&node| contents(node)).collect::<Result<Vec<_>>>()?;
        Ok((contents[0] == contents[1] && contents[1] == contents[2]).then(|| contents[0].clone()))
    });
    if contents.is_err() {
        report_difference(&nodes)?;
    }
    let hash = equal_hashes(&nodes)?;
    println!(
        "{} random scripts through three nodes: {} replies, {} errors, {} of them at a limit; {} keys, equal on all; state {hash}",
        CLIENTS * scripts,
        all.replies,
        all.errors,
        all.stopped,
        contents?.len()
    );
    ensure!(all.replies > all.errors / 4, "hardly any script runs: the generator is of no use");
    Ok(())
}

/// The names of all commands: what scripts may not call must be refused, too.
fn commands(node: SocketAddr) -> Result<Vec<String>> {
    let Reply::Array(names) = Connection::open(node)?.call(&["COMMAND", "LIST"])? else {
        bail!("COMMAND LIST answers with names")
    };
    let name = |reply: &Reply| Some(String::from_utf8_lossy(reply.text()?).into_owned());
    let mut names: Vec<_> = names.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

fn send_scripts(node: SocketAddr, generator: &mut Generator, scripts: u64) -> Result<Outcomes> {
    let mut connection = Connection::open(node)?;
    let mut outcomes = Outcomes::default();
    for _ in 0..scripts {
        let (script, arguments) = generator.script();
        let mut words = vec!["EVAL".to_owned(), script.clone()];
        words.extend(arguments);
        let reply = connection.call(&words).with_context(|| format!("{node} did not survive:\n{script}"))?;
        match reply.error() {
            None => outcomes.replies += 1,
            Some(error) => {
                outcomes.errors += 1;
                outcomes.stopped += u64::from(limits::is_limit(&error));
                if std::env::var_os("SHOW").is_some() {
                    println!("{error}\n{script}\n");
                }
            }
        }
    }
    Ok(outcomes)
}

/// All that clients can see of a node's data, in lines. A read is answered from the node's own state.
fn contents(node: SocketAddr) -> Result<Vec<String>> {
    let mut connection = Connection::open(node)?;
    let mut lines = Vec::new();
    for database in 0..DATABASES {
        connection.call(&["SELECT", &database.to_string()])?;
        let Reply::Array(keys) = connection.call(&["KEYS", "*"])? else { bail!("KEYS answers with keys") };
        for key in keys {
            let key = key.text().context("a key is text")?.to_vec();
            let kind = connection.call(&[b"TYPE", key.as_slice()])?;
            let deadline = connection.call(&[b"PEXPIRETIME", key.as_slice()])?;
            let reads: &[&[u8]] = match kind.text() {
                Some(b"string") => &[b"GET"],
                Some(b"hash") => &[b"HGETALL"],
                Some(b"list") => &[b"LRANGE", b"0", b"-1"],
                Some(b"set") => &[b"SMEMBERS"],
                Some(b"zset") => &[b"ZRANGE", b"0", b"-1", b"WITHSCORES"],
                Some(b"stream") => &[b"XRANGE", b"-", b"+"],
                // It has expired since.
                Some(b"none") => continue,
                other => bail!("a type that this test cannot read: {other:?}"),
            };
            let words: Vec<_> = [reads[0], &key].into_iter().chain(reads[1..].iter().copied()).collect();
            let value = connection.call(&words)?;
            let rendered = [deadline.render(), value.render()].concat().join(" ");
            lines.push(format!("{database} {} {rendered}", compat_tests::reply::quoted(&key)));
        }
    }
    lines.sort();
    Ok(lines)
}

/// The hash of the state, in which are also scripts, revisions and who was answered, and which all nodes agree on. An
/// entry may come between two questions: the clock ticks, keys end.
fn equal_hashes(nodes: &[SocketAddr]) -> Result<String> {
    wait_for("equal state hashes of all nodes", PATIENCE, || {
        let hash = |node: &SocketAddr| -> Result<String> {
            let reply = Connection::open(*node)?.call(&["DEBUG", "DIGEST-STATE"])?;
            Ok(String::from_utf8_lossy(reply.text().with_context(|| format!("{reply:?}"))?).into_owned())
        };
        let hashes = nodes.iter().map(hash).collect::<Result<Vec<_>>>()?;
        Ok((hashes[0] == hashes[1] && hashes[1] == hashes[2]).then(|| hashes[0].clone()))
    })
}

/// Shows where the first few lines differ.
fn report_difference(nodes: &[SocketAddr]) -> Result<()> {
    let first = contents(nodes[0])?;
    for &node in &nodes[1..] {
        let other = contents(node)?;
        println!("{} has {} keys, {node} has {}", nodes[0], first.len(), other.len());
        for (ours, theirs) in first.iter().zip(&other).filter(|(ours, theirs)| ours != theirs).take(5) {
            let same = ours.bytes().zip(theirs.bytes()).take_while(|(ours, theirs)| ours == theirs).count();
            let shown = |line: &str| {
                let from = line.len().min(same.saturating_sub(80));
                String::from_utf8_lossy(&line.as_bytes()[from..line.len().min(same + 80)]).into_owned()
            };
            println!("{}\n  ...{}\n  ...{}", &ours[..ours.len().min(30)], shown(ours), shown(theirs));
        }
    }
    Ok(())
}
