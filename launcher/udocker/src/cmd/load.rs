//! `udocker load`.

use std::path::PathBuf;
use std::process::ExitCode;

use udocker_transfer::archive::{Input, load};
use udocker_transfer::stage::StageOptions;

use super::Outcome;
use crate::context::Context;

/// Load images from a docker-archive or an OCI layout, packed or as a directory.
///
/// Prints the names of what was loaded. Nothing is loaded if one of them exists.
///
/// Example: udocker load -i image.tar
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read this tar or directory; `-` is standard input, as is no file at all.
    #[arg(short = 'i', long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// `-` for standard input, and a name for the image instead of the archive's.
    #[arg(value_name = "NAME", num_args = 0..=2)]
    pub words: Vec<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let (from_stdin, name) = match words[..] {
        ["-"] => (true, None),
        ["-", name] => (true, Some(name)),
        [] => (false, None),
        [name] => (false, Some(name)),
        [_, extra, ..] => return Err(crate::usage_text(&format!("syntax error at: {extra}")).into()),
    };
    let input = Input::of(args.input.as_deref().filter(|_| !from_stdin));
    let name = name.map(str::parse).transpose().map_err(crate::usage)?;
    let store = context.writable_store()?;
    let options = StageOptions::of(&context.settings, &store);
    let loaded = load(&store, &input, name.as_ref(), &options, context.ui.adding().as_ref())?;
    for image in loaded {
        if let Some(platform) = &image.chosen {
            context.ui.info(&format!("{} is for {platform}, one of several platforms", image.reference));
        }
        context.ui.result(image.reference.to_string());
    }
    Ok(ExitCode::SUCCESS)
}
