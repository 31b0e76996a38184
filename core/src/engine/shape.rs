//! What the runs of one container have in common.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::Serialize;

use super::{ExecPlan, IdentityPlan, MountSource, RootWrite, Unshare};
use crate::run::ExecMode;
use crate::text::short_hash;

/// The parts of a plan that the namespaces of its container show: plans that agree in them can share one. Command,
/// environment, working directory and the account files do not belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(String);

#[derive(Serialize)]
struct Parts<'a> {
    mode: ExecMode,
    #[serde(serialize_with = "crate::text::os::serialize")]
    tree: &'a Path,
    #[serde(serialize_with = "super::above")]
    above: &'a Option<std::path::PathBuf>,
    write: &'a RootWrite,
    identity: &'a IdentityPlan,
    unshare: &'a [Unshare],
    mounts: Vec<Mount<'a>>,
    /// Device and inode of each source of a bind; `None`: paths are enough.
    #[serde(rename = "the files that are mounted", skip_serializing_if = "Option::is_none")]
    sources: Option<Vec<(u64, u64)>>,
}

/// A mount without who asked for it.
#[derive(Serialize)]
struct Mount<'a> {
    source: &'a MountSource,
    #[serde(serialize_with = "crate::text::os::serialize")]
    target: &'a Path,
    read_only: bool,
}

impl Shape {
    /// The shape of `plan`.
    pub fn of(plan: &ExecPlan) -> Self {
        Self::made(plan, None)
    }

    /// The same, in which one path that leads to two files makes two shapes. For plans of several jobs or days.
    pub fn with_sources(plan: &ExecPlan) -> Self {
        let sources = plan.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind { path, .. } => std::fs::metadata(path).ok(),
            _ => None,
        });
        let sources = sources.filter(|status| !status.file_type().is_char_device());
        Self::made(plan, Some(sources.map(|status| (status.dev(), status.ino())).collect()))
    }

    fn made(plan: &ExecPlan, sources: Option<Vec<(u64, u64)>>) -> Self {
        let mounts = plan.mounts.iter();
        let parts = Parts {
            mode: plan.mode,
            tree: &plan.root.tree,
            above: &plan.root.above,
            write: &plan.root.write,
            identity: &plan.identity,
            unshare: &plan.unshare,
            mounts: mounts
                .map(|mount| Mount { source: &mount.source, target: &mount.target, read_only: mount.read_only })
                .collect(),
            sources,
        };
        Self(serde_json::to_string(&parts).expect("plain data serialises"))
    }

    /// 16 hexadecimal digits that differ where shapes do.
    pub fn hash(&self) -> String {
        short_hash(self.0.as_bytes())
    }

    /// All of it, as JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts in which `other`, a text of [`Self::as_str`], differs, by name.
    pub fn differences(&self, other: &str) -> Vec<String> {
        let parse =
            |text: &str| serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(text).unwrap_or_default();
        let (ours, theirs) = (parse(&self.0), parse(other));
        ours.iter().filter(|(name, part)| theirs.get(*name) != Some(part)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Cwd, Engine, IdMap, KeepFds, MountPlan, RootPlan};

    fn plan() -> ExecPlan {
        ExecPlan {
            mode: ExecMode::N1,
            engine: Engine::Native,
            root: RootPlan::new("/tree", RootWrite::ReadOnly),
            mounts: vec![MountPlan {
                source: MountSource::Bind { path: "/a".into(), create: false },
                target: "/b".into(),
                read_only: true,
                optional: false,
                origin: "--mount".into(),
            }],
            files: Vec::new(),
            identity: IdentityPlan {
                uid: 7,
                gid: 8,
                map: IdMap::Single,
                fake_root_filter: false,
                docker_capabilities: false,
            },
            unshare: vec![Unshare::Net],
            cwd: Cwd { path: "/".into(), fallback: None },
            argv: vec!["true".into()],
            login_shells: Vec::new(),
            env: Vec::new(),
            keep_fds: KeepFds::All,
        }
    }

    /// A new part of a plan must be decided on: whether two ranks that differ in it can share a container.
    #[test]
    fn a_shape_is_what_the_design_lists() {
        let expected = concat!(
            r#"{"mode":"N1","tree":"/tree","above":null,"write":"read-only","#,
            r#""identity":{"uid":7,"gid":8,"map":"single","fake_root_filter":false,"docker_capabilities":false},"#,
            r#""unshare":["net"],"mounts":[{"source":{"bind":{"path":"/a","create":false}},"target":"/b","read_only":true}]}"#,
        );
        assert_eq!(Shape::of(&plan()).as_str(), expected);
    }

    #[test]
    fn what_a_rank_has_alone_is_no_part_of_it() {
        let mut other = plan();
        other.argv = vec!["a.out".into(), "rank 1".into()];
        other.env = vec!["PMI_RANK=1".into()];
        other.cwd.path = "/elsewhere".into();
        other.keep_fds = KeepFds::Only(vec![11]);
        other.mounts[0].origin = "home".into();
        assert_eq!(Shape::of(&other).hash(), Shape::of(&plan()).hash());
        other.mounts[0].read_only = false;
        other.identity.uid = 0;
        let (shape, other) = (Shape::of(&plan()), Shape::of(&other));
        assert_ne!(shape.hash(), other.hash());
        assert_eq!(shape.differences(other.as_str()), ["identity", "mounts"]);
    }
}
