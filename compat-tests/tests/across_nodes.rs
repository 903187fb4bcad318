//! One client here, one there: transactions and messages belong to the cluster, not to a node.

#![allow(clippy::print_stdout)]

use std::thread;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::client::{Connection, info};
use compat_tests::cluster::Cluster;
use compat_tests::reply::Reply;
use compat_tests::{alone, wait_for};

const MESSAGES: usize = 500;
const TRANSACTIONS: usize = 100;

/// Every subscriber on every node sees every message, whichever node it was published on, in one and the same
/// order.
#[test]
fn messages_reach_all_nodes_in_log_order() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    let addresses = cluster.addresses();
    let mut subscribers = Vec::new();
    for &address in &addresses {
        let mut connection = Connection::open(address)?;
        connection.call(&["SUBSCRIBE", "news"])?;
        subscribers.push(connection);
    }
    let publishers: Vec<_> = (0..3)
        .map(|publisher| {
            let address = addresses[publisher];
            thread::spawn(move || -> Result<()> {
                let mut connection = Connection::open(address)?;
                for number in 0..MESSAGES {
                    let reply = connection.call(&["PUBLISH", "news", &format!("{publisher}:{number}")])?;
                    // Its own node's subscriber, as Redis counts.
                    ensure!(reply == Reply::Int(1), "{reply:?}");
                }
                Ok(())
            })
        })
        .collect();
    for publisher in publishers {
        let Ok(result) = publisher.join() else { bail!("a publisher panicked") };
        result?;
    }
    let mut orders = Vec::new();
    for mut subscriber in subscribers {
        let messages: Vec<_> = (0..3 * MESSAGES)
            .map(|_| subscriber.receive().map(|message| message.render()))
            .collect::<Result<_, _>>()?;
        orders.push(messages);
    }
    ensure!(orders[0] == orders[1] && orders[1] == orders[2], "subscribers saw different orders");
    for publisher in 0..3 {
        let own = orders[0].iter().filter(|lines| lines[2].starts_with(&format!("3) \"{publisher}:")));
        let expected = (0..MESSAGES).map(|number| format!("3) \"{publisher}:{number}\""));
        ensure!(
            own.map(|lines| lines[2].clone()).eq(expected),
            "a publisher's messages came in another order"
        );
    }
    println!("{} messages from three nodes reached three nodes in one order", 3 * MESSAGES);
    Ok(())
}

/// Optimistic increments through three nodes at once: WATCH notices every write of another node's client.
#[test]
fn watch_notices_writes_through_other_nodes() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    let clients: Vec<_> = cluster
        .addresses()
        .into_iter()
        .map(|address| {
            thread::spawn(move || -> Result<usize> {
                let mut connection = Connection::open(address)?;
                let mut conflicts = 0;
                for _ in 0..TRANSACTIONS {
                    while !increment(&mut connection)? {
                        conflicts += 1;
                    }
                }
                Ok(conflicts)
            })
        })
        .collect();
    let mut conflicts = 0;
    for client in clients {
        let Ok(result) = client.join() else { bail!("a client panicked") };
        conflicts += result?;
    }
    println!("{} optimistic increments through three nodes, {conflicts} conflicts", 3 * TRANSACTIONS);
    let reply = cluster.nodes[0].connect()?.call(&["GET", "optimistic"])?;
    ensure!(
        reply == Reply::Bulk((3 * TRANSACTIONS).to_string().into_bytes()),
        "an increment is lost: {reply:?}"
    );
    Ok(())
}

/// Reads, adds one and writes, unless somebody else has written meanwhile.
fn increment(connection: &mut Connection) -> Result<bool> {
    connection.call(&["WATCH", "optimistic"])?;
    let value: usize = match connection.call(&["GET", "optimistic"])? {
        Reply::Nil => 0,
        Reply::Bulk(text) => String::from_utf8(text)?.parse()?,
        other => bail!("GET: {other:?}"),
    };
    connection.call(&["MULTI"])?;
    connection.call(&["SET", "optimistic", &(value + 1).to_string()])?;
    match connection.call(&["EXEC"])? {
        Reply::Array(_) => Ok(true),
        Reply::NilArray => Ok(false),
        other => bail!("EXEC: {other:?}"),
    }
}

/// A deadline set through one node is over on all of them at the same time.
#[test]
fn a_key_expires_everywhere_at_once() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    let mut connections: Vec<_> = cluster.nodes.iter().map(|node| node.connect()).collect::<Result<_>>()?;
    for round in 0..9 {
        let (writer, first) = (round % 3, (round / 3 + 1) % 3);
        connections[writer].call(&["SET", "lease", "held", "PX", "100"])?;
        wait_for("the key to expire", compat_tests::cluster::PATIENCE, || {
            Ok((connections[first].call(&["GET", "lease"])? == Reply::Nil).then_some(()))
        })?;
        for connection in &mut connections {
            let reply = connection.call(&["GET", "lease"])?;
            ensure!(reply == Reply::Nil, "round {round}: it came back: {reply:?}");
        }
    }
    Ok(())
}

/// INFO tells how much of the log went between the nodes, and how much was waiting on one connection of late.
#[test]
fn bytes_between_nodes_and_in_buffers_are_counted() -> Result<()> {
    const VALUE: u64 = 1 << 20;
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    let (leader, follower) =
        (cluster.nodes[cluster.leader()?].listen, cluster.nodes[cluster.follower()?].listen);
    let figure = |node, section, field| -> Result<u64> {
        Ok(info(node, section, field)?.context("INFO has the field")?.parse()?)
    };
    let value = "x".repeat(VALUE as usize);
    let mut client = Connection::open(leader)?;
    // What was seen of late is forgotten after some seconds.
    wait_for("all figures", compat_tests::cluster::PATIENCE, || {
        client.call(&["SET", "large", &value])?;
        client.call(&["GET", "large"])?;
        let figures = [
            figure(leader, "stats", "total_net_repl_output_bytes")? / 2,
            figure(follower, "stats", "total_net_repl_input_bytes")?,
            figure(leader, "clients", "client_recent_max_input_buffer")?,
            figure(leader, "clients", "client_recent_max_output_buffer")?,
        ];
        Ok(figures.iter().all(|figure| *figure >= VALUE).then_some(()))
    })
}
