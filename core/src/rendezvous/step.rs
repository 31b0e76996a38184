//! Which ranks belong together: job and step, from variables that a launcher gives to each of them. Pure.

use std::ffi::{OsStr, OsString};

use crate::env_vars::{RANKS, SLURM_PROCID};
use crate::sys::process::{parent_of, start_time};

/// What started this process, as far as others were started with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who counts the jobs; empty if there is no job.
    pub scheduler: &'static str,
    /// The scheduler's job, and its restart if it was requeued; empty without one.
    pub job: String,
    /// What was started together: a PMIx namespace, a step of Slurm, … at last the processes of one parent.
    pub name: String,
    /// This process's number in it; `None`: nothing numbered it, so it is alone as far as messages go.
    pub rank: Option<String>,
}

/// Variables that hold a job's ID.
const JOBS: [(&str, &str); 4] =
    [("slurm", "SLURM_JOB_ID"), ("pbs", "PBS_JOBID"), ("pals", "PALS_APID"), ("flux", "FLUX_JOB_ID")];

impl Step {
    /// Reads `env`; `starter` tells pid and start time of what started this process, see [`starter`], and is asked only if no
    /// variable names a step.
    pub fn of(env: &[(OsString, OsString)], starter: impl Fn(&[&str]) -> (u32, u64)) -> Self {
        let variable = |name: &str| {
            let found = env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str());
            found.and_then(OsStr::to_str).filter(|value| !value.is_empty())
        };
        let job = JOBS.iter().find_map(|(scheduler, name)| Some((*scheduler, variable(name)?.to_owned())));
        let (scheduler, mut job) = job.unwrap_or_default();
        if let Some(count) = variable("SLURM_RESTART_COUNT").filter(|count| *count != "0") {
            job.push_str(&format!("{RESTART}{count}"));
        }
        // A task of a job that has no step is its script (22.05).
        let is_job_s = || scheduler == "slurm" && variable(SLURM_PROCID).is_some();
        let step = variable("SLURM_STEP_ID").map(slurm_step).or_else(|| is_job_s().then(|| "batch".to_owned()));
        // The one task of a step is a script or a shell that starts one thing after the other.
        let is_script = matches!(step.as_deref(), Some("batch" | "interactive"))
            || step.is_some() && variable("SLURM_STEP_NUM_TASKS") == Some("1");
        let counts: Vec<&str> = RANKS.iter().copied().filter(|name| !(is_script && *name == SLURM_PROCID)).collect();
        let rank = counts.iter().find_map(|name| variable(name)).map(str::to_owned);
        let started = || {
            let (pid, start) = starter(if rank.is_some() { &counts } else { &[] });
            format!("of process {pid} {start}")
        };
        let name = variable("PMIX_NAMESPACE")
            .map(str::to_owned)
            .or_else(|| variable("PALS_APID").map(str::to_owned))
            .or_else(|| variable("OMPI_MCA_ess_base_jobid").map(str::to_owned))
            .or_else(|| match &step {
                // An mpirun of a script: the job may have several.
                Some(step) if is_script && rank.is_some() => Some(format!("{step} {}", started())),
                step => step.clone(),
            })
            .unwrap_or_else(&started);
        Self { scheduler, job, name, rank }
    }
}

/// Between a job and how often it was started again, in [`Step::job`].
pub(super) const RESTART: &str = " restart ";

/// Pid and start time of the process that started this one, for [`Step::of`]. For a rank that is the process manager,
/// whatever stands between: scripts and tracers are ranks by their environment as well. `counts`: the variables that tell a
/// rank; none: this is none.
pub fn starter(counts: &[&str]) -> (u32, u64) {
    let mut pid = std::os::unix::process::parent_id();
    while is_a_rank(pid, counts) {
        match parent_of(pid) {
            Ok(above) if above > 1 => pid = above,
            _ => break,
        }
    }
    (pid, start_time(pid).unwrap_or(0))
}

/// Whether a process began with a rank's number in its environment; one that does not show it is none.
fn is_a_rank(pid: u32, counts: &[&str]) -> bool {
    if counts.is_empty() {
        return false;
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let is_rank_s = |entry: &[u8]| {
        counts.iter().any(|name| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")))
    };
    environment.split(|byte| *byte == 0).any(is_rank_s)
}

/// Slurm's numbers for steps that nobody started by srun (SLURM_BATCH_SCRIPT and SLURM_INTERACTIVE_STEP of slurm.h) differ
/// in sign between releases.
fn slurm_step(id: &str) -> String {
    match id {
        "4294967291" | "-5" => "batch",
        "4294967290" | "-6" => "interactive",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)]) -> (&'static str, String, String, Option<String>) {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let Step { scheduler, job, name, rank } = Step::of(&env, |counts| (if counts.is_empty() { 7 } else { 8 }, 99));
        (scheduler, job, name, rank)
    }

    #[test]
    fn a_step_is_what_was_started_together() {
        for (case, env, scheduler, job, name, rank) in [
            ("a shell", &[][..], "", "", "of process 7 99", None),
            (
                "srun",
                &[("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "3")],
                "slurm",
                "5",
                "0",
                Some("3"),
            ),
            (
                "a batch script",
                &[("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "4294967291"), ("SLURM_PROCID", "0")],
                "slurm",
                "5",
                "batch",
                None,
            ),
            ("a batch script of 22.05", &[("SLURM_JOB_ID", "5"), ("SLURM_PROCID", "0")], "slurm", "5", "batch", None),
            (
                "a shell by srun",
                &[("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0")],
                "slurm",
                "5",
                "0",
                None,
            ),
            (
                "MPICH's mpirun in a batch script",
                &[("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "-5"), ("SLURM_PROCID", "0"), ("PMI_RANK", "3")],
                "slurm",
                "5",
                "batch of process 8 99",
                Some("3"),
            ),
            (
                "26.05's interactive step",
                &[("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "-6")],
                "slurm",
                "5",
                "interactive",
                None,
            ),
            (
                "requeued",
                &[("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "0"), ("SLURM_RESTART_COUNT", "2")],
                "slurm",
                "5 restart 2",
                "0",
                None,
            ),
            (
                "mpirun of Open MPI in a step",
                &[("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", "1"), ("PMIX_NAMESPACE", "ns1"), ("PMIX_RANK", "0")],
                "slurm",
                "5",
                "ns1",
                Some("0"),
            ),
            ("MPICH's mpirun", &[("PMI_RANK", "2"), ("PMI_FD", "9")], "", "", "of process 8 99", Some("2")),
            ("PBS", &[("PBS_JOBID", "4[1].head"), ("PMIX_NAMESPACE", "")], "pbs", "4[1].head", "of process 7 99", None),
            ("PALS", &[("PBS_JOBID", "4"), ("PALS_APID", "a"), ("PALS_RANKID", "1")], "pbs", "4", "a", Some("1")),
        ] {
            let expected = (scheduler, job.to_owned(), name.to_owned(), rank.map(str::to_owned));
            assert_eq!(of(env), expected, "{case}");
        }
    }
}
