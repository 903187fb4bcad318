//! The outside of a node: where clients connect, and where it is asked how it does.
//!
//! Reading order: [`connection`] (bytes in, bytes out), [`dispatch`] (what becomes of a request), `block` (when it
//! has to wait), `outbox` (what a client is sent unasked), `limit` (how much of both it
//! may leave unread), `lobby` (who comes before the node has started), [`http`] (metrics and health).

mod block;
mod connection;
mod copies;
mod dispatch;
mod exec;
mod health;
pub mod http;
mod limit;
mod lobby;
mod outbox;
mod populate;
mod told;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use crate::config::{Config, Settings};
use crate::env::{Accepted, Env, Listener, TaskHandle};
use crate::error::text;
use crate::node::{Node, Progress, StartError, doing};
use crate::resp::{Protocol, encode};
use lobby::Lobby;

/// How long to wait when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A node that serves clients. Dropping it ends everything at once; see [`Server::stop`].
pub struct Server {
    node: Arc<Node>,
    address: String,
    _tasks: Vec<TaskHandle>,
}

impl Server {
    /// Starts a node and serves its clients.
    ///
    /// # Errors
    /// When an address cannot be listened on, or the node cannot start.
    pub async fn start(env: Env, config: &Config) -> Result<Self, StartError> {
        let listen = async |address: &str| {
            env.net.listen(address).await.map_err(doing(format!("cannot listen on {address}")))
        };
        let clients = listen(&config.listen).await?;
        let address = clients.local_address();
        let mut tasks = Vec::new();
        let health = Arc::new(health::Health::default());
        if let Some(address) = &config.http_listen {
            let listener = listen(address).await?;
            tracing::info!(address = listener.local_address(), "metrics and health checks");
            let serving =
                http::serve(env.clone(), listener, Arc::clone(&health) as Arc<dyn http::HttpSource>);
            tasks.push(env.spawner.spawn(Box::pin(serving)));
        }
        let settings = Arc::new(Settings::new(config));
        let (host, port) = address.rsplit_once(':').unwrap_or(("127.0.0.1", "6379"));
        settings.announce("port", port);
        let progress = Arc::new(Progress::default());
        let lobby = Lobby::new(env.clone(), config, Arc::clone(&settings), Arc::clone(&progress));
        let node = tokio::select! {
            biased;
            node = Node::start(env.clone(), config, settings, config.announced(&address), &progress) => node?,
            () = lobby.accept(&*clients) => unreachable!("it goes on for ever"),
        };
        health.started(Arc::clone(&node));
        let connections = lobby.open(&node);
        if let Some(address) = &config.sentinel_listen {
            let listener = listen(address).await?;
            let accepting = accept(Arc::clone(&node), listener, Vec::new(), connection::serve_as_sentinel);
            tasks.push(env.spawner.spawn(Box::pin(accepting)));
        }
        let accepting = accept(Arc::clone(&node), clients, connections, connection::serve);
        tasks.push(env.spawner.spawn(Box::pin(accepting)));
        tracing::info!("ready: redis-cli -h {host} -p {port}");
        Ok(Self { node, address, _tasks: tasks })
    }

    /// Where clients connect, `ip:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The node behind it.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Hands leadership over, finishes what is in flight, and stops.
    pub async fn stop(self) {
        self.node.stop().await;
    }
}

/// Runs a node until `shutdown` ends, then stops it cleanly.
///
/// # Errors
/// When it cannot start.
pub async fn run(env: Env, config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    tokio::pin!(shutdown);
    let server = tokio::select! {
        biased;
        () = &mut shutdown => return Ok(()),
        server = Server::start(env, &config) => server?,
    };
    tokio::select! {
        () = &mut shutdown => {}
        () = server.node().stop_requested() => {}
    }
    tracing::info!("stopping");
    server.stop().await;
    tracing::info!("stopped");
    Ok(())
}

async fn accept<S: Future<Output = ()> + Send + 'static>(
    node: Arc<Node>,
    listener: Box<dyn Listener>,
    mut connections: Vec<TaskHandle>,
    serve: fn(Arc<Node>, Accepted) -> S,
) {
    loop {
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                node.env().clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let figures = &node.metrics().hot;
        figures.connections_accepted.fetch_add(1, Ordering::Relaxed);
        if connections.len() >= 2 * node.registry().len() + 64 {
            connections.retain(|connection| !connection.is_finished());
        }
        let serving = if node.registry().len() as u64 >= node.settings().clients_max() {
            figures.connections_rejected.fetch_add(1, Ordering::Relaxed);
            node.env().spawner.spawn(Box::pin(turn_away(accepted)))
        } else {
            node.env().spawner.spawn(Box::pin(serve(Arc::clone(&node), accepted)))
        };
        connections.push(serving);
    }
}

async fn turn_away(mut accepted: Accepted) {
    let mut out = BytesMut::new();
    encode(&text::MAX_CLIENTS.into(), Protocol::Resp2, &mut out);
    // It may have gone already.
    drop(accepted.stream.write_all(&out).await);
}
