//! That a user has no settings of his own, left by a step's first rank on this node: the others look for none in his home and
//! his store, which lie on shared file systems.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{Step, step_id};
use crate::store::RunDirectory;
use crate::text::short_hash;

/// See the module's head; `places` are where his settings would be.
#[derive(Debug)]
pub struct NoSettings(PathBuf);

impl NoSettings {
    /// For the ranks of `step` that look at these `places`.
    pub fn of(run: &RunDirectory, step: &Step, places: [&Path; 3]) -> Self {
        let text = places.map(|path| path.as_os_str().as_bytes()).join(&b'\n');
        Self(run.path().join(format!("plain-{}-{}", step_id(step), short_hash(&text))))
    }
    /// Whether another rank has left it.
    pub fn is_left(&self) -> bool {
        accessat(CWD, &self.0, Access::EXISTS, AtFlags::empty()).is_ok()
    }
    /// Leaves it. One that cannot be left costs the others their look.
    pub fn leave(&self) {
        let _ = File::create(&self.0);
    }
}
