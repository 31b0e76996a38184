//! udocker's keystore: a JSON object `{"REGISTRY URL": {"auth": BASE64(user:password), "email": ""}}` of mode 0600.
//!
//! Both programs use the same file. It is written beside its place and renamed there, by one process at a time (flock(2)
//! on its directory, as far as the file system has that); entries and fields that are not ours stay as they are.
//!
//! Beside it, in `KEYSTORE.realms`, a JSON object `{"HOST": "HOST OF ITS TOKEN SERVER"}` keeps whom a login sent the
//! password to. A registry that names another token server later gets no password until the next login.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::Formatter;
use serde_json::{Map, Value, json};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::reference::{RegistryHost, is_docker_hub};

use super::auth::Secret;

/// The keystore cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its mode is too wide.
    #[error("{0} holds passwords and others may read it; `chmod 600 {0}` mends that", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It is another user's.
    #[error("{} belongs to another user", path.display())]
    Owner {
        /// The file or its directory.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{} is no keystore", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// One entry cannot be read.
    #[error("{} has an entry for {host} that is not base64", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Whose entry.
        host: RegistryHost,
    },
    /// There is nothing to delete.
    #[error("{} has no credentials{}", path.display(), host.as_ref().map(|host| format!(" for {host}")).unwrap_or_default())]
    NoEntry {
        /// The file.
        path: PathBuf,
        /// Whose entry.
        host: Option<RegistryHost>,
    },
}

impl Explain for KeystoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => ErrorKind::from_io(source),
            Self::Exposed { .. } | Self::Owner { .. } => ErrorKind::Denied,
            Self::Json { .. } | Self::Entry { .. } => ErrorKind::Corrupt,
            Self::NoEntry { .. } => ErrorKind::NotFound,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Json { path, .. } => vec![format!("move {} away and log in again", path.display())],
            Self::Owner { .. } => vec!["UDOCKER_KEYSTORE names another one".into()],
            _ => Vec::new(),
        }
    }
}

/// The keystore in a file, which need not exist.
#[derive(Clone, Debug)]
pub struct Keystore {
    path: PathBuf,
}

type Entries = Map<String, Value>;
type Realms = BTreeMap<String, String>;

impl Keystore {
    /// The keystore at `path`.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// `user:password` for `host`; an entry for exactly `https://HOST` wins over others of the same host.
    pub(super) fn get(&self, host: &RegistryHost) -> Result<Option<Secret>, KeystoreError> {
        let entries: Entries = read(&self.path)?;
        let exact = format!("https://{host}");
        let found = entries.get(&exact).or_else(|| entries.iter().find(|(key, _)| means(key, host)).map(|(_, v)| v));
        let Some(entry) = found else { return Ok(None) };
        let bad = || KeystoreError::Entry { path: self.path.clone(), host: host.clone() };
        entry["auth"].as_str().and_then(decode).map(Some).ok_or_else(bad)
    }

    /// Stores credentials under `url`, and the host of the token server that had them verified for `host`.
    ///
    /// # Errors
    /// The file is as before then.
    pub fn put(
        &self,
        url: &str,
        host: &RegistryHost,
        user: &str,
        password: &Secret,
        token_server: Option<&str>,
    ) -> Result<(), KeystoreError> {
        let _lock = self.lock()?;
        let mut entries: Entries = read(&self.path)?;
        let auth = STANDARD.encode(format!("{user}:{}", password.0));
        entries.insert(url.to_owned(), json!({"auth": auth, "email": ""}));
        self.pin(host, token_server)?;
        write(&self.path, &entries)
    }

    /// Deletes `url` and every other entry that would be used for `host`.
    ///
    /// # Errors
    /// [`KeystoreError::NoEntry`] if there is none.
    pub fn remove(&self, url: &str, host: &RegistryHost) -> Result<(), KeystoreError> {
        let _lock = self.lock()?;
        let mut entries: Entries = read(&self.path)?;
        let count = entries.len();
        entries.retain(|key, _| key != url && !means(key, host));
        if entries.len() == count {
            return Err(KeystoreError::NoEntry { path: self.path.clone(), host: Some(host.clone()) });
        }
        write(&self.path, &entries)?;
        self.pin(host, None)
    }

    /// Deletes the whole file.
    ///
    /// # Errors
    /// [`KeystoreError::NoEntry`] if there is none.
    pub fn erase(&self) -> Result<(), KeystoreError> {
        let _lock = self.lock()?;
        for (path, must_exist) in [(&self.path, true), (&self.realms(), false)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(KeystoreError::NoEntry { path: path.clone(), host: None });
                }
                other => other.map_err(failed("remove", path))?,
            }
        }
        Ok(())
    }

    /// The host of the token server that the password for `host` was first sent to, if a login of ours did.
    pub(super) fn token_server(&self, host: &RegistryHost) -> Result<Option<String>, KeystoreError> {
        let realms: Realms = read(&self.realms())?;
        Ok(realms.get(pin_name(host)).cloned())
    }

    fn pin(&self, host: &RegistryHost, token_server: Option<&str>) -> Result<(), KeystoreError> {
        let mut realms: Realms = read(&self.realms())?;
        let before = realms.clone();
        match token_server {
            Some(server) => realms.insert(pin_name(host).to_owned(), server.to_owned()),
            None => realms.remove(pin_name(host)),
        };
        if realms == before { Ok(()) } else { write(&self.realms(), &realms) }
    }

    fn realms(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".realms");
        name.into()
    }

    /// Makes the directory if it is missing, checks whose it is, and keeps other writers out until the file is dropped.
    fn lock(&self) -> Result<File, KeystoreError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed("make", directory))?;
        let file = File::open(directory).map_err(failed("open", directory))?;
        let owner = file.metadata().map_err(failed("read", directory))?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(KeystoreError::Owner { path: directory.into() });
        }
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive) {
            // A file system without locks: two logins at once may then lose one of them.
            Ok(()) | Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                Ok(file)
            }
            Err(errno) => Err(failed("lock", directory)(errno.into())),
        }
    }
}

/// Whether `key`, a URL or a host with at most `/v1/` or `/v2/` behind it, means `host`.
pub(super) fn means(key: &str, host: &RegistryHost) -> bool {
    let rest = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    matches!(path.trim_end_matches('/'), "" | "v1" | "v2")
        && (name == host.as_str()
            || name.parse::<RegistryHost>().is_ok_and(|key| is_docker_hub(&key) && is_docker_hub(host)))
}

/// `user:password` of a base64 text.
pub(super) fn decode(auth: &str) -> Option<Secret> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    text.contains(':').then_some(Secret(text))
}

/// All names of Docker Hub are one registry.
fn pin_name(host: &RegistryHost) -> &str {
    if is_docker_hub(host) { udocker_core::reference::DEFAULT_REGISTRY } else { host.as_str() }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> KeystoreError {
    move |source| KeystoreError::File { action, path: path.into(), source }
}

/// What the JSON of `path` says; nothing if there is no such file.
fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, KeystoreError> {
    let file = match File::open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(T::default());
        }
        other => other.map_err(failed("read", path))?,
    };
    let status = file.metadata().map_err(failed("read", path))?;
    if status.mode() & 0o077 != 0 {
        return Err(KeystoreError::Exposed { path: path.into() });
    }
    // One that was begun and never written, as by `touch`.
    if status.len() == 0 {
        return Ok(T::default());
    }
    serde_json::from_reader(io::BufReader::new(file))
        .map_err(|source| KeystoreError::Json { path: path.into(), source })
}

/// Replaces `path`, or what it is a link to.
fn write(path: &Path, value: &impl Serialize) -> Result<(), KeystoreError> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|status| status.uid() != rustix::process::geteuid().as_raw()) {
        return Err(KeystoreError::Owner { path: target });
    }
    let mut name = target.clone().into_os_string();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = PathBuf::from(name);
    // One that a crashed process with our number left.
    let _ = fs::remove_file(&temporary);
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, AsPython);
    value.serialize(&mut serializer).expect("a map of texts serialises");
    let result = File::options().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)
    });
    result.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("write", &target)(error)
    })
}

/// Python's blanks, so that a file looks the same whoever wrote it.
struct AsPython;

impl Formatter for AsPython {
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> RegistryHost {
        text.parse().unwrap()
    }

    #[test]
    fn keys_mean_hosts() {
        for (key, name, expected) in [
            ("https://quay.io", "quay.io", true),
            ("quay.io", "quay.io", true),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000", true),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("https://registry-1.docker.io", "docker.io", true),
            ("quay.io/team", "quay.io", false),
            ("https://quay.io.example", "quay.io", false),
            ("https://127.0.0.1:5001", "127.0.0.1:5000", false),
        ] {
            assert_eq!(means(key, &host(name)), expected, "{key} {name}");
        }
    }

    #[test]
    fn entries_come_and_go_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/keystore");
        let (store, quay, other) = (Keystore::at(&path), host("quay.io"), host("other.example"));
        let secret = Secret::new("pä:ss");
        store.put("https://quay.io", &quay, "me", &secret, Some("auth.quay.io")).unwrap();
        store.put("https://other.example", &other, "you", &secret, None).unwrap();
        assert_eq!(store.get(&quay).unwrap(), Some(Secret::new("me:pä:ss")));
        assert_eq!(store.token_server(&quay).unwrap().as_deref(), Some("auth.quay.io"));
        assert_eq!(store.token_server(&other).unwrap(), None);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        store.remove("https://quay.io", &quay).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"https://other.example": {"auth": "eW91OnDDpDpzcw==", "email": ""}}"#
        );
        assert_eq!(store.token_server(&quay).unwrap(), None);
        let error = store.remove("https://quay.io", &quay).unwrap_err();
        assert_eq!(error.to_string(), format!("{} has no credentials for quay.io", path.display()));
        store.erase().unwrap();
        assert_eq!(store.erase().unwrap_err().to_string(), format!("{} has no credentials", path.display()));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_keystore_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keystore");
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(b"[]").unwrap();
        let quay = host("quay.io");
        let error = Keystore::at(&path).put("https://quay.io", &quay, "u", &Secret::new("p"), None).unwrap_err();
        assert!(matches!(error, KeystoreError::Json { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"[]");
    }
}
