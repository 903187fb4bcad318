//! The small values of a buffer, in memory of the buffer's own.
//!
//! Values come and go in few sizes and go all together in the end, when the buffer does. So a value takes the place of one of
//! its size that was freed, or the next that is new, and none is given back before the buffer is.

use super::memory::{LARGE, Pages};
use super::prefetch::prefetch;

/// Places are multiples of a cache line.
const UNIT: usize = 64;
/// The longest value that has its place here: longer ones are not copied.
pub(super) const SMALL_MAX: usize = 17 * UNIT;
const SIZES: usize = SMALL_MAX / UNIT + 1;
/// A buffer with a few values in it takes little.
const FIRST_CHUNK: usize = 64 << 10;
const UNITS_SHIFT: u32 = (LARGE / UNIT).trailing_zeros();
const UNITS_MASK: u32 = (1 << UNITS_SHIFT) - 1;
/// How many lines of one value are worth fetching ahead.
const LINES_AHEAD_MAX: usize = 8;

/// Where a value is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The chunk, and the unit in it.
    at: u32,
    len: u16,
}

/// Memory for values.
#[derive(Default)]
pub(super) struct Slab {
    chunks: Vec<Pages>,
    /// Where the last chunk is new.
    fresh: usize,
    /// Places that were freed, by their size in units.
    free: [Vec<u32>; SIZES],
    /// Bytes of places, freed ones included.
    bytes: u64,
}

impl Slab {
    /// Keeps the value that these parts make, of [`SMALL_MAX`] bytes at most: where `old` was, which is gone then, if it fits.
    pub fn put(&mut self, parts: [&[u8]; 2], old: Option<Spot>) -> Spot {
        let len = parts[0].len() + parts[1].len();
        let units = units_of(len);
        let at = match old {
            Some(old) if units_of(old.len.into()) == units => old.at,
            _ => {
                if let Some(old) = old {
                    self.free(old);
                }
                self.free[units].pop().unwrap_or_else(|| self.grow(units))
            }
        };
        let spot = Spot { at, len: u16::try_from(len).expect("a small value's length") };
        let (head, tail) = self.place_mut(spot).split_at_mut(parts[0].len());
        head.copy_from_slice(parts[0]);
        tail.copy_from_slice(parts[1]);
        spot
    }

    /// The value.
    pub fn get(&self, Spot { at, len }: Spot) -> &[u8] {
        let start = (at & UNITS_MASK) as usize * UNIT;
        &self.chunks[(at >> UNITS_SHIFT) as usize][start..start + usize::from(len)]
    }

    /// Has the processor fetch the value.
    pub fn fetch(&self, spot: Spot) {
        for line in self.get(spot).chunks(UNIT).take(LINES_AHEAD_MAX) {
            prefetch(line.as_ptr());
        }
    }

    /// The value is gone, and there is room for another.
    pub fn free(&mut self, spot: Spot) {
        self.free[units_of(spot.len.into())].push(spot.at);
    }

    /// How much memory the values take, or have taken: what is freed is used again only for values of its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A place that was never used.
    fn grow(&mut self, units: usize) -> u32 {
        let size = units * UNIT;
        if self.chunks.last().is_none_or(|chunk| self.fresh + size > chunk.len()) {
            self.chunks.push(Pages::new(if self.chunks.is_empty() { FIRST_CHUNK } else { LARGE }));
            self.fresh = 0;
        }
        let chunk = u32::try_from(self.chunks.len() - 1).expect("a buffer is far below a terabyte");
        let at = chunk << UNITS_SHIFT | (self.fresh / UNIT) as u32;
        self.fresh += size;
        self.bytes += size as u64;
        at
    }

    fn place_mut(&mut self, Spot { at, len }: Spot) -> &mut [u8] {
        let start = (at & UNITS_MASK) as usize * UNIT;
        &mut self.chunks[(at >> UNITS_SHIFT) as usize][start..start + usize::from(len)]
    }
}

/// An empty value has a place, too.
fn units_of(len: usize) -> usize {
    len.div_ceil(UNIT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(slab: &mut Slab, len: usize, byte: u8) -> Spot {
        slab.put([&vec![byte; len / 2], &vec![byte; len - len / 2]], None)
    }

    #[test]
    fn values_of_every_size_lie_beside_each_other() {
        let mut slab = Slab::default();
        let spots: Vec<Spot> =
            (0..=3 * SMALL_MAX).map(|n| put(&mut slab, n % (SMALL_MAX + 1), n as u8)).collect();
        for (n, spot) in spots.iter().enumerate() {
            assert_eq!(slab.get(*spot), vec![n as u8; n % (SMALL_MAX + 1)]);
        }
        assert!(slab.chunks.len() > 1);
    }

    #[test]
    fn a_freed_place_is_used_again_for_its_size() {
        let mut slab = Slab::default();
        let (first, second) = (put(&mut slab, 100, 1), put(&mut slab, 100, 2));
        let bytes = slab.bytes();
        slab.free(first);
        assert_eq!(put(&mut slab, 128, 3).at, first.at);
        assert_eq!(slab.bytes(), bytes);
        assert_ne!(put(&mut slab, 129, 4).at, first.at);
        assert_eq!(slab.get(second), [2; 100]);
    }

    #[test]
    fn a_value_takes_the_place_of_the_one_before_it_if_it_fits() {
        let mut slab = Slab::default();
        let small = put(&mut slab, 100, 1);
        let same = slab.put([&[2; 50], &[2; 70]], Some(small));
        assert_eq!((same.at, slab.get(same)), (small.at, &[2; 120][..]));
        let large = slab.put([&[3; 200], &[]], Some(same));
        assert_ne!(large.at, same.at);
        assert_eq!(put(&mut slab, 65, 4).at, same.at, "it was freed");
        assert_eq!(slab.get(large), [3; 200]);
    }
}
