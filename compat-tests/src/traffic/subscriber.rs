//! A subscriber of one node, which comes back whenever its connection breaks.

use std::net::SocketAddr;
use std::time::Duration;

use quorate::sim::check::events;
use quorate::sim::check::history::Delivery;

use super::recorder::Recorder;
use crate::POLL;
use crate::client::{Connection, is_silence};
use crate::reply::Reply;

/// Where the messages are published.
pub(super) const CHANNEL: &str = "news";

/// How the last message of a generation ends: whoever gets it has got everything.
pub(super) const LAST: &str = ".end";
/// How the last message of all ends.
pub(super) const OVER: &str = ".over";

/// The kinds of keys whose events are listened to.
pub(super) const EVENTFUL: [&str; 2] = ["lease:", "event:"];

/// A node that says nothing for so long while all others are talked to is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes down what comes, until the last message of all has.
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
    let patterns = EVENTFUL.map(|kind| format!("{}{kind}*", events::CHANNEL));
    connection.send(&["PSUBSCRIBE", &patterns[0], &patterns[1]]).ok()?;
    connection.send(&["SUBSCRIBE", CHANNEL]).ok()?;
    let mut is_confirmed = false;
    loop {
        let reply = match connection.receive() {
            Ok(Reply::Array(items)) => items,
            Err(error) if is_silence(&error) => {
                recorder.be_surprised(format!("{node} tells a subscriber nothing"));
                return Some(true);
            }
            _ => return None,
        };
        let ns = recorder.now();
        let text = |back: usize| {
            let item = reply.len().checked_sub(back).and_then(|at| reply.get(at)?.text());
            item.map(|text| String::from_utf8_lossy(text).into_owned())
        };
        match reply.first().and_then(Reply::text) {
            Some(b"psubscribe") => {}
            // The last of the three.
            Some(b"subscribe") => {
                is_confirmed = true;
                recorder.heard().confirmed.insert(subscriber, ns);
            }
            // What comes of one subscription before the others are confirmed is nobody's business.
            _ if !is_confirmed => {}
            _ => {
                let (channel, message) = (text(2)?, text(1)?);
                let is_last = message.ends_with(OVER);
                match generation_of(&channel, &message) {
                    Some(generation) => {
                        let delivery = Delivery { ns, subscriber, channel, message: Some(message) };
                        recorder.heard().deliveries.push((generation, delivery));
                    }
                    None => recorder.be_surprised(format!("nobody has to do with {message} in {channel}")),
                }
                if is_last {
                    return Some(true);
                }
            }
        }
    }
}

/// Messages begin with their generation; in keys it stands behind their kind.
fn generation_of(channel: &str, message: &str) -> Option<u64> {
    match channel.strip_prefix(events::CHANNEL) {
        Some(key) => key.split(':').nth(1)?.parse().ok(),
        None => message.split('.').next()?.parse().ok(),
    }
}
