//! The keys of `site.toml` that are built, and their types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::access::AclKeys;
use crate::cleanup::Cleanup;
use crate::gpu::Gpu;
use crate::mpi::Mpi;
use crate::relay::Relay;
use crate::size::Size;
use crate::stage::Stage;
use crate::time::Time;

/// A whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileConfig {
    pub site: Site,
    pub paths: Paths,
    pub store: Vec<Spanned<Store>>,
    pub registries: Registries,
    pub policy: PolicyKeys,
    pub modes: Modes,
    pub mounts: Mounts,
    pub env: Env,
    pub run: Run,
    pub gpu: Gpu,
    pub mpi: Mpi,
    pub relay: Relay,
    pub limits: LimitKeys,
    pub stage: Stage,
    pub cleanup: Cleanup,
    #[serde(rename = "override")]
    pub overrides: Vec<Spanned<Override>>,
}

/// Tables that hold for some jobs. Each key that is given must match.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Override {
    pub partition: Option<Vec<String>>,
    pub queue: Option<Vec<String>>,
    pub account: Option<Vec<String>>,
    pub policy: PolicyKeys,
    pub mounts: Mounts,
    pub modes: Modes,
    pub limits: LimitKeys,
    pub gpu: Gpu,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Site {
    pub name: Option<Spanned<String>>,
    pub contact: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Paths {
    pub run_dir: Option<Spanned<String>>,
    pub node_cache: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub name: Spanned<String>,
    pub path: Spanned<String>,
    pub kind: Kind,
    pub readonly: Option<bool>,
    pub keep_layers: Option<bool>,
    pub sync: Option<bool>,
    #[serde(default)]
    pub trust: Vec<u32>,
    pub acl: Option<Spanned<AclKeys>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    User,
    Project,
    Site,
    Cache,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Registries {
    pub default: Option<Spanned<String>>,
    pub allow: Option<Spanned<Vec<Spanned<String>>>>,
    pub deny: Vec<Spanned<String>>,
    pub index: Option<Spanned<String>>,
    pub insecure: Vec<Spanned<String>>,
    pub ca_dir: Option<Spanned<PathBuf>>,
    pub parallel: Option<Spanned<u32>>,
    pub retries: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyKeys {
    pub default: Option<Spanned<RuleAction>>,
    pub rule: Vec<Spanned<Rule>>,
    pub pin: Option<Spanned<PinKey>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PinKey {
    Require,
    Prefer,
    Off,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuleAction {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default, rename = "match")]
    pub matching: Match,
    pub action: RuleAction,
    pub modes: Option<Vec<Spanned<String>>>,
    pub gpu: Option<Spanned<bool>>,
    pub writable: Option<Spanned<bool>>,
    pub reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Match {
    pub image: Option<Vec<Spanned<String>>>,
    pub digest: Option<Vec<Spanned<String>>>,
    pub store: Option<Vec<Spanned<String>>>,
    pub account: Option<Vec<String>>,
    pub partition: Option<Vec<String>>,
    pub queue: Option<Vec<String>>,
    pub group: Option<Vec<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Modes {
    pub allowed: Option<Spanned<Vec<Spanned<String>>>>,
    pub preference: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mounts {
    pub forced: Vec<Spanned<String>>,
    #[serde(rename = "default")]
    pub by_default: Vec<Spanned<String>>,
    pub optional: Vec<Spanned<String>>,
    pub forbidden_sources: Vec<Spanned<String>>,
    pub forbidden_targets: Vec<Spanned<String>>,
    pub home: Option<Spanned<bool>>,
    pub tmp: Option<Spanned<Tmp>>,
    pub user_binds: UserBinds,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tmp {
    Host,
    Private,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UserBinds {
    pub allow: Option<Vec<Spanned<String>>>,
    pub readonly: Vec<Spanned<String>>,
    pub deny: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Env {
    pub set: BTreeMap<Spanned<String>, String>,
    pub prepend: BTreeMap<Spanned<String>, String>,
    pub append: BTreeMap<Spanned<String>, String>,
    pub unset: Vec<Spanned<String>>,
    pub pass: Vec<Spanned<String>>,
    pub drop: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Run {
    pub keep: Option<Spanned<bool>>,
    pub user: Option<Spanned<String>>,
    pub entrypoint: Option<Spanned<bool>>,
    pub write: Option<Spanned<String>>,
    pub batch: Option<Spanned<String>>,
    pub share: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitKeys {
    pub tmpfs_default: Option<Spanned<Size>>,
    pub image_max: Option<Spanned<Size>>,
    pub wait_timeout: Option<Spanned<Time>>,
}
