//! What a rank looks in, and asks, for what it runs and what that is shown.

use std::ffi::OsString;

use udocker_core::settings::Settings;
use udocker_core::store::RunDirectory;

use crate::report::Voice;

/// The same for all that is looked for.
pub struct Places<'a> {
    pub settings: &'a Settings,
    pub run: Option<&'a RunDirectory>,
    /// The caller's, for the site's rules and what a scheduler granted.
    pub env: &'a [(OsString, OsString)],
    pub voice: &'a Voice<'a>,
}
