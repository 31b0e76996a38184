//! A small image of Debian's busybox, and the engine run on it as several users and on an old kernel.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

const APPLETS: [&str; 25] = [
    "sh", "ls", "cat", "id", "chown", "chgrp", "mkdir", "rm", "rmdir", "mv", "touch", "dd", "mknod", "stat", "true",
    "kill", "pwd", "readlink", "grep", "echo", "test", "head", "mount", "env", "find",
];

/// As whom, and on which kernel.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub uid: u32,
    pub old_kernel: bool,
}

/// A host directory with an image in `root`, owned by the case's user.
pub struct Fixture {
    pub case: Case,
    /// Set by a test that writes in place.
    pub tree_may_change: Cell<bool>,
    directory: tempfile::TempDir,
    programs: PathBuf,
}

/// Calls `test` for every case that this user can play.
pub fn for_each_case(test: impl Fn(&Fixture)) {
    let own = rustix::process::getuid().as_raw();
    let users = if own == 0 { vec![0, 1234, 1 << 31] } else { vec![own] };
    for uid in users {
        for old_kernel in [false, true] {
            let fixture = Fixture::new(Case { uid, old_kernel });
            let before = (fixture.fingerprint(), host_mounts());
            test(&fixture);
            assert_eq!(before.1, host_mounts(), "{:?} left a mount", fixture.case);
            assert!(
                fixture.tree_may_change.get() || before.0 == fixture.fingerprint(),
                "{:?} changed the image",
                fixture.case
            );
        }
    }
}

impl Fixture {
    pub fn new(case: Case) -> Self {
        let busybox = Path::new("/bin/busybox");
        assert!(busybox.exists(), "these tests need /bin/busybox: install the package busybox-static");
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = directory.path().join("root");
        for name in ["bin", "etc", "proc", "run", "var", "data", "home/user", "tmp", "empty"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        APPLETS.iter().for_each(|applet| symlink("busybox", root.join("bin").join(applet)).unwrap());
        symlink("/run", root.join("var/run")).unwrap();
        symlink("/../../../etc", root.join("escape")).unwrap();
        fs::write(root.join("etc/passwd"), "image\n").unwrap();
        fs::write(root.join("etc/hosts"), "image hosts\n").unwrap();
        fs::write(root.join("data/lower"), "lower\n").unwrap();
        for (name, text) in [("noexec", "#!/bin/sh\n"), ("plain", "echo plain $1\n"), ("lost", "#!/no/such\n")] {
            fs::write(root.join("bin").join(name), text).unwrap();
            let mode = if name == "noexec" { 0o644 } else { 0o755 };
            fs::set_permissions(root.join("bin").join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir_all(directory.path().join("host/sub")).unwrap();
        fs::write(directory.path().join("host/file"), "host\n").unwrap();
        // Copies, since the user need not be able to reach the build directory.
        let programs = directory.path().join("programs");
        fs::create_dir(&programs).unwrap();
        let built = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples");
        for name in ["enter", "enosys"] {
            let built = built.join(name);
            assert!(built.exists(), "{} is missing: run `cargo build -p udocker-core --examples`", built.display());
            fs::copy(built, programs.join(name)).unwrap();
        }
        if rustix::process::getuid().is_root() {
            walk(directory.path(), &mut |path| {
                std::os::unix::fs::lchown(path, Some(case.uid), Some(case.uid)).unwrap()
            });
            chown(directory.path(), Some(case.uid), Some(case.uid)).unwrap();
        }
        Self { case, tree_may_change: Cell::new(false), directory, programs }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub fn host(&self, name: &str) -> String {
        self.directory.path().join("host").join(name).to_str().unwrap().into()
    }

    /// Makes a directory of the case's user beside the image.
    pub fn make(&self, name: &str) -> String {
        let path = self.host(name);
        fs::create_dir(&path).unwrap();
        if rustix::process::getuid().is_root() {
            chown(&path, Some(self.case.uid), Some(self.case.uid)).unwrap();
        }
        path
    }

    /// The example `enter`, as the case's user.
    pub fn command(&self) -> Command {
        let enter = self.programs.join("enter");
        let mut command = if self.case.old_kernel {
            let mut command = Command::new(self.programs.join("enosys"));
            command.arg(enter);
            command
        } else {
            Command::new(enter)
        };
        as_user(&mut command, self.case.uid);
        command
    }

    /// `enter ROOT WRITE OPTIONS -- ARGV`.
    pub fn plan(&self, write: &str, options: &[&str], argv: &[&str]) -> Command {
        let mut command = self.command();
        command.arg(self.root()).arg(write).args(options).arg("--").args(argv);
        command
    }

    pub fn run(&self, write: &str, options: &[&str], argv: &[&str]) -> Output {
        self.plan(write, options, argv).output().unwrap()
    }

    /// Runs a shell script and returns its output, which must be without complaint.
    #[track_caller]
    pub fn shell(&self, write: &str, options: &[&str], script: &str) -> String {
        let output = self.run(write, options, &["sh", "-c", script]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), complaint.as_str()), (Some(0), ""), "{:?}: {script}", self.case);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must fail; returns status and stderr.
    #[track_caller]
    pub fn fail(&self, write: &str, options: &[&str], argv: &[&str]) -> (i32, String) {
        let output = self.run(write, options, argv);
        assert!(!output.status.success(), "{:?}: {argv:?}", self.case);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Names, modes, owners, times and contents of the image.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        walk(&self.root(), &mut |path| {
            let meta = path.symlink_metadata().unwrap();
            hash.update(format!("{path:?} {:o} {} {} {}\n", meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec()));
            if meta.is_file() {
                hash.update(fs::read(path).unwrap());
            }
        });
        format!("{:x}", hash.finalize())
    }
}

/// Runs `command` as `uid`, without other groups, if we may.
pub fn as_user(command: &mut Command, uid: u32) {
    if rustix::process::getuid().is_root() {
        command.uid(uid).gid(uid);
    }
}

fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    visit(path);
    if path.symlink_metadata().unwrap().is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| walk(entry, visit));
    }
}
