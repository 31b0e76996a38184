//! `udocker tag`.

use std::process::ExitCode;

use super::Outcome;
use crate::context::Context;
use crate::image::parse_reference;
use crate::usage_text;

/// Give an image another name; within a store nothing is copied.
///
/// Example: udocker tag debian:12 mydebian:1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image of a store.
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
    /// NAME[:TAG] that is not taken yet.
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let target = args.target.as_deref().filter(|target| !target.is_empty());
    let Some(target) = target else { return Err(usage_text("target name is invalid").into()) };
    let target = target.parse().map_err(|error| usage_text(&format!("target name is invalid: {error}")))?;
    let source = parse_reference(args.source.as_deref())?;
    let store = context.writable_store()?;
    udocker_transfer::tag::tag(&context.stores()?, &store, &source, &target)?;
    Ok(ExitCode::SUCCESS)
}
