//! Where scans need not look.
//!
//! Until the next checkpoint a deleted key leaves a mark in the buffer that hides what the database still
//! has, and a scan steps over one after the other. Some scans begin at the same place with each log entry,
//! where all has been deleted: the earliest deadline, the next leftover of a flushed database. They would
//! step over every key deleted since the checkpoint, again and again. So a scan that stepped over many
//! before it met anything leaves a note that there is nothing, and the next one begins behind it.

use std::ops::Bound;

use super::key::Key;

/// How many steps are worth a note. None in tests, so that they meet notes everywhere.
const STEPS_MIN: usize = if cfg!(test) { 1 } else { 32 };
/// A note costs each write a comparison or two.
const GAPS_MAX: usize = 8;

/// Stretches without a key.
#[derive(Default)]
pub(super) struct Gaps {
    /// From the first key, which is in it, to the last, which is not; the latest note last.
    gaps: Vec<(Key, Key)>,
}

impl Gaps {
    /// Where a scan from `from` on may begin instead, if it may.
    pub fn skip(&self, from: Bound<&[u8]>) -> Option<Key> {
        let (Bound::Included(mut place) | Bound::Excluded(mut place)) = from else { return None };
        let mut behind = None;
        while let Some((_, end)) = self.gaps.iter().find(|gap| is_inside(place, gap)) {
            place = end.as_bytes();
            behind = Some(end);
        }
        behind.cloned()
    }

    /// Notes that a scan from `from` on took `steps` over deleted keys before it came to `end`.
    pub fn note(&mut self, from: Bound<&[u8]>, end: &[u8], steps: usize) {
        let Bound::Included(from) = from else { return };
        if steps < STEPS_MIN || from >= end {
            return;
        }
        match self.gaps.iter_mut().find(|(start, _)| start.as_bytes() == from) {
            Some((_, known)) if known.as_bytes() >= end => {}
            Some((_, known)) => *known = Key::from_stored(end),
            None => {
                if self.gaps.len() == GAPS_MAX {
                    self.gaps.remove(0);
                }
                self.gaps.push((Key::from_stored(from), Key::from_stored(end)));
            }
        }
    }

    /// There is a key here now.
    pub fn put(&mut self, key: &Key) {
        let mut closed = false;
        for gap in &mut self.gaps {
            if is_inside(key.as_bytes(), gap) {
                gap.1 = key.clone();
                closed |= gap.0 == gap.1;
            }
        }
        if closed {
            self.gaps.retain(|(start, end)| start < end);
        }
    }
}

fn is_inside(place: &[u8], (start, end): &(Key, Key)) -> bool {
    start.as_bytes() <= place && place < end.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Bound<&[u8]> {
        Bound::Included(text.as_bytes())
    }

    fn check(gaps: &Gaps, from: Bound<&[u8]>, expected: Option<&str>) {
        assert_eq!(gaps.skip(from).as_ref().map(Key::as_bytes), expected.map(str::as_bytes), "{from:?}");
    }

    #[test]
    fn a_gap_ends_where_a_key_is_put() {
        let mut gaps = Gaps::default();
        gaps.note(place("b"), b"f", 99);
        check(&gaps, place("a"), None);
        check(&gaps, place("b"), Some("f"));
        check(&gaps, Bound::Excluded(b"e"), Some("f"));
        check(&gaps, Bound::Excluded(b"f"), None);
        gaps.put(&Key::from_stored(b"d"));
        check(&gaps, place("b"), Some("d"));
        check(&gaps, place("e"), None);
        gaps.put(&Key::from_stored(b"b"));
        check(&gaps, place("b"), None);
        assert!(gaps.gaps.is_empty());
    }

    #[test]
    fn gaps_grow_join_and_are_few() {
        let mut gaps = Gaps::default();
        gaps.note(place("b"), b"d", 99);
        gaps.note(place("b"), b"c", 99);
        gaps.note(place("d"), b"g", 99);
        check(&gaps, place("b"), Some("g"));
        for n in 0..20 {
            gaps.note(Bound::Included(&[n]), &[n + 1], 99);
        }
        assert_eq!(gaps.gaps.len(), GAPS_MAX);
    }
}
