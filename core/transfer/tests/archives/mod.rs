//! Archives written entry by entry, as no builder would, and what extraction makes of them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;

use udocker_core::digest::Digest;
use udocker_core::store::TreeFormat;
use udocker_transfer::extract::{ExtractError, FlattenOptions, Flattened, LayerSource, flatten};

pub struct Layer(Digest, Vec<u8>);

impl LayerSource for Layer {
    fn digest(&self) -> &Digest {
        &self.0
    }
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.1.clone())))
    }
}

/// Extracts beside a file `outside/precious` that must stay as it is.
pub struct Trial {
    pub directory: tempfile::TempDir,
    pub result: Result<Flattened, ExtractError>,
}

pub fn extract(layers: &[Vec<u8>]) -> Trial {
    extract_within(layers, 1 << 30, 1 << 20)
}

pub fn extract_within(layers: &[Vec<u8>], max_bytes: u64, max_entries: u64) -> Trial {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("outside")).unwrap();
    fs::write(directory.path().join("outside/precious"), "precious").unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    let layers: Vec<Layer> = layers.iter().map(|bytes| Layer(Digest::sha256_of(bytes), bytes.clone())).collect();
    let layers: Vec<&dyn LayerSource> = layers.iter().map(|layer| layer as &dyn LayerSource).collect();
    let root = fs::File::open(directory.path().join("root")).unwrap();
    let result =
        flatten(&layers, root.as_fd(), &FlattenOptions { format: TreeFormat::Private1, max_bytes, max_entries });
    assert_eq!(fs::read_to_string(directory.path().join("outside/precious")).unwrap(), "precious");
    assert_eq!(fs::read_dir(directory.path().join("outside")).unwrap().count(), 1);
    Trial { directory, result }
}

impl Trial {
    pub fn error(&self) -> String {
        let mut error: &dyn std::error::Error = self.result.as_ref().unwrap_err();
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            text = format!("{text}: {source}");
            error = source;
        }
        text
    }
    pub fn path(&self, below: &str) -> std::path::PathBuf {
        assert!(self.result.is_ok(), "{:?}", self.result);
        self.directory.path().join("root").join(below)
    }
    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }
}

/// A header with its name written as it is, and its data padded.
pub fn raw(name: &[u8], kind: u8, link: &[u8], data: &[u8], change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.as_old_mut().linkflag[0] = kind;
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    change(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub fn file(name: &str, data: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'0', b"", data.as_bytes(), |_| {})
}
pub fn directory(name: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'5', b"", b"", |header| header.set_mode(0o755))
}
pub fn symlink(name: &str, target: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'2', target.as_bytes(), b"", |_| {})
}
pub fn hard_link(name: &str, target: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'1', target.as_bytes(), b"", |_| {})
}
pub fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = String::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        let length = (1..8).map(|digits| body + digits).find(|all| all.to_string().len() + body == *all).unwrap();
        data.push_str(&format!("{length} {key}={value}\n"));
    }
    raw(b"pax", b'x', b"", data.as_bytes(), |_| {})
}
pub fn layer(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
