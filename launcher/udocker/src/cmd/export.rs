//! `udocker export`.

use std::path::Path;
use std::process::ExitCode;

use udocker_core::store::RunDirectory;
use udocker_transfer::archive::{ArchiveError, Existing, Output, export, export_clone};

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Unreadable files that are named; the rest is counted.
const NAMED_FILES: usize = 20;

/// Write a container's root as a tar.
///
/// What is the image's own has its modes and owners in the tar, what was made in the container the numeric owner that it
/// has on disk.
///
/// Example: udocker export -o work.tar work
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to this file; without it, to standard output.
    #[arg(short = 'o', long = "output", value_name = "FILE", num_args = 0..=1)]
    pub output: Option<Option<String>>,
    /// The whole container with its settings, for `udocker import --clone`.
    #[arg(long)]
    pub clone: bool,
    /// `-` for standard output, and a container's ID or name.
    #[arg(value_name = "CONTAINER", num_args = 0..=2)]
    pub words: Vec<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    // udocker's `-o` is a flag, and the file the first word after all options.
    let (file, name) = match (args.output.as_ref().map(Option::as_deref), &words[..]) {
        (Some(None), [file, name]) => (*file, *name),
        (Some(Some(file)), [name]) => (file, *name),
        (None, [name] | ["-", name]) => ("-", *name),
        (None | Some(Some(_)), [_, extra, ..]) => return Err(usage_text(&format!("syntax error at: {extra}")).into()),
        (Some(None), [_]) => return Err(usage_text("must specify the output file and the container").into()),
        (_, _) => return Err(usage_text("invalid container id").into()),
    };
    let stores = context.stores()?;
    let (store, container) = stores.find_container(name)?.ok_or_else(|| usage_text("invalid container id"))?;
    let output = Output::of(Some(Path::new(file)), Existing::Replace)?;
    let shown = output.name().to_owned();
    if file != "-" {
        context.ui.info(&format!("exporting to file {shown}"));
    }
    let run = RunDirectory::open(&context.settings.run_dirs);
    if let Some(pid) = run.and_then(|run| run.user_of(&container.id().to_string())) {
        context.ui.warning(&format!("process {pid} runs in the container, and may change what is being written"));
    }
    let write = if args.clone { export_clone } else { export };
    let unreadable = write(store, &container, &stores, output)?;
    if unreadable.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for path in unreadable.iter().take(NAMED_FILES) {
        context.ui.warning(&format!("cannot read {path}"));
    }
    Err(ArchiveError::Unreadable { count: unreadable.len(), output: shown }.into())
}
