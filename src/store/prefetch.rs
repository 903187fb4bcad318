//! Asking the processor for memory that will be read soon.

/// Has the cache line with the byte at `place` fetched, and does not wait for it. A read of it would have the
/// processor wait before it gets far enough to ask for the next.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a prefetch has no effect that a program could see, whatever the address")]
pub(super) fn prefetch(place: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

/// Other processors are not asked: Rust has no stable way to.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn prefetch(_: *const u8) {}
