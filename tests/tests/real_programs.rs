//! Real programs give the same output, byte by byte, under each engine, and leave the shared root as it was.
#![cfg(target_arch = "x86_64")]

use udocker_tests::engines::{Container, same_in_each_mode};
use udocker_tests::random::trials;

/// Runs a program of the shared root in each mode: once, or as often as `make trials` says.
#[track_caller]
fn same(argv: &[&str], expected: &[&str], status: i32) {
    same_in_each_mode(&Container::shared(), trials(1), argv, expected, status);
}

#[test]
fn listings_and_archives() {
    same(&["bash", "/mnt/tree.sh"], &["unpacked as packed", "copied and removed", "usr/bin/su"], 0);
}

#[test]
fn git() {
    same(&["bash", "/mnt/git.sh"], &["same trees", "commits 12"], 0);
}

#[test]
fn gcc_and_make() {
    let right = "right 4960 children 30";
    same(&["bash", "/mnt/compile.sh", "/mnt"], &[right, "linked 42", "sum 300"], 0);
}

#[test]
fn python() {
    same(&["python3", "/mnt/compute.py"], &["threads 4800", "forkserver 40425", "asyncio 190", "done"], 0);
}

#[test]
fn perl() {
    same(&["perl", "/mnt/walk.pl"], &["pipes 420", "children 10", "system 3, died by 9"], 9);
}

#[test]
fn job_control() {
    same(&["bash", "/mnt/jobs.sh"], &["stopped", "continued", "status 143", "caught", "timeout 137", "sum 36"], 12);
}

#[test]
fn job_control_on_a_terminal() {
    same(&["python3", "/mnt/jobs.py"], &["ended 8"], 0);
}

#[test]
fn go() {
    for program in ["/opt/go/storm", "/opt/go/storm-pie"] {
        let lines = ["goroutines 10000 20", "storm true", "threads 60", "recovered 100"];
        same(&[program], &lines, 0);
    }
}

#[test]
fn java() {
    let script = "javac -d /tmp/classes /mnt/Storm.java && java -Xss512k -cp /tmp/classes Storm";
    same(&["sh", "-c", script], &["right 19328", "by java"], 7);
}

#[test]
fn node() {
    same(&["node", "/mnt/storm.js"], &["workers 2400", "asynchronous 250 250", "children 190", "ended by SIGTERM"], 5);
}

#[test]
fn sqlite() {
    same(&["bash", "/mnt/data.sh"], &["one|20", "two|20", "ok", "40"], 0);
}

#[test]
fn stops_signals_and_failures_of_exec() {
    let lines = [
        "threads execute: 20",
        "stops: seen 21 moved 0 ended 1015",
        "stopped by 20 21, ended 3",
        "interrupted: -1 EINTR",
        "restarted: 1 x 0",
        "exec of 4 MiB: E2BIG",
        "forks 300",
        "status 11",
        "execfn /tmp/link",
    ];
    same(&["bash", "/mnt/hard.sh"], &lines, 21);
}
