//! The GPUs of a node, as ranks in an image of a store see them: one looks for all, and the site has the last word. The GPUs are
//! a /dev/full and a /dev/urandom in a /dev of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use udocker_tests::node::{Node, SOON, ended, one};
use udocker_tests::{children, code, is_root, run, stderr, stdout};

/// Moves a /dev with GPUs, ABSENT not among them, over this mount namespace's, enters a control group if GROUP is one's directory, and
/// becomes the rest of its words.
const GPUS: &str = r#"set -e
  d=$(mktemp -d); mount -t tmpfs dev "$d"; mkdir "$d/shm" "$d/nvidia-caps"; mount --rbind /dev/shm "$d/shm"
  for name in null zero full random urandom; do touch "$d/$name"; mount --bind "/dev/$name" "$d/$name"; done
  mknod -m 666 "$d/nvidia0" c 1 7; mknod -m 666 "$d/nvidia1" c 1 9; mknod -m 666 "$d/nvidiactl" c 1 5
  [ -z "$ABSENT" ] || rm "$d/$ABSENT"
  mount --move "$d" /dev; rmdir "$d"
  [ -z "$GROUP" ] || echo 0 >"$GROUP/cgroup.procs"
  unset ABSENT GROUP; exec "$@""#;

/// Tells the mount namespace, a variable, and what opening each device comes to.
const LOOK: &str = r#"readlink /proc/self/ns/mnt; echo "cuda=$CUDA_VISIBLE_DEVICES"
  for name in nvidia0 nvidia1 nvidiactl; do (: </dev/$name) 2>/dev/null && echo $name; done
  ls -d /dev/nvidia-caps/. >/dev/null 2>&1 && echo caps; true"#;

/// Rank `rank` of the step `step` of a job of Slurm on a node with GPUs, with these variables.
fn rank(node: &Node, (step, rank): (&str, u64), variables: &[(&str, &str)], words: &[&str]) -> Command {
    assert!(is_root(), "devices are made by root");
    let bare = node.rank(step, rank, words);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", GPUS, "gpus"]);
    // With a site's file that is there already.
    if bare.get_program() != "unshare" {
        let id = node.env.uid().expect("a user");
        command.args(["setpriv", &format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]);
    }
    command.arg(bare.get_program()).args(bare.get_args());
    command.env_clear().envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.envs([("SLURM_JOB_ID", "1"), ("SLURM_STEP_ID", "0")]).envs(variables.iter().copied());
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A control group whose processes open some devices and no others; it goes with the value, and so do its processes.
struct Held(PathBuf);

#[derive(Clone, Copy, Debug)]
enum Version {
    V1,
    V2,
}

/// What container runtimes let all processes open, less what [`GPUS`] takes for its own: null, random, tty, ptmx and terminals.
const OPEN_TO_ALL: [&str; 5] = ["1:3", "1:8", "5:0", "5:2", "136:*"];

impl Held {
    /// With these of the GPUs, and with one of them what they have in common.
    fn new(version: Version, gpus: &[u32]) -> Self {
        let of_gpus = gpus.iter().map(|gpu| ["1:7", "1:9"][*gpu as usize]);
        let devices: Vec<_> =
            OPEN_TO_ALL.into_iter().chain(of_gpus).chain((!gpus.is_empty()).then_some("1:5")).collect();
        let name =
            format!("udocker-tests.{}-{}", std::process::id(), gpus.iter().map(u32::to_string).collect::<String>());
        let held = Self(version.top().join(name));
        fs::create_dir(&held.0).expect("a control group");
        match version {
            Version::V1 => {
                let write = |file: &str, text: &str| fs::write(held.0.join(file), text).expect("a rule for devices");
                write("devices.deny", "a");
                devices.iter().for_each(|device| write("devices.allow", &format!("c {device} rwm")));
            }
            Version::V2 => {
                let program = tempfile::tempdir().expect("a temporary directory");
                let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/hold_devices.c");
                let file = program.path().join("hold_devices");
                run(Command::new("gcc").args(["-Wall", "-Werror", "-o"]).arg(&file).arg(source));
                run(Command::new(file).arg(&held.0).args(devices));
            }
        }
        held
    }
}

impl Version {
    /// The group of all processes.
    fn top(self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("a list of mounts");
        let of_mount = |line: &str| {
            let (mount, source) = line.split_once(" - ")?;
            let is = match self {
                Self::V1 => source.starts_with("cgroup ") && source.split([' ', ',']).any(|word| word == "devices"),
                Self::V2 => source.starts_with("cgroup2 "),
            };
            is.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
        };
        mounts.lines().find_map(of_mount).unwrap_or_else(|| panic!("no mount of cgroup {self:?} that holds devices"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let since = Instant::now();
        while fs::remove_dir(&self.0).is_err() && since.elapsed() < Duration::from_secs(5) {
            for number in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
                let _ended_meanwhile = Command::new("kill").args(["-KILL", number]).output();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits for a file that a rank makes.
fn until_there(file: &Path) {
    let since = Instant::now();
    while !file.exists() {
        assert!(since.elapsed() < SOON, "the first rank does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `rank`, of which `log` tells what it opens and makes.
fn traced(rank: &Command, log: &Path) -> Command {
    let mut words: Vec<_> = rank.get_args().map(ToOwned::to_owned).collect();
    let program = words.iter().position(|word| word == "--clear-groups").expect("a user") + 1;
    let strace = ["strace", "-f", "-qq", "-yy", "-e", "trace=open,openat,openat2,mknod,mknodat", "-o"];
    words.splice(program..program, strace.map(Into::into).into_iter().chain([log.into()]));
    let mut traced = Command::new(rank.get_program());
    traced.args(words).env_clear().envs(rank.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    traced
}

/// A rank in a control group.
fn held(group: &Held, mut rank: Command) -> Command {
    rank.env("GROUP", &group.0);
    rank
}

/// What [`LOOK`] tells: the namespace, and the rest on one line.
fn seen(output: &Output) -> (String, String) {
    assert_eq!(stderr(output), "");
    seen_though_warned(output)
}

/// The same of a rank that is warned of a container of its own.
fn seen_though_warned(output: &Output) -> (String, String) {
    assert_eq!(code(output), 0, "{output:?}");
    let text = stdout(output);
    let (namespace, rest) = text.split_once('\n').expect("lines");
    (namespace.into(), rest.trim().replace('\n', " "))
}

const ONE: &[(&str, &str)] = &[("SLURM_STEP_GPUS", "0"), ("SLURM_GPUS_ON_NODE", "1"), ("CUDA_VISIBLE_DEVICES", "0")];

/// The second rank's own variables would show it one GPU: what the first found holds. One whose variables name others has a
/// container of its own.
#[test]
fn the_first_rank_of_a_node_looks_for_all() {
    let node = Node::new();
    let shared = node.shared();
    let mount = format!("--mount={}:/mnt", shared.display());
    let waits = format!("{LOOK}; : >/mnt/ready; read line; true");
    let both = [("SLURM_STEP_GPUS", "0,1"), ("SLURM_GPUS_ON_NODE", "2"), ("CUDA_VISIBLE_DEVICES", "0,1")];
    let mut first =
        rank(&node, ("s", 0), &both, &[&mount, "i", "sh", "-c", &waits]).stdin(Stdio::piped()).spawn().unwrap();
    until_there(&shared.join("ready"));
    let second = rank(&node, ("s", 1), ONE, &[&mount, "i", "sh", "-c", LOOK]).output().unwrap();
    let other = [("SLURM_STEP_GPUS", "0"), ("SLURM_GPUS_ON_NODE", "2"), ("CUDA_VISIBLE_DEVICES", "1")];
    let alone = rank(&node, ("s", 2), &other, &["--share=task", "--gpu=0", "i", "sh", "-c", LOOK]).output().unwrap();
    let none = rank(&node, ("s", 3), &[], &[&mount, "i", "sh", "-c", LOOK]).output().unwrap();
    // What is left can be written by its user, so nothing of it is mounted.
    let left = children(node.directory()).into_iter().find(|path| path.to_string_lossy().contains("/image-")).unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(left).unwrap()).into_owned();
    let gpus: serde_json::Map<_, _> = serde_json::from_str(text.lines().nth(4).unwrap()).unwrap();
    assert_eq!(gpus.keys().collect::<Vec<_>>(), ["grant", "machine"]);
    drop(first.stdin.take());
    let (first, second, none) = (seen(&ended(first, SOON)), seen(&second), seen_though_warned(&none));
    assert_ne!(none.0, one([first.0, second.0]));
    assert_eq!(first.1, "cuda=0,1 nvidia0 nvidia1 nvidiactl caps");
    assert_eq!(second.1, "cuda=0 nvidia0 nvidia1 nvidiactl caps");
    assert_eq!(none.1, "cuda=");
    assert_eq!((code(&alone), stdout(&alone).contains("nvidia1\n")), (0, false), "{alone:?}");
}

/// Of a step whose first component has other GPUs, or none, each rank has its own.
#[test]
fn another_component_has_gpus_of_its_own() {
    let node = Node::new();
    let other = [("SLURM_STEP_GPUS", "1"), ("SLURM_GPUS_ON_NODE", "1"), ("CUDA_VISIBLE_DEVICES", "1")];
    for (step, variables) in [("none", &[][..]), ("another", ONE)] {
        let look = |number, variables| {
            seen(&rank(&node, (step, number), variables, &["i", "sh", "-c", LOOK]).output().unwrap()).1
        };
        let expected = if variables.is_empty() { "cuda=" } else { "cuda=0 nvidia0 nvidiactl caps" };
        assert_eq!(look(0, variables), expected, "{step}");
        assert_eq!(look(1, &other), "cuda=0 nvidia1 nvidiactl caps", "{step}");
    }
}

/// PBS and Flux tell a rank its own GPUs, which are not the node's.
#[test]
fn a_ranks_variable_is_no_grant_of_its_node() {
    let node = Node::new();
    let look = |number, gpu, words: &[&str]| {
        let words = [words, &["i", "sh", "-c", LOOK]].concat();
        let mut command = rank(&node, ("pbs", number), &[("CUDA_VISIBLE_DEVICES", gpu), ("PBS_JOBID", "1")], &words);
        command.env_remove("SLURM_JOB_ID").env_remove("SLURM_STEP_ID");
        seen_though_warned(&command.output().unwrap()).1
    };
    assert_eq!(look(0, "0", &[]), "cuda=0 nvidia0 nvidia1 nvidiactl caps");
    assert_eq!(look(1, "1", &[]), "cuda=1 nvidia0 nvidia1 nvidiactl caps");
    assert_eq!(look(2, "1", &["--share=task"]), "cuda=0 nvidia1 nvidiactl caps");
}

/// A GPU is known by its device number: another path of it is no way around a grant, nor around a cover.
#[test]
fn another_path_of_a_gpu_is_a_gpus() {
    let node = Node::new();
    for source in ["/dev/urandom", "/proc/self/root/dev/nvidia1"] {
        let mount = format!("--mount={source}:/gpu");
        let output = rank(&node, ("by path", 0), ONE, &[&mount, "i", "true"]).output().unwrap();
        let error = "cannot show GPU 1: it was not granted (SLURM_STEP_GPUS=0)";
        assert!(code(&output) == 125 && stderr(&output).contains(error), "{source}: {output:?}");
    }
    let words = ["--mount=/proc/self/root/dev:/dev", "i", "sh", "-c", LOOK];
    let output = rank(&node, ("all", 0), ONE, &words).output().unwrap();
    assert_eq!(seen(&output).1, "cuda=0 nvidia0 nvidiactl caps");
}

/// A job without GPUs sees none, nor what all GPUs have in common.
#[test]
fn without_a_grant_there_is_no_gpu() {
    let node = Node::new();
    for mode in ["N1", "P2"] {
        let mode = format!("--mode={mode}");
        let none = rank(&node, (&format!("{mode} none"), 0), &[], &[&mode, "i", "sh", "-c", LOOK]).output().unwrap();
        assert_eq!(seen(&none).1, "cuda=", "{mode}");
        let both = [("SLURM_STEP_GPUS", "0,1"), ("SLURM_GPUS_ON_NODE", "2")];
        let all = rank(&node, (&format!("{mode} both"), 0), &both, &[&mode, "i", "sh", "-c", LOOK]).output().unwrap();
        assert_eq!(seen(&all).1, "cuda= nvidia0 nvidia1 nvidiactl caps", "{mode}");
    }
}

/// So it is in a container that is shown another GPU than the first.
#[test]
fn a_node_without_its_first_gpu_has_the_others() {
    let node = Node::new();
    let granted = [("SLURM_STEP_GPUS", "1"), ("SLURM_GPUS_ON_NODE", "1")];
    for (step, variables, expected) in [("none", &[][..], "cuda="), ("one", &granted, "cuda= nvidia1 nvidiactl caps")] {
        let mut second = rank(&node, (step, 0), variables, &["i", "sh", "-c", LOOK]);
        assert_eq!(seen(&second.env("ABSENT", "nvidia0").output().unwrap()).1, expected);
    }
}

/// A machine without GPUs costs a node's first rank four calls, and the others none.
#[test]
fn a_machine_without_gpus_is_asked_once() {
    let node = Node::new();
    let logs = node.shared();
    let asked = |number: u64| -> Vec<String> {
        let log = logs.join(format!("{number}"));
        let words = ["strace", "-f", "-e", "trace=%file", "-o", log.to_str().unwrap()];
        run(&mut node.behind(&words, &node.rank("s", number, &["i", "/bin/true"])));
        let text = std::fs::read_to_string(&log).unwrap();
        let calls = text
            .lines()
            .filter(|line| ["/dev/nvidia", "/dev/dri", "/dev/kfd", "/cdi"].iter().any(|name| line.contains(name)));
        calls.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(asked(0), ["/dev/nvidia0", "/dev/nvidiactl", "/dev/dri/renderD128", "/dev/kfd"]);
    assert_eq!(asked(1), Vec::<String>::new());
}

/// So it is for the nodes of a CDI specification, whatever they are called there.
#[test]
fn another_path_in_a_specification_is_a_gpus() {
    let mut node = Node::new();
    let directory = node.env.own_directory("cdi", 0o755);
    let edits = r#"{"deviceNodes": [{"path": "/opt/gpu", "hostPath": "/dev/urandom"}]}"#;
    let device = format!(r#"{{"name": "a", "containerEdits": {edits}}}"#);
    let text = format!(r#"{{"cdiVersion": "0.6.0", "kind": "vendor.example/other", "devices": [{device}]}}"#);
    std::fs::write(directory.join("other.json"), text).unwrap();
    node.env.set_site(&format!("gpu.cdi_dirs = [\"{}\"]\n", directory.display()));
    let words = ["--device=vendor.example/other=a", "i", "sh", "-c", "ls /opt/gpu 2>/dev/null; true"];
    let output = rank(&node, ("one", 0), ONE, &words).output().unwrap();
    assert!(stderr(&output).contains("cannot show GPU 1: it was not granted"), "{output:?}");
    let both = [("SLURM_STEP_GPUS", "0,1"), ("SLURM_GPUS_ON_NODE", "2")];
    let output = rank(&node, ("both", 0), &both, &words).output().unwrap();
    assert_eq!((code(&output), stdout(&output), stderr(&output)), (0, String::new(), String::new()));
}

/// Who says so is told: the scheduler, a wish, a rule of the site's.
#[test]
fn the_site_and_explain_have_the_last_word() {
    let mut node = Node::new();
    node.env.set_site("gpu.driver_root = \"/nowhere\"\n");
    let told = |node: &Node, words: &[&str]| -> Vec<String> {
        let output = rank(node, ("told", 0), ONE, &[&["--explain"], words, &["i", "true"]].concat()).output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
        let line =
            |line: &str| line.split("  ").map(str::trim).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  ");
        let run_dir = node.directory().to_str().unwrap();
        let text = stdout(&output).replace(run_dir, "RUN");
        text.lines()
            .map(line)
            .filter(|line| ["gpu ", "driver "].iter().any(|name| line.starts_with(name)) || line.contains("nvidia"))
            .collect()
    };
    let driver = "driver  none found  the driver below /nowhere";
    let covered = "/dev/nvidia1  RUN/covered, read-only  not this job's: SLURM_STEP_GPUS=0";
    assert_eq!(told(&node, &[]), ["gpu  0 of 0,1  default: SLURM_STEP_GPUS=0", driver, covered, covered]);
    assert_eq!(told(&node, &["--gpu=all"])[0], "gpu  0 of 0,1  --gpu: SLURM_STEP_GPUS=0");

    node.env.set_site("[[policy.rule]]\naction = \"allow\"\ngpu = false\nreason = \"not with this\"\n");
    let denied =
        "cannot use i: the site forbids the driver of the GPU in it (/etc/udocker/site.toml:1:1): not with this";
    let output = rank(&node, ("ruled", 0), ONE, &["i", "sh", "-c", LOOK]).output().unwrap();
    let text = stdout(&output).lines().skip(1).collect::<Vec<_>>().join(" ");
    assert_eq!(text, "cuda=");
    assert!(stderr(&output).ends_with(&format!("no GPU is visible: {denied}\n")), "{output:?}");
    let output = rank(&node, ("ruled", 0), ONE, &["--gpu=all", "i", "true"]).output().unwrap();
    assert!(code(&output) == 121 && stderr(&output).contains(denied), "{output:?}");
    node.env.set_site("gpu.default = \"all\"\n");
    let output = rank(&node, ("open", 0), &[], &["i", "sh", "-c", LOOK]).output().unwrap();
    assert_eq!(seen(&output).1, "cuda= nvidia0 nvidia1 nvidiactl caps");
    let said = [("CUDA_VISIBLE_DEVICES", "-1")];
    let output = rank(&node, ("said none", 0), &said, &["i", "sh", "-c", LOOK]).output().unwrap();
    assert_eq!(seen(&output).1, "cuda=-1");
}

/// A group that opens nothing but what it lists decides, as many batch systems and container runtimes have it: by the rules of
/// version 1, or by the program of version 2. Variables count where it holds no GPU.
#[test]
fn a_group_that_opens_little_decides() {
    for version in [Version::V1, Version::V2] {
        let node = Node::new();
        for (gpus, expected) in [
            (&[][..], "caps"),
            (&[0], "nvidia0 nvidiactl caps"),
            (&[1], "nvidia1 nvidiactl caps"),
            (&[0, 1], "nvidia0 nvidiactl caps"),
        ] {
            let group = Held::new(version, gpus);
            for mode in ["N1", "P1", "P2"] {
                let case = format!("{version:?} {gpus:?} {mode}");
                let words = [&format!("--mode={mode}"), "i", "sh", "-c", LOOK];
                let output = held(&group, rank(&node, (&case, 0), ONE, &words)).output().unwrap();
                assert_eq!(seen(&output).1, format!("cuda=0 {expected}"), "{case}");
            }
        }
    }
}

/// Ranks of a node in groups of their own share a container, and each opens its own GPU in it.
#[test]
fn ranks_in_groups_of_their_own_share_a_container() {
    for version in [Version::V1, Version::V2] {
        let node = Node::new();
        let shared = node.shared();
        let mount = format!("--mount={}:/mnt", shared.display());
        let groups = [0, 1].map(|gpu| Held::new(version, &[gpu]));
        let waits = format!("{LOOK}; : >/mnt/ready; read line; true");
        let first = rank(&node, ("s", 0), ONE, &[&mount, "i", "sh", "-c", &waits]);
        let mut first = held(&groups[0], first).stdin(Stdio::piped()).spawn().unwrap();
        until_there(&shared.join("ready"));
        let second = rank(&node, ("s", 1), ONE, &[&mount, "i", "sh", "-c", LOOK]);
        let second = seen(&held(&groups[1], second).output().unwrap());
        // Which of them opens is asked by each.
        let alone = rank(&node, ("s", 2), ONE, &["--share=task", "--gpu=1", "i", "sh", "-c", LOOK]);
        let alone = seen_though_warned(&held(&groups[1], alone).output().unwrap());
        drop(first.stdin.take());
        let first = seen(&ended(first, SOON));
        assert_eq!(first, (second.0, "cuda=0 nvidia0 nvidiactl caps".into()), "{version:?}");
        assert_eq!([second.1, alone.1], ["cuda=0 nvidia1 nvidiactl caps"; 2], "{version:?}");
    }
}

/// What a wish and `--explain` come to there; who wants no GPU has what all have in common covered too.
#[test]
fn a_wish_is_for_what_its_group_opens() {
    for version in [Version::V1, Version::V2] {
        let node = Node::new();
        let group = Held::new(version, &[1]);
        let output = |words: &[&str]| held(&group, rank(&node, ("wish", 0), ONE, words)).output().unwrap();
        for mode in ["N1", "P2"] {
            let mode = format!("--mode={mode}");
            for (wish, expected) in
                [("none", "cuda="), ("1", "cuda=0 nvidia1 nvidiactl caps"), ("all", "cuda=0 nvidia1 nvidiactl caps")]
            {
                let output = output(&[&mode, &format!("--gpu={wish}"), "i", "sh", "-c", LOOK]);
                assert_eq!(seen(&output).1, expected, "{version:?} {mode} {wish}");
            }
        }
        let refused = output(&["--gpu=0", "i", "true"]);
        let error =
            "cannot show GPU 0: it was not granted (the device cgroup)\n  hint: granted: 1; `--gpu=auto` shows them\n";
        assert!(code(&refused) == 125 && stderr(&refused).ends_with(error), "{version:?}: {refused:?}");
        let told = stdout(&output(&["--explain", "i", "true"]));
        let line = told.lines().find(|line| line.trim_start().starts_with("gpu ")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), "gpu 1 of 0,1 default: the device cgroup");
        assert!(!told.contains("covered"), "{told}");
    }
}

/// On its way a run opens no device, and makes none: a group may forbid all. The kernel alone makes one, for a file of the image that
/// is removed, which no group forbids.
#[test]
fn a_run_asks_for_no_device() {
    for version in [Version::V1, Version::V2] {
        let node = Node::new();
        let (group, log) = (Held::new(version, &[]), node.shared().join("log"));
        let script = "rm /bin/cat && [ ! -e /bin/cat ] && exec echo removed";
        let words = ["--write=tmpfs", "i", "sh", "-c", script];
        let output = held(&group, traced(&rank(&node, ("s", 0), &[], &words), &log)).output().unwrap();
        let ended = (code(&output), stdout(&output), stderr(&output));
        assert_eq!(ended, (0, "removed\n".into(), String::new()), "{version:?}");
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("/proc/self/uid_map"), "{version:?}: {text}");
        let asks = |line: &&str| {
            let result = line.rsplit(" = ").next().unwrap_or_default();
            result.contains("<char ") || result.contains("EPERM") || line.contains("mknod")
        };
        assert_eq!(text.lines().filter(asks).collect::<Vec<_>>(), Vec::<&str>::new(), "{version:?}");
    }
}
