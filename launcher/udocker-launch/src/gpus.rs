//! What this rank sees of its node's GPUs.

use std::path::Path;

use udocker_core::error::Failure;
use udocker_core::gpu::{DeviceWish, GpuError, GpuName, GpuSet, GpuWish, Grant, Machine, Shown, View, Wished};
use udocker_core::policy::Permit;
use udocker_core::run::{RunRequest, Share};
use udocker_core::settings::GpuDefault;

use crate::target::Places;

/// The node's GPUs, and those that the scheduler gave its ranks: what one rank finds for all.
pub fn look(places: &Places<'_>) -> (Machine, Grant) {
    let machine = Machine::look(Path::new("/"));
    let grant = Grant::of(places.env, places.voice.step.scheduler, Share::Node);
    (machine, grant)
}

/// What `request` sees; `found`: by the node's first rank. `None`: there is no GPU.
pub fn show(
    request: &RunRequest,
    permit: &Permit<'_>,
    found: Option<(Machine, Grant)>,
    places: &Places<'_>,
) -> Result<Option<Shown>, Failure> {
    let asked = asked(request, places.settings.gpu.default);
    let is_found = found.is_some();
    let (mut machine, mut grant) = found.unwrap_or_else(|| look(places));
    if machine.gpus.is_empty() {
        // Who asks for none by name is told so.
        return match View::decide(&machine, &grant, &wished(&asked, request, &machine)?) {
            Ok(_) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    if is_found && machine.is_held() {
        // Slurm gives each task a device cgroup of its own.
        machine = Machine::look(Path::new("/"));
    }
    if request.share() == Share::Task {
        grant = Grant::of(places.env, places.voice.step.scheduler, Share::Task);
    }
    if grant == Grant::Nothing && places.settings.gpu.default == GpuDefault::All {
        grant = Grant::Some("the site's gpu.default is \"all\"".into());
    }
    let wished = wished(&asked, request, &machine)?;
    let mut view = View::decide(&machine, &grant, &wished)?;
    if !view.visible.is_empty()
        && let Err(denied) = permit.check_use(true, false)
    {
        if wished != Wished::Granted {
            return Err(denied.into());
        }
        places.voice.say(&format!("no GPU is visible: {denied}"));
        view = View::decide(&machine, &grant, &Wished::Numbers(Vec::new()))?;
        view.why = denied.to_string();
    }
    let no_cover = || GpuError::NoCover(places.voice.run_dirs.clone());
    let cover = |is_directory| places.run.and_then(|run| run.cover(is_directory)).ok_or_else(no_cover);
    Ok(Some(Shown::of(&view, &machine, cover)?))
}

/// What the request says, else the site.
fn asked(request: &RunRequest, of_site: GpuDefault) -> GpuWish {
    request.gpu.clone().unwrap_or_else(|| GpuWish {
        set: if of_site == GpuDefault::None { GpuSet::None } else { GpuSet::Auto },
        capabilities: None,
    })
}

/// The GPUs that `asked` and the devices of `request` come to.
fn wished(asked: &GpuWish, request: &RunRequest, machine: &Machine) -> Result<Wished, GpuError> {
    let mut numbers = Vec::new();
    // A GPU is no device like others, by whichever way it comes.
    let paths = request.devices.iter().filter_map(|device| match device {
        DeviceWish::Path(path) => Some(path),
        DeviceWish::Cdi(_) => None,
    });
    let sources = request.mounts.iter().filter_map(|mount| mount.source.as_ref());
    numbers.extend(paths.chain(sources).filter_map(|path| machine.owner_of(path)).map(|gpu| gpu.number));
    for device in &request.devices {
        if let DeviceWish::Cdi(name) = device {
            return Err(GpuError::CdiNotBuilt(name.clone()));
        }
    }
    match &asked.set {
        GpuSet::Auto if numbers.is_empty() => return Ok(Wished::Granted),
        GpuSet::All if numbers.is_empty() => return Ok(Wished::All),
        // What is asked for beside what was granted must be among that.
        GpuSet::Auto | GpuSet::All => return Ok(Wished::With(numbers)),
        GpuSet::None => {}
        GpuSet::These(names) => {
            for name in names {
                match name {
                    GpuName::Number(number) => numbers.push(*number),
                    GpuName::Cdi(name) => return Err(GpuError::CdiNotBuilt(name.clone())),
                }
            }
        }
    }
    Ok(Wished::Numbers(numbers))
}
