//! Checking a whole central store: every blob against its name, every tag against its blobs, every record against its tree.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use udocker_core::digest::Digest;
use udocker_core::store::{HeldImage, Record, Store, StoreError};

use crate::fetch::copy_and_digest_by;

/// What was read, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Blobs that were hashed.
    pub blobs: u64,
    /// Trees that were counted.
    pub trees: u64,
    /// Tags whose layers are all there.
    pub tags: u64,
    /// One sentence each.
    pub faults: Vec<String>,
}

/// Checks all of `store`; changes and locks nothing. What goes or comes meanwhile is no fault.
///
/// # Errors
/// If the store cannot be listed.
pub fn verify_store(store: &Store) -> Result<StoreReport, StoreError> {
    let mut report = StoreReport::default();
    verify_blobs(store, &mut report);
    for tag in store.tags()? {
        let shown = tag.display_name();
        match store.read_image(&tag.directory) {
            Ok(Some(image)) => {
                let missing = image.layers.iter().filter(|layer| !layer.path.is_file());
                let told = missing.map(|layer| format!("{shown}: the layer {} is missing", layer.name));
                let missing: Vec<_> = told.filter(|_| store.settings().keep_layers).collect();
                report.tags += u64::from(missing.is_empty());
                report.faults.extend(missing);
            }
            Ok(None) => {}
            // Taken away meanwhile.
            Err(_) if !tag.directory.exists() => {}
            Err(error) => report.faults.push(format!("{shown}: {error}")),
        }
    }
    for image in store.held_images()? {
        if image.records.is_empty() && !image.tags.is_empty() {
            report.faults.push(format!("{}: it was never extracted here", image.shown()));
        }
        verify_trees(store, &image, &mut report);
    }
    Ok(report)
}

fn verify_blobs(store: &Store, report: &mut StoreReport) {
    let entries = fs::read_dir(store.layers()).into_iter().flatten().flatten();
    let mut named: Vec<(PathBuf, Digest)> =
        entries.filter_map(|entry| Some((entry.path(), entry.file_name().to_str()?.parse().ok()?))).collect();
    named.sort_by(|one, other| one.0.cmp(&other.0));
    for (path, digest) in named {
        let hashed = File::open(&path).and_then(|file| copy_and_digest_by(digest.algorithm(), file, io::sink()));
        match hashed {
            Ok((actual, _)) if actual == digest => report.blobs += 1,
            Ok((actual, _)) => report.faults.push(format!("{}: its bytes have the digest {actual}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => report.faults.push(format!("{}: it cannot be read: {error}", path.display())),
        }
    }
}

fn verify_trees(store: &Store, image: &HeldImage, report: &mut StoreReport) {
    let mut seen: Vec<&Record> = Vec::new();
    for (path, record) in &image.records {
        if seen.iter().any(|other| other.tree == record.tree) {
            continue;
        }
        seen.push(record);
        let root = store.tree(&record.tree);
        let fault = match count(&root) {
            Ok(counted) if counted == (record.entries, record.tree_bytes) => None,
            Ok((entries, bytes)) => Some(format!(
                "its tree has {entries} entries and {bytes} bytes, and had {} and {} when it was extracted",
                record.entries, record.tree_bytes
            )),
            Err(error) => Some(format!("its tree cannot be read: {error}")),
        };
        match fault {
            None => report.trees += 1,
            // Deleted meanwhile.
            Some(_) if !path.exists() => {}
            Some(fault) => report.faults.push(format!("{}: {fault}: {}", image.shown(), root.display())),
        }
    }
}

/// Entries below `root`, and the bytes of its files, each name of a file for itself.
fn count(root: &Path) -> io::Result<(u64, u64)> {
    let (mut entries, mut bytes) = (0, 0);
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let status = entry.metadata()?;
            entries += 1;
            if status.is_dir() {
                directories.push(entry.path());
            } else if status.is_file() {
                bytes += status.size();
            }
        }
    }
    Ok((entries, bytes))
}
