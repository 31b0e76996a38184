//! Mounts: `SRC:DST[:opt,opt]`, `tmpfs:DST[:size=N]`, udocker's volumes, and Docker's spellings of them.

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
    /// An unknown option of a volume.
    #[error("`{0}` is no option: expected ro or rw")]
    VolumeOption(String),
    /// An unknown part of Docker's form.
    #[error("`{0}` is no part of it: expected type=, source=, target=, readonly, tmpfs-size= or bind-propagation=")]
    Part(String),
    /// A kind of mount that there is not.
    #[error("there are no mounts of type `{0}`: expected bind or tmpfs")]
    Type(String),
    /// `target=` is missing, or `source=` of a bind.
    #[error("`{0}=` is missing")]
    Missing(&'static str),
    /// Mounts never go back to the host.
    #[error("`{0}` cannot be had: nothing that is mounted inside is seen by the host")]
    Propagation(String),
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

    /// Reads udocker's `-v`: `HOST`, `HOST:`, `HOST:TARGET`, and Docker's `HOST:TARGET:OPTION,OPTION`.
    ///
    /// Of Docker's options, ro and rw count; those that change nothing here are passed over: labels of SELinux (z, Z),
    /// caching on other systems, and propagation from the host, which is always so.
    ///
    /// # Errors
    /// [`WishError::Mount`] with the text.
    pub fn from_volume(text: &OsStr) -> Result<Self, WishError> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let (source, target, options) = match parts[..] {
            [host] => (host, host, None),
            [host, target] => (host, target, None),
            [host, target, options] => (host, target, Some(options)),
            _ => return Err(wrong(text, MountProblem::VolumeForm)),
        };
        let target = if target.is_empty() { source } else { target };
        let mut mount = Self::between(Some(source), target).map_err(|problem| wrong(text, problem))?;
        for option in options.into_iter().flat_map(|list| list.split(|byte| *byte == b',')) {
            match option {
                b"ro" => mount.read_only = true,
                b"rw" => mount.read_only = false,
                b"z" | b"Z" | b"cached" | b"delegated" | b"consistent" => {}
                _ => check_propagation(option)
                    .map_err(|problem| problem.unwrap_or_else(|| MountProblem::VolumeOption(quote(option))))
                    .map_err(|problem| wrong(text, problem))?,
            }
        }
        Ok(mount)
    }

    /// Whether `text` has the form of [`Self::from_docker`]: its first part is one of Docker's.
    pub fn is_docker(text: &OsStr) -> bool {
        let first = text.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default();
        first == b"readonly"
            || first == b"ro"
            || !first.contains(&b':') && !first.starts_with(b"/") && first.contains(&b'=')
    }

    /// Reads Docker's `--mount`: `type=bind,source=SRC,target=DST,readonly` and `type=tmpfs,target=DST,tmpfs-size=N`, with
    /// Docker's short names. Without `type` it is a bind.
    ///
    /// # Errors
    /// [`WishError::Mount`] with the text.
    pub fn from_docker(text: &OsStr) -> Result<Self, WishError> {
        docker_mount(text.as_bytes()).map_err(|problem| wrong(text, problem))
    }

    /// Reads Docker's `--tmpfs`: `DST` or `DST:OPTION,OPTION`. Of mount(8)'s options ro, rw and size count; those that are
    /// always so (nosuid, nodev, a mode of 1777) are passed over.
    ///
    /// # Errors
    /// [`WishError::Mount`] with the text.
    pub fn from_tmpfs(text: &OsStr) -> Result<Self, WishError> {
        let bytes = text.as_bytes();
        let (target, options) = match bytes.iter().position(|byte| *byte == b':') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        let mut mount = Self::between(None, target).map_err(|problem| wrong(text, problem))?;
        for option in options.into_iter().flat_map(|list| list.split(|byte| *byte == b',')) {
            match option {
                b"nosuid" | b"nodev" | b"exec" | b"mode=1777" | b"mode=01777" => {}
                _ => mount.apply(option).map_err(|problem| wrong(text, problem))?,
            }
        }
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

/// Whether what is mounted on the host later arrives inside is always so; that it goes back never is. `None`: no such word.
fn check_propagation(word: &[u8]) -> Result<(), Option<MountProblem>> {
    match word {
        b"private" | b"rprivate" | b"slave" | b"rslave" => Ok(()),
        b"shared" | b"rshared" => Err(Some(MountProblem::Propagation(quote(word)))),
        _ => Err(None),
    }
}

fn docker_mount(text: &[u8]) -> Result<MountSpec, MountProblem> {
    let (mut tmpfs, mut source, mut target, mut read_only, mut size) = (false, None, None, false, None);
    for part in text.split(|byte| *byte == b',') {
        let (key, value) = match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (&part[..at], Some(&part[at + 1..])),
            None => (part, None),
        };
        let unknown = || MountProblem::Part(quote(part));
        match (key, value) {
            (b"type", Some(b"bind")) => tmpfs = false,
            (b"type", Some(b"tmpfs")) => tmpfs = true,
            (b"type", Some(other)) => return Err(MountProblem::Type(quote(other))),
            (b"source" | b"src", Some(path)) => source = Some(path),
            (b"target" | b"dst" | b"destination", Some(path)) => target = Some(path),
            (b"readonly" | b"ro", None | Some(b"true" | b"1")) => read_only = true,
            (b"readonly" | b"ro", Some(b"false" | b"0")) => read_only = false,
            (b"tmpfs-size", Some(bytes)) => size = Some(bytes),
            (b"tmpfs-mode", Some(b"1777" | b"01777")) => {}
            (b"bind-propagation", Some(word)) => check_propagation(word).map_err(|p| p.unwrap_or_else(unknown))?,
            _ => return Err(unknown()),
        }
    }
    let target = target.ok_or(MountProblem::Missing("target"))?;
    let mut mount = match (tmpfs, source) {
        (false, None) => return Err(MountProblem::Missing("source")),
        (true, Some(_)) => return Err(MountProblem::Misplaced("source".into(), "binds")),
        _ => MountSpec::between(source, target)?,
    };
    mount.read_only = read_only;
    if let Some(bytes) = size {
        mount.apply(&[b"size=", bytes].concat())?;
    }
    Ok(mount)
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
            ("/a:/b:ro,z", "/a:/b:ro"),
            ("/a:/b:Z,rslave,rw", "/a:/b"),
            ("/tmpfs:/b", "/tmpfs:/b"),
        ] {
            assert_eq!(MountSpec::from_volume(OsStr::new(text)).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn mounts_in_docker_s_words() {
        for (text, expected) in [
            ("type=bind,source=/a,target=/b", "/a:/b"),
            ("src=/a,dst=/b,ro", "/a:/b:ro"),
            ("readonly=true,source=/a:x,destination=/b", "/a:x:/b:ro"),
            ("type=bind,src=/a,dst=/b,readonly=false,bind-propagation=rslave", "/a:/b"),
            ("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777", "tmpfs:/t:size=1M"),
        ] {
            assert!(MountSpec::is_docker(OsStr::new(text)), "{text}");
            assert_eq!(MountSpec::from_docker(OsStr::new(text)).unwrap().to_string(), expected, "{text}");
        }
        for text in ["/a=b:/c", "tmpfs:/t:size=1", "/a:/b:ro", "/a=b"] {
            assert!(!MountSpec::is_docker(OsStr::new(text)), "{text}");
        }
        for (text, expected) in [
            ("type=volume,source=v,target=/b", "there are no mounts of type `volume`: expected bind or tmpfs"),
            ("type=bind,target=/b", "`source=` is missing"),
            ("type=bind,source=/a", "`target=` is missing"),
            ("type=tmpfs,source=/a,target=/b", "the option `source` is only for binds"),
            ("src=/a,dst=/b,tmpfs-size=1", "the option `size=1` is only for a tmpfs"),
            (
                "src=/a,dst=/b,bind-propagation=rshared",
                "`rshared` cannot be had: nothing that is mounted inside is seen by the host",
            ),
            (
                "src=/a,dst=/b,volume-nocopy",
                "`volume-nocopy` is no part of it: expected type=, source=, target=, readonly, tmpfs-size= or bind-propagation=",
            ),
            ("src=a,dst=/b", "the source on the host must be an absolute path"),
        ] {
            let error = MountSpec::from_docker(OsStr::new(text)).unwrap_err().to_string();
            assert_eq!(error, format!("cannot read the mount `{text}`: {expected}"));
        }
        for (text, expected) in [
            ("/t", Ok("tmpfs:/t")),
            ("/t:size=64m,ro,nosuid,nodev,mode=1777", Ok("tmpfs:/t:ro,size=64M")),
            ("/t:noexec", Err("`noexec` is no option: expected ro, rw, optional or create, and size=N of a tmpfs")),
            ("t", Err("the target in the container must be an absolute path")),
        ] {
            let found = MountSpec::from_tmpfs(OsStr::new(text)).map(|mount| mount.to_string());
            let expected = expected.map(str::to_owned).map_err(|e| format!("cannot read the mount `{text}`: {e}"));
            assert_eq!(found.map_err(|error| error.to_string()), expected);
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
            ("/a:/b:ro,optional", "`optional` is no option: expected ro or rw"),
            ("/a:/b:c", "`c` is no option: expected ro or rw"),
            ("/a:/b:shared", "`shared` cannot be had: nothing that is mounted inside is seen by the host"),
            ("/a:/b:ro:z", "expected HOST, HOST:, HOST:TARGET or HOST:TARGET:ro"),
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
            let forms = [MountSpec::parse, MountSpec::from_volume, MountSpec::from_docker, MountSpec::from_tmpfs];
            for mount in forms.map(|read| read(text)).into_iter().flatten() {
                prop_assert!(mount.target.is_absolute() && mount.target != Path::new("/"));
                prop_assert!(!mount.target.components().any(|part| part == Component::ParentDir));
            }
        }
    }
}
