//! What the prolog of a job is told, for sites where that makes images ready (`spank-plugin/prolog.sh`): which image, and in
//! which of the user's stores. Variables that a user can set at will: they serve what runs as him.

use udocker_core::run::RunRequest;
use udocker_spank_sys::{Spank, SpankError};

use crate::store;

/// Tells it of `request`, which was made a moment ago.
pub fn tell(spank: &Spank<'_>, request: &RunRequest) -> Result<(), SpankError> {
    let Some(text) = request.for_staging().and_then(|request| request.to_json().ok()) else { return Ok(()) };
    spank.tell_prolog(c"UDOCKER_REQUEST", text.as_ref())?;
    match store::named() {
        Some(path) => spank.tell_prolog(c"UDOCKER_DIR", path.as_os_str()),
        None => Ok(()),
    }
}
