//! The launcher's command line and the variables `UDOCKER_<OPTION>`, read into a [`RunRequest`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::exec::Exec;
use udocker_core::env_vars;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::run::{
    Batch, Caller, EnvSpec, JOB_OPTIONS, JobOption, OptionKind, RunRequest, Said, UserSpec, Wish, names,
    option_variables, variable_of,
};
use udocker_site_config::Sources;

/// The command line or a variable is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct UsageError {
    text: String,
    /// What to do next; empty: look at the help.
    hints: Vec<String>,
}

impl UsageError {
    fn new(text: String) -> Self {
        Self { text, hints: Vec::new() }
    }
}

impl Explain for UsageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        match self.hints.is_empty() {
            true => vec!["`udocker-launch --help` lists the options".into()],
            false => self.hints.clone(),
        }
    }
}

/// An error of a parser as one of usage.
pub fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError::new(error.to_string())
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
    /// Descriptors that the program keeps: the number here and the number there.
    pub fds: Vec<(i32, i32)>,
    /// The program is no rank of the process manager's.
    pub without_pmi: bool,
    /// A batch system's plugin left the request.
    pub is_handed_over: bool,
    /// Files with options.
    pub profiles: Vec<OsString>,
    /// Print the plan with its origins and run nothing.
    pub explain: bool,
    /// See [`Form`].
    pub form: Form,
    /// Who asked for what, for that.
    pub said: Vec<Said>,
}

/// How `--explain` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Text,
    Json,
}

const HELP_HEAD: &str = "\
udocker-launch [OPTIONS] IMAGE [--] [COMMAND [ARGUMENT…]]
udocker-launch exec [--job=JOB] [--step=STEP] [--workdir=DIR] [--env=…] [--] COMMAND [ARGUMENT…]
udocker-launch reap
udocker-launch explain [OPTIONS] IMAGE [--] [COMMAND [ARGUMENT…]]

Runs COMMAND in IMAGE: as the calling user, on a read-only root, in this process (beside it in the modes P1 and P2).

";

const HELP_TAIL: &str = "  --help, --version

`exec` runs COMMAND in a container that runs on this node: of this job, or of the one that is named.
`reap` removes what dead processes of yours left on this node.
`explain` is `--explain`.
Without IMAGE it is UDOCKER_IMAGE's, or that of the job whose options Slurm's plugin has read.

Each option is also a variable UDOCKER_NAME (upper case, `_` for `-`); lists there are separated by `;`.
";

/// What `--help` prints.
pub fn help() -> String {
    let mut out = HELP_HEAD.to_owned();
    let ours = OPTIONS.iter().map(|option| (option.name, option.value, option.help));
    let job_s = JOB_OPTIONS
        .iter()
        .filter(|option| option.is_built() && option.name != "batch")
        .map(|option| (option.name, option.value, option.help));
    for (name, value, help) in job_s.chain(ours) {
        let word = if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") };
        out.push_str(&format!("  {word:<38}{}{help}\n", if word.len() < 38 { "" } else { "  " }));
    }
    out + HELP_TAIL
}

/// An option of this program alone.
struct Own {
    name: &'static str,
    kind: OptionKind,
    value: &'static str,
    help: &'static str,
    apply: fn(&mut Here, &OsStr) -> Result<(), UsageError>,
}

#[expect(clippy::unit_arg, reason = "a table of one-line setters reads better")]
const OPTIONS: [Own; 6] = [
    Own {
        name: "explain",
        kind: OptionKind::Flag,
        value: "",
        help: "print the plan, and who asked for each part, and run nothing",
        apply: |here, _| Ok(here.explain = true),
    },
    Own {
        name: "format",
        kind: OptionKind::Single,
        value: "text|json",
        help: "how --explain tells it (default: text)",
        apply: |here, value| Ok(here.form = form(text(value)?)?),
    },
    Own {
        name: "profile",
        kind: OptionKind::List,
        value: "NAME|FILE",
        help: "options from a profile (repeatable)",
        apply: |here, value| Ok(here.profiles.push(value.to_owned())),
    },
    Own {
        name: "fd",
        kind: OptionKind::List,
        value: "N[:M]",
        help: "keep file descriptor N open, as number M (repeatable)",
        apply: |here, value| Ok(here.fds.push(descriptor(text(value)?)?)),
    },
    Own {
        name: "pass-pmi",
        kind: OptionKind::Single,
        value: "auto|none",
        help: "make the program a rank of the process manager's if we are (default), or not",
        apply: pass_pmi,
    },
    Own {
        name: "dry-run",
        kind: OptionKind::Flag,
        value: "",
        help: "print the plan as JSON and run nothing",
        apply: |here, _| Ok(here.dry_run = true),
    },
];

/// Variables that hold whole requests.
const REQUESTS: [&str; 2] = [env_vars::SLURM_UDOCKER_REQUEST, env_vars::UDOCKER_REQUEST];

fn text(value: &OsStr) -> Result<&str, UsageError> {
    value.to_str().ok_or_else(|| UsageError::new(format!("`{}` is not UTF-8", value.display())))
}

fn form(value: &str) -> Result<Form, UsageError> {
    match value {
        "text" => Ok(Form::Text),
        "json" => Ok(Form::Json),
        other => Err(UsageError::new(format!("`{other}` is neither `text` nor `json` (--format)"))),
    }
}

/// `N` or `N:M`; M is above the standard streams, which the shell redirects.
fn descriptor(value: &str) -> Result<(i32, i32), UsageError> {
    let number = |text: &str| text.parse::<i32>().ok().filter(|number| *number >= 0);
    let (from, to) = value.split_once(':').unwrap_or((value, value));
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from == to || to > 2 => Ok((from, to)),
        _ => Err(UsageError::new(format!("`{value}` names no descriptor: expected N or N:M, with M above 2"))),
    }
}

fn pass_pmi(here: &mut Here, value: &OsStr) -> Result<(), UsageError> {
    here.without_pmi = match text(value)? {
        "auto" => false,
        "none" => true,
        other => return Err(UsageError::new(format!("`{other}` is neither `auto` nor `none` (--pass-pmi)"))),
    };
    Ok(())
}

/// One of an option's two homes.
enum Known {
    Job(&'static JobOption),
    Own(&'static Own),
}

impl Known {
    fn find(name: &str) -> Result<Self, UsageError> {
        let own = OPTIONS.iter().find(|option| option.name == name).map(Self::Own);
        let known = own.or_else(|| JobOption::find(name).map(Self::Job));
        known.ok_or_else(|| UsageError::new(format!("unknown option --{name}")))
    }
    fn kind(&self) -> OptionKind {
        match self {
            Self::Job(option) => option.kind,
            Self::Own(option) => option.kind,
        }
    }
}

/// The words of a command line, taken apart.
#[derive(Default)]
struct Words<'a> {
    options: Vec<(Known, &'a OsStr)>,
    image: Option<&'a str>,
    argv: &'a [OsString],
}

/// Reads variables first, then words, which win; options end at the first word that is none.
///
/// As a login shell (`is_login`) it takes no options of ours: the words are the shell's, and variables say the rest. Where a
/// batch system's plugin left a whole request and no word names an image, that stands in for the variables, of which it was
/// made.
pub fn parse(is_login: bool, words: &[OsString], env: &[(OsString, OsString)]) -> Result<Invocation, UsageError> {
    let variable = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, value)| value);
    let program = variable(env_vars::SLURM_UDOCKER_PROGRAM);
    let words = match (is_login, program) {
        (true, _) | (_, Some(_)) => Words { argv: words, ..Words::default() },
        _ => match take_apart(words)? {
            Ok(words) => words,
            Err(other) => return Ok(other),
        },
    };
    let request = REQUESTS.iter().find_map(|name| Some((name, variable(name)?)));
    let request = request.filter(|_| !is_login && words.image.is_none());
    let is_handed_over = request.is_some();
    let mut here = Here { is_handed_over, ..Here::default() };
    own_variables(&mut here, env)?;
    if is_handed_over {
        // Whoever made the request has read them.
        here.profiles.clear();
    }
    for (option, value) in &words.options {
        if let Known::Own(option) = option {
            (option.apply)(&mut here, value)?;
        }
    }
    let mut wish = match request {
        Some((name, _)) if !here.profiles.is_empty() => {
            return Err(UsageError::new(format!(
                "--profile lies beneath all other options, and {name} holds all of them"
            )));
        }
        Some((name, value)) => {
            let request = handed_over(name, value, env)?;
            if here.explain {
                // Who made the request may have told who asked for what.
                let told = variable(env_vars::SLURM_UDOCKER_SAID).and_then(|text| Said::from_json(text.as_bytes()));
                here.said = told.unwrap_or_else(|| Said::of_request(&request, name));
            }
            Wish::over(request)
        }
        None if program.is_some() => {
            return Err(UsageError::new(format!("no request: {} is set without one", env_vars::SLURM_UDOCKER_PROGRAM)));
        }
        None => {
            let mut wish = Wish::over(RunRequest::of_job(""));
            let said = profiles(&here.profiles, env)?;
            said.iter().try_for_each(|said| said.apply(&mut wish)).map_err(usage)?;
            if here.explain {
                here.said = said;
                here.said.extend(Said::in_variables(option_variables(env)));
            }
            wish.take_variables(option_variables(env)).map_err(usage)?;
            wish
        }
    };
    for (option, value) in &words.options {
        if let Known::Job(option) = option {
            option.apply(&mut wish, value).map_err(usage)?;
        }
    }
    if here.explain {
        here.said.extend(said_in(&words));
    }
    let mut request = wish.into_request();
    if let Some(image) = words.image {
        image.clone_into(&mut request.image);
    }
    request.login = is_login;
    request.argv = program.into_iter().chain(words.argv).cloned().collect();
    if request.image.is_empty() && is_login {
        return Err(UsageError::new("no image: a login shell runs in the one that UDOCKER_IMAGE names".into()));
    }
    if request.image.is_empty() {
        return Err(UsageError::new("no image: expected udocker-launch [OPTIONS] IMAGE COMMAND…".into()));
    }
    if request.batch() == Batch::Host && !is_handed_over {
        return Err(UsageError::new(
            "--batch=host is for the options of a job: this program runs nothing on the host".into(),
        ));
    }
    if request.image == "none" {
        return Err(UsageError::new("image `none` (no container) is not supported by this version".into()));
    }
    Ok(Invocation::Run { request: Box::new(request), here })
}

/// What the profiles `names` ask for.
fn profiles(names: &[OsString], env: &[(OsString, OsString)]) -> Result<Vec<Said>, UsageError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let sources = Sources::of_caller(&Caller::gather(env.to_vec(), &UserSpec::Caller));
    let mut all = Vec::new();
    for name in names {
        let said = udocker_site_config::profile(name, &sources);
        all.extend(said.map_err(|error| UsageError { text: error.to_string(), hints: error.hints() })?);
    }
    Ok(all)
}

/// What the words ask for.
fn said_in(words: &Words<'_>) -> Vec<Said> {
    let options = words.options.iter().filter_map(|(option, value)| match option {
        Known::Job(option) => {
            Some(Said { option: option.name, value: (*value).into(), origin: format!("--{}", option.name) })
        }
        Known::Own(_) => None,
    });
    let image = words.image.map(|image| Said { option: "image", value: image.into(), origin: "command line".into() });
    options.chain(image).collect()
}

/// The request in a variable.
fn handed_over(name: &str, value: &OsStr, env: &[(OsString, OsString)]) -> Result<RunRequest, UsageError> {
    let request = RunRequest::from_json(value.as_bytes()).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        UsageError::new(format!("variable {name}: {error}{cause}"))
    })?;
    if !request.is_for(env) {
        let job = request.job.unwrap_or_default();
        return Err(UsageError::new(format!("variable {name}: the request is of job {job}, and this process is not")));
    }
    Ok(request)
}

/// Options, image and the program's own words; or what else was asked for.
fn take_apart(words: &[OsString]) -> Result<Result<Words<'_>, Invocation>, UsageError> {
    let mut found = Words::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(option) = word.as_bytes().strip_prefix(b"--") else {
            let word = text(word)?;
            match word {
                "reap" if rest.len() == 0 => return Ok(Err(Invocation::Reap)),
                "reap" => return Err(UsageError::new("`reap` takes no words".into())),
                "explain" => {
                    found.options.push((Known::find(word)?, OsStr::new("")));
                    continue;
                }
                "exec" => return Ok(Err(Invocation::Exec(exec(rest)?))),
                _ => {}
            }
            found.image = Some(word);
            found.argv = rest.as_slice().strip_prefix(&["--".into()]).unwrap_or(rest.as_slice());
            return Ok(Ok(found));
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
            "help" => return Ok(Err(Invocation::Help)),
            "version" => return Ok(Err(Invocation::Version)),
            _ => {}
        }
        let option = Known::find(&name)?;
        let value = match (option.kind(), value) {
            (OptionKind::Flag, None) => OsStr::new(""),
            (OptionKind::Flag, Some(_)) => return Err(UsageError::new(format!("option --{name} takes no value"))),
            (_, Some(value)) => value,
            (_, None) => rest.next().ok_or_else(|| UsageError::new(format!("option --{name} needs a value")))?,
        };
        found.options.push((option, value));
    }
    found.argv = rest.as_slice();
    Ok(Ok(found))
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
            return Err(UsageError::new(format!("unknown option --{name} of `exec`")));
        }
        let value = value.or_else(|| rest.next().map(OsString::as_os_str));
        let value = value.ok_or_else(|| UsageError::new(format!("option --{name} needs a value")))?;
        match &*name {
            "job" => exec.job = Some(text(value)?.to_owned()),
            "step" => exec.step = Some(text(value)?.to_owned()),
            "workdir" => exec.workdir = Some(value.into()),
            _ => exec.env.push(EnvSpec::parse(value).map_err(usage)?),
        }
    }
    exec.argv.extend(rest.cloned());
    if exec.argv.is_empty() {
        return Err(UsageError::new("no command: expected udocker-launch exec [OPTIONS] COMMAND…".into()));
    }
    Ok(exec)
}

/// Variables of this program's own options.
fn own_variables(here: &mut Here, env: &[(OsString, OsString)]) -> Result<(), UsageError> {
    for option in &OPTIONS {
        let Some((_, value)) = option_variables(env).find(|(variable, _)| names(variable, option.name)) else {
            continue;
        };
        let taken = match option.kind {
            OptionKind::Flag if matches!(value.as_bytes(), b"" | b"0" | b"false" | b"no") => Ok(()),
            OptionKind::Flag | OptionKind::Single => (option.apply)(here, value),
            OptionKind::List => {
                let mut parts = value.as_bytes().split(|b| *b == b';').filter(|part| !part.is_empty());
                parts.try_for_each(|part| (option.apply)(here, OsStr::from_bytes(part)))
            }
        };
        taken.map_err(|error| UsageError::new(format!("variable {}: {error}", variable_of(option.name))))?;
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
    fn a_whole_request_stands_in_for_variables_where_no_word_names_an_image() {
        let text = RunRequest { job: Some("5".into()), batch: Some(Batch::Host), ..RunRequest::of_job("asked") }
            .to_json()
            .unwrap();
        let env = [("UDOCKER_IMAGE", "x"), ("SLURM_UDOCKER_REQUEST", text.as_str()), ("SLURM_JOB_ID", "5")];
        let (request, _) = run(&["--", "--", "true"], &env).unwrap();
        assert_eq!((request.image.as_str(), request.argv), ("asked", vec!["--".into(), "true".into()]));
        let (request, _) = run(&["--workdir=/w", "--", "true"], &env).unwrap();
        assert_eq!((request.image.as_str(), request.workdir), ("asked", Some("/w".into())));
        assert_eq!(run(&["named", "true"], &env).unwrap().0.image, "named");
        let program = [env[1], env[2], ("SLURM_UDOCKER_PROGRAM", "sh")];
        let (request, _) = run(&["--help", "--"], &program).unwrap();
        assert_eq!(request.argv, ["sh", "--help", "--"]);
        let error = run(&["--", "true"], &[env[1], ("SLURM_JOB_ID", "6")]).unwrap_err();
        assert_eq!(error, "variable SLURM_UDOCKER_REQUEST: the request is of job 5, and this process is not");
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
            (&["--mpi=none", "i"][..], &[][..], "option --mpi is not supported by this version"),
            (&["--nope", "i"], &[], "unknown option --nope"),
            (&["--home=1", "i"], &[], "option --home takes no value"),
            (&["--workdir"], &[], "option --workdir needs a value"),
            (
                &["--mode=Q1", "i"],
                &[],
                "`Q1` is no execution mode: expected one of N1, P1, P2, F1, F2, F3, F4, R1, R2, R3, S1",
            ),
            (&["--verbose=4", "i"], &[], "`4` is no level of verbosity: expected 0 to 3"),
            (&["--timeout=15", "i"], &[], "`15` is no time: expected a number above 0 with s, m or h, as 15m"),
            (&["--pass-pmi=x", "i"], &[], "`x` is neither `auto` nor `none` (--pass-pmi)"),
            (&["i"], &[("UDOCKER_MPI", "none")], "variable UDOCKER_MPI: option --mpi is not supported by this version"),
            (&["explain"], &[], "no image: expected udocker-launch [OPTIONS] IMAGE COMMAND…"),
            (&["--format=xml", "i"], &[], "`xml` is neither `text` nor `json` (--format)"),
            (&["reap", "i"], &[], "`reap` takes no words"),
            (&["exec", "--job=5"], &[], "no command: expected udocker-launch exec [OPTIONS] COMMAND…"),
            (&["exec", "--user=root", "sh"], &[], "unknown option --user of `exec`"),
            (
                &["--batch=host", "i"],
                &[],
                "--batch=host is for the options of a job: this program runs nothing on the host",
            ),
            (&["none", "true"], &[], "image `none` (no container) is not supported by this version"),
            (
                &["--", "i"],
                &[("UDOCKER_REQUEST", "{}")],
                "variable UDOCKER_REQUEST: the request cannot be read: missing field `version` at line 1 column 2",
            ),
            (&["true"], &[("SLURM_UDOCKER_PROGRAM", "sh")], "no request: SLURM_UDOCKER_PROGRAM is set without one"),
            (&[], &[], "no image: expected udocker-launch [OPTIONS] IMAGE COMMAND…"),
        ] {
            assert_eq!(run(words, env).unwrap_err(), message);
        }
    }
}
