//! From a path of the guest to a host path without symbolic links.
//!
//! Most paths hold no link and no `..`: then the innermost mount is found by the text alone, and one
//! `openat2(RESOLVE_NO_SYMLINKS)` proves that the text is right. All others are walked name by name, each looked at on the
//! host; so are all on a kernel without openat2 (before 5.6).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::mounts::{Mount, Mounts};

/// As many links as the kernel follows.
const MAX_LINKS: u32 = 40;
/// PATH_MAX, with its NUL.
const MAX_PATH_BYTES: usize = 4096;

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// What only the engine knows of the guest's processes, for the magic links of /proc.
pub trait Processes {
    /// The process and the thread that a call comes from: what `/proc/self` and `/proc/thread-self` are.
    fn caller(&self) -> (i32, i32);
    /// Whether `pid` is in this container.
    fn is_inside(&self, pid: i32) -> bool;
    /// The guest path of the program that `pid` runs.
    fn program(&self, pid: i32) -> Option<&[u8]>;
}

/// Whether the last name of a path is followed if it is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// It is.
    Follow,
    /// It is not, but by a slash at the end of the path.
    Keep,
    /// It is not: the name itself is made, removed or moved.
    Name,
}

/// Where a path that openat2(2) confines may not lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confined {
    /// It may lead anywhere.
    #[default]
    Nowhere,
    /// Out of its base, on pain of EXDEV (RESOLVE_BENEATH).
    Beneath,
    /// Out of its base, which is its root (RESOLVE_IN_ROOT).
    InRoot,
}

/// What openat2(2) forbids on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Any link (RESOLVE_NO_SYMLINKS).
    pub no_links: bool,
    /// Magic links of /proc (RESOLVE_NO_MAGICLINKS).
    pub no_magic: bool,
    /// Other mounts (RESOLVE_NO_XDEV).
    pub no_crossing: bool,
    /// The base's outside.
    pub confined: Confined,
}

/// Where a relative path begins.
pub type Base<'a> = &'a [u8];

/// Where a path leads. Its buffers are reused.
#[derive(Debug, Default)]
pub struct Place {
    /// Canonical guest path; empty for the root.
    pub guest: Vec<u8>,
    /// Absolute host path, with what the guest's path ended with (`/`, `/.`).
    pub host: Vec<u8>,
    /// The mount that it lies in.
    pub mount: MountFacts,
    /// The mount that its name lies in: another one if it is a mount's own root.
    pub parent: MountFacts,
    /// Whether it lies in procfs.
    pub is_proc: bool,
    /// Whether it is a mount's own root, which cannot be renamed or removed.
    pub is_mount_point: bool,
}

/// What calls that change something ask of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFacts {
    /// Which one it is.
    pub number: u32,
    /// Whether nothing in it may change.
    pub read_only: bool,
}

impl MountFacts {
    fn of(mount: &Mount) -> Self {
        Self { number: mount.number(), read_only: mount.is_read_only() }
    }
}

/// Follows paths of one container.
#[derive(Debug)]
pub struct Resolver {
    mounts: Mounts,
    /// Guest directories in an immutable mount whose path is known to hold no link.
    plain: HashSet<Vec<u8>>,
}

/// Where the walk goes on after it has looked at a link of /proc.
enum Magic {
    /// It is an ordinary name.
    Plain,
    /// It is an ordinary link whose text depends on who asks: at this canonical guest path.
    Own(Vec<u8>),
    /// At this canonical guest path.
    Jump(Vec<u8>),
    /// Nowhere by text: the kernel alone can follow it, as the last name.
    Opaque,
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

    /// Resolves `path`, from the guest directory `base` if it is relative. The last name need not exist.
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
        self.resolve_by_rules(base, path, last, Rules::default(), processes, place)
    }

    /// The same by the rules of openat2(2). A confined path begins at `base` also if it is absolute.
    ///
    /// # Errors
    /// See [`Self::resolve`]; ELOOP and EXDEV for what the rules forbid.
    pub fn resolve_by_rules(
        &mut self,
        base: Base<'_>,
        path: &[u8],
        last: LastLink,
        rules: Rules,
        processes: &impl Processes,
        place: &mut Place,
    ) -> Result<()> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.len() >= MAX_PATH_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        let ending = ending(path);
        let last = if ending.is_empty() || last == LastLink::Name { last } else { LastLink::Follow };
        if rules != Rules::default() || !self.resolve_by_text(base, path, last, place) {
            self.walk(base, path, last, rules, processes, place)?;
        }
        self.finish(ending, place);
        if place.host.len() >= MAX_PATH_BYTES { Err(Errno::NAMETOOLONG) } else { Ok(()) }
    }

    /// Fills in what follows from the guest path.
    fn finish(&self, ending: &[u8], place: &mut Place) {
        let (mount, rest) = self.mounts.find(&place.guest);
        place.host.clear();
        place.host.extend_from_slice(mount.host());
        place.host.extend_from_slice(rest);
        place.host.extend_from_slice(ending);
        if place.host.is_empty() {
            place.host.push(b'/');
        }
        place.mount = MountFacts::of(mount);
        place.is_proc = mount.is_proc();
        place.is_mount_point = rest.is_empty();
        place.parent = match place.guest.iter().rposition(|byte| *byte == b'/') {
            Some(cut) if place.is_mount_point => MountFacts::of(self.mounts.find(&place.guest[..cut]).0),
            _ => place.mount,
        };
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

    /// The long way, name by name. Only the guest path is filled in.
    fn walk(
        &self,
        base: Base<'_>,
        path: &[u8],
        last: LastLink,
        rules: Rules,
        processes: &impl Processes,
        place: &mut Place,
    ) -> Result<()> {
        let mut pending: Vec<Vec<u8>> = Vec::new();
        push_names(&mut pending, path);
        let guest = &mut place.guest;
        guest.clear();
        if path[0] != b'/' || rules.confined == Confined::InRoot {
            guest.extend_from_slice(base);
        } else if rules.confined == Confined::Beneath {
            return Err(Errno::XDEV);
        }
        // Where `..` and absolute links end.
        let top = if rules.confined == Confined::Nowhere { 0 } else { base.len() };
        let first_mount = self.mounts.find(guest).0.number();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                match self.look(guest, b"/.") {
                    Ok(_) | Err(Errno::INVAL) => {}
                    Err(error) => return Err(error),
                }
                if guest.len() == top {
                    if rules.confined == Confined::Beneath {
                        return Err(Errno::XDEV);
                    }
                    continue;
                }
                let cut = guest.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                guest.truncate(cut);
                self.check_crossing(guest, first_mount, rules)?;
                continue;
            }
            if name.len() > 255 {
                return Err(Errno::NAMETOOLONG);
            }
            let before = guest.len();
            guest.push(b'/');
            guest.extend_from_slice(&name);
            let is_last = pending.is_empty();
            if self.mounts.find(guest).1.is_empty() {
                self.check_crossing(guest, first_mount, rules)?;
                continue;
            }
            if is_last && last != LastLink::Follow {
                continue;
            }
            let magic = self.magic(guest, processes)?;
            if matches!(magic, Magic::Jump(_) | Magic::Opaque) {
                if rules.no_links || rules.no_magic {
                    return Err(Errno::LOOP);
                }
                if rules.confined != Confined::Nowhere {
                    return Err(Errno::XDEV);
                }
            }
            match magic {
                Magic::Plain => {}
                Magic::Opaque if is_last => continue,
                Magic::Opaque => return Err(Errno::NOTDIR),
                Magic::Jump(to) | Magic::Own(to) => {
                    links += 1;
                    *guest = to;
                    if links > MAX_LINKS || rules.no_links {
                        return Err(Errno::LOOP);
                    }
                    self.check_crossing(guest, first_mount, rules)?;
                    continue;
                }
            }
            match self.look(guest, b"") {
                Ok(target) => {
                    links += 1;
                    if links > MAX_LINKS || rules.no_links {
                        return Err(Errno::LOOP);
                    }
                    let is_absolute = target.first() == Some(&b'/');
                    // The kernel has not looked up the root yet when a path is relative, and takes it for another mount.
                    let crosses = rules.no_crossing && path[0] != b'/';
                    if is_absolute && (crosses || rules.confined == Confined::Beneath) {
                        return Err(Errno::XDEV);
                    }
                    guest.truncate(if is_absolute { top } else { before });
                    self.check_crossing(guest, first_mount, rules)?;
                    push_names(&mut pending, &target);
                }
                Err(Errno::INVAL) => {}
                Err(Errno::NOENT) if is_last => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// EXDEV if the rules forbid to leave the mount that the path began in, and `guest` is in another.
    fn check_crossing(&self, guest: &[u8], first_mount: u32, rules: Rules) -> Result<()> {
        match rules.no_crossing && self.mounts.find(guest).0.number() != first_mount {
            true => Err(Errno::XDEV),
            false => Ok(()),
        }
    }

    /// The target of the link at `guest`; EINVAL if something else is there.
    fn look(&self, guest: &[u8], ending: &[u8]) -> Result<Vec<u8>> {
        let (mount, rest) = self.mounts.find(guest);
        let mut path = Vec::with_capacity(mount.host().len() + rest.len() + ending.len() + 1);
        path.extend_from_slice(mount.host());
        path.extend_from_slice(rest);
        path.extend_from_slice(ending);
        if path.is_empty() {
            return Err(Errno::INVAL);
        }
        Ok(rustix::fs::readlinkat(CWD, path, Vec::new())?.into_bytes())
    }

    /// What the name at `guest` is if it lies in /proc and is a link that its text does not describe.
    fn magic(&self, guest: &[u8], processes: &impl Processes) -> Result<Magic> {
        let (mount, rest) = self.mounts.find(guest);
        if !mount.is_proc() {
            return Ok(Magic::Plain);
        }
        let top = &guest[..guest.len() - rest.len()];
        let names: Vec<&[u8]> = rest[1..].split(|byte| *byte == b'/').collect();
        let (pid, tid) = processes.caller();
        let number = |name: &[u8]| std::str::from_utf8(name).ok().and_then(|text| text.parse::<i32>().ok());
        match names[..] {
            [b"self"] => return Ok(Magic::Own([top, format!("/{pid}").as_bytes()].concat())),
            [b"thread-self"] => return Ok(Magic::Own([top, format!("/{pid}/task/{tid}").as_bytes()].concat())),
            _ => {}
        }
        let (Some(pid), [_, inside @ ..]) = (names.first().and_then(|name| number(name)), &names[..]) else {
            return Ok(Magic::Plain);
        };
        let inside = match inside {
            [b"task", _, rest @ ..] => rest,
            rest => rest,
        };
        let is_magic = matches!(inside, [b"exe" | b"cwd" | b"root"] | [b"fd", _] | [b"map_files" | b"ns", _]);
        if !is_magic {
            return Ok(Magic::Plain);
        }
        match inside {
            [b"root"] if processes.is_inside(pid) => return Ok(Magic::Jump(Vec::new())),
            [b"exe"] => {
                if let Some(program) = processes.program(pid) {
                    return Ok(Magic::Jump(program.to_vec()));
                }
            }
            _ => {}
        }
        let target = self.look(guest, b"")?;
        match self.mounts.guest_of(&target) {
            Some(_) if target.ends_with(b" (deleted)") => Ok(Magic::Opaque),
            Some(to) => Ok(Magic::Jump(to)),
            // A descriptor is open already: following it shows nothing new.
            None if matches!(inside, [b"fd", _]) => Ok(Magic::Opaque),
            None if target.first() != Some(&b'/') => Ok(Magic::Opaque),
            None => Err(Errno::ACCESS),
        }
    }

    /// What readlink(2) of a magic link shows, as a guest path; `None` if the host's answer stands.
    ///
    /// # Errors
    /// Those of readlink(2).
    pub fn read_magic(&self, place: &Place, processes: &impl Processes) -> Result<Option<Vec<u8>>> {
        if !place.is_proc || place.is_mount_point {
            return Ok(None);
        }
        let (pid, tid) = processes.caller();
        match &place.guest[self.mounts.find(&place.guest).0.guest().len()..] {
            b"/self" => return Ok(Some(pid.to_string().into_bytes())),
            b"/thread-self" => return Ok(Some(format!("{pid}/task/{tid}").into_bytes())),
            _ => {}
        }
        Ok(match self.magic(&place.guest, processes)? {
            Magic::Jump(to) if to.is_empty() => Some(b"/".to_vec()),
            Magic::Jump(to) => Some(to),
            // Answered above.
            Magic::Own(_) | Magic::Plain | Magic::Opaque => None,
        })
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

/// What the kernel asks of the last name: a directory.
fn ending(path: &[u8]) -> &'static [u8] {
    match path.rsplit(|byte| *byte == b'/').next() {
        Some(b"") if path.iter().any(|byte| *byte != b'/') => b"/",
        Some(b"." | b"..") => b"/.",
        _ => b"",
    }
}

/// Puts the names of `path` on the stack, the first on top.
fn push_names(pending: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    pending.extend(names.rev().map(<[u8]>::to_vec));
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
        use LastLink::{Follow, Keep};
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
        for (path, read_only, is_mount_point) in
            [("/f", false, false), ("/l", true, true), ("/mnt", false, true), ("/mnt/f", false, false)]
        {
            let place = tree.resolve("", path, LastLink::Follow).unwrap();
            assert_eq!((place.mount.read_only, place.is_mount_point), (read_only, is_mount_point), "{path}");
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
                let parent = if keep && ending(path.as_bytes()).is_empty() { host.parent().unwrap() } else { host };
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
