//! One option as somebody gave it: what profiles hold, and what `--explain` tells.

use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use super::{JobOption, OptionError, RunRequest, Wish, in_variables};

/// An option, its value, and who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// [`JobOption::name`].
    pub option: &'static str,
    /// Empty for a flag.
    #[serde(with = "crate::text::os")]
    pub value: OsString,
    /// `FILE:LINE:COLUMN`, `--option` or the name of a variable.
    pub origin: String,
}

/// As another process reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    option: String,
    #[serde(with = "crate::text::os")]
    value: OsString,
    origin: String,
}

impl Said {
    /// What each of `variables` ([`super::option_variables`]) asks for.
    pub fn in_variables<'a>(variables: impl Iterator<Item = (&'a [u8], &'a OsStr)>) -> Vec<Self> {
        let mut said = Vec::new();
        let _: Result<(), std::convert::Infallible> = in_variables(variables, |option, value| {
            said.push(Self { option: option.name, value: value.into(), origin: option.variable() });
            Ok(())
        });
        said
    }

    /// `all` for another process, which reads them by [`Self::from_json`].
    pub fn to_json(all: &[Self]) -> String {
        serde_json::to_string(all).expect("texts serialise")
    }

    /// What [`Self::to_json`] wrote; `None` if it is something else.
    pub fn from_json(text: &[u8]) -> Option<Vec<Self>> {
        let all: Vec<Sent> = serde_json::from_slice(text).ok()?;
        let known =
            |Sent { option, value, origin }| Some(Self { option: JobOption::find(&option)?.name, value, origin });
        all.into_iter().map(known).collect()
    }

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
