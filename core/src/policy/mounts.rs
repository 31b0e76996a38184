//! Which host paths may be seen inside, and what the site mounts itself.
//!
//! A source is judged as it is written and as its links lead (`..` never gets here: mounts refuse it), against the site's
//! paths as written and as their links lead, by whole components. A mount shows what lies below it: one above a forbidden
//! path is forbidden too. Between the judgement and the mount a user can exchange a link of his own; like all policy this
//! binds our programs, and what must not be seen is protected by its permissions.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::{ErrorKind, Explain};
use crate::run::MountSpec;
use crate::sys::fds::FdPath;
use crate::sys::resolve::{Resolved, resolve};

/// `[mounts]` of the site's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPolicy {
    /// What the site mounts.
    pub own: Vec<SiteMount>,
    /// Never mounted, but by the site itself.
    pub forbidden_sources: Vec<Listed>,
    /// Never mounted on, but by the site itself.
    pub forbidden_targets: Vec<Listed>,
    /// All that users may mount; `None`: whatever they can read.
    pub allow: Option<Vec<Listed>>,
    /// What users may mount, and only to read.
    pub read_only: Vec<Listed>,
    /// What users may not mount.
    pub deny: Vec<Listed>,
    /// Whether jobs see their user's home where nobody says.
    pub home: Option<bool>,
    /// What a job's /tmp and /var/tmp are where nobody says.
    pub tmp: Option<Scratch>,
    /// Whom to ask.
    pub contact: Option<String>,
}

/// A path of a list, and who set it: `FILE:LINE:COLUMN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Absolute, without `..`.
    pub path: PathBuf,
    /// See the type.
    pub origin: String,
}

/// A mount of the site's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteMount {
    /// What, and where.
    pub spec: MountSpec,
    /// Whether it can be left out.
    pub kind: SiteMountKind,
    /// Who set it: `FILE:LINE:COLUMN`.
    pub origin: String,
}

/// Whether a mount of the site's can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteMountKind {
    /// No.
    Forced,
    /// By its user.
    Default,
    /// By its user, and where its source is missing.
    Optional,
}

/// What /tmp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scratch {
    /// The host's.
    Host,
    /// A tmpfs of the container's own.
    Private,
}

/// Whose wish a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A user's: an option, a variable, a file of his.
    User,
    /// Ours: a part of every run.
    System,
}

/// The site forbids a mount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use {shown}: the site forbids {what} ({origin})")]
pub struct MountDenied {
    shown: String,
    what: What,
    origin: String,
    allowed: Vec<PathBuf>,
    contact: Option<String>,
}

/// What is forbidden.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A source, which the wish reaches at `found`.
    Source { found: PathBuf, listed: PathBuf },
    /// A target, likewise.
    Target { found: PathBuf, listed: PathBuf },
    /// A source that is in no list.
    Unlisted(PathBuf),
    /// Writes.
    Writes(PathBuf),
    /// The place of a mount of its own.
    Taken(PathBuf),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { found, listed } => {
                let relation = if found.starts_with(listed) { "leads to" } else { "holds" };
                write!(f, "{} to be mounted, and this {relation} it", listed.display())?;
                if found.starts_with(listed) && found != listed { write!(f, " as {}", found.display()) } else { Ok(()) }
            }
            Self::Target { listed, .. } => write!(f, "mounts on {}", listed.display()),
            Self::Unlisted(found) => write!(f, "mounts of {}", found.display()),
            Self::Writes(listed) => write!(f, "writes to {}", listed.display()),
            Self::Taken(listed) => write!(f, "it to cover its own mount on {}", listed.display()),
        }
    }
}

impl Explain for MountDenied {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Forbidden
    }
    fn hints(&self) -> Vec<String> {
        let paths: Vec<_> = self.allowed.iter().map(|path| path.display().to_string()).collect();
        let hint = (!paths.is_empty()).then(|| format!("allowed: {}", paths.join(", ")));
        hint.into_iter().chain(self.contact.as_ref().map(|contact| format!("ask {contact}"))).collect()
    }
}

impl MountPolicy {
    /// Whether `asker` may mount `source` (`None`: a tmpfs) on `target` of the image below `root`, which messages call
    /// `shown`; if so, whether only to read.
    ///
    /// # Errors
    /// [`MountDenied`]
    pub fn judge(
        &self,
        asker: Asker,
        shown: &str,
        source: Option<&Path>,
        (root, target): (&Path, &Path),
    ) -> Result<bool, MountDenied> {
        self.judge_target(shown, target)?;
        self.judge_target(shown, &within(root, target))?;
        source.map_or(Ok(false), |source| self.judge_source(asker, shown, source))
    }

    /// What of a user's wish is forbidden wherever links lead, before image and node are known: what this denies, every node
    /// denies. `target` is `None` for a host directory that is used otherwise.
    ///
    /// # Errors
    /// [`MountDenied`]
    pub fn judge_as_written(
        &self,
        shown: &str,
        source: Option<&Path>,
        target: Option<&Path>,
    ) -> Result<(), MountDenied> {
        target.map_or(Ok(()), |target| self.judge_target(shown, target))?;
        let Some(source) = source else { return Ok(()) };
        let listed = self.forbidden_sources.iter().chain(&self.deny).find(|listed| touches(source, &listed.path));
        listed.map_or(Ok(()), |listed| {
            let what = What::Source { found: source.into(), listed: listed.path.clone() };
            Err(self.denied(shown, what, &listed.origin))
        })
    }

    fn judge_target(&self, shown: &str, found: &Path) -> Result<(), MountDenied> {
        if let Some(listed) = self.forbidden_targets.iter().find(|listed| touches(found, &listed.path)) {
            let what = What::Target { found: found.into(), listed: listed.path.clone() };
            return Err(self.denied(shown, what, &listed.origin));
        }
        let mut forced = self.own.iter().filter(|own| own.kind == SiteMountKind::Forced);
        match forced.find(|own| found.starts_with(&own.spec.target)) {
            Some(own) => Err(self.denied(shown, What::Taken(own.spec.target.clone()), &own.origin)),
            None => Ok(()),
        }
    }

    /// The same for a host directory that is used otherwise: as a root, or for its writes.
    ///
    /// # Errors
    /// [`MountDenied`], also if it `writes` where users may only read.
    pub fn judge_directory(&self, shown: &str, path: &Path, writes: bool) -> Result<(), MountDenied> {
        let only_to_read = self.judge_source(Asker::User, shown, path)?;
        let found = resolved(path);
        match self.read_only.iter().find(|listed| writes && only_to_read && reaches(&[path, &found], listed)) {
            Some(listed) => Err(self.denied(shown, What::Writes(listed.path.clone()), &listed.origin)),
            None => Ok(()),
        }
    }

    fn judge_source(&self, asker: Asker, shown: &str, source: &Path) -> Result<bool, MountDenied> {
        let led = resolved(source);
        let both = [source, led.as_path()];
        let users = if asker == Asker::User { self.deny.as_slice() } else { &[] };
        for listed in self.forbidden_sources.iter().chain(users) {
            let ways = [listed.path.clone(), resolved(&listed.path)];
            if let Some(found) = both.iter().find(|found| ways.iter().any(|way| touches(found, way))) {
                let way = ways.iter().find(|way| touches(found, way)).unwrap_or(&listed.path);
                let what = What::Source { found: found.to_path_buf(), listed: way.clone() };
                return Err(self.denied(shown, what, &listed.origin));
            }
        }
        if asker == Asker::System {
            return Ok(false);
        }
        let is_below = |listed: &Listed| led.starts_with(resolved(&listed.path));
        if let Some(allow) = &self.allow
            && !allow.iter().chain(&self.read_only).any(is_below)
        {
            let origin = allow.first().map(|listed| listed.origin.clone()).unwrap_or_default();
            let allowed = allow.iter().chain(&self.read_only).map(|listed| listed.path.clone()).collect();
            return Err(MountDenied { allowed, ..self.denied(shown, What::Unlisted(led), &origin) });
        }
        Ok(self.read_only.iter().any(|listed| reaches(&both, listed)))
    }

    fn denied(&self, shown: &str, what: What, origin: &str) -> MountDenied {
        let (shown, origin, contact) = (shown.to_owned(), origin.to_owned(), self.contact.clone());
        MountDenied { shown, what, origin, allowed: Vec::new(), contact }
    }
}

/// Whether one of `found` is at, below or above `listed`.
fn reaches(found: &[&Path], listed: &Listed) -> bool {
    let led = resolved(&listed.path);
    found.iter().any(|found| touches(found, &listed.path) || touches(found, &led))
}

/// Whether one of two paths is at or below the other, by whole components.
fn touches(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Where `path` of the host leads once its links are followed; of what does not exist, the deepest part that does.
fn resolved(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut above = path;
    loop {
        if let Ok(found) = std::fs::canonicalize(above) {
            return rest.iter().rev().fold(found, |path, name| path.join(name));
        }
        match (above.parent(), above.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                above = parent;
            }
            _ => return path.to_path_buf(),
        }
    }
}

/// Where `target` leads in the image below `root`, whose links are followed as the container would; itself if nobody knows.
fn within(root: &Path, target: &Path) -> PathBuf {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let look = || {
        let root = rustix::fs::open(root, flags, Mode::empty()).ok()?;
        let path_of = |fd: &OwnedFd| std::fs::read_link(FdPath::new(fd.as_fd()).as_str()).ok();
        let base = path_of(&root)?;
        let (fd, names) = match resolve(&root, target.strip_prefix("/").ok()?).ok()? {
            Resolved::Found(fd) => (fd, Vec::new()),
            Resolved::Missing { parent, names } => (parent, names),
        };
        let inside = path_of(&fd)?.strip_prefix(base).ok()?.to_path_buf();
        Some(names.iter().fold(Path::new("/").join(inside), |path, name| path.join(name)))
    };
    look().unwrap_or_else(|| target.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn listed(paths: &[PathBuf]) -> Vec<Listed> {
        paths.iter().map(|path| Listed { path: path.clone(), origin: "site.toml:1:1".into() }).collect()
    }

    /// One line: `ok`, `ok ro` or what the site forbids.
    fn answer(policy: &MountPolicy, asker: Asker, source: &Path, root: &Path, target: &str) -> String {
        match policy.judge(asker, "it", Some(source), (root, Path::new(target))) {
            Ok(false) => "ok".into(),
            Ok(true) => "ok ro".into(),
            Err(denied) => denied.what.to_string(),
        }
    }

    #[test]
    fn sources_and_targets_by_every_way() {
        let directory = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(directory.path()).unwrap();
        let at = |name: &str| base.join(name);
        for name in ["secret/in", "secret2", "open/dir", "data", "lustre/work", "image/etc/ssh", "image/x"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        symlink(at("secret"), at("open/link")).unwrap();
        symlink("../secret/in", at("open/relative")).unwrap();
        symlink(at("lustre/work"), at("work")).unwrap();
        symlink("/etc/ssh", at("image/alias")).unwrap();
        let secret = at("secret").display().to_string();
        let forbids = |how: &str| format!("{secret} to be mounted, and this {how}");
        let none = MountPolicy::default();
        let forbidden = MountPolicy { forbidden_sources: listed(&[at("secret")]), ..none.clone() };
        let denied = MountPolicy { deny: listed(&[at("secret")]), ..none.clone() };
        let allowed = MountPolicy {
            allow: Some(listed(&[at("open"), at("work")])),
            read_only: listed(&[at("data")]),
            ..none.clone()
        };
        let by_link = MountPolicy { deny: listed(&[at("work")]), ..none.clone() };
        let targets = MountPolicy { forbidden_targets: listed(&["/etc/ssh".into()]), ..none.clone() };
        let unlisted = |name: &str| format!("mounts of {}", at(name).display());
        let (user, system) = (Asker::User, Asker::System);
        for (case, policy, asker, source, target, expected) in [
            ("no rule", &none, user, "secret", "/x", "ok".into()),
            ("itself", &forbidden, user, "secret", "/x", forbids("leads to it")),
            ("by ourselves", &forbidden, system, "secret", "/x", forbids("leads to it")),
            ("below", &forbidden, user, "secret/in", "/x", forbids(&format!("leads to it as {secret}/in"))),
            (
                "what is not there",
                &forbidden,
                user,
                "secret/new/x",
                "/x",
                forbids(&format!("leads to it as {secret}/new/x")),
            ),
            ("above", &forbidden, user, "", "/x", forbids("holds it")),
            ("a look-alike", &forbidden, user, "secret2", "/x", "ok".into()),
            ("by a link", &forbidden, user, "open/link", "/x", forbids("leads to it")),
            ("below a link", &forbidden, user, "open/link/in", "/x", forbids(&format!("leads to it as {secret}/in"))),
            (
                "by a link with dots",
                &forbidden,
                user,
                "open/relative",
                "/x",
                forbids(&format!("leads to it as {secret}/in")),
            ),
            ("another", &forbidden, user, "open/dir", "/x", "ok".into()),
            ("denied to users", &denied, user, "open/link", "/x", forbids("leads to it")),
            ("not to us", &denied, system, "secret", "/x", "ok".into()),
            ("the site's path is a link", &by_link, user, "lustre/work/a", "/x", {
                let path = at("lustre/work").display().to_string();
                format!("{path} to be mounted, and this leads to it as {path}/a")
            }),
            ("allowed", &allowed, user, "open/dir", "/x", "ok".into()),
            ("allowed by where its link leads", &allowed, user, "lustre/work", "/x", "ok".into()),
            ("out of what is allowed by a link", &allowed, user, "open/link", "/x", unlisted("secret")),
            ("not allowed", &allowed, user, "secret2", "/x", unlisted("secret2")),
            ("above what is allowed", &allowed, user, "", "/x", format!("mounts of {}", base.display())),
            ("ours need no leave", &allowed, system, "secret2", "/x", "ok".into()),
            ("only to read", &allowed, user, "data", "/x", "ok ro".into()),
            ("a target", &targets, user, "data", "/etc/ssh", "mounts on /etc/ssh".into()),
            ("below it", &targets, user, "data", "/etc/ssh/a", "mounts on /etc/ssh".into()),
            ("above it", &targets, user, "data", "/etc", "mounts on /etc/ssh".into()),
            ("by a link of the image", &targets, user, "data", "/alias", "mounts on /etc/ssh".into()),
            ("below that link", &targets, user, "data", "/alias/new", "mounts on /etc/ssh".into()),
            ("a look-alike target", &targets, user, "data", "/etc/ssh2", "ok".into()),
        ] {
            let source = if source.is_empty() { base.clone() } else { at(source) };
            assert_eq!(answer(policy, asker, &source, &at("image"), target), expected, "{case}");
        }
        // Before there is a node, by the words alone.
        let written = |policy: &MountPolicy, source: &str, target: &str| {
            let judged = policy.judge_as_written("it", Some(&at(source)), Some(Path::new(target)));
            judged.map_err(|denied| denied.what.to_string())
        };
        assert_eq!(written(&forbidden, "secret/in", "/x"), Err(forbids(&format!("leads to it as {secret}/in"))));
        assert_eq!(written(&denied, "secret", "/x"), Err(forbids("leads to it")));
        assert_eq!(written(&targets, "data", "/etc/ssh/a"), Err("mounts on /etc/ssh".into()));
        for (policy, source, target) in
            [(&forbidden, "open/link", "/x"), (&targets, "data", "/alias"), (&allowed, "secret2", "/x")]
        {
            assert_eq!(written(policy, source, target), Ok(()), "{source} {target}");
        }
        // Through /proc, which leads to the same files.
        let through = Path::new("/proc/self/root").join(at("secret/in").strip_prefix("/").unwrap());
        let expected = forbids(&format!("leads to it as {secret}/in"));
        assert_eq!(answer(&forbidden, user, &through, &at("image"), "/x"), expected);
        // A directory that is a root, or takes writes.
        let directory = |policy: &MountPolicy, name: &str, writes| {
            policy.judge_directory("it", &at(name), writes).map_err(|denied| denied.what.to_string())
        };
        assert_eq!(directory(&allowed, "data/x", false), Ok(()));
        assert_eq!(directory(&allowed, "data/x", true), Err(format!("writes to {}", at("data").display())));
        assert_eq!(directory(&denied, "open/link", false), Err(forbids("leads to it")));
    }

    #[test]
    fn the_place_of_a_forced_mount_is_taken() {
        let own = |kind| SiteMount { spec: "/opt/site:/site".parse().unwrap(), kind, origin: "site.toml:1:1".into() };
        let policy = |kind| MountPolicy { own: vec![own(kind)], ..MountPolicy::default() };
        let judge = |kind, target: &str| answer(&policy(kind), Asker::User, Path::new("/x"), Path::new("/no"), target);
        assert_eq!(judge(SiteMountKind::Forced, "/site"), "it to cover its own mount on /site");
        assert_eq!(judge(SiteMountKind::Forced, "/site/below"), "it to cover its own mount on /site");
        assert_eq!(judge(SiteMountKind::Forced, "/site2"), "ok");
        assert_eq!(judge(SiteMountKind::Default, "/site"), "ok");
    }
}
