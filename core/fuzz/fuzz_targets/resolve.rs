//! No path of the guest leads out of the root and the binds, whatever links lie in them.
//!
//! The input is a list of words: links to make, and paths to resolve between them. Names are few, so that paths meet links.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use udocker_core::engine::path::{LastLink, Limits, Mounts, Place, Processes, Resolver, Scope};

const NAMES: [&str; 16] =
    ["a", "b", "d", "f", "l", "m", "mnt", "in", "out", "secret", "..", ".", "", "etc/file", "proc/self/root", "proc/self/cwd"];
const MAX_NAMES: usize = 8;

/// This process is the guest.
struct Own;

impl Processes for Own {
    fn caller(&self) -> (i32, i32) {
        (std::process::id() as i32, std::process::id() as i32)
    }
    fn is_inside(&self, pid: i32) -> bool {
        pid == std::process::id() as i32
    }
    fn program(&self, _pid: i32) -> Option<&[u8]> {
        None
    }
}

/// A path of some names; whether it is absolute is the first bit.
fn path(bytes: &mut impl Iterator<Item = u8>) -> Option<String> {
    let head = bytes.next()?;
    let count = usize::from(head >> 1) % MAX_NAMES + 1;
    let names: Vec<&str> = bytes.take(count).map(|byte| NAMES[usize::from(byte) % NAMES.len()]).collect();
    let text = names.join("/");
    Some(if head & 1 == 1 { format!("/{text}") } else { text })
}

fuzz_target!(|data: &[u8]| {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let top = directory.path().canonicalize().expect("it was just made");
    for name in ["root/a/b", "root/d", "root/etc", "root/mnt", "root/proc", "bind/in/deep", "out/a"] {
        std::fs::create_dir_all(top.join(name)).expect("mkdir");
    }
    for name in ["root/f", "root/a/f", "bind/f", "bind/in/f", "out/f", "out/secret"] {
        std::fs::write(top.join(name), name).expect("write");
    }
    let mut mounts = Mounts::new(&top.join("root"), false).expect("the root");
    mounts.add(b"/mnt", &top.join("bind"), false).expect("a bind");
    mounts.add(b"/etc/file", &top.join("out/f"), true).expect("a bound file");
    mounts.add(b"/proc", Path::new("/proc"), false).expect("/proc");
    let mut resolver = Resolver::new(mounts);
    let seen = [top.join("root"), top.join("bind"), top.join("out/f"), PathBuf::from("/proc")];
    let mut place = Place::default();
    let mut bytes = data.iter().copied();
    while let Some(what) = bytes.next() {
        let (Some(first), Some(second)) = (path(&mut bytes), path(&mut bytes)) else { break };
        if what & 1 == 1 {
            // A link in the root or in the bind; its place may be taken or lead nowhere.
            let tree = top.join(if what & 2 == 2 { "bind" } else { "root" });
            let at = tree.join(first.trim_start_matches('/'));
            let parent = at.parent().and_then(|parent| parent.canonicalize().ok());
            if let (Some(parent), Some(name)) = (parent, at.file_name())
                && parent.starts_with(&top)
                && !second.is_empty()
            {
                let _ = symlink(&second, parent.join(name));
            }
            continue;
        }
        let last = [LastLink::Follow, LastLink::Keep, LastLink::Name][usize::from(what >> 1) % 3];
        let scopes = [Scope::All, Scope::All, Scope::Beneath, Scope::InRoot];
        let limits = Limits {
            no_links: what & 64 != 0,
            no_crossing: what & 128 != 0,
            no_magic: false,
            scope: scopes[usize::from(what >> 3) % 4],
        };
        for base in ["", "/a", "/mnt/in"] {
            if resolver.resolve_within(base.as_bytes(), first.as_bytes(), last, limits, &Own, &mut place).is_err() {
                continue;
            }
            let guest = String::from_utf8_lossy(&place.guest).into_owned();
            assert!(!guest.split('/').any(|name| name == ".." || name == "."), "{guest} is not canonical");
            if limits.scope != Scope::All {
                assert!(guest.starts_with(base), "{guest} is outside of {base}");
            }
            // The kernel's own answer about the directory that the last name lies in, or about all of it.
            let host = Path::new(OsStr::from_bytes(&place.host));
            let shown = if last == LastLink::Follow { host } else { host.parent().unwrap_or(host) };
            if let Ok(real) = shown.canonicalize() {
                let is_source = last != LastLink::Follow && place.is_mount_point;
                let inside = seen.iter().any(|tree| real.starts_with(tree));
                assert!(is_source || inside, "{base} {first} {last:?} {limits:?} leads to {}", real.display());
            }
        }
    }
});
