//! The directory of the state, and which database in it is the one.
//!
//! | name | what |
//! | --- | --- |
//! | `CURRENT` | the name of the directory with the database, and a line end |
//! | `state-N` | a database; N grows with each snapshot that is installed |
//!
//! `CURRENT` is replaced by an atomic rename and is the only thing that decides. A `state-N` that it
//! does not name is one that was being built or removed when the node went down, and is removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::engine::Engine;
use super::lmdb::Lmdb;
use super::map::Map;
use crate::env::{Disk, Env};
use crate::error::StoreError;

const CURRENT: &str = "CURRENT";
const CURRENT_ASIDE: &str = "CURRENT.new";
const STATE: &str = "state-";
/// What `CURRENT` names while a first start creates the first database: no database has this number.
const NONE: u64 = 0;
const FIRST: u64 = 1;

/// Opens the database that counts, creates the first if there is none, and removes all others; returns
/// its number too.
pub(super) fn open(env: &Env, dir: &Path, options: &Options) -> Result<(u64, Arc<dyn Engine>), StoreError> {
    let disk = &*env.disk;
    disk.create_dir_all(dir)?;
    let number = current(disk, dir)?;
    if number == NONE {
        return Ok((FIRST, open_first(env, dir, options)?));
    }
    let path = state_path(dir, number);
    if !disk.exists(&path) {
        return Err(StoreError::Corrupt(format!("{} is missing", path.display())));
    }
    let engine = open_engine(env, &path, options)?;
    remove_leftovers(disk, dir, number)?;
    Ok((number, engine))
}

/// Creates an empty database under `number`, which nothing names yet.
pub(super) fn create(
    env: &Env,
    dir: &Path,
    options: &Options,
    number: u64,
) -> Result<Arc<dyn Engine>, StoreError> {
    let path = state_path(dir, number);
    if env.disk.exists(&path) {
        env.disk.remove(&path)?;
    }
    env.disk.create_dir_all(&path)?;
    let engine = open_engine(env, &path, options)?;
    env.disk.sync_dir(&path)?;
    Ok(engine)
}

/// Makes the database `number`, which is durable, the one that counts.
pub(super) fn switch(disk: &dyn Disk, dir: &Path, number: u64) -> Result<(), StoreError> {
    let aside = dir.join(CURRENT_ASIDE);
    if disk.exists(&aside) {
        disk.remove(&aside)?;
    }
    let file = disk.create(&aside)?;
    file.write_at(format!("{STATE}{number}\n").as_bytes(), 0)?;
    file.sync()?;
    disk.rename(&aside, &dir.join(CURRENT))?;
    disk.sync_dir(dir)?;
    Ok(())
}

/// Removes every database but `number`, and what else a crash left.
pub(super) fn remove_leftovers(disk: &dyn Disk, dir: &Path, number: u64) -> Result<(), StoreError> {
    let keep = format!("{STATE}{number}");
    let mut removed = false;
    for name in disk.list(dir)? {
        if name == CURRENT_ASIDE || (name.starts_with(STATE) && name != keep) {
            disk.remove(&dir.join(name))?;
            removed = true;
        }
    }
    if removed {
        disk.sync_dir(dir)?;
    }
    Ok(())
}

/// Creates the first database. Before anything else [`CURRENT`] says that there is none, so that what a
/// first start leaves when it is cut short is told from a state whose `CURRENT` got lost.
fn open_first(env: &Env, dir: &Path, options: &Options) -> Result<Arc<dyn Engine>, StoreError> {
    switch(&*env.disk, dir, NONE)?;
    remove_leftovers(&*env.disk, dir, NONE)?;
    let engine = create(env, dir, options, FIRST)?;
    switch(&*env.disk, dir, FIRST)?;
    Ok(engine)
}

/// The number of the database that counts, or [`NONE`].
fn current(disk: &dyn Disk, dir: &Path) -> Result<u64, StoreError> {
    let path = dir.join(CURRENT);
    if !disk.exists(&path) {
        return match disk.list(dir)?.iter().find(|name| name.starts_with(STATE)) {
            None => Ok(NONE),
            Some(name) => Err(StoreError::Corrupt(format!(
                "{} holds {name}, but {CURRENT}, which says whether it counts, is missing",
                dir.display()
            ))),
        };
    }
    let unreadable = || StoreError::Corrupt(format!("{} does not name a database", path.display()));
    let file = disk.open(&path)?;
    let mut text = vec![0; usize::try_from(file.len()?.min(64)).map_err(|_| unreadable())?];
    file.read_at(&mut text, 0)?;
    let text = str::from_utf8(&text).map_err(|_| unreadable())?;
    let number = text.strip_prefix(STATE).and_then(|text| text.strip_suffix('\n'));
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(unreadable)
}

fn state_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{STATE}{number}"))
}

fn open_engine(env: &Env, path: &Path, options: &Options) -> Result<Arc<dyn Engine>, StoreError> {
    Ok(match env.disk.lmdb_path(path) {
        Some(path) => Arc::new(Lmdb::open(&path, options.map_bytes)?),
        None => Arc::new(Map::open(&env.disk, path)?),
    })
}
