//! Helpers of the end-to-end tests: a fresh home and store, images made on the spot, a registry on loopback.
#![allow(clippy::missing_panics_doc)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where cargo put the programs: beside the test's own directory.
pub fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join(name);
    assert!(path.is_file(), "{} is missing: `make build` makes it", path.display());
    path
}

/// A fresh home and store.
pub struct TestEnv {
    directory: tempfile::TempDir,
}

impl Default for TestEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl TestEnv {
    /// Makes the directory; it goes with the value.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("udocker-test-").tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        Self { directory }
    }
    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
    /// `udocker` with this store and no other setting.
    pub fn udocker(&self, words: &[&str]) -> Command {
        let mut command = self.command(&program("udocker"));
        command.arg("--allow-root").args(words);
        command
    }
    /// `udocker-launch` with this store and no other setting: the static one if it was built.
    pub fn launch(&self, words: &[&str]) -> Command {
        let path = std::env::var_os("UDOCKER_LAUNCH_BIN").map_or_else(|| program("udocker-launch"), PathBuf::from);
        let mut command = self.command(&path);
        command.args(words);
        command
    }
    fn command(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.env_clear().env("HOME", self.path("home")).env("UDOCKER_DIR", self.path("store"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).current_dir("/");
        command
    }
    /// A small root of Debian's static busybox, as a tar.
    pub fn busybox_tar(&self) -> PathBuf {
        let (root, tar) = (self.path("root"), self.path("root.tar"));
        if tar.exists() {
            return tar;
        }
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
            fs::create_dir_all(root.join(name)).expect("mkdir");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("/bin/busybox of the package busybox-static");
        for applet in ["sh", "ls", "cat", "id", "true", "touch", "kill", "sleep", "env", "pwd", "echo", "readlink"] {
            symlink("busybox", root.join("bin").join(applet)).expect("symlink");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("write");
        fs::write(root.join("etc/group"), "root:x:0:\n").expect("write");
        let words = ["--owner=0", "--group=0", "--sort=name", "-cf"];
        run(Command::new("tar").arg("-C").arg(&root).args(words).arg(&tar).arg("."));
        tar
    }
    /// Imports the busybox root as `NAME`.
    pub fn import_busybox(&self, name: &str) {
        let tar = self.busybox_tar();
        run(&mut self.udocker(&["import", tar.to_str().expect("UTF-8"), name]));
    }
}

/// Runs `command`, which must succeed, and returns what it printed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Debian's docker-registry on loopback; ends with the value.
pub struct Registry {
    child: Child,
    /// `127.0.0.1:PORT`
    pub host: String,
}

impl Registry {
    /// Starts it with its data in `env`.
    pub fn start(env: &TestEnv) -> Self {
        let data = env.path("registry");
        fs::create_dir_all(&data).expect("mkdir");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let host = format!("127.0.0.1:{port}");
        let configuration = env.path("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'}}\n",
            data.display()
        );
        fs::write(&configuration, text).expect("write");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry of the package of that name");
        let registry = Self { child, host };
        let since = Instant::now();
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20), "the registry does not listen");
            std::thread::yield_now();
        }
        registry
    }
    /// Pushes an OCI layout's `tag` as `NAME:TAG`.
    pub fn push(&self, layout: &Path, tag: &str, name: &str) {
        let source = format!("oci:{}:{tag}", layout.display());
        let words = ["copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false"];
        run(Command::new("skopeo").args(words).arg(source).arg(format!("docker://{}/{name}", self.host)));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
