//! What a node takes from the world: time, chance, network, disk, tasks.
//!
//! Nothing outside this module asks the operating system for any of these, and clippy's
//! `disallowed-methods` says so at compile time. The same server code therefore runs on a real
//! machine ([`real`]) and, many nodes at a time, inside one paused tokio runtime (`sim`), where a
//! seed decides everything that chance decides here.
//!
//! The traits are object safe on purpose: an [`Env`] is a handful of `Arc`s, so no type in the
//! project is generic over "the world". The cost is one indirect call beside each system call.

pub mod observer;
pub mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use observer::{Observer, Sight};

/// A boxed future, as object-safe traits must return them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything a node may use of the world. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub net: Arc<dyn Net>,
    pub disk: Arc<dyn Disk>,
    pub spawner: Arc<dyn Spawner>,
    /// Who looks on, in a simulated world.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Env {
    /// Tells whoever looks on.
    pub fn saw(&self, sight: impl FnOnce() -> Sight) {
        if let Some(observer) = &self.observer {
            observer.saw(&sight());
        }
    }
}

/// Time. Monotonic for everything that measures; the wall clock only to convert absolute times.
pub trait Clock: Send + Sync {
    /// Time since a fixed but unknown moment; never goes back, does not jump.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since the Unix epoch, as the operator set them. May jump either way.
    fn wall_ms(&self) -> u64;
    /// Completes `duration` from now, within about a millisecond.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Completes `duration` from now, within some tens of microseconds. Dearer than [`Clock::sleep`].
    fn sleep_precise(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Chance.
pub trait Rng: Send + Sync {
    /// A uniformly distributed number.
    fn next_u64(&self) -> u64;

    /// Fills `bytes` with what nobody can guess who has seen all the rest, for passwords.
    ///
    /// # Errors
    /// The system gives none.
    fn fill_secret(&self, bytes: &mut [u8]) -> io::Result<()> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A byte stream to somewhere: a TCP connection, or a simulated one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// A [`Stream`] of either kind.
pub type BoxStream = Box<dyn Stream>;

/// The network.
pub trait Net: Send + Sync {
    /// Listens on `address` (`host:port`; port 0 picks a free one).
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
    /// Connects to `address` (`host:port`).
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;
    /// The same, for small messages: the connection breaks when the other side's system has not confirmed, or had no room
    /// for, what was sent, for as long as `limit`, where a network would go on trying by itself for long.
    fn connect_briefly<'a>(
        &'a self,
        address: &'a str,
        limit: Duration,
    ) -> BoxFuture<'a, io::Result<BoxStream>> {
        let _ = limit;
        self.connect(address)
    }
}

/// An accepted connection and where it came from.
pub struct Accepted {
    pub stream: BoxStream,
    /// `ip:port` of the other side.
    pub peer: String,
    /// `ip:port` of our side.
    pub local: String,
}

/// A listening socket.
pub trait Listener: Send + Sync {
    /// The next connection.
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>>;
    /// The address really listened on, `ip:port`.
    fn local_address(&self) -> String;
}

/// Files and directories. Blocking; callers are threads or workers of their own, or start-up code.
pub trait Disk: Send + Sync {
    /// Creates `path` and its parents, and syncs the parent of each directory created.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Creates a file that must not exist yet, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Renames atomically. Durable only after [`Disk::sync_dir`] of the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file, or a directory with all it holds.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a file of these bytes at `path`, durably, in place of any that was there: a crash leaves the one
    /// or the other.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = path.with_added_extension("new");
        if self.exists(&aside) {
            self.remove(&aside)?;
        }
        let file = self.create(&aside)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        self.rename(&aside, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        self.sync_dir(dir.unwrap_or(Path::new(".")))
    }
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether there is anything at `path`.
    fn exists(&self, path: &Path) -> bool;
    /// Makes creations, renames and unlinks in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes an unprivileged process may still write below `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the exclusive lock file `path`, held until the answer is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
    /// The directory through which LMDB, which cannot be given a [`Disk`], reaches the same files;
    /// `None` where there is no such thing and an ordered map takes LMDB's place.
    fn lmdb_path(&self, path: &Path) -> Option<std::path::PathBuf>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file if need be.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, where a log ends: whatever stood behind them, up to the next block of the disk,
    /// may be zeros afterwards. Bytes that will hardly be read again go past the system's cache where that is possible.
    fn append_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }
    /// Makes written bytes durable, and the length if it changed.
    fn sync(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) to `length`.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A held lock file.
pub trait DirLock: Send + Sync {}

/// Tasks and workers.
pub trait Spawner: Send + Sync {
    /// Runs `task` beside everything else.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle;
    /// Starts a worker that may block: it calls `round` once for each time it was woken (wakes while
    /// a round runs count as one), and ends when `round` says so or the handle is dropped.
    ///
    /// On a real machine this is a thread of its own. In the simulator it is a task, each of whose
    /// rounds takes simulated time.
    fn worker(&self, name: &str, round: Box<dyn FnMut() -> Round + Send>) -> WorkerHandle;
    /// Runs something long away from the tasks, and hands back what it returned.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
    /// Ends the process at once, after a failure that must not be survived (see [`Exit`]).
    /// In the simulator this crashes the node.
    fn exit(&self, reason: Exit) -> !;
}

/// What a worker's round asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Call again at the next wake.
    Again,
    /// Done for good.
    End,
}

/// Stops its task when dropped, unless [`TaskHandle::detach`]ed.
pub struct TaskHandle {
    abort: Option<tokio::task::AbortHandle>,
}

impl TaskHandle {
    /// Wraps a tokio task.
    #[must_use]
    pub fn new(abort: tokio::task::AbortHandle) -> Self {
        Self { abort: Some(abort) }
    }

    /// Lets the task run on by itself.
    pub fn detach(mut self) {
        self.abort = None;
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.abort.as_ref().is_none_or(tokio::task::AbortHandle::is_finished)
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        if let Some(abort) = self.abort.take() {
            abort.abort();
        }
    }
}

/// Wakes a worker; the worker ends after its current round when the last clone is dropped.
#[derive(Clone)]
pub struct WorkerHandle(pub Arc<dyn Wake>);

/// The waking end of a worker.
pub trait Wake: Send + Sync {
    /// Asks for one more round.
    fn wake(&self);
}

impl WorkerHandle {
    /// Asks for one more round.
    pub fn wake(&self) {
        self.0.wake();
    }
}

/// Why a node stops itself. The discriminants are the process' exit codes, which supervisors and
/// the fault campaigns tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Exit {
    /// A write or sync of the log failed, or it cannot be read. The disk's state is unknown, so it is never retried.
    LogFailed = 70,
    /// The state's store failed or a checksum did not match.
    StoreFailed = 71,
    /// Consensus stopped on an error of its own.
    RaftFailed = 72,
    /// The cluster has taken this node out.
    Forgotten = 73,
}
