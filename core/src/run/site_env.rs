//! What the site says of a program's environment (`[env]` of site.toml).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::env_vars::{self, matches_any};

/// `[env]`. Names are without `=`; lists are globs of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteEnv {
    /// Above the image's, below the user's.
    pub set: Vec<(String, String)>,
    /// Put before a value, with a colon, below the user's.
    pub prepend: Vec<(String, String)>,
    /// Put behind it.
    pub append: Vec<(String, String)>,
    /// Taken from the host although it is on the drop list.
    pub pass: Vec<String>,
    /// Not taken from the host.
    pub drop: Vec<String>,
    /// Removed at last, whoever set it.
    pub unset: Vec<String>,
}

impl SiteEnv {
    /// Whether the host's `name` is taken; `None`: as without the site.
    pub(super) fn passes(&self, name: &[u8]) -> Option<bool> {
        if is_rank_s(name) {
            None
        } else if matches_any(&self.drop, name) {
            Some(false)
        } else {
            matches_any(&self.pass, name).then_some(true)
        }
    }
    /// Whether `name` is removed at last.
    pub(super) fn removes(&self, name: &OsStr) -> bool {
        matches_any(&self.unset, name.as_bytes()) && !is_rank_s(name.as_bytes()) && name != env_vars::UDOCKER_INSIDE
    }
}

/// A scheduler's or process manager's: always the host's.
fn is_rank_s(name: &[u8]) -> bool {
    matches_any(env_vars::PER_RANK, name)
}

/// Whether a site may set `name`.
pub fn may_be_set(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !is_rank_s(name.as_bytes()) && name != env_vars::UDOCKER_INSIDE
}
