//! Ranks of a step on one node: they share a container, whoever comes first, in whatever order they arrive and die.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use udocker_tests::random::{Random, trials};
use udocker_tests::{TestEnv, children, code, is_root, run, stderr, stdout};

/// Tells where it is: the mount namespace, what only the image has, what only the host has.
const WHERE: &str = "readlink /proc/self/ns/mnt; readlink /bin/sh; [ -e /usr/bin/env ] || echo no host";

/// A user with a store, an image `i`, and a run directory that no other test uses.
struct Node {
    env: TestEnv,
    directory: PathBuf,
}

impl Node {
    fn new() -> Self {
        let uid = if is_root() { 200_000 + std::process::id() } else { rustix::process::getuid().as_raw() };
        let mut env = TestEnv::new();
        env.set_uid(is_root().then_some(uid));
        for name in ["home", "store", "work"] {
            env.own_directory(name, 0o700);
        }
        env.import_busybox("i");
        Self { env, directory: format!("/dev/shm/udocker-{uid}").into() }
    }

    /// Rank `rank` of the step `step`, not started.
    fn rank(&self, step: &str, rank: u64, words: &[&str]) -> Command {
        let mut command = self.env.launch(words);
        command.env("PMIX_NAMESPACE", step).env("PMIX_RANK", rank.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, step: &str, rank: u64, words: &[&str]) -> Child {
        self.rank(step, rank, words).spawn().expect("a rank starts")
    }

    /// What a rank prints that runs [`WHERE`], its namespace aside.
    fn inside(&self, output: &Output) -> String {
        assert_eq!((code(output), stderr(output).as_str()), (0, ""));
        let text = stdout(output);
        let (namespace, rest) = text.split_once('\n').expect("lines");
        assert_eq!(rest, "busybox\nno host\n");
        assert_ne!(namespace, fs::read_link("/proc/self/ns/mnt").unwrap().to_str().unwrap());
        namespace.to_owned()
    }

    /// The names that are left after `reap`.
    fn left(&self) -> Vec<String> {
        run(&mut self.env.launch(&["reap"]));
        let names =
            children(&self.directory).into_iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        names.filter(|name| !name.starts_with("namespaces-") && !["tmp", "xdg"].contains(&name.as_str())).collect()
    }

    /// Processes of the node's user.
    fn processes(&self) -> Vec<String> {
        let uid = self.env.uid().unwrap_or(0).to_string();
        let output = Command::new("ps").args(["-o", "pid=,stat=,args=", "-U", &uid]).output().expect("ps of procps");
        stdout(&output).lines().filter(|line| !line.contains(" Z")).map(str::to_owned).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if is_root() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The output of a rank that must end within `limit`.
fn ended(mut child: Child, limit: Duration) -> Output {
    let since = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if since.elapsed() > limit {
            let _ = child.kill();
            panic!("a rank hangs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("output")
}

const SOON: Duration = Duration::from_secs(60);

fn one(namespaces: impl IntoIterator<Item = String>) -> String {
    let all: BTreeSet<String> = namespaces.into_iter().collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().expect("one")
}

#[test]
fn ranks_share_one_container_at_once_and_one_after_the_other() {
    let node = Node::new();
    let script = format!("{WHERE}; sleep 3");
    let words = ["i", "sh", "-c", &script];
    for (step, pause) in [("together", 0), ("apart", 2000 / 64)] {
        let ranks: Vec<Child> = (0..64)
            .map(|rank| {
                std::thread::sleep(Duration::from_millis(pause));
                node.start(step, rank, &words)
            })
            .collect();
        one(ranks.into_iter().map(|rank| node.inside(&ended(rank, SOON))));
    }
    assert_eq!(node.left(), Vec::<String>::new());
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn steps_do_not_meet_and_task_shares_nothing() {
    let node = Node::new();
    let script = format!("{WHERE}; sleep 1");
    let words = ["i", "sh", "-c", &script];
    let steps: Vec<Child> = ["a", "b"].iter().map(|step| node.start(step, 0, &words)).collect();
    let apart: Vec<Child> =
        (0..2).map(|rank| node.start("a", rank, &[&["--share=task"][..], &words].concat())).collect();
    let seen =
        |ranks: Vec<Child>| ranks.into_iter().map(|rank| node.inside(&ended(rank, SOON))).collect::<BTreeSet<_>>();
    let apart: Vec<Output> = apart.into_iter().map(|rank| ended(rank, SOON)).collect();
    let told: Vec<String> = apart.iter().map(stderr).filter(|text| !text.is_empty()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let warning = "] warning: with --share=task MPI ranks cannot read each other's memory (CMA)\n";
    assert!(told[0].ends_with(warning), "{told:?}");
    let apart = apart.into_iter().map(|output| node.inside(&Output { stderr: Vec::new(), ..output })).collect();
    let steps = seen(steps);
    let apart: BTreeSet<String> = apart;
    assert_eq!((steps.len(), apart.len()), (2, 2));
    assert_eq!(steps.union(&apart).count(), 4);
}

#[test]
fn a_container_is_not_started_within_one() {
    let node = Node::new();
    let launcher = node.env.launch(&[]).get_program().to_owned();
    let mount = format!("--mount={}:/bin/udocker-launch", launcher.display());
    let output = node.env.launch(&[&mount, "i", "udocker-launch", "i", "true"]).output().unwrap();
    let id = node.env.only_tree();
    let id = id.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let told = format!(
        "udocker: cannot start a container within a container: this is {} already\n  \
         hint: leave `udocker-launch` and its options away: the command runs inside as it is\n",
        &id[..32]
    );
    assert_eq!((code(&output), stderr(&output)), (125, told));
    // A variable that came along to another machine is none of our container's.
    let output = node.env.launch(&["i", "true"]).env("UDOCKER_INSIDE", "x").output().unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

#[test]
fn commands_environment_and_directory_do_not_split_a_step() {
    let node = Node::new();
    let where_and_sleep = format!("{WHERE}; sleep 1");
    let mut first = node.rank("s", 0, &["i", "sh", "-c", &where_and_sleep]);
    first.env("ONLY", "first");
    let mut second = node.rank(
        "s",
        1,
        &[
            "--workdir=/tmp",
            "--env=A=1",
            "i",
            "sh",
            "-c",
            &format!("{WHERE}; [ $A ] && [ $PWD = /tmp ] && [ ! $ONLY ]"),
        ],
    );
    let first = first.spawn().unwrap();
    let second = second.spawn().unwrap();
    one([first, second].map(|rank| node.inside(&ended(rank, SOON))));
}

/// Their ranks could not read each other's memory, and nobody would know why.
#[test]
fn ranks_whose_mounts_differ_are_told_once_that_they_are_apart() {
    let node = Node::new();
    let script = format!("{WHERE}; sleep 2");
    let plain = ["i", "sh", "-c", &script];
    let other = [&["--mount=/etc:/mnt"][..], &plain].concat();
    let ranks: Vec<Child> =
        (0..8).map(|rank| node.start("s", rank, if rank % 4 == 3 { &other } else { &plain })).collect();
    let outputs: Vec<Output> = ranks.into_iter().map(|rank| ended(rank, SOON)).collect();
    let told: Vec<String> = outputs.iter().map(stderr).filter(|text| !text.is_empty()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let text = "] the tasks of this node run in several containers, since their images, mounts, users or modes differ (a working \
                directory of its own is a mount): MPI ranks of one cannot read the memory of the other\n";
    assert!(told[0].ends_with(text), "{told:?}");
    let namespaces = |apart: bool| {
        let those = outputs.iter().enumerate().filter(|(rank, _)| (rank % 4 == 3) == apart);
        one(those.map(|(_, output)| stdout(output)))
    };
    assert_ne!(namespaces(true), namespaces(false));
    // Who comes when they have ended is alone.
    assert_eq!(stderr(&ended(node.start("s", 8, &["i", "true"]), SOON)), "");
}

/// MPICH's mpirun names no step: its ranks have the parent in common, or the parent's parent where each has a script.
#[test]
fn ranks_of_one_process_manager_share_whatever_stands_between() {
    let node = Node::new();
    let launcher = node.env.launch(&[]).get_program().to_str().unwrap().to_owned();
    let rank = format!("'{launcher}' i sh -c '{WHERE}; sleep 1'");
    let manager = |ranks: &str| {
        let mut command = node.env.launch(&[]);
        let script = format!("{ranks} wait");
        let mut manager = Command::new("setpriv");
        let uid = node.env.uid().unwrap_or_else(|| rustix::process::getuid().as_raw());
        manager.args([
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            "--clear-groups".into(),
            "sh".into(),
            "-c".into(),
            script,
        ]);
        manager
            .env_clear()
            .envs(command.stdin(Stdio::null()).get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = run(manager.current_dir("/"));
        let text = stdout(&output);
        text.lines().filter(|line| line.starts_with("mnt:")).map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = format!("PMI_RANK=0 {rank} & PMI_RANK=1 {rank} & ");
    let script = |number: u32| format!("PMI_RANK={number} sh -c \"{rank}; true\" & ");
    let wrapped = script(0) + &script(1);
    let (first, second) = (manager(&plain), manager(&wrapped));
    assert_eq!((first.len(), second.len()), (2, 2));
    one(first);
    one(second);
}

#[test]
fn others_go_on_and_join_when_the_first_has_ended() {
    let node = Node::new();
    let long = format!("{WHERE}; sleep 3");
    let first = node.start("s", 0, &["i", "sh", "-c", WHERE]);
    let second = node.start("s", 1, &["i", "sh", "-c", &long]);
    let first = node.inside(&ended(first, SOON));
    std::thread::sleep(Duration::from_millis(500));
    let third = node.inside(&ended(node.start("s", 2, &["i", "sh", "-c", WHERE]), SOON));
    let second = node.inside(&ended(second, SOON));
    assert_eq!(third, second);
    // The first may have ended before the second came.
    let _ = first;
}

#[test]
fn a_nested_namespace_of_the_first_is_not_joined() {
    let node = Node::new();
    let script = format!("{WHERE}; exec busybox unshare -Ur sleep 2");
    let first = node.start("s", 0, &["i", "sh", "-c", &script]);
    std::thread::sleep(Duration::from_millis(700));
    let both = format!("{WHERE}; readlink /proc/self/ns/user >&2");
    let second = ended(node.start("s", 1, &["i", "sh", "-c", &both]), SOON);
    let nested = fs::read_link(format!("/proc/{}/ns/user", first.id())).unwrap();
    assert!(stderr(&second).starts_with("user:["), "{second:?}");
    assert_ne!(stderr(&second).trim(), nested.to_str().unwrap());
    let second = node.inside(&Output { stderr: Vec::new(), ..second });
    assert_eq!(node.inside(&ended(first, SOON)), second);
}

/// Of a program that its user may execute and not read, the kernel shows no namespaces.
#[test]
fn ranks_of_an_unreadable_program_share_a_container() {
    assert!(is_root(), "only root can make a program that its user may not read");
    let node = Node::new();
    let program = node.env.path("programs-0711");
    fs::create_dir(&program).unwrap();
    let program = program.join("busybox");
    fs::copy("/bin/busybox", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).unwrap();
    chown(&program, Some(0), Some(0)).unwrap();
    let mount = format!("--mount={}:/bin/busybox-hidden:ro", program.display());
    let script = format!("{WHERE}; sleep 2");
    let ranks: Vec<Child> =
        (0..4).map(|rank| node.start("s", rank, &[&mount, "i", "/bin/busybox-hidden", "sh", "-c", &script])).collect();
    std::thread::sleep(Duration::from_millis(700));
    let late = node.start("s", 9, &[&mount, "i", "sh", "-c", WHERE]);
    one(ranks.into_iter().chain([late]).map(|rank| node.inside(&ended(rank, SOON))));
    let since = Instant::now();
    while !node.processes().is_empty() {
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", node.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(node.left(), Vec::<String>::new());
}

/// Whenever the first rank is killed, the others run in one container, soon, and nothing stays.
#[test]
fn a_killed_rank_holds_nobody_up() {
    let node = Node::new();
    let mut random = Random::new(6);
    let script = format!("{WHERE}; sleep 0.3");
    let words = ["i", "sh", "-c", &script];
    // So long does a rank take to its program here.
    let since = Instant::now();
    node.inside(&ended(node.start("measure", 0, &["i", "sh", "-c", WHERE]), SOON));
    let whole = since.elapsed();
    for trial in 0..trials(10) * 2 {
        let step = format!("killed {trial}");
        let mut first = node.start(&step, 0, &words);
        let mut others = Vec::new();
        let early = random.below(3);
        others.extend((0..early).map(|rank| node.start(&step, rank + 1, &words)));
        std::thread::sleep(whole.mul_f64(random.below(1000) as f64 / 800.0));
        first.kill().unwrap();
        first.wait().unwrap();
        others.extend((early..4).map(|rank| node.start(&step, rank + 1, &words)));
        one(others.into_iter().map(|rank| node.inside(&ended(rank, Duration::from_secs(5) + whole * 8))));
    }
    assert_eq!(node.left(), Vec::<String>::new());
    assert_eq!(node.processes(), Vec::<String>::new());
}

#[test]
fn a_failure_of_all_ranks_is_told_by_one() {
    let node = Node::new();
    let words = ["--mount=/nothere:/mnt", "i", "true"];
    let ranks: Vec<Child> = (0..16).map(|rank| node.start("s", rank, &words)).collect();
    let outputs: Vec<Output> = ranks.into_iter().map(|rank| ended(rank, SOON)).collect();
    assert!(outputs.iter().all(|output| code(output) == 125), "{outputs:?}");
    let texts: Vec<String> = outputs.iter().map(stderr).filter(|text| !text.is_empty()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    let node_name = run(Command::new("hostname").arg("-s"));
    let prefix = format!("udocker: [{} task ", stdout(&node_name).trim());
    let text = texts[0].strip_prefix(&prefix).unwrap_or_else(|| panic!("{texts:?}"));
    let (rank, text) = text.split_once("] ").unwrap();
    assert!(rank.parse::<u64>().is_ok_and(|rank| rank < 16), "{rank}");
    assert_eq!(
        text,
        "cannot open the mount's source `/nothere` (from --mount)\n  caused by: No such file or directory (os error 2)\n  \
         hint: the source of a volume must exist on this host; `optional` passes it over, `create` makes it\n"
    );
    // Two runs by hand have two voices.
    for _ in 0..2 {
        let output = node.env.launch(&words).output().unwrap();
        assert!(stderr(&output).starts_with("udocker: cannot open"), "{output:?}");
    }
}

#[test]
fn a_tag_that_moves_does_not_split_a_step() {
    let node = Node::new();
    let first = node.start("s", 0, &["i", "sh", "-c", &format!("{WHERE}; sleep 2")]);
    std::thread::sleep(Duration::from_millis(700));
    let root = node.env.path("root");
    fs::write(root.join("new"), "").unwrap();
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(node.env.path("new.tar")).arg("."));
    run(&mut node.env.udocker(&["rmi", "-f", "i"]));
    run(&mut node.env.udocker(&["import", node.env.path("new.tar").to_str().unwrap(), "i"]));
    let is_new = format!("{WHERE}; [ ! -e /new ]");
    let second = node.start("s", 1, &["i", "sh", "-c", &is_new]);
    one([first, second].map(|rank| node.inside(&ended(rank, SOON))));
    let other = ended(node.start("t", 0, &["i", "sh", "-c", "[ -e /new ]"]), SOON);
    assert_eq!((code(&other), stderr(&other).as_str()), (0, ""));
}

#[test]
fn later_ranks_touch_no_store() {
    let node = Node::new();
    let first = node.start("s", 0, &["i", "sh", "-c", &format!("{WHERE}; sleep 2")]);
    std::thread::sleep(Duration::from_millis(700));
    fs::set_permissions(node.env.store(), fs::Permissions::from_mode(0o000)).unwrap();
    let second = ended(node.start("s", 1, &["i", "sh", "-c", WHERE]), SOON);
    fs::set_permissions(node.env.store(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(node.inside(&second), node.inside(&ended(first, SOON)));
}

#[test]
fn a_rank_that_waits_tells_for_what() {
    let node = Node::new();
    node.inside(&ended(node.start("s", 0, &["i", "sh", "-c", WHERE]), SOON));
    let list = children(&node.directory)
        .into_iter()
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("step-"));
    let list = fs::File::open(list.expect("the step's list")).unwrap();
    rustix::fs::flock(&list, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let ranks: Vec<Child> = (0..2).map(|rank| node.start("s", rank, &["i", "sh", "-c", WHERE])).collect();
    std::thread::sleep(Duration::from_secs(6));
    drop(list);
    let outputs: Vec<Output> = ranks.into_iter().map(|rank| ended(rank, SOON)).collect();
    let told: Vec<String> = outputs.iter().map(stderr).filter(|text| !text.is_empty()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("] waiting for the task of this node that makes the container\n"), "{told:?}");
    one(outputs.into_iter().map(|output| node.inside(&Output { stderr: Vec::new(), ..output })));
}

#[test]
fn further_namespaces_are_shared_as_well() {
    let node = Node::new();
    let script = "for kind in net uts ipc mnt; do readlink /proc/self/ns/$kind; done; cat /proc/net/dev | busybox grep -c :; sleep 1";
    let words = ["--unshare=net,uts", "--unshare=ipc", "i", "sh", "-c", script];
    let ranks: Vec<Child> = (0..3).map(|rank| node.start("s", rank, &words)).collect();
    let outputs = ranks.into_iter().map(|rank| ended(rank, SOON)).map(|output| {
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
        stdout(&output)
    });
    let all = one(outputs);
    let lines: Vec<&str> = all.lines().collect();
    for (kind, line) in ["net", "uts", "ipc", "mnt"].iter().zip(&lines) {
        assert_ne!(fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str(), Some(*line));
    }
    assert_eq!(lines[4], "1", "loopback alone");
    let up = ended(
        node.start(
            "t",
            0,
            &["--unshare=net", "i", "sh", "-c", "busybox ping -c 1 -w 2 127.0.0.1 >/dev/null; busybox ip link show lo"],
        ),
        SOON,
    );
    assert!(stdout(&up).contains(",UP"), "{up:?}");
    for (words, text) in [
        (&["--unshare=user", "i", "true"][..], "cannot read the namespaces `user`: expected some of pid,net,ipc,uts"),
        (
            &["--unshare=net", "--mode=P2", "i", "true"],
            "cannot make a net namespace in mode P2: only mode N1 makes namespaces",
        ),
        (&["--share=rank", "i", "true"], "cannot read who shares a container from `rank`: expected node or task"),
    ] {
        let output = node.env.launch(words).output().unwrap();
        assert!(stderr(&output).starts_with(&format!("udocker: {text}\n")), "{output:?}");
    }
}
