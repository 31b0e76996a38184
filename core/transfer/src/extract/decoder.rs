//! One layer from its blob to jobs: decode, read the entries, hand small files over whole and large ones in parts.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;
use udocker_core::text::escape;

use super::blocks::Slice;
use super::directory::Version;
use super::entry::{Entry, EntryError, EntryKind, escape_name, next_entry};
use super::header::{ByteSource, ended};
use super::path::{OwnLinks, components, join, normal, split};
use super::shared::Shared;
use super::sparse::SparseMap;
use super::tree::{Item, Node, Placed, TRASH};
use super::writer::{Job, OpenFile};
use super::{ExtractError, LayerSource, decode};

/// Up to here a file travels as one job.
pub(super) const SMALL_FILE_BYTES: u64 = 64 << 10;
/// Jobs handed over at once, so that not every file wakes a writer.
const BATCH_JOBS: usize = 32;
const BATCH_BYTES: u64 = 256 << 10;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Reads the entries of the layer at `index` and gives them to the writers.
pub(super) fn decode_layer(
    shared: &Shared<'_>,
    index: usize,
    writers: &[Sender<Vec<Job>>],
) -> Result<(), ExtractError> {
    let layer = shared.layers[index];
    let broken = |source| ExtractError::Layer { digest: layer.digest().clone(), source };
    let reader = layer.open().and_then(decode).map_err(broken)?;
    let batches = writers.iter().map(|_| Batch::default()).collect();
    let mut stream = Stream { shared, reader, current: None, at_end: false, writers, batches };
    let mut links = OwnLinks::default();
    let mut sequence = 0;
    loop {
        if shared.has_failed() {
            return Ok(());
        }
        let entry = match next_entry(&mut stream) {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(EntryError::Stream(source)) => return Err(broken(source)),
            Err(EntryError::Bad { entry, what }) => {
                return Err(ExtractError::BadEntry { digest: layer.digest().clone(), entry, what });
            }
        };
        sequence += 1;
        shared.count_entry()?;
        shared.count_bytes(entry.data_bytes + entry.extension_bytes)?;
        let (data_bytes, padding) = (entry.data_bytes, entry.padding);
        let raw = entry.path.clone();
        let bad = |what| ExtractError::BadEntry { digest: layer.digest().clone(), entry: escape_name(&raw), what };
        let item = resolve(entry, Version::new(index, sequence), &mut links).map_err(bad)?;
        let Some((item, map)) = item else {
            stream.skip(data_bytes + padding).map_err(broken)?;
            continue;
        };
        if matches!(item.node, Node::Device) {
            shared.devices.fetch_add(1, Ordering::Relaxed);
        }
        let writer = stream.writer_of(&item.path);
        match item.node {
            Node::File(real_size) if data_bytes > SMALL_FILE_BYTES => {
                let failed =
                    |source| ExtractError::Write { digest: layer.digest().clone(), entry: escape(&raw), source };
                match shared.tree.place(&item).map_err(|errno| failed(errno.into()))? {
                    Placed::File(file) => {
                        // One byte more than there is keeps the file open until all parts are on their way.
                        let open = Arc::new(OpenFile::new(file, item, data_bytes + 1));
                        let segments = map.as_ref().map_or(vec![(0, data_bytes)], |map| map.segments.clone());
                        stream.send_parts(&open, writer, &segments).map_err(broken)?;
                        if map.is_some() {
                            open.set_size(real_size).map_err(failed)?;
                        }
                        open.written(1, shared.format).map_err(failed)?;
                    }
                    Placed::Done | Placed::Hidden => stream.skip(data_bytes).map_err(broken)?,
                }
            }
            Node::File(_) => {
                let data = stream.slices(data_bytes).map_err(broken)?;
                stream.push(writer, Job::Place(item, data, map), data_bytes);
            }
            _ => {
                stream.skip(data_bytes).map_err(broken)?;
                let bytes = item.xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum();
                stream.push(writer, Job::Place(item, Vec::new(), None), bytes);
            }
        }
        stream.skip(padding).map_err(broken)?;
    }
    stream.flush();
    // Only at its end does the source tell whether the bytes were right.
    while let Some(count) = stream.refill().map_err(broken)? {
        shared.count_bytes(count as u64)?;
        stream.current = None;
    }
    Ok(())
}

/// What an entry means for the tree; `None` if nothing.
fn resolve(
    entry: Entry,
    version: Version,
    links: &mut OwnLinks,
) -> Result<Option<(Item, Option<SparseMap>)>, &'static str> {
    let path = normal(&entry.path)?;
    if path.is_empty() && entry.kind != EntryKind::Directory {
        return Err("which would replace the root");
    }
    let (above, name) = split(&path);
    let above = links.resolve(above)?;
    if is_reserved(&above) {
        return Ok(None);
    }
    let (path, node) = if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        if name == OPAQUE {
            (above, Node::Opaque)
        } else if hidden.starts_with(WHITEOUT) {
            // The other names of AUFS (`.wh..wh.plnk` …) mean nothing here.
            return Ok(None);
        } else if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err("a whiteout of no name");
        } else {
            (join(&above, hidden), Node::Whiteout)
        }
    } else {
        let path = join(&above, name);
        links.note(&path, (entry.kind == EntryKind::Symlink).then_some(&*entry.link));
        let node = match entry.kind {
            EntryKind::Directory => Node::Directory,
            EntryKind::File => Node::File(entry.sparse.as_ref().map_or(entry.data_bytes, |map| map.real_size)),
            EntryKind::Symlink => Node::Symlink(entry.link),
            EntryKind::Device => Node::Device,
            EntryKind::HardLink => {
                let target = normal(&entry.link)?;
                let (above, name) = split(&target);
                let target = join(&links.resolve(above)?, name);
                if target == path {
                    return Ok(None);
                }
                Node::HardLink(target)
            }
        };
        (path, node)
    };
    let owner = ((entry.uid, entry.gid) != (0, 0)).then(|| Box::new((entry.uid, entry.gid)));
    let Entry { mode, mtime, xattrs, sparse, .. } = entry;
    Ok(Some((Item { version, path, node, mode, owner, mtime, xattrs }, sparse)))
}

/// Whether a path leads into the trash, where an archive has no business.
fn is_reserved(path: &[u8]) -> bool {
    components(path).next() == Some(TRASH.to_bytes())
}

#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    bytes: u64,
}

/// The decoded bytes of a layer in blocks, and the jobs that were made of them and not handed over yet.
struct Stream<'a, 'b> {
    shared: &'a Shared<'b>,
    reader: Box<dyn Read + Send>,
    current: Option<Slice>,
    at_end: bool,
    writers: &'a [Sender<Vec<Job>>],
    batches: Vec<Batch>,
}

impl Stream<'_, '_> {
    /// All of a directory goes to one writer: the kernel makes names in one directory one after another anyway.
    fn writer_of(&self, path: &[u8]) -> usize {
        let mut hash = DefaultHasher::new();
        split(path).0.hash(&mut hash);
        (hash.finish() % self.writers.len() as u64) as usize
    }

    fn push(&mut self, writer: usize, job: Job, bytes: u64) {
        let batch = &mut self.batches[writer];
        batch.jobs.push(job);
        batch.bytes += bytes;
        if batch.jobs.len() >= BATCH_JOBS || batch.bytes >= BATCH_BYTES {
            self.hand_over(writer);
        }
    }

    fn hand_over(&mut self, writer: usize) {
        let batch = std::mem::take(&mut self.batches[writer]);
        if !batch.jobs.is_empty() {
            // Writers end after decoders do.
            let _ = self.writers[writer].send(batch.jobs);
        }
    }

    fn flush(&mut self) {
        (0..self.writers.len()).for_each(|writer| self.hand_over(writer));
    }

    /// Reads the next block if the current one is used up; `None` at the end, else how many bytes it has.
    fn refill(&mut self) -> io::Result<Option<usize>> {
        if let Some(current) = &self.current
            && !current.is_empty()
        {
            return Ok(Some(current.len()));
        }
        self.current = None;
        if self.at_end {
            return Ok(None);
        }
        let mut block = match self.shared.pool.try_take() {
            Some(block) => block,
            None => {
                // What is not handed over yet holds blocks, and nobody else will give those back.
                self.flush();
                self.shared.pool.take()
            }
        };
        let mut filled = 0;
        while filled < block.len() {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    drop(self.shared.pool.share(block, 0));
                    return Err(error);
                }
            }
        }
        let slice = self.shared.pool.share(block, filled);
        self.current = (filled > 0).then_some(slice);
        Ok((filled > 0).then_some(filled))
    }

    /// The next bytes, at most `limit` of them, at least one.
    fn slice(&mut self, limit: u64) -> io::Result<Slice> {
        let available = self.refill()?.ok_or_else(ended)?;
        let count = available.min(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(self.current.as_mut().expect("refilled").split_to(count))
    }

    fn slices(&mut self, mut bytes: u64) -> io::Result<Vec<Slice>> {
        let mut slices = Vec::new();
        while bytes > 0 {
            let slice = self.slice(bytes)?;
            bytes -= slice.len() as u64;
            slices.push(slice);
        }
        Ok(slices)
    }

    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 && !self.shared.has_failed() {
            bytes -= self.slice(bytes)?.len() as u64;
        }
        Ok(())
    }

    fn send_parts(&mut self, open: &Arc<OpenFile>, writer: usize, segments: &[(u64, u64)]) -> io::Result<()> {
        for (offset, length) in segments {
            let mut done = 0;
            while done < *length {
                if self.shared.has_failed() {
                    return Ok(());
                }
                let slice = self.slice(length - done)?;
                let count = slice.len() as u64;
                self.push(writer, Job::Part(Arc::clone(open), slice, offset + done), count);
                done += count;
            }
        }
        Ok(())
    }
}

impl ByteSource for Stream<'_, '_> {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.refill()?.is_some() {
            let slice = self.slice((buffer.len() - filled) as u64)?;
            buffer[filled..filled + slice.len()].copy_from_slice(&slice);
            filled += slice.len();
        }
        Ok(filled)
    }
}

/// Finds the entries of one layer again, for [`super::repair`]: calls `each` with items in order and their bytes.
pub(super) fn scan_layer(
    layer: &dyn LayerSource,
    index: usize,
    mut each: impl FnMut(Item, Option<SparseMap>, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    struct Plain(Box<dyn Read + Send>);
    impl ByteSource for Plain {
        fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let mut filled = 0;
            while filled < buffer.len() {
                match self.0.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(filled)
        }
    }
    let mut source = Plain(decode(layer.open()?)?);
    let mut links = OwnLinks::default();
    let mut sequence = 0;
    let changed = || io::Error::other("the layer is not what it was a moment ago");
    while let Some(entry) = next_entry(&mut source).map_err(|error| match error {
        EntryError::Stream(error) => error,
        EntryError::Bad { .. } => changed(),
    })? {
        sequence += 1;
        let mut data = (&mut source.0).take(entry.data_bytes);
        let padding = entry.padding;
        if let Some((item, map)) = resolve(entry, Version::new(index, sequence), &mut links).map_err(|_| changed())? {
            each(item, map, &mut data)?;
        }
        io::copy(&mut data, &mut io::sink())?;
        io::copy(&mut (&mut source.0).take(padding), &mut io::sink())?;
    }
    Ok(())
}
