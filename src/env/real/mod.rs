//! The real machine.

#![allow(clippy::disallowed_methods)] // This is where the system is asked.

mod direct;
mod timers;

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpStream};

use direct::Direct;
use timers::Timers;

use super::{
    Accepted, BoxFuture, BoxStream, Clock, DirLock, Disk, Env, Exit, File, Listener, Net, Rng, Round,
    Spawner, TaskHandle, Wake, WorkerHandle,
};

/// The world as it is. Must be called inside a tokio runtime.
///
/// # Errors
/// When the system gives no randomness or no timer.
pub fn env() -> io::Result<Env> {
    Ok(Env {
        clock: Arc::new(SystemClock { start: Instant::now(), timers: Timers::default() }),
        rng: Arc::new(SeededRng::new(system_seed()?)),
        net: Arc::new(Tcp),
        disk: Arc::new(LocalDisk),
        spawner: Arc::new(Tokio { runtime: tokio::runtime::Handle::current() }),
        observer: None,
    })
}

fn system_seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

struct SystemClock {
    start: Instant,
    timers: Timers,
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn sleep_precise(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let timers = self.timers.clone();
        Box::pin(async move {
            // Where the system refuses one, tokio's coarse timer is still right, only later.
            if timers.wait(duration).await.is_err() {
                tokio::time::sleep(duration).await;
            }
        })
    }
}

/// SplitMix64 over a shared counter: plenty for ids and jitter, and never a lock.
pub(super) struct SeededRng(AtomicU64);

impl SeededRng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill_secret(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)
    }
}

struct Tcp;

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Net for Tcp {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener: Box<dyn Listener> = Box::new(TcpListening(TcpListener::bind(address).await?));
            Ok(listener)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move { Ok(Box::new(connect(address).await?) as BoxStream) })
    }

    fn connect_briefly<'a>(
        &'a self,
        address: &'a str,
        limit: Duration,
    ) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = connect(address).await?;
            let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
            rustix::net::sockopt::set_tcp_user_timeout(&stream, limit_ms)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

struct TcpListening(TcpListener);

impl Listener for TcpListening {
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?.to_string();
            Ok(Accepted { stream: Box::new(stream), peer: peer.to_string(), local })
        })
    }

    fn local_address(&self) -> String {
        self.0.local_addr().map(|address| address.to_string()).unwrap_or_default()
    }
}

struct LocalDisk;

impl Disk for LocalDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        self.create_dir_all(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        self.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(LocalFile::new(fs::File::options().read(true).write(true).open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(LocalFile::new(fs::File::options().read(true).write(true).create_new(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(LockFile { _held: file }))
    }

    fn lmdb_path(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

struct LockFile {
    _held: fs::File,
}

impl DirLock for LockFile {}

struct LocalFile {
    file: fs::File,
    /// The way past the cache, once it was asked for; `None` in it where there is none.
    direct: Mutex<OnceCell<Option<Direct>>>,
}

impl LocalFile {
    fn new(file: fs::File) -> Self {
        Self { file, direct: Mutex::default() }
    }
}

impl File for LocalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn append_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut way = self.direct.lock().expect("no holder panics");
        way.get_or_init(|| Direct::open(&self.file));
        let Some(direct) = way.get_mut().and_then(Option::as_mut) else {
            return self.write_at(bytes, offset);
        };
        match direct.append(&self.file, bytes, offset) {
            // The file system has said that there is a way, but not for blocks of this size.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                *way = OnceCell::from(None);
                self.write_at(bytes, offset)
            }
            result => result,
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

struct Tokio {
    runtime: tokio::runtime::Handle,
}

impl Spawner for Tokio {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(self.runtime.spawn(task).abort_handle())
    }

    fn worker(&self, name: &str, mut round: Box<dyn FnMut() -> Round + Send>) -> WorkerHandle {
        let bell = Arc::new(Bell::default());
        let heard = Arc::clone(&bell);
        let worker = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while heard.wait() {
                    if round() == Round::End {
                        break;
                    }
                }
            })
            .expect("the system refuses a thread at start-up");
        WorkerHandle(Arc::new(BellRope { bell, worker: worker.thread().clone() }))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = self.runtime.spawn_blocking(work);
        Box::pin(async move {
            // Cancelled only when the runtime itself ends.
            drop(task.await);
        })
    }

    fn exit(&self, reason: Exit) -> ! {
        tracing::error!(?reason, code = reason as i32, "the node stops itself");
        std::process::exit(reason as i32)
    }
}

/// Wakes a worker's thread. Wakes while it is awake are remembered as one.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    /// Set when there is nobody left to ring it.
    closed: AtomicBool,
}

impl Bell {
    /// Blocks the worker's thread until rung; `false` once there is nobody left to ring it.
    fn wait(&self) -> bool {
        loop {
            // Looked at first: who closes the bell may have rung it the moment before.
            let closed = self.closed.load(Ordering::Acquire);
            if self.rung.swap(false, Ordering::AcqRel) {
                return true;
            }
            if closed {
                return false;
            }
            thread::park();
        }
    }
}

/// The ringing end; closes the bell when the last clone goes.
struct BellRope {
    bell: Arc<Bell>,
    worker: Thread,
}

impl Wake for BellRope {
    fn wake(&self) {
        if !self.bell.rung.swap(true, Ordering::AcqRel) {
            self.worker.unpark();
        }
    }
}

impl Drop for BellRope {
    fn drop(&mut self) {
        self.bell.closed.store(true, Ordering::Release);
        self.worker.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_is_rung_and_let_go_has_its_round() {
        let spawner = Tokio { runtime: tokio::runtime::Handle::current() };
        for number in 0..2_000 {
            let (sender, rounds) = std::sync::mpsc::channel();
            let round = move || {
                sender.send(()).expect("the test listens");
                Round::Again
            };
            let worker = spawner.worker("rung", Box::new(round));
            worker.wake();
            drop(worker);
            assert_eq!(rounds.recv(), Ok(()), "worker {number} ended without its round");
        }
    }
}
