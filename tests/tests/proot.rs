//! A PRoot that the site names carries out P1 and P2: Debian 12's 5.1.0, and a newer one whose default runs on the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use udocker_tests::{TestEnv, children, code, images, run, stderr, stdout};

const VARIABLE: &str = "UDOCKER_USE_PROOT_EXECUTABLE";

/// Of the package proot, which tests/setup.sh installs.
const DEBIAN_12: &str = "/usr/bin/proot";

/// A container of its own root, whose user is the tester's ordinary one.
fn container() -> TestEnv {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    run(&mut env.udocker(&["create", "--name=c", "bb:1"]));
    run(&mut env.udocker(&["setup", "--execmode=P1", "c"]));
    env
}

fn udocker(env: &TestEnv, proot: &Path, words: &[&str]) -> Output {
    env.udocker(words).env(VARIABLE, proot).output().unwrap()
}

/// A script that starts the newer PRoot with its own libraries.
fn newer(env: &TestEnv) -> PathBuf {
    let root = images::newer_proot();
    let script = env.path("proot-5.4");
    let loader = root.join("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let proot = root.join("usr/bin/proot");
    let text = format!(
        "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
        loader.display(),
        libraries.display(),
        proot.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn programs_run_in_the_container_whatever_the_build_does_by_default() {
    let env = container();
    for proot in [PathBuf::from(DEBIAN_12), newer(&env)] {
        for mode in ["--mode=P1", "--mode=P2"] {
            let script = "id -u; pwd; echo $A; ls /; cat /data/file; test -e /etc/debian_version; echo $?; exit 7";
            let data = env.path("work");
            fs::write(data.join("file"), "shown\n").unwrap();
            let volume = format!("{}:/data", data.display());
            let words = ["run", mode, "-v", &volume, "-e", "A=b", "-w", "/etc", "c", "sh", "-c", script];
            let output = udocker(&env, &proot, &words);
            // It shows a directory for a mount point that is not there.
            let expected = "0\n/etc\nb\nbin\ndata\ndev\netc\nproc\nroot\nsys\ntmp\nshown\n1\n";
            assert_eq!((stdout(&output), stderr(&output)), (expected.into(), String::new()), "{mode}");
            assert_eq!(code(&output), 7);
        }
    }
}

#[test]
fn newer_calls_do_not_reach_the_host() {
    let env = container();
    let source = env.path("calls.c");
    fs::write(&source, CALLS).unwrap();
    let id = children(&env.store().join("containers")).into_iter().find(|path| path.join("ROOT").is_dir()).unwrap();
    run(Command::new("gcc").args(["-static", "-O1", "-o"]).arg(id.join("ROOT/bin/calls")).arg(&source));
    for proot in [PathBuf::from(DEBIAN_12), newer(&env)] {
        let output = udocker(&env, &proot, &["run", "--mode=P2", "c", "calls"]);
        assert_eq!((stdout(&output), stderr(&output)), ("0 wrong\n".into(), String::new()), "{}", proot.display());
    }
}

/// Looks for a file of the host by calls that PRoot lets through.
const CALLS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
int main(void) {
    const char *host = "/etc/debian_version", *guest = "/bin/busybox";
    char buffer[256];
    unsigned long how[3] = {0, 0, 0};
    int wrong = 0;
    wrong += syscall(SYS_statx, AT_FDCWD, host, 0, 0x7ff, buffer) == 0;
    wrong += syscall(437, AT_FDCWD, host, how, sizeof how) >= 0;
    wrong += syscall(439, AT_FDCWD, host, R_OK, 0) == 0;
    wrong += syscall(428, AT_FDCWD, host, 0) >= 0;
    wrong += syscall(464, AT_FDCWD, host, 0, "user.x", how, 16) >= 0 || errno != ENOSYS;
    wrong += access(host, R_OK) == 0;
    wrong += access(guest, R_OK) != 0 || faccessat(AT_FDCWD, guest, X_OK, AT_EACCESS) != 0;
    char *const argv[] = {"true", NULL};
    wrong += syscall(SYS_execveat, AT_FDCWD, "/usr/bin/true", argv, NULL, 0) != -1;
    printf("%d wrong\n", wrong);
}
"#;

#[test]
fn what_it_cannot_do_is_refused_by_name() {
    let env = container();
    let proot = Path::new(DEBIAN_12);
    for (words, status, text) in [
        (&["run", "--mode=P1", "--write=none", "bb:1", "true"][..], 125, "cannot keep the root from being written"),
        (&["run", "-v", "/usr:/x:ro", "c", "true"], 125, "cannot keep `/x` from being written (from --volume)"),
        (&["run", "-v", "/nothere:/x", "c", "true"], 125, "invalid host volume path: /nothere"),
        (&["run", "-w", "/nothere", "c", "true"], 125, "invalid working directory: /nothere"),
        (&["run", "c", "nothere"], 127, "cannot run `nothere`: it is not in the container"),
    ] {
        let output = udocker(&env, proot, words);
        assert_eq!(code(&output), status, "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{words:?}: {}", stderr(&output));
    }
    let output = udocker(&env, Path::new("/nothere/proot"), &["run", "c", "true"]);
    assert_eq!(code(&output), 125);
    assert!(stderr(&output).contains("cannot execute the PRoot /nothere/proot"), "{}", stderr(&output));
    // A program that ends well and does nothing of the kind.
    let output = udocker(&env, Path::new("/bin/true"), &["run", "c", "true"]);
    assert_eq!(code(&output), 125);
    let told = "cannot use the PRoot /bin/true: a program that it started did not read the file of its root";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
}

#[test]
fn signals_reach_the_program_and_nothing_is_left() {
    let env = container();
    let mark = format!("MARK=proot-{}", std::process::id());
    let script = "trap 'echo usr; exit 9' USR1; sleep 1000 & echo ready; while true; do sleep 0.05; done";
    // Debian 12's build waits for what the program leaves behind, and ends as that ended.
    let mut command = env.udocker(&["run", "-e", &mark, "c", "sh", "-c", script]);
    let mut child = command.env(VARIABLE, newer(&env)).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    std::io::BufRead::read_line(&mut out, &mut text).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::USR1).unwrap();
    std::io::BufRead::read_line(&mut out, &mut text).unwrap();
    assert_eq!((text.as_str(), child.wait().unwrap().code()), ("ready\nusr\n", Some(9)));
    let left = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            fs::read(entry.path().join("environ"))
                .is_ok_and(|text| text.windows(mark.len()).any(|part| part == mark.as_bytes()))
        })
    };
    let end = Instant::now() + Duration::from_secs(10);
    while left() {
        assert!(Instant::now() < end, "a process is left");
        std::thread::sleep(Duration::from_millis(20));
    }
}
