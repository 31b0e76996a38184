//! Trees as lines that can be compared, and the tree that ours must equal.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::images::{Image, cached, hex};

/// Lists everything below `root`, one line per path in the order of the paths' bytes:
/// type, mode, size, time of change in nanoseconds, link target, SHA-256 of the contents, first name of a hard-linked file.
///
/// A directory's size is not told, nor anything of `root` itself.
pub fn listing(root: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    collect(root, &mut paths);
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut first_names: HashMap<u64, String> = HashMap::new();
    let mut lines = Vec::with_capacity(paths.len());
    for path in paths {
        let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = format!("{:?}", path.strip_prefix(root).expect("below the root"));
        let kind = metadata.file_type();
        let (letter, size, rest) = if kind.is_dir() {
            ('d', 0, String::new())
        } else if kind.is_symlink() {
            ('l', metadata.size(), format!("{:?}", fs::read_link(&path).expect("a link")))
        } else if kind.is_file() {
            let group = if metadata.nlink() > 1 {
                format!(" = {}", first_names.entry(metadata.ino()).or_insert_with(|| name.clone()))
            } else {
                String::new()
            };
            ('f', metadata.size(), format!("{}{group}", file_digest(&path)))
        } else {
            (if kind.is_fifo() { 'p' } else { '?' }, 0, String::new())
        };
        let time = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        lines.push(format!("{name} {letter} {:o} {size} {time} {rest}", metadata.mode() & 0o7777));
    }
    lines
}

/// Returns one digest of a listing.
pub fn tree_digest(root: &Path) -> String {
    hex(&Sha256::digest(listing(root).join("\n")))
}

/// Lists everything below `root` by metadata alone, inode numbers and times of status change among it: two listings are
/// equal only if nothing below was written, made, removed or touched in between.
pub fn fingerprint(root: &Path) -> Vec<String> {
    let mut paths = vec![root.to_owned()];
    collect(root, &mut paths);
    paths.sort();
    let line = |path: PathBuf| {
        let m = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let times = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        format!("{path:?} {} {:o} {}:{} {} {} {times:?}", m.ino(), m.mode(), m.uid(), m.gid(), m.nlink(), m.size())
    };
    paths.into_iter().map(line).collect()
}

/// Asserts that the tree `ours` has the listing `reference`; names the first differences.
///
/// # Panics
/// If it has not.
#[track_caller]
pub fn assert_listed(ours: &Path, reference: &[String]) {
    let ours = listing(ours);
    if ours != reference {
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            let b: std::collections::HashSet<_> = b.iter().collect();
            a.iter().filter(|line| !b.contains(line)).take(20).cloned().collect()
        };
        panic!(
            "the trees differ ({} and {} entries)\nours alone:\n{}\nreference alone:\n{}",
            ours.len(),
            reference.len(),
            only(&ours, reference).join("\n"),
            only(reference, &ours).join("\n"),
        );
    }
}

/// The listing of an image's tree as made without our code: GNU tar and a whiteout pass, `images/reference.py`.
///
/// Made once for the same layers, however they are packed: it is some minutes of a processor for the large ones.
///
/// # Panics
/// If python3, tar or zstd are missing.
pub fn reference_listing(image: &Image) -> Vec<String> {
    let recipe = [include_bytes!("../images/reference.py").as_slice(), include_bytes!("tree.rs")].concat();
    let directory = cached("reference", &[&recipe, image.diff_ids().concat().as_bytes()], |directory| {
        let root = directory.join("root");
        fs::create_dir(&root).expect("a new directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/reference.py");
        let output = Command::new(script).arg(&root).args(image.layers("amd64")).output().expect("package python3");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "images/reference.py: {}\n{text}", output.status);
        fs::write(directory.join("listing"), listing(&root).join("\n")).expect("a listing can be written");
        udocker_core::store::remove_tree(&root).expect("the reference goes");
    });
    let text = fs::read_to_string(directory.join("listing")).expect("it was written");
    text.lines().map(Into::into).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.expect("a readable directory");
        paths.push(entry.path());
        if entry.file_type().expect("a readable directory").is_dir() {
            collect(&entry.path(), paths);
        }
    }
}

fn file_digest(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hash = Sha256::new();
    let mut buffer = [0; 65536];
    loop {
        match file.read(&mut buffer).expect("a readable file") {
            0 => return hex(&hash.finalize()),
            count => hash.update(&buffer[..count]),
        }
    }
}
