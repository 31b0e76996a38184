//! What `udocker-launch` itself asks of the file system that holds the store, told by strace: a shared file system's server
//! answers each of these, for every node or for every rank of a job.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use udocker_tests::node::{Node, SOON, ended};
use udocker_tests::run;

const STRACE: [&str; 8] = ["strace", "-f", "-y", "-s", "4096", "-e", "trace=%file,%desc,setns", "-o"];

/// Rank `rank` of the step `step`, under strace, not started.
fn traced(node: &Node, step: &str, rank: u64, log: &Path, words: &[&str]) -> Command {
    let log = log.to_str().unwrap();
    node.behind(&[&STRACE[..], &[log]].concat(), &node.rank(step, rank, words))
}

/// The calls of the launcher, each as `NAME(…`: those before the last execve, which makes it the program.
fn launcher_s(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let calls: Vec<String> = text.lines().map(|line| line.split_once(' ').unwrap().1.trim().to_owned()).collect();
    let last = calls.iter().rposition(|call| call.starts_with("execve(") && call.ends_with("= 0")).unwrap();
    calls[1..last].to_vec()
}

fn name(call: &str) -> &str {
    call.split('(').next().unwrap()
}

/// Whether a server is asked by it: data and what is done to a descriptor alone are not metadata.
fn is_metadata(call: &str) -> bool {
    !["read", "write", "close", "fcntl", "lseek", "mmap", "pread64", "pwrite64"].contains(&name(call))
}

/// What is asked of the store: what names it or something in it, by a path or by a descriptor.
fn on_store<'a>(calls: &'a [String], store: &Path) -> Vec<&'a str> {
    let store = store.to_str().unwrap();
    calls.iter().map(String::as_str).filter(|call| is_metadata(call) && call.contains(store)).collect()
}

/// The calls of the first rank of `step`, and those of a second one that joins its container.
fn pair(node: &Node, step: &str) -> (Vec<String>, Vec<String>) {
    let logs = node.shared();
    let log = |name: &str| logs.join(format!("{name}-{step}"));
    let mount = format!("--mount={}:/mnt", logs.display());
    let script = format!("touch /mnt/ready-{step}; read line");
    let mut first = traced(node, step, 0, &log("first"), &[&mount, "i", "sh", "-c", &script]);
    let mut first = first.stdin(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while !log("ready").exists() {
        assert!(since.elapsed() < SOON, "the first rank does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = traced(node, step, 1, &log("second"), &[&mount, "i", "/bin/true"]).spawn().unwrap();
    let second = ended(second, SOON);
    assert!(second.status.success(), "{second:?}");
    drop(first.stdin.take());
    ended(first, SOON);
    (launcher_s(&log("first")), launcher_s(&log("second")))
}

#[test]
fn a_node_s_first_rank_asks_a_constant_number_of_times_and_further_ranks_never() {
    let node = Node::new();
    let store = node.env.store();
    let mut counts = Vec::new();
    for size in [1, 12] {
        for number in 1..size {
            run(&mut node.env.udocker(&["tag", "i:latest", &format!("i:{number}")]));
        }
        let (first, second) = pair(&node, &format!("s{size}"));
        assert_eq!(on_store(&second, &store), Vec::<&str>::new());
        // Inside, where the root is the store's, it goes to its working directory and looks at the program.
        let inside = second.iter().rposition(|call| name(call) == "setns").expect("it joins");
        let asked = second[inside + 1..].iter().filter(|call| is_metadata(call) && call.contains('"'));
        let asked: Vec<&str> = asked.map(|call| name(call)).collect();
        assert_eq!(asked, ["chdir", "faccessat", "openat"]);

        let is_left = |call: &String| name(call) == "write" && call.contains("udocker-step-image");
        let found = first.iter().position(is_left).expect("it leaves what it found");
        let found: Vec<String> = on_store(&first[..found], &store).into_iter().map(|call| name(call).into()).collect();
        counts.push((found, on_store(&first, &store).len()));
    }
    assert_eq!(counts[0], counts[1], "it does not depend on what else is in the store");
    let finding = [
        "openat", "openat", "statx", "readlink", "openat", "openat", "statx", "statx", "statx", "open", "openat2",
        "open", "statx", "openat2", "open", "statx",
    ];
    assert_eq!(counts[0].0, finding);
}

/// Whoever has settings of his own has each rank read them, and nothing else.
#[test]
fn a_user_s_settings_are_read_by_each_rank() {
    let node = Node::new();
    let store = node.env.store();
    let conf = store.join("udocker.conf");
    fs::write(&conf, "[DEFAULT]\nverbose_level = 3\n").unwrap();
    std::os::unix::fs::chown(&conf, node.env.uid(), node.env.uid()).unwrap();
    let (_, second) = pair(&node, "s");
    let asked = on_store(&second, &store);
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|call| call.contains("udocker.conf")), "{asked:?}");
}
