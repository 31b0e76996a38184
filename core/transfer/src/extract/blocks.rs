//! The only memory that extraction takes per byte: a fixed number of blocks that decoders fill and writers hand back.

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Blocks of one size; as many as there are bound what is decoded and not yet written.
pub(super) struct BlockPool {
    block_bytes: usize,
    home: Sender<Vec<u8>>,
    free: Receiver<Vec<u8>>,
}

impl BlockPool {
    pub fn new(blocks: usize, block_bytes: usize) -> Self {
        let (home, free) = bounded(blocks);
        // Empty ones: memory is taken when a block is first used.
        (0..blocks).for_each(|_| home.send(Vec::new()).expect("the channel holds as many"));
        Self { block_bytes, home, free }
    }

    /// A block to fill, if one is free at this moment.
    pub fn try_take(&self) -> Option<Vec<u8>> {
        self.free.try_recv().ok().map(|block| self.sized(block))
    }

    /// A block to fill; waits until a writer gives one back.
    pub fn take(&self) -> Vec<u8> {
        self.sized(self.free.recv().expect("the pool holds a sender"))
    }

    fn sized(&self, mut block: Vec<u8>) -> Vec<u8> {
        block.resize(self.block_bytes, 0);
        block
    }

    /// Makes the first `filled` bytes of a block readable by many.
    pub fn share(&self, bytes: Vec<u8>, filled: usize) -> Slice {
        Slice { block: Arc::new(Block { bytes, home: self.home.clone() }), start: 0, end: filled }
    }
}

struct Block {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Drop for Block {
    fn drop(&mut self) {
        // The pool may be gone already, and then the memory goes as well.
        let _ = self.home.try_send(std::mem::take(&mut self.bytes));
    }
}

/// A part of a block.
#[derive(Clone)]
pub(super) struct Slice {
    block: Arc<Block>,
    start: usize,
    end: usize,
}

impl Slice {
    /// Cuts the first `count` bytes off.
    pub fn split_to(&mut self, count: usize) -> Self {
        let front = Self { block: Arc::clone(&self.block), start: self.start, end: self.start + count };
        self.start = front.end;
        front
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.bytes[self.start..self.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_with_its_last_slice() {
        let pool = BlockPool::new(1, 8);
        let mut block = pool.take();
        block.copy_from_slice(b"abcdefgh");
        let mut rest = pool.share(block, 6);
        let front = rest.split_to(2);
        assert_eq!((&*front, &*rest), (&b"ab"[..], &b"cdef"[..]));
        drop(front);
        assert!(pool.try_take().is_none());
        drop(rest);
        assert_eq!(pool.try_take().map(|block| block.len()), Some(8));
    }
}
