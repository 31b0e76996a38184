//! One option as somebody gave it: what profiles hold, and what `--explain` tells.

use std::ffi::OsString;

use super::{JobOption, OptionError, Wish};

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
