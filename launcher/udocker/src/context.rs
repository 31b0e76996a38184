//! What every command is given: settings, stores, and the channel to the user.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use udocker_core::container::Container;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::policy::{self, Permit, Subject};
use udocker_core::reference::ImageReference;
use udocker_core::run::{Caller, ExecMode, UserSpec};
use udocker_core::settings::{Settings, StoreSettings};
use udocker_core::store::{Record, Store, Stores};
use udocker_site_config::{Loaded, Sources};

use crate::general::General;
use crate::ui::Ui;

/// See the module's head.
pub struct Context {
    /// What is configured, with the command's own options applied.
    pub settings: Settings,
    /// What is configured, and by whom.
    pub configuration: Loaded,
    pub ui: Ui,
    /// `--repo`, for commands that refuse what is no store.
    pub repo: Option<PathBuf>,
    /// The name of the only store that this command writes into; `None`: the first that may be written.
    pub into: Option<String>,
    /// Whether that must be one whose files are the caller's.
    into_own: bool,
}

/// No store can be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// `--repo` names something else.
    #[error("invalid udocker repository: {0}")]
    NoRepository(PathBuf),
    /// There is none that may be written.
    #[error("no store can be written: {0} is read-only")]
    NoWritableStore(PathBuf),
    /// The site's choice is closed to this user.
    #[error("cannot stage into {}: the site's `stage.store` names it, and uid {uid} may not write there", path.display())]
    NotStaged {
        /// The store.
        path: PathBuf,
        /// Who asks.
        uid: u32,
    },
    /// What the site's choice has would not be run.
    #[error("cannot stage into {}: the site's `stage.store` names it, and nothing is run from it, as {why}", path.display())]
    Distrusted {
        /// The store.
        path: PathBuf,
        /// See [`Store::distrust`].
        why: String,
    },
}

impl Explain for ContextError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRepository(_) => ErrorKind::NotFound,
            Self::NoWritableStore(_) | Self::NotStaged { .. } | Self::Distrusted { .. } => ErrorKind::Denied,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoRepository(_) => vec!["a store has the directories repos, layers, containers, bin and lib".into()],
            Self::Distrusted { .. } => {
                vec!["its keeper belongs into its `trust` in site.toml; `chmod o-w` closes it to everybody".into()]
            }
            Self::NoWritableStore(_) | Self::NotStaged { .. } => {
                vec!["name one of yours by UDOCKER_DIR or `--repo=DIR`".into()]
            }
        }
    }
}

impl Context {
    /// Reads the configuration, and tells what of it is passed over.
    pub fn load(general: &General) -> Result<Self, Failure> {
        let caller = Caller::gather(std::env::vars_os().collect(), &UserSpec::Caller);
        let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
        let repo = absolute(&general.repo).map_err(crate::usage)?;
        let sources = Sources {
            repo: repo.clone(),
            config: absolute(&general.config).map_err(crate::usage)?,
            insecure: general.insecure,
            verbosity: general.verbosity(),
            in_detail: true,
            ..Sources::of_caller(&caller)
        };
        let configuration = udocker_site_config::load(&sources)?;
        let settings = configuration.settings.clone();
        let ui = Ui { verbosity: settings.verbosity };
        configuration.warnings.iter().for_each(|warning| ui.warning(warning));
        Ok(Self { settings, configuration, ui, repo, into: None, into_own: false })
    }

    /// Opens the stores that exist; makes and writes nothing, but sweeps what dead processes of ours left in the user's.
    pub fn stores(&self) -> Result<Stores, Failure> {
        let stores = Stores::open(&self.settings)?;
        if let Some(repo) = &self.repo
            && stores.iter().all(|store| store.path() != repo)
        {
            return Err(ContextError::NoRepository(repo.clone()).into());
        }
        if let Some(store) = stores.first_writable() {
            match store.sweep() {
                Ok(0) => {}
                Ok(count) => self.ui.debug(&format!("removed {count} left-over temporary folders")),
                Err(error) => self.ui.debug(&format!("cannot sweep temporary folders: {error}")),
            }
        }
        Ok(stores)
    }

    /// Whether an overlay with a tmpfs upper can be mounted over `tree`; the reason if not.
    pub fn overlay_works(&self, tree: &Path) -> Result<(), String> {
        let run = udocker_core::store::RunDirectory::open(&self.settings.run_dirs);
        udocker_core::host::overlay_over(tree, run.as_ref())
    }

    /// Whether mode N1 works here; the reason if not.
    pub fn namespaces_work(&self) -> Result<(), String> {
        let run = udocker_core::store::RunDirectory::open(&self.settings.run_dirs);
        udocker_core::host::user_namespaces(run.as_ref())
    }

    /// The site's leave to use an image by its record and its tree, which the user named `shown`; `writes`: over its files.
    pub fn permit_image(
        &self,
        shown: &str,
        reference: &ImageReference,
        image: (&Record, &Path),
        writes: bool,
    ) -> Result<Permit<'_>, Failure> {
        policy::ask_image(&self.settings, (shown, reference), image, writes, &environment())
    }

    /// The same for a container.
    pub fn permit_container(&self, shown: &str, container: &Container) -> Result<Permit<'_>, Failure> {
        Ok(policy::ask_container(&self.settings, shown, container, &environment())?)
    }

    /// The same for anything that lies at `place`.
    pub fn permit(&self, subject: &Subject<'_>, place: &Path) -> Result<Permit<'_>, Failure> {
        Ok(policy::ask(&self.settings, subject, place, &environment())?)
    }

    /// How a container is run: as was set for it, else as is configured, else natively.
    pub fn mode_of(&self, container: &Container) -> ExecMode {
        container.mode().or(self.settings.engines.default_mode).unwrap_or(ExecMode::N1)
    }

    /// From here on images go into the store that the site has chosen for those of jobs. One that does not serve this user
    /// is none of his.
    pub fn stage_for_jobs(&mut self) {
        let serves =
            |name: &String| self.settings.stores.iter().any(|store| store.name == *name && store.admits_caller());
        self.into = self.settings.stage.store.clone().filter(serves);
    }

    /// From here on images go into a store whose files are the caller's.
    pub fn stage_into_own(&mut self) {
        self.into_own = true;
    }

    /// The store that new images and containers go into; made if it does not exist.
    pub fn writable_store(&self) -> Result<Store, Failure> {
        match self.into_own {
            true => self.own_store(),
            false => self.store_for(self.into.as_deref(), |_| true),
        }
    }

    /// The same of those whose files are the caller's, whatever the site has chosen for jobs.
    pub fn own_store(&self) -> Result<Store, Failure> {
        let uid = rustix::process::geteuid().as_raw();
        self.store_for(None, |store| std::fs::metadata(store.path()).is_ok_and(|status| status.uid() == uid))
    }

    fn store_for(&self, into: Option<&str>, serves: impl Fn(&Store) -> bool) -> Result<Store, Failure> {
        if let Some(repo) = &self.repo
            && !self.settings.stores[0].is_repository()
        {
            return Err(ContextError::NoRepository(repo.clone()).into());
        }
        // The first is the one that its user named, whatever its kind is.
        let mut candidates = self.settings.stores.iter().enumerate();
        let takes = |(at, store): &(usize, &StoreSettings)| {
            let is_meant = into.is_none_or(|name| store.name == name);
            is_meant && !store.readonly && store.admits_caller() && (*at == 0 || store.kind.takes_pulls())
        };
        while let Some((_, settings)) = candidates.find(takes) {
            let store = match Store::open(settings)? {
                Some(store) => store,
                None => Store::create(settings)?,
            };
            // What a distrusted one has is not run.
            if store.is_writable() && store.distrust().is_none() && serves(&store) {
                // What is left stays until a process that may remove it comes by.
                let _ = store.sweep();
                return Ok(store);
            }
        }
        if let Some(store) = self.settings.stores.iter().find(|store| Some(&*store.name) == into) {
            if let Some(why) = Store::open(store)?.as_ref().and_then(Store::distrust) {
                return Err(ContextError::Distrusted { path: store.path.clone(), why: why.to_owned() }.into());
            }
            let uid = rustix::process::geteuid().as_raw();
            return Err(ContextError::NotStaged { path: store.path.clone(), uid }.into());
        }
        let first = self.settings.stores.first().map_or_else(PathBuf::new, |store| store.path.clone());
        Err(ContextError::NoWritableStore(first).into())
    }
}

fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}
