//! A subscriber of one node, which comes back whenever its connection breaks.

use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::AsyncWriteExt;

use super::Dice;
use super::check::events;
use super::client::receive;
use super::cluster::Cluster;
use super::workload::{CHANNEL, EVENTS, LAST, Shared};

/// A host that is down is asked again less and less often: then rather anew.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it takes at most until all are there again, once all is well.
pub const COMES_BACK: Duration = Duration::from_secs(2);

/// Writes down what comes, until the last message has.
pub async fn run(cluster: Cluster, shared: Shared, host: &'static str, number: u64) {
    // Each connection is a subscriber of its own: what came while there was none is not missed.
    for attempt in 0.. {
        if listen(&cluster, &shared, host, number * 1_000_000 + attempt).await == Some(true) {
            return;
        }
        let env = cluster.world().client_env();
        let pause = Duration::from_millis(50 + Dice(env.rng).below(200));
        env.clock.sleep(pause).await;
    }
}

/// Whether the last message came; nothing if the connection broke.
async fn listen(cluster: &Cluster, shared: &Shared, host: &str, subscriber: u64) -> Option<bool> {
    let env = cluster.world().client_env();
    let address = format!("{host}:6379");
    let mut stream = tokio::select! {
        biased;
        stream = env.net.connect(&address) => stream.ok()?,
        () = env.clock.sleep(PATIENCE) => return None,
    };
    let pattern = format!("{}{EVENTS}*", events::CHANNEL);
    let mut request = Vec::new();
    for words in [["PSUBSCRIBE", &pattern], ["SUBSCRIBE", CHANNEL]] {
        request.extend_from_slice(b"*2\r\n");
        words.iter().for_each(|word| request.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    }
    stream.write_all(&request).await.ok()?;
    let mut received = BytesMut::new();
    loop {
        let BytesFrame::Array(items) = receive(&mut stream, &mut received).await? else { return None };
        let texts = items.iter().map(|item| match item {
            BytesFrame::BulkString(bytes) | BytesFrame::SimpleString(bytes) => {
                std::str::from_utf8(bytes).expect("all of it is text")
            }
            _ => "",
        });
        let (channel, message) = match texts.collect::<Vec<_>>()[..] {
            ["subscribe" | "psubscribe", channel, _] => (channel, None),
            ["message", channel, message] | ["pmessage", _, channel, message] => (channel, Some(message)),
            ref other => panic!("no subscriber is told {other:?}"),
        };
        shared.recorder.deliver(env.clock.monotonic(), subscriber, channel, message.map(str::to_owned));
        if channel == CHANNEL && message == Some(LAST) {
            return Some(true);
        }
    }
}
