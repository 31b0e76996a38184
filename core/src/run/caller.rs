//! What the process knows of its caller: read once by a front end, never through NSS.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::passwd::passwd_entries;
use super::{Caller, Range, UserSpec};
use crate::env_vars;
use crate::sys::fds;

/// Longest account file that is read, in bytes; the rest of a longer one is passed over.
const MAX_ACCOUNT_BYTES: u64 = 4 << 20;
/// The host's accounts.
const PASSWD: &str = "/etc/passwd";

impl Caller {
    /// Gathers the caller from `env` (the whole environment), the process's IDs and directory, /etc/passwd and
    /// /etc/subuid, /etc/subgid.
    ///
    /// An account that is nowhere is normal: the name is then `uUID`, the home `/`. A working directory that is gone
    /// is `/`.
    ///
    /// Each rank pays for this, so files are read only where they can be needed: accounts if the environment does not name
    /// user and home, subordinate IDs for a `user` other than the caller.
    pub fn gather(env: Vec<(OsString, OsString)>, user: &UserSpec) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let cwd = rustix::process::getcwd(Vec::new()).map(|path| PathBuf::from(OsString::from_vec(path.into_bytes())));
        let (name, home) = account(&env, uid, || read(Path::new(PASSWD)));
        // A directory that was removed, or lies outside our root, has no absolute path.
        let cwd = cwd.ok().filter(|path| path.is_absolute()).unwrap_or_else(|| "/".into());
        let sockets = manager_fds(&env).filter(|fd| fds::is_socket(*fd)).collect();
        let mut caller = Self {
            uid,
            gid,
            name,
            home,
            shell: None,
            runtime_dir: None,
            cwd,
            env,
            sockets,
            subordinate: None,
            interactive: Default::default(),
            site_mounts: None,
            site_env: None,
            gpu: None,
        };
        caller.look_up_subordinate(user);
        caller
    }

    /// Looks up the subordinate IDs where a program as `user` may need them.
    pub fn look_up_subordinate(&mut self, user: &UserSpec) {
        let wanted = self.uid != 0 && *user != UserSpec::Caller && self.subordinate.is_none();
        if wanted && ["/usr/bin/newuidmap", "/usr/bin/newgidmap"].iter().all(|path| may_map(Path::new(path))) {
            let range = |path: &str| subordinate_range(&read(Path::new(path)), &self.name, self.uid);
            self.subordinate = range("/etc/subuid").and_then(|uids| Some((uids, range("/etc/subgid")?)));
        }
    }
}

/// The descriptors above 2 that the variables of process managers name. A variable may be older than its descriptor:
/// programs that start others often close all.
fn manager_fds(env: &[(OsString, OsString)]) -> impl Iterator<Item = i32> {
    let of = |name: &&str| {
        let (_, value) = env.iter().rev().find(|(n, _)| n == name)?;
        value.to_str()?.parse().ok().filter(|fd| *fd > 2)
    };
    let mut found: Vec<i32> = env_vars::PMI_FDS.iter().filter_map(of).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter()
}

/// Name and home: USER and HOME, else the first line with `uid` of what `passwd` reads, else made up.
fn account(env: &[(OsString, OsString)], uid: u32, passwd: impl FnOnce() -> Vec<u8>) -> (String, PathBuf) {
    let variable = |name: &str| env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str());
    let name = variable("USER").and_then(OsStr::to_str).filter(|name| !name.is_empty()).map(str::to_owned);
    let home = variable("HOME").map(OsStr::to_owned);
    let (name, home) = match (name, home) {
        (Some(name), Some(home)) => (name, home),
        (name, home) => {
            let passwd = passwd();
            let entry = passwd_entries(&passwd).find(|entry| entry.uid == uid);
            let account = || entry.as_ref().map(|entry| String::from_utf8_lossy(entry.name).into_owned());
            let its_home = || entry.as_ref().map(|entry| OsString::from_vec(entry.home.to_vec()));
            (name.or_else(account).unwrap_or_else(|| format!("u{uid}")), home.or_else(its_home).unwrap_or_default())
        }
    };
    let home = Some(PathBuf::from(home)).filter(|home| home.is_absolute());
    (name, home.unwrap_or_else(|| "/".into()))
}

/// The login shell of `uid` in the host's accounts.
pub fn host_shell(uid: u32) -> Option<OsString> {
    let passwd = read(Path::new(PASSWD));
    let entry = passwd_entries(&passwd).find(|entry| entry.uid == uid)?;
    Some(OsString::from_vec(entry.shell.to_vec()))
}

/// The first range of subuid(5) or subgid(5) that belongs to `name` or `uid` and is not empty.
fn subordinate_range(bytes: &[u8], name: &str, uid: u32) -> Option<Range> {
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.trim().parse::<u32>().ok();
    bytes.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let owner = fields.next()?;
        if owner != name.as_bytes() && owner != uid.to_string().as_bytes() {
            return None;
        }
        let (first, count) = (number(fields.next()?)?, number(fields.next()?)?);
        (first > 0 && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    })
}

/// Whether a helper can write maps: set-uid root, or with file capabilities.
fn may_map(path: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    let set_uid = metadata.uid() == 0 && metadata.permissions().mode() & 0o4000 != 0;
    set_uid || rustix::fs::getxattr(path, "security.capability", &mut [0u8; 0][..]).is_ok_and(|length| length > 0)
}

/// The file's bytes; one that cannot be read tells nothing, and that is normal here.
fn read(path: &Path) -> Vec<u8> {
    // One read(2) for files of the usual size, where an empty vector takes ten.
    let mut bytes = Vec::with_capacity(4096);
    let Ok(file) = File::open(path) else { return bytes };
    match file.take(MAX_ACCOUNT_BYTES).read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::run::tests::pairs;

    #[test]
    fn accounts_come_from_the_environment_then_from_passwd() {
        let passwd = b"root:x:0:0:r:/root:/bin/sh\nbob:x:7:7::/home/bob:/bin/sh\nx:x:8:8::rel:/bin/sh\n";
        for (case, env, uid, expected) in [
            ("environment", &[("USER", "al"), ("HOME", "/h")][..], 7, ("al", "/h")),
            ("passwd", &[], 7, ("bob", "/home/bob")),
            ("empty and relative", &[("USER", ""), ("HOME", "h")], 7, ("bob", "/")),
            ("nowhere", &[], 99, ("u99", "/")),
            ("a home that is no path", &[], 8, ("x", "/")),
        ] {
            let (name, home) = account(&pairs(env), uid, || passwd.to_vec());
            assert_eq!((name.as_str(), home.to_str().unwrap()), expected, "{case}");
        }
    }

    #[test]
    fn descriptors_of_process_managers() {
        for (value, expected) in [("11", &[11][..]), ("2", &[]), ("-1", &[]), ("x", &[]), ("", &[])] {
            assert_eq!(manager_fds(&pairs(&[("PMI_FD", value)])).collect::<Vec<_>>(), expected, "{value}");
        }
        let both = pairs(&[("PMI_CONTROL_FD", "5"), ("PMI_FD", "5"), ("HYDI_CONTROL_FD", "4")]);
        assert_eq!(manager_fds(&both).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn only_sockets_are_taken_for_a_process_manager_s() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let sockets = |fd: i32| {
            let env = pairs(&[("PMI_FD", &fd.to_string())]);
            Caller::gather(env, &UserSpec::Caller).sockets
        };
        assert_eq!(sockets(socket.as_raw_fd()), [socket.as_raw_fd()]);
        assert!(sockets(file.as_raw_fd()).is_empty());
        assert!(sockets(999_999).is_empty());
    }

    #[test]
    fn subordinate_ranges() {
        for (text, expected) in [
            ("alice:100000:65536\n", Some((100_000, 65536))),
            ("bob:1:2\n7:100000:65536", Some((100_000, 65536))),
            ("alice:100000:0\nalice:5:6\n", Some((5, 6))),
            ("alice:4294967295:65536\n", None),
            ("alice:0:10\n", None),
            ("alice\n#\n", None),
            ("", None),
        ] {
            assert_eq!(subordinate_range(text.as_bytes(), "alice", 7), expected, "{text:?}");
        }
    }

    #[test]
    fn helpers_need_set_uid_root() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("newuidmap");
        assert!(!may_map(&path));
        std::fs::write(&path, "").unwrap();
        assert!(!may_map(&path));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(may_map(&path), rustix::process::geteuid().is_root());
    }

    #[test]
    fn gathering_reads_this_process() {
        let env = pairs(&[("USER", "someone"), ("HOME", "/h")]);
        let caller = Caller::gather(env.clone(), &UserSpec::Root);
        assert_eq!(caller.uid, rustix::process::getuid().as_raw());
        assert_eq!(caller.gid, rustix::process::getgid().as_raw());
        assert_eq!(caller.cwd, std::env::current_dir().unwrap());
        assert_eq!((caller.name.as_str(), caller.home, caller.env), ("someone", "/h".into(), env));
    }
}
