//! A host's disk: names in memory, as the node sees them and as a power cut leaves them.
//!
//! Names (creations, renames, unlinks) form one queue, as in a file system's journal. A directory's
//! sync applies those that touch the directory, and what they build upon; a power cut keeps a random
//! beginning of the rest. A file that was synced in a directory that was not may therefore be gone:
//! stricter than ext4, as POSIX allows. What files hold is the business of [`Content`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::content::Content;
use super::host::Member;
use crate::env::real::SeededRng;
use crate::env::{DirLock, Disk, File, Rng};

/// Linux's numbers, which the node may tell apart by kind.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[derive(Clone)]
enum Entry {
    Directory,
    File(Arc<Mutex<Content>>),
}

fn content(file: &Mutex<Content>) -> MutexGuard<'_, Content> {
    file.lock().expect("no holder panics")
}

type Names = BTreeMap<PathBuf, Entry>;

/// A change of names: what each path means from then on.
struct Renaming {
    changes: Vec<(PathBuf, Option<Entry>)>,
}

impl Renaming {
    fn apply(&self, names: &mut Names) {
        for (path, entry) in &self.changes {
            match entry {
                Some(entry) => names.insert(path.clone(), entry.clone()),
                None => names.remove(path),
            };
        }
    }

    fn touches(&self, directory: &Path) -> bool {
        self.changes.iter().any(|(path, _)| path.parent() == Some(directory))
    }
}

/// What stays when the node goes.
pub(super) struct Platter {
    rng: SeededRng,
    /// Where real LMDB files are, if there are any.
    lmdb: Option<PathBuf>,
    state: Mutex<State>,
}

/// How often a disk failed its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// Syncs that failed.
    pub syncs: u64,
    /// Whatever found no room.
    pub refusals: u64,
    /// Changes at which the power went.
    pub power_cuts: u64,
}

struct State {
    names: Names,
    durable: Names,
    /// What `durable` lacks, in order.
    journal: Vec<Renaming>,
    locks: BTreeMap<PathBuf, u64>,
    locked: u64,
    syncs: u64,
    struck: Struck,
    capacity: u64,
    full: bool,
    /// Counts down to the sync that fails.
    sync_fails_in: Option<u64>,
    /// Counts down to the change at which the power goes.
    power_cut_in: Option<u64>,
}

impl Platter {
    pub(super) fn new(seed: u64, lmdb: Option<PathBuf>) -> Arc<Self> {
        let state = State {
            names: Names::new(),
            durable: Names::new(),
            journal: Vec::new(),
            locks: BTreeMap::new(),
            locked: 0,
            syncs: 0,
            struck: Struck::default(),
            capacity: 64 << 30,
            full: false,
            sync_fails_in: None,
            power_cut_in: None,
        };
        Arc::new(Self { rng: SeededRng::new(seed), lmdb, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    pub(super) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub(super) fn struck(&self) -> Struck {
        self.state().struck
    }

    pub(super) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    pub(super) fn fail_nth_sync(&self, nth: u64) {
        self.state().sync_fails_in = Some(nth);
    }

    pub(super) fn cut_power_at_change(&self, nth: u64) {
        self.state().power_cut_in = Some(nth);
    }

    /// What has not struck yet does not.
    pub(super) fn mend(&self) {
        let mut state = self.state();
        (state.sync_fails_in, state.power_cut_in) = (None, None);
    }

    #[allow(clippy::disallowed_methods)] // LMDB's files are real.
    fn remove_real(&self, path: &Path) {
        if let Some(root) = &self.lmdb {
            // Mostly there is none.
            let _ = std::fs::remove_dir_all(root.join(path));
        }
    }

    /// Puts an empty disk in this one's place.
    pub(super) fn replace(&self) {
        let mut state = self.state();
        for path in state.names.keys() {
            self.remove_real(path);
        }
        state.names.clear();
        state.durable.clear();
        state.journal.clear();
        state.locks.clear();
        state.sync_fails_in = None;
        state.power_cut_in = None;
    }

    pub(super) fn crash(&self) {
        let mut state = self.state();
        let State { names, durable, journal, .. } = &mut *state;
        let kept = self.rng.next_u64() % (journal.len() as u64 + 1);
        for renaming in journal.drain(..).take(usize::try_from(kept).expect("no longer than the queue")) {
            renaming.apply(durable);
        }
        // What was made durable inside a directory that was not is out of reach.
        while let Some(lost) = durable.keys().find(|path| !has_parent(durable, path)).cloned() {
            durable.remove(&lost);
        }
        for gone in names.keys().filter(|path| !durable.contains_key(*path)) {
            self.remove_real(gone);
        }
        *names = durable.clone();
        for entry in names.values() {
            if let Entry::File(file) = entry {
                content(file).crash(&self.rng);
            }
        }
        state.locks.clear();
        state.sync_fails_in = None;
        state.power_cut_in = None;
    }
}

/// Counts one down; says whether that was the one.
fn strikes(count: &mut Option<u64>) -> bool {
    let Some(left) = count else { return false };
    *left = left.saturating_sub(1);
    let now = *left == 0;
    if now {
        *count = None;
    }
    now
}

impl State {
    fn rename(&mut self, changes: Vec<(PathBuf, Option<Entry>)>) {
        let renaming = Renaming { changes };
        renaming.apply(&mut self.names);
        self.journal.push(renaming);
    }

    /// Applies what touches `directory`, and what that builds upon.
    fn sync_names(&mut self, directory: &Path) {
        let mut paths = BTreeSet::new();
        let mut now = Vec::new();
        let mut later = Vec::new();
        for renaming in self.journal.drain(..).rev() {
            let built_upon = renaming.changes.iter().any(|(path, _)| paths.contains(path));
            if built_upon || renaming.touches(directory) {
                paths.extend(renaming.changes.iter().map(|(path, _)| path.clone()));
                now.push(renaming);
            } else {
                later.push(renaming);
            }
        }
        now.iter().rev().for_each(|renaming| renaming.apply(&mut self.durable));
        later.reverse();
        self.journal = later;
    }

    fn no_space(&mut self) -> io::Error {
        self.struck.refusals += 1;
        io::Error::from_raw_os_error(ENOSPC)
    }

    fn check_free(&mut self, path: &Path) -> io::Result<()> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !has_parent(&self.names, path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.full {
            return Err(self.no_space());
        }
        Ok(())
    }

    /// `path` and everything below it.
    fn tree(&self, path: &Path) -> io::Result<Vec<(PathBuf, Entry)>> {
        let below =
            |(name, entry): (&PathBuf, &Entry)| name.starts_with(path).then(|| (name.clone(), entry.clone()));
        let tree: Vec<_> = self.names.iter().filter_map(below).collect();
        if tree.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(tree) }
    }

    fn free(&self) -> u64 {
        let used = |entry: &Entry| match entry {
            Entry::File(file) => content(file).length,
            Entry::Directory => 0,
        };
        if self.full { 0 } else { self.capacity.saturating_sub(self.names.values().map(used).sum()) }
    }
}

/// Paths without `.`; the root and the working directory are always there.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

fn is_directory(names: &Names, path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/") || matches!(names.get(path), Some(Entry::Directory))
}

fn has_parent(names: &Names, path: &Path) -> bool {
    path.parent().is_some_and(|parent| is_directory(names, parent))
}

/// A life's access to its host's disk.
#[derive(Clone)]
pub(super) struct HostDisk {
    pub(super) member: Member,
    pub(super) platter: Arc<Platter>,
}

impl HostDisk {
    /// A ghost must not touch what the next life reads.
    fn check_alive(&self) -> io::Result<()> {
        if self.member.life.is_dead() {
            return Err(io::Error::other("the host has crashed"));
        }
        Ok(())
    }

    /// Called after each change, which may be the last before the power goes.
    fn changed(&self) {
        let cut = strikes(&mut self.platter.state().power_cut_in);
        if cut {
            self.platter.state().struck.power_cuts += 1;
            self.member.stop(None);
        }
    }

    /// Called before each sync: one at which the power goes has no effect.
    fn syncing(&self) -> io::Result<()> {
        self.changed();
        let fails = strikes(&mut self.platter.state().sync_fails_in);
        if fails {
            self.platter.state().struck.syncs += 1;
            self.member.world.agenda().trace("failed sync", &self.member.life.host, 0);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }
}

impl Disk for HostDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check_alive()?;
        let path = clean(path);
        let mut missing: Vec<&Path> = Vec::new();
        for directory in path.ancestors() {
            let state = self.platter.state();
            if is_directory(&state.names, directory) {
                break;
            }
            if state.names.contains_key(directory) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            missing.push(directory);
        }
        for directory in missing.into_iter().rev() {
            self.platter.state().rename(vec![(directory.to_owned(), Some(Entry::Directory))]);
            self.changed();
            self.sync_dir(directory.parent().unwrap_or(Path::new("")))?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.check_alive()?;
        match self.platter.state().names.get(&clean(path)) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Entry::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Entry::File(file)) => {
                Ok(Box::new(HostFile { disk: self.clone(), content: Arc::clone(file) }))
            }
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.check_alive()?;
        let path = clean(path);
        let file = Arc::new(Mutex::new(Content::default()));
        let mut state = self.platter.state();
        state.check_free(&path)?;
        state.rename(vec![(path, Some(Entry::File(Arc::clone(&file))))]);
        drop(state);
        self.changed();
        Ok(Box::new(HostFile { disk: self.clone(), content: file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_alive()?;
        let (from, to) = (clean(from), clean(to));
        let mut state = self.platter.state();
        let tree = state.tree(&from)?;
        if !has_parent(&state.names, &to) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let replaces = matches!(state.tree(&to).as_deref(), Ok([_, _, ..]));
        if replaces && from != to {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let gone = tree.iter().map(|(path, _)| (path.clone(), None));
        let moved = tree.iter().map(|(path, entry)| {
            let below = path.strip_prefix(&from).expect("the tree lies below");
            // Joining an empty path would add a slash.
            let path = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
            (path, Some(entry.clone()))
        });
        let changes = gone.chain(moved).collect();
        state.rename(changes);
        drop(state);
        self.changed();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check_alive()?;
        let mut state = self.platter.state();
        let tree = state.tree(&clean(path))?;
        self.platter.remove_real(&clean(path));
        state.rename(tree.into_iter().map(|(path, _)| (path, None)).collect());
        drop(state);
        self.changed();
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.check_alive()?;
        let dir = clean(dir);
        let state = self.platter.state();
        if !is_directory(&state.names, &dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut names: Vec<String> = state
            .names
            .keys()
            .filter(|path| path.parent() == Some(&dir))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        let path = clean(path);
        let state = self.platter.state();
        is_directory(&state.names, &path) || state.names.contains_key(&path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check_alive()?;
        let dir = clean(dir);
        if !is_directory(&self.platter.state().names, &dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.syncing()?;
        self.platter.state().sync_names(&dir);
        self.member.world.agenda().trace("sync dir", &self.member.life.host, 0);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        self.check_alive()?;
        Ok(self.platter.state().free())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.check_alive()?;
        let path = clean(path);
        if !self.exists(&path) {
            self.create(&path)?;
        }
        let mut state = self.platter.state();
        if state.locks.contains_key(&path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked += 1;
        let number = state.locked;
        state.locks.insert(path.clone(), number);
        Ok(Box::new(HeldLock { platter: Arc::clone(&self.platter), path, number }))
    }

    #[allow(clippy::disallowed_methods)] // LMDB's files are real.
    fn lmdb_path(&self, path: &Path) -> Option<PathBuf> {
        let real = self.platter.lmdb.as_ref()?.join(clean(path));
        std::fs::create_dir_all(&real).expect("there is room for a small database");
        Some(real)
    }
}

struct HeldLock {
    platter: Arc<Platter>,
    path: PathBuf,
    number: u64,
}

impl DirLock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.platter.state();
        // After a crash it may be the next life's.
        if state.locks.get(&self.path) == Some(&self.number) {
            state.locks.remove(&self.path);
        }
    }
}

struct HostFile {
    disk: HostDisk,
    content: Arc<Mutex<Content>>,
}

impl HostFile {
    fn check_grows_to(&self, length: u64) -> io::Result<()> {
        let growth = length.saturating_sub(content(&self.content).length);
        let mut state = self.disk.platter.state();
        if growth > 0 && growth > state.free() {
            return Err(state.no_space());
        }
        Ok(())
    }
}

impl File for HostFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.check_alive()?;
        content(&self.content).read(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.check_alive()?;
        self.check_grows_to(offset + bytes.len() as u64)?;
        content(&self.content).write(bytes, offset);
        self.disk.changed();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.check_alive()?;
        if let Err(error) = self.disk.syncing() {
            content(&self.content).fail_sync();
            return Err(error);
        }
        let checksum = content(&self.content).sync();
        self.disk.platter.state().syncs += 1;
        self.disk.member.world.agenda().trace("sync", &self.disk.member.life.host, checksum);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.check_alive()?;
        Ok(content(&self.content).length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.check_alive()?;
        self.check_grows_to(length)?;
        content(&self.content).set_length(length);
        self.disk.changed();
        Ok(())
    }
}
