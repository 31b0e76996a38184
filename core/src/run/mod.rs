//! From what was asked ([`RunRequest`]) and what the image says ([`crate::store::Record`]) to one complete [`RunSpec`].
//!
//! All of it is data; [`crate::engine`] turns a spec into a plan.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod account;
mod caller;
mod carried;
mod decide;
mod env;
mod explain;
mod for_slurm;
mod identity;
mod image_files;
mod mount;
mod options;
mod parse;
mod passwd;
mod request;
mod said;
mod site_env;
mod spec;
mod wire;

pub use caller::host_shell;
pub use carried::{is_carried, of_command};
pub use decide::*;
pub use env::EnvOrigin;
pub use explain::*;
pub use for_slurm::for_slurm;
pub use image_files::*;
pub use options::*;
pub use parse::*;
pub use request::*;
pub use said::*;
pub use site_env::*;
pub use spec::*;
pub use wire::*;

/// How a container is entered (design, section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ExecMode {
    #[default]
    N1,
    P1,
    P2,
    F1,
    F2,
    F3,
    F4,
    R1,
    R2,
    R3,
    S1,
}

impl ExecMode {
    /// All of them, as documented.
    pub const ALL: [Self; 11] =
        [Self::N1, Self::P1, Self::P2, Self::F1, Self::F2, Self::F3, Self::F4, Self::R1, Self::R2, Self::R3, Self::S1];
}

impl fmt::Display for ExecMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A string is no mode.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no execution mode: expected one of N1, P1, P2, F1, F2, F3, F4, R1, R2, R3, S1")]
pub struct ExecModeError(String);

impl FromStr for ExecMode {
    type Err = ExecModeError;
    fn from_str(text: &str) -> Result<Self, ExecModeError> {
        let found = Self::ALL.into_iter().find(|mode| mode.to_string() == text);
        found.ok_or_else(|| ExecModeError(text.chars().take(40).flat_map(char::escape_default).collect()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ffi::OsString;

    use super::*;

    /// Alice, uid 1234, gid 100, in /data/alice, with an empty environment.
    pub(crate) fn caller() -> Caller {
        Caller {
            uid: 1234,
            gid: 100,
            name: "alice".into(),
            home: "/home/alice".into(),
            cwd: "/data/alice".into(),
            shell: None,
            env: Vec::new(),
            runtime_dir: None,
            sockets: Vec::new(),
            subordinate: None,
            interactive: Default::default(),
            site_mounts: None,
            site_env: None,
            gpu: None,
        }
    }

    /// What a batch front end asks for when its user said nothing.
    pub(crate) fn job() -> RunRequest {
        RunRequest::of_job("i")
    }

    pub(crate) fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn modes_are_read_and_written() {
        for mode in ExecMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!(
            "n1\n".parse::<ExecMode>().unwrap_err().to_string(),
            "`n1\\n` is no execution mode: expected one of N1, P1, P2, F1, F2, F3, F4, R1, R2, R3, S1"
        );
    }
}
