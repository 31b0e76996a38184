//! The threads: decoders take layers, top ones first; writers take jobs by directory; the first error ends all of them.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, bounded};
use rustix::process::{Resource, Rlimit};
use udocker_core::store::TreeFormat;
use udocker_core::text::escape;

use super::blocks::BlockPool;
use super::decoder::{SMALL_FILE_BYTES, decode_layer};
use super::finish::finish;
use super::tree::Tree;
use super::writer::Job;
use super::{ExtractError, FlattenOptions, Flattened, LayerSource, lock};

/// Descriptors that are not for directories of the tree.
const OTHER_DESCRIPTORS: u64 = 256;
const MIN_DIRECTORIES: usize = 32;
const MAX_DESCRIPTORS: u64 = 1 << 16;
/// Batches that wait at a writer; the bytes in them are bounded by the pool.
const QUEUE_BATCHES: usize = 64;

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
    fn blocks(&self) -> usize {
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

/// What all threads see.
pub(super) struct Shared<'a> {
    pub layers: &'a [&'a dyn LayerSource],
    pub tree: Tree,
    pub pool: BlockPool,
    pub format: TreeFormat,
    pub devices: AtomicU64,
    options: &'a FlattenOptions,
    entries: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicBool,
    first_error: Mutex<Option<ExtractError>>,
}

impl Shared<'_> {
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn fail(&self, error: ExtractError) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            *lock(&self.first_error) = Some(error);
        }
    }

    /// Counts an entry. Directories that names imply have the same limit: one name may be 512 of them.
    pub fn count_entry(&self) -> Result<(), ExtractError> {
        let limit = self.options.max_entries;
        let fits = self.entries.fetch_add(1, Ordering::Relaxed) < limit;
        match fits && self.tree.implied_directories() <= limit {
            true => Ok(()),
            false => Err(ExtractError::TooLarge { limit, unit: "entries" }),
        }
    }

    /// Counts what was decoded, whether it is kept or not: else a layer of nothing but hidden bytes has no end.
    pub fn count_bytes(&self, bytes: u64) -> Result<(), ExtractError> {
        let limit = self.options.max_bytes;
        match self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit {
            true => Ok(()),
            false => Err(ExtractError::TooLarge { limit, unit: "bytes" }),
        }
    }
}

/// See [`super::flatten`].
pub(super) fn flatten(
    layers: &[&dyn LayerSource],
    root: BorrowedFd<'_>,
    options: &FlattenOptions,
    schedule: &Schedule,
) -> Result<Flattened, ExtractError> {
    let failed = |errno: rustix::io::Errno| ExtractError::Tree(errno.into());
    let raised = RaisedLimit::raise();
    // A file that is written in parts has bytes in the pool, and is open as long.
    let files = schedule.blocks().saturating_mul(schedule.block_bytes) / SMALL_FILE_BYTES as usize;
    let descriptors = raised.descriptors.saturating_sub(files).max(MIN_DIRECTORIES);
    let descriptors = schedule.open_directories.unwrap_or(descriptors);
    let shared = Shared {
        layers,
        tree: Tree::new(root, descriptors).map_err(failed)?,
        pool: BlockPool::new(schedule.blocks(), schedule.block_bytes),
        format: options.format,
        devices: AtomicU64::new(0),
        options,
        entries: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        failed: AtomicBool::new(false),
        first_error: Mutex::default(),
    };
    let order: Vec<usize> = schedule.order.clone().unwrap_or_else(|| (0..layers.len()).rev().collect());
    let next = AtomicUsize::new(0);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..schedule.writers).map(|_| bounded(QUEUE_BATCHES)).unzip();
    std::thread::scope(|scope| {
        for queue in receivers {
            // Moved in: if a writer panics its queue goes with it, and no decoder waits for it.
            let shared = &shared;
            if let Err(source) = std::thread::Builder::new().spawn_scoped(scope, move || write(shared, &queue)) {
                shared.fail(ExtractError::Thread(source));
            }
        }
        // Moved in: with the last decoder the last sender goes, and so the writers end.
        let senders = senders;
        std::thread::scope(|scope| {
            for started in 0..schedule.decoders.min(layers.len()) {
                let decoder = std::thread::Builder::new().spawn_scoped(scope, || {
                    while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed))
                        && !shared.has_failed()
                    {
                        if let Err(error) = decode_layer(&shared, *index, &senders) {
                            shared.fail(error);
                        }
                    }
                });
                match decoder {
                    Err(source) if started == 0 => shared.fail(ExtractError::Thread(source)),
                    _ => {}
                }
            }
        });
    });
    match lock(&shared.first_error).take() {
        Some(error) => Err(error),
        None if shared.tree.implied_directories() > options.max_entries => {
            Err(ExtractError::TooLarge { limit: options.max_entries, unit: "entries" })
        }
        None => finish(&shared, schedule.writers),
    }
}

fn write(shared: &Shared<'_>, queue: &Receiver<Vec<Job>>) {
    // After a failure the queue is still emptied, since decoders wait for its blocks.
    for job in queue.iter().flatten() {
        if shared.has_failed() {
            continue;
        }
        let (layer, path) = job.subject();
        let (digest, path) = (shared.layers[layer].digest(), path.to_vec());
        if let Err(source) = job.run(&shared.tree, shared.format) {
            shared.fail(write_error(digest, &path, source));
        }
    }
}

pub(super) fn write_error(digest: &udocker_core::digest::Digest, path: &[u8], source: io::Error) -> ExtractError {
    ExtractError::Write { digest: digest.clone(), entry: escape(path), source }
}

/// RLIMIT_NOFILE at its hard limit, as long as this lives: programs started later must not inherit it (select(2) breaks).
struct RaisedLimit {
    before: Rlimit,
    descriptors: usize,
}

impl RaisedLimit {
    fn raise() -> Self {
        let before = rustix::process::getrlimit(Resource::Nofile);
        let raised = Rlimit { current: before.maximum, maximum: before.maximum };
        let current = match rustix::process::setrlimit(Resource::Nofile, raised) {
            Ok(()) => before.maximum,
            Err(_) => before.current,
        };
        let all = current.unwrap_or(MAX_DESCRIPTORS).min(MAX_DESCRIPTORS);
        Self { before, descriptors: all.saturating_sub(OTHER_DESCRIPTORS) as usize }
    }
}

impl Drop for RaisedLimit {
    fn drop(&mut self) {
        // Lowering one's own soft limit cannot fail.
        let _ = rustix::process::setrlimit(Resource::Nofile, self.before);
    }
}
