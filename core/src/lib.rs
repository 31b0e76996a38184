//! Everything between an image reference and an exec: types, store reading, plans, engines.
//!
//! A run is data until its last step. A front end translates what the user wrote into a [`run::RunRequest`]; with the
//! image's [`store::Record`] it becomes a [`run::RunSpec`], then an [`engine::ExecPlan`]; and [`start::start`] does
//! it. This crate reads no argv, no environment and no configuration file: it is given [`settings::Settings`]. It never
//! prints. It opens no network connection and starts no thread.
#![warn(missing_docs)]

pub mod container;
pub mod deadline;
pub mod digest;
pub mod elf;
pub mod engine;
pub mod env_vars;
pub mod error;
pub mod gpu;
pub mod host;
pub mod image_config;
pub mod manifest;
mod manifest_error;
pub mod members;
pub mod platform;
pub mod policy;
pub mod progress;
pub mod reference;
pub mod rendezvous;
pub mod run;
pub mod schema1;
pub mod settings;
pub mod start;
pub mod store;
pub mod sys;
pub mod text;
