//! Mounts: `SRC:DST[:opt,opt]`, `tmpfs:DST[:size=N]`, and udocker's volumes.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::{WishError, format_size, parse_size, quote};
use crate::run::MountSpec;

/// What is wrong with a mount.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MountProblem {
    /// Too few or too many parts.
    #[error("expected SOURCE:TARGET[:OPTION,OPTION] or tmpfs:TARGET[:size=N]")]
    Form,
    /// Too few or too many parts of a volume.
    #[error("expected HOST, HOST:, HOST:TARGET or HOST:TARGET:ro")]
    VolumeForm,
    /// The source is relative.
    #[error("the source on the host must be an absolute path")]
    RelativeSource,
    /// The target is relative.
    #[error("the target in the container must be an absolute path")]
    RelativeTarget,
    /// The target is the root.
    #[error("the target in the container must not be /")]
    RootTarget,
    /// `..` in a path.
    #[error("`..` is not allowed in a path")]
    Parent,
    /// A zero byte.
    #[error("a path must not hold a zero byte")]
    Nul,
    /// An unknown option.
    #[error("`{0}` is no option: expected ro, rw, optional or create, and size=N of a tmpfs")]
    Option(String),
    /// An option that this kind of mount has not.
    #[error("the option `{0}` is only for {1}")]
    Misplaced(String, &'static str),
    /// `size=` that cannot be read.
    #[error("`{0}` is no size: expected a number above 0, with K, M, G or T for powers of 1024")]
    Size(String),
}

impl MountSpec {
    /// Reads `SRC:DST[:opt,opt]` or `tmpfs:DST[:size=N]`; options are joined by `,` or `+`, the later wins.
    ///
    /// # Errors
    /// [`WishError::Mount`] with the text.
    pub fn parse(text: &OsStr) -> Result<Self, WishError> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let (source, target, options) = match parts[..] {
            [source, target] => (source, target, None),
            [source, target, options] => (source, target, Some(options)),
            _ => return Err(wrong(text, MountProblem::Form)),
        };
        let source = (source != b"tmpfs").then_some(source);
        let mut mount = Self::between(source, target).map_err(|problem| wrong(text, problem))?;
        for option in options.into_iter().flat_map(|list| list.split(|byte| matches!(byte, b',' | b'+'))) {
            mount.apply(option).map_err(|problem| wrong(text, problem))?;
        }
        Ok(mount)
    }

    /// Reads udocker's `-v`: `HOST`, `HOST:`, `HOST:TARGET`, and ours, `HOST:TARGET:ro` or `:rw`.
    ///
    /// # Errors
    /// [`WishError::Mount`] with the text.
    pub fn from_volume(text: &OsStr) -> Result<Self, WishError> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let (source, target, option) = match parts[..] {
            [host] => (host, host, None),
            [host, target] => (host, if target.is_empty() { host } else { target }, None),
            [host, target, option @ (b"ro" | b"rw")] => {
                (host, if target.is_empty() { host } else { target }, Some(option))
            }
            _ => return Err(wrong(text, MountProblem::VolumeForm)),
        };
        let mut mount = Self::between(Some(source), target).map_err(|problem| wrong(text, problem))?;
        mount.read_only = option == Some(b"ro");
        Ok(mount)
    }

    fn between(source: Option<&[u8]>, target: &[u8]) -> Result<Self, MountProblem> {
        let source = source.map(|source| path(source, MountProblem::RelativeSource)).transpose()?;
        let target = path(target, MountProblem::RelativeTarget)?;
        if target == Path::new("/") {
            return Err(MountProblem::RootTarget);
        }
        Ok(Self { source, target, read_only: false, optional: false, create: false, size: None })
    }

    fn apply(&mut self, option: &[u8]) -> Result<(), MountProblem> {
        let bind = self.source.is_some();
        let misplaced = |owner| MountProblem::Misplaced(quote(option), owner);
        match option {
            b"ro" => self.read_only = true,
            b"rw" => self.read_only = false,
            b"optional" if bind => self.optional = true,
            b"create" if bind => self.create = true,
            b"optional" | b"create" => return Err(misplaced("binds")),
            _ => match option.strip_prefix(b"size=") {
                Some(_) if bind => return Err(misplaced("a tmpfs")),
                Some(size) => {
                    let parsed = std::str::from_utf8(size).ok().and_then(|size| parse_size(size).ok());
                    self.size = Some(parsed.ok_or_else(|| MountProblem::Size(quote(size)))?);
                }
                None => return Err(MountProblem::Option(quote(option))),
            },
        }
        Ok(())
    }
}

/// `bytes` as a path without `.`, doubled and trailing slashes.
fn path(bytes: &[u8], relative: MountProblem) -> Result<PathBuf, MountProblem> {
    let path = Path::new(OsStr::from_bytes(bytes));
    match () {
        () if !path.is_absolute() => Err(relative),
        () if bytes.contains(&0) => Err(MountProblem::Nul),
        () if path.components().any(|part| part == Component::ParentDir) => Err(MountProblem::Parent),
        () => Ok(path.components().collect()),
    }
}

fn wrong(text: &OsStr, problem: MountProblem) -> WishError {
    WishError::Mount { text: quote(text.as_bytes()), problem }
}

impl FromStr for MountSpec {
    type Err = WishError;
    fn from_str(text: &str) -> Result<Self, WishError> {
        Self::parse(OsStr::new(text))
    }
}

/// For messages; read again by [`MountSpec::parse`] if the paths are UTF-8.
impl fmt::Display for MountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}", source.display())?,
            None => f.write_str("tmpfs")?,
        }
        write!(f, ":{}", self.target.display())?;
        let size = self.size.map(|size| format!("size={}", format_size(size)));
        let flags = [(self.read_only, "ro"), (self.optional, "optional"), (self.create, "create")];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
        let options: Vec<&str> = flags.chain(size.as_deref()).collect();
        if options.is_empty() { Ok(()) } else { write!(f, ":{}", options.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mounts_are_read_and_written() {
        for (text, expected) in [
            ("/a:/b", "/a:/b"),
            ("/a//x/./:/b/", "/a/x:/b"),
            ("/a:/b:ro,optional+create", "/a:/b:ro,optional,create"),
            ("/a:/b:ro,rw", "/a:/b"),
            ("tmpfs:/t", "tmpfs:/t"),
            ("tmpfs:/t:size=2048K,ro", "tmpfs:/t:ro,size=2M"),
        ] {
            assert_eq!(text.parse::<MountSpec>().unwrap().to_string(), expected, "{text}");
        }
        for (text, expected) in [
            ("/a", "/a:/a"),
            ("/a:", "/a:/a"),
            ("/a::ro", "/a:/a:ro"),
            ("/a:/b", "/a:/b"),
            ("/a:/b:rw", "/a:/b"),
            ("/a:/b:ro", "/a:/b:ro"),
            ("/tmpfs:/b", "/tmpfs:/b"),
        ] {
            assert_eq!(MountSpec::from_volume(OsStr::new(text)).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refusals_say_what_is_expected() {
        for (text, expected) in [
            ("", "expected SOURCE:TARGET[:OPTION,OPTION] or tmpfs:TARGET[:size=N]"),
            ("/a", "expected SOURCE:TARGET[:OPTION,OPTION] or tmpfs:TARGET[:size=N]"),
            ("/a:/b:ro:x", "expected SOURCE:TARGET[:OPTION,OPTION] or tmpfs:TARGET[:size=N]"),
            ("a:/b", "the source on the host must be an absolute path"),
            ("/a:b", "the target in the container must be an absolute path"),
            ("/a:", "the target in the container must be an absolute path"),
            ("/a:/", "the target in the container must not be /"),
            ("/a://.", "the target in the container must not be /"),
            ("/a/../b:/c", "`..` is not allowed in a path"),
            ("/a:/c/..", "`..` is not allowed in a path"),
            ("/a:/b:", "`` is no option: expected ro, rw, optional or create, and size=N of a tmpfs"),
            ("/a:/b:RO", "`RO` is no option: expected ro, rw, optional or create, and size=N of a tmpfs"),
            ("/a:/b:size=1", "the option `size=1` is only for a tmpfs"),
            ("tmpfs:/b:create", "the option `create` is only for binds"),
            ("tmpfs:/b:size=0", "`0` is no size: expected a number above 0, with K, M, G or T for powers of 1024"),
        ] {
            let error = text.parse::<MountSpec>().unwrap_err().to_string();
            assert_eq!(error, format!("cannot read the mount `{text}`: {expected}"));
        }
        for (text, expected) in [
            ("/a:/b:ro,optional", "expected HOST, HOST:, HOST:TARGET or HOST:TARGET:ro"),
            ("/a:/b:c", "expected HOST, HOST:, HOST:TARGET or HOST:TARGET:ro"),
            ("data", "the source on the host must be an absolute path"),
            ("/", "the target in the container must not be /"),
        ] {
            let error = MountSpec::from_volume(OsStr::new(text)).unwrap_err().to_string();
            assert_eq!(error, format!("cannot read the mount `{text}`: {expected}"));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            source in proptest::option::of("(/[^/:\0]{1,5}){1,4}"),
            target in "(/[^/:\0]{1,5}){1,4}",
            flags: [bool; 3],
            size in proptest::option::of(1u64..),
        ) {
            let bind = source.is_some();
            let text = format!("{}:{target}", source.as_deref().unwrap_or("tmpfs"));
            if let Ok(mut mount) = text.parse::<MountSpec>() {
                mount.read_only = flags[0];
                mount.optional = bind && flags[1];
                mount.create = bind && flags[2];
                mount.size = size.filter(|_| !bind);
                prop_assert_eq!(mount.to_string().parse::<MountSpec>(), Ok(mount));
            }
        }
        #[test]
        fn no_bytes_are_a_panic_and_targets_are_sound(bytes: Vec<u8>) {
            let text = OsStr::from_bytes(&bytes);
            for mount in [MountSpec::parse(text), MountSpec::from_volume(text)].into_iter().flatten() {
                prop_assert!(mount.target.is_absolute() && mount.target != Path::new("/"));
                prop_assert!(!mount.target.components().any(|part| part == Component::ParentDir));
            }
        }
    }
}
