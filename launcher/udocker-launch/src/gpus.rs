//! What this rank sees of its node's GPUs.

use std::path::Path;

use udocker_core::engine::RootPlan;
use udocker_core::error::Failure;
use udocker_core::gpu::{Found, GpuError, Showing, Shown};
use udocker_core::image_config::ImageConfig;
use udocker_core::policy::Permit;
use udocker_core::run::RunRequest;

use crate::places::Places;

/// What `request` gets in an image; `found`: by the node's first rank. `None`: there is no GPU, and no device was asked for.
pub fn show(
    request: &RunRequest,
    permit: &Permit<'_>,
    (config, root): (&ImageConfig, &RootPlan),
    found: Option<&Found>,
    places: &Places<'_>,
) -> Result<Option<Shown>, Failure> {
    let no_cover = || GpuError::NoCover(places.voice.run_dirs.clone());
    let showing = Showing {
        request,
        permit,
        settings: &places.settings.gpu,
        env: places.env,
        step: places.voice.step,
        image_env: if request.no_image_config { &[] } else { &config.env },
        image_has: &|directory: &Path| {
            let below = directory.strip_prefix("/").unwrap_or(directory);
            root.layers().any(|layer| layer.join(below).is_dir())
        },
        cover: &|is_directory| places.run.and_then(|run| run.cover(is_directory)).ok_or_else(no_cover),
    };
    let (shown, remarks) = showing.show(found)?;
    remarks.iter().for_each(|remark| places.voice.say(remark));
    Ok(shown)
}
