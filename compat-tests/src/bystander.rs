//! A client beside a hostile one, that must be served all the while.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Connection;
use crate::reply::Reply;

/// Writes and reads on one connection until it is over: how often, and the longest wait.
pub fn stand_by(address: SocketAddr, done: &AtomicBool) -> Result<(usize, Duration)> {
    let mut connection = Connection::open(address)?;
    let (mut commands, mut slowest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        let value = commands.to_string();
        let start = Instant::now();
        let reply = connection.call(&["SET", "bystander", &value])?;
        ensure!(reply == Reply::Status(b"OK".to_vec()), "SET: {reply:?}");
        let reply = connection.call(&["GET", "bystander"])?;
        ensure!(reply == Reply::Bulk(value.into_bytes()), "GET: {reply:?}");
        slowest = slowest.max(start.elapsed());
        commands += 2;
        thread::sleep(Duration::from_millis(2));
    }
    Ok((commands, slowest))
}
