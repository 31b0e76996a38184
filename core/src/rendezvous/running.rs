//! The containers that run on this node, for who wants to enter one that is there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Head, RendezvousError};
use crate::engine::{Cwd, JoinPlan, KeepFds};
use crate::env_vars::{PER_RANK, matches, matches_any};
use crate::members::{Found, Kind, Members};
use crate::run::EnvSpec;
use crate::store::RunDirectory;
use crate::sys::namespace::Namespace;

/// What to say where [`Running::environment`] is `None`.
pub const NO_ENVIRONMENT: &str = "the container's programs may be executed and not read, so their environment is unknown: the \
                                  command gets the caller's";

/// A container in which something runs.
#[derive(Clone, Debug)]
pub struct Running {
    path: PathBuf,
    /// Whose it is.
    pub head: Head,
    /// Its ranks.
    pub pids: Vec<u32>,
}

/// Lists the containers of this user on this node.
pub fn running(run: &RunDirectory) -> Vec<Running> {
    let entries = std::fs::read_dir(run.path()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let lists =
        names.filter(|name| (name.starts_with("step-") || name.starts_with("container-")) && !name.ends_with(".shape"));
    let mut found: Vec<Running> = lists.filter_map(|name| Running::read(run.path().join(name))).collect();
    found.sort_by_key(|running| running.pids.first().copied());
    found
}

impl Running {
    fn read(path: PathBuf) -> Option<Self> {
        let list = Members::lock(&path, Duration::from_secs(5), &mut || {}).ok()?;
        let ranks = list.living().filter(|member| member.kind == Kind::Rank);
        let pids: Vec<u32> = ranks.map(|member| member.pid).collect();
        let head = Head::parse(list.head()).filter(|_| !pids.is_empty())?;
        Some(Self { path, head, pids })
    }

    /// Locks its list, and finds a process to join.
    pub(crate) fn lock(&self) -> Result<(Members, (u32, Namespace)), RendezvousError> {
        let list = Members::lock(&self.path, super::LIMIT, &mut || {})?;
        match list.find() {
            Found::Joinable(pid, mounts) => Ok((list, (pid, mounts))),
            Found::Nobody | Found::OutOfReach(_) => Err(RendezvousError::Ended),
        }
    }

    /// The environment that its first program began with; `None` if it shows none, as a program that may be executed and not
    /// read.
    pub fn environment(&self) -> Option<Vec<u8>> {
        self.pids.iter().find_map(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok())
    }

    /// What `argv` is in it: as its first rank, in the directory where that is now, with the caller's own terminal and rank.
    /// `wishes` about the environment and `workdir` win. Where it shows no environment it is the caller's.
    pub fn plan(
        &self,
        argv: Vec<OsString>,
        wishes: &[EnvSpec],
        workdir: Option<&Path>,
        caller: &[(OsString, OsString)],
        keep_fds: KeepFds,
    ) -> JoinPlan {
        let pid = self.pids.first().copied().unwrap_or(0);
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &OsStr, value: &OsStr| {
            env.retain(|(other, _)| other != name);
            env.push((name.to_owned(), value.to_owned()));
        };
        let theirs = self.environment();
        if theirs.is_none() {
            caller.iter().for_each(|(name, value)| set(name, value));
        }
        for entry in theirs.unwrap_or_default().split(|byte| *byte == 0) {
            let Some(at) = entry.iter().position(|byte| *byte == b'=') else { continue };
            if !matches_any(PER_RANK, &entry[..at]) {
                set(OsStr::from_bytes(&entry[..at]), OsStr::from_bytes(&entry[at + 1..]));
            }
        }
        for (name, value) in caller.iter().filter(|(name, _)| name == "TERM" || matches_any(PER_RANK, name.as_bytes()))
        {
            set(name, value);
        }
        for wish in wishes {
            match wish {
                EnvSpec::Set { name, value } => set(name, value),
                EnvSpec::Host(glob) => {
                    let matching = caller.iter().filter(|(name, _)| matches(glob.as_bytes(), name.as_bytes()));
                    matching.for_each(|(name, value)| set(name, value));
                }
            }
        }
        let cwd = match workdir {
            Some(path) => Cwd { path: Path::new("/").join(path), fallback: None },
            None => Cwd {
                path: std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_else(|_| "/".into()),
                fallback: Some("/".into()),
            },
        };
        let entry = |(name, value): (OsString, OsString)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            entry
        };
        JoinPlan { cwd, argv, env: env.into_iter().map(entry).collect(), keep_fds }
    }
}
