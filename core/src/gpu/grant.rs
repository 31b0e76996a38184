//! Which of a node's GPUs the scheduler gave, by the variables that it sets. Pure.

use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use super::machine::is_called;
use super::wish::numbers;
use crate::env_vars;
use crate::rendezvous::Step;
use crate::run::Share;

const CUDA: &str = env_vars::CUDA_VISIBLE_DEVICES;

/// What the scheduler gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// There is no scheduler: what opens is the user's.
    Free,
    /// No GPU: it names none.
    Nothing,
    /// No GPU, and which variable says so.
    None(String),
    /// These, by number (`3`) or UUID (`GPU-…`), and which variable says so.
    These(Vec<String>, String),
    /// Some, and why it is not known which.
    Some(String),
}

impl Grant {
    /// What the scheduler of `step` gave, by `env`: to the ranks of this node together, or with [`Share::Task`] to this rank.
    ///
    /// Slurm: `SLURM_STEP_GPUS` holds this rank's numbers on the host. They are those of the whole node if there are as many
    /// as `SLURM_GPUS_ON_NODE` says; else which others the node's ranks have is not told. `SLURM_JOB_GPUS` counts in a
    /// script alone: its steps inherit it. PBS and Flux: `CUDA_VISIBLE_DEVICES` or its kin, in PBS with backslashes before its
    /// commas; a rank's may be its own alone, so they tell nothing of the node's others.
    pub fn of(env: &[(OsString, OsString)], step: &Step, share: Share) -> Self {
        let variable = |name: &str| {
            let found = env.iter().rev().find(|(other, _)| other == name);
            found.and_then(|(_, value)| value.to_str()).filter(|value| !value.is_empty())
        };
        match step.scheduler {
            "slurm" => of_slurm(&variable, share),
            "pbs" | "flux" => match of_numbers(&variable) {
                Self::These(_, told) if share == Share::Node && step.rank.is_some() => Self::Some(told),
                grant => grant,
            },
            _ => Self::Free,
        }
    }

    /// Whether it gives no GPU.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Nothing | Self::None(_))
    }
}

fn of_slurm<'a>(variable: &impl Fn(&str) -> Option<&'a str>, share: Share) -> Grant {
    let is_script = matches!(
        variable("SLURM_STEP_ID"),
        None | Some("4294967291" | "-5" | "4294967290" | "-6") // SLURM_BATCH_SCRIPT, SLURM_INTERACTIVE_STEP of slurm.h
    );
    let names = [env_vars::SLURM_STEP_GPUS].into_iter().chain(is_script.then_some(env_vars::SLURM_JOB_GPUS));
    let Some((name, list)) = names.filter_map(|name| Some((name, variable(name)?))).next() else {
        // Parts of GPUs are of all of them, as far as files go.
        let parts = [env_vars::SLURM_SHARDS_ON_NODE, env_vars::CUDA_MPS_ACTIVE_THREAD_PERCENTAGE];
        let part = parts.into_iter().find_map(|name| Some(format!("{name}={}", variable(name)?)));
        let none = || variable(CUDA).filter(|list| list.split(',').next().is_some_and(is_none));
        return match part {
            Some(told) => Grant::Some(told),
            None => none().map_or(Grant::Nothing, |list| Grant::None(format!("{CUDA}={list}"))),
        };
    };
    let told = format!("{name}={list}");
    let numbers: Option<Vec<_>> = list.split(',').map(numbers).collect();
    // A part of a GPU has files of its own.
    let has_parts = || variable(CUDA).is_some_and(|list| list.contains("MIG-"));
    let Some(numbers) = numbers.filter(|_| !has_parts()) else { return Grant::Some(told) };
    let mut gpus: Vec<u32> = numbers.into_iter().flatten().collect();
    gpus.sort_unstable();
    gpus.dedup();
    let on_node = variable(env_vars::SLURM_GPUS_ON_NODE).and_then(|count| count.parse().ok());
    match share == Share::Task || is_script || on_node == Some(gpus.len()) {
        true => Grant::These(gpus.iter().map(ToString::to_string).collect(), told),
        false => Grant::Some(match on_node {
            Some(count) => format!("{told}, SLURM_GPUS_ON_NODE={count}"),
            None => told,
        }),
    }
}

/// By the first variable that names GPUs.
fn of_numbers<'a>(variable: &impl Fn(&str) -> Option<&'a str>) -> Grant {
    let mut none = Grant::Nothing;
    for name in env_vars::GPU_NUMBERS {
        let Some(list) = variable(name) else { continue };
        let list = list.replace('\\', "");
        // As CUDA reads it: nothing behind an entry that is none.
        let entries = list.split(',').map(str::trim).take_while(|entry| !is_none(entry));
        let gpus: Vec<String> =
            entries.filter(|gpu| !gpu.is_empty()).map(|gpu| parts_of(name, gpu).0.to_owned()).collect();
        let told = format!("{name}={list}");
        match gpus.is_empty() {
            true if none == Grant::Nothing => none = Grant::None(told),
            true => {}
            false if gpus.iter().any(|gpu| gpu.starts_with("MIG-")) => return Grant::Some(told),
            false => return Grant::These(gpus, told),
        }
    }
    none
}

/// Whether an entry says that there is no GPU: CUDA's word, and Slurm's and Flux's.
fn is_none(entry: &str) -> bool {
    matches!(entry.trim(), "-1" | "NoDevFiles")
}

/// A GPU's number, and which part of it an entry of the variable `name` means: Level Zero's `3.0` is `3` and `.0`.
fn parts_of<'a>(name: &str, entry: &'a str) -> (&'a str, &'a str) {
    match entry.find('.') {
        Some(dot) if name == env_vars::ZE_AFFINITY_MASK => entry.split_at(dot),
        _ => (entry, ""),
    }
}

/// What variables can name where GPUs are covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The numbers, as the scheduler's variables have them, of the GPUs that libraries count, in their order.
    pub shown: Vec<u32>,
    /// The other names of those that they do not.
    pub hidden: Vec<String>,
}

/// The value that `name` of the variables `env` has inside, where libraries count the GPUs of `counted` alone: each number
/// becomes its place among them, and those of others go, by their UUIDs too. `None`: it stays as it is.
pub(crate) fn renumbered(
    name: &OsStr,
    value: &OsStr,
    counted: &Counted,
    env: &[(OsString, OsString)],
) -> Option<String> {
    let name = env_vars::GPU_NUMBERS.iter().find(|other| name == **other)?;
    let has_rocr = || env.iter().any(|(name, value)| name == env_vars::ROCR_VISIBLE_DEVICES && !value.is_empty());
    if matches!(*name, env_vars::HIP_VISIBLE_DEVICES | env_vars::GPU_DEVICE_ORDINAL) && has_rocr() {
        return None;
    }
    let place = |entry: &str| {
        let (gpu, part) = parts_of(name, entry);
        match gpu.parse::<u32>() {
            Ok(number) => {
                let place = counted.shown.iter().position(|other| *other == number)?;
                Some(format!("{place}{part}"))
            }
            Err(_) => (!counted.hidden.iter().any(|name| is_called(name, gpu))).then(|| entry.to_owned()),
        }
    };
    let list = value.to_str()?.replace('\\', "");
    Some(list.split(',').map(str::trim).filter_map(place).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::pairs;

    #[test]
    fn variables_tell_what_was_granted() {
        let these =
            |gpus: &[&str], told: &str| Grant::These(gpus.iter().map(|gpu| (*gpu).to_owned()).collect(), told.into());
        let some = |told: &str| Grant::Some(told.into());
        let none = || Grant::None("CUDA_VISIBLE_DEVICES=-1".into());
        let step = ("SLURM_STEP_ID", "0");
        for (case, scheduler, env, node, task) in [
            ("a shell", "", &[("CUDA_VISIBLE_DEVICES", "1")][..], Grant::Free, Grant::Free),
            ("mpirun by PALS alone", "pals", &[], Grant::Free, Grant::Free),
            ("nothing asked for", "slurm", &[step], Grant::Nothing, Grant::Nothing),
            (
                "the node's",
                "slurm",
                &[step, ("SLURM_STEP_GPUS", "3,1"), ("SLURM_GPUS_ON_NODE", "2")],
                these(&["1", "3"], "SLURM_STEP_GPUS=3,1"),
                these(&["1", "3"], "SLURM_STEP_GPUS=3,1"),
            ),
            (
                "each its own",
                "slurm",
                &[step, ("SLURM_STEP_GPUS", "1"), ("SLURM_GPUS_ON_NODE", "2")],
                some("SLURM_STEP_GPUS=1, SLURM_GPUS_ON_NODE=2"),
                these(&["1"], "SLURM_STEP_GPUS=1"),
            ),
            (
                "a range",
                "slurm",
                &[step, ("SLURM_STEP_GPUS", "0-2"), ("SLURM_GPUS_ON_NODE", "3")],
                these(&["0", "1", "2"], "SLURM_STEP_GPUS=0-2"),
                these(&["0", "1", "2"], "SLURM_STEP_GPUS=0-2"),
            ),
            (
                "a step without, of a script with",
                "slurm",
                &[step, ("SLURM_JOB_GPUS", "0"), ("SLURM_GPUS_ON_NODE", "1")],
                Grant::Nothing,
                Grant::Nothing,
            ),
            (
                "a script",
                "slurm",
                &[("SLURM_STEP_ID", "4294967291"), ("SLURM_JOB_GPUS", "0"), ("SLURM_GPUS_ON_NODE", "1")],
                these(&["0"], "SLURM_JOB_GPUS=0"),
                these(&["0"], "SLURM_JOB_GPUS=0"),
            ),
            (
                "parts of one",
                "slurm",
                &[step, ("SLURM_STEP_GPUS", "0"), ("SLURM_GPUS_ON_NODE", "1"), ("CUDA_VISIBLE_DEVICES", "MIG-5")],
                some("SLURM_STEP_GPUS=0"),
                some("SLURM_STEP_GPUS=0"),
            ),
            (
                "shards",
                "slurm",
                &[step, ("SLURM_SHARDS_ON_NODE", "2")],
                some("SLURM_SHARDS_ON_NODE=2"),
                some("SLURM_SHARDS_ON_NODE=2"),
            ),
            (
                "PBS",
                "pbs",
                &[("CUDA_VISIBLE_DEVICES", "GPU-a\\,GPU-b")],
                these(&["GPU-a", "GPU-b"], "CUDA_VISIBLE_DEVICES=GPU-a,GPU-b"),
                these(&["GPU-a", "GPU-b"], "CUDA_VISIBLE_DEVICES=GPU-a,GPU-b"),
            ),
            ("PBS without", "pbs", &[], Grant::Nothing, Grant::Nothing),
            ("Flux's none", "flux", &[("CUDA_VISIBLE_DEVICES", "-1")], none(), none()),
            (
                "cut at the first that is none",
                "flux",
                &[("CUDA_VISIBLE_DEVICES", "2,-1,0")],
                these(&["2"], "CUDA_VISIBLE_DEVICES=2,-1,0"),
                these(&["2"], "CUDA_VISIBLE_DEVICES=2,-1,0"),
            ),
            (
                "AMD's, though none is CUDA's",
                "pbs",
                &[("GPU_DEVICE_ORDINAL", "0"), ("ROCR_VISIBLE_DEVICES", "3"), ("CUDA_VISIBLE_DEVICES", "-1")],
                these(&["3"], "ROCR_VISIBLE_DEVICES=3"),
                these(&["3"], "ROCR_VISIBLE_DEVICES=3"),
            ),
            (
                "Intel's",
                "pbs",
                &[("ZE_AFFINITY_MASK", "3.0,1.1")],
                these(&["3", "1"], "ZE_AFFINITY_MASK=3.0,1.1"),
                these(&["3", "1"], "ZE_AFFINITY_MASK=3.0,1.1"),
            ),
            ("Slurm's none", "slurm", &[step, ("CUDA_VISIBLE_DEVICES", "-1")], none(), none()),
            (
                "a share of one",
                "slurm",
                &[step, ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "50"), ("CUDA_VISIBLE_DEVICES", "0")],
                some("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50"),
                some("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50"),
            ),
        ] {
            let (env, step) = (pairs(env), step_of(scheduler, None));
            assert_eq!(Grant::of(&env, &step, Share::Node), node, "{case}");
            assert_eq!(Grant::of(&env, &step, Share::Task), task, "{case}, each task");
        }
    }

    #[test]
    fn a_ranks_variable_is_no_grant_of_the_node() {
        for scheduler in ["pbs", "flux"] {
            let rank = step_of(scheduler, Some("0"));
            let of = |value: &str, share| Grant::of(&pairs(&[("CUDA_VISIBLE_DEVICES", value)]), &rank, share);
            let told = || "CUDA_VISIBLE_DEVICES=1".to_owned();
            assert_eq!(of("1", Share::Node), Grant::Some(told()), "{scheduler}");
            assert_eq!(of("1", Share::Task), Grant::These(vec!["1".into()], told()), "{scheduler}");
            assert_eq!(of("-1", Share::Node), Grant::None("CUDA_VISIBLE_DEVICES=-1".into()), "{scheduler}");
        }
    }

    fn step_of(scheduler: &'static str, rank: Option<&str>) -> Step {
        Step { scheduler, job: "1".into(), name: "0".into(), rank: rank.map(str::to_owned) }
    }

    #[test]
    fn numbers_are_counted_anew_where_others_are_covered() {
        let rocr = pairs(&[("ROCR_VISIBLE_DEVICES", "3")]);
        for (name, value, shown, env, expected) in [
            ("CUDA_VISIBLE_DEVICES", "1", &[1][..], &[][..], Some("0")),
            ("CUDA_VISIBLE_DEVICES", "3,1", &[1, 3], &[], Some("1,0")),
            ("CUDA_VISIBLE_DEVICES", "3\\, 1", &[1, 3], &[], Some("1,0")),
            ("ROCR_VISIBLE_DEVICES", "0,1", &[1], &[], Some("0")),
            ("CUDA_VISIBLE_DEVICES", "0", &[], &[], Some("")),
            ("CUDA_VISIBLE_DEVICES", "GPU-a", &[1], &[], Some("GPU-a")),
            ("CUDA_VISIBLE_DEVICES", "GPU-b1,GPU-a,GPU-b", &[1], &[], Some("GPU-a")),
            ("CUDA_VISIBLE_DEVICES", "-1", &[1], &[], Some("-1")),
            ("ZE_AFFINITY_MASK", "3.0,1.1,2.0,3", &[1, 3], &[], Some("1.0,0.1,1")),
            ("HIP_VISIBLE_DEVICES", "1", &[1], &[], Some("0")),
            ("HIP_VISIBLE_DEVICES", "1", &[1], &rocr, None),
            ("GPU_DEVICE_ORDINAL", "1", &[1], &rocr, None),
            ("ROCR_VISIBLE_DEVICES", "3", &[3], &rocr, Some("0")),
            ("SLURM_STEP_GPUS", "1", &[1], &[], None),
        ] {
            let counted = Counted { shown: shown.to_vec(), hidden: vec!["GPU-b1".into()] };
            assert_eq!(renumbered(name.as_ref(), value.as_ref(), &counted, env).as_deref(), expected, "{name}={value}");
        }
    }
}
