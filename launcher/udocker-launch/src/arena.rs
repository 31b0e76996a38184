//! The program's allocator: a start makes many small allocations, keeps most of them until its exec, and is paid for by each
//! rank. They come from one piece of memory, one behind the other; what does not fit any more, as in a long
//! traced run, comes from the system's allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes, more than a start needs. Pages that are not reached cost nothing.
const SIZE: usize = 256 << 10;

struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// How many of them are given out.
    used: AtomicUsize,
}

// SAFETY: `used` gives each byte to one allocation at a time, and nothing else reaches `bytes`.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };

impl Arena {
    fn start(&self) -> usize {
        self.bytes.get() as usize
    }

    /// Where an allocation lies in it, if it does.
    fn offset(&self, allocation: *mut u8) -> Option<usize> {
        (allocation as usize).checked_sub(self.start()).filter(|offset| *offset < SIZE)
    }

    /// Moves the end of what is given out, if it is at `from`.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        loop {
            let used = self.used.load(Ordering::Relaxed);
            let offset = (self.start() + used).checked_next_multiple_of(layout.align())? - self.start();
            let end = offset.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
            if self.move_end(used, end) {
                return Some(self.bytes.get().cast::<u8>().wrapping_add(offset));
            }
        }
    }
}

// SAFETY: `take` gives out memory of the layout that overlaps no other allocation; what is not in the arena is the system
// allocator's, and goes back to it.
unsafe impl GlobalAlloc for Arena {
    // Not inlined, none of them: a start would pay for the pages of thousands of copies.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system allocator's condition.
        self.take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(taken) => {
                // SAFETY: it has so many bytes. They may have been another's, that was last and went.
                unsafe { taken.write_bytes(0, layout.size()) };
                taken
            }
            // SAFETY: as for `alloc`.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, allocation: *mut u8, layout: Layout) {
        match self.offset(allocation) {
            // Only the last one can be given out again.
            Some(offset) => _ = self.move_end(offset + layout.size(), offset),
            // SAFETY: it is the system allocator's, with this layout.
            None => unsafe { System.dealloc(allocation, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, allocation: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(allocation) else {
            // SAFETY: it is the system allocator's, with this layout.
            return unsafe { System.realloc(allocation, layout, size) };
        };
        if offset.checked_add(size).is_some_and(|end| self.move_end(offset + layout.size(), end)) {
            return allocation;
        }
        // SAFETY: the caller promises that `size` is valid with this alignment, and gives `allocation` up; the two do not
        // overlap, and both have the bytes that are copied.
        unsafe {
            let larger = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !larger.is_null() {
                larger.copy_from_nonoverlapping(allocation, layout.size().min(size));
                self.dealloc(allocation, layout);
            }
            larger
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_grows_in_place_and_is_given_back_and_the_rest_is_the_system_s() {
        let arena = Arena { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        // SAFETY: all sizes are above 0, and each allocation is used and given back with the layout that it has.
        unsafe {
            let first = arena.alloc(layout(3, 1));
            first.copy_from_nonoverlapping(b"abc".as_ptr(), 3);
            let second = arena.alloc(layout(64, 64));
            assert_eq!((second as usize % 64, arena.offset(first)), (0, Some(0)));
            assert_eq!(arena.realloc(second, layout(64, 64), 4096), second);
            let moved = arena.realloc(first, layout(3, 1), 6);
            assert_eq!(std::slice::from_raw_parts(moved, 3), b"abc");
            let end = arena.used.load(Ordering::Relaxed);
            let dirty = arena.alloc(layout(8, 1));
            dirty.write_bytes(7, 8);
            arena.dealloc(dirty, layout(8, 1));
            let zeroed = arena.alloc_zeroed(layout(8, 1));
            assert_eq!((zeroed, std::slice::from_raw_parts(zeroed, 8)), (dirty, &[0; 8][..]));
            arena.dealloc(zeroed, layout(8, 1));
            assert_eq!(arena.used.load(Ordering::Relaxed), end);
            let large = arena.alloc_zeroed(layout(SIZE, 8));
            assert_eq!((arena.offset(large), *large.add(SIZE - 1)), (None, 0));
            let grown = arena.realloc(large, layout(SIZE, 8), 2 * SIZE);
            arena.dealloc(grown, layout(2 * SIZE, 8));
            assert_eq!(arena.used.load(Ordering::Relaxed), end);
        }
    }
}
