//! Random images of one to six layers against a model: whiteouts, opaque marks, type changes, hard links within and
//! across layers, implied directories; each image in three schedules. `UDOCKER_TRIALS` multiplies the number of images;
//! the seeds are fixed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use udocker_core::digest::Digest;
use udocker_core::store::TreeFormat;
use udocker_transfer::extract::{FlattenOptions, LayerSource, Schedule, flatten_with};

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Clone, Debug)]
enum Entry {
    Directory(String, u32),
    File(String, u32, String),
    Link(String, &'static str),
    Hard(String, String),
    Whiteout(String),
    Opaque(String),
}

/// What a path is: a directory of a mode (and time, if an entry made it), a file, a link.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Directory(u32, Option<i64>),
    File(u32, i64, String),
    Link(String, i64),
}

type Model = BTreeMap<String, Node>;

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}

/// A layer that is legal in itself: no path twice, nothing below what is no directory in it; a hard link of it leads to a
/// file of its own or to one of the layers below (`lower`) that it leaves alone.
fn layer(random: &mut Random, number: usize, lower: &Model) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut used: BTreeMap<String, char> = BTreeMap::new();
    for _ in 0..random.below(8) + 1 {
        let depth = random.pick(&[1, 1, 2, 2, 3]);
        let path = (0..depth).map(|_| random.pick(&["a", "b", "c"])).collect::<Vec<_>>().join("/");
        let kind = random.pick(&['f', 'f', 'f', 'd', 'd', 'l', 'w', 'o', 'h', 't']);
        let occupied = parents(&path).iter().any(|parent| used.get(parent).is_some_and(|kind| *kind != 'd'));
        let filled = used.keys().any(|known| is_below(known, &path));
        if used.contains_key(&path) || occupied || (filled && kind != 'd' && kind != 'o') {
            continue;
        }
        // The target of a hard link into a lower layer is not to be hidden by the same layer.
        if kind == 'o' && used.iter().any(|(known, kind)| *kind == 't' && is_below(known, &path)) {
            continue;
        }
        match kind {
            'd' => entries.push(Entry::Directory(path.clone(), random.pick(&[0o755, 0o700, 0o711]))),
            'o' => {
                entries.push(Entry::Directory(path.clone(), 0o755));
                entries.push(Entry::Opaque(path.clone()));
            }
            'f' => {
                let content = format!("layer {number} {path} {}", random.below(1000)).repeat(random.pick(&[1, 1, 300]));
                entries.push(Entry::File(path.clone(), random.pick(&[0o644, 0o600]), content));
            }
            'l' => entries.push(Entry::Link(path.clone(), random.pick(&["a", "b/c", "/x", "../../../etc"]))),
            'w' => entries.push(Entry::Whiteout(path.clone())),
            't' => {
                let hidden = |target: &str| {
                    parents(target).iter().any(|parent| used.get(parent).is_some_and(|kind| *kind != 'd'))
                        || entries.iter().any(|e| matches!(e, Entry::Opaque(top) if is_below(target, top)))
                        || used.contains_key(target)
                        || path == target
                        || is_below(target, &path)
                        || is_below(&path, target)
                };
                let files = lower.iter().filter(|(path, node)| matches!(node, Node::File(..)) && !hidden(path));
                let files: Vec<&String> = files.map(|(path, _)| path).collect();
                if files.is_empty() {
                    continue;
                }
                let target = files[random.below(files.len() as u64) as usize].clone();
                for parent in parents(&target) {
                    used.entry(parent).or_insert('d');
                }
                entries.push(Entry::Hard(path.clone(), target.clone()));
                used.insert(target, 't');
            }
            _ => {
                let Some((target, _)) = used.iter().find(|(_, kind)| **kind == 'f') else { continue };
                entries.push(Entry::Hard(path.clone(), target.clone()));
            }
        }
        for parent in parents(&path) {
            used.entry(parent).or_insert('d');
        }
        used.insert(
            path,
            if kind == 'o' {
                'd'
            } else if kind == 't' {
                'h'
            } else {
                kind
            },
        );
    }
    entries
}

fn tar(entries: &[Entry], time: u64, dotted: bool) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, target: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_path(if dotted { format!("./{path}") } else { path.to_owned() }).unwrap();
        if !target.is_empty() {
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    let hidden = |path: &str| match path.rsplit_once('/') {
        Some((above, name)) => format!("{above}/.wh.{name}"),
        None => format!(".wh.{path}"),
    };
    for entry in entries {
        match entry {
            Entry::Directory(path, mode) => add(path, tar::EntryType::Directory, *mode, "", b""),
            Entry::File(path, mode, content) => add(path, tar::EntryType::Regular, *mode, "", content.as_bytes()),
            Entry::Link(path, target) => add(path, tar::EntryType::Symlink, 0o777, target, b""),
            Entry::Hard(path, target) => add(path, tar::EntryType::Link, 0o644, target, b""),
            Entry::Whiteout(path) => add(&hidden(path), tar::EntryType::Regular, 0o644, "", b""),
            Entry::Opaque(path) => add(&format!("{path}/.wh..wh..opq"), tar::EntryType::Regular, 0o644, "", b""),
        }
    }
    builder.into_inner().unwrap()
}

fn remove(model: &mut Model, path: &str) {
    model.retain(|known, _| known != path && !is_below(known, path));
}

fn make_parents(model: &mut Model, path: &str) {
    for parent in parents(path) {
        if !matches!(model.get(&parent), Some(Node::Directory(..))) {
            remove(model, &parent);
            model.insert(parent, Node::Directory(0o755, None));
        }
    }
}

/// What an overlay of the layers shows: first a layer hides what is below it, then its own entries appear.
fn apply(model: &mut Model, entries: &[Entry], time: i64) {
    for entry in entries {
        match entry {
            Entry::Whiteout(path) => remove(model, path),
            Entry::Opaque(path) => model.retain(|known, _| !is_below(known, path)),
            _ => {}
        }
    }
    for entry in entries {
        let (path, node) = match entry {
            Entry::Opaque(_) => continue,
            Entry::Whiteout(path) => (path, None),
            Entry::Directory(path, mode) => (path, Some(Node::Directory(*mode, Some(time)))),
            Entry::File(path, mode, content) => (path, Some(Node::File(*mode, time, content.clone()))),
            Entry::Link(path, target) => (path, Some(Node::Link((*target).to_owned(), time))),
            Entry::Hard(path, target) => (path, Some(model[target].clone())),
        };
        make_parents(model, path);
        let Some(node) = node else { continue };
        if !matches!((model.get(path), &node), (Some(Node::Directory(..)), Node::Directory(..))) {
            remove(model, path);
        }
        model.insert(path.clone(), node);
    }
}

fn scan(directory: &Path, prefix: &str, model: &mut Model) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let status = entry.path().symlink_metadata().unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let mode = status.permissions().mode() & 0o7777;
        let node = if status.is_symlink() {
            Node::Link(fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned(), status.mtime())
        } else if status.is_dir() {
            scan(&entry.path(), &format!("{path}/"), model);
            Node::Directory(mode, Some(status.mtime()))
        } else {
            Node::File(mode, status.mtime(), fs::read_to_string(entry.path()).unwrap())
        };
        model.insert(path, node);
    }
}

struct Layer(Digest, Vec<u8>);

impl LayerSource for Layer {
    fn digest(&self) -> &Digest {
        &self.0
    }
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.1.clone())))
    }
}

/// Threads, memory and order in which nothing of an image may show.
fn schedules(random: &mut Random, layers: usize) -> Vec<Schedule> {
    let mut shuffled: Vec<usize> = (0..layers).collect();
    for index in (1..layers).rev() {
        shuffled.swap(index, random.below(index as u64 + 1) as usize);
    }
    let schedule = |decoders, writers, block_bytes, open_directories, order| Schedule {
        decoders,
        writers,
        blocks: 1,
        block_bytes,
        open_directories,
        order,
    };
    vec![
        schedule(2, 2, 256 << 10, None, None),
        schedule(1, 1, 512, Some(1), Some((0..layers).collect())),
        schedule(3, 4, random.pick(&[512, 700, 4096]), Some(2), Some(shuffled)),
    ]
}

#[test]
fn random_images_are_what_an_overlay_of_their_layers_shows() {
    let factor: u64 = std::env::var("UDOCKER_TRIALS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in 1..=500 * factor {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let count = random.below(6) as usize + 1;
        let (mut wanted, mut images, mut blobs) = (Model::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let entries = layer(&mut random, number + 1, &wanted);
            apply(&mut wanted, &entries, 1000 + number as i64);
            let bytes = tar(&entries, 1000 + number as u64, seed % 2 == 0);
            blobs.push(Layer(Digest::sha256_of(&bytes), bytes));
            images.push(entries);
        }
        for schedule in schedules(&mut random, count) {
            let case = format!("seed {seed}, {schedule:?}: {images:#?}");
            let directory = tempfile::tempdir().unwrap();
            let root = fs::File::open(directory.path()).unwrap();
            let layers: Vec<&dyn LayerSource> = blobs.iter().map(|blob| blob as &dyn LayerSource).collect();
            let options = FlattenOptions { format: TreeFormat::Private1, max_bytes: 1 << 30, max_entries: 1 << 20 };
            let flattened = flatten_with(&layers, root.as_fd(), &options, &schedule);
            let flattened = flattened.unwrap_or_else(|error| panic!("{case}: {error:?}"));
            let mut found = Model::new();
            scan(directory.path(), "", &mut found);
            // The time of a directory that no entry made is not specified.
            for (path, node) in &mut found {
                if let (Node::Directory(_, time), Some(Node::Directory(_, None))) = (node, wanted.get(path)) {
                    *time = None;
                }
            }
            assert_eq!(found, wanted, "{case}");
            assert_eq!(flattened.entries, wanted.len() as u64, "{case}");
        }
    }
}
