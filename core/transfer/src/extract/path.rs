//! Paths of entries: components joined by one `/`, none at either end; the root is empty.

use std::collections::HashMap;

/// See the module's head.
pub(super) type TreePath = Vec<u8>;

const MAX_PATH_BYTES: usize = 4096;
/// Deeper trees than this no tool makes, and walking them by recursion is then safe.
const MAX_DEPTH: usize = 512;
/// As many as the kernel follows.
const MAX_LINKS: u32 = 40;

/// The normal form of an entry's name: `.` and empty components go, `..` and NUL are refused.
pub(super) fn normal(raw: &[u8]) -> Result<TreePath, &'static str> {
    let mut path = Vec::with_capacity(raw.len());
    let mut depth = 0;
    for part in components(raw) {
        if part == b".." {
            return Err("which leaves the root");
        }
        push(&mut path, part);
        depth += 1;
    }
    match path {
        path if path.contains(&0) => Err("whose name holds a NUL"),
        path if path.len() > MAX_PATH_BYTES => Err("whose name is longer than 4096 bytes"),
        _ if depth > MAX_DEPTH => Err("whose name has more than 512 components"),
        path => Ok(path),
    }
}

/// The components of a path in any form.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The path of the directory, and the last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// `name` below `above`.
pub(super) fn join(above: &[u8], name: &[u8]) -> TreePath {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

fn push(path: &mut TreePath, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The symbolic links that one layer has made so far: an entry below one of them is meant for where it leads.
///
/// Links of lower layers give way to a real directory instead, as in an overlay of the layers; so no layer needs to know
/// another's.
#[derive(Default)]
pub(super) struct OwnLinks(HashMap<TreePath, Vec<u8>>);

impl OwnLinks {
    /// Notes what the layer put at `path`: a link to somewhere, or anything else.
    pub fn note(&mut self, path: &[u8], link: Option<&[u8]>) {
        match link {
            Some(target) => drop(self.0.insert(path.to_vec(), target.to_vec())),
            None if self.0.is_empty() => {}
            None => drop(self.0.remove(path)),
        }
    }

    /// Where the directory `path` really is.
    pub fn resolve(&self, path: &[u8]) -> Result<TreePath, &'static str> {
        if self.0.is_empty() {
            return Ok(path.to_vec());
        }
        let mut real = TreePath::new();
        let mut pending: Vec<&[u8]> = components(path).collect();
        pending.reverse();
        let mut followed = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                real.truncate(split(&real).0.len());
                continue;
            }
            let above = real.len();
            push(&mut real, name);
            let Some(target) = self.0.get(&real) else { continue };
            followed += 1;
            if followed > MAX_LINKS {
                return Err("below links that lead to each other");
            }
            real.truncate(if target.starts_with(b"/") { 0 } else { above });
            let at = pending.len();
            pending.extend(components(target));
            pending[at..].reverse();
            if pending.len() > MAX_DEPTH {
                return Err("whose name has more than 512 components");
            }
        }
        if components(&real).count() >= MAX_DEPTH {
            return Err("whose name has more than 512 components");
        }
        if real.len() > MAX_PATH_BYTES {
            return Err("whose name is longer than 4096 bytes");
        }
        Ok(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_normal_form() {
        for (raw, wanted) in [
            ("./a//b/", Ok("a/b")),
            ("/", Ok("")),
            ("", Ok("")),
            ("/etc/./x", Ok("etc/x")),
            ("a/../b", Err("which leaves the root")),
            ("a\0b", Err("whose name holds a NUL")),
        ] {
            assert_eq!(normal(raw.as_bytes()), wanted.map(|path| path.as_bytes().to_vec()), "{raw}");
        }
        assert_eq!(normal(&b"ab/".repeat(513)), Err("whose name has more than 512 components"));
        assert_eq!(normal(&[b'a'; 4097]), Err("whose name is longer than 4096 bytes"));
    }

    #[test]
    fn own_links_are_followed_inside_the_root() {
        let mut links = OwnLinks::default();
        for (path, target) in
            [("lib", "usr/lib"), ("usr/lib/x", "../../../opt/./x"), ("a", "/lib"), ("loop", "loop"), ("up", "..")]
        {
            links.note(path.as_bytes(), Some(target.as_bytes()));
        }
        let text = |path: &str| links.resolve(path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(text("bin/lib").unwrap(), "bin/lib");
        assert_eq!(text("lib").unwrap(), "usr/lib");
        assert_eq!(text("a/x/y").unwrap(), "opt/x/y");
        assert_eq!(text("up/b").unwrap(), "b");
        assert_eq!(text("loop/b"), Err("below links that lead to each other"));
        links.note(b"lib", None);
        assert_eq!(links.resolve(b"lib/y").unwrap(), b"lib/y");
    }
}
