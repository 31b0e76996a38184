//! What a path is asked for, and where it leads.

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
    /// It is not, whatever follows it: the name is to be made, moved or removed.
    Name,
}

/// What a path ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// A name.
    #[default]
    Name,
    /// A name and a slash, which asks for a directory.
    Slash,
    /// `.`.
    Dot,
    /// `..`.
    DotDot,
    /// It has no name: slashes alone.
    Root,
}

impl Ending {
    pub(super) fn of(path: &[u8]) -> Self {
        match path.rsplit(|byte| *byte == b'/').next() {
            Some(b"") if path.iter().all(|byte| *byte == b'/') => Self::Root,
            Some(b"") => match path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty()) {
                Some(b".") => Self::Dot,
                Some(b"..") => Self::DotDot,
                _ => Self::Slash,
            },
            Some(b".") => Self::Dot,
            Some(b"..") => Self::DotDot,
            _ => Self::Name,
        }
    }

    /// What asks the kernel for the same.
    pub(super) fn text(self) -> &'static [u8] {
        match self {
            Self::Name | Self::Root => b"",
            Self::Slash => b"/",
            Self::Dot | Self::DotDot => b"/.",
        }
    }

    /// Whether the path ends with a name that may be made, moved or removed.
    pub fn is_name(self) -> bool {
        matches!(self, Self::Name | Self::Slash)
    }
}

/// Where a relative path begins.
pub type Base<'a> = &'a [u8];

/// Where a path leads. Its buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Canonical guest path; empty for the root.
    pub guest: Vec<u8>,
    /// Absolute host path, with what the guest's path ended with (`/`, `/.`).
    pub host: Vec<u8>,
    /// That.
    pub ending: Ending,
    /// The mount that it lies in ([`super::Mount::id`]); of a name, the mount that the name lies in, not one that hides it.
    pub mount: u32,
    /// Whether that is read-only.
    pub read_only: bool,
    /// Whether it lies in procfs.
    pub is_proc: bool,
    /// Whether it is a mount's own root, which cannot be renamed or removed.
    pub is_mount_point: bool,
}

/// What openat2(2) may forbid a path to do (its `RESOLVE_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// To go from one mount into another.
    pub no_crossing: bool,
    /// To follow a link of /proc that no text describes.
    pub no_magic: bool,
    /// To follow a link.
    pub no_links: bool,
    /// To leave the directory that it begins at.
    pub scope: Scope,
}

/// Whether a path may leave the directory that it begins at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// It may.
    #[default]
    All,
    /// It fails with EXDEV when it does.
    Beneath,
    /// That directory is its root.
    InRoot,
}

/// The directory that a canonical guest path lies in.
pub fn parent(guest: &[u8]) -> &[u8] {
    &guest[..guest.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}
