//! Ranks of a step on one node: they share a container, whoever comes first, in whatever order they arrive and die.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use udocker_tests::images::Kind;
use udocker_tests::node::{Node, SOON, WHERE, ended, one, until_it_is};
use udocker_tests::random::{Random, trials};
use udocker_tests::{Fault, FaultProxy, Registry, children, code, is_root, run, stderr, stdout};

#[test]
fn ranks_share_one_container_at_once_and_one_after_the_other() {
    let node = Node::new();
    let script = format!("{WHERE}; sleep 5");
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
    let shared = node.shared();
    let mount = format!("--mount={}:/mnt", shared.display());
    // The second comes while the first is there, and outlives it.
    let short = format!("{WHERE}; until [ -e /mnt/second ]; do sleep 0.05; done");
    let long = format!("{WHERE}; touch /mnt/second; until [ -e /mnt/third ]; do sleep 0.05; done");
    let first = node.start("s", 0, &[&mount, "i", "sh", "-c", &short]);
    let second = node.start("s", 1, &[&mount, "i", "sh", "-c", &long]);
    let first = node.inside(&ended(first, SOON));
    let third = node.start("s", 2, &[&mount, "i", "sh", "-c", &format!("{WHERE}; touch /mnt/third")]);
    one([first, node.inside(&ended(second, SOON)), node.inside(&ended(third, SOON))]);
}

/// Who joins is in the container's list alone, and that counts.
#[test]
fn an_image_is_spared_while_one_who_joined_runs_it() {
    let node = Node::new();
    let mount = format!("--mount={}:/mnt", node.shared().display());
    let short = "until [ -e /mnt/second ]; do sleep 0.05; done";
    let long =
        "touch /mnt/second; until [ -e /mnt/go ]; do sleep 0.05; done; cat /bin/busybox > /dev/null && echo whole";
    let first = node.start("s", 0, &[&mount, "i", "sh", "-c", short]);
    let second = node.start("s", 1, &[&mount, "i", "sh", "-c", long]);
    assert_eq!(code(&ended(first, SOON)), 0);
    run(&mut node.env.udocker(&["rmi", "i"]));
    assert_eq!(node.env.trees().len(), 1);
    fs::write(node.shared().join("go"), "").unwrap();
    assert_eq!(stdout(&ended(second, SOON)), "whole\n");
    node.env.import_busybox("i");
    run(&mut node.env.udocker(&["rmi", "i"]));
    assert_eq!(node.env.trees().len(), 0);
}

#[test]
fn a_nested_namespace_of_the_first_is_not_joined() {
    let node = Node::new();
    let script = format!("{WHERE}; exec busybox unshare -Ur sleep 9");
    let first = node.start("s", 0, &["i", "sh", "-c", &script]);
    until_it_is(&first, "sleep");
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
    ranks.iter().for_each(|rank| until_it_is(rank, "sleep"));
    let late = node.start("s", 9, &[&mount, "i", "sh", "-c", WHERE]);
    one(ranks.into_iter().chain([late]).map(|rank| node.inside(&ended(rank, SOON))));
    let since = Instant::now();
    while !node.processes().is_empty() {
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", node.processes());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(node.left(), Vec::<String>::new());
}

/// How strace is told to kill at a line of a trace: by the call's name, and how many of that name there were.
fn kill_at(calls: &str, line: u64) -> String {
    let names: Vec<&str> = calls.lines().take(line as usize).filter_map(|line| Some(line.split_once('(')?.0)).collect();
    let name = names.last().expect("a call");
    format!("inject={name}:signal=KILL:when={}", names.iter().filter(|other| *other == name).count())
}

/// Whenever the first rank is killed, the others run in one container, soon, and nothing stays. It is killed at a system call:
/// in half of the trials before it has put itself on the list.
#[test]
fn a_killed_rank_holds_nobody_up() {
    let node = Node::new();
    let mut random = Random::new(6);
    let mount = format!("--mount={}:/mnt", node.shared().display());
    // They wait for each other, so that each finds somebody.
    let all = [1, 2, 3, 4].map(|rank| format!("[ -e \"/mnt/$0.{rank}\" ]")).join(" && ");
    let script = format!("{WHERE}; touch \"/mnt/$0.$PMIX_RANK\"; until {all}; do sleep 0.05; done");
    let steps: Vec<String> = (0..trials(10) * 2).map(|trial| format!("killed {trial}")).collect();
    let words = |step| [mount.as_str(), "i", "sh", "-c", &script, step];
    let traced = |step: &str, options: &[&str], words: &[&str]| {
        let mut command = node.behind(&[&["strace"], options].concat(), &node.rank(step, 0, words));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace")
    };
    let trace = node.shared().join("trace");
    // The very first one asks the kernel more than those after it.
    for step in ["cold", "warm"] {
        ended(traced(step, &["-o", trace.to_str().unwrap()], &[&mount, "i", "sh", "-c", "true"]), SOON);
    }
    // How much memory is asked for differs from run to run.
    let calls = fs::read_to_string(&trace).expect("a trace");
    let is_memory = |line: &&str| ["mmap(", "munmap(", "mremap(", "brk("].iter().any(|name| line.starts_with(name));
    let calls: String = calls.lines().filter(|line| !is_memory(line)).flat_map(|line| [line, "\n"]).collect();
    let last = |name: &str| calls.lines().rev().skip_while(|line| !line.starts_with(name)).count() as u64;
    let (listed, executed) = (last("pwrite64("), last("execve(\"/bin/sh\""));
    assert!(1 < listed && listed < executed, "{calls}");
    let (mut early_deaths, mut late_deaths) = (0, 0);
    for (trial, step) in steps.iter().enumerate() {
        let at = match trial % 2 {
            0 => 1 + random.below(listed - 1),
            _ => listed + 1 + random.below(executed - listed - 1),
        };
        let mut first = traced(step, &["-o", "/dev/null", "-e", &kill_at(&calls, at)], &words(step));
        let early = random.below(3) * (trial as u64 % 2);
        let mut others: Vec<Child> = (0..early).map(|rank| node.start(step, rank + 1, &words(step))).collect();
        // One that joins, or is asked for less, makes fewer calls and comes to its program.
        let arrived = node.shared().join(format!("{step}.0"));
        while first.try_wait().unwrap().is_none() && !arrived.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !arrived.exists() {
            *(if at <= listed { &mut early_deaths } else { &mut late_deaths }) += 1;
        }
        others.extend((early..4).map(|rank| node.start(step, rank + 1, &words(step))));
        one(others.into_iter().map(|rank| node.inside(&ended(rank, Duration::from_secs(10)))));
        ended(first, SOON);
    }
    assert!(early_deaths >= 5 && late_deaths >= 5, "{early_deaths} and {late_deaths} were killed");
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
    until_it_is(&first, "sleep");
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
    until_it_is(&first, "sleep");
    fs::set_permissions(node.env.store(), fs::Permissions::from_mode(0o000)).unwrap();
    let second = ended(node.start("s", 1, &["i", "sh", "-c", WHERE]), SOON);
    fs::set_permissions(node.env.store(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(node.inside(&second), node.inside(&ended(first, SOON)));
}

#[test]
fn a_rank_that_waits_tells_for_what() {
    let node = Node::new();
    node.inside(&ended(node.start("s", 0, &["i", "sh", "-c", WHERE]), SOON));
    let list = children(node.directory())
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

/// The kernel shows such a process's namespaces by its other threads alone.
#[test]
fn a_rank_whose_first_thread_has_ended_is_joined() {
    let node = Node::new();
    let source = node.shared().join("threads.c");
    let text = "#include <pthread.h>\n#include <unistd.h>\nstatic void *rest(void *a) { sleep(3); _exit(0); return a; }\n\
                int main(void) { pthread_t t; pthread_create(&t, 0, rest, 0); pthread_exit(0); }\n";
    fs::write(&source, text).unwrap();
    let program = node.shared().join("threads");
    run(Command::new("gcc").args(["-static", "-pthread", "-o"]).arg(&program).arg(&source));
    let mount = format!("--mount={}:/mnt", node.shared().display());
    let first = node.start("s", 0, &[&mount, "i", "/mnt/threads"]);
    std::thread::sleep(Duration::from_millis(700));
    let namespace = fs::read_dir(format!("/proc/{}/task", first.id())).unwrap().flatten();
    let namespace = namespace.filter_map(|task| fs::read_link(task.path().join("ns/mnt")).ok()).next().unwrap();
    let second = node.inside(&ended(node.start("s", 1, &[&mount, "i", "sh", "-c", WHERE]), SOON));
    assert_eq!(second, namespace.to_str().unwrap());
    assert_eq!(code(&ended(first, SOON)), 0);
}

/// A program behind a script of an interpreter that may be executed and not read is out of reach as well.
#[test]
fn ranks_of_a_script_of_an_unreadable_interpreter_share_a_container() {
    assert!(is_root(), "only root can make a program that its user may not read");
    let node = Node::new();
    let program = node.env.path("busybox-0711");
    fs::copy("/bin/busybox", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).unwrap();
    let script = node.shared().join("script");
    fs::write(&script, format!("#!/bin/busybox-hidden sh\n{WHERE}; sleep 2\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mounts = [
        format!("--mount={}:/bin/busybox-hidden:ro", program.display()),
        format!("--mount={}:/script", script.display()),
    ];
    let ranks: Vec<Child> =
        (0..3).map(|rank| node.start("s", rank, &[&mounts[0], &mounts[1], "i", "/script"])).collect();
    one(ranks.into_iter().map(|rank| node.inside(&ended(rank, SOON))));
}

/// Whoever kills a rank that gets an image ends the getting.
#[test]
fn an_image_that_takes_too_long_ends_all_ranks_in_time() {
    let node = Node::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/x:latest", silent.local_addr().unwrap());
    let since = Instant::now();
    let ranks: Vec<Child> = (0..4).map(|rank| node.start("s", rank, &["--timeout=3s", &image, "true"])).collect();
    let outputs: Vec<Output> = ranks.into_iter().map(|rank| ended(rank, SOON)).collect();
    assert!((3..6).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    assert_eq!(outputs.iter().map(code).collect::<Vec<_>>(), [124; 4]);
    // Each of the two is told by one rank for all; nobody else says anything.
    let late = format!("cannot get image {image}: it took longer than 3 s and was ended");
    let waited = format!("cannot wait for image {image}: another task of this node has been getting it for 3 s");
    let told: Vec<String> = outputs.iter().map(stderr).filter(|text| !text.is_empty()).collect();
    assert!(told.iter().any(|text| text.contains(&late)), "{told:?}");
    assert!(told.iter().all(|text| text.contains(&late) || text.contains(&waited)), "{told:?}");
    assert_eq!((node.processes(), node.left()), (Vec::new(), Vec::<String>::new()));
}

#[test]
fn a_rank_that_is_killed_while_it_gets_an_image_leaves_nothing() {
    let node = Node::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/x", silent.local_addr().unwrap());
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mut rank = node.start("s", 0, &[&image, "true"]);
        let (_connection, _) = silent.accept().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&rank),
            rustix::process::Signal::from_named_raw(signal).unwrap(),
        )
        .unwrap();
        rank.wait().unwrap();
        let since = Instant::now();
        while !node.processes().is_empty() {
            assert!(since.elapsed() < Duration::from_secs(5), "{:?}", node.processes());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(node.left(), Vec::<String>::new());
    }
}

/// Starts 48 ranks at once, of which one tries to get the image for all, and fails: which one.
fn failing_together(node: &Node, step: &str, reference: &str) -> u64 {
    let ranks: Vec<Child> = (0..48).map(|rank| node.start(step, rank, &[reference, "true"])).collect();
    let (mut told, mut tried) = (String::new(), Vec::new());
    for (rank, child) in ranks.into_iter().enumerate() {
        let output = ended(child, SOON);
        assert_eq!(code(&output), 122, "rank {rank}: {output:?}");
        let text = stderr(&output);
        tried.extend(text.contains("Error: cannot pull ").then_some(rank as u64));
        told.push_str(&text);
    }
    let own = format!(
        "cannot get image {reference}: `udocker stage` ended with status 1\n  hint: the lines above are its own\n"
    );
    assert_eq!((tried.len(), told.matches(&own).count()), (1, 1), "{tried:?} {told}");
    assert_eq!((told.matches("Error: ").count(), told.matches("udocker: ").count()), (1, 1), "{told}");
    tried[0]
}

/// Each rank of a node would wait for the same registry, one after the other.
#[test]
fn an_image_that_cannot_be_had_is_tried_by_one_rank_for_all() {
    let mut node = Node::new();
    failing_together(&node, "closed", "localhost:1/x:1");
    node.env.set_site("[registries]\nretries = 1\n");
    let registry = Registry::start(&node.env);
    let tag = registry.serve(Kind::Multi);
    let proxy = FaultProxy::start(&registry.host, 1);
    let reference = tag.replace(&registry.host, &proxy.host);
    let body = Vec::new();
    proxy.add("/v2/", 2, Fault::Answer { status: "503 Service Unavailable", headers: Vec::new(), body });
    let first = failing_together(&node, "s", &reference);
    assert_eq!(proxy.requests().len(), 2, "{:?}", proxy.requests());
    // Who comes in that moment fails as well, and says nothing.
    let rank = |rank| ended(node.start("s", rank, &[&reference, "cat", "/etc/arch"]), SOON);
    let output = rank(48);
    assert_eq!((code(&output), stderr(&output).as_str(), proxy.requests().len()), (122, "", 2));
    // Who has tried tries again, and what he gets is there for all.
    for rank in [first, 48].map(rank) {
        assert_eq!((code(&rank), stdout(&rank).as_str()), (0, "amd64\n"), "{rank:?}");
    }
    assert_eq!(node.left(), Vec::<String>::new());
}

/// The run directory of a node, on a disk of its own.
struct Full<'a>(&'a Node);

impl Full<'_> {
    fn new(node: &Node) -> Full<'_> {
        let uid = node.env.uid().unwrap();
        let options = format!("size=4k,mode=0700,uid={uid},gid={uid}");
        fs::create_dir_all(node.directory()).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(node.directory()));
        fs::write(node.directory().join("full"), [0; 4096]).unwrap();
        Full(node)
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.0.directory()));
    }
}

/// Whose turn it is to speak cannot be written down either.
#[test]
fn a_full_run_directory_is_told() {
    let node = Node::new();
    let full = Full::new(&node);
    let output = ended(node.start("s", 0, &["i", "true"]), SOON);
    let told = stderr(&output);
    assert_eq!((code(&output), told.matches("udocker: ").count()), (125, 1), "{told}");
    assert!(told.contains("\n  caused by: No space left on device (os error 28)\n"), "{told}");
    let said = children(node.directory()).into_iter().filter(|path| path.to_str().unwrap().contains("/said-")).count();
    assert_eq!(said, 0);
    let ranks: Vec<Child> = (0..8).map(|rank| node.start("s", rank, &["i", "true"])).collect();
    let outputs: Vec<Output> = ranks.into_iter().map(|rank| ended(rank, SOON)).collect();
    assert!(outputs.iter().all(|output| code(output) == 125), "{outputs:?}");
    assert!(outputs.iter().any(|output| stderr(output).contains("No space left")), "{outputs:?}");
    drop(full);
}

#[test]
fn a_directory_that_may_not_be_entered_is_told_once() {
    let node = Node::new();
    let closed = node.env.own_directory("closed", 0);
    let closed = closed.to_str().unwrap();
    for (image, text) in [
        (
            closed,
            format!(
                "cannot run {closed}: it is no directory with a root file system\n  \
                 caused by: Permission denied (os error 13)\n  hint: `namei -l PATH` shows who may enter it\n"
            ),
        ),
        (
            "/",
            "cannot run /: it is this machine's own root\n  \
             hint: leave the image away: without a container a command runs there\n"
                .to_owned(),
        ),
    ] {
        let ranks: Vec<Child> = (0..8).map(|rank| node.start("s", rank, &[image, "sh", "-c", "true"])).collect();
        let outputs: Vec<Output> = ranks.into_iter().map(|rank| ended(rank, SOON)).collect();
        assert!(outputs.iter().all(|output| code(output) == 122), "{outputs:?}");
        let told: Vec<String> = outputs.iter().map(stderr).filter(|told| !told.is_empty()).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("udocker: [") && told[0].ends_with(&format!("] {text}")), "{told:?}");
    }
}

#[test]
fn a_umask_that_forbids_all_is_in_nobody_s_way() {
    let node = Node::new();
    for umask in ["0777", "0377"] {
        // What else uses it may have made it.
        let _ = fs::remove_dir_all(node.directory());
        let script = format!("umask {umask}; exec \"$@\"");
        let start = |rank| {
            let mut command =
                node.behind(&["sh", "-c", &script, "sh"], &node.rank("s", rank, &["i", "sh", "-c", "umask; sleep 1"]));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let ranks: Vec<Child> = (0..8).map(start).collect();
        for output in ranks.into_iter().map(|rank| ended(rank, SOON)) {
            assert_eq!((code(&output), stdout(&output), stderr(&output)), (0, format!("{umask}\n"), String::new()));
        }
        // What was made under it and that nobody has opened since.
        run(node.behind(&["sh", "-c", &script, "sh"], &node.rank("t", 0, &["i", "true"])).current_dir("/"));
        assert_eq!(node.left(), Vec::<String>::new(), "{umask}");
    }
}
