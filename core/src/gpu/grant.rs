//! Which of a node's GPUs the scheduler gave, by the variables that it sets. Pure.

use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use super::wish::numbers;
use crate::env_vars;
use crate::run::Share;

/// What the scheduler gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// There is no scheduler: what opens is the user's.
    Free,
    /// No GPU.
    Nothing,
    /// These, by number (`3`) or UUID (`GPU-…`), and which variable says so.
    These(Vec<String>, String),
    /// Some, and why it is not known which.
    Some(String),
}

impl Grant {
    /// What `scheduler` ([`crate::rendezvous::Step::scheduler`]) gave, by `env`: to the ranks of this node together, or with
    /// [`Share::Task`] to this rank.
    ///
    /// Slurm: `SLURM_STEP_GPUS` holds this rank's numbers on the host. They are those of the whole node if there are as many
    /// as `SLURM_GPUS_ON_NODE` says; else which others the node's ranks have is not told. `SLURM_JOB_GPUS` counts in a
    /// script alone: its steps inherit it. PBS and Flux: `CUDA_VISIBLE_DEVICES`, in PBS with backslashes before its commas.
    pub fn of(env: &[(OsString, OsString)], scheduler: &str, share: Share) -> Self {
        let variable = |name: &str| {
            let found = env.iter().rev().find(|(other, _)| other == name);
            found.and_then(|(_, value)| value.to_str()).filter(|value| !value.is_empty())
        };
        match scheduler {
            "slurm" => of_slurm(&variable, share),
            "pbs" | "flux" => of_cuda(&variable),
            _ => Self::Free,
        }
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
        return match variable(env_vars::SLURM_SHARDS_ON_NODE) {
            Some(count) => Grant::Some(format!("SLURM_SHARDS_ON_NODE={count}")),
            None => Grant::Nothing,
        };
    };
    let told = format!("{name}={list}");
    let numbers: Option<Vec<_>> = list.split(',').map(numbers).collect();
    // A part of a GPU has files of its own.
    let has_parts = || variable(env_vars::CUDA_VISIBLE_DEVICES).is_some_and(|list| list.contains("MIG-"));
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

fn of_cuda<'a>(variable: &impl Fn(&str) -> Option<&'a str>) -> Grant {
    const NAME: &str = env_vars::CUDA_VISIBLE_DEVICES;
    let Some(list) = variable(NAME) else { return Grant::Nothing };
    let list = list.replace('\\', "");
    let gpus: Vec<String> = list.split(',').map(|gpu| gpu.trim().to_owned()).filter(|gpu| !gpu.is_empty()).collect();
    let told = format!("{NAME}={list}");
    match gpus.as_slice() {
        // As CUDA reads it: nothing behind an entry that is none.
        [] => Grant::Nothing,
        [first, ..] if first == "-1" || first == "NoDevFiles" => Grant::Nothing,
        _ if gpus.iter().any(|gpu| gpu.starts_with("MIG-")) => Grant::Some(told),
        _ => Grant::These(gpus, told),
    }
}

/// The value `name` has inside, where libraries count the GPUs with the numbers `shown` alone: each number becomes its place
/// among them, and those of others go. `None`: it stays as it is.
pub(crate) fn renumbered(name: &OsStr, value: &OsStr, shown: &[u32]) -> Option<String> {
    if !env_vars::GPU_NUMBERS.iter().any(|other| name == *other) {
        return None;
    }
    let numbers: Option<Vec<u32>> = value.to_str()?.split(',').map(|number| number.parse().ok()).collect();
    let places = numbers?.into_iter().filter_map(|number| shown.iter().position(|other| *other == number));
    Some(places.map(|place| place.to_string()).collect::<Vec<_>>().join(","))
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
            ("Flux without", "flux", &[("CUDA_VISIBLE_DEVICES", "-1")], Grant::Nothing, Grant::Nothing),
        ] {
            let env = pairs(env);
            assert_eq!(Grant::of(&env, scheduler, Share::Node), node, "{case}");
            assert_eq!(Grant::of(&env, scheduler, Share::Task), task, "{case}, each task");
        }
    }

    #[test]
    fn numbers_are_counted_anew_where_others_are_covered() {
        for (name, value, shown, expected) in [
            ("CUDA_VISIBLE_DEVICES", "1", &[1][..], Some("0")),
            ("CUDA_VISIBLE_DEVICES", "3,1", &[1, 3], Some("1,0")),
            ("ROCR_VISIBLE_DEVICES", "0,1", &[1], Some("0")),
            ("CUDA_VISIBLE_DEVICES", "0", &[], Some("")),
            ("CUDA_VISIBLE_DEVICES", "GPU-a", &[1], None),
            ("SLURM_STEP_GPUS", "1", &[1], None),
        ] {
            assert_eq!(renumbered(name.as_ref(), value.as_ref(), shown).as_deref(), expected, "{name}={value}");
        }
    }
}
