//! The accounts that the program finds: the image's /etc/passwd and /etc/group, completed where an entry is missing. Pure.
//!
//! A file is generated only if the image's would not do: each costs a mount.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::identity::Identity;
use super::passwd::{PasswdEntry, group_id, groups, passwd_entries, passwd_entry};
use super::{Accounts, ImageFiles, RunRequest};
use crate::engine::GeneratedFile;

/// The files that must cover the image's so that the program's own name, home and group are found.
///
/// The identity's line goes before the first that has its uid or its name, so that it is found first; else to the end.
/// A group is only added if its gid has none. Nothing is made for files that the user mounts, nor with the host's or the
/// image's own accounts.
pub(crate) fn generate(request: &RunRequest, files: &ImageFiles, identity: &Identity) -> Vec<GeneratedFile> {
    if request.accounts != Accounts::Generated {
        return Vec::new();
    }
    let covered = |path: &str| request.mounts.iter().any(|mount| Path::new(path).starts_with(&mount.target));
    let mut out = Vec::new();
    let mut add = |path: &str, content: Option<Vec<u8>>| {
        if let Some(content) = content.filter(|_| !covered(path)) {
            out.push(GeneratedFile { target: path.into(), content: OsString::from_vec(content) });
        }
    };
    add("/etc/passwd", passwd(&files.passwd, identity));
    add("/etc/group", group(&files.group, identity));
    out
}

fn passwd(image: &[u8], identity: &Identity) -> Option<Vec<u8>> {
    let name = field(identity.name.as_bytes());
    let home = identity.home.as_os_str();
    let by_uid = passwd_entries(image).find(|entry| entry.uid == identity.uid);
    let suits = |entry: PasswdEntry<'_>| {
        entry.name == name && (entry.home == home.as_bytes() || (entry.home.is_empty() && home == "/"))
    };
    // For root the image's line is kept whatever home it has: HOME decides for shells, and tools expect this line.
    if by_uid.is_some_and(|entry| identity.uid == 0 || suits(entry)) {
        return None;
    }
    let home = if home.as_bytes().iter().any(|b| matches!(b, b':' | b'\n')) { OsStr::new("/") } else { home };
    let mut line = name.clone();
    line.extend_from_slice(format!(":x:{}:{}:", identity.uid, identity.gid).as_bytes());
    line.extend_from_slice(&name);
    line.push(b':');
    line.extend_from_slice(home.as_bytes());
    line.extend_from_slice(b":/bin/sh");
    Some(insert(image, &line, |other| {
        passwd_entry(other).is_some_and(|entry| entry.uid == identity.uid || entry.name == name)
    }))
}

fn group(image: &[u8], identity: &Identity) -> Option<Vec<u8>> {
    if groups(image).any(|(_, gid)| gid == identity.gid) {
        return None;
    }
    let mut name = if identity.gid == 0 { b"root".to_vec() } else { field(identity.name.as_bytes()) };
    if group_id(image, &name).is_some() {
        name = format!("g{}", identity.gid).into_bytes();
    }
    name.extend_from_slice(format!(":x:{}:", identity.gid).as_bytes());
    Some(insert(image, &name, |_| false))
}

/// `image` with `line` before the first line that `before` accepts, else at the end.
fn insert(image: &[u8], line: &[u8], before: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(image.len() + line.len() + 2);
    let mut pending = true;
    for other in image.split_inclusive(|byte| *byte == b'\n') {
        if pending && before(other.strip_suffix(b"\n").unwrap_or(other)) {
            pending = false;
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.extend_from_slice(other);
    }
    if out.last().is_some_and(|byte| *byte != b'\n') {
        out.push(b'\n');
    }
    if pending {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out
}

/// `text` as a field: what would end the field or the line, or is not printable, becomes `_`.
fn field(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if *byte == b':' || byte.is_ascii_control() { b'_' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::IdMap;
    use crate::run::{MountSpec, RunRequest};

    fn identity(uid: u32, gid: u32, name: &str, home: &str) -> Identity {
        Identity { uid, gid, map: IdMap::Single, name: name.into(), home: home.into() }
    }

    fn made(request: &RunRequest, passwd: &str, group: &str, identity: &Identity) -> Vec<(String, String)> {
        let files = ImageFiles { passwd: passwd.into(), group: group.into() };
        let text =
            |file: GeneratedFile| (file.target.to_str().unwrap().to_owned(), file.content.into_string().unwrap());
        generate(request, &files, identity).into_iter().map(text).collect()
    }

    const ROOT: &str = "root:x:0:0:root:/root:/bin/bash\n";
    const GROUPS: &str = "root:x:0:\nusers:x:100:\n";

    #[test]
    fn files_are_generated_only_where_the_image_lacks_the_entry() {
        let alice = identity(1234, 100, "alice", "/home/alice");
        let ubuntu = format!("{ROOT}ubuntu:x:1234:1234::/home/ubuntu:/bin/bash\nlast:x:9:9::/:/bin/sh");
        let here = format!("{ROOT}alice:x:1234:100:A:/home/alice:/bin/zsh\n");
        let other = format!("{ROOT}alice:x:7:7::/srv:/bin/sh\n");
        let line = "alice:x:1234:100:alice:/home/alice:/bin/sh\n";
        for (case, passwd, identity, expected) in [
            ("missing: at the end", ROOT, &alice, Some(format!("{ROOT}{line}"))),
            ("a line without an end", &ROOT[..ROOT.len() - 1], &alice, Some(format!("{ROOT}{line}"))),
            ("present", here.as_str(), &alice, None),
            (
                "the uid is taken: before it",
                &ubuntu,
                &alice,
                Some(format!("{ROOT}{line}ubuntu:x:1234:1234::/home/ubuntu:/bin/bash\nlast:x:9:9::/:/bin/sh\n")),
            ),
            ("the name is taken: before it", &other, &alice, Some(format!("{ROOT}{line}alice:x:7:7::/srv:/bin/sh\n"))),
            ("root", ROOT, &identity(0, 0, "root", "/home/alice"), None),
            ("no file", "", &identity(0, 0, "root", "/"), Some("root:x:0:0:root:/:/bin/sh\n".into())),
            ("broken lines", "a:b\n\n+\nx:x:y:z\n", &alice, Some(format!("a:b\n\n+\nx:x:y:z\n{line}"))),
            (
                "hostile name and home",
                "",
                &identity(4294967294, 100, "a:0\nroot", "/h:x"),
                Some("a_0_root:x:4294967294:100:a_0_root:/:/bin/sh\n".into()),
            ),
        ] {
            let expected: Vec<_> = expected.map(|text| ("/etc/passwd".to_owned(), text)).into_iter().collect();
            assert_eq!(made(&RunRequest::new("i"), passwd, GROUPS, identity), expected, "{case}");
        }
    }

    #[test]
    fn groups_are_completed() {
        let passwd = "alice:x:1:5::/:/bin/sh\n";
        let alice = identity(1, 5, "alice", "/");
        for (case, group, expected) in [
            ("missing", GROUPS, Some("root:x:0:\nusers:x:100:\nalice:x:5:\n")),
            ("present", "five:x:5:\n", None),
            ("the name is taken", "alice:x:6:", Some("alice:x:6:\ng5:x:5:\n")),
        ] {
            let expected: Vec<_> = expected.map(|t| ("/etc/group".to_owned(), t.to_owned())).into_iter().collect();
            assert_eq!(made(&RunRequest::new("i"), passwd, group, &alice), expected, "{case}");
        }
    }

    #[test]
    fn nothing_is_generated_over_what_the_user_mounts_or_chooses() {
        let alice = identity(1, 5, "alice", "/");
        let mut request = RunRequest::new("i");
        request.mounts.push("/x:/etc/passwd".parse::<MountSpec>().unwrap());
        assert_eq!(made(&request, "", "", &alice), [("/etc/group".to_owned(), "alice:x:5:\n".to_owned())]);
        request.mounts.push("/x:/etc".parse().unwrap());
        assert_eq!(made(&request, "", "", &alice), []);
        for accounts in [Accounts::Host, Accounts::Container] {
            let mut request = RunRequest::new("i");
            request.accounts = accounts;
            assert_eq!(made(&request, "", "", &alice), []);
        }
    }
}
