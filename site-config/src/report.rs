//! What is in force, key by key, for `udocker showconf`.

use udocker_core::policy::{Action, Listed, MountPolicy, Scratch, SiteMountKind};
use udocker_core::run::{Defaults, Entrypoint, RunDefaults, RunRequest, SiteEnv};
use udocker_core::settings::{MPI_DAEMONS, RELAY_COMMANDS, Verbosity};

use crate::conf::{KEYS, Role};
use crate::{Loaded, Origin};

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// udocker's name of it, or ours as `table.key`.
    pub key: String,
    /// Its value, one line, with passwords replaced.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
    /// What follows from it.
    pub effect: Effect,
}

/// What follows from a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is obeyed.
    Acts,
    /// It is kept for an engine that is not built yet.
    Kept,
    /// Nothing, and why.
    None(&'static str),
}

impl Loaded {
    /// The keys of udocker.conf in udocker's order.
    pub fn udocker_rows(&self) -> Vec<Row> {
        let rows = KEYS.iter().map(|key| {
            let (value, effect) = match key.role {
                Role::Acts(_, show) => (show(self), Effect::Acts),
                Role::Kept(_, show) => (show(self), Effect::Kept),
                Role::NoEffect(reason) => {
                    (self.without_effect.get(key.name).cloned().unwrap_or_default(), Effect::None(reason))
                }
            };
            self.row(key.name, key.noted_as, value, effect)
        });
        rows.collect()
    }

    /// The keys of site.toml that udocker.conf has no name for.
    pub fn site_rows(&self) -> Vec<Row> {
        let settings = &self.settings;
        let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let hosts: Vec<_> = settings.registries.insecure.iter().map(|host| host.as_str().to_owned()).collect();
        let allowed = settings.registries.access.allow.as_ref();
        let modes = &settings.modes;
        let policy = match settings.policy.default {
            Action::Allow => "allow",
            Action::Deny => "deny",
        };
        let mut rows = vec![
            ("site.name".to_owned(), self.site_name.clone().unwrap_or_default()),
            ("site.contact".to_owned(), settings.contact.clone().unwrap_or_default()),
            ("paths.run_dir".to_owned(), settings.run_dirs.iter().map(|p| path(p)).collect::<Vec<_>>().join(" ")),
        ];
        rows.push(("stage.when".to_owned(), settings.stage.when.name().to_owned()));
        if let Some(store) = &settings.stage.store {
            rows.push(("stage.store".to_owned(), store.clone()));
        }
        if let Some(cache) = &settings.node_cache {
            rows.push(("paths.node_cache".to_owned(), path(&cache.path)));
            let size = cache.bytes.map_or_else(|| "what the disk has".to_owned(), |bytes| bytes.to_string());
            rows.push(("stage.node_cache_size".to_owned(), size));
        }
        for store in settings.stores.iter().skip(1) {
            rows.push((format!("store.{}", store.name), path(&store.path)));
        }
        rows.extend([
            ("registries.allow".to_owned(), allowed.map_or_else(|| "all".to_owned(), |(globs, _)| list(globs))),
            ("registries.deny".to_owned(), list(settings.registries.access.deny.iter().map(|(glob, _)| glob))),
            ("registries.insecure".to_owned(), hosts.join(" ")),
            ("registries.ca_dir".to_owned(), settings.registries.ca_dir.as_deref().map(path).unwrap_or_default()),
            ("registries.parallel".to_owned(), settings.registries.parallel.to_string()),
            ("registries.retries".to_owned(), settings.registries.retries.to_string()),
            ("policy.default".to_owned(), policy.to_owned()),
            ("policy.pin".to_owned(), format!("{:?}", settings.policy.pin).to_lowercase()),
            ("policy.rule".to_owned(), list(settings.policy.rules.iter().map(|rule| &rule.origin))),
            ("modes.allowed".to_owned(), modes.allowed.as_ref().map_or_else(|| "all".to_owned(), |(all, _)| list(all))),
            ("modes.preference".to_owned(), list(&modes.preference)),
        ]);
        rows.extend(mount_rows(settings.mounts.as_deref()));
        rows.extend(env_rows(settings.env.as_deref()));
        rows.push(("run.keep".to_owned(), settings.keep.to_string()));
        rows.extend(run_rows(&settings.run));
        rows.push(("gpu.default".to_owned(), format!("{:?}", settings.gpu.default).to_lowercase()));
        rows.push(("gpu.cdi_dirs".to_owned(), list(settings.gpu.cdi_dirs.iter().map(|path| path.display()))));
        rows.push(("gpu.driver_root".to_owned(), path(&settings.gpu.driver_root)));
        let daemons = settings.mpi.daemons.as_ref().map_or_else(|| list(MPI_DAEMONS), list);
        rows.push(("mpi.daemons".to_owned(), daemons));
        rows.push(("mpi.require".to_owned(), settings.mpi.require.to_string()));
        rows.push(("relay.enabled".to_owned(), settings.relay.enabled.to_string()));
        let commands = settings.relay.commands.as_ref().map_or_else(|| list(RELAY_COMMANDS), list);
        rows.push(("relay.commands".to_owned(), commands));
        rows.extend([
            ("limits.image_max".to_owned(), settings.limits.image_bytes.to_string()),
            (
                "limits.tmpfs_default".to_owned(),
                settings.limits.tmpfs_bytes.map_or_else(|| "half of the memory".to_owned(), |size| size.to_string()),
            ),
            ("limits.wait_timeout".to_owned(), format!("{}s", settings.limits.wait.as_secs())),
            ("cleanup.retire_after".to_owned(), format!("{}s", settings.limits.retire_after.as_secs())),
        ]);
        rows.into_iter().map(|(key, value)| self.row(&key, &key, value, Effect::Acts)).collect()
    }

    fn row(&self, key: &str, noted_as: &str, value: String, effect: Effect) -> Row {
        let value = redact(&value.replace('\n', " "));
        Row { key: key.to_owned(), value, origin: self.origin(noted_as).clone(), effect }
    }
}

/// The keys of `[mounts]`.
fn mount_rows(policy: Option<&MountPolicy>) -> Vec<(String, String)> {
    let none = MountPolicy::default();
    let policy = policy.unwrap_or(&none);
    let own = |kind| list(policy.own.iter().filter(|own| own.kind == kind).map(|own| &own.spec));
    let paths = |listed: &[Listed]| list(listed.iter().map(|listed| listed.path.display()));
    let tmp = if policy.tmp == Some(Scratch::Private) { "private" } else { "host" };
    let rows = [
        ("forced", own(SiteMountKind::Forced)),
        ("default", own(SiteMountKind::Default)),
        ("optional", own(SiteMountKind::Optional)),
        ("forbidden_sources", paths(&policy.forbidden_sources)),
        ("forbidden_targets", paths(&policy.forbidden_targets)),
        ("home", policy.home.unwrap_or(true).to_string()),
        ("tmp", tmp.to_owned()),
        ("user_binds.allow", policy.allow.as_ref().map_or_else(|| "all".to_owned(), |allow| paths(allow))),
        ("user_binds.readonly", paths(&policy.read_only)),
        ("user_binds.deny", paths(&policy.deny)),
    ];
    rows.map(|(key, value)| (format!("mounts.{key}"), value)).into()
}

/// The keys of `[env]`.
fn env_rows(env: Option<&SiteEnv>) -> Vec<(String, String)> {
    let none = SiteEnv::default();
    let env = env.unwrap_or(&none);
    let pairs = |pairs: &[(String, String)]| list(pairs.iter().map(|(name, value)| format!("{name}={value}")));
    let rows = [
        ("set", pairs(&env.set)),
        ("prepend", pairs(&env.prepend)),
        ("append", pairs(&env.append)),
        ("unset", list(&env.unset)),
        ("pass", list(&env.pass)),
        ("drop", list(&env.drop)),
    ];
    rows.map(|(key, value)| (format!("env.{key}"), value)).into()
}

/// What `[run]` says of jobs, or what is built in.
fn run_rows(run: &RunDefaults) -> [(String, String); 5] {
    let mut request = RunRequest::of_job("");
    request.complete(run);
    let rows = [
        ("run.user", request.user(Defaults::Job).to_string()),
        ("run.entrypoint", (*request.entrypoint(Defaults::Job) != Entrypoint::None).to_string()),
        ("run.write", request.write(Defaults::Job).to_string()),
        ("run.batch", request.batch().to_string()),
        ("run.share", request.share().to_string()),
    ];
    rows.map(|(key, value)| (key.to_owned(), value))
}

/// The texts of `items`, with a blank between them.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// The option that stands for `verbosity`.
pub(crate) fn verbosity_option(verbosity: Verbosity) -> &'static str {
    if verbosity > Verbosity::Info { "--debug" } else { "--quiet" }
}

/// `text` with what stands between `://` and `@` of each URL replaced.
pub(crate) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let authority = after.find(['/', ' ', '"', '\'', ',', '?', '#']).unwrap_or(after.len());
        match after[..authority].rfind('@') {
            Some(end) => {
                out.push_str("REDACTED");
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_urls_are_not_shown() {
        for (text, expected) in [
            ("", ""),
            ("http://proxy:3128", "http://proxy:3128"),
            ("socks5://u:p@proxy:1/x@y", "socks5://REDACTED@proxy:1/x@y"),
            ("http://u:p@q@proxy https://v:w@b/", "http://REDACTED@proxy https://REDACTED@b/"),
            ("mail me@example.org", "mail me@example.org"),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }
}
