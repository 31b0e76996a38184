//! The threads: decoders take layers, top ones first; writers take jobs by directory; the first error ends all of them.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, bounded};
use rustix::process::{Resource, Rlimit};

use super::blocks::BlockPool;
use super::decoder::{SMALL_FILE_BYTES, decode_layer};
use super::finish::finish;
use super::schedule::Schedule;
use super::shared::{Shared, write_error};
use super::tree::Tree;
use super::writer::Job;
use super::{ExtractError, FlattenOptions, Flattened, LayerSource};

/// Descriptors that are not for directories of the tree.
const OTHER_DESCRIPTORS: u64 = 256;
const MIN_DIRECTORIES: usize = 32;
const MAX_DESCRIPTORS: u64 = 1 << 16;
/// Batches that wait at a writer; the bytes in them are bounded by the pool.
const QUEUE_BATCHES: usize = 64;

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
    let tree = Tree::new(root, descriptors).map_err(failed)?;
    let pool = BlockPool::new(schedule.blocks(), schedule.block_bytes);
    let shared = Shared::new(layers, tree, pool, options);
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
    match shared.take_error() {
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
