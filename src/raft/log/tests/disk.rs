//! A disk with a page cache that can lose power, in memory.
//!
//! What was written but not synced survives the end of the process and not, or only in part, the end of the
//! power: any 512-byte sector may be old, new, or new up to some byte. A failed sync marks the pages clean
//! without having written them, as Linux does. Names are not durable before their directory is synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::env::{DirLock, Disk, File, Rng};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    renames: Vec<NameChange>,
    /// How many operations may still change something before the power goes.
    operations_left: Option<u64>,
    /// How many syncs succeed before one fails.
    syncs_left: Option<u64>,
    syncs: u64,
    writes: u64,
    /// Files cannot grow.
    full: bool,
}

#[derive(Default, Clone)]
struct Contents {
    /// What reads see.
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
}

/// What becomes of sectors that were written and not synced.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    Lost,
    Kept,
    Mixed,
}

impl FaultyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics inside the disk")
    }

    pub fn power_fails_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    pub fn sync_fails_after(&self, syncs: u64) {
        self.state().syncs_left = Some(syncs);
    }

    /// Whatever was to fail does not.
    pub fn heal(&self) {
        let mut state = self.state();
        state.operations_left = None;
        state.syncs_left = None;
        state.full = false;
    }

    pub fn fill(&self) {
        self.state().full = true;
    }

    pub fn power_has_failed(&self) -> bool {
        self.state().operations_left == Some(0)
    }

    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// The machine loses power and comes back.
    pub fn cut_power(&self, rng: &dyn Rng, unsynced: Unsynced) {
        let mut state = self.state();
        state.operations_left = None;
        for file in &mut state.files {
            for sector in std::mem::take(&mut file.dirty) {
                let start = sector * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(file.cached.len());
                let kept = match unsynced {
                    Unsynced::Lost => 0,
                    Unsynced::Kept => SECTOR_BYTES,
                    Unsynced::Mixed => match rng.next_u64() % 8 {
                        0..3 => 0,
                        3..6 => SECTOR_BYTES,
                        _ => rng.next_u64() as usize % SECTOR_BYTES,
                    },
                };
                let kept_end = end.min(start + kept);
                if start < kept_end {
                    let length = file.durable.len().max(kept_end);
                    file.durable.resize(length, 0);
                    file.durable[start..kept_end].copy_from_slice(&file.cached[start..kept_end]);
                }
            }
            file.cached.clone_from(&file.durable);
        }
        let mut names = std::mem::take(&mut state.durable_names);
        for change in std::mem::take(&mut state.renames) {
            let kept = match unsynced {
                Unsynced::Lost => false,
                Unsynced::Kept => true,
                Unsynced::Mixed => rng.next_u64().is_multiple_of(2),
            };
            if kept {
                change.apply(&mut names);
            }
        }
        state.names.clone_from(&names);
        state.durable_names = names;
    }

    /// A disk of its own with the same contents, all of them durable.
    pub fn copy(&self) -> Self {
        let state = self.state();
        let settle = |file: &Contents| Contents {
            cached: file.cached.clone(),
            durable: file.cached.clone(),
            dirty: BTreeSet::new(),
        };
        Self(Arc::new(Mutex::new(State {
            files: state.files.iter().map(settle).collect(),
            names: state.names.clone(),
            durable_names: state.names.clone(),
            ..State::default()
        })))
    }

    pub fn names(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.state().names.keys().filter_map(name).collect()
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[path]].cached.clone()
    }

    /// Changes a file behind everybody's back.
    pub fn alter(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.names[path];
        let contents = &mut state.files[file];
        change(&mut contents.cached);
        contents.durable.clone_from(&contents.cached);
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Add(path, file) => {
                names.retain(|_, other| *other != file);
                names.insert(path, file);
            }
            Self::Remove(path) => {
                names.remove(&path);
            }
        }
    }
}

impl State {
    /// Counts an operation. The one during which the power goes is still carried out, as far as the cache
    /// goes.
    fn operate(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(no_power()),
            Some(left) => {
                *left -= 1;
                let failed = *left == 0;
                let result = act(self);
                if failed { Err(no_power()) } else { result }
            }
            None => act(self),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: impl Fn() -> NameChange) {
        change().apply(&mut self.names);
        self.renames.push(change());
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is gone")
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.state().find(path)?;
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.state().operate(|state| {
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.files.push(Contents::default());
            let file = state.files.len() - 1;
            state.change_name(|| NameChange::Add(path.to_owned(), file));
            Ok(())
        })?;
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            let file = state.find(from)?;
            state.change_name(|| NameChange::Add(to.to_owned(), file));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            state.find(path)?;
            state.change_name(|| NameChange::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().find(path).is_ok()
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.state().operate(|state| {
            if state.operations_left != Some(0) {
                state.renames.clear();
                state.durable_names = state.names.clone();
            }
            Ok(())
        })
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn DirLock>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn lmdb_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }
}

struct Open {
    disk: FaultyDisk,
    file: usize,
}

impl Open {
    fn operate(&self, act: impl FnOnce(&mut Contents) -> io::Result<()>) -> io::Result<()> {
        self.disk.state().operate(|state| act(&mut state.files[self.file]))
    }
}

impl File for Open {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        let bytes = &state.files[self.file].cached;
        let bytes = bytes.get(offset as usize..).and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        {
            let mut state = self.disk.state();
            state.writes += 1;
            if state.full && end > state.files[self.file].cached.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.operate(|file| {
            let length = file.cached.len().max(end);
            file.cached.resize(length, 0);
            file.cached[start..end].copy_from_slice(bytes);
            file.dirty.extend(start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fails = state.syncs_left == Some(0);
        state.syncs_left = state.syncs_left.map(|left| left.wrapping_sub(1));
        state.syncs += 1;
        if fails {
            state.files[self.file].dirty.clear();
            return Err(io::Error::other("the sync failed"));
        }
        state.operate(|state| {
            // When the power goes during a sync, it is as if it had not begun.
            if state.operations_left != Some(0) {
                let Contents { cached, durable, dirty } = &mut state.files[self.file];
                durable.resize(cached.len(), 0);
                for sector in std::mem::take(dirty) {
                    let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(cached.len());
                    durable[range.clone()].copy_from_slice(&cached[range]);
                }
            }
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].cached.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.operate(|file| {
            file.cached.resize(length as usize, 0);
            Ok(())
        })
    }
}
