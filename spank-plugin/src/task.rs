//! The start of a task on a node: with the launcher before it, or not at all.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Access, access};
use udocker_core::env_vars::{
    SLURM_JOB_ID, SLURM_UDOCKER_CONFIG, SLURM_UDOCKER_PROGRAM, SLURM_UDOCKER_REQUEST, SLURM_UDOCKER_SCRIPT,
};
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::run::{Batch, RequestError, RunRequest};
use udocker_spank_sys::{Refusal, Spank, SpankError, Step, can_prepend, tell};

use crate::line::{Line, LineError};
use crate::multi_prog;

/// What a task ends with that could not be started.
const NOT_STARTED: i32 = 125;

/// The task must not run.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error("cannot start the task in its container: the step was given options, and their request did not arrive")]
    NoRequest,
    #[error("cannot start the task in its container: the request that arrived is of job {0}")]
    OtherJob(String),
    #[error("cannot start the task in its container: variable {SLURM_UDOCKER_REQUEST}")]
    Request(#[source] RequestError),
    #[error("cannot start the task in its container: cannot run {}", path.display())]
    Launcher {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start the task in its container: {0}")]
    Line(LineError),
    #[error("cannot start the task in its container: Slurm does not tell its command")]
    NoCommand,
    #[error("cannot start the task in its container: plugstack.conf loads the plugin twice")]
    Twice,
    #[error("cannot start the task in its container")]
    Spank(#[from] SpankError),
}

impl Explain for TaskError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRequest | Self::OtherJob(_) | Self::Request(_) => ErrorKind::Usage,
            _ => ErrorKind::System,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoRequest | Self::OtherJob(_) => {
                vec![format!("leave {SLURM_UDOCKER_REQUEST} as it is; `--udocker-image=none` opts a step out")]
            }
            Self::Request(error) => error.hints(),
            Self::Launcher { .. } => {
                vec!["the site installs it on each node, or names it by `launcher=` behind the plugin".into()]
            }
            Self::Line(error) => error.hints(),
            Self::Twice => vec!["leave one line; `udocker site check --node` names them".into()],
            Self::NoCommand | Self::Spank(_) => Vec::new(),
        }
    }
}

/// This process has got its launcher: of two lines with one library Slurm calls it twice.
static IS_STARTED: AtomicBool = AtomicBool::new(false);

/// How a task starts.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// As without a plugin.
    Bare,
    /// On the host, as its job asked for.
    Host(Box<RunRequest>),
    Contained(Box<RunRequest>),
}

/// Prepares the task, whose step was given options if it is `asked` for a container. `words`: of plugstack.conf.
pub fn init(spank: &Spank<'_>, words: &[&OsStr], asked: bool) -> Result<(), Refusal> {
    prepare(spank, words, asked).map_err(|failure| {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let node = node.split('.').next().unwrap_or_default().to_owned();
        let task = spank.task().map(|task| format!(" task {task}")).unwrap_or_default();
        Refusal { text: format!("udocker: [{node}{task}] {}", failure.report()), status: NOT_STARTED }
    })
}

fn prepare(spank: &Spank<'_>, words: &[&OsStr], asked: bool) -> Result<(), Failure> {
    let text = spank.variable(&name(SLURM_UDOCKER_REQUEST)).map_err(TaskError::from)?;
    if text.is_none() && !asked {
        return Ok(());
    }
    let job = spank.job().map_err(TaskError::from)?;
    let jobs = jobs(job, spank.variable(&name(SLURM_JOB_ID)).map_err(TaskError::from)?);
    let step = spank.step().map_err(TaskError::from)?;
    match decide(text.as_deref(), asked, &jobs, step)? {
        Start::Bare => Ok(spank.unset_variable(&name(SLURM_UDOCKER_REQUEST)).map_err(TaskError::from)?),
        Start::Host(_) | Start::Contained(_) if IS_STARTED.swap(true, Ordering::Relaxed) => {
            Err(TaskError::Twice.into())
        }
        Start::Host(request) => {
            hand_over(spank, &request, &Line::of(words).map_err(TaskError::Line)?)?;
            tell(request.host_script_notice().trim_end());
            Ok(())
        }
        Start::Contained(request) => {
            let line = line(words)?;
            hand_over(spank, &request, &line)?;
            launch(spank, &line, step)
        }
    }
}

fn name(name: &str) -> CString {
    CString::new(name).expect("our names hold no zero byte")
}

/// Whose request it may be: of `job`, by Slurm's own number, or of that which the job's variable `named`. They differ in the
/// components of a heterogeneous job but the first, which all of them name.
fn jobs(job: u32, named: Option<OsString>) -> Vec<(OsString, OsString)> {
    let all = [Some(job.to_string().into()), named];
    all.into_iter().flatten().map(|job| (SLURM_JOB_ID.into(), job)).collect()
}

fn decide(text: Option<&OsStr>, asked: bool, jobs: &[(OsString, OsString)], step: Step) -> Result<Start, TaskError> {
    let Some(text) = text else {
        return if asked { Err(TaskError::NoRequest) } else { Ok(Start::Bare) };
    };
    let mut request = Box::new(RunRequest::from_json(text.as_bytes()).map_err(TaskError::Request)?);
    if !request.is_for(jobs) {
        // It came with the environment of another job.
        return if asked { Err(TaskError::OtherJob(request.job.unwrap_or_default())) } else { Ok(Start::Bare) };
    }
    // What its steps know the job by.
    request.job = jobs.last().and_then(|(_, job)| job.to_str()).map(str::to_owned);
    match (step, request.batch()) {
        (Step::Batch, Batch::Host) => Ok(Start::Host(request)),
        _ => Ok(Start::Contained(request)),
    }
}

/// Leaves `request` to the launcher and to further steps, and to our programs the file that the site names: whatever the user
/// has in that variable is none of the site's.
fn hand_over(spank: &Spank<'_>, request: &RunRequest, line: &Line) -> Result<(), TaskError> {
    let text = request.to_json().map_err(TaskError::Request)?;
    match &line.config {
        Some(path) => spank.set_variable(&name(SLURM_UDOCKER_CONFIG), path.as_os_str())?,
        None => spank.unset_variable(&name(SLURM_UDOCKER_CONFIG))?,
    }
    Ok(spank.set_variable(&name(SLURM_UDOCKER_REQUEST), OsStr::new(&text))?)
}

fn launch(spank: &Spank<'_>, line: &Line, step: Step) -> Result<(), Failure> {
    let path = CString::new(line.launcher.as_os_str().as_bytes()).expect("a word of plugstack.conf holds no zero byte");
    let argv = spank.argv().map_err(TaskError::from)?;
    match (step, argv.first()) {
        (Step::Batch, Some(script)) => {
            spank.set_variable(&name(SLURM_UDOCKER_SCRIPT), script).map_err(TaskError::from)?;
        }
        _ => spank.unset_variable(&name(SLURM_UDOCKER_SCRIPT)).map_err(TaskError::from)?,
    }
    if can_prepend() {
        spank.unset_variable(&name(SLURM_UDOCKER_PROGRAM)).map_err(TaskError::from)?;
        spank.prepend(&[path, name("--")]).map_err(TaskError::from)?;
        return Ok(());
    }
    multi_prog::check(&argv)?;
    let program = argv.first().ok_or(TaskError::NoCommand)?;
    spank.set_variable(&name(SLURM_UDOCKER_PROGRAM), program).map_err(TaskError::from)?;
    match spank.replace_program(path).map_err(TaskError::from)? {
        true => Ok(()),
        false => Err(TaskError::NoCommand.into()),
    }
}

/// What `words` say, if the launcher can be run.
fn line(words: &[&OsStr]) -> Result<Line, TaskError> {
    let line = Line::of(words).map_err(TaskError::Line)?;
    let cannot = |source| TaskError::Launcher { path: line.launcher.clone(), source };
    if std::fs::metadata(&line.launcher).map_err(cannot)?.is_dir() {
        return Err(cannot(std::io::ErrorKind::IsADirectory.into()));
    }
    access(&line.launcher, Access::EXEC_OK).map_err(|errno| cannot(errno.into()))?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(request: Option<&RunRequest>, asked: bool, step: Step) -> Result<Start, String> {
        let text = request.map(|request| OsString::from(request.to_json().unwrap()));
        decide(text.as_deref(), asked, &jobs(5, None), step).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_names_its_job_on_the_node() {
        let request = RunRequest::of_job("i");
        let named = Box::new(RunRequest { job: Some("5".into()), ..request.clone() });
        assert_eq!(start(Some(&request), true, Step::Batch), Ok(Start::Contained(named.clone())));
        assert_eq!(start(Some(&named), false, Step::Numbered(0)), Ok(Start::Contained(named.clone())));
        let component =
            decide(Some(request.to_json().unwrap().as_ref()), true, &jobs(6, Some("5".into())), Step::Batch);
        assert_eq!(component.unwrap(), Start::Contained(named));
    }

    #[test]
    fn a_script_may_stay_on_the_host_and_its_steps_do_not() {
        let request = RunRequest { batch: Some(Batch::Host), job: Some("5".into()), ..RunRequest::of_job("i") };
        assert_eq!(start(Some(&request), true, Step::Batch), Ok(Start::Host(Box::new(request.clone()))));
        for step in [Step::Numbered(0), Step::Interactive] {
            assert_eq!(start(Some(&request), true, step), Ok(Start::Contained(Box::new(request.clone()))));
        }
    }

    #[test]
    fn who_asked_is_contained_or_does_not_run() {
        let other = RunRequest { job: Some("4".into()), ..RunRequest::of_job("i") };
        assert_eq!(start(None, false, Step::Numbered(0)), Ok(Start::Bare));
        assert_eq!(start(Some(&other), false, Step::Numbered(0)), Ok(Start::Bare));
        let cannot = "cannot start the task in its container: ";
        assert_eq!(
            start(None, true, Step::Numbered(0)).unwrap_err(),
            format!("{cannot}the step was given options, and their request did not arrive")
        );
        assert_eq!(
            start(Some(&other), true, Step::Numbered(0)).unwrap_err(),
            format!("{cannot}the request that arrived is of job 4")
        );
        for asked in [true, false] {
            let error = decide(Some("{".as_ref()), asked, &jobs(5, None), Step::Batch).unwrap_err().to_string();
            assert_eq!(error, format!("{cannot}variable SLURM_UDOCKER_REQUEST"));
        }
    }

    #[test]
    fn the_launcher_is_named_by_the_site_and_must_be_there() {
        let word = |text: &'static str| line(&[OsStr::new(text)]).map(|line| line.launcher);
        assert_eq!(word("launcher=/bin/sh").unwrap(), std::path::Path::new("/bin/sh"));
        let error = word("launcher=/nothere").unwrap_err().to_string();
        assert_eq!(error, "cannot start the task in its container: cannot run /nothere");
        assert_eq!(
            word("launcher=/tmp").unwrap_err().to_string(),
            "cannot start the task in its container: cannot run /tmp"
        );
        let error = word("conf=/x").unwrap_err().to_string();
        assert_eq!(error, "cannot start the task in its container: `conf=/x` in plugstack.conf says nothing");
    }
}
