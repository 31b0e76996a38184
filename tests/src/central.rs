//! A site with a central store: an administrator who keeps it, and an ordinary user who runs from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::{Registry, TestEnv, children, run, stdout};

/// Tells which image it is: `etc/arch` is in [`crate::images::Kind::Multi`] alone.
pub const LOOK: [&str; 3] = ["sh", "-c", "[ -e /etc/arch ] && echo second || echo first"];

/// See the module's head. Needs root.
pub struct Site {
    /// The user's home and store.
    pub user: TestEnv,
    /// A registry.
    pub registry: Registry,
    /// The central store.
    pub store: PathBuf,
}

impl Site {
    /// One whose store is not made yet; `more` goes to the end of site.toml.
    pub fn new(more: &str) -> Self {
        let mut user = TestEnv::ordinary();
        let store = user.path("central");
        user.set_site(&format!("[[store]]\nname = \"central\"\npath = {store:?}\nkind = \"site\"\n{more}"));
        let registry = Registry::start(&user);
        Self { user, registry, store }
    }
    /// `udocker site WORDS` as root, with the umask of a careful administrator.
    pub fn admin(&self, words: &[&str]) -> Command {
        let mut all = vec!["site"];
        all.extend_from_slice(words);
        self.as_root(&all)
    }
    /// `udocker WORDS` as root.
    pub fn as_root(&self, words: &[&str]) -> Command {
        let etc = self.user.path("etc");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", r#"umask 077; mount --bind "$0" /etc && exec "$@""#]).arg(etc);
        command.arg(crate::program("udocker")).args(words).env_clear().env("HOME", self.user.path("admin"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(std::process::Stdio::null()).current_dir("/");
        command
    }
    /// Publishes; returns what it printed.
    pub fn publish(&self, reference: &str) -> Output {
        run(&mut self.admin(&["publish", reference]))
    }
    /// `udocker site list`, as JSON.
    pub fn list(&self) -> Vec<Value> {
        let output = run(&mut self.admin(&["list", "--format=json"]));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
    /// Name, digest and state of each image.
    pub fn states(&self) -> Vec<(String, String, String)> {
        let text = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
        self.list().iter().map(|row| (text(row, "name"), text(row, "digest"), text(row, "state"))).collect()
    }
    /// What the user's program says which [`LOOK`]s, without asking a registry.
    pub fn look(&self, reference: &str) -> String {
        let words = [&["run", "--pull=never", "--write=none", reference], &LOOK[..]].concat();
        stdout(&run(&mut self.user.udocker(&words)))
    }
    /// The digests of the blobs of the store, sorted.
    pub fn blobs(&self) -> Vec<String> {
        let names = children(&self.store.join("layers"));
        names.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    }
    /// The trees of the store.
    pub fn trees(&self) -> Vec<PathBuf> {
        children(&self.store.join("rootfs")).iter().flat_map(|format| children(format)).collect()
    }
    /// What is left of work that did not end.
    pub fn left_over(&self) -> Vec<PathBuf> {
        ["tmp", "trash", "leases"].iter().flat_map(|name| children(&self.store.join(name))).collect()
    }
    /// Makes all marks older.
    pub fn age_marks(&self, by: Duration) {
        for path in children(&self.store.join("marks")) {
            let text = fs::read_to_string(&path).expect("a mark");
            let (first, rest) = text.split_once('\n').expect("lines");
            let (word, _) = first.split_once(' ').expect("a word and a number");
            let since = (SystemTime::now() - by).duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
            fs::write(&path, format!("{word} {since}\n{rest}")).expect("write");
        }
    }
    /// Whether everything below the store can be read by everybody, and changed by its owner alone.
    ///
    /// # Panics
    /// If not.
    pub fn assert_readable(&self) {
        let find = |words: &[&str]| stdout(&run(Command::new("find").arg(&self.store).args(words)));
        assert_eq!(find(&["!", "-type", "l", "!", "-perm", "-004"]), "");
        assert_eq!(find(&["-type", "d", "!", "-perm", "-005"]), "");
        // Within an image as well, where /tmp was everybody's.
        assert_eq!(find(&["!", "-type", "l", "-perm", "/022"]), "");
    }
}

/// The file of a mark.
pub fn mark(store: &Path, digest: &str) -> PathBuf {
    store.join("marks").join(digest.replace(':', "-"))
}
