//! The options of a job, in one table: the launcher's words, the plugin's options and the variables `UDOCKER_NAME` are made
//! from it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Entrypoint, EnvSpec, ExecModeError, MountSpec, RunRequest, WishError, parse_env_file, parse_unshare};
use crate::container::ContainerName;
use crate::error::{ErrorKind, Explain};
use crate::platform::{Platform, PlatformError};
use crate::reference::{ImageReference, ReferenceError};

/// How an option takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Not at all.
    Flag,
    /// Once; the last wins.
    Single,
    /// They add up; in a variable they are separated by `;`.
    List,
}

type Apply = fn(&mut Wish, &OsStr) -> Result<(), OptionError>;

/// One option of a job.
#[derive(Clone, Copy, Debug)]
pub struct JobOption {
    /// `--NAME` of the launcher, `--udocker-NAME` of Slurm's commands.
    pub name: &'static str,
    /// See [`OptionKind`].
    pub kind: OptionKind,
    /// What a value looks like, for help; empty for a flag.
    pub value: &'static str,
    /// What it does, one line.
    pub help: &'static str,
    /// `None`: no request holds it.
    apply: Option<Apply>,
    /// The program that reads it serves it itself: it says where the others come from, or what is done with them.
    of_reader: bool,
}

/// All of them, in the order of help.
#[expect(clippy::unit_arg, reason = "a table of one-line setters reads better")]
pub const JOB_OPTIONS: &[JobOption] = &[
    single("image", "IMAGE", "run in this image: NAME[:TAG][@DIGEST], a container's name, a path, or none", image),
    list(
        "mount",
        "SRC:DST[:ro,optional,create]",
        "bind a host path (repeatable); tmpfs:DST[:size=N] for a tmpfs",
        |w, v| Ok(w.request.mounts.push(text(v)?.parse::<MountSpec>()?)),
    ),
    list("umount", "DST", "drop a default mount (repeatable)", |w, v| Ok(w.request.umounts.push(v.to_owned()))),
    list("env", "NAME=VALUE|NAME|GLOB*", "set a variable, or let the host's value win (repeatable)", |w, v| {
        Ok(w.request.env.push(EnvSpec::parse(v)?))
    }),
    list("env-file", "FILE", "such lines from a file (repeatable)", env_file),
    list("unsetenv", "GLOB", "remove variables (repeatable)", |w, v| Ok(w.request.unset_env.push(text(v)?.to_owned()))),
    flag("clean-env", "start from an empty environment", |w, _| Ok(w.request.clean_env = true)),
    single("workdir", "DIR", "working directory inside", |w, v| Ok(w.request.workdir = Some(v.into()))),
    flag("entrypoint", "run the image's entrypoint", |w, _| Ok(w.request.entrypoint = Some(Entrypoint::Image))),
    flag("no-entrypoint", "do not run it (default)", |w, _| Ok(w.request.entrypoint = Some(Entrypoint::None))),
    flag("home", "make the home directory visible", |w, _| Ok(w.request.home = Some(true))),
    flag("no-home", "hide the home directory", |w, _| Ok(w.request.home = Some(false))),
    single("user", "self|root|image", "who the program is (default: self)", |w, v| {
        Ok(w.request.user = Some(text(v)?.parse()?))
    }),
    single("write", "none|tmpfs[:SIZE]|dir:PATH", "where writes to the root go (default: none)", |w, v| {
        Ok(w.request.write = Some(text(v)?.parse()?))
    }),
    single("mode", "auto|N1|P1|P2", "how the container is entered: by namespaces, or by a tracer", mode),
    single("share", "node|task", "one container for a step's tasks on a node (default), or one for each", |w, v| {
        Ok(w.request.share = Some(text(v)?.parse()?))
    }),
    single("gpu", "auto|none|all|LIST[,caps=…]", "which of the granted GPUs are visible (default: auto)", |w, v| {
        Ok(w.request.gpu = Some(text(v)?.parse()?))
    }),
    list("device", "PATH|CDI-NAME", "make a device visible (repeatable)", |w, v| {
        Ok(w.request.devices.push(text(v)?.parse()?))
    }),
    list("unshare", "net,ipc,uts", "namespaces of the container's own (repeatable)", |w, v| {
        Ok(w.request.unshare.extend(parse_unshare(text(v)?)?))
    }),
    single("pull", "missing|always|never", "when the registry is asked", |w, v| Ok(w.request.pull = text(v)?.parse()?)),
    single("platform", "OS/ARCH[/VARIANT]|native", "take the image for this platform", |w, v| {
        Ok(w.request.platform = Platform::wish(text(v)?)?)
    }),
    single("batch", "container|host", "where a batch script itself runs (default: container)", |w, v| {
        Ok(w.request.batch = Some(text(v)?.parse()?))
    }),
    single("timeout", "TIME", "how long getting the image may take, as 90s, 15m or 2h (15m)", timeout),
    single("verbose", "0|1|2|3", "from 1 on, tell how long what took; one task of a node speaks", verbose),
    of_reader("profile", OptionKind::List, "NAME|FILE", "options from a profile (repeatable)"),
    missing("name", OptionKind::Single, "NAME", "use or create a container of this name"),
    missing("save", OptionKind::Single, "FILE|store:NAME", "keep what was written at the end"),
    missing("mpi", OptionKind::Single, "auto|none|image|host:NAME", "whose MPI is used"),
    missing("fabric", OptionKind::List, "NAME", "a network's libraries, as the site says (repeatable)"),
    missing("module", OptionKind::List, "NAME", "a bundle of settings, as the site says (repeatable)"),
    of_reader("explain", OptionKind::Flag, "", "print the plan, and who asked for each part, and run nothing"),
];

const fn flag(name: &'static str, help: &'static str, apply: Apply) -> JobOption {
    JobOption { name, kind: OptionKind::Flag, value: "", help, apply: Some(apply), of_reader: false }
}
const fn single(name: &'static str, value: &'static str, help: &'static str, apply: Apply) -> JobOption {
    JobOption { name, kind: OptionKind::Single, value, help, apply: Some(apply), of_reader: false }
}
const fn list(name: &'static str, value: &'static str, help: &'static str, apply: Apply) -> JobOption {
    JobOption { name, kind: OptionKind::List, value, help, apply: Some(apply), of_reader: false }
}
const fn missing(name: &'static str, kind: OptionKind, value: &'static str, help: &'static str) -> JobOption {
    JobOption { name, kind, value, help, apply: None, of_reader: false }
}
const fn of_reader(name: &'static str, kind: OptionKind, value: &'static str, help: &'static str) -> JobOption {
    JobOption { name, kind, value, help, apply: None, of_reader: true }
}

/// An option or its value cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// Of the interface, and refused rather than passed over.
    #[error("option --{0} is not supported by this version")]
    NotBuilt(&'static str),
    /// A value that must be text is not.
    #[error("`{0}` is not UTF-8")]
    NotText(String),
    /// An image that can be none.
    #[error(transparent)]
    Image(#[from] ReferenceError),
    /// No span of time.
    #[error("`{0}` is no time: expected a number above 0 with s, m or h, as 15m")]
    Time(String),
    /// A file of variables.
    #[error("cannot read {}: {reason}", path.display())]
    EnvFile {
        /// As typed.
        path: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// A level.
    #[error("`{0}` is no level of verbosity: expected 0 to 3")]
    Verbose(String),
    /// A value of one of a request's types.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// A mode.
    #[error(transparent)]
    Mode(#[from] ExecModeError),
    /// A platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Any of these, in a file.
    #[error("{at}: {error}")]
    At {
        /// `FILE:LINE:COLUMN`.
        at: String,
        /// What is wrong.
        error: Box<OptionError>,
    },
    /// Any of these, in a variable.
    #[error("variable {variable}: {error}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong.
        error: Box<OptionError>,
    },
}

impl Explain for OptionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Wish(error) => error.hints(),
            Self::Variable { error, .. } | Self::At { error, .. } => error.hints(),
            _ => Vec::new(),
        }
    }
}

impl JobOption {
    /// The option `--NAME`.
    pub fn find(name: &str) -> Option<&'static Self> {
        JOB_OPTIONS.iter().find(|option| option.name == name)
    }

    /// Its variable, `UDOCKER_NAME`.
    pub fn variable(&self) -> String {
        variable_of(self.name)
    }

    /// Whether a request holds it.
    pub fn is_built(&self) -> bool {
        self.apply.is_some()
    }

    /// Whether the program that reads it serves it itself; no request holds it then.
    pub fn is_of_reader(&self) -> bool {
        self.of_reader
    }

    /// Puts `value` (empty for a flag) into `wish`.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn apply(&self, wish: &mut Wish, value: &OsStr) -> Result<(), OptionError> {
        self.apply.ok_or(OptionError::NotBuilt(self.name))?(wish, value)
    }
}

/// What options asked for so far.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The request, but for the files of variables.
    pub request: RunRequest,
    /// Lines of `--env-file`s: they lie below what `--env` says, whichever came first.
    file_env: Vec<EnvSpec>,
}

impl Wish {
    /// Nothing but what `request` asks for.
    pub fn over(request: RunRequest) -> Self {
        Self { request, file_env: Vec::new() }
    }

    /// Applies `variables`, some of [`option_variables`], but for options that their reader serves.
    ///
    /// # Errors
    /// [`OptionError::Variable`].
    pub fn take_variables<'a>(
        &mut self,
        variables: impl Iterator<Item = (&'a [u8], &'a OsStr)>,
    ) -> Result<(), OptionError> {
        in_variables(variables, |option, value| {
            if option.is_of_reader() {
                return Ok(());
            }
            let taken = option.apply(self, value);
            taken.map_err(|error| OptionError::Variable { variable: option.variable(), error: error.into() })
        })
    }

    /// The whole request.
    pub fn into_request(self) -> RunRequest {
        let Self { mut request, file_env } = self;
        request.env.splice(..0, file_env);
        request
    }
}

/// Each option that one of `variables` ([`option_variables`]) gives, and its value. An empty one gives none.
///
/// # Errors
/// Those of `each`.
pub fn in_variables<'a, E>(
    variables: impl Iterator<Item = (&'a [u8], &'a OsStr)>,
    mut each: impl FnMut(&'static JobOption, &'a OsStr) -> Result<(), E>,
) -> Result<(), E> {
    let ours: Vec<_> = variables.collect();
    for option in JOB_OPTIONS {
        let Some((_, value)) = ours.iter().find(|(variable, _)| names(variable, option.name)) else { continue };
        match option.kind {
            _ if value.is_empty() => {}
            OptionKind::Flag if matches!(value.as_bytes(), b"0" | b"false" | b"no") => {}
            OptionKind::Flag => each(option, OsStr::new(""))?,
            OptionKind::Single => each(option, value)?,
            OptionKind::List => {
                let mut parts = value.as_bytes().split(|byte| *byte == b';').filter(|part| !part.is_empty());
                parts.try_for_each(|part| each(option, OsStr::from_bytes(part)))?;
            }
        }
    }
    Ok(())
}

/// The variables of `env` that may stand for options, without their common beginning: of a job's hundred variables there
/// are few.
pub fn option_variables(env: &[(OsString, OsString)]) -> impl Iterator<Item = (&[u8], &OsStr)> {
    env.iter().filter_map(|(name, value)| Some((name.as_bytes().strip_prefix(b"UDOCKER_")?, value.as_os_str())))
}

/// The variable that stands for the option `name`.
pub fn variable_of(name: &str) -> String {
    format!("UDOCKER_{}", name.to_uppercase().replace('-', "_"))
}

/// Whether one of [`option_variables`] stands for the option `name`.
pub fn names(variable: &[u8], name: &str) -> bool {
    let upper = name.bytes().map(|byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() });
    variable.len() == name.len() && variable.iter().copied().eq(upper)
}

/// The reference page of [`JOB_OPTIONS`], in Markdown.
pub fn options_page() -> String {
    let mut out = String::from(
        "# Options of a job\n\nMade from `core/src/run/options.rs`; do not edit.\n\n\
         `--udocker-OPTION` of srun, sbatch and salloc (and `#SBATCH`), `--OPTION` of `udocker-launch`, and a variable, in \
         which `;` separates the values of a repeatable one. What this version lacks is refused.\n\n\
         | option | values | variable | meaning |\n|---|---|---|---|\n",
    );
    for option in JOB_OPTIONS {
        let value = option.value.replace('|', "\\|");
        let value = if value.is_empty() { String::new() } else { format!("`{value}`") };
        let built = if option.is_built() || option.of_reader { "" } else { "; not in this version" };
        let (name, variable, help) = (option.name, option.variable(), option.help);
        out.push_str(&format!("| `{name}` | {value} | `{variable}` | {help}{built} |\n"));
    }
    out
}

fn text(value: &OsStr) -> Result<&str, OptionError> {
    value.to_str().ok_or_else(|| OptionError::NotText(value.display().to_string()))
}

fn image(wish: &mut Wish, value: &OsStr) -> Result<(), OptionError> {
    let value = text(value)?;
    check_image(value)?;
    value.clone_into(&mut wish.request.image);
    Ok(())
}

/// Whether `image` is a path: what begins so is one, and nothing else is.
pub fn is_path(image: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| image.starts_with(start))
}

/// Whether `text` can be an image or a container.
pub(super) fn check_image(text: &str) -> Result<(), ReferenceError> {
    if is_path(text) || text.parse::<ContainerName>().is_ok() {
        return Ok(());
    }
    text.parse::<ImageReference>().map(|_| ())
}

fn env_file(wish: &mut Wish, value: &OsStr) -> Result<(), OptionError> {
    let bytes = std::fs::read(value).map_err(|reason| OptionError::EnvFile { path: value.into(), reason })?;
    wish.file_env.extend(parse_env_file(&bytes)?);
    Ok(())
}

fn mode(wish: &mut Wish, value: &OsStr) -> Result<(), OptionError> {
    wish.request.mode = match text(value)? {
        "auto" => None,
        name => Some(name.parse()?),
    };
    Ok(())
}

fn timeout(wish: &mut Wish, value: &OsStr) -> Result<(), OptionError> {
    let seconds = parse_time(text(value)?);
    wish.request.timeout = Some(seconds.ok_or_else(|| OptionError::Time(value.display().to_string()))?);
    Ok(())
}

/// Seconds from `Ns`, `Nm` or `Nh`, above 0. A number without a unit is refused: Slurm's are minutes, others' seconds.
pub fn parse_time(text: &str) -> Option<u32> {
    let (digits, unit) = [("s", 1), ("m", 60), ("h", 3600)].iter().find_map(|(name, seconds)| {
        Some((text.strip_suffix(name).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?, seconds))
    })?;
    digits.parse::<u32>().ok()?.checked_mul(*unit).filter(|seconds| *seconds > 0)
}

fn verbose(wish: &mut Wish, value: &OsStr) -> Result<(), OptionError> {
    let level = text(value)?.parse().ok().filter(|level| *level <= 3);
    wish.request.verbose = level.ok_or_else(|| OptionError::Verbose(value.display().to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::pairs;

    fn wish(words: &[(&str, &str)], env: &[(&str, &str)]) -> Result<RunRequest, String> {
        let mut wish = Wish::over(RunRequest::of_job(""));
        let env = pairs(env);
        wish.take_variables(option_variables(&env)).map_err(|error| error.to_string())?;
        for (name, value) in words {
            let option = JobOption::find(name).unwrap();
            option.apply(&mut wish, OsStr::new(value)).map_err(|error| error.to_string())?;
        }
        Ok(wish.into_request())
    }

    #[test]
    fn names_are_said_once_and_variables_follow() {
        for (index, option) in JOB_OPTIONS.iter().enumerate() {
            assert!(JOB_OPTIONS[..index].iter().all(|other| other.name != option.name), "{}", option.name);
            assert_eq!(option.kind == OptionKind::Flag, option.value.is_empty(), "{}", option.name);
            assert_eq!(option.kind == OptionKind::List, option.help.contains("(repeatable)"), "{}", option.name);
        }
        assert_eq!(JobOption::find("env-file").unwrap().variable(), "UDOCKER_ENV_FILE");
    }

    #[test]
    fn the_reference_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/job-options.md");
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(path, options_page()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == options_page(), "docs/reference/job-options.md is old: run this test with UPDATE_REFERENCE=1");
    }

    #[test]
    fn words_beat_variables_and_lists_add_up() {
        let env = [("UDOCKER_IMAGE", "a"), ("UDOCKER_UMOUNT", "/x;/y"), ("UDOCKER_HOME", "no"), ("UDOCKER_MODE", "")];
        let request = wish(&[("image", "b"), ("umount", "/z")], &env).unwrap();
        assert_eq!((request.image.as_str(), request.umounts.len(), request.home, request.mode), ("b", 3, None, None));
    }

    #[test]
    fn images_are_checked() {
        for text in ["alpine", "alpine:3.19", "docker://x/y@sha256:", "./dir", "/opt/root", "My_Container", "none"] {
            let expected = !text.ends_with("sha256:");
            assert_eq!(wish(&[("image", text)], &[]).is_ok(), expected, "{text}");
        }
        for text in ["", "a b", "a.b@c", ".."] {
            assert!(wish(&[("image", text)], &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        assert_eq!(wish(&[("mpi", "auto")], &[]).unwrap_err(), "option --mpi is not supported by this version");
        assert_eq!(
            wish(&[], &[("UDOCKER_MPI", "auto")]).unwrap_err(),
            "variable UDOCKER_MPI: option --mpi is not supported by this version"
        );
        assert_eq!(
            wish(&[("batch", "x")], &[]).unwrap_err(),
            "cannot read where the batch script runs from `x`: expected container or host"
        );
    }

    #[test]
    fn times_have_units() {
        for (text, expected) in [("90s", Some(90)), ("15m", Some(900)), ("2h", Some(7200))] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        for text in ["", "s", "15", "0m", "-1s", "+1s", "1.5h", "1 m", "1d", "4294967295h"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
