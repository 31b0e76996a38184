//! Whatever a schedule, an image takes no more descriptors than a process may have, and is the same tree.
//!
//! One test only: it lowers this process's limit of descriptors.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::process::{Resource, Rlimit};
use udocker_core::digest::Digest;
use udocker_core::store::TreeFormat;
use udocker_transfer::extract::{FlattenOptions, LayerSource, Schedule, flatten_with};

struct Layer(Digest, Vec<u8>);

impl LayerSource for Layer {
    fn digest(&self) -> &Digest {
        &self.0
    }
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.1.clone())))
    }
}

fn entry(kind: u8, path: &str, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().linkflag[0] = kind;
    header.set_path(path).unwrap();
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn descriptors_are_bounded() {
    // Small files with holes, large files, and directories, more of each than there are descriptors.
    let mut bytes = Vec::new();
    for number in 0..3000 {
        bytes.extend(entry(b'x', "pax", b"22 GNU.sparse.size=20\n26 GNU.sparse.map=2,1,9,1\n"));
        bytes.extend(entry(b'0', &format!("holes/{number}"), b"ab"));
        if number % 5 == 0 {
            bytes.extend(entry(b'0', &format!("large/{number}"), &[b'x'; (64 << 10) + 1]));
            bytes.extend(entry(b'0', &format!("deep/{number}/a/b/c/small"), b"x"));
        }
    }
    let before = rustix::process::getrlimit(Resource::Nofile);
    let low = Rlimit { current: Some(512), maximum: Some(512) };
    rustix::process::setrlimit(Resource::Nofile, low).unwrap_or_else(|errno| panic!("{before:?}: {errno}"));
    let layer = Layer(Digest::sha256_of(&bytes), bytes);
    for (decoders, writers) in [(1, 1), (2, 2), (1, 8)] {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::File::open(directory.path()).unwrap();
        let schedule =
            Schedule { decoders, writers, blocks: 64, block_bytes: 256 << 10, open_directories: None, order: None };
        let options = FlattenOptions { format: TreeFormat::Private1, max_bytes: 1 << 30, max_entries: 1 << 20 };
        let flattened = flatten_with(&[&layer], root.as_fd(), &options, &schedule).unwrap();
        assert_eq!(flattened.entries, 3 + 3000 + 600 + 600 * 5);
        for number in [0, 1, 1500, 2999] {
            let found = fs::read(directory.path().join(format!("holes/{number}"))).unwrap();
            assert_eq!(found, b"\0\0a\0\0\0\0\0\0b\0\0\0\0\0\0\0\0\0\0");
        }
    }
}
