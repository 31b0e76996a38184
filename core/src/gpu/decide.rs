//! Which GPUs a run sees: what is wished for, never more than was granted. Pure.

use std::path::PathBuf;

use super::error::GpuError;
use super::{Common, Gpu, Grant, Machine, Opens};

/// Which GPUs are wished for, once CDI's names have become those of their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wished {
    /// All that were granted.
    Granted,
    /// The same, and there must be one.
    All,
    /// All that were granted, these numbers among them.
    With(Vec<u32>),
    /// These numbers.
    Numbers(Vec<u32>),
}

/// What a run sees of a machine's GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The numbers of those that it sees and may open.
    pub visible: Vec<u32>,
    /// Files and directories that are covered.
    pub covered: Vec<Common>,
    /// The numbers, as the scheduler's variables have them, of those that are visible, in their order; `None`: no GPU is
    /// covered, so those variables hold.
    pub counted: Option<Vec<u32>>,
    /// Why, in a few words.
    pub why: String,
}

impl View {
    /// Of the GPUs of `machine`, those that `wished` names and `grant` covers.
    ///
    /// A device cgroup is the truth where there is one (a GPU answers EPERM): then nothing is covered for want of a grant, and no
    /// variable is asked, as Slurm counts anew for each task.
    ///
    /// # Errors
    /// [`GpuError::NotGranted`], [`GpuError::NoneGranted`], [`GpuError::Unknown`].
    pub fn decide(machine: &Machine, grant: &Grant, wished: &Wished) -> Result<Self, GpuError> {
        let is_held = machine.is_held();
        let (granted, why) = granted(machine, grant);
        let numbers = |gpus: &[&Gpu]| gpus.iter().map(|gpu| gpu.number).collect::<Vec<_>>();
        let opens = |gpu: &&Gpu| gpu.opens == Opens::Yes;
        if let Wished::With(list) | Wished::Numbers(list) = wished {
            for number in list.iter().copied() {
                if !machine.gpus.iter().any(|gpu| gpu.number == number) {
                    return Err(GpuError::Unknown { number, there: numbers(&machine.gpus.iter().collect::<Vec<_>>()) });
                }
                if !granted.iter().any(|gpu| gpu.number == number) {
                    return Err(GpuError::NotGranted { number, granted: numbers(&granted), why });
                }
            }
        }
        let wanted: Vec<&Gpu> = match wished {
            Wished::All if !granted.iter().any(opens) => return Err(GpuError::NoneGranted { why }),
            Wished::Granted | Wished::All | Wished::With(_) => granted,
            Wished::Numbers(list) => granted.into_iter().filter(|gpu| list.contains(&gpu.number)).collect(),
        };
        let narrows = matches!(wished, Wished::Numbers(_));
        let is_covered = |gpu: &&Gpu| (narrows || !is_held) && !wanted.iter().any(|other| other.number == gpu.number);
        let hidden: Vec<&Gpu> = machine.gpus.iter().filter(is_covered).collect();
        let file = |path: &PathBuf| Common { path: path.clone(), is_directory: false };
        let mut covered: Vec<_> = hidden.iter().flat_map(|gpu| gpu.nodes.iter().map(file)).collect();
        if hidden.len() == machine.gpus.len() {
            covered.extend(machine.common.iter().cloned());
        }
        let visible = numbers(&wanted.iter().copied().filter(opens).collect::<Vec<_>>());
        // Libraries count what opens; a scheduler that covers nothing has numbers of its own.
        let counts_all = !is_held && *grant != Grant::Free;
        let places = machine.gpus.iter().filter(|gpu| counts_all || opens(gpu)).zip(0..);
        let old = places.map(|(gpu, place)| (gpu.number, if counts_all { gpu.number } else { place }));
        let counted = old.filter(|(number, _)| visible.contains(number)).map(|(_, old)| old).collect();
        Ok(Self { visible, counted: (!hidden.is_empty()).then_some(counted), covered, why })
    }

    /// In a line: `0,1`, or `none`.
    pub fn shown(&self) -> String {
        match self.visible.is_empty() {
            true => "none".into(),
            false => self.visible.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

/// The GPUs that `grant` gives, and by whose word.
fn granted<'a>(machine: &'a Machine, grant: &Grant) -> (Vec<&'a Gpu>, String) {
    let all = || machine.gpus.iter().collect::<Vec<_>>();
    if machine.is_held() {
        let open = machine.gpus.iter().filter(|gpu| gpu.opens == Opens::Yes);
        return (open.collect(), "the device cgroup".into());
    }
    match grant {
        Grant::Free => (all(), "no scheduler".into()),
        Grant::Nothing => (Vec::new(), "the scheduler granted none".into()),
        Grant::Some(told) => (all(), format!("{told}: which of them is not told")),
        Grant::These(names, told) => {
            let is = |gpu: &Gpu, name: &String| *name == gpu.number.to_string() || gpu.names.contains(name);
            match names.iter().all(|name| machine.gpus.iter().any(|gpu| is(gpu, name))) {
                true => {
                    let is_granted = |gpu: &&Gpu| names.iter().any(|name| is(gpu, name));
                    (machine.gpus.iter().filter(is_granted).collect(), told.clone())
                }
                false => (all(), format!("{told}: names no GPU of this machine")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y` opens, `h` is held by a device cgroup, `n` does not open.
    fn machine(opens: &str) -> Machine {
        let gpus = opens.chars().zip(0..).map(|(opens, number)| Gpu {
            number,
            names: vec![format!("GPU-{number}")],
            nodes: vec![format!("/dev/nvidia{number}").into()],
            opens: match opens {
                'y' => Opens::Yes,
                'h' => Opens::Held,
                _ => Opens::No,
            },
        });
        let ctl = Common { path: "/dev/nvidiactl".into(), is_directory: false };
        Machine { gpus: gpus.collect(), common: vec![ctl] }
    }

    fn these(names: &[&str]) -> Grant {
        Grant::These(names.iter().map(|name| (*name).to_owned()).collect(), "V=x".into())
    }

    /// `VISIBLE; COVERED; COUNTED`, or the error.
    fn told(opens: &str, grant: &Grant, wished: &Wished) -> String {
        match View::decide(&machine(opens), grant, wished) {
            Err(error) => error.to_string(),
            Ok(view) => {
                let covered: Vec<_> = view
                    .covered
                    .iter()
                    .map(|common| common.path.to_str().unwrap().replace("/dev/nvidia", ""))
                    .collect();
                let counted = view.counted.as_ref().map_or("-".into(), |counted| format!("{counted:?}"));
                format!("{}; {}; {counted}", view.shown(), covered.join(" "))
            }
        }
    }

    #[test]
    fn a_run_sees_what_was_granted_and_no_more() {
        let (granted, all) = (Wished::Granted, Wished::All);
        let none = Wished::Numbers(Vec::new());
        let some = || Grant::Some("V=1".into());
        for (case, opens, grant, wished, expected) in [
            ("no scheduler", "yy", Grant::Free, &granted, "0,1; ; -"),
            ("no scheduler, one not ours", "ny", Grant::Free, &granted, "1; ; -"),
            ("one of two", "yy", these(&["1"]), &granted, "1; 0; [1]"),
            ("both", "yy", these(&["0", "1"]), &granted, "0,1; ; -"),
            ("by UUID", "yyy", these(&["GPU-2"]), &granted, "2; 0 1; [2]"),
            ("by a name of another machine", "yy", these(&["5"]), &granted, "0,1; ; -"),
            ("which is not told", "yy", some(), &granted, "0,1; ; -"),
            ("nothing", "yy", Grant::Nothing, &granted, "none; 0 1 ctl; []"),
            ("nothing, by a cgroup", "hh", Grant::Nothing, &granted, "none; ; -"),
            ("a cgroup decides", "hy", these(&["0"]), &granted, "1; ; -"),
            ("none wanted", "yy", these(&["0", "1"]), &none, "none; 0 1 ctl; []"),
            ("none wanted, in a cgroup", "hy", these(&["0"]), &none, "none; 0 1 ctl; []"),
            ("one wanted", "yy", these(&["0", "1"]), &Wished::Numbers(vec![1]), "1; 0; [1]"),
            ("one wanted, in a cgroup", "hyy", these(&["0", "1"]), &Wished::Numbers(vec![2]), "2; 0 1; [1]"),
            ("all", "yy", these(&["1"]), &all, "1; 0; [1]"),
            (
                "all of nothing",
                "yy",
                Grant::Nothing,
                &all,
                "cannot show all GPUs: this job has none (the scheduler granted none)",
            ),
            (
                "all of nothing, by a cgroup",
                "hh",
                these(&["0"]),
                &all,
                "cannot show all GPUs: this job has none (the device cgroup)",
            ),
            (
                "more than granted",
                "yy",
                these(&["1"]),
                &Wished::Numbers(vec![1, 0]),
                "cannot show GPU 0: it was not granted (V=x)",
            ),
            (
                "more than a cgroup lets",
                "hy",
                Grant::Free,
                &Wished::Numbers(vec![0]),
                "cannot show GPU 0: it was not granted (the device cgroup)",
            ),
            (
                "not there",
                "yy",
                Grant::Free,
                &Wished::Numbers(vec![7]),
                "cannot show GPU 7: this machine has none of that number",
            ),
        ] {
            assert_eq!(told(opens, &grant, wished), expected, "{case}");
        }
    }
}
