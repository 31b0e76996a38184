//! Which GPUs a run sees: what is wished for, never more than was granted. Pure.

use std::path::PathBuf;

use super::error::GpuError;
use super::machine::is_called;
use super::{Common, Counted, Gpu, Grant, Machine, Opens};

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
    /// What the scheduler's variables can name; `None`: no GPU is covered, so those variables hold.
    pub counted: Option<Counted>,
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
        let file = |path: &PathBuf| Common { path: path.clone(), is_directory: false, device: 0 };
        let mut covered: Vec<_> = hidden.iter().flat_map(|gpu| gpu.nodes.iter().map(file)).collect();
        if hidden.len() == machine.gpus.len() {
            covered.extend(machine.common.iter().cloned());
        }
        let visible = numbers(&wanted.iter().copied().filter(opens).collect::<Vec<_>>());
        // Libraries count what opens; a scheduler that covers nothing has numbers of its own.
        let counts_all = !is_held && *grant != Grant::Free;
        let places = machine.gpus.iter().filter(|gpu| counts_all || opens(gpu)).zip(0..);
        let old = places.map(|(gpu, place)| (gpu.number, if counts_all { gpu.number } else { place }));
        let shown = old.filter(|(number, _)| visible.contains(number)).map(|(_, old)| old).collect();
        let names = hidden.iter().flat_map(|gpu| gpu.names.iter().cloned()).collect();
        let counted = (!hidden.is_empty()).then_some(Counted { shown, hidden: names });
        Ok(Self { visible, counted, covered, why })
    }

    /// In a line: `0,1`, or `none`.
    pub fn shown(&self) -> String {
        match self.visible.is_empty() {
            true => "none".into(),
            false => self.visible.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

/// The grant of a rank whose variables come to `own`, on a node whose first rank has left `first`: that one, so that they share
/// a container. A step of several components may have GPUs in one of them alone, or others in each: then a rank's own.
pub(super) fn of_rank(machine: &Machine, first: Grant, own: Grant) -> Grant {
    let numbers = |grant: &Grant| granted(machine, grant).0.iter().map(|gpu| gpu.number).collect::<Vec<_>>();
    let shared = numbers(&first);
    let is_within = numbers(&own).iter().all(|number| shared.contains(number));
    if first.is_none() == own.is_none() && is_within { first } else { own }
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
        Grant::None(told) => (Vec::new(), told.clone()),
        Grant::Some(told) => (all(), format!("{told}: which of them is not told")),
        Grant::These(names, told) => {
            let is = |gpu: &Gpu, asked: &String| {
                *asked == gpu.number.to_string() || gpu.names.iter().any(|name| is_called(name, asked))
            };
            let named = machine.gpus.iter().filter(|gpu| names.iter().any(|name| is(gpu, name))).collect::<Vec<_>>();
            match named.is_empty() {
                true => (all(), format!("{told}: names no GPU of this machine")),
                false => (named, told.clone()),
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
            names: vec![format!("GPU-{number}a")],
            nodes: vec![format!("/dev/nvidia{number}").into()],
            devices: Vec::new(),
            opens: match opens {
                'y' => Opens::Yes,
                'h' => Opens::Held,
                _ => Opens::No,
            },
        });
        let ctl = Common { path: "/dev/nvidiactl".into(), is_directory: false, device: 0 };
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
                let counted = view.counted.as_ref().map_or("-".into(), |counted| format!("{:?}", counted.shown));
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
            ("by UUID", "yyy", these(&["GPU-2a"]), &granted, "2; 0 1; [2]"),
            ("by a UUID cut short", "yyy", these(&["GPU-2"]), &granted, "2; 0 1; [2]"),
            ("one of them of another machine", "yy", these(&["5", "1"]), &granted, "1; 0; [1]"),
            ("by a name of another machine", "yy", these(&["5"]), &granted, "0,1; ; -"),
            ("which is not told", "yy", some(), &granted, "0,1; ; -"),
            ("nothing", "yy", Grant::Nothing, &granted, "none; 0 1 ctl; []"),
            ("none, it says", "yy", Grant::None("V=-1".into()), &granted, "none; 0 1 ctl; []"),
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

    #[test]
    fn a_rank_shares_the_firsts_grant_unless_it_has_another() {
        let some = || Grant::Some("V=0".into());
        for (case, first, own, is_own) in [
            ("the same", these(&["0"]), these(&["0"]), false),
            ("less", these(&["0", "1"]), these(&["1"]), false),
            ("less of what is not told", some(), these(&["1"]), false),
            ("another", these(&["0"]), these(&["1"]), true),
            ("more", these(&["0"]), some(), true),
            ("none of the first's", these(&["0"]), Grant::Nothing, true),
            ("the first has none", Grant::Nothing, these(&["0"]), true),
            ("the first says none", Grant::None("V=-1".into()), these(&["0"]), true),
            ("none and none", Grant::Nothing, Grant::None("V=-1".into()), false),
        ] {
            let expected = if is_own { own.clone() } else { first.clone() };
            assert_eq!(of_rank(&machine("yy"), first, own), expected, "{case}");
        }
    }

    #[test]
    fn names_of_hidden_gpus_are_told() {
        let view = View::decide(&machine("yy"), &these(&["1"]), &Wished::Granted).unwrap();
        assert_eq!(view.counted, Some(Counted { shown: vec![1], hidden: vec!["GPU-0a".into()] }));
    }
}
