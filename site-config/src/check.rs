//! All that is wrong with the site's files, for `udocker site check`.

use std::path::{Path, PathBuf};

use udocker_core::policy::{Action, MountPolicy, Rule, SiteMountKind};

use crate::{ConfigError, Loaded, Sources, defaults, file, lay_files};

/// What [`check`] looked at and found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What is wrong with them, or with those that could not be read.
    pub problems: Vec<ConfigError>,
}

/// What is wrong with the site's files: those in [`Sources::site_dir`], or `named`, a file or a directory that may belong to
/// the caller too.
///
/// # Errors
/// [`ConfigError::Missing`] if `named` does not exist.
pub fn check(sources: &Sources, named: Option<&Path>) -> Result<Checked, ConfigError> {
    // Whichever job this is: the rules of an override may leave others without effect, for its jobs alone.
    let sources = &Sources { env: Vec::new(), ..sources.clone() };
    let mut problems = Vec::new();
    let files = match named {
        None => file::read_site(&sources.site_dir, &[sources.site_owner], &mut problems),
        Some(path) => {
            let owners = [sources.site_owner, sources.uid];
            if std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
                return Err(ConfigError::Missing { path: path.into() });
            }
            if path.is_dir() {
                file::read_site(path, &owners, &mut problems)
            } else {
                let read = file::read_one(path, &owners);
                read.unwrap_or_else(|problem| {
                    problems.push(problem);
                    None
                })
                .into_iter()
                .collect()
            }
        }
    };
    let mut loaded = defaults(sources);
    lay_files(&mut loaded, &files, sources, &mut problems);
    // Where a value is left out, what it would have contradicted is a guess.
    if problems.is_empty() {
        contradictions(&loaded, &mut problems);
    }
    Ok(Checked { files: files.into_iter().map(|(path, _)| path).collect(), problems })
}

/// Values that others leave without effect.
fn contradictions(loaded: &Loaded, problems: &mut Vec<ConfigError>) {
    let settings = &loaded.settings;
    if let Some(mounts) = &settings.mounts {
        contradictions_of_mounts(mounts, problems);
    }
    let rules = &settings.policy.rules;
    for (index, rule) in rules.iter().enumerate() {
        let at = rule.origin.clone();
        if let Some(earlier) = rules[..index].iter().find(|earlier| catches_all_of(earlier, rule)) {
            let why = format!("the rule at {} matches all that it matches, and comes first", earlier.origin);
            problems.push(ConfigError::Contradiction { at, key: "policy.rule", why });
        } else if let (Some(modes), Some((allowed, origin))) = (&rule.modes, &settings.modes.allowed)
            && !modes.iter().any(|mode| allowed.contains(mode))
        {
            let why = format!("`modes.allowed` ({origin}) has none of its modes");
            problems.push(ConfigError::Contradiction { at, key: "policy.rule", why });
        }
    }
}

/// Lists that forbid what the site mounts itself.
fn contradictions_of_mounts(policy: &MountPolicy, problems: &mut Vec<ConfigError>) {
    for own in &policy.own {
        let key = match own.kind {
            SiteMountKind::Forced => "mounts.forced",
            SiteMountKind::Default => "mounts.default",
            SiteMountKind::Optional => "mounts.optional",
        };
        let sources = policy.forbidden_sources.iter().map(|listed| ("mounts.forbidden_sources", listed));
        let source = sources.zip(std::iter::repeat(own.spec.source.as_ref()));
        let targets = policy.forbidden_targets.iter().map(|listed| ("mounts.forbidden_targets", listed));
        let target = targets.zip(std::iter::repeat(Some(&own.spec.target)));
        for ((list, listed), path) in source.chain(target) {
            if path.is_some_and(|path| path.starts_with(&listed.path)) {
                let why = format!("`{key}` ({}) mounts {} all the same", own.origin, listed.path.display());
                problems.push(ConfigError::Contradiction { at: listed.origin.clone(), key: list, why });
            }
        }
    }
}

/// Whether `earlier` matches whatever `later` matches; compared as they are written, so that a wider glob does not count.
fn catches_all_of(earlier: &Rule, later: &Rule) -> bool {
    fn covers<T: PartialEq>(earlier: &Option<Vec<T>>, later: &Option<Vec<T>>) -> bool {
        match (earlier, later) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(earlier), Some(later)) => later.iter().all(|value| earlier.contains(value)),
        }
    }
    // An image of unknown name is met by rules that deny alone.
    let images = earlier.images.is_none() || earlier.action == Action::Deny || later.action == Action::Allow;
    images
        && covers(&earlier.images, &later.images)
        && covers(&earlier.digests, &later.digests)
        && covers(&earlier.stores, &later.stores)
        && covers(&earlier.accounts, &later.accounts)
        && covers(&earlier.partitions, &later.partitions)
        && covers(&earlier.queues, &later.queues)
        && covers(&earlier.groups, &later.groups)
}
