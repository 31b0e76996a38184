//! From a path of the guest to a host path without symbolic links.
//!
//! Most paths hold no link and no `..`: then the innermost mount is found by the text alone, and one
//! `openat2(RESOLVE_NO_SYMLINKS)` proves that the text is right. All others are walked name by name, each looked at on the
//! host; so are all on a kernel without openat2 (before 5.6).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::mounts::{Mount, Mounts};
use super::place::{Base, Ending, LastLink, Limits, Place, Processes, parent};

/// PATH_MAX, with its NUL.
const MAX_PATH_BYTES: usize = 4096;

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Follows paths of one container.
#[derive(Debug)]
pub struct Resolver {
    mounts: Mounts,
    /// Guest directories in an immutable mount whose path is known to hold no link.
    plain: HashSet<Vec<u8>>,
}

impl Resolver {
    /// A resolver of these mounts.
    pub fn new(mounts: Mounts) -> Self {
        Self { mounts, plain: HashSet::new() }
    }

    /// The mounts.
    pub fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// The mounts, to add one.
    pub fn mounts_mut(&mut self) -> &mut Mounts {
        self.plain.clear();
        &mut self.mounts
    }

    /// Resolves `path` without limits.
    ///
    /// # Errors
    /// As the kernel: ENOENT, ENOTDIR, ELOOP, EACCES, ENAMETOOLONG. EACCES also for a magic link to what the guest does
    /// not see.
    pub fn resolve(
        &mut self,
        base: Base<'_>,
        path: &[u8],
        last: LastLink,
        processes: &impl Processes,
        place: &mut Place,
    ) -> Result<()> {
        self.resolve_within(base, path, last, Limits::default(), processes, place)
    }

    /// Resolves `path`, from the guest directory `base` if it is relative. The last name need not exist.
    ///
    /// # Errors
    /// Those of [`Self::resolve`], and ELOOP and EXDEV as the limits say.
    pub fn resolve_within(
        &mut self,
        base: Base<'_>,
        path: &[u8],
        last: LastLink,
        limits: Limits,
        processes: &impl Processes,
        place: &mut Place,
    ) -> Result<()> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.len() >= MAX_PATH_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        place.ending = Ending::of(path);
        let walked = match (place.ending, last) {
            (Ending::Name, _) | (Ending::Slash, LastLink::Name) => last,
            _ => LastLink::Follow,
        };
        if limits != Limits::default() || !self.resolve_by_text(base, path, walked, place) {
            self.walk(base, path, walked, limits, processes, place)?;
        }
        self.finish(last, place);
        if place.host.len() >= MAX_PATH_BYTES { Err(Errno::NAMETOOLONG) } else { Ok(()) }
    }

    /// Fills in what follows from the guest path.
    fn finish(&self, last: LastLink, place: &mut Place) {
        let (mount, rest) = self.mounts.find(&place.guest);
        place.host.clear();
        place.host.extend_from_slice(mount.host());
        place.host.extend_from_slice(rest);
        place.host.extend_from_slice(place.ending.text());
        if place.host.is_empty() {
            place.host.push(b'/');
        }
        place.is_proc = mount.is_proc();
        place.is_mount_point = rest.is_empty();
        let mount = match rest.is_empty() && last == LastLink::Name {
            true => self.mounts.find(parent(&place.guest)).0,
            false => mount,
        };
        place.mount = mount.id();
        place.read_only = mount.is_read_only();
    }

    /// The short way; whether it could be taken. Only the guest path is filled in.
    fn resolve_by_text(&mut self, base: Base<'_>, path: &[u8], last: LastLink, place: &mut Place) -> bool {
        place.guest.clear();
        if path[0] != b'/' {
            place.guest.extend_from_slice(base);
        }
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return false,
                name => {
                    place.guest.push(b'/');
                    place.guest.extend_from_slice(name);
                }
            }
        }
        let (mount, rest) = self.mounts.find(&place.guest);
        if rest.is_empty() {
            return true;
        }
        if mount.is_proc() || Mounts::is_file(mount) || NO_OPENAT2.load(Ordering::Relaxed) {
            return false;
        }
        let cut = rest.iter().rposition(|byte| *byte == b'/').expect("the rest begins with a slash");
        match last {
            // The whole is looked at: the last name may be a link or be missing, and then the walk decides.
            LastLink::Follow => is_without_links(mount, rest),
            LastLink::Keep | LastLink::Name if cut == 0 => true,
            LastLink::Keep | LastLink::Name => {
                let parent = &place.guest[..place.guest.len() - (rest.len() - cut)];
                if self.plain.contains(parent) {
                    return true;
                }
                let plain = is_without_links(mount, &rest[..cut]);
                if plain && mount.is_immutable() {
                    self.plain.insert(parent.to_vec());
                }
                plain
            }
        }
    }
}

/// Whether `rest` exists below the mount and is no link, nor goes through one or through another mount's place.
fn is_without_links(mount: &Mount, rest: &[u8]) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(mount.fd(), &rest[1..], flags, Mode::empty(), how) {
        Ok(_) => true,
        // Container runtimes answered EPERM to calls that they did not know.
        Err(Errno::NOSYS | Errno::PERM) => {
            NO_OPENAT2.store(true, Ordering::Relaxed);
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    struct Own;
    impl Processes for Own {
        fn caller(&self) -> (i32, i32) {
            (std::process::id() as i32, std::process::id() as i32)
        }
        fn is_inside(&self, pid: i32) -> bool {
            pid == std::process::id() as i32
        }
        fn program(&self, pid: i32) -> Option<&[u8]> {
            self.is_inside(pid).then_some(b"/bin/program")
        }
    }

    /// `root` with a bind of `bind` at /mnt, of a file at /etc/file, and of /proc.
    struct Tree {
        directory: tempfile::TempDir,
        resolver: Resolver,
    }

    impl Tree {
        fn new(links: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            for name in ["root/a/b/c", "root/d", "root/etc", "bind/in/deep", "out/a"] {
                std::fs::create_dir_all(at(name)).unwrap();
            }
            for name in ["root/f", "root/a/f", "root/d/f", "bind/f", "bind/in/f", "out/f", "out/secret"] {
                std::fs::write(at(name), name).unwrap();
            }
            for (place, target) in links {
                // The place may be taken by an earlier link.
                let _ = symlink(target, at("root").join(place));
            }
            let mut mounts = Mounts::new(&at("root"), false).unwrap();
            mounts.add(b"/mnt", &at("bind"), false).unwrap();
            mounts.add(b"/etc/file", &at("out/f"), true).unwrap();
            mounts.add(b"/proc", Path::new("/proc"), false).unwrap();
            Self { resolver: Resolver::new(mounts), directory }
        }

        fn host(&self, name: &str) -> PathBuf {
            self.directory.path().canonicalize().unwrap().join(name)
        }

        fn resolve(&mut self, base: &str, path: &str, last: LastLink) -> Result<Place> {
            let mut place = Place::default();
            self.resolver.resolve(base.as_bytes(), path.as_bytes(), last, &Own, &mut place)?;
            Ok(place)
        }
    }

    #[test]
    fn paths_lead_where_a_mount_namespace_would_lead_them() {
        use LastLink::{Follow, Keep, Name};
        let links = [
            ("abs", "/a/b"),
            ("rel", "a/../d"),
            ("up", "../../../f"),
            ("to_mnt", "/mnt"),
            ("d/out", "../mnt/in"),
            ("file", "/etc/file"),
            ("dangling", "/d/new"),
            ("loop", "loop"),
            ("self_exe", "/proc/self/exe"),
        ];
        let mut tree = Tree::new(&links);
        std::os::unix::fs::symlink("/d", tree.host("bind/back")).unwrap();
        std::os::unix::fs::symlink("../../../f", tree.host("bind/dots")).unwrap();
        let cases = [
            ("", "/", Follow, Ok(("", "root"))),
            ("", "/f", Follow, Ok(("/f", "root/f"))),
            ("/a", "b/c", Follow, Ok(("/a/b/c", "root/a/b/c"))),
            ("/a", ".", Follow, Ok(("/a", "root/a/."))),
            ("/a", "..", Follow, Ok(("", "root/."))),
            ("", "/../../..", Follow, Ok(("", "root/."))),
            ("", "//a///b/", Follow, Ok(("/a/b", "root/a/b/"))),
            ("", "/abs", Follow, Ok(("/a/b", "root/a/b"))),
            ("", "/abs", Keep, Ok(("/abs", "root/abs"))),
            ("", "/abs/", Keep, Ok(("/a/b", "root/a/b/"))),
            ("", "/abs/", Name, Ok(("/abs", "root/abs/"))),
            ("", "/abs/.", Name, Ok(("/a/b", "root/a/b/."))),
            ("", "/abs/c", Keep, Ok(("/a/b/c", "root/a/b/c"))),
            ("/d", "../rel/f", Follow, Ok(("/d/f", "root/d/f"))),
            ("", "/up", Follow, Ok(("/f", "root/f"))),
            ("", "/mnt", Follow, Ok(("/mnt", "bind"))),
            ("", "/mnt/in/../f", Follow, Ok(("/mnt/f", "bind/f"))),
            ("", "/mnt/..", Follow, Ok(("", "root/."))),
            ("/mnt/in", "../../f", Follow, Ok(("/f", "root/f"))),
            ("", "/to_mnt/in/deep", Follow, Ok(("/mnt/in/deep", "bind/in/deep"))),
            ("", "/d/out/f", Follow, Ok(("/mnt/in/f", "bind/in/f"))),
            ("", "/mnt/back/f", Follow, Ok(("/d/f", "root/d/f"))),
            ("/mnt", "back", Follow, Ok(("/d", "root/d"))),
            ("", "/mnt/dots", Follow, Ok(("/f", "root/f"))),
            ("", "/file", Follow, Ok(("/etc/file", "out/f"))),
            ("", "/etc/file", Keep, Ok(("/etc/file", "out/f"))),
            ("", "/etc/file/x", Keep, Ok(("/etc/file/x", "out/f/x"))),
            ("", "/dangling", Follow, Ok(("/d/new", "root/d/new"))),
            ("", "/d/none", Follow, Ok(("/d/none", "root/d/none"))),
            ("", "/none/x", Follow, Err(Errno::NOENT)),
            ("", "/none/..", Follow, Err(Errno::NOENT)),
            ("", "/f/x", Follow, Err(Errno::NOTDIR)),
            ("", "/f/..", Follow, Err(Errno::NOTDIR)),
            ("", "/loop", Follow, Err(Errno::LOOP)),
            ("", "/loop", Keep, Ok(("/loop", "root/loop"))),
            ("", "", Follow, Err(Errno::NOENT)),
            ("", "/proc/self/root/f", Follow, Ok(("/f", "root/f"))),
            ("", "/proc/self/root", Follow, Ok(("", "root"))),
            ("", "/proc/1/root/etc", Follow, Err(Errno::ACCESS)),
            ("", "/self_exe", Follow, Ok(("/bin/program", "root/bin/program"))),
            ("", "/proc/thread-self/exe", Follow, Ok(("/bin/program", "root/bin/program"))),
        ];
        let own_is_root = rustix::process::geteuid().is_root();
        for no_openat2 in [false, true] {
            NO_OPENAT2.store(no_openat2, Ordering::Relaxed);
            for (base, path, last, expected) in cases {
                if path.starts_with("/proc/1/") && !own_is_root {
                    continue;
                }
                let found = tree.resolve(base, path, last);
                let found = found.map(|place| (place.guest, place.host));
                let expected = expected.map(|(guest, host)| {
                    (guest.as_bytes().to_vec(), tree.host("").as_os_str().as_bytes()[..].to_vec(), host)
                });
                let expected = expected.map(|(guest, top, host)| (guest, [&top[..], host.as_bytes()].concat()));
                assert_eq!(found, expected, "{base} {path} {last:?}, without openat2: {no_openat2}");
            }
        }
        NO_OPENAT2.store(false, Ordering::Relaxed);
        let proc = tree.resolve("", "/proc/self/stat", Follow).unwrap();
        assert_eq!(proc.host, format!("/proc/{}/stat", std::process::id()).into_bytes());
        let long = "x".repeat(256);
        assert_eq!(tree.resolve("", &format!("/{long}/y"), Follow).unwrap_err(), Errno::NAMETOOLONG);
        assert_eq!(tree.resolve("", &"/a".repeat(2048), Follow).unwrap_err(), Errno::NAMETOOLONG);
    }

    #[test]
    fn mounts_say_whether_a_place_may_change() {
        let mut tree = Tree::new(&[("l", "/etc/file")]);
        for (path, last, mount, read_only, is_mount_point) in [
            ("/f", LastLink::Follow, 0, false, false),
            ("/l", LastLink::Follow, 2, true, true),
            ("/etc/file", LastLink::Keep, 2, true, true),
            ("/etc/file", LastLink::Name, 0, false, true),
            ("/mnt", LastLink::Follow, 1, false, true),
            ("/mnt/", LastLink::Name, 0, false, true),
            ("/mnt/f", LastLink::Name, 1, false, false),
            ("/", LastLink::Name, 0, false, true),
        ] {
            let place = tree.resolve("", path, last).unwrap();
            let found = (place.mount, place.read_only, place.is_mount_point);
            assert_eq!(found, (mount, read_only, is_mount_point), "{path} {last:?}");
        }
        for (path, ending) in [
            ("/", Ending::Root),
            ("f", Ending::Name),
            ("f/", Ending::Slash),
            ("f//.", Ending::Dot),
            ("./", Ending::Dot),
            ("f/..", Ending::DotDot),
            ("..//", Ending::DotDot),
        ] {
            assert_eq!(Ending::of(path.as_bytes()), ending, "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn no_path_leaves_the_root_and_the_binds(
            links in prop::collection::vec(("(a/|a/b/|d/)?[lm]", "/{0,1}(\\.\\./){0,4}(a|d|l|m|f|mnt|mnt/in|out|out/secret|etc/file|a/l|proc/self/root|proc/self/cwd|\\.)?"), 0..8),
            base in "(|/a|/a/b|/mnt|/mnt/in)",
            path in "/?(a|b|c|d|f|l|m|mnt|in|etc|out|\\.\\.|\\.)(/(a|b|c|d|f|l|m|mnt|in|out|secret|file|\\.\\.|\\.)){0,6}/?",
            keep in any::<bool>(),
        ) {
            let links: Vec<_> = links.iter().filter(|(_, to)| !to.is_empty()).map(|(at, to)| (&**at, &**to)).collect();
            let mut tree = Tree::new(&links);
            let last = if keep { LastLink::Keep } else { LastLink::Follow };
            let by_text = tree.resolve(&base, &path, last);
            NO_OPENAT2.store(true, Ordering::Relaxed);
            let by_walk = tree.resolve(&base, &path, last);
            NO_OPENAT2.store(false, Ordering::Relaxed);
            let only = |found: &Result<Place>| found.as_ref().map(|place| place.host.clone()).map_err(|error| *error);
            // What is left of a path behind a missing name or a file is for the kernel to refuse.
            prop_assert_eq!(only(&by_text), only(&by_walk));
            if let Ok(place) = by_text {
                let host = Path::new(OsStr::from_bytes(&place.host));
                // The kernel's own answer: no link is left on the way, nor at the end if it was to be followed.
                let parent = if keep && Ending::of(path.as_bytes()) == Ending::Name { host.parent().unwrap() } else { host };
                if let Ok(real) = parent.canonicalize() {
                    let seen = [tree.host("root"), tree.host("bind"), tree.host("out/f")];
                    // The place of a mount is no link: its source was made canonical.
                    let is_source = keep && place.is_mount_point;
                    prop_assert!(
                        is_source || real.starts_with("/proc") || seen.iter().any(|top| real.starts_with(top)),
                        "{} {:?}", host.display(), real
                    );
                    prop_assert_eq!(real, parent.components().collect::<PathBuf>());
                }
            }
        }
    }
}
