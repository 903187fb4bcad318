//! Memory straight from the system, in pages of two megabytes where it has them.
//!
//! What a buffer holds is looked up in no order. With pages of four kilobytes nearly every look is at another one, and
//! finding out where that page is takes longer than fetching what is on it.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use allocator_api2::alloc::{AllocError, Allocator, Global};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// The size of a large page.
pub(super) const LARGE: usize = 2 << 20;

/// Zeroed memory of its own, given back to the system when it is dropped.
pub(super) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

#[expect(unsafe_code, reason = "it owns its memory, as a boxed slice does")]
unsafe impl Send for Pages {}
#[expect(unsafe_code, reason = "it owns its memory, as a boxed slice does")]
unsafe impl Sync for Pages {}

impl Pages {
    /// So many bytes, which are not 0; from [`LARGE`] on a multiple of it, and then aligned to it. As everywhere, the process
    /// ends if there is no memory.
    pub fn new(len: usize) -> Self {
        let no_memory = || handle_alloc_error(Layout::array::<u8>(len).expect("less than the address space"));
        Self { start: map(len).unwrap_or_else(|_| no_memory()), len }
    }
}

impl Deref for Pages {
    type Target = [u8];

    #[expect(unsafe_code, reason = "all of it is mapped, zeroed and ours until it is dropped")]
    fn deref(&self) -> &[u8] {
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    #[expect(unsafe_code, reason = "all of it is mapped, zeroed and ours until it is dropped")]
    fn deref_mut(&mut self) -> &mut [u8] {
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        unmap(self.start, self.len);
    }
}

/// An allocator that takes what is large from the system, and the rest from where everything comes from.
#[derive(Clone, Copy, Default)]
pub(super) struct Large;

#[expect(
    unsafe_code,
    reason = "a mapping stays where it is until it is given back, whichever copy of the allocator is asked; it is aligned to \
              a page, and no type here asks for more; the size decides alone where memory comes from, so it goes back there"
)]
unsafe impl Allocator for Large {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() < LARGE {
            return Global.allocate(layout);
        }
        let start = map(whole_pages(layout.size())).map_err(|_| AllocError)?;
        Ok(NonNull::slice_from_raw_parts(start, layout.size()))
    }

    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        if layout.size() < LARGE {
            unsafe { Global.deallocate(start, layout) };
        } else {
            unmap(start, whole_pages(layout.size()));
        }
    }
}

const fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(LARGE)
}

/// Maps memory as [`Pages::new`] has it.
#[expect(unsafe_code, reason = "the mapping is a new one, and what is cut off it nobody has seen")]
fn map(len: usize) -> rustix::io::Result<NonNull<u8>> {
    let slack = if len < LARGE { 0 } else { LARGE };
    let all = unsafe {
        mmap_anonymous(ptr::null_mut(), len + slack, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
    };
    let start = NonNull::new(all.cast::<u8>()).expect("the system maps nothing at 0 unasked");
    if slack == 0 {
        return Ok(start);
    }
    let head = start.align_offset(LARGE);
    let aligned = unsafe { start.add(head) };
    if head > 0 {
        unmap(start, head);
    }
    if head < slack {
        unmap(unsafe { aligned.add(len) }, slack - head);
    }
    // A system without large pages says so, and small ones do.
    let _ = unsafe { madvise(aligned.as_ptr().cast(), len, Advice::LinuxHugepage) };
    Ok(aligned)
}

/// Gives back what was mapped.
#[expect(unsafe_code, reason = "who calls this has it from `map` and gives it up")]
fn unmap(start: NonNull<u8>, len: usize) {
    let unmapped = unsafe { munmap(start.as_ptr().cast(), len) };
    debug_assert!(unmapped.is_ok(), "it was mapped");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zeroed_and_of_their_length() {
        for len in [4096, 64 << 10, LARGE, 3 * LARGE] {
            let mut pages = Pages::new(len);
            assert_eq!(pages.len(), len);
            assert!(pages.iter().all(|byte| *byte == 0));
            pages.fill(7);
            assert!(len < LARGE || pages.as_ptr().addr().is_multiple_of(LARGE), "{len}");
        }
    }

    #[test]
    fn what_is_allocated_can_be_written_and_goes_back() {
        for size in [1, LARGE - 1, LARGE, LARGE + 1, 5 * LARGE / 2] {
            let mut vec = allocator_api2::vec::Vec::with_capacity_in(size, Large);
            vec.resize(size, 1_u8);
            assert_eq!(vec.iter().map(|byte| usize::from(*byte)).sum::<usize>(), size);
            vec.reserve_exact(LARGE);
            assert_eq!(vec.len(), size);
        }
    }
}
