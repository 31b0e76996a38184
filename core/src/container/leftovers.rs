//! What udocker's F, R and S modes left in a container's `ROOT`, taken back: afterwards it is as the image made it.
//!
//! ```text
//! F    links in ROOT with the host's path of ROOT before their target; `root.path` names that path
//! F2+  the loader at `ld.so.path` is a changed copy; the original is `ld.so.orig`
//! F3+  ELF files with that path before their interpreter and libraries; `patch.path` names the container's directory
//! R S  `.bind_orig_files/#etc#passwd` is the original of ROOT/etc/passwd, which is a link into ROOT/.bind_host_files
//! all  `.mountpoints/#data#x -> #data`: a mount point that was made, and the deepest part that was there before
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::ContainerId;
use crate::elf;
use crate::store::remove_tree;

const ORIGINALS: &str = ".bind_orig_files";
const POINTS: &str = ".mountpoints";

/// Undoes all that a mode did to the files of the container in `directory`.
pub(super) fn restore(directory: &Path) -> io::Result<()> {
    restore_links(directory)?;
    restore_loader(directory)?;
    restore_programs(directory)?;
    restore_bound_files(directory)
}

/// The path of ROOT that a mode used: that of the last change, which is not where the container lies if it was moved.
fn former_roots(directory: &Path) -> Vec<PathBuf> {
    let read = |name: &str| Some(PathBuf::from(fs::read_to_string(directory.join(name)).ok()?.trim()));
    let mut roots = Vec::new();
    roots.extend(read("root.path"));
    roots.extend(read("patch.path").map(|path| path.join("ROOT")));
    roots.push(directory.join("ROOT"));
    roots.extend(fs::canonicalize(directory.join("ROOT")).ok());
    roots.retain(|root| root.is_absolute() && root.ends_with("ROOT"));
    roots.dedup();
    roots
}

fn restore_links(directory: &Path) -> io::Result<()> {
    let roots = former_roots(directory);
    walk(&directory.join("ROOT"), &mut |path, kind| {
        if !kind.is_symlink() {
            return Ok(());
        }
        let target = fs::read_link(path)?;
        match without_root(&target, &roots) {
            Some(target) => fs::remove_file(path).and_then(|()| symlink(target, path)),
            None => Ok(()),
        }
    })
}

/// `target` without the ROOT before it: one of `roots`, or any container's.
fn without_root(target: &Path, roots: &[PathBuf]) -> Option<PathBuf> {
    let inside = |rest: &Path| Path::new("/").join(rest);
    if let Some(rest) = roots.iter().find_map(|root| target.strip_prefix(root).ok()) {
        return Some(inside(rest));
    }
    let parts: Vec<Component<'_>> = target.components().collect();
    let at = parts.windows(3).position(|three| {
        three[0].as_os_str() == "containers"
            && three[1].as_os_str().to_str().is_some_and(ContainerId::is_id)
            && three[2].as_os_str() == "ROOT"
    })?;
    target.is_absolute().then(|| inside(&parts[at + 3..].iter().collect::<PathBuf>()))
}

fn restore_loader(directory: &Path) -> io::Result<()> {
    let Ok(loader) = fs::read_to_string(directory.join("ld.so.path")) else { return Ok(()) };
    let original = match fs::read(directory.join("ld.so.orig")) {
        Ok(bytes) if !bytes.is_empty() => bytes,
        _ => return Ok(()),
    };
    let root = directory.join("ROOT");
    let opened = fs::File::open(&root)?;
    let file = crate::sys::resolve::open_in_root(&opened, Path::new(loader.trim()), OFlags::PATH)?;
    // The name of what was found, whatever links led there: it is replaced, since a running program may hold it.
    let path = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))?;
    if !path.starts_with(fs::canonicalize(&root)?) {
        return Err(io::Error::other(format!("the loader {} lies outside of ROOT", path.display())));
    }
    replace(&path, &original)
}

fn restore_programs(directory: &Path) -> io::Result<()> {
    if !directory.join("patch.path").exists() {
        return Ok(());
    }
    let roots = former_roots(directory);
    walk(&directory.join("ROOT"), &mut |path, kind| {
        if !kind.is_file() || !has_elf_magic(path) {
            return Ok(());
        }
        let mut bytes = fs::read(path)?;
        let changed = roots.iter().filter(|root| elf::strip_prefix(&mut bytes, root.as_os_str().as_bytes())).count();
        if changed > 0 { replace(path, &bytes) } else { Ok(()) }
    })?;
    for name in ["patch.path", "patch.time"] {
        remove_if_there(&directory.join(name))?;
    }
    Ok(())
}

fn has_elf_magic(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

/// Writes a file beside `path` and renames it there, with its mode.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.permissions().mode();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".udocker-new");
    let new = path.with_file_name(name);
    // Whatever the image or a crash put there: written through a link, it would be a file of the host.
    remove_if_there(&new)?;
    let mut file = fs::File::create_new(&new)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)
}

/// Puts the originals of files back that were bound by links.
pub(super) fn restore_bound_files(directory: &Path) -> io::Result<()> {
    let (originals, root) = (directory.join(ORIGINALS), directory.join("ROOT"));
    for entry in list(&originals)? {
        let Some(path) = inside(&root, entry.file_name().as_bytes()) else { continue };
        if !entry.file_type()?.is_file() || (path.exists() && !path.is_symlink()) {
            continue;
        }
        remove_if_there(&path)?;
        fs::rename(entry.path(), &path)?;
    }
    remove_tree(&originals)?;
    remove_tree(&root.join(".bind_host_files"))
}

/// Removes the mount points that were made, if they are empty.
pub(super) fn remove_mount_points(directory: &Path) -> io::Result<()> {
    let (points, root) = (directory.join(POINTS), directory.join("ROOT"));
    let mut made = Vec::new();
    for entry in list(&points)? {
        let before = fs::read_link(entry.path()).unwrap_or_default();
        let (point, before) = (entry.file_name(), before.as_os_str().as_bytes().to_vec());
        if let (Some(point), Some(before)) = (inside(&root, point.as_bytes()), inside(&root, &before)) {
            made.push((point, before));
        }
    }
    // The deepest first.
    made.sort_by_key(|(point, _)| std::cmp::Reverse(point.components().count()));
    for (mut point, before) in made {
        while point.starts_with(&before) && point != before {
            let empty = fs::symlink_metadata(&point).is_ok_and(|status| status.is_file() && status.len() == 0);
            // What is in use, or has content, stays.
            let gone = if empty { fs::remove_file(&point) } else { fs::remove_dir(&point) };
            if gone.is_err() || !point.pop() {
                break;
            }
        }
    }
    remove_tree(&points)
}

/// The path of `#etc#passwd` below `root`; `None` if it would leave it.
fn inside(root: &Path, name: &[u8]) -> Option<PathBuf> {
    let bytes: Vec<u8> = name.iter().map(|byte| if *byte == b'#' { b'/' } else { *byte }).collect();
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let mut out = root.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                // A link on the way may lead anywhere.
                if out != root && out.is_symlink() {
                    return None;
                }
                out.push(name);
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

fn list(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other?.collect(),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Calls `visit` for everything below `directory`, which no link leaves; what may not be read is passed over.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path, fs::FileType) -> io::Result<()>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        other => other?.collect::<io::Result<Vec<_>>>()?,
    };
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            walk(&path, visit)?;
        } else {
            visit(&path, kind)?;
        }
    }
    Ok(())
}

/// Gives the owner what it takes to read and remove: files `| 0600`, directories `| 0700`; all below `directory` too.
pub(super) fn open_permissions(directory: &Path) -> io::Result<()> {
    let mode = |path: &Path, more: u32| {
        let mode = fs::symlink_metadata(path)?.permissions().mode() & 0o7777;
        if mode & more == more { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(mode | more)) }
    };
    mode(directory, 0o700)?;
    for entry in list(directory)? {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_permissions(&entry.path())?;
        } else if kind.is_file() {
            mode(&entry.path(), 0o600)?;
        }
    }
    Ok(())
}

/// Makes everything below `directory` root's: inside the user namespace of the caller's subordinate IDs, that is the
/// caller.
pub(super) fn take_ownership(directory: &Path) -> io::Result<()> {
    std::os::unix::fs::lchown(directory, Some(0), Some(0))?;
    for entry in list(directory)? {
        match entry.file_type()?.is_dir() {
            true => take_ownership(&entry.path())?,
            false => std::os::unix::fs::lchown(entry.path(), Some(0), Some(0))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a1b2c3d-0000-4000-8000-0123456789ab";

    fn container() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("containers").join(ID);
        fs::create_dir_all(directory.join("ROOT/etc")).unwrap();
        (folder, directory)
    }

    #[test]
    fn links_lose_the_host_s_path() {
        let (_folder, directory) = container();
        let root = directory.join("ROOT");
        fs::write(directory.join("root.path"), format!("/old/place/{ID}/ROOT")).unwrap();
        for (name, target, expected) in [
            ("a", root.join("etc/x").display().to_string(), "/etc/x"),
            ("b", format!("/old/place/{ID}/ROOT/usr"), "/usr"),
            ("c", format!("/home/u/.udocker/containers/{ID}/ROOT/lib/y"), "/lib/y"),
            ("d", "/usr/bin".into(), "/usr/bin"),
            ("e", "../x".into(), "../x"),
            ("f", root.display().to_string(), "/"),
        ] {
            symlink(&target, root.join(name)).unwrap();
            restore_links(&directory).unwrap();
            assert_eq!(fs::read_link(root.join(name)).unwrap(), Path::new(expected), "{target}");
        }
    }

    #[test]
    fn bound_files_come_back_and_nothing_leaves_the_root() {
        let (folder, directory) = container();
        let root = directory.join("ROOT");
        fs::create_dir_all(directory.join(ORIGINALS)).unwrap();
        fs::create_dir_all(root.join(".bind_host_files")).unwrap();
        fs::write(directory.join(ORIGINALS).join("#etc#passwd"), "original").unwrap();
        fs::write(directory.join(ORIGINALS).join("#..#..#..#out"), "evil").unwrap();
        symlink("/.bind_host_files/#etc#passwd", root.join("etc/passwd")).unwrap();
        restore_bound_files(&directory).unwrap();
        assert_eq!(fs::read_to_string(root.join("etc/passwd")).unwrap(), "original");
        assert!(!root.join(".bind_host_files").exists() && !directory.join(ORIGINALS).exists());
        assert!(!folder.path().join("out").exists());
    }

    #[test]
    fn empty_mount_points_go_and_others_stay() {
        let (_folder, directory) = container();
        let root = directory.join("ROOT");
        fs::create_dir_all(directory.join(POINTS)).unwrap();
        fs::create_dir_all(root.join("data/deep/er")).unwrap();
        fs::create_dir_all(root.join("kept/below")).unwrap();
        fs::write(root.join("kept/below/file"), "x").unwrap();
        fs::write(root.join("etc/host.conf"), "").unwrap();
        for (point, before) in [("#data#deep#er", "#"), ("#etc#host.conf", "#etc"), ("#kept#below", "#")] {
            symlink(before, directory.join(POINTS).join(point)).unwrap();
        }
        remove_mount_points(&directory).unwrap();
        assert!(!root.join("data").exists() && !root.join("etc/host.conf").exists() && root.join("etc").is_dir());
        assert!(root.join("kept/below/file").exists() && !directory.join(POINTS).exists());
    }

    #[test]
    fn a_loader_is_replaced_by_its_original() {
        let (folder, directory) = container();
        let root = directory.join("ROOT");
        fs::create_dir_all(root.join("usr/lib64")).unwrap();
        symlink("/usr/lib64", root.join("lib64")).unwrap();
        fs::write(root.join("usr/lib64/ld.so"), "changed").unwrap();
        fs::write(directory.join("ld.so.path"), "/lib64/ld.so\n").unwrap();
        fs::write(directory.join("ld.so.orig"), "original").unwrap();
        // An image can have a link at the name that the new file has for a moment.
        let host = folder.path().join("host");
        fs::write(&host, "the host's").unwrap();
        symlink(&host, root.join("usr/lib64/ld.so.udocker-new")).unwrap();
        restore(&directory).unwrap();
        assert_eq!(fs::read_to_string(root.join("usr/lib64/ld.so")).unwrap(), "original");
        assert!(root.join("usr/lib64/ld.so").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_to_string(host).unwrap(), "the host's");
    }
}
