//! Which central store a command of `udocker site` works on.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::fs::Mode;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::settings::{StoreAccess, StoreKind, StoreParts, StoreSettings};
use udocker_core::store::{FileLock, LockKind, Patience, Store, StoreError};

use crate::context::Context;

/// The option `--store`.
#[derive(Debug, clap::Args)]
pub struct StoreArg {
    /// A store of site.toml by its name, or any directory by a path with a `/` [default: the only store of kind site].
    #[arg(long = "store", value_name = "NAME|DIR")]
    pub store: Option<String>,
}

/// No central store is meant, or it cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum SiteStoreError {
    #[error("cannot choose a central store: site.toml has none of kind site")]
    None,
    #[error("cannot choose a central store: site.toml has {}", .0.join(", "))]
    Many(Vec<String>),
    #[error("site.toml has no store {0}")]
    Unknown(String, Vec<String>),
    #[error("the store {0} is no central one: its kind is user or cache")]
    Private(String),
    #[error("there is no store in {0}")]
    Missing(PathBuf),
    #[error("cannot change the store {0}: you may not write there")]
    ReadOnly(PathBuf),
}

impl Explain for SiteStoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::None | Self::Many(_) | Self::Unknown(..) | Self::Private(_) => ErrorKind::Usage,
            Self::Missing(_) => ErrorKind::NotFound,
            Self::ReadOnly(_) => ErrorKind::Denied,
        }
    }
    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::None => "add a `[[store]]` with `kind = \"site\"`, or name a directory by `--store=DIR`".into(),
            Self::Many(_) => "name one by `--store=NAME`".into(),
            Self::Unknown(_, names) if names.is_empty() => "a directory is named by a path with a `/`".into(),
            Self::Unknown(_, names) => format!("its central stores: {}", names.join(", ")),
            Self::Private(_) => "`kind = \"site\"` or `\"project\"` makes it one that others read".into(),
            Self::Missing(_) => "`udocker site publish IMAGE` makes it".into(),
            Self::ReadOnly(_) => "do it as the user to whom it belongs, on a host that mounts it writable".into(),
        }]
    }
}

impl StoreArg {
    /// What is configured for the store, writable.
    fn settings(&self, context: &Context) -> Result<StoreSettings, Failure> {
        let all = &context.settings.stores;
        let is_central = |store: &&StoreSettings| matches!(store.kind, StoreKind::Site | StoreKind::Project);
        let names = || all.iter().filter(is_central).map(|store| store.name.clone()).collect::<Vec<_>>();
        let found = match self.store.as_deref() {
            None => {
                let sites: Vec<_> = all.iter().filter(|store| store.kind == StoreKind::Site).collect();
                match sites[..] {
                    [only] => only.clone(),
                    [] => return Err(SiteStoreError::None.into()),
                    _ => return Err(SiteStoreError::Many(sites.iter().map(|s| s.name.clone()).collect()).into()),
                }
            }
            Some(text) if text.contains('/') => {
                let path = std::path::absolute(text).map_err(crate::usage)?;
                let known = all.iter().find(|store| store.path == path).filter(is_central).cloned();
                known.unwrap_or_else(|| StoreSettings {
                    name: text.to_owned(),
                    path,
                    parts: StoreParts::default(),
                    kind: StoreKind::Site,
                    readonly: false,
                    keep_layers: true,
                    sync: true,
                    access: Default::default(),
                })
            }
            Some(name) => match all.iter().find(|store| store.name == name) {
                None => return Err(SiteStoreError::Unknown(name.to_owned(), names()).into()),
                Some(store) if !is_central(&store) => return Err(SiteStoreError::Private(name.to_owned()).into()),
                Some(store) => store.clone(),
            },
        };
        // Its keepers need not be among those whom it serves.
        let access = StoreAccess { acl: None, ..found.access };
        Ok(StoreSettings { readonly: false, access, ..found })
    }

    /// The store, to look at.
    pub fn open(&self, context: &Context) -> Result<Store, Failure> {
        let settings = self.settings(context)?;
        Ok(Store::open(&settings)?.ok_or(SiteStoreError::Missing(settings.path))?)
    }

    /// The store, to change it.
    pub fn open_to_change(&self, context: &Context) -> Result<Store, Failure> {
        let store = self.open(context)?;
        writable(store)
    }

    /// The same, made if there is none.
    pub fn create(&self, context: &Context) -> Result<Store, Failure> {
        let settings = self.settings(context)?;
        set_umask(&settings);
        if let Some(store) = Store::open(&settings)? {
            writable(store)?;
        }
        Ok(Store::create(&settings)?)
    }
}

fn writable(store: Store) -> Result<Store, Failure> {
    if !store.is_writable() {
        return Err(SiteStoreError::ReadOnly(store.path().to_owned()).into());
    }
    set_umask(store.settings());
    // What is left stays until a process that may remove it comes by.
    let _ = store.sweep();
    Ok(store)
}

/// Whatever the caller's is, everybody reads what is made in the store; its group writes if it may write the store itself.
fn set_umask(settings: &StoreSettings) {
    let status = std::fs::metadata(&settings.path);
    let is_groups = status.is_ok_and(|status| status.permissions().mode() & 0o020 != 0);
    rustix::process::umask(Mode::from_raw_mode(if is_groups { 0o002 } else { 0o022 }));
}

/// Waits for those who publish: they may count on what is about to change.
pub fn alone(store: &Store, context: &Context) -> Result<FileLock, StoreError> {
    let waiting = || context.ui.warning("waiting for others who publish images in this store");
    store.lock(LockKind::Remove, &Patience::long(&waiting))
}
