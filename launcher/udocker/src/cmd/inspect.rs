//! `udocker inspect`.

use std::process::ExitCode;

use udocker_core::image_config::MAX_CONFIG_BYTES;
use udocker_core::platform::Platform;
use udocker_core::run::PullPolicy;

use super::Outcome;
use crate::context::Context;
use crate::usage_text;

/// Print the configuration of a container or an image as JSON.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the directory of a container's root instead; a layered container becomes a full one for that.
    #[arg(short = 'p')]
    pub path: bool,
    /// A container's ID or name, or an image.
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub name: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(name) = args.name.as_deref() else {
        return Err(usage_text("must specify image:tag or repository/image:tag").into());
    };
    let stores = context.stores()?;
    let bytes = match stores.find_container(name)? {
        Some((store, container)) if args.path => {
            let root = store.make_full(&container, &stores, &context.settings.run_dirs)?;
            context.ui.result(root.display().to_string());
            return Ok(ExitCode::SUCCESS);
        }
        Some((_, container)) => container.config_bytes()?,
        None => {
            let reference = crate::image::parse_reference(Some(name))?;
            let image = crate::image::ready(context, &reference, &Platform::native(), PullPolicy::Never)?;
            if args.path {
                context.ui.result(image.tree.display().to_string());
                return Ok(ExitCode::SUCCESS);
            }
            stores.read_blob(&image.record.config_digest, MAX_CONFIG_BYTES)?
        }
    };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(crate::usage)?;
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(&value, &mut serializer).expect("a JSON value serialises into memory");
    context.ui.result(out);
    Ok(ExitCode::SUCCESS)
}
