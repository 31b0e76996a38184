//! One store: its directories, and the paths in them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::repos::write_atomically;
use super::{TreeFormat, TreeId};
use crate::digest::{Algorithm, Digest};
use crate::error::{ErrorKind, Explain};
use crate::members::MembersError;
use crate::platform::Platform;
use crate::settings::{StoreKind, StoreSettings};

/// Our own, made when they are first needed.
const FORMAT_FILE: &str = "udocker.store";
/// The newest format that this code reads and the one it writes.
const FORMAT: u32 = 1;

/// A store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A list of who runs something.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// A newer program wrote it.
    #[error("the store {path} has format {found}, and this version reads formats up to {FORMAT}")]
    NewerFormat {
        /// TOPDIR.
        path: PathBuf,
        /// The number in its format file.
        found: String,
    },
    /// A file of ours holds what we never write.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The image is protected.
    #[error("image repository is protected")]
    ProtectedImage,
    /// The container is protected.
    #[error("container is protected")]
    ProtectedContainer,
    /// The name belongs to another container.
    #[error("container name already exists")]
    NameTaken,
    /// No container has the name.
    #[error("removing container name: no container has this name")]
    NoName,
    /// The container was removed meanwhile.
    #[error("container {id} was removed a moment ago")]
    Gone {
        /// The container.
        id: String,
    },
    /// The tree of an image was removed meanwhile.
    #[error("the image's tree {} was removed a moment ago", .0.display())]
    TreeGone(PathBuf),
    /// Something runs in it.
    #[error("container {id} is in use by process {pid}")]
    InUse {
        /// The container.
        id: String,
        /// One of its processes.
        pid: u32,
    },
    /// Others hold a lock for longer than is waited.
    #[error("{path} is locked by another process for {seconds} s")]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The tree below a container is gone.
    #[error("the base of container {id} is in no store")]
    NoBase {
        /// The container.
        id: String,
        /// Where it came from.
        image: String,
    },
}

impl Explain for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::from_io(source),
            Self::Members(error) => error.kind(),
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::ProtectedImage | Self::ProtectedContainer => ErrorKind::Denied,
            Self::NameTaken | Self::InUse { .. } | Self::Busy { .. } => ErrorKind::Conflict,
            Self::NoBase { .. } | Self::NoName | Self::Gone { .. } | Self::TreeGone(_) => ErrorKind::NotFound,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { source, .. } if ErrorKind::from_io(source) == ErrorKind::NoSpace => {
                vec!["free space there, or name another store by `--repo=DIR` or UDOCKER_DIR".into()]
            }
            Self::Io { action: "copy" | "copy the layer of" | "apply the upper layer of", source, .. }
                if ErrorKind::from_io(source) == ErrorKind::Denied =>
            {
                vec!["files of another user lie in it: `udocker setup --fixperm CONTAINER` makes them yours".into()]
            }
            Self::Io { source, .. } if ErrorKind::from_io(source) == ErrorKind::Denied => {
                vec!["that place is closed to you: name another store by `--repo=DIR` or UDOCKER_DIR".into()]
            }
            Self::NewerFormat { .. } => vec!["use the newer udocker that wrote it, or another store".into()],
            Self::Damaged { path, .. } => vec![match container_of(path) {
                Some(id) => format!("`udocker rm {id}` removes the container"),
                None => format!("remove {} and pull the image again", path.display()),
            }],
            Self::ProtectedImage | Self::ProtectedContainer => vec!["`udocker unprotect` lifts the protection".into()],
            Self::NameTaken => vec!["choose another name, or take it away by `udocker rmname`".into()],
            Self::TreeGone(_) => vec!["`udocker images` lists what is here".into()],
            Self::NoName | Self::Gone { .. } => vec!["`udocker ps` lists containers and their names".into()],
            Self::InUse { id, .. } => vec![
                "wait for its end, or run its image without a container".into(),
                format!("`udocker inspect -p {id}` gives it a root that any number of runs may share, once it is idle"),
            ],
            Self::Busy { path, .. } => vec![format!("`fuser {}` names the processes", path.display())],
            Self::NoBase { image, .. } => vec![format!("`udocker pull {image}` restores it")],
            Self::Members(error) => error.hints(),
            Self::Io { .. } => Vec::new(),
        }
    }
}

/// The container whose file this is.
fn container_of(path: &Path) -> Option<&str> {
    let is_its = path.file_name().is_some_and(|name| name == "layered" || name == "container.json");
    path.parent().filter(|_| is_its)?.file_name()?.to_str()
}

/// Attaches what was being done to an I/O error.
pub(crate) fn io_error<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError::Io { action, path: path.to_owned(), source: source.into() }
}

/// An existing store.
#[derive(Clone, Debug)]
pub struct Store {
    settings: StoreSettings,
    /// Why its trees may not be run as they are.
    distrust: Option<String>,
    /// Whether only trees that belong to the caller serve.
    own_trees: bool,
}

impl Store {
    /// Opens what is there; makes, locks and touches nothing. `None` if there is no store at the path, or none for this user.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`], or the file system's.
    pub fn open(settings: &StoreSettings) -> Result<Option<Self>, StoreError> {
        if !settings.admits_caller() {
            return Ok(None);
        }
        let file = settings.path.join(FORMAT_FILE);
        match fs::read_to_string(&file) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(format) if format <= FORMAT => {}
                _ => {
                    let found = text.trim().chars().take(20).flat_map(char::escape_default).collect();
                    return Err(StoreError::NewerFormat { path: settings.path.clone(), found });
                }
            },
            // udocker's own stores have no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !settings.repos().is_dir() {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            Err(error) => return Err(io_error("read", &file)(error)),
        }
        Ok(Some(Self { settings: settings.clone(), distrust: settings.distrust(), own_trees: false }))
    }

    /// Makes the store, or what of it is missing; several may do so at once.
    pub fn create(settings: &StoreSettings) -> Result<Self, StoreError> {
        let mode = if matches!(settings.kind, StoreKind::User | StoreKind::Cache) { 0o700 } else { 0o775 };
        let parts = [settings.repos(), settings.layers(), settings.containers()];
        let tools = [settings.bin(), settings.lib(), settings.doc()];
        // In a store of many they are made by whoever needs one first, and private to him.
        let own = ["tmp", "trash", "leases", "marks"].map(|name| settings.path.join(name));
        let own = own.into_iter().filter(|_| mode != 0o700);
        for path in std::iter::once(settings.path.clone()).chain(parts).chain(tools).chain(own) {
            fs::DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(io_error("make", &path))?;
        }
        let file = settings.path.join(FORMAT_FILE);
        if !file.exists() {
            // Who opens the store meanwhile finds the whole number or no file.
            write_atomically(&file, format!("{FORMAT}\n").as_bytes())?;
        }
        Ok(Self { settings: settings.clone(), distrust: settings.distrust(), own_trees: false })
    }

    /// TOPDIR.
    pub fn path(&self) -> &Path {
        &self.settings.path
    }
    /// What was configured for it.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }
    /// Why nothing may be run from it as it is; `None`: it may.
    pub fn distrust(&self) -> Option<&str> {
        self.distrust.as_deref()
    }
    /// The same store, of which only trees that belong to the caller serve: those that an overlay is to be laid over. Of
    /// another user's file overlayfs makes no copy to write to (EOVERFLOW): no ID of a user namespace stands for its owner
    /// (user_namespaces(7)).
    pub fn with_own_trees(self) -> Self {
        Self { own_trees: true, ..self }
    }
    /// Whether `tree`, a directory, serves.
    pub(super) fn serves(&self, tree: &Path) -> bool {
        let owner = fs::metadata(tree).ok().filter(fs::Metadata::is_dir).map(|status| status.uid());
        owner.is_some_and(|owner| !self.own_trees || owner == rustix::process::geteuid().as_raw())
    }
    /// Whether this process may write it: asked of the kernel, by effective IDs.
    pub fn is_writable(&self) -> bool {
        !self.settings.readonly
            && rustix::fs::accessat(
                rustix::fs::CWD,
                self.path(),
                Access::WRITE_OK | Access::EXEC_OK,
                rustix::fs::AtFlags::empty(),
            )
            .is_ok()
    }
    /// How trees are extracted here.
    pub fn format(&self) -> TreeFormat {
        match self.settings.kind {
            StoreKind::User | StoreKind::Cache => TreeFormat::Private1,
            StoreKind::Project | StoreKind::Site => TreeFormat::Shared1,
        }
    }
    /// `repos/`.
    pub fn repos(&self) -> PathBuf {
        self.settings.repos()
    }
    /// `layers/`.
    pub fn layers(&self) -> PathBuf {
        self.settings.layers()
    }
    /// `containers/`.
    pub fn containers(&self) -> PathBuf {
        self.settings.containers()
    }
    /// The file of a blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.layers().join(digest.to_string())
    }
    /// The directory of a tag.
    pub fn tag_directory(&self, name: &str, tag: &str) -> PathBuf {
        self.repos().join(name).join(tag)
    }
    /// The file of a record.
    pub fn record_path(&self, digest: &Digest, platform: &Platform) -> PathBuf {
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        self.path().join("records").join(algorithm).join(format!("{}-{}", digest.hex(), platform.file_suffix()))
    }
    /// The root of a tree.
    pub fn tree(&self, tree: &TreeId) -> PathBuf {
        self.path().join("rootfs").join(tree.format.as_str()).join(tree.hex()).join("root")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::StoreParts;

    #[test]
    fn whoever_opens_a_store_that_is_being_made_reads_its_whole_format() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..30 {
            let path = directory.path().join(number.to_string());
            let file = path.join(FORMAT_FILE);
            let (parts, kind) = (StoreParts::default(), StoreKind::User);
            let settings = StoreSettings {
                name: "s".into(),
                path,
                parts,
                kind,
                readonly: false,
                keep_layers: true,
                sync: false,
                access: Default::default(),
            };
            let reader = std::thread::spawn(move || {
                loop {
                    if let Ok(text) = fs::read_to_string(&file) {
                        return text;
                    }
                }
            });
            Store::create(&settings).unwrap();
            assert_eq!(reader.join().unwrap(), "1\n");
        }
    }
}
