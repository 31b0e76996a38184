//! A place where behaviours are run: one directory, whose store and home are put back before each run.
//!
//! ```text
//! DIRECTORY/
//! ├── store/ home/ work/       what both programs are given; work/ is where scripts run
//! ├── given/                   tars and files that scripts only read ($GIVEN)
//! ├── programs/                the two programs
//! ├── words/WRITER-READER/     `writer` and `udocker`, one directory for each pair: first in PATH
//! └── kept/WRITER-BASE/        store and home as WRITER left them at BASE
//! ```
//! Stores are always at the same path, as udocker writes absolute ones into them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use udocker_tests::{Peer, Registry, TestEnv, code, program, run, stderr, stdout};

use crate::behaviour::{Base, Behaviour};
use crate::normalise::{normalise, split_remarks};

/// A program of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Python,
    Ours,
}

impl Who {
    pub const BOTH: [Who; 2] = [Who::Python, Who::Ours];

    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Ours => "ours",
        }
    }
}

/// What came of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: i32,
    /// Without remarks and banner.
    pub stdout: String,
    /// The first line that begins with `Error:`, without that.
    pub error: Option<String>,
    /// Lines that begin with `Info:` or `Warning:`, on whichever stream.
    pub remarks: Vec<String>,
}

/// See the module's head.
pub struct Workshop {
    env: TestEnv,
    port: String,
}

impl Workshop {
    pub fn new(registry: &Registry) -> Self {
        let env = TestEnv::ordinary();
        let port = registry.host.rsplit(':').next().expect("a host with a port").to_owned();
        let workshop = Self { env, port };
        workshop.place_programs();
        workshop.place_given();
        workshop.keep_bases();
        workshop
    }

    /// Runs a behaviour with this writer and this reader.
    pub fn observe(&self, behaviour: &Behaviour, writer: Who, reader: Who) -> Result<Outcome, String> {
        self.restore(writer, behaviour.base);
        self.script(behaviour.before, writer, reader)
            .and_then(|before| if before.status == 0 { Ok(()) } else { Err(format!("{before:?}")) })
            .map_err(|error| format!("before it: {error}"))?;
        self.script(behaviour.script, writer, reader)
    }

    fn script(&self, script: &str, writer: Who, reader: Who) -> Result<Outcome, String> {
        let path = |name: &str| self.env.path(name);
        let words = path("words").join(format!("{}-{}", writer.name(), reader.name()));
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-c", &format!("set -e\n{script}")]).env_clear().stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", words.display()));
        command.env("HOME", path("home")).env("UDOCKER_DIR", path("store")).env("GIVEN", path("given"));
        command.env("REGISTRY", format!("http://127.0.0.1:{}", self.port)).current_dir(path("work"));
        if let Some(uid) = self.env.uid() {
            command.uid(uid).gid(uid);
        }
        let output = command.output().map_err(|error| error.to_string())?;
        let directory = path("");
        let directory = directory.to_str().expect("UTF-8").trim_end_matches('/');
        let normal = |text: String| normalise(&text, directory, &self.port);
        let (results, mut remarks) = split_remarks(&normal(stdout(&output)));
        let diagnostics = normal(stderr(&output));
        remarks.extend(split_remarks(&diagnostics).1);
        let error = diagnostics.lines().find_map(|line| line.strip_prefix("Error: "));
        let error = error.map(|line| line.trim().to_owned());
        Ok(Outcome { status: code(&output), stdout: results, error, remarks })
    }

    /// Both programs by the names that scripts use.
    fn place_programs(&self) {
        let programs = self.env.path("programs");
        let peer = Peer::place(&programs.join("python"));
        for name in ["udocker", "udocker-launch"] {
            fs::copy(program(name), programs.join(name)).expect("a program can be copied");
        }
        self.place_engine_tarball();
        let tarball = self.env.path("given/engines.tar.gz");
        let text = |who| match who {
            // Debian's PRoot is built without the seccomp filter.
            Who::Python => format!(
                "export UDOCKER_TARBALL=${{UDOCKER_TARBALL-{}}} PROOT_NO_SECCOMP=1\nexec {} \"$@\"\n",
                tarball.display(),
                peer.words()
            ),
            Who::Ours => format!("exec {} \"$@\"\n", programs.join("udocker").display()),
        };
        for writer in Who::BOTH {
            for reader in Who::BOTH {
                let directory = self.env.path("words").join(format!("{}-{}", writer.name(), reader.name()));
                fs::create_dir_all(&directory).expect("mkdir");
                for (name, who) in [("writer", writer), ("udocker", reader)] {
                    let path = directory.join(name);
                    fs::write(&path, format!("#!/bin/sh\n{}", text(who))).expect("write");
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
                }
            }
        }
    }

    /// What udocker's `install` unpacks: its own tarball is not at hand, so Debian's PRoot in a tarball of that form.
    fn place_engine_tarball(&self) {
        let top = self.env.path("given/udocker_dir");
        fs::create_dir_all(top.join("bin")).expect("mkdir");
        fs::create_dir_all(top.join("lib")).expect("mkdir");
        fs::copy("/usr/bin/proot", top.join("bin/proot-x86_64")).expect("/usr/bin/proot of the package proot");
        fs::write(top.join("lib/VERSION"), "1.2.11\n").expect("write");
        let words = ["-czf", "engines.tar.gz", "udocker_dir"];
        run(Command::new("tar").current_dir(self.env.path("given")).args(words));
    }

    fn place_given(&self) {
        let given = self.env.path("given");
        fs::copy(self.env.busybox_tar(), given.join("root.tar")).expect("copy");
        let settings = "[DEFAULT]\ninstallinfo = /nonexistent\n";
        fs::create_dir_all(self.env.path("home/.udocker")).expect("mkdir");
        fs::write(self.env.path("home/.udocker/udocker.conf"), settings).expect("write");
    }

    /// Makes each base by each writer, and keeps it.
    fn keep_bases(&self) {
        for who in Who::BOTH {
            let mut base = Some(Base::Empty);
            while let Some(now) = base {
                let outcome = self.script(now.script(), who, who).expect("a shell can be started");
                assert_eq!(outcome.status, 0, "{who:?} makes {now:?}: {outcome:?}");
                let kept = self.kept(who, now);
                fs::create_dir_all(&kept).expect("mkdir");
                run(Command::new("cp").arg("-a").args(self.state()).arg(&kept));
                base = now.next();
            }
            self.clear();
        }
    }

    fn restore(&self, writer: Who, base: Base) {
        self.clear();
        for name in ["store", "home"] {
            let (from, to) = (self.kept(writer, base).join(name), self.env.path(name));
            run(Command::new("cp").arg("-aT").arg(from).arg(to));
        }
    }

    fn clear(&self) {
        for path in self.state().iter().chain([&self.env.path("work")]) {
            run(Command::new("chmod").args(["-R", "u+rwx"]).arg(path));
            run(Command::new("find").arg(path).args(["-mindepth", "1", "-delete"]));
        }
    }

    fn kept(&self, who: Who, base: Base) -> PathBuf {
        self.env.path("kept").join(format!("{}-{base:?}", who.name()))
    }

    fn state(&self) -> [PathBuf; 2] {
        [self.env.path("store"), self.env.path("home")]
    }
}
