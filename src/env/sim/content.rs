//! A file's content, as the node sees it and as a power cut leaves it.
//!
//! A file keeps the former content of each page written since its last sync. A power cut then
//! decides what of the new content had reached the disk: nothing, all, everything up to some byte,
//! or any set of sectors. What was synced is never touched.
//!
//! A sync that fails is modelled as Linux does it: the pages count as clean from then on although
//! they never got there, so a second sync succeeds and the bytes are lost all the same.
//!
//! Memory is by page and zeros take none, so preallocated logs are cheap.

use std::collections::BTreeMap;
use std::io;

use crate::env::Rng;
use crate::env::real::SeededRng;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

type Page = Box<[u8; PAGE]>;

fn zeros() -> Page {
    Box::new([0; PAGE])
}

fn position(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, usize::try_from(offset % PAGE as u64).expect("less than a page"))
}

/// A file's content. Pages that are missing are zeros, and so is all beyond the length.
#[derive(Default)]
pub(super) struct Content {
    pub(super) length: u64,
    pages: BTreeMap<u64, Page>,
    durable_length: u64,
    /// Pages written since the last sync.
    dirty: BTreeMap<u64, Dirty>,
    /// Whether the file was cut since the last sync. Cuts are journalled, so a crash does all or nothing.
    was_cut: bool,
}

struct Dirty {
    /// What the disk holds.
    before: Option<Page>,
    /// A failed sync has taken the page for written.
    written_off: bool,
}

impl Content {
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.saturating_add(buffer.len() as u64) > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, within, part) in parts(offset, buffer.len()) {
            match self.pages.get(&page) {
                Some(bytes) => buffer[part.clone()].copy_from_slice(&bytes[within..within + part.len()]),
                None => buffer[part].fill(0),
            }
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for (page, within, part) in parts(offset, bytes.len()) {
            let part = &bytes[part];
            if !self.pages.contains_key(&page) && part.iter().all(|byte| *byte == 0) {
                continue;
            }
            self.touch(page);
            let page = self.pages.entry(page).or_insert_with(zeros);
            page[within..within + part.len()].copy_from_slice(part);
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.was_cut = true;
            let (last, within) = position(length);
            let beyond: Vec<u64> = self.pages.range(last..).map(|(page, _)| *page).collect();
            for page in beyond {
                self.touch(page);
                if page == last && within > 0 {
                    self.pages.get_mut(&page).expect("it was just listed")[within..].fill(0);
                } else {
                    self.pages.remove(&page);
                }
            }
        }
        self.length = length;
    }

    fn touch(&mut self, page: u64) {
        let before = || Dirty { before: self.pages.get(&page).cloned(), written_off: false };
        self.dirty.entry(page).or_insert_with(before).written_off = false;
    }

    /// Makes everything durable that a failed sync has not written off. Gives a checksum of it.
    pub(super) fn sync(&mut self) -> u64 {
        let mut checksum = 0;
        self.dirty.retain(|page, dirty| {
            if let Some(bytes) = self.pages.get(page) {
                checksum = crc32c::crc32c_append(checksum, &**bytes);
            }
            dirty.written_off
        });
        self.durable_length = self.length;
        self.was_cut = false;
        u64::from(checksum)
    }

    pub(super) fn fail_sync(&mut self) {
        self.dirty.values_mut().for_each(|dirty| dirty.written_off = true);
    }

    /// The power goes: decides what of the unsynced content is there afterwards.
    pub(super) fn crash(&mut self, rng: &SeededRng) {
        let fate = match rng.next_u64() % 4 {
            0 => Fate::Nothing,
            1 => Fate::Everything,
            _ if self.was_cut => Fate::Nothing,
            2 => Fate::Prefix(rng.next_u64() % (self.dirty.len() as u64 + 1)),
            _ => Fate::Sectors,
        };
        let mut reached = match fate {
            Fate::Nothing => self.durable_length,
            Fate::Everything | Fate::Prefix(_) => self.length,
            Fate::Sectors if rng.next_u64().is_multiple_of(2) => self.length,
            Fate::Sectors => self.durable_length,
        };
        for (index, (number, dirty)) in std::mem::take(&mut self.dirty).into_iter().enumerate() {
            let before = dirty.before.unwrap_or_else(zeros);
            let now = self.pages.remove(&number).unwrap_or_else(zeros);
            let after = match fate {
                _ if dirty.written_off => before,
                Fate::Nothing => before,
                Fate::Everything => now,
                Fate::Prefix(whole) if (index as u64) < whole => now,
                Fate::Prefix(whole) if (index as u64) > whole => before,
                Fate::Prefix(_) => {
                    let cut = torn_at(&before, &now, rng);
                    reached = reached.min(number * PAGE as u64 + cut as u64);
                    torn(&now, &before, |byte| byte < cut)
                }
                Fate::Sectors => {
                    let fates = rng.next_u64();
                    torn(&now, &before, |byte| fates >> (byte / SECTOR) & 1 == 1)
                }
            };
            self.pages.insert(number, after);
        }
        // A prefix never takes away what was durable before.
        let length = if self.was_cut { reached } else { reached.max(self.durable_length) };
        self.set_length(length);
        self.dirty.clear();
        self.durable_length = length;
        self.was_cut = false;
    }
}

/// What a power cut lets through of a file's unsynced content.
#[derive(Clone, Copy)]
enum Fate {
    Nothing,
    Everything,
    /// So many pages, and a part of the next.
    Prefix(u64),
    /// Any set of sectors.
    Sectors,
}

/// A byte among, or right after, those that differ.
fn torn_at(before: &Page, now: &Page, rng: &SeededRng) -> usize {
    let differs = |byte: &usize| before[*byte] != now[*byte];
    let Some(first) = (0..PAGE).find(differs) else { return 0 };
    let last = (0..PAGE).rfind(differs).unwrap_or(first);
    first + usize::try_from(rng.next_u64() % (last - first + 2) as u64).expect("less than a page")
}

fn torn(now: &Page, before: &Page, reached: impl Fn(usize) -> bool) -> Page {
    let mut page = before.clone();
    for byte in (0..PAGE).filter(|byte| reached(*byte)) {
        page[byte] = now[byte];
    }
    page
}

/// Cuts `length` bytes at `offset` into pages: (page, offset in it, part of the bytes).
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (page, within) = position(offset + done as u64);
        let part = done..length.min(done + PAGE - within);
        done = part.end;
        (!part.is_empty()).then_some((page, within, part))
    })
}
