//! What the site allows: rules as data, and one decision over facts.
//!
//! Only the site's files make a [`Policy`]; nothing of the user's changes it. It binds our programs and is no sandbox: who
//! unpacks an image by other means, or writes into a store of his own by hand, is not asked. In the user's own store names
//! and digests are the user's claims; a rule that must hold names a store that the user cannot write.
//!
//! ```text
//! ask()      gathers what the rules look at, and no more
//! permit()   pure: may this be used at all, and by which rules
//! Permit     pure: in which modes, with writes, with the GPU
//! ```

use std::fmt;

use crate::digest::Digest;
use crate::env_vars::matches_any;
use crate::error::{ErrorKind, Explain};
use crate::reference::{DEFAULT_REGISTRY, ImageReference, RegistryHost};
use crate::run::ExecMode;

mod ask;
mod mildest;
mod mounts;
mod names;
mod pin;

pub use ask::{ask, ask_container, ask_image};
pub use mounts::{Asker, Listed, MountDenied, MountPolicy, Scratch, SiteMount, SiteMountKind};
pub use names::{ImageGlob, RegistryGlob, RegistryName, RepositoryName};
pub use pin::Pin;

/// The site's rules. The default allows everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What counts where no rule matches.
    pub default: Action,
    /// Who set that: `FILE:LINE:COLUMN`.
    pub default_origin: String,
    /// In their order: the first that matches decides.
    pub rules: Vec<Rule>,
    /// The registry of names without a host, as the site set it: no setting of the user's makes another image of a name.
    pub registry: RegistryHost,
    /// Whether jobs keep to the image that they found first.
    pub pin: Pin,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Allow,
    Deny,
}

/// One rule. Each key that is given must match; one of a key's values suffices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands: `FILE:LINE:COLUMN`.
    pub origin: String,
    /// What it does.
    pub action: Action,
    /// Names of images.
    pub images: Option<Vec<ImageGlob>>,
    /// Digests of manifests and indexes.
    pub digests: Option<Vec<Digest>>,
    /// Globs of names of stores.
    pub stores: Option<Vec<String>>,
    /// Globs of a job's account.
    pub accounts: Option<Vec<String>>,
    /// Globs of a job's partition.
    pub partitions: Option<Vec<String>>,
    /// Globs of a job's queue.
    pub queues: Option<Vec<String>>,
    /// Group IDs of the caller.
    pub groups: Option<Vec<u32>>,
    /// The modes that it allows; `None`: all.
    pub modes: Option<Vec<ExecMode>>,
    /// Whether the driver of a GPU may be asked for.
    pub gpu: bool,
    /// Whether the root may be written.
    pub writable: bool,
    /// What the user is told.
    pub reason: Option<String>,
}

/// Which registries may be asked, and whose images may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryAccess {
    /// Only these, and who set that; `None`: all.
    pub allow: Option<(Vec<RegistryGlob>, String)>,
    /// Not these, each with who set it.
    pub deny: Vec<(RegistryGlob, String)>,
    /// Whom to ask, as in [`SiteRules::contact`].
    pub contact: Option<String>,
}

/// Which modes there are for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeSettings {
    /// Only these, and who set that; `None`: all.
    pub allowed: Option<(Vec<ExecMode>, String)>,
    /// In which order one is taken where nobody named any.
    pub preference: Vec<ExecMode>,
}

/// What is to be used.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// As its user named it.
    pub shown: &'a str,
    /// What its name says.
    pub name: Name<'a>,
    /// The digests of its manifest and of its index, as far as they are known.
    pub digests: Vec<&'a Digest>,
}

/// What is known of the name of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// It is an image, or made of one.
    Image(&'a ImageReference),
    /// It lies in a store, and under which name is not known: an image by digest whose name no tag of a store bears out,
    /// or a tree by its path. Every `image` of a deny rule matches it, none of an allow rule.
    Unknown,
    /// It is no image.
    None,
}

/// Who asks, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The store in which the files lie.
    pub store: Option<String>,
    /// The job's account, by its environment.
    pub account: Option<String>,
    /// Its partition, likewise.
    pub partition: Option<String>,
    /// Its queue, likewise.
    pub queue: Option<String>,
    /// The caller's group IDs.
    pub groups: Vec<u32>,
}

/// The site's policy forbids something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {subject}: the site forbids {what} ({origin}){}", told(.reason))]
pub struct Denied {
    subject: String,
    what: What,
    origin: String,
    reason: Option<String>,
    contact: Option<String>,
}

/// What is forbidden.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    It,
    Registry(String),
    Mode { mode: ExecMode, allowed: Vec<ExecMode> },
    Gpu,
    Writes,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::It => f.write_str("it"),
            Self::Registry(name) => write!(f, "the registry {name}"),
            Self::Mode { mode, .. } => write!(f, "mode {mode}"),
            Self::Gpu => f.write_str("the driver of the GPU in it"),
            Self::Writes => f.write_str("writes into its root"),
        }
    }
}

fn told(reason: &Option<String>) -> String {
    reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
}

impl Explain for Denied {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Forbidden
    }
    fn hints(&self) -> Vec<String> {
        let hint = match &self.what {
            What::Mode { allowed, .. } => {
                let names: Vec<_> = allowed.iter().map(ToString::to_string).collect();
                Some(format!("allowed: {}", if names.is_empty() { "none".into() } else { names.join(", ") }))
            }
            What::Writes => Some("`--write=none` runs it with a read-only root".into()),
            What::It | What::Registry(_) | What::Gpu => None,
        };
        hint.into_iter().chain(self.contact.as_ref().map(|contact| format!("ask {contact}"))).collect()
    }
}

/// What a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct SiteRules<'a> {
    /// Which images and containers may be used.
    pub policy: &'a Policy,
    /// Which registries may be asked.
    pub access: &'a RegistryAccess,
    /// Which modes there are.
    pub modes: &'a ModeSettings,
    /// The registry of names without a host, as the user has it.
    pub registry: &'a RegistryHost,
    /// Whom to ask, last line of an error.
    pub contact: Option<&'a str>,
}

/// What [`permit`] found: leave to use a subject, as its rules narrow it.
#[derive(Clone, Debug)]
pub struct Permit<'a> {
    site: SiteRules<'a>,
    subject: String,
    rules: Vec<&'a Rule>,
}

impl<'a> Permit<'a> {
    /// Leave that no rule narrows.
    pub fn plain(site: SiteRules<'a>, subject: &str) -> Self {
        Self { site, subject: subject.to_owned(), rules: Vec::new() }
    }
    /// Whether a rule gave it.
    pub fn is_ruled(&self) -> bool {
        !self.rules.is_empty()
    }
    /// The order in which a mode is taken where nobody named any.
    pub fn preference(&self) -> &'a [ExecMode] {
        &self.site.modes.preference
    }
    /// # Errors
    /// [`Denied`] if the site allows no run in `mode`.
    pub fn check_mode(&self, mode: ExecMode) -> Result<(), Denied> {
        let of_site = self.site.modes.allowed.iter().map(|(modes, origin)| (modes, origin, None));
        let of_rules = self.rules.iter().filter_map(|rule| Some((rule.modes.as_ref()?, &rule.origin, Some(*rule))));
        match of_site.chain(of_rules).find(|(allowed, ..)| !allowed.contains(&mode)) {
            None => Ok(()),
            Some((allowed, origin, rule)) => {
                let what = What::Mode { mode, allowed: allowed.clone() };
                Err(self.denied(what, origin, rule))
            }
        }
    }
    /// # Errors
    /// [`Denied`] if `gpu`, the driver of a GPU, or `writable`, a root that is written, are asked for and not allowed.
    pub fn check_use(&self, gpu: bool, writable: bool) -> Result<(), Denied> {
        for rule in &self.rules {
            if gpu && !rule.gpu {
                return Err(self.denied(What::Gpu, &rule.origin, Some(rule)));
            }
            if writable && !rule.writable {
                return Err(self.denied(What::Writes, &rule.origin, Some(rule)));
            }
        }
        Ok(())
    }
    fn denied(&self, what: What, origin: &str, rule: Option<&Rule>) -> Denied {
        denied(self.site, &self.subject, what, origin, rule.and_then(|rule| rule.reason.clone()))
    }
}

fn denied(site: SiteRules<'_>, subject: &str, what: What, origin: &str, reason: Option<String>) -> Denied {
    let (subject, origin, contact) = (subject.to_owned(), origin.to_owned(), site.contact.map(str::to_owned));
    Denied { subject, what, origin, reason, contact }
}

impl RegistryAccess {
    /// Whether `registry` may be asked, for `subject`.
    ///
    /// # Errors
    /// [`Denied`]
    pub fn check(&self, subject: &str, registry: &RegistryHost) -> Result<(), Denied> {
        self.check_name(subject, &RegistryName::of(registry))
    }
    fn check_name(&self, subject: &str, name: &RegistryName) -> Result<(), Denied> {
        let Some(origin) = self.forbids(name) else { return Ok(()) };
        let (subject, origin, contact) = (subject.to_owned(), origin.to_owned(), self.contact.clone());
        Err(Denied { subject, what: What::Registry(name.to_string()), origin, reason: None, contact })
    }
    /// Who forbids `registry`, if somebody does.
    fn forbids(&self, registry: &RegistryName) -> Option<&str> {
        if let Some((_, origin)) = self.deny.iter().find(|(glob, _)| glob.matches(registry)) {
            return Some(origin);
        }
        let (allowed, origin) = self.allow.as_ref()?;
        (!allowed.iter().any(|glob| glob.matches(registry))).then_some(origin)
    }
    fn is_open(&self) -> bool {
        self.deny.is_empty() && self.allow.is_none()
    }
}

/// Whether `subject` may be used.
///
/// A name without a host means what the site's registry has under it, and, where the user names another one, what that
/// has too: both must be allowed.
///
/// # Errors
/// [`Denied`], by the first rule that matches, else by the default.
pub fn permit<'a>(site: SiteRules<'a>, subject: &Subject<'_>, facts: &Facts) -> Result<Permit<'a>, Denied> {
    let mut permit = Permit::plain(site, subject.shown);
    for name in readings(site, subject.name) {
        if let Reading::Named(name) = &name {
            site.access.check_name(subject.shown, &name.registry)?;
        }
        match site.policy.rules.iter().find(|rule| rule.matches(subject, &name, facts)) {
            Some(rule) if rule.action == Action::Deny => return Err(permit.denied(What::It, &rule.origin, Some(rule))),
            Some(rule) if permit.rules.contains(&rule) => {}
            Some(rule) => permit.rules.push(rule),
            None if site.policy.default == Action::Deny => {
                let reason = "no rule allows it".to_owned();
                return Err(denied(site, subject.shown, What::It, &site.policy.default_origin, Some(reason)));
            }
            None => {}
        }
    }
    Ok(permit)
}

/// One meaning of a name.
enum Reading {
    Named(RepositoryName),
    Unknown,
    None,
}

fn readings(site: SiteRules<'_>, name: Name<'_>) -> Vec<Reading> {
    match name {
        Name::Image(image) => {
            let of_site = RepositoryName::of(image, &site.policy.registry);
            let of_user = RepositoryName::of(image, site.registry);
            let other = (of_user != of_site).then_some(Reading::Named(of_user));
            std::iter::once(Reading::Named(of_site)).chain(other).collect()
        }
        Name::Unknown => vec![Reading::Unknown],
        Name::None => vec![Reading::None],
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>, name: &Reading, facts: &Facts) -> bool {
        let image = self.images.as_ref().is_none_or(|globs| match name {
            Reading::Named(name) => globs.iter().any(|glob| glob.matches(name)),
            Reading::Unknown => self.action == Action::Deny,
            Reading::None => false,
        });
        let text = |globs: &Option<Vec<String>>, fact: &Option<String>| {
            globs.as_ref().is_none_or(|globs| fact.as_ref().is_some_and(|fact| matches_any(globs, fact.as_bytes())))
        };
        let digest = |digests: &Vec<Digest>| subject.digests.iter().any(|digest| digests.contains(digest));
        image
            && self.digests.as_ref().is_none_or(digest)
            && text(&self.stores, &facts.store)
            && text(&self.accounts, &facts.account)
            && text(&self.partitions, &facts.partition)
            && text(&self.queues, &facts.queue)
            && self.groups.as_ref().is_none_or(|groups| groups.iter().any(|group| facts.groups.contains(group)))
    }
}

impl Default for Policy {
    fn default() -> Self {
        let registry = DEFAULT_REGISTRY.parse().expect("a constant host parses");
        Self { default: Action::Allow, default_origin: String::new(), rules: Vec::new(), registry, pin: Pin::default() }
    }
}

impl Default for ModeSettings {
    fn default() -> Self {
        Self { allowed: None, preference: vec![ExecMode::N1, ExecMode::P1, ExecMode::P2] }
    }
}

#[cfg(test)]
mod tests;
