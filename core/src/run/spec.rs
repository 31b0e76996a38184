//! The complete run: every default decided, every variable and mount present, no host looked at.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::{EnvOrigin, ExecMode, ImageFiles, RunRequest, SiteEnv};
use crate::engine::{Cwd, GeneratedFile, IdMap, KeepFds, MountPlan, Unshare};
use crate::gpu::Shown;
use crate::image_config::ImageConfig;
use crate::policy::{MountDenied, MountPolicy};
use crate::settings::InteractiveDefaults;

/// What the process knows of its caller and its machine; gathered once by a front end, so that [`RunSpec::build`] is pure.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Real user ID.
    pub uid: u32,
    /// Real group ID.
    pub gid: u32,
    /// Login name (USER, else /etc/passwd, else `uUID`).
    pub name: String,
    /// Home directory on the host.
    pub home: PathBuf,
    /// Login shell on the host, where one is started ([`super::host_shell`]); `None`: no account.
    pub shell: Option<OsString>,
    /// A private directory on this node that is the program's XDG_RUNTIME_DIR in a job, if there is one.
    pub runtime_dir: Option<PathBuf>,
    /// Current directory on the host.
    pub cwd: PathBuf,
    /// The whole environment, in its order.
    pub env: Vec<(OsString, OsString)>,
    /// The sockets among the descriptors that variables of process managers (`PMI_FD` …) name.
    pub sockets: Vec<i32>,
    /// Subordinate ranges, if newuidmap works for this user: of uids and of gids.
    pub subordinate: Option<(Range, Range)>,
    /// What is configured for runs by hand; udocker's defaults until a front end puts others here.
    pub interactive: InteractiveDefaults,
    /// What the site says of mounts, as in [`crate::settings::Settings`].
    pub site_mounts: Option<Box<MountPolicy>>,
    /// What it says of the environment, likewise.
    pub site_env: Option<Box<SiteEnv>>,
    /// What its run gets of the machine's GPUs; `None`: nothing was decided.
    pub gpu: Option<Box<Shown>>,
}

/// First ID and count.
pub type Range = (u32, u32);

/// Whether a person's shell or a batch system runs the container: which defaults apply (design, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defaults {
    /// `udocker run`: fake root, entrypoint, udocker's default volumes and environment, all descriptors kept.
    Interactive,
    /// `udocker-launch`: host user, no entrypoint, the host's environment minus the drop list, home and cwd bound.
    Job,
}

/// Everything that a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// Mounts, parents before children.
    pub mounts: Vec<MountPlan>,
    /// Generated files.
    pub files: Vec<GeneratedFile>,
    /// IDs inside.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// How they come about.
    pub map: IdMap,
    /// Working directory.
    pub cwd: Cwd,
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// As in [`crate::engine::ExecPlan`].
    pub login_shells: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<OsString>,
    /// File descriptors.
    pub keep_fds: KeepFds,
    /// Namespaces beside user and mount.
    pub unshare: Vec<Unshare>,
    /// What was decided that the user may not expect.
    pub remarks: Vec<Remark>,
}

/// A decision that the user should be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Neither the user nor the image named a program.
    AssumedCommand,
    /// A mount that should be dropped is none of the run's.
    NoSuchMount(OsString),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AssumedCommand => f.write_str("no command given and none in the image"),
            Self::NoSuchMount(path) => write!(f, "--novol {} not in volumes list", path.display()),
        }
    }
}

/// What the container is, for udocker's own variables (`container_uuid` …).
#[derive(Clone, Debug, Default)]
pub struct ContainerFacts {
    /// Container ID, or the tree's ID for a run of an image.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// The root on the host.
    pub root: PathBuf,
    /// How it is entered.
    pub mode: ExecMode,
}

/// A wish that cannot be made into a run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// Neither the user nor the image names a program.
    #[error("no command to run: none was given and the image has neither Entrypoint nor Cmd")]
    NoCommand,
    /// The named user is neither in the image nor on the host.
    #[error("cannot run as user `{0}`: it is neither in the image's /etc/passwd nor a number")]
    UnknownUser(String),
    /// The named user is not in the accounts that are taken as they are.
    #[error("cannot run as user `{user}`: {whose} accounts have no such user")]
    NoAccount {
        /// As named.
        user: String,
        /// `the host's` or `the container's`.
        whose: &'static str,
    },
    /// The named group is unknown.
    #[error("cannot run with group `{0}`: it is neither in the image's /etc/group nor a number")]
    UnknownGroup(String),
    /// Another user than the caller under PMIx.
    #[error("cannot run as user `{0}` in a PMIx step: MPI_Init hangs unless the program has its caller's uid")]
    UserUnderPmix(String),
    /// A target of a mount may not be covered.
    #[error("cannot mount on `{0}` in the container: mounts need an absolute target other than /, without `..`")]
    BadTarget(PathBuf),
    /// A source of a mount is no plain absolute path.
    #[error("cannot mount `{0}`: mounts need an absolute source, without `..`")]
    BadSource(PathBuf),
    /// The site forbids a mount.
    #[error(transparent)]
    Site(#[from] MountDenied),
}

impl crate::error::Explain for SpecError {
    fn kind(&self) -> crate::error::ErrorKind {
        match self {
            Self::Site(denied) => denied.kind(),
            _ => crate::error::ErrorKind::Usage,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoCommand => vec!["name a command behind the image, as `udocker run IMAGE /bin/sh`".into()],
            Self::UnknownUser(_) => vec!["use `--user=UID` or `--user=UID:GID`".into()],
            Self::NoAccount { .. } => {
                vec!["without `--hostauth` and `--containerauth` an unknown user gets an account".into()]
            }
            Self::UnknownGroup(_) => vec!["use `--user=UID:GID`".into()],
            Self::UserUnderPmix(_) => vec!["use `--user=self`".into()],
            Self::Site(denied) => denied.hints(),
            Self::BadTarget(_) | Self::BadSource(_) => Vec::new(),
        }
    }
}

impl RunSpec {
    /// Decides every default; pure, but that the host is asked where links lead if the site has rules on mounts.
    pub fn build(
        request: &RunRequest,
        config: &ImageConfig,
        files: &ImageFiles,
        caller: &Caller,
        defaults: Defaults,
        container: &ContainerFacts,
    ) -> Result<Self, SpecError> {
        let config = if request.no_image_config { &ImageConfig::default() } else { config };
        let identity = super::identity::decide(request, config, files, caller, defaults)?;
        let mounts = super::mount::collect(request, caller, defaults, &container.root)?;
        let (argv, assumed) = super::env::command(request, config, caller, defaults)?;
        let unmatched = super::mount::unmatched_umounts(request, caller, defaults, &container.root)?;
        let assumed = assumed.then_some(Remark::AssumedCommand);
        Ok(Self {
            files: super::account::generate(request, files, &identity),
            uid: identity.uid,
            gid: identity.gid,
            map: identity.map.clone(),
            cwd: super::mount::working_directory(request, config, caller, defaults, &mounts, &identity),
            login_shells: match request.login {
                true => super::env::login_shells(files, caller),
                false => Vec::new(),
            },
            argv,
            env: super::env::assemble(request, config, caller, defaults, container, &identity, &mounts),
            mounts,
            unshare: request.unshare.clone(),
            remarks: unmatched.into_iter().map(Remark::NoSuchMount).chain(assumed).collect(),
            keep_fds: match defaults {
                Defaults::Interactive => KeepFds::All,
                Defaults::Job => KeepFds::Only(caller.sockets.clone()),
            },
        })
    }
}

impl RunSpec {
    /// The environment of [`build`](Self::build), and who set each variable.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn variables(
        request: &RunRequest,
        config: &ImageConfig,
        files: &ImageFiles,
        caller: &Caller,
        defaults: Defaults,
        container: &ContainerFacts,
    ) -> Result<Vec<(OsString, OsString, EnvOrigin)>, SpecError> {
        let config = if request.no_image_config { &ImageConfig::default() } else { config };
        let identity = super::identity::decide(request, config, files, caller, defaults)?;
        let mounts = super::mount::collect(request, caller, defaults, &container.root)?;
        Ok(super::env::variables(request, config, caller, defaults, container, &identity, &mounts))
    }
}

/// Whether the caller's home is bound: in jobs unless refused or the site's default is another, in `udocker run` if asked for.
pub(crate) fn home_is_visible(request: &RunRequest, caller: &Caller, defaults: Defaults) -> bool {
    let of_site = || caller.site_mounts.as_ref().and_then(|mounts| mounts.home);
    request.home.unwrap_or_else(|| defaults == Defaults::Job && of_site().unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{caller, job, pairs};

    fn build(request: &RunRequest, caller: &Caller, defaults: Defaults) -> RunSpec {
        let config = ImageConfig {
            env: vec!["PATH=/i".into()],
            entrypoint: vec!["/e".into()],
            cmd: vec!["c".into()],
            user: "web".into(),
            working_dir: "/app".into(),
            ..ImageConfig::default()
        };
        let files = ImageFiles {
            passwd: b"root:x:0:0:r:/root:/bin/sh\nweb:x:33:34:w:/srv:/bin/sh\n".into(),
            group: b"root:x:0:\nweb:x:34:\n".into(),
        };
        RunSpec::build(request, &config, &files, caller, defaults, &ContainerFacts::default()).unwrap()
    }

    #[test]
    fn a_run_follows_the_image() {
        let spec = build(&RunRequest::new("i"), &caller(), Defaults::Interactive);
        assert_eq!((spec.uid, spec.gid, &spec.map), (33, 34, &IdMap::Single));
        assert_eq!((spec.argv, spec.remarks), (vec!["/e".into(), "c".into()], vec![]));
        assert_eq!(spec.cwd, Cwd { path: "/app".into(), fallback: Some("/".into()) });
        assert_eq!((spec.files, spec.keep_fds), (vec![], KeepFds::All));
        assert_eq!(&spec.env[..4], ["HOME=/srv", "PATH=/i", "USER=web", "LOGNAME=web"]);
    }

    #[test]
    fn without_its_configuration_the_image_decides_nothing() {
        let mut request = RunRequest::new("i");
        request.no_image_config = true;
        request.umounts = vec!["/proc".into(), "/nothere".into()];
        let spec = build(&request, &caller(), Defaults::Interactive);
        assert_eq!((spec.uid, spec.gid), (0, 0));
        assert_eq!(spec.argv, ["bash", "-i"]);
        assert_eq!(spec.remarks, [Remark::NoSuchMount("/nothere".into()), Remark::AssumedCommand]);
        assert_eq!(spec.cwd, Cwd { path: "/root".into(), fallback: Some("/".into()) });
        assert!(spec.env.contains(&"PATH=/usr/sbin:/sbin:/usr/bin:/bin".into()));
    }

    #[test]
    fn a_job_follows_its_caller() {
        let mut caller = caller();
        caller.env = pairs(&[("PMI_FD", "11"), ("PMI_RANK", "0")]);
        caller.sockets = vec![11];
        let mut request = job();
        request.argv = vec!["./a.out".into()];
        let spec = build(&request, &caller, Defaults::Job);
        assert_eq!((spec.uid, spec.gid, &spec.map), (1234, 100, &IdMap::Single));
        assert_eq!(spec.argv, ["./a.out"]);
        assert_eq!(spec.cwd, Cwd { path: "/data/alice".into(), fallback: Some("/app".into()) });
        assert_eq!(spec.keep_fds, KeepFds::Only(vec![11]));
        let targets: Vec<_> = spec.files.iter().map(|file| file.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/etc/passwd", "/etc/group"]);
        assert_eq!(spec.env, ["PMI_FD=11", "PMI_RANK=0", "HOME=/home/alice", "PATH=/i", "UDOCKER_INSIDE="]);
    }
}
