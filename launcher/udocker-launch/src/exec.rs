//! `udocker-launch exec`: one more program in a container that runs on this node.

use std::ffi::OsString;
use std::path::PathBuf;

use udocker_core::engine::KeepFds;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::rendezvous::{Running, Step, running};
use udocker_core::run::EnvSpec;
use udocker_core::start::{StartError, join};
use udocker_core::store::RunDirectory;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    pub job: Option<String>,
    pub step: Option<String>,
    pub workdir: Option<PathBuf>,
    pub env: Vec<EnvSpec>,
    pub argv: Vec<OsString>,
}

/// No container can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    #[error("cannot enter a container: {0} runs on this node in one that can be entered")]
    None(String),
    #[error("cannot choose a container: on this node run {0}")]
    Several(String),
}

impl Explain for ChoiceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::None(_) => ErrorKind::System,
            Self::Several(_) => ErrorKind::Usage,
        }
    }
    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::None(_) => "be on a node of the job; modes other than N1 have no namespaces to enter".into(),
            Self::Several(_) => "`--job=JOB` and `--step=STEP` choose one".into(),
        }]
    }
}

impl Exec {
    /// The one container that is meant: of the caller's own job if it is in one and names none.
    pub fn choose(&self, run: Option<&RunDirectory>, step: &Step) -> Result<Running, ChoiceError> {
        let own = Some(&step.job).filter(|job| !job.is_empty());
        let job = self.job.as_ref().or(own);
        let fits = |running: &Running| {
            job.is_none_or(|job| running.head.is_of_job(job))
                && self.step.as_ref().is_none_or(|step| running.head.is_step(step))
        };
        let mut found: Vec<Running> = run.map(running).unwrap_or_default().into_iter().filter(fits).collect();
        match found.len() {
            0 => {
                let what = [("job", job), ("step", self.step.as_ref())];
                let named: Vec<_> =
                    what.iter().filter_map(|(kind, id)| Some(format!("{kind} {}", id.as_ref()?))).collect();
                Err(ChoiceError::None(if named.is_empty() {
                    "nothing".into()
                } else {
                    format!("nothing of {}", named.join(", "))
                }))
            }
            1 => Ok(found.remove(0)),
            _ => {
                let name = |running: &Running| {
                    let head = &running.head;
                    let job = if head.job.is_empty() { String::new() } else { format!("job {} ", head.job) };
                    format!("{job}step {} ({})", head.step, head.image)
                };
                Err(ChoiceError::Several(found.iter().map(name).collect::<Vec<_>>().join(", ")))
            }
        }
    }

    /// Becomes the program in `container`; returns why not.
    pub fn enter(&self, container: &Running, env: &[(OsString, OsString)]) -> StartError {
        let plan =
            container.plan(self.argv.clone(), &self.env, self.workdir.as_deref(), env, KeepFds::Only(Vec::new()));
        join(container, &plan)
    }
}
