//! `udocker site gc`.

use std::process::ExitCode;

use udocker_core::store::{all_run_dirs, runner_of};

use super::Outcome;
use super::store::{StoreArg, alone};
use crate::context::Context;
use crate::ui;

/// Delete what was retired from a central store long ago: `cleanup.retire_after` of site.toml, 30 days.
///
/// What has a name or is pinned stays, and what runs on this node: as root, of all users. Jobs of other nodes are not seen, so no job should run for longer than that time. An image that lost its name is retired from here on, if it was not before.
///
/// Example: udocker site gc
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub store: StoreArg,
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let store = args.store.open_to_change(context)?;
    let settings = &context.settings;
    let run_dirs = all_run_dirs(&settings.run_dirs, rustix::process::geteuid().as_raw());
    let collected = {
        let _lock = alone(&store, context)?;
        store.collect_retired(settings.limits.retire_after, &|root| runner_of(root, &run_dirs))?
    };
    for image in collected {
        let (digest, shown) = (&image.manifest, &image.shown);
        match image.spared_for {
            Some(pid) => context.ui.info(&format!("spared {digest} ({shown}): process {pid} runs in it")),
            None => context.ui.result(format!("deleted {digest} ({shown}, {})", ui::bytes(image.bytes))),
        }
    }
    Ok(ExitCode::SUCCESS)
}
