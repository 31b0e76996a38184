//! A place where behaviours are run: one directory, whose store and home are put back before each run.
//!
//! ```text
//! DIRECTORY/
//! ├── store/ home/ work/       what both programs are given; work/ is where scripts run
//! ├── given/                   tars and files that scripts only read ($GIVEN)
//! ├── programs/                the two programs
//! ├── words/WRITER-READER/     `writer`, `udocker`, `theirs`, one directory for each pair: first in PATH
//! └── kept/WRITER-BASE/        store and home as WRITER left them at BASE
//! ```
//! Stores are always at the same path, as udocker writes absolute ones into them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use udocker_tests::images::Image;
use udocker_tests::{Peer, TestEnv, code, program, run, stderr, stdout};

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
    /// What follows `Error:` in the lines that begin so.
    pub errors: Vec<String>,
    /// Lines that begin with `Info:` or `Warning:`, on whichever stream.
    pub remarks: Vec<String>,
}

/// See the module's head.
pub struct Workshop<'a> {
    env: TestEnv,
    services: &'a Services,
}

/// What all workshops share.
pub struct Services {
    /// `HOST:PORT` of a registry for everybody.
    pub registry: String,
    /// `HOST:PORT` of one that wants a password.
    pub locked: String,
    /// `HOST:PORT` of what answers searches.
    pub hub: String,
    /// `test/bb` of the registries.
    pub image: Image,
}

impl<'a> Workshop<'a> {
    pub fn new(services: &'a Services) -> Self {
        let workshop = Self { env: TestEnv::ordinary(), services };
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
        let mut command = self.as_user();
        command.args(["timeout", "60", "sh", "-c", &format!("set -e\n{script}")]).env_clear().stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", words.display()));
        command.env("HOME", path("home")).env("UDOCKER_DIR", path("store")).env("GIVEN", path("given"));
        let Services { registry, locked, hub, .. } = self.services;
        for (name, host) in [("REGISTRY", registry), ("LOCKED", locked), ("HUB", hub)] {
            command.env(name, format!("http://{host}"));
        }
        command.current_dir(path("work"));
        let output = command.output().map_err(|error| error.to_string())?;
        let directory = path("").display().to_string().trim_end_matches('/').to_owned();
        let places =
            [(directory, "/T"), (registry.clone(), "REGISTRY"), (locked.clone(), "LOCKED"), (hub.clone(), "HUB")];
        let normal = |text: String| normalise(&text, &places);
        let (results, mut remarks) = split_remarks(&normal(stdout(&output)));
        let diagnostics = normal(stderr(&output));
        remarks.extend(split_remarks(&diagnostics).1);
        let errors = diagnostics.lines().filter_map(|line| line.strip_prefix("Error: "));
        let errors = errors.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        Ok(Outcome { status: code(&output), stdout: results, errors, remarks })
    }

    /// Runs what follows as the user of the test. Root gives that user an account, in a mount namespace: udocker looks
    /// its caller up.
    fn as_user(&self) -> Command {
        let Some(uid) = self.env.uid() else { return Command::new("env") };
        let accounts = self.env.path("given/passwd");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", r#"mount --bind "$0" /etc/passwd && exec "$@""#]).arg(accounts);
        command.args([
            "setpriv".to_owned(),
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            "--clear-groups".into(),
        ]);
        command
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
            // Debian's PRoot, which is built without the seccomp filter: what our `install` leaves is none.
            Who::Python => {
                let engine = "UDOCKER_USE_PROOT_EXECUTABLE=/usr/bin/proot PROOT_NO_SECCOMP=1";
                format!("export UDOCKER_TARBALL={} {engine}\nexec {} \"$@\"\n", tarball.display(), peer.words())
            }
            Who::Ours => format!("exec {} \"$@\"\n", programs.join("udocker").display()),
        };
        for writer in Who::BOTH {
            for reader in Who::BOTH {
                let directory = self.env.path("words").join(format!("{}-{}", writer.name(), reader.name()));
                fs::create_dir_all(&directory).expect("mkdir");
                for (name, who) in [("writer", writer), ("udocker", reader), ("theirs", Who::Python)] {
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
        let source = format!("oci:{}:latest", self.services.image.directory().display());
        for (transport, name) in
            [("docker-archive", "docker.tar:given/docker:1"), ("oci-archive", "oci.tar:given/oci:1")]
        {
            let words = ["copy", "-q", &source, &format!("{transport}:{}/{name}", given.display())];
            run(Command::new("skopeo").args(words));
        }
        fs::write(given.join("schema1.py"), include_str!("schema1.py")).expect("write");
        let accounts = fs::read_to_string("/etc/passwd").expect("a host has accounts");
        let own =
            format!("tester:x:{0}:{0}::{1}:/bin/sh\n", self.env.uid().unwrap_or(0), self.env.path("home").display());
        fs::write(given.join("passwd"), accounts + &own).expect("write");
    }

    /// Makes each base by each writer, and keeps it.
    fn keep_bases(&self) {
        for who in Who::BOTH {
            // udocker's `install` asks the network for news otherwise.
            let settings = self.env.own_directory("home/.udocker", 0o700).join("udocker.conf");
            fs::write(&settings, "[DEFAULT]\ninstallinfo = /nonexistent\n").expect("write");
            chown(settings, self.env.uid(), self.env.uid()).expect("chown");
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
