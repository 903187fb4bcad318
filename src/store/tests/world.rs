//! A world for one store: a disk that can lose power, and a worker that runs when a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::env::{
    BoxFuture, BoxStream, Clock, DirLock, Disk, Env, Exit, File, Listener, Net, Rng, Round, Spawner,
    TaskHandle, Wake, WorkerHandle,
};
use crate::error::StoreError;
use crate::store::{Opened, Options, Store, lock};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Lmdb,
    Map,
}

pub const KINDS: [Kind; 2] = [Kind::Lmdb, Kind::Map];

/// One disk, and how often it may still be written to before the power goes.
pub struct World {
    pub disk: Arc<TestDisk>,
    pub clock: Arc<TestClock>,
    workers: Arc<TestSpawner>,
    env: Env,
}

impl World {
    pub fn new(kind: Kind) -> Self {
        let disk = Arc::new(TestDisk::new(kind));
        let clock = Arc::new(TestClock::default());
        let workers = Arc::new(TestSpawner::default());
        let env = Env {
            clock: clock.clone(),
            rng: Arc::new(Nothing),
            net: Arc::new(Nothing),
            disk: disk.clone(),
            spawner: workers.clone(),
            observer: None,
        };
        Self { disk, clock, workers, env }
    }

    pub fn open(&self) -> (Arc<Store>, Opened) {
        self.try_open().expect("the state opens")
    }

    pub fn try_open(&self) -> Result<(Arc<Store>, Opened), StoreError> {
        let options = Options { buffer_bytes_max: 64 << 10, map_bytes: 1 << 30, ..Options::default() };
        Store::open(&self.env, &self.path("state"), options)
    }

    /// A path on the world's disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.disk.root.path().join(name)
    }

    /// Lets the workers do what they were woken for.
    pub fn work(&self) {
        let mut rounds = std::mem::take(&mut *lock(&self.workers.rounds));
        rounds.retain_mut(|round| round() == Round::Again);
        lock(&self.workers.rounds).append(&mut rounds);
    }

    /// The disk fails after this many more changes, as if the machine had stopped there.
    pub fn stop_after(&self, changes: i64) {
        self.disk.budget.store(changes, Ordering::SeqCst);
    }

    /// Whether the disk has failed.
    pub fn stopped(&self) -> bool {
        self.disk.budget.load(Ordering::SeqCst) < 0
    }

    /// Power is back: what was not synced is gone, if `lose` says so and the disk can.
    pub fn restart(&self, lose: bool) {
        if lose {
            lock(&self.disk.memory).lose_power();
        }
        self.stop_after(i64::MAX);
    }
}

#[derive(Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
    fn wall_ms(&self) -> u64 {
        0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
    fn sleep_precise(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep(duration)
    }
}

#[derive(Default)]
struct TestSpawner {
    rounds: Mutex<Vec<Box<dyn FnMut() -> Round + Send>>>,
}

impl Spawner for TestSpawner {
    fn spawn(&self, _: BoxFuture<'static, ()>) -> TaskHandle {
        unreachable!("a store has no tasks")
    }
    fn worker(&self, _: &str, round: Box<dyn FnMut() -> Round + Send>) -> WorkerHandle {
        lock(&self.rounds).push(round);
        WorkerHandle(Arc::new(Nothing))
    }
    fn blocking(&self, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        unreachable!("a store has no tasks")
    }
    fn exit(&self, reason: Exit) -> ! {
        panic!("the node stops: {reason:?}")
    }
}

/// What a store does not use.
struct Nothing;

impl Wake for Nothing {
    fn wake(&self) {}
}

impl Rng for Nothing {
    fn next_u64(&self) -> u64 {
        7
    }
}

impl Net for Nothing {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        unreachable!("a store has no network")
    }
    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        unreachable!("a store has no network")
    }
}

impl DirLock for Nothing {}

/// For LMDB, real files below a temporary directory; for the map, files in memory of which the synced
/// part is known.
pub struct TestDisk {
    pub kind: Kind,
    root: tempfile::TempDir,
    memory: Arc<Mutex<Memory>>,
    budget: Arc<AtomicI64>,
}

/// Files and names, each as it is and as it would be after a power cut.
#[derive(Default)]
struct Memory {
    files: Vec<(Vec<u8>, Vec<u8>)>,
    names: BTreeMap<PathBuf, Node>,
    synced_names: BTreeMap<PathBuf, Node>,
}

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Directory,
    File(usize),
}

impl Memory {
    fn lose_power(&mut self) {
        self.names = self.synced_names.clone();
        for (now, synced) in &mut self.files {
            now.clone_from(synced);
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl TestDisk {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            root: tempfile::tempdir().expect("a temporary directory"),
            memory: Arc::default(),
            budget: Arc::new(AtomicI64::new(i64::MAX)),
        }
    }

    fn is_real(&self) -> bool {
        self.kind == Kind::Lmdb
    }

    /// Every change asks first.
    fn change(&self) -> io::Result<()> {
        change(&self.budget)
    }

    /// Changes bytes of a file behind everybody's back; says whether it held `find`.
    pub fn corrupt(&self, path: &Path, find: &[u8], replace: &[u8]) -> bool {
        let corrupted = |bytes: &mut Vec<u8>| {
            let at: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(find)).collect();
            for at in &at {
                bytes[*at..*at + replace.len()].copy_from_slice(replace);
            }
            !at.is_empty()
        };
        if self.is_real() {
            let mut bytes = std::fs::read(path).expect("the file is there");
            let found = corrupted(&mut bytes);
            // In place: the file may be mapped.
            let file = std::fs::File::options().write(true).open(path).expect("the file is there");
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("written");
            found
        } else {
            let mut memory = lock(&self.memory);
            let file = memory.file(path).expect("the file is there");
            corrupted(&mut memory.files[file].0)
        }
    }
}

fn change(budget: &AtomicI64) -> io::Result<()> {
    if budget.fetch_sub(1, Ordering::SeqCst) > 0 {
        return Ok(());
    }
    budget.store(-1, Ordering::SeqCst);
    Err(io::Error::other("the power is gone"))
}

impl Disk for TestDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        if self.is_real() {
            return std::fs::create_dir_all(path);
        }
        let mut memory = lock(&self.memory);
        memory.names.insert(path.to_owned(), Node::Directory);
        memory.synced_names.insert(path.to_owned(), Node::Directory);
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let budget = self.budget.clone();
        if self.is_real() {
            let file = std::fs::File::options().read(true).write(true).open(path)?;
            return Ok(Box::new(RealFile { file, budget }));
        }
        let file = lock(&self.memory).file(path)?;
        Ok(Box::new(MemoryFile { memory: self.memory.clone(), file, budget }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.change()?;
        if self.is_real() {
            std::fs::File::create_new(path)?;
        } else {
            let mut memory = lock(&self.memory);
            memory.files.push(Default::default());
            let file = memory.files.len() - 1;
            if memory.names.insert(path.to_owned(), Node::File(file)).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        if self.is_real() {
            return std::fs::rename(from, to);
        }
        let mut memory = lock(&self.memory);
        let node = memory.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        memory.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        if self.is_real() {
            return if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        let mut memory = lock(&self.memory);
        let before = memory.names.len();
        memory.names.retain(|name, _| !name.starts_with(path));
        if memory.names.len() == before { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        let names: BTreeSet<String> = if self.is_real() {
            std::fs::read_dir(dir)?.map(|entry| Ok(name(&entry?.path()))).collect::<io::Result<_>>()?
        } else {
            let memory = lock(&self.memory);
            memory.names.keys().filter(|path| path.parent() == Some(dir)).map(|path| name(path)).collect()
        };
        Ok(names.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        if self.is_real() { path.exists() } else { lock(&self.memory).names.contains_key(path) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change()?;
        if !self.is_real() {
            let mut memory = lock(&self.memory);
            let inside = |path: &PathBuf| path.parent() == Some(dir);
            let now: Vec<_> =
                memory.names.iter().filter(|(path, _)| inside(path)).map(|(p, n)| (p.clone(), *n)).collect();
            let kept: BTreeSet<&PathBuf> = now.iter().map(|(path, _)| path).collect();
            let gone: Vec<PathBuf> = memory
                .synced_names
                .keys()
                .filter(|path| inside(path) && !kept.contains(path))
                .cloned()
                .collect();
            for path in gone {
                memory.synced_names.retain(|name, _| !name.starts_with(&path));
            }
            memory.synced_names.extend(now);
        }
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn DirLock>> {
        Ok(Box::new(Nothing))
    }

    fn lmdb_path(&self, path: &Path) -> Option<PathBuf> {
        self.is_real().then(|| path.to_owned())
    }
}

struct RealFile {
    file: std::fs::File,
    budget: Arc<AtomicI64>,
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        change(&self.budget)?;
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        change(&self.budget)?;
        self.file.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        change(&self.budget)?;
        self.file.set_len(length)
    }
}

struct MemoryFile {
    memory: Arc<Mutex<Memory>>,
    file: usize,
    budget: Arc<AtomicI64>,
}

impl MemoryFile {
    fn with<T>(&self, f: impl FnOnce(&mut (Vec<u8>, Vec<u8>)) -> T) -> T {
        f(&mut lock(&self.memory).files[self.file])
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range = offset as usize..offset as usize + buffer.len();
        self.with(|(now, _)| {
            buffer.copy_from_slice(now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        change(&self.budget)?;
        let end = offset as usize + bytes.len();
        self.with(|(now, _)| {
            now.resize(now.len().max(end), 0);
            now[offset as usize..end].copy_from_slice(bytes);
        });
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        change(&self.budget)?;
        self.with(|(now, synced)| synced.clone_from(now));
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|(now, _)| now.len() as u64))
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        change(&self.budget)?;
        self.with(|(now, _)| now.resize(length as usize, 0));
        Ok(())
    }
}
