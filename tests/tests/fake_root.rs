//! Package managers and account tools as fake root, of an ordinary user, on real roots.
#![cfg(target_arch = "x86_64")]

use udocker_tests::engines::{Container, Mode, made, same_in_each_mode};
use udocker_tests::random::trials;

/// Lines of `programs/packages.sh` that do not depend on whether owners are remembered.
const INSTALLED: [&str; 24] = [
    "uid=0(root) gid=0(root) groups=0(root)",
    "update 0",
    "install 0",
    "Setting up udt-first (1.0) ...",
    "Setting up udt-second (2.0) ...",
    "update-alternatives: using /usr/bin/udt-first to provide /usr/bin/udt (udt) in auto mode",
    "first runs",
    "Status: install ok installed",
    "verify 0",
    "302",
    "2 2",
    "again 0",
    "udt:x:451:451::/var/lib/udt:/bin/sh",
    "udt:x:451:",
    "purge 0",
    "left 1",
    "audit 0",
    "useradd 0",
    "chpasswd 0",
    "worker:x:1000:1000::/home/worker:/bin/bash",
    "worker daemon udt",
    "others:x:N:worker",
    "worker P",
    "wrote",
];

fn packages(mode: Mode) -> udocker_tests::engines::Outcome {
    let container = Container::private().as_root().bind(&made().join("repository"), "/repo:ro");
    let outcome = container.run(mode, &["bash", "/mnt/packages.sh", "/repo"]);
    outcome.assert_lines(&INSTALLED);
    assert_eq!((outcome.status, outcome.err.as_str()), (0, ""), "{}", outcome.out);
    outcome
}

#[test]
fn packages_and_accounts_with_remembered_owners() {
    for _ in 0..trials(1) {
        packages(Mode::P2).assert_lines(&[
            "first: udt:udt 644 root:udt 640 root:udt 2755 ",
            "uid=1000(worker) gid=1000(worker) groups=1000(worker),1(daemon),451(udt),1001(others)",
            "worker:worker 644 /tmp/by-worker",
            "uid=1(daemon) gid=1(daemon) groups=1(daemon)",
            "userdel 0",
            "home 1",
        ]);
    }
}

#[test]
fn packages_and_accounts_where_all_belongs_to_root() {
    for _ in 0..trials(1) {
        packages(Mode::N1).assert_lines(&["first: root:root 644 root:root 640 root:root 2755 "]);
    }
}

#[test]
fn owners_are_seen_as_they_were_given() {
    for _ in 0..trials(1) {
        let container = Container::private().as_root();
        let outcome = container.run(Mode::P2, &["bash", "/mnt/owners.sh"]);
        assert_eq!((outcome.status, outcome.err.as_str()), (0, ""));
        assert_eq!(outcome.out, include_str!("../programs/owners.txt"));
    }
}

#[test]
fn rpms_are_installed_and_verified() {
    let container = Container::shared().as_root().bind(&made().join("repository"), "/repo:ro");
    let optional = container.own_directory("opt");
    let container = container.bind(&optional, "/opt");
    for _ in 0..trials(1) {
        let outcome = container.run(Mode::P2, &["bash", "/mnt/rpm.sh", "/repo"]);
        assert_eq!(outcome.out, include_str!("../programs/rpm.txt"), "{}", outcome.err);
        let outcome = container.run(Mode::N1, &["bash", "/mnt/rpm.sh", "/repo"]);
        // Its database knows owners that the files have not.
        outcome.assert_lines(&[
            "install 0",
            "post 1: 0 root:root 4755",
            "rpm runs",
            "again 0",
            "preun 0",
            "erase 0",
            "0",
        ]);
    }
}

#[test]
fn other_programs_do_not_mind() {
    // As in `real_programs`, but as fake root.
    let container = Container::shared().as_root();
    same_in_each_mode(&container, trials(1), &["perl", "/mnt/walk.pl"], &["pipes 420"], 9);
    same_in_each_mode(&container, trials(1), &["bash", "/mnt/git.sh"], &["same trees", "commits 12"], 0);
}
