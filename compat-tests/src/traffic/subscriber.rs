//! A subscriber of one node, which comes back whenever its connection breaks.

use std::net::SocketAddr;
use std::time::Duration;

use super::Recorder;
use crate::POLL;
use crate::client::{Connection, is_silence};
use crate::reply::Reply;

/// Where the messages are published.
pub(super) const CHANNEL: &str = "news";

/// The last message: whoever gets it has got everything.
pub(super) const LAST: &str = "the end";

/// A node that says nothing for so long while all others are talked to is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes down what comes, until the last message has.
pub(super) fn run(number: usize, node: SocketAddr, recorder: &Recorder) {
    // Each connection is a subscriber of its own: what came while there was none is not missed.
    for attempt in 0.. {
        let subscriber = number as u64 * 1_000_000 + attempt;
        match listen(subscriber, node, recorder) {
            Some(is_over) if is_over => return,
            _ => std::thread::sleep(POLL),
        }
    }
}

/// Whether the last message came; nothing if the connection broke.
fn listen(subscriber: u64, node: SocketAddr, recorder: &Recorder) -> Option<bool> {
    let mut connection = Connection::open(node).ok()?;
    connection.set_patience(PATIENCE).ok()?;
    connection.send(&["SUBSCRIBE", CHANNEL]).ok()?;
    loop {
        let reply = match connection.receive() {
            Ok(Reply::Array(items)) => items,
            Err(error) if is_silence(&error) => {
                recorder.be_surprised(format!("{node} tells a subscriber nothing"));
                return Some(true);
            }
            _ => return None,
        };
        let text = |at: usize| {
            reply.get(at).and_then(Reply::text).map(|text| String::from_utf8_lossy(text).into_owned())
        };
        match text(0).as_deref() {
            Some("subscribe") => recorder.deliver(subscriber, CHANNEL, None),
            _ => {
                let message = text(2);
                let is_last = message.as_deref() == Some(LAST);
                recorder.deliver(subscriber, CHANNEL, message);
                if is_last {
                    return Some(true);
                }
            }
        }
    }
}
