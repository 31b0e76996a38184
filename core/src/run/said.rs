//! One option as somebody gave it: what profiles hold, and what `--explain` tells.

use std::ffi::OsString;

use super::{JobOption, OptionError, RunRequest, Wish};

/// An option, its value, and who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// [`JobOption::name`].
    pub option: &'static str,
    /// Empty for a flag.
    pub value: OsString,
    /// `FILE:LINE:COLUMN`, `--option` or the name of a variable.
    pub origin: String,
}

impl Said {
    /// What `request` asks for, which somebody else has made.
    pub fn of_request(request: &RunRequest, origin: &str) -> Vec<Self> {
        let said = |option| Self { option, value: OsString::new(), origin: origin.into() };
        let single = [
            ("image", !request.image.is_empty()),
            ("mode", request.mode.is_some()),
            ("user", request.user.is_some()),
            ("entrypoint", request.entrypoint.is_some()),
            ("write", request.write.is_some()),
            ("share", request.share.is_some()),
            ("home", request.home.is_some()),
            ("workdir", request.workdir.is_some()),
            ("unshare", !request.unshare.is_empty()),
            ("gpu", request.gpu.is_some()),
            ("device", !request.devices.is_empty()),
        ];
        let single = single.into_iter().filter(|(_, is_said)| *is_said).map(|(option, _)| said(option));
        let mounts = request.mounts.iter().map(|_| said("mount"));
        single.chain(mounts).chain(request.env.iter().map(|_| said("env"))).collect()
    }

    /// Puts it into `wish`.
    ///
    /// # Errors
    /// [`OptionError::At`].
    pub fn apply(&self, wish: &mut Wish) -> Result<(), OptionError> {
        let option = JobOption::find(self.option).ok_or(OptionError::NotBuilt(self.option));
        let taken = option.and_then(|option| option.apply(wish, &self.value));
        taken.map_err(|error| OptionError::At { at: self.origin.clone(), error: error.into() })
    }
}
