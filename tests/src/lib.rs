//! What the end-to-end tests stand on: a fresh home and store, a real registry, faults on its wire, images, references.
//!
//! ```text
//! TestEnv        a home and a store of their own, `udocker` and `udocker-launch` as the tester or as an ordinary user
//! Registry       Debian's docker-registry on a free port of loopback, its data beside the test
//! FaultProxy     HTTP in front of it: delays, cut and corrupted bodies, other answers
//! token_server   a registry that wants tokens, and the server that gives them
//! central        a site with a central store, its administrator and a user
//! cluster        a Slurm cluster of two nodes on this machine
//! slurm_site     the same with our plugin, and an image
//! engines        real programs in a root, run by each engine and compared
//! rank           a program as a batch system starts it, bare and in containers
//! hub            what answers searches as Docker Hub does
//! web            a small server of HTTP
//! Peer           PyPI's udocker in a virtual environment, to compare with
//! many_nodes     nodes on one machine that share a store
//! images         images made on the spot, each once per recipe below `target/test-images`
//! tree           listings to compare trees by, and the reference tree of GNU tar and a whiteout pass
//! udocker_store  repositories as PyPI's udocker writes them
//! random         random choices from a seed that a failure prints
//! ```
//!
//! A test that lacks something fails and names the package; `tests/setup.sh` installs them all.
#![allow(clippy::missing_panics_doc)]

pub mod central;
pub mod cluster;
pub mod engines;
mod fault_proxy;
pub mod hub;
pub mod images;
pub mod many_nodes;
pub mod mpi_steps;
pub mod node;
mod peer;
pub mod random;
pub mod rank;
pub mod slurm_site;
pub mod token_server;
pub mod tree;
pub mod udocker_store;
pub mod web;

pub use fault_proxy::{Fault, FaultProxy};
pub use peer::{PEER_VERSION, Peer};

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The uid and gid of the ordinary user that root's tests run our programs as. No account has it, as on a node whose
/// directory service is away.
pub const ORDINARY_USER: u32 = 65_533;

/// The directory that cargo puts programs into: `target/debug`.
fn built() -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path
}

/// Where a program of ours is.
pub fn program(name: &str) -> PathBuf {
    let path = built().join(name);
    assert!(path.is_file(), "{} is missing: `make build` makes it", path.display());
    path
}

/// Where images are kept between runs: `target/test-images`.
pub fn image_cache() -> PathBuf {
    let directory = built().parent().expect("a profile lies in target").join("test-images");
    fs::create_dir_all(&directory).expect("mkdir");
    directory
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A fresh home and store.
pub struct TestEnv {
    directory: tempfile::TempDir,
    /// Who runs our programs, if not the one who runs the tests.
    uid: Option<u32>,
    /// What /etc is for our programs, if they shall see a site.toml.
    etc: Option<PathBuf>,
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
        Self { directory, uid: None, etc: None }
    }
    /// The same for an ordinary user: [`ORDINARY_USER`] if the tests run as root, else the one who runs them.
    pub fn ordinary() -> Self {
        Self::of_user(is_root().then_some(ORDINARY_USER))
    }
    /// The same for this user, which only root can choose.
    pub fn of_user(uid: Option<u32>) -> Self {
        let env = Self { uid, ..Self::new() };
        for name in ["home", "store", "work"] {
            env.own_directory(name, 0o700);
        }
        env
    }
    /// Makes a directory that belongs to who runs our programs.
    pub fn own_directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("mkdir");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        chown(&path, self.uid, self.uid).expect("chown");
        path
    }
    /// The directory of the store.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }
    /// The flattened trees of the store, sorted.
    pub fn trees(&self) -> Vec<PathBuf> {
        let formats = children(&self.store().join("rootfs"));
        formats.iter().flat_map(|format| children(format)).map(|tree| tree.join("root")).collect()
    }
    /// The only tree of the store.
    pub fn only_tree(&self) -> PathBuf {
        let mut trees = self.trees();
        assert_eq!(trees.len(), 1, "{trees:?}");
        trees.remove(0)
    }
    /// From here on our programs see `toml` as /etc/udocker/site.toml, in a mount namespace of their own. Needs root.
    pub fn set_site(&mut self, toml: &str) {
        assert!(is_root(), "only root can show a site.toml to a program");
        let etc = self.path("etc");
        if self.etc.is_none() {
            run(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
            fs::create_dir_all(etc.join("udocker")).expect("mkdir");
            self.etc = Some(etc.clone());
        }
        fs::write(etc.join("udocker/site.toml"), toml).expect("a file can be written");
    }
    /// From here on our programs run as this user, or as the tester.
    pub fn set_uid(&mut self, uid: Option<u32>) {
        self.uid = uid;
    }
    /// Who runs our programs, if not the one who runs the tests.
    pub fn uid(&self) -> Option<u32> {
        self.uid
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
        let path = if self.uid.is_some() { self.reachable(path) } else { path.to_owned() };
        let mut command = match (&self.etc, self.uid) {
            (None, None) => Command::new(path),
            (None, Some(uid)) => {
                let mut command = Command::new(path);
                command.uid(uid).gid(uid);
                command
            }
            (Some(etc), uid) => {
                let id = uid.unwrap_or_default();
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-c", r#"mount --bind "$0" /etc && exec "$@""#]).arg(etc);
                command.arg("setpriv").args([
                    format!("--reuid={id}"),
                    format!("--regid={id}"),
                    "--clear-groups".into(),
                ]);
                command.arg(path);
                command
            }
        };
        command.env_clear().env("HOME", self.path("home")).env("UDOCKER_DIR", self.path("store"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).current_dir("/");
        command
    }
    /// A link or a copy of a program where everybody can reach it: this checkout may lie below a private directory.
    fn reachable(&self, program: &Path) -> PathBuf {
        let directory = self.path("programs");
        let link = directory.join(program.file_name().expect("a program has a name"));
        if !link.exists() {
            fs::create_dir_all(&directory).expect("mkdir");
            // Another thread may have been here; a copy over a link would empty the program itself.
            match fs::hard_link(program, &link) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(_) => fs::copy(program, &link).map(drop).expect("a program can be copied"),
                Ok(()) => {}
            }
        }
        link
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

/// What lies in a directory, sorted; nothing if there is no such directory.
pub fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    paths
}

/// How it ended, as a shell tells it: 128 + n for a signal.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| 128 + output.status.signal().expect("ended by a signal"))
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
    storage: PathBuf,
    /// `127.0.0.1:PORT`
    pub host: String,
}

/// A port of this machine for which nobody listens, outside the range from which the kernel picks: there a srun of another test
/// may be given it before the registry is, and is disturbed by who looks whether that listens. Below are cluster.sh's.
fn free_host() -> String {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = std::process::id().wrapping_mul(16).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let host = format!("127.0.0.1:{}", 30_000 + offset % 2_700);
        if TcpListener::bind(&host).is_ok() {
            return host;
        }
    }
}

impl Registry {
    /// Starts it with its data in `env`.
    pub fn start(env: &TestEnv) -> Self {
        Self::start_with(env, "")
    }
    /// The same with a htpasswd file that has `alice` with the password `secret`.
    pub fn start_with_password(env: &TestEnv) -> Self {
        let file = env.path("htpasswd");
        // bcrypt, the only form that docker-registry reads.
        fs::write(&file, "alice:$2b$04$AdzO9mnngTT6ygzON.o5huxRTO7XjUqMX65CFNDzDgqP89sV3/NgC\n").expect("write");
        Self::start_with(env, &format!("auth: {{htpasswd: {{realm: tests, path: '{}'}}}}\n", file.display()))
    }
    /// The same with `more` lines of configuration.
    pub fn start_with(env: &TestEnv, more: &str) -> Self {
        let data = env.path("registry");
        fs::create_dir_all(&data).expect("mkdir");
        let host = free_host();
        let configuration = env.path("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'}}\n{more}",
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
        let registry = Self { child, storage: data, host };
        let since = Instant::now();
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20), "the registry does not listen");
            std::thread::yield_now();
        }
        registry
    }
    /// Serves `image` as `test/NAME:latest` at once and returns its reference.
    pub fn publish(&self, image: &images::Image, name: &str) -> String {
        image.publish(&self.storage, &format!("test/{name}"), "latest");
        format!("{}/test/{name}:latest", self.host)
    }
    /// Serves `image` as `NAME:latest` at once.
    pub fn publish_as(&self, image: &images::Image, name: &str) {
        image.publish(&self.storage, name, "latest");
    }
    /// Serves an image of the set under its own name and returns its reference.
    pub fn serve(&self, kind: images::Kind) -> String {
        self.publish(&kind.image(), &kind.name())
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
