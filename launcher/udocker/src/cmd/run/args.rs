//! The options of `udocker run`, and the request that they are.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use udocker_core::container::ContainerName;
use udocker_core::error::Failure;
use udocker_core::platform::Platform;
use udocker_core::run::{
    Accounts, Entrypoint, EnvSpec, ExecMode, MountSpec, PullPolicy, RunRequest, Said, WriteSpec, parse_env_file,
};

use super::docker::DockerArgs;
use super::{RunError, refusal};
use crate::cmd::RegistryArgs;
use crate::{UsageError, usage, usage_text};

/// Run a command in a container, or in an image without keeping anything.
///
/// The image is pulled if no store has it. Options end at the container or image; all that follows is the program's, but for
/// one `--` right behind it. The status is the program's own, 128 + n if signal n ended it; 125 if it could not be started,
/// 126 if it is not executable, 127 if it is not there; 1 for a wrong command line.
///
/// Example: udocker run -v /scratch:/data debian:12 ls -l /data
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_usage = "udocker run [OPTIONS] CONTAINER|IMAGE [COMMAND [ARGUMENT…]]")]
pub struct Args {
    /// Bind a file or directory of the host: HOST[:CONTAINER[:ro]]; may be given again.
    #[arg(short = 'v', long, value_name = "HOST:CONTAINER", help_heading = "Files")]
    pub volume: Vec<OsString>,
    /// Mount SRC:DST[:ro,optional,create] or tmpfs:DST[:size=N], or as Docker: type=bind,src=SRC,dst=DST,ro.
    #[arg(long, value_name = "SRC:DST", help_heading = "Files")]
    pub mount: Vec<OsString>,
    /// Mount an empty tmpfs: DST[:size=N,ro].
    #[arg(long, value_name = "DST", help_heading = "Files")]
    pub tmpfs: Vec<OsString>,
    /// Drop a default or given volume.
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    pub novol: Vec<OsString>,
    /// No default volumes [default ones: /dev /proc /sys /etc/resolv.conf /etc/host.conf /lib/modules].
    #[arg(long, help_heading = "Files")]
    pub nosysdirs: bool,
    /// Make the home directory visible.
    #[arg(long, help_heading = "Files")]
    pub bindhome: bool,
    /// Make the host's drivers for direct rendering visible.
    #[arg(long, help_heading = "Files")]
    pub dri: bool,
    /// Make a device visible: HOST[:CONTAINER[:rwm]]; those in /dev are unless --nosysdirs.
    #[arg(long, value_name = "DEVICE", help_heading = "Files")]
    pub device: Vec<String>,
    /// Where writes to the root go: none, tmpfs[:SIZE] or dir:PATH [default: tmpfs of an image, gone at the end; the container itself].
    #[arg(long, value_name = "WHERE", help_heading = "Files", conflicts_with = "read_only")]
    pub write: Option<String>,
    /// As --write=none.
    #[arg(long, help_heading = "Files")]
    pub read_only: bool,
    /// Use this directory as the root; one word is still taken as the container's name, as by udocker.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub location: Option<PathBuf>,
    /// Set NAME=VALUE, or take NAME from the host; wins over the image and files.
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]", help_heading = "Environment")]
    pub env: Vec<OsString>,
    /// Read such lines from a file; lines that begin with # are passed over.
    #[arg(long, value_name = "FILE", help_heading = "Environment")]
    pub env_file: Vec<PathBuf>,
    /// Pass the whole environment of the host.
    #[arg(long, help_heading = "Environment")]
    pub hostenv: bool,
    /// Working directory inside [default: the image's, else the home].
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Program")]
    pub workdir: Option<PathBuf>,
    /// Name, uid or uid:gid; an unknown one gets an account [default: the image's, else root].
    #[arg(short = 'u', long, value_name = "USER", help_heading = "Program")]
    pub user: Option<String>,
    /// Run this instead of the image's entrypoint; empty for none.
    #[arg(long, value_name = "PROGRAM", help_heading = "Program", num_args = 0..=1, default_missing_value = "")]
    pub entrypoint: Option<OsString>,
    /// Use the host's accounts; an unknown user is an error.
    #[arg(long, help_heading = "Program")]
    pub hostauth: bool,
    /// Use the container's accounts unchanged; an unknown user is an error.
    #[arg(long, help_heading = "Program")]
    pub containerauth: bool,
    /// Ignore the image's Env, Cmd, Entrypoint, WorkingDir and User.
    #[arg(long, help_heading = "Program")]
    pub nometa: bool,
    /// CPUs to run on, as 0,2-3.
    #[arg(long, value_name = "CPUS", help_heading = "Program")]
    pub cpuset_cpus: Option<Cpus>,
    /// Enter the container in this mode: auto, N1, P1, P2 [default: the one set by `udocker setup`, else UDOCKER_DEFAULT_EXECUTION_MODE, else auto].
    #[arg(long, value_name = "MODE", help_heading = "Program")]
    pub mode: Option<Mode>,
    /// Options of a job from a profile, NAME or FILE, beneath all others; may be given again.
    #[arg(long, value_name = "NAME|FILE", help_heading = "Program")]
    pub profile: Vec<OsString>,
    /// Keep the container under this name.
    #[arg(long, value_name = "NAME", help_heading = "Container")]
    pub name: Option<ContainerName>,
    /// Keep the container, as udocker does.
    #[arg(long, help_heading = "Container")]
    pub keep: bool,
    /// Remove the container after the run, unless it is protected.
    #[arg(long, help_heading = "Container")]
    pub rm: bool,
    /// Write the container's ID to this file, which must not exist.
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub cidfile: Option<PathBuf>,
    /// When to pull: missing, never, always, or reuse to run the container --name if there is one [default: missing].
    #[arg(long, value_name = "WHEN", help_heading = "Image", num_args = 0..=1, default_missing_value = "missing")]
    pub pull: Option<Pull>,
    /// Take the image for this platform [default: this machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Image")]
    pub platform: Option<String>,
    /// Print what would be done and do nothing.
    #[arg(long, help_heading = "Output")]
    pub dry_run: bool,
    /// Print what would be done, and who asked for each part, and do nothing.
    #[arg(long, help_heading = "Output")]
    pub explain: bool,
    /// Format of --explain: text or json [default: text]; --dry-run prints json.
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], help_heading = "Output")]
    pub format: Option<String>,
    /// Accepted; there is no banner.
    #[arg(long, help_heading = "Output")]
    pub nobanner: bool,
    /// Print help; `-h` is Docker's --hostname.
    #[arg(long, action = clap::ArgAction::HelpLong, help_heading = "Output")]
    pub help: Option<bool>,
    #[command(flatten)]
    pub docker: DockerArgs,
    /// The container or image, and the command with its arguments.
    #[arg(value_name = "CONTAINER|IMAGE [COMMAND [ARGUMENT…]]", trailing_var_arg = true)]
    pub words: Vec<OsString>,
    // Last, since the heading counts for what follows.
    #[command(flatten, next_help_heading = "Image")]
    pub registry: RegistryArgs,
}

/// `--mode`.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Auto,
    Named(ExecMode),
}

impl std::str::FromStr for Mode {
    type Err = udocker_core::run::ExecModeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Named) }
    }
}

/// `--pull`: a policy, or the container that has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    Reuse,
    When(PullPolicy),
}

impl std::str::FromStr for Pull {
    type Err = udocker_core::run::WishError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "reuse" { Ok(Self::Reuse) } else { text.parse().map(Self::When) }
    }
}

/// `--cpuset-cpus`.
#[derive(Clone, Debug)]
pub struct Cpus {
    text: String,
    set: rustix::thread::CpuSet,
}

impl std::str::FromStr for Cpus {
    type Err = UsageError;
    fn from_str(text: &str) -> Result<Self, UsageError> {
        let bad = || usage_text("expected numbers and ranges of CPUs, as 0,2-3");
        let mut set = rustix::thread::CpuSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
            if first > last || last >= rustix::thread::CpuSet::MAX_CPU {
                return Err(bad());
            }
            (first..=last).for_each(|cpu| set.set(cpu));
        }
        Ok(Self { text: text.to_owned(), set })
    }
}

impl Cpus {
    /// Restricts this process to them, and so the program.
    pub fn confine(&self) -> Result<(), RunError> {
        let confined = rustix::thread::sched_setaffinity(None, &self.set);
        confined.map_err(|errno| RunError::Cpus { cpus: self.text.clone(), source: errno.into() })
    }
}

impl Args {
    /// What the options say that are right or wrong whatever the host is, over `base`: what profiles say.
    pub fn request(&self, base: RunRequest) -> Result<RunRequest, Failure> {
        let mut words = self.words.iter().cloned();
        let image = match words.next() {
            Some(word) => word.into_string().map_err(|w| usage_text(&format!("`{}` is no image name", w.display())))?,
            None if self.location.is_some() => String::new(),
            None => {
                let hints = vec!["`udocker ps` and `udocker images` list what is here".into()];
                return Err(UsageError("must specify container_id or image:tag".into(), hints).into());
            }
        };
        let mut request = RunRequest { image, ..base };
        request.argv = words.collect();
        if request.argv.first().is_some_and(|word| word == "--") {
            request.argv.remove(0);
        }
        request.umounts.extend(self.novol.iter().cloned());
        request.host_env = self.hostenv;
        request.workdir = self.workdir.clone().or(request.workdir);
        let entrypoint = match &self.entrypoint {
            None => None,
            Some(program) if program.is_empty() => Some(Entrypoint::None),
            Some(program) => Some(Entrypoint::Program(program.clone())),
        };
        request.entrypoint = entrypoint.or(request.entrypoint);
        request.home = self.bindhome.then_some(true).or(request.home);
        request.write = self.write()?.or(request.write);
        request.mode = match self.mode {
            None => request.mode,
            Some(Mode::Auto) => None,
            Some(Mode::Named(mode)) => Some(mode),
        };
        request.no_system_mounts = self.nosysdirs;
        request.no_image_config = self.nometa;
        request.accounts = match (self.hostauth, self.containerauth) {
            (true, _) => Accounts::Host,
            (_, true) => Accounts::Container,
            _ => Accounts::Generated,
        };
        if let Some(word) = &self.platform {
            request.platform = Platform::wish(word).map_err(crate::usage)?;
        }
        request.pull = match self.pull {
            None | Some(Pull::Reuse) => request.pull,
            Some(Pull::When(policy)) => policy,
        };
        Ok(request)
    }

    /// Whether nothing is to be done.
    pub fn shows(&self) -> bool {
        self.dry_run || self.explain
    }

    /// Who asks for what, as [`request`](Self::request) and [`add_wishes`](Self::add_wishes) take it; `added`: how many mounts
    /// they added, `dri`: how many of them for rendering.
    pub fn said(&self, added: usize, dri: usize) -> Vec<Said> {
        let said = |option, origin: &str| Said { option, value: OsString::new(), origin: origin.to_owned() };
        let singles = [
            ("image", "command line", true),
            ("mode", "--mode", self.mode.is_some()),
            ("user", "--user", self.user.is_some()),
            ("entrypoint", "--entrypoint", self.entrypoint.is_some()),
            ("write", if self.read_only { "--read-only" } else { "--write" }, self.read_only || self.write.is_some()),
            ("home", "--bindhome", self.bindhome),
            ("workdir", "--workdir", self.workdir.is_some()),
        ];
        let singles = singles.into_iter().filter(|(.., is_given)| *is_given);
        let mut out: Vec<_> = singles.map(|(option, origin, _)| said(option, origin)).collect();
        let dri = if self.dri { dri } else { 0 };
        let named = self.volume.len() + self.mount.len() + self.tmpfs.len();
        let mounts = [
            (self.volume.len(), "--volume"),
            (self.mount.len(), "--mount"),
            (self.tmpfs.len(), "--tmpfs"),
            (added.saturating_sub(named + dri), "--device"),
            (dri, "--dri"),
        ];
        for (count, origin) in mounts {
            out.extend((0..count).map(|_| said("mount", origin)));
        }
        out.extend(self.env_file.iter().map(|path| Said { value: path.into(), ..said("env-file", "--env-file") }));
        out.extend(self.env.iter().map(|_| said("env", "--env")));
        out
    }

    /// `--write` or `--read-only`, if one was given.
    fn write(&self) -> Result<Option<WriteSpec>, UsageError> {
        match &self.write {
            None => Ok(self.read_only.then_some(WriteSpec::None)),
            Some(text) => text.parse().map(Some).map_err(usage),
        }
    }

    /// Adds the volumes, variables and the user: what udocker refuses before a start, and Docker with 125.
    pub fn add_wishes(&self, request: &mut RunRequest, dri: &[PathBuf]) -> Result<(), Failure> {
        let volumes: Vec<OsString> = self.volume.iter().map(|text| without_parents(text)).collect::<Result<_, _>>()?;
        let volumes = volumes.iter().map(|text| MountSpec::from_volume(text));
        let mounts = self.mount.iter().map(|text| match MountSpec::is_docker(text) {
            true => MountSpec::from_docker(text),
            false => MountSpec::parse(text),
        });
        let tmpfs = self.tmpfs.iter().map(|text| MountSpec::from_tmpfs(text));
        for mount in volumes.chain(mounts).chain(tmpfs) {
            request.mounts.push(mount.map_err(refusal::of_wish)?);
        }
        for text in &self.device {
            request.mounts.extend(device(text, request)?);
        }
        if self.dri {
            request.mounts.extend(dri.iter().map(|path| MountSpec { optional: true, ..bind(path, path) }));
        }
        for path in &self.env_file {
            let file = |source| RunError::EnvFile { path: path.clone(), source };
            let entries = parse_env_file(&std::fs::read(path).map_err(file)?).map_err(refusal::of_wish)?;
            request.env.extend(entries);
        }
        for text in &self.env {
            request.env.push(EnvSpec::parse(text).map_err(refusal::of_wish)?);
        }
        if let Some(text) = &self.user {
            request.user = Some(text.parse().map_err(refusal::of_wish)?);
        }
        Ok(())
    }
}

/// A volume with `..` in its host path, as scripts write `$PWD/../data`: what the path leads to stands in its place.
fn without_parents(text: &OsStr) -> Result<OsString, RunError> {
    let end = text.as_bytes().iter().position(|byte| *byte == b':').unwrap_or(text.len());
    let (host, rest) = text.as_bytes().split_at(end);
    let path = Path::new(OsStr::from_bytes(host));
    if !path.is_absolute() || !path.components().any(|part| part == Component::ParentDir) {
        return Ok(text.to_owned());
    }
    let found = path.canonicalize().map_err(|source| RunError::Volume { path: path.to_owned(), source })?;
    let mut text = found.into_os_string();
    text.push(OsStr::from_bytes(rest));
    Ok(text)
}

fn bind(source: &Path, target: &Path) -> MountSpec {
    let (source, target) = (Some(source.to_owned()), target.to_owned());
    MountSpec { source, target, read_only: false, optional: false, create: false, size: None }
}

/// The mount that makes a device visible where it is asked for; none if all of /dev is.
fn device(text: &str, request: &RunRequest) -> Result<Option<MountSpec>, RunError> {
    let bad = |why| RunError::Device { device: text.to_owned(), why };
    let mut parts = text.split(':');
    let host = Path::new(parts.next().unwrap_or_default());
    let target = parts.next().filter(|part| !part.is_empty()).map_or(host, Path::new);
    if !parts.next().unwrap_or("rwm").bytes().all(|byte| b"rwm".contains(&byte)) || parts.next().is_some() {
        return Err(bad("expected HOST[:CONTAINER[:rwm]]"));
    }
    if !host.is_absolute() || !target.is_absolute() {
        return Err(bad("expected an absolute path; names of CDI are not supported by this version"));
    }
    let kind = std::fs::metadata(host).map_err(|_| bad("there is no such device on this host"))?.file_type();
    if !(kind.is_char_device() || kind.is_block_device() || kind.is_dir()) {
        return Err(bad("it is no device"));
    }
    let all_visible = !request.no_system_mounts && !request.umounts.iter().any(|path| path == "/dev");
    let there = all_visible && host == target && host.starts_with("/dev");
    Ok((!there).then(|| bind(host, target)))
}
