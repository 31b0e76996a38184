//! Gathers the facts that a policy looks at: what no rule asks for costs no system call.

use std::ffi::OsString;
use std::path::Path;

use super::{Action, Denied, Facts, Name, Permit, Policy, Subject, permit};
use crate::container::Container;
use crate::env_vars;
use crate::error::Failure;
use crate::reference::ImageReference;
use crate::settings::{Settings, StoreKind};
use crate::store::{Record, Store, StoreError, Stores};

/// Whether the caller may use `subject`, whose files lie at `place`.
///
/// Groups are the process's own, never a variable's. Account, partition and queue are what `env` says, which its user can
/// change.
///
/// # Errors
/// [`Denied`]
pub fn ask<'a>(
    settings: &'a Settings,
    subject: &Subject<'_>,
    place: &Path,
    env: &[(OsString, OsString)],
) -> Result<Permit<'a>, Denied> {
    let policy = &settings.policy;
    if policy.rules.is_empty() && policy.default == Action::Allow && settings.registries.access.is_open() {
        return Ok(Permit::plain(settings.rules(), subject.shown));
    }
    let needs_store = subject.name == Name::None || policy.names_stores();
    let needs_groups = policy.rules.iter().any(|rule| rule.groups.is_some());
    let store = if needs_store { store_of(settings, place) } else { None };
    // A tree in a store, by its path: it is some image of that store.
    let name = if subject.name == Name::None && store.is_some() { Name::Unknown } else { subject.name };
    let groups = if needs_groups { groups() } else { Vec::new() };
    let facts = Facts { store, groups, ..Facts::of_job(env) };
    permit(settings.rules(), &Subject { name, ..subject.clone() }, &facts)
}

impl Facts {
    /// What `env` says of a job: its user can change it.
    pub fn of_job(env: &[(OsString, OsString)]) -> Self {
        let variable = |names: &[&str]| {
            let found = names.iter().find_map(|name| env.iter().rev().find(|(other, _)| other == name));
            found.map(|(_, value)| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
        };
        Self {
            store: None,
            account: variable(&[env_vars::SLURM_JOB_ACCOUNT, env_vars::PBS_ACCOUNT]),
            partition: variable(&[env_vars::SLURM_JOB_PARTITION]),
            queue: variable(&[env_vars::PBS_QUEUE]),
            groups: Vec::new(),
        }
    }
}

impl Policy {
    /// Whether a rule looks at names of images.
    fn names_images(&self) -> bool {
        self.rules.iter().any(|rule| rule.images.is_some())
    }

    /// Whether a rule looks at names of stores.
    fn names_stores(&self) -> bool {
        self.rules.iter().any(|rule| rule.stores.is_some())
    }
}

/// Whether the caller may use the image of `record`, which lies at `tree` and was asked for as `reference`, typed `shown`. If it
/// `writes` over a tree of its own, that is of the store that it is a copy of; what is only read is of the store where it lies,
/// since what a record says in a store of the user's is his word.
///
/// # Errors
/// [`Denied`], or a [`StoreError`] if the tags of that name cannot be read.
pub fn ask_image<'a>(
    settings: &'a Settings,
    (shown, reference): (&str, &ImageReference),
    (record, tree): (&Record, &Path),
    writes: bool,
    env: &[(OsString, OsString)],
) -> Result<Permit<'a>, Failure> {
    let is_named = is_named_by(settings, reference, record, || Stores::open(settings))?;
    let name = if is_named { Name::Image(reference) } else { Name::Unknown };
    let digests = std::iter::once(&record.manifest).chain(&record.index).collect();
    let shared = if writes && settings.policy.names_stores() { shared_by(settings, reference, record)? } else { None };
    Ok(ask(settings, &Subject { shown, name, digests }, shared.unwrap_or(tree), env)?)
}

/// The store of the site or of a project that has the image of `record` under the name of `reference`.
fn shared_by<'a>(
    settings: &'a Settings,
    reference: &ImageReference,
    record: &Record,
) -> Result<Option<&'a Path>, StoreError> {
    let name = reference.typed_name();
    for place in settings.stores.iter().filter(|place| matches!(place.kind, StoreKind::Site | StoreKind::Project)) {
        let store = Store::open(place)?.filter(|store| store.distrust().is_none());
        let Some(store) = store else { continue };
        let Some(shared) = store.read_record(&record.manifest, &record.platform)? else { continue };
        if shared.names.iter().any(|other| other == name) || store.tag_under_name(name, &shared.manifest)?.is_some() {
            return Ok(Some(&place.path));
        }
    }
    Ok(None)
}

/// The same for a container: it is what it was made of.
///
/// # Errors
/// [`Denied`]
pub fn ask_container<'a>(
    settings: &'a Settings,
    shown: &str,
    container: &Container,
    env: &[(OsString, OsString)],
) -> Result<Permit<'a>, Denied> {
    let reference: Option<ImageReference> = container.image().parse().ok();
    let name = reference.as_ref().map_or(Name::None, Name::Image);
    ask(settings, &Subject { shown, name, digests: Vec::new() }, container.directory(), env)
}

/// Whether the name of `reference` may be taken for the image of `record`: one that names a digest finds it under any name, so
/// that it must have come under that name, or a tag of that name lead there. Looks only where a rule asks for names.
fn is_named_by(
    settings: &Settings,
    reference: &ImageReference,
    record: &Record,
    stores: impl FnOnce() -> Result<Stores, StoreError>,
) -> Result<bool, StoreError> {
    let access = &settings.registries.access;
    if reference.digest().is_none() || !settings.policy.names_images() && access.is_open() {
        return Ok(true);
    }
    let name = reference.typed_name();
    Ok(record.names.iter().any(|other| other == name) || stores()?.has_under_name(name, &record.manifest)?)
}

/// The name of the store in which `place` lies once all links are followed. Where two names lead to one directory the site's
/// counts.
fn store_of(settings: &Settings, place: &Path) -> Option<String> {
    let place = std::fs::canonicalize(place).ok()?;
    let found = settings.stores.iter().filter_map(|store| {
        let path = std::fs::canonicalize(&store.path).ok()?;
        place.starts_with(&path).then_some((path.components().count(), &store.name))
    });
    found.max_by_key(|(depth, _)| *depth).map(|(_, name)| name.clone())
}

/// Of this process: real, effective and supplementary.
fn groups() -> Vec<u32> {
    let mut groups = rustix::process::getgroups().expect("getgroups(2) fails for a short buffer alone");
    groups.extend([rustix::process::getgid(), rustix::process::getegid()]);
    groups.into_iter().map(rustix::process::Gid::as_raw).collect()
}
