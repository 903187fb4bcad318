//! Clients that want too much within the protocol: very many subscriptions, patterns that are hard to match, endless
//! transactions, and clients that never read. Each meets a limit in Redis' words or is served, others are served
//! meanwhile, and the node's memory stays bounded.

#![allow(clippy::print_stdout)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::bystander::stand_by;
use compat_tests::client::{Connection, PATIENCE, encode, is_end, is_silence};
use compat_tests::cluster::{Cluster, Node};
use compat_tests::reply::Reply;
use compat_tests::{alone, wait_for};

/// How much memory the node may have more than before, at any time.
const GROWTH_BYTES_MAX: u64 = 512 << 20;
const PATTERN: &str = "a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b";

#[test]
fn very_many_subscriptions() -> Result<()> {
    check("subscriptions", |node| {
        for count in [10_000, 100_000] {
            let mut client = connect(node)?;
            for kind in ["SUBSCRIBE", "PSUBSCRIBE"] {
                // All patterns are tried for each message: of them there are fewer.
                let count = if kind == "PSUBSCRIBE" { count / 10 } else { count };
                let names: Vec<_> = (0..count).map(|number| format!("{kind}:{number}")).collect();
                for names in names.chunks(10_000) {
                    let words: Vec<_> = [kind.to_owned()].into_iter().chain(names.iter().cloned()).collect();
                    client.send(&words)?;
                    for _ in names {
                        client.receive()?;
                    }
                }
            }
            let mut publisher = connect(node)?;
            let reached = publisher.call(&["PUBLISH", &format!("SUBSCRIBE:{}", count - 1), "message"])?;
            ensure!(reached == Reply::Int(1), "{reached:?}");
            let Reply::Array(message) = client.receive()? else { bail!("a message is an array") };
            ensure!(message[2] == Reply::Bulk(b"message".to_vec()), "{message:?}");
            drop(client);
            wait_for("the subscriptions to end", PATIENCE, || {
                Ok((publisher.call(&["PUBSUB", "NUMPAT"])? == Reply::Int(0)).then_some(()))
            })?;
        }
        Ok(())
    })
}

#[test]
fn patterns_that_are_hard_to_match() -> Result<()> {
    check("patterns", |node| {
        let mut client = connect(node)?;
        let key = "a".repeat(1000);
        for number in 0..100 {
            client.call(&["SET", &format!("{key}{number}"), "v"])?;
        }
        let none = Reply::Array(Vec::new());
        ensure!(client.call(&["KEYS", PATTERN])? == none, "nothing ends with b");
        ensure!(client.call(&["CONFIG", "GET", PATTERN])? == none, "nothing ends with b");
        let scanned = client.call(&["SCAN", "0", "MATCH", PATTERN, "COUNT", "1000"])?;
        ensure!(scanned == Reply::Array(vec![Reply::Bulk(b"0".to_vec()), none]), "{scanned:?}");
        let mut subscriber = connect(node)?;
        subscriber.call(&["PSUBSCRIBE", PATTERN])?;
        ensure!(client.call(&["PUBLISH", &key, "m"])? == Reply::Int(0), "it does not match");
        let nested = "[".repeat(100_000);
        ensure!(client.call(&["KEYS", &nested])? == Reply::Array(Vec::new()), "nothing matches");
        Ok(())
    })
}

#[test]
fn transactions_without_an_end() -> Result<()> {
    check("transactions", |node| {
        let mut client = connect(node)?;
        client.call(&["MULTI"])?;
        let commands: Vec<_> = (0..100_000).map(|_| vec!["INCR", "counter"]).collect();
        for commands in commands.chunks(10_000) {
            client.pipeline(commands)?;
        }
        let Reply::Array(replies) = client.call(&["EXEC"])? else { bail!("EXEC answers with replies") };
        ensure!(replies.len() == 100_000 && replies[99_999] == Reply::Int(100_000), "{}", replies.len());

        set(node, "client-query-buffer-limit", "1mb")?;
        client.call(&["MULTI"])?;
        let value = "x".repeat(100_000);
        let ended = (0..20).find_map(|_| client.call(&["SET", "left", &value]).err());
        let error = ended.context("a transaction of 2 MB was queued")?;
        ensure!(is_end(&error), "{error}");
        let left = connect(node)?.call(&["EXISTS", "left"])?;
        ensure!(left == Reply::Int(0), "it was never executed: {left:?}");

        let mut client = connect(node)?;
        let half = [b"*2\r\n$4\r\nECHO\r\n$3000000\r\n".as_slice(), &vec![b'x'; 2_000_000]].concat();
        expect_end(&mut client, |client| client.send_raw(&half))
    })
}

#[test]
fn replies_that_are_kept_back() -> Result<()> {
    check("replies kept back", |node| {
        let script = "return redis.call('DEBUG', 'SLEEP', '1e9')";
        for nap in [vec!["EVAL", script, "0"], vec!["EVAL_RO", script, "0"], vec!["DEBUG", "SLEEP", "1e9"]] {
            for in_transaction in [false, true] {
                for killed in [false, true] {
                    let mut client = connect(node)?;
                    let Reply::Int(id) = client.call(&["CLIENT", "ID"])? else { bail!("ids are numbers") };
                    if in_transaction {
                        client.pipeline(&[vec!["MULTI"], nap.clone()])?;
                        client.send(&["EXEC"])?;
                    } else {
                        client.send(&nap)?;
                    }
                    let command = if in_transaction { "exec" } else { nap[0] }.to_ascii_lowercase();
                    wait_for("its sleep to begin", PATIENCE, || {
                        let shown = clients(node)?.lines().any(|line| {
                            line.starts_with(&format!("id={id} "))
                                && line.contains(&format!(" cmd={command} "))
                        });
                        Ok(shown.then_some(()))
                    })?;
                    if killed {
                        connect(node)?.call(&["CLIENT", "KILL", "ID", &id.to_string()])?;
                        expect_end(&mut client, |_| Ok(()))?;
                    }
                    drop(client);
                    wait_gone(node, &format!("id={id}"))?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn subscribers_that_never_read() -> Result<()> {
    check("subscribers", |node| {
        let message = "x".repeat(100_000);
        for (limit, seconds) in [("pubsub 1mb 0 0", "at once"), ("pubsub 0 1mb 1", "after a second")] {
            set(node, "client-output-buffer-limit", limit)?;
            let mut subscriber = connect(node)?;
            subscriber.call(&["SUBSCRIBE", "channel"])?;
            let mut publisher = connect(node)?;
            // The sockets' buffers take the first megabytes.
            let sent = publish_until_gone(&mut publisher, &message)?;
            println!("{limit}: disconnected {seconds}, {} KB", sent / 1000);
            expect_end(&mut subscriber, |_| Ok(()))?;
        }
        Ok(())
    })
}

/// Publishes until nobody hears it, which must come soon.
fn publish_until_gone(publisher: &mut Connection, message: &str) -> Result<usize> {
    let mut sent = 0;
    wait_for("the subscriber to be disconnected", PATIENCE, || {
        // More than a socket holds, and no more: then only time can disconnect it.
        if sent < 30_000_000 {
            publisher.call(&["PUBLISH", "channel", message])?;
            sent += message.len();
        }
        let subscribers = publisher.call(&["PUBSUB", "NUMSUB", "channel"])?;
        Ok((subscribers == Reply::Array(vec![Reply::Bulk(b"channel".to_vec()), Reply::Int(0)]))
            .then_some(sent))
    })
}

#[test]
fn clients_that_never_read_their_replies() -> Result<()> {
    check("replies", |node| {
        // More than the sockets' buffers take.
        connect(node)?.call(&["SET", "large", &"x".repeat(24_000_000)])?;
        // Without a limit that fits, the node stops reading from it.
        let mut client = connect(node)?;
        let reads = encode(&["GET", "large"]).repeat(1000);
        client.send_raw(&reads)?;
        for limit in ["normal 2mb 0 0", "normal 0 1mb 1"] {
            set(node, "client-output-buffer-limit", limit)?;
            let mut client = connect(node)?;
            let sent = client.send_raw(&reads);
            ensure!(sent.as_ref().err().is_none_or(is_end), "{sent:?}");
            let id = format!("addr={}", client.local()?);
            wait_gone(node, &id).with_context(|| limit.to_owned())?;
        }
        let id = format!("addr={}", client.local()?);
        wait_gone(node, &id).context("a limit that was set later")
    })
}

/// Pipelines of any length are taken from clients that send all of it before they read, as many libraries do.
#[test]
fn a_pipeline_that_is_sent_before_anything_is_read() -> Result<()> {
    check("a long pipeline", |node| {
        let mut client = connect(node)?;
        // Requests and replies are more than the sockets' buffers take, on both sides.
        let text = "x".repeat(10_000);
        client.call(&["SET", "text", &text])?;
        let requests: Vec<_> = (0..3_000).map(|_| vec!["ECHO", &text]).collect();
        for reply in client.pipeline(&requests)? {
            ensure!(reply == Reply::Bulk(text.clone().into_bytes()), "ECHO: {reply:?}");
        }
        Ok(())
    })
}

#[test]
fn watchers_that_never_read() -> Result<()> {
    check("watchers", |node| {
        set(node, "client-output-buffer-limit", "pubsub 1mb 0 0")?;
        let mut monitor = connect(node)?;
        monitor.call(&["MONITOR"])?;
        let mut keeper = connect(node)?;
        keeper.call(&["HELLO", "3"])?;
        keeper.call(&["CLIENT", "TRACKING", "ON", "BCAST"])?;
        let mut client = connect(node)?;
        let keys: Vec<_> = (0..200)
            .map(|number| vec!["SET".to_owned(), format!("{}{number}", "k".repeat(100_000)), "v".into()])
            .collect();
        for keys in keys.chunks(20) {
            client.pipeline(keys)?;
        }
        for watcher in [&mut monitor, &mut keeper] {
            wait_gone(node, &format!("addr={}", watcher.local()?))?;
            expect_end(watcher, |_| Ok(()))?;
        }
        Ok(())
    })
}

#[test]
fn more_clients_than_there_may_be() -> Result<()> {
    check("clients", |node| {
        set(node, "maxclients", "50")?;
        let mut clients = Vec::new();
        let refused = loop {
            ensure!(clients.len() < 50, "there are more than there may be");
            let mut client = connect(node)?;
            match client.call(&["PING"]) {
                Ok(Reply::Status(_)) => clients.push(client),
                other => break other,
            }
        };
        // What it had sent may have come when nobody read from it any more.
        match refused {
            Ok(reply) => {
                ensure!(reply.error().is_some_and(|e| e == "ERR max number of clients reached"), "{reply:?}")
            }
            Err(error) => ensure!(is_end(&error), "{error}"),
        }
        drop(clients);
        wait_for("room for a client", PATIENCE, || Ok(connect(node)?.call(&["PING"]).ok()))?;
        Ok(())
    })
}

/// Runs an attack on a node of its own, with a client beside it that must be served.
fn check(what: &str, attack: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::single()?;
    let node = &cluster.nodes[0];
    let before = node.memory_bytes("RssAnon")?;
    let done = AtomicBool::new(false);
    let (attacked, bystander, peak) = thread::scope(|scope| {
        let bystander = scope.spawn(|| stand_by(node.listen, &done));
        let watcher = scope.spawn(|| {
            let mut peak = before;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(node.memory_bytes("RssAnon").unwrap_or(0));
                thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        let attacked = attack(node);
        done.store(true, Ordering::Relaxed);
        (attacked, bystander.join(), watcher.join())
    });
    attacked?;
    let (Ok(bystander), Ok(peak)) = (bystander, peak) else { bail!("a thread panicked") };
    let (commands, slowest) = bystander.context("the bystander")?;
    println!(
        "{what}: {commands} commands of a bystander, the slowest took {slowest:.1?}; memory {} MiB before, at most {}, {} after",
        before >> 20,
        peak >> 20,
        node.memory_bytes("RssAnon")? >> 20
    );
    ensure!(commands > 0, "the bystander was never served");
    ensure!(peak.saturating_sub(before) <= GROWTH_BYTES_MAX, "memory grew from {before} to {peak} bytes");
    Ok(())
}

fn connect(node: &Node) -> Result<Connection> {
    node.connect()
}

fn set(node: &Node, name: &str, value: &str) -> Result<()> {
    let reply = connect(node)?.call(&["CONFIG", "SET", name, value])?;
    ensure!(reply == Reply::Status(b"OK".to_vec()), "CONFIG SET {name}: {reply:?}");
    Ok(())
}

/// Waits until CLIENT LIST does not show this client.
fn wait_gone(node: &Node, shown: &str) -> Result<()> {
    wait_for(&format!("the end of {shown}"), PATIENCE, || {
        Ok((!clients(node)?.contains(&format!("{shown} "))).then_some(()))
    })
}

/// CLIENT LIST.
fn clients(node: &Node) -> Result<String> {
    let reply = connect(node)?.call(&["CLIENT", "LIST"])?;
    Ok(String::from_utf8_lossy(reply.text().context("CLIENT LIST is text")?).into_owned())
}

/// Does something that the node answers by hanging up, sooner or later, and reads what there is before.
fn expect_end(
    client: &mut Connection,
    act: impl FnOnce(&mut Connection) -> std::io::Result<()>,
) -> Result<()> {
    let acted = act(client);
    ensure!(acted.as_ref().err().is_none_or(is_end), "{acted:?}");
    loop {
        match client.receive() {
            Ok(_) => {}
            Err(error) if is_silence(&error) => bail!("the node does not hang up"),
            Err(_) => return Ok(()),
        }
    }
}
