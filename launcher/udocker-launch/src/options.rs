//! The launcher's command line and the variables `UDOCKER_<OPTION>`, read into a [`RunRequest`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::exec::Exec;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::run::{
    Entrypoint, EnvSpec, MountSpec, RunRequest, UserSpec, WriteSpec, parse_env_file, parse_unshare,
};

/// The command line or a variable is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl Explain for UsageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        vec!["`udocker-launch --help` lists the options".into()]
    }
}

/// An error of a parser as one of usage.
pub fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError(error.to_string())
}

/// What is to be done.
#[derive(Debug)]
pub enum Invocation {
    Help,
    Version,
    Run { request: Box<RunRequest>, here: Here },
    Exec(Exec),
    Reap,
}

/// What is no part of the wish for a container, but of this process's start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Print the plan and run nothing.
    pub dry_run: bool,
    /// 0: failures alone; 1: how long what took, besides.
    pub verbose: u8,
    /// Descriptors that the program keeps: the number here and the number there.
    pub fds: Vec<(i32, i32)>,
    /// The program is no rank of the process manager's.
    pub without_pmi: bool,
}

pub const HELP: &str = "\
udocker-launch [OPTIONS] IMAGE [--] [COMMAND [ARGUMENT…]]
udocker-launch exec [--job=JOB] [--step=STEP] [--workdir=DIR] [--env=…] [--] COMMAND [ARGUMENT…]
udocker-launch reap

Runs COMMAND in IMAGE: as the calling user, on a read-only root, in this process (beside it in the modes P1 and P2).

  --mount=SRC:DST[:ro,optional,create]  bind a host path (repeatable); tmpfs:DST[:size=N] for a tmpfs
  --umount=DST                          drop a default mount (repeatable)
  --env=NAME=VALUE | NAME | GLOB*       set a variable, or let the host's value win (repeatable)
  --env-file=FILE                       such lines from a file
  --unsetenv=GLOB                       remove variables (repeatable)
  --clean-env                           start from an empty environment
  --workdir=DIR                         working directory inside
  --entrypoint | --no-entrypoint        run the image's entrypoint, or not (default)
  --home | --no-home                    make the home directory visible, or not
  --user=self|root|image                who the program is (default: self)
  --write=none|tmpfs[:SIZE]|dir:PATH    where writes to the root go (default: none)
  --mode=auto|N1|P1|P2                  how the container is entered: by namespaces, or by a tracer
  --share=node|task                     one container for the ranks of a step on this node (default), or one for each
  --unshare=net,ipc,uts                 namespaces of the container's own
  --pull=missing|always|never           when the registry is asked
  --platform=OS/ARCH[/VARIANT]          take the image for this platform
  --fd=N[:M]                            keep file descriptor N open, as number M (repeatable)
  --pass-pmi=auto|none                  make the program a rank of the process manager's if we are (default), or not
  --verbose=0|1|2|3                     from 1 on, tell how long what took; one task of a node speaks
  --dry-run                             print the plan as JSON and run nothing
  --help, --version

`exec` runs COMMAND in a container that runs on this node: of this job, or of the one that is named.
`reap` removes what dead processes of yours left on this node.

Each option is also a variable UDOCKER_NAME (upper case, `_` for `-`); lists there are separated by `;`.
";

/// What the variables and words so far ask for.
struct Wish {
    request: RunRequest,
    /// Lines of `--env-file`s: they lie below what `--env` says, whichever came first.
    file_env: Vec<EnvSpec>,
    here: Here,
}

/// How an option takes its value.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Flag,
    Single,
    List,
}

/// Name, kind, what it does to the request.
type Apply = fn(&mut Wish, &OsStr) -> Result<(), UsageError>;
#[expect(clippy::unit_arg, reason = "a table of one-line setters reads better")]
const OPTIONS: [(&str, Kind, Apply); 23] = [
    ("mount", Kind::List, |w, v| Ok(w.request.mounts.push(text(v)?.parse::<MountSpec>().map_err(usage)?))),
    ("umount", Kind::List, |w, v| Ok(w.request.umounts.push(v.to_owned()))),
    ("env", Kind::List, |w, v| Ok(w.request.env.push(EnvSpec::parse(v).map_err(usage)?))),
    ("env-file", Kind::List, env_file),
    ("unsetenv", Kind::List, |w, v| Ok(w.request.unset_env.push(text(v)?.to_owned()))),
    ("clean-env", Kind::Flag, |w, _| Ok(w.request.clean_env = true)),
    ("workdir", Kind::Single, |w, v| Ok(w.request.workdir = Some(v.into()))),
    ("entrypoint", Kind::Flag, |w, _| Ok(w.request.entrypoint = Entrypoint::Image)),
    ("no-entrypoint", Kind::Flag, |w, _| Ok(w.request.entrypoint = Entrypoint::None)),
    ("home", Kind::Flag, |w, _| Ok(w.request.home = Some(true))),
    ("no-home", Kind::Flag, |w, _| Ok(w.request.home = Some(false))),
    ("user", Kind::Single, |w, v| Ok(w.request.user = text(v)?.parse().map_err(usage)?)),
    ("write", Kind::Single, |w, v| Ok(w.request.write = text(v)?.parse().map_err(usage)?)),
    ("mode", Kind::Single, mode),
    ("pull", Kind::Single, |w, v| Ok(w.request.pull = text(v)?.parse().map_err(usage)?)),
    ("platform", Kind::Single, |w, v| Ok(w.request.platform = Some(text(v)?.parse().map_err(usage)?))),
    ("share", Kind::Single, |w, v| Ok(w.request.share = text(v)?.parse().map_err(usage)?)),
    ("unshare", Kind::List, |w, v| Ok(w.request.unshare.extend(parse_unshare(text(v)?).map_err(usage)?))),
    ("image", Kind::Single, |w, v| Ok(w.request.image = text(v)?.to_owned())),
    ("fd", Kind::List, |w, v| Ok(w.here.fds.push(descriptor(text(v)?)?))),
    ("pass-pmi", Kind::Single, pass_pmi),
    ("verbose", Kind::Single, verbose),
    ("dry-run", Kind::Flag, |w, _| Ok(w.here.dry_run = true)),
];

/// Options of the interface whose engine part is not built: refused by name, never accepted.
const NOT_BUILT: [&str; 11] =
    ["profile", "name", "save", "gpu", "device", "mpi", "fabric", "module", "timeout", "batch", "no-gpu"];

/// Its commands that are not built.
const NOT_BUILT_COMMANDS: [&str; 1] = ["explain"];

/// Whole requests of a batch system's plugin, which are not read yet: passing one over would run something else.
const REQUESTS: [&str; 2] = ["SLURM_UDOCKER_REQUEST", "UDOCKER_REQUEST"];

fn text(value: &OsStr) -> Result<&str, UsageError> {
    value.to_str().ok_or_else(|| UsageError(format!("`{}` is not UTF-8", value.display())))
}

fn env_file(wish: &mut Wish, value: &OsStr) -> Result<(), UsageError> {
    let bytes = std::fs::read(value).map_err(|e| UsageError(format!("cannot read {}: {e}", value.display())))?;
    wish.file_env.extend(parse_env_file(&bytes).map_err(usage)?);
    Ok(())
}

fn verbose(wish: &mut Wish, value: &OsStr) -> Result<(), UsageError> {
    let level = text(value)?.parse().ok().filter(|level| *level <= 3);
    wish.here.verbose =
        level.ok_or_else(|| UsageError(format!("`{}` is no level of verbosity: expected 0 to 3", value.display())))?;
    Ok(())
}

fn mode(wish: &mut Wish, value: &OsStr) -> Result<(), UsageError> {
    wish.request.mode = match text(value)? {
        "auto" => None,
        name => Some(name.parse().map_err(usage)?),
    };
    Ok(())
}

/// `N` or `N:M`; M is above the standard streams, which the shell redirects.
fn descriptor(value: &str) -> Result<(i32, i32), UsageError> {
    let number = |text: &str| text.parse::<i32>().ok().filter(|number| *number >= 0);
    let (from, to) = value.split_once(':').unwrap_or((value, value));
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from == to || to > 2 => Ok((from, to)),
        _ => Err(UsageError(format!("`{value}` names no descriptor: expected N or N:M, with M above 2"))),
    }
}

fn pass_pmi(wish: &mut Wish, value: &OsStr) -> Result<(), UsageError> {
    wish.here.without_pmi = match text(value)? {
        "auto" => false,
        "none" => true,
        other => return Err(UsageError(format!("`{other}` is neither `auto` nor `none` (--pass-pmi)"))),
    };
    Ok(())
}

/// Reads variables first, then words, which win; options end at the first word that is none.
///
/// As a login shell (`is_login`) it takes no options of ours: the words are the shell's, and variables say the rest.
pub fn parse(is_login: bool, words: &[OsString], env: &[(OsString, OsString)]) -> Result<Invocation, UsageError> {
    let mut request = RunRequest::new("");
    request.user = UserSpec::Caller;
    request.write = WriteSpec::None;
    request.entrypoint = Entrypoint::None;
    request.host_env = true;
    let mut wish = Wish { request, file_env: Vec::new(), here: Here::default() };
    variables(&mut wish, env)?;
    wish.request.login = is_login;
    let mut rest = words.iter();
    while let Some(word) = if is_login { None } else { rest.next() } {
        let Some(option) = word.as_bytes().strip_prefix(b"--") else {
            let word = text(word)?;
            match word {
                "reap" if rest.len() == 0 => return Ok(Invocation::Reap),
                "reap" => return Err(UsageError("`reap` takes no words".into())),
                "exec" => return exec(rest).map(Invocation::Exec),
                _ => {}
            }
            if NOT_BUILT_COMMANDS.contains(&word) {
                return Err(UsageError(format!("command `{word}` is not supported by this version")));
            }
            word.clone_into(&mut wish.request.image);
            break;
        };
        if option.is_empty() {
            break;
        }
        let (name, value) = match option.iter().position(|b| *b == b'=') {
            Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
            None => (option, None),
        };
        let name = String::from_utf8_lossy(name);
        match &*name {
            "help" => return Ok(Invocation::Help),
            "version" => return Ok(Invocation::Version),
            _ => {}
        }
        let Some((_, kind, apply)) = OPTIONS.iter().find(|(known, ..)| *known == name) else {
            return Err(UsageError(match NOT_BUILT.contains(&&*name) {
                true => format!("option --{name} is not supported by this version"),
                false => format!("unknown option --{name}"),
            }));
        };
        let value = match (kind, value) {
            (Kind::Flag, None) => OsStr::new(""),
            (Kind::Flag, Some(_)) => return Err(UsageError(format!("option --{name} takes no value"))),
            (_, Some(value)) => value,
            (_, None) => rest.next().ok_or_else(|| UsageError(format!("option --{name} needs a value")))?,
        };
        apply(&mut wish, value)?;
    }
    let Wish { mut request, file_env, here } = wish;
    request.env.splice(..0, file_env);
    request.argv = rest.cloned().collect();
    if !is_login && request.argv.first().is_some_and(|word| word == "--") {
        request.argv.remove(0);
    }
    if request.image.is_empty() && is_login {
        return Err(UsageError("no image: a login shell runs in the one that UDOCKER_IMAGE names".into()));
    }
    if request.image.is_empty() {
        return Err(UsageError("no image: expected udocker-launch [OPTIONS] IMAGE COMMAND…".into()));
    }
    if request.image == "none" {
        return Err(UsageError("image `none` (no container) is not supported by this version".into()));
    }
    Ok(Invocation::Run { request: Box::new(request), here })
}

/// The words behind `exec`.
fn exec<'a>(mut rest: impl Iterator<Item = &'a OsString>) -> Result<Exec, UsageError> {
    let mut exec = Exec::default();
    while let Some(word) = rest.next() {
        let (name, value) = match word.as_bytes().strip_prefix(b"--") {
            Some(b"") => break,
            None => {
                exec.argv.push(word.clone());
                break;
            }
            Some(option) => match option.iter().position(|byte| *byte == b'=') {
                Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
                None => (option, None),
            },
        };
        let name = String::from_utf8_lossy(name);
        if !["job", "step", "workdir", "env"].contains(&&*name) {
            return Err(UsageError(format!("unknown option --{name} of `exec`")));
        }
        let value = value.or_else(|| rest.next().map(OsString::as_os_str));
        let value = value.ok_or_else(|| UsageError(format!("option --{name} needs a value")))?;
        match &*name {
            "job" => exec.job = Some(text(value)?.to_owned()),
            "step" => exec.step = Some(text(value)?.to_owned()),
            "workdir" => exec.workdir = Some(value.into()),
            _ => exec.env.push(EnvSpec::parse(value).map_err(usage)?),
        }
    }
    exec.argv.extend(rest.cloned());
    if exec.argv.is_empty() {
        return Err(UsageError("no command: expected udocker-launch exec [OPTIONS] COMMAND…".into()));
    }
    Ok(exec)
}

fn variables(wish: &mut Wish, env: &[(OsString, OsString)]) -> Result<(), UsageError> {
    for (name, kind, apply) in &OPTIONS {
        let variable = format!("UDOCKER_{}", name.to_uppercase().replace('-', "_"));
        let Some((_, value)) = env.iter().find(|(n, _)| *n == *variable.as_str()) else { continue };
        let wrong = |error: UsageError| UsageError(format!("variable {variable}: {error}"));
        match kind {
            Kind::Flag if matches!(value.as_bytes(), b"" | b"0" | b"false" | b"no") => {}
            Kind::Flag | Kind::Single => apply(wish, value).map_err(wrong)?,
            Kind::List => {
                for part in value.as_bytes().split(|b| *b == b';').filter(|part| !part.is_empty()) {
                    apply(wish, OsStr::from_bytes(part)).map_err(wrong)?;
                }
            }
        }
    }
    for name in REQUESTS {
        if env.iter().any(|(n, _)| *n == *name) {
            return Err(UsageError(format!("variable {name} is not supported by this version")));
        }
    }
    for name in NOT_BUILT {
        let variable = format!("UDOCKER_{}", name.to_uppercase().replace('-', "_"));
        if env.iter().any(|(n, _)| *n == *variable.as_str()) {
            return Err(UsageError(format!("variable {variable}: option --{name} is not supported by this version")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str], env: &[(&str, &str)]) -> Result<(RunRequest, Here), String> {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let env: Vec<_> = env.iter().map(|(n, v)| (OsString::from(n), OsString::from(v))).collect();
        match parse(false, &words, &env) {
            Ok(Invocation::Run { request, here }) => Ok((*request, here)),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn options_end_at_the_image() {
        let (request, here) = run(&["--dry-run", "--workdir", "/w", "img", "--", "cmd", "--help"], &[]).unwrap();
        assert!(here.dry_run);
        assert_eq!((request.image.as_str(), request.workdir), ("img", Some("/w".into())));
        assert_eq!(request.argv, ["cmd", "--help"]);
    }

    #[test]
    fn words_win_over_variables_and_lists_add_up() {
        let env = [("UDOCKER_IMAGE", "a"), ("UDOCKER_WORKDIR", "/v"), ("UDOCKER_ENV", "A=1;B=2")];
        let (request, _) = run(&["--workdir=/w", "--env=C=3", "b", "true"], &env).unwrap();
        assert_eq!((request.image.as_str(), request.workdir, request.env.len()), ("b", Some("/w".into()), 3));
        let (request, _) = run(&["--", "true"], &env).unwrap();
        assert_eq!((request.image.as_str(), request.argv), ("a", vec!["true".into()]));
    }

    #[test]
    fn a_login_shell_takes_its_words_itself() {
        let env = [("UDOCKER_IMAGE".into(), "i".into()), ("UDOCKER_WORKDIR".into(), "/w".into())];
        let Ok(Invocation::Run { request, .. }) = parse(true, &["--dry-run".into(), "--".into()], &env) else {
            panic!()
        };
        assert_eq!(
            (request.login, request.workdir, request.argv),
            (true, Some("/w".into()), vec!["--dry-run".into(), "--".into()])
        );
        let error = parse(true, &[], &[]).unwrap_err().to_string();
        assert_eq!(error, "no image: a login shell runs in the one that UDOCKER_IMAGE names");
    }

    #[test]
    fn dry_run_may_be_a_variable() {
        assert!(run(&["i"], &[("UDOCKER_DRY_RUN", "1")]).unwrap().1.dry_run);
        assert!(!run(&["i"], &[("UDOCKER_DRY_RUN", "0")]).unwrap().1.dry_run);
    }

    #[test]
    fn descriptors_and_the_process_manager() {
        let (_, here) = run(&["--fd=7", "--fd", "8:3", "i"], &[("UDOCKER_FD", "1;9:10")]).unwrap();
        assert_eq!((here.fds, here.without_pmi), (vec![(1, 1), (9, 10), (7, 7), (8, 3)], false));
        assert!(run(&["--pass-pmi=none", "i"], &[]).unwrap().1.without_pmi);
        assert!(!run(&["--pass-pmi=auto", "i"], &[("UDOCKER_PASS_PMI", "none")]).unwrap().1.without_pmi);
        for value in ["", "x", "-1", "7:", "7:2", "7:x", "7:8:9", "2147483648"] {
            let error = run(&[&format!("--fd={value}"), "i"], &[]).unwrap_err();
            assert_eq!(error, format!("`{value}` names no descriptor: expected N or N:M, with M above 2"));
        }
    }

    #[test]
    fn of_env_files_the_last_wins_and_env_wins_over_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("--env-file={}", path.display())
        };
        let (first, second) = (file("1", "A=1\nB=1\n"), file("2", "B=2\n"));
        let (request, _) = run(&["--env=C=3", &first, &second, "i"], &[]).unwrap();
        let wanted: Vec<EnvSpec> = ["A=1", "B=1", "B=2", "C=3"].map(|t| EnvSpec::parse(t.as_ref()).unwrap()).into();
        assert_eq!(request.env, wanted);
    }

    #[test]
    fn nothing_is_ignored() {
        for (words, env, message) in [
            (&["--gpu=all", "i"][..], &[][..], "option --gpu is not supported by this version"),
            (&["--nope", "i"], &[], "unknown option --nope"),
            (&["--home=1", "i"], &[], "option --home takes no value"),
            (&["--workdir"], &[], "option --workdir needs a value"),
            (
                &["--mode=Q1", "i"],
                &[],
                "`Q1` is no execution mode: expected one of N1, P1, P2, F1, F2, F3, F4, R1, R2, R3, S1",
            ),
            (&["--verbose=4", "i"], &[], "`4` is no level of verbosity: expected 0 to 3"),
            (&["--pass-pmi=x", "i"], &[], "`x` is neither `auto` nor `none` (--pass-pmi)"),
            (&["i"], &[("UDOCKER_GPU", "all")], "variable UDOCKER_GPU: option --gpu is not supported by this version"),
            (&["explain"], &[], "command `explain` is not supported by this version"),
            (&["reap", "i"], &[], "`reap` takes no words"),
            (&["exec", "--job=5"], &[], "no command: expected udocker-launch exec [OPTIONS] COMMAND…"),
            (&["exec", "--user=root", "sh"], &[], "unknown option --user of `exec`"),
            (&["none", "true"], &[], "image `none` (no container) is not supported by this version"),
            (&["i"], &[("UDOCKER_REQUEST", "{}")], "variable UDOCKER_REQUEST is not supported by this version"),
            (&[], &[], "no image: expected udocker-launch [OPTIONS] IMAGE COMMAND…"),
        ] {
            assert_eq!(run(words, env).unwrap_err(), message);
        }
    }
}
