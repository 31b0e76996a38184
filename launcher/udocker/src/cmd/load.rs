//! `udocker load`.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use udocker_transfer::stage::StageOptions;

use super::Outcome;
use crate::context::Context;

/// Load images from a docker-archive or an OCI layout in a tar.
///
/// Example: udocker load -i image.tar
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read this file; `-` is standard input, as is no file at all.
    #[arg(short = 'i', long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// `-` for standard input, and a name for the image instead of the archive's.
    #[arg(value_name = "NAME", num_args = 0..=2)]
    pub words: Vec<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let mut words = args.words.iter().map(String::as_str);
    let first = words.next();
    let (from_stdin, name) = if first == Some("-") { (true, words.next()) } else { (args.input.is_none(), first) };
    let path = args.input.as_ref().filter(|path| path.as_os_str() != "-" && !from_stdin);
    let (input, shown) = open_input(path)?;
    let name = name.map(str::parse).transpose().map_err(crate::usage)?;
    let store = context.writable_store()?;
    let progress = context.ui.progress();
    let options = StageOptions::of(&context.settings, &store);
    let loaded = udocker_transfer::archive::load(&store, input, &shown, name.as_ref(), &options, progress.as_ref())?;
    for reference in loaded {
        context.ui.result(reference.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// The named file, or standard input, and its name for messages.
pub fn open_input(path: Option<&PathBuf>) -> Result<(Box<dyn Read + Send>, String), udocker_core::error::Failure> {
    match path {
        None => Ok((Box::new(std::io::stdin()), "standard input".into())),
        Some(path) => {
            let shown = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|source| udocker_transfer::archive::ArchiveError::File {
                action: "open",
                path: path.clone(),
                source,
            })?;
            Ok((Box::new(file), shown))
        }
    }
}
