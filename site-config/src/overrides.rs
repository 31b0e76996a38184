//! `[[override]]`: tables that hold for the jobs of a partition, a queue or an account, laid over those of all files.
//!
//! Their rules come before all others; of the rest it is as if they stood in a last file. Which job this is says the
//! environment, which its user can change.

use std::path::Path;

use toml::Spanned;
use udocker_core::env_vars::matches_any;
use udocker_core::policy::Facts;

use crate::gpu::merge_gpu;
use crate::merge::merge_limits;
use crate::place::Place;
use crate::schema::Override;
use crate::{ConfigError, Loaded, Sources, mounts, policy};

/// An override that does not hold here.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    /// For which jobs it does, and where it stands.
    pub told: String,
    /// What would be in force if it did.
    pub loaded: Box<Loaded>,
    /// The keys that it sets.
    pub keys: Vec<String>,
}

/// Lays `value`, read from `path` with `text`, over `loaded` if this process is of a job that it names.
pub(crate) fn merge(
    loaded: &mut Loaded,
    value: Spanned<Override>,
    (path, text): (&Path, &str),
    sources: &Sources,
    problems: &mut Vec<ConfigError>,
) {
    let place = Place { path, text };
    let at = place.told(&value);
    let conditions = conditions(value.get_ref());
    if conditions.is_empty() {
        problems.push(place.wrong(&value, "override", "`partition`, `queue` or `account` in it"));
        return;
    }
    if holds(value.get_ref(), &Facts::of_job(&sources.env)) {
        lay(loaded, value.into_inner(), &place, sources, problems);
    } else {
        // What is wrong with it is told everywhere.
        let mut other = Loaded { elsewhere: Vec::new(), ..loaded.clone() };
        lay(&mut other, value.into_inner(), &place, sources, problems);
        let set = other.origins.iter().filter(|(key, origin)| loaded.origins.get(*key) != Some(*origin));
        let keys = set.map(|(key, _)| key.clone()).collect();
        loaded.elsewhere.push(Elsewhere { told: format!("{conditions} ({at})"), loaded: Box::new(other), keys });
    }
}

fn conditions(value: &Override) -> String {
    let all = [("partition", &value.partition), ("queue", &value.queue), ("account", &value.account)];
    let given = all.iter().filter_map(|(name, list)| Some(format!("{name} {}", list.as_ref()?.join(" or "))));
    given.collect::<Vec<_>>().join(" and ")
}

fn holds(value: &Override, job: &Facts) -> bool {
    let matches = |globs: &Option<Vec<String>>, fact: &Option<String>| {
        globs.as_ref().is_none_or(|globs| fact.as_ref().is_some_and(|fact| matches_any(globs, fact.as_bytes())))
    };
    matches(&value.partition, &job.partition)
        && matches(&value.queue, &job.queue)
        && matches(&value.account, &job.account)
}

fn lay(loaded: &mut Loaded, value: Override, place: &Place<'_>, sources: &Sources, problems: &mut Vec<ConfigError>) {
    let mut keep = |merged: Result<(), ConfigError>| problems.extend(merged.err());
    let before = loaded.settings.policy.rules.len();
    policy::merge_policy(loaded, value.policy, place, &mut keep);
    loaded.settings.policy.rules.rotate_left(before);
    policy::merge_modes(loaded, value.modes, place, &mut keep);
    mounts::merge(loaded, value.mounts, place, sources, &mut keep);
    merge_limits(loaded, &value.limits, place);
    merge_gpu(loaded, value.gpu, place, &mut keep);
}
