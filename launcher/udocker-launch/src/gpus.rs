//! What this rank sees of its node's GPUs.

use std::path::Path;

use udocker_core::engine::RootPlan;
use udocker_core::error::Failure;
use udocker_core::gpu::{Found, GpuError, Machine, Showing, Shown};
use udocker_core::image_config::ImageConfig;
use udocker_core::policy::Permit;
use udocker_core::run::RunRequest;

use crate::target::Places;

/// What `request` gets in an image; `found`: by the node's first rank. `None`: there is no GPU, and no device was asked for.
pub fn show(
    request: &RunRequest,
    permit: &Permit<'_>,
    (config, root): (&ImageConfig, &RootPlan),
    found: Option<&Found>,
    places: &Places<'_>,
) -> Result<Option<Shown>, Failure> {
    let (shown, remarks) = with(request, permit, (config, root), places, |showing| showing.show(found))?;
    remarks.iter().for_each(|remark| places.voice.say(remark));
    Ok(shown)
}

/// What one rank finds for all of its node, on `machine`, which has GPUs.
pub fn look(
    machine: Machine,
    request: &RunRequest,
    permit: &Permit<'_>,
    image: (&ImageConfig, &RootPlan),
    places: &Places<'_>,
) -> Found {
    with(request, permit, image, places, |showing| showing.look(machine))
}

fn with<T>(
    request: &RunRequest,
    permit: &Permit<'_>,
    (config, root): (&ImageConfig, &RootPlan),
    places: &Places<'_>,
    act: impl FnOnce(&Showing<'_>) -> T,
) -> T {
    let no_cover = || GpuError::NoCover(places.voice.run_dirs.clone());
    act(&Showing {
        request,
        permit,
        settings: &places.settings.gpu,
        env: places.env,
        scheduler: places.voice.step.scheduler,
        image_env: if request.no_image_config { &[] } else { &config.env },
        image_has: &|directory: &Path| {
            let below = directory.strip_prefix("/").unwrap_or(directory);
            root.layers().any(|layer| layer.join(below).is_dir())
        },
        cover: &|is_directory| places.run.and_then(|run| run.cover(is_directory)).ok_or_else(no_cover),
    })
}
