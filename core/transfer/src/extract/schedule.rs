//! How many threads and how much memory an extraction takes, by what it writes to.

use std::os::fd::BorrowedFd;

/// How many threads work with how much memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Layers decoded at a time.
    pub decoders: usize,
    /// Threads that make and write files.
    pub writers: usize,
    /// Blocks between them.
    pub blocks: usize,
    /// Size of a block.
    pub block_bytes: usize,
    /// Directories whose descriptors are kept open; `None`: as many as the process may have.
    pub open_directories: Option<usize>,
    /// Layers in the order in which decoders take them; `None`: top ones first, so what they hide is never written.
    pub order: Option<Vec<usize>>,
}

impl Schedule {
    /// What suits the file system of `directory` on this machine.
    ///
    /// Local: 2 to 8 writers and 16 MiB. A network file system waits for its server at every name: 16 writers, 64 MiB.
    pub fn for_directory(directory: BorrowedFd<'_>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let (writers, bytes) = match is_network(directory) {
            true => (16, 64 << 20),
            false => (cores.clamp(2, 8), 16 << 20),
        };
        let block_bytes = 256 << 10;
        Self {
            decoders: cores.min(8),
            writers,
            blocks: bytes / block_bytes,
            block_bytes,
            open_directories: None,
            order: None,
        }
    }

    /// As many blocks as decoders hold while they wait for one: two under way and a small file's.
    pub(super) fn blocks(&self) -> usize {
        let small_file = (64 << 10) / self.block_bytes + 3;
        self.blocks.max(self.decoders * small_file + 1)
    }
}

/// `f_type` of statfs(2): NFS, Lustre, GPFS, BeeGFS, CIFS, SMB2, Ceph, PanFS, AFS, FUSE (sshfs and the like).
fn is_network(directory: BorrowedFd<'_>) -> bool {
    const MAGIC: [u64; 10] = [
        0x6969,
        0x0bd0_0bd0,
        0x4750_4653,
        0x1983_0326,
        0xff53_4d42,
        0xfe53_4d42,
        0x00c3_6400,
        0xaad7_aaea,
        0x5346_414f,
        0x6573_5546,
    ];
    rustix::fs::fstatfs(directory).is_ok_and(|status| MAGIC.contains(&(status.f_type as u64 & 0xffff_ffff)))
}
