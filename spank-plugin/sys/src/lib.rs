//! What Slurm gives to a SPANK plugin, for the release that it is built for (`SLURM_RELEASE`), and all that is unsafe about
//! it: [`plugin!`] makes the symbols that Slurm looks for from a [`Plugin`], which is safe code.
//!
//! No panic leaves a callback, and a callback fails only where Slurm does the right thing about it: on the client, and in
//! [`Plugin::task_init`], which ends the task instead of returning. Elsewhere a failure drains nodes or is ignored.

mod entry;
mod log;
mod options;
mod process;
mod spank;

/// Made by bindgen.
#[allow(unsafe_code, non_camel_case_types, dead_code, missing_docs, clippy::all)]
mod bindings {
    include!(env!("SPANK_BINDINGS"));
}

#[doc(hidden)]
pub mod entries {
    pub use crate::bindings::{SLURM_VERSION_NUMBER, spank_t};
    pub use crate::entry::*;
}

pub use entry::{Client, Plugin, Refusal};
pub use log::{error, info, tell};
pub use options::OptionText;
pub use process::{
    command_words, end_client, has_option, process_variables, program_name, set_variable, unset_variable,
};
pub use spank::{Spank, SpankError, Step, can_prepend};
