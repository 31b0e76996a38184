//! `udocker mkrepo`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use udocker_core::error::{ErrorKind, Explain};
use udocker_core::settings::{StoreKind, StoreParts, StoreSettings};
use udocker_core::store::Store;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Make an empty store in a new directory.
///
/// Example: udocker mkrepo /data/store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory that does not exist; its parents are made as well.
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// The directory cannot become a store.
#[derive(Debug, thiserror::Error)]
enum MkrepoError {
    #[error("localrepo directory already exists: {0}")]
    Exists(PathBuf),
    #[error("localrepo creation failure: {0}")]
    Make(PathBuf, #[source] std::io::Error),
}

impl Explain for MkrepoError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists(_) => ErrorKind::Conflict,
            Self::Make(_, source) => ErrorKind::from_io(source),
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Exists(path) => vec![format!("`udocker --repo={} …` uses it if it is a store", path.display())],
            Self::Make(..) => Vec::new(),
        }
    }
}

pub fn run(args: &Args, _context: &Context) -> Outcome {
    let directory = args.directory.as_ref().ok_or_else(|| usage_text("must specify a directory"))?;
    // A link that leads nowhere is something, too.
    if directory.symlink_metadata().is_ok() {
        return Err(MkrepoError::Exists(directory.clone()).into());
    }
    let failed = |source| MkrepoError::Make(directory.clone(), source);
    let path = std::path::absolute(directory).map_err(failed)?;
    // The parents as the umask has them; the store itself is private.
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    Store::create(&StoreSettings {
        name: "user".into(),
        path,
        parts: StoreParts::default(),
        kind: StoreKind::User,
        readonly: false,
        keep_layers: true,
        sync: true,
        access: Default::default(),
    })?;
    Ok(ExitCode::SUCCESS)
}
