//! `udocker install`.
//!
//! ```text
//! TOPDIR/bin/proot-x86_64   a script that says how to run containers: other scripts look whether it is there
//! TOPDIR/lib/VERSION        the release of engines that udocker 1.3 asks for, so that it downloads none
//! ```
//! What udocker's own `install` or anybody else left there is never overwritten; only `--purge` removes what has a name
//! that udocker's archive of engines uses.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use udocker_core::env_vars::matches_any;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::store::Store;

use super::Outcome;
use crate::context::Context;

/// Leave in the store what scripts of udocker look for; nothing is downloaded.
///
/// Example: udocker install
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write it anew.
    #[arg(long)]
    pub force: bool,
    /// Remove what an installation left first: ours, or the engines of udocker 1.3.
    #[arg(long)]
    pub purge: bool,
}

/// What stands in our script and in no other program.
const MARK: &str = "# Written by `udocker install`; it is no PRoot.";
/// The release that udocker 1.3.17 wants at least; the word behind it makes the file ours.
const RELEASE: &str = "1.2.11.built-in";

/// Names of the files in udocker's archive of engines.
const BIN: &[&str] = &["proot-*", "patchelf-*", "runc-*", "crun-*"];
const LIB: &[&str] = &["libfakechroot-*.so", "VERSION"];
const DOC: &[&str] = &["COPYING*", "LICENSE*", "LICENCE*", "NOTICE*", "README*", "AUTHORS*"];

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
struct InstallError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Explain for InstallError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::from_io(&self.source)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError { action, path: path.into(), source }
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let store = context.writable_store()?;
    if args.purge {
        let removed = purge(&store)?;
        context.ui.info(&format!("removed {removed} files of an earlier installation from {}", store.path().display()));
    }
    let files = [
        (store.settings().bin().join("proot-x86_64"), script(), 0o755),
        (store.settings().lib().join("VERSION"), format!("{RELEASE}\n"), 0o644),
    ];
    let mut written = 0;
    for (path, text, mode) in &files {
        match owner(path)? {
            Owner::Us if !args.force => {}
            Owner::Other => context.ui.info(&format!("kept {}: another program left it", path.display())),
            Owner::Us | Owner::Nobody => {
                write(path, text, *mode)?;
                written += 1;
            }
        }
    }
    context.ui.info(if written == 0 {
        "nothing to install: engines are built in, nothing was downloaded"
    } else {
        "installation successful: engines are built in, nothing was downloaded"
    });
    Ok(ExitCode::SUCCESS)
}

enum Owner {
    Us,
    Other,
    Nobody,
}

fn owner(path: &Path) -> Result<Owner, Failure> {
    match fs::symlink_metadata(path) {
        Ok(status) if !status.is_file() => return Ok(Owner::Other),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Nobody),
        Err(error) => return Err(failed("look at", path)(error).into()),
    }
    let bytes = fs::read(path).map_err(failed("read", path))?;
    let text = String::from_utf8_lossy(&bytes);
    let ours = text.lines().nth(1) == Some(MARK) || text.trim() == RELEASE;
    Ok(if ours { Owner::Us } else { Owner::Other })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    // Beside its place first: a script that runs meanwhile never sees half of it.
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    fs::write(&temporary, text).map_err(failed("write", &temporary))?;
    let moved = fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(failed("write", path));
    if moved.is_err() {
        // What went wrong is told; the half of a file is nobody's loss.
        let _ = fs::remove_file(&temporary);
    }
    Ok(moved?)
}

/// Removes files, never directories, by the names in udocker's archive; returns how many.
fn purge(store: &Store) -> Result<usize, Failure> {
    let mut removed = 0;
    let settings = store.settings();
    for (directory, names) in [(settings.bin(), BIN), (settings.lib(), LIB), (settings.doc(), DOC)] {
        for entry in fs::read_dir(&directory).map_err(failed("list", &directory))? {
            let entry = entry.map_err(failed("list", &directory))?;
            let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !directory && matches_any(names, entry.file_name().as_encoded_bytes()) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// What lies where PRoot would: it answers, and never does anything else than was meant.
fn script() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"#!/bin/sh
{MARK}
case "$1" in
--help | -h)
    echo "proot: this store belongs to udocker {version}, whose engines are built in."
    echo "Run a container with: udocker run IMAGE [COMMAND]"
    ;;
--version | -V)
    echo "udocker {version}, engines built in"
    ;;
*)
    echo "proot: there is no PRoot here: this store belongs to udocker {version}, whose engines are built in." >&2
    echo "  hint: \`udocker run IMAGE [COMMAND]\` runs a container; the udocker of PyPI needs \`udocker install --force\` of its own" >&2
    exit 1
    ;;
esac
"#
    )
}
