//! What the case runner talks to: the node of this thread's stage, in its time.

use std::cell::RefCell;
use std::io::{self, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::reply::Reply;
use crate::config::Config;
use crate::env::sim::World;
use crate::env::{BoxStream, Env};
use crate::node::Node;
use crate::pubsub::Subscriber;
use crate::server::Server;
use crate::session::Filter;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where the node's clients connect. Hosts have addresses for names here, as commands show them.
const NODE: &str = "10.0.0.1:6379";

/// One node in a world of its own, which stands still while nobody waits for it.
struct Stage {
    runtime: Runtime,
    /// Of the host that the clients are on.
    env: Env,
    node: Arc<Node>,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// Starts a node for this thread, and gives the address its clients connect to.
pub fn start() -> SocketAddr {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("it needs nothing of the system");
    let (env, node) = runtime.block_on(async {
        let world = World::new(1);
        let host = world.node("10.0.0.1");
        let spawner = Arc::clone(&host.spawner);
        let (started, server) = oneshot::channel();
        let serving = async move {
            let config = Config::of(&[("data", "data"), ("listen", NODE), ("enable-debug-command", "yes")])
                .expect("these fit");
            let server = Server::start(host, &config).await.expect("nothing is wrong");
            drop(started.send(Arc::clone(server.node())));
            std::future::pending::<()>().await;
        };
        spawner.spawn(Box::pin(serving)).detach();
        (world.node("10.0.0.9"), server.await.expect("it starts"))
    });
    STAGE.set(Some(Stage { runtime, env, node }));
    NODE.parse().expect("an address")
}

/// Lets the world run until `wait` ends.
fn run<T>(wait: impl AsyncFnOnce(Env) -> T) -> T {
    STAGE.with_borrow(|stage| {
        let stage = stage.as_ref().expect("the stage is set first");
        stage.runtime.block_on(wait(stage.env.clone()))
    })
}

/// Unix time in milliseconds, as the server has it too.
pub fn wall_ms() -> i64 {
    run(async |env| env.clock.wall_ms()) as i64
}

/// Lets time pass.
pub fn pause(time: Duration) {
    run(async |env| env.clock.sleep(time).await);
}

/// A connection to the node.
pub struct Connection {
    wire: BufReader<Wire>,
    local: SocketAddr,
    server: SocketAddr,
}

struct Wire(BoxStream);

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        run(async |env| {
            tokio::select! {
                biased;
                read = self.0.read(into) => read,
                () = env.clock.sleep(PATIENCE) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

impl Connection {
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        let registry = STAGE
            .with_borrow(|stage| Arc::clone(stage.as_ref().expect("the stage is set first").node.registry()));
        let newest = || registry.find(&Filter::default()).pop();
        let known = newest().map_or(0, |client| client.id());
        let (stream, client) = run(async |env| {
            let stream = env.net.connect(&server.to_string()).await?;
            loop {
                match newest().filter(|client| client.id() > known) {
                    Some(client) => return io::Result::Ok((stream, client)),
                    None => env.clock.sleep(Duration::from_millis(1)).await,
                }
            }
        })?;
        let local = client.address().parse().map_err(io::Error::other)?;
        Ok(Self { wire: BufReader::new(Wire(stream)), local, server })
    }

    pub const fn server(&self) -> SocketAddr {
        self.server
    }

    /// The client's end, as the node names it: a simulated wire does not know.
    pub const fn local(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    pub fn call(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    pub fn send(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut wire = Vec::new();
        write!(wire, "*{}\r\n", words.len())?;
        for word in words.iter().map(AsRef::as_ref) {
            write!(wire, "${}\r\n", word.len())?;
            wire.extend_from_slice(word);
            wire.extend_from_slice(b"\r\n");
        }
        self.send_raw(&wire)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = &mut self.wire.get_mut().0;
        run(async |_| stream.write_all(bytes).await)
    }

    pub fn receive(&mut self) -> io::Result<Reply> {
        Reply::read(&mut self.wire)
    }

    pub fn is_closed(&mut self) -> bool {
        match self.wire.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::TimedOut,
        }
    }
}
