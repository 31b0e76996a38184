//! From a request to what its run gets of GPUs and devices.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::decide::of_rank;
use super::driver::{self, LIBRARIES, PROGRAMS};
use super::{
    Applied, Bundle, BundleMount, Capability, CdiName, DeviceWish, GpuError, GpuName, GpuSet, Grant, Machine, Registry,
    Shown, View, Wished,
};
use crate::engine::{MountPlan, MountSource};
use crate::policy::Permit;
use crate::rendezvous::Step;
use crate::run::{RunRequest, Share};
use crate::settings::{GpuDefault, GpuSettings};

/// What is looked at.
pub struct Showing<'a> {
    /// What was asked for.
    pub request: &'a RunRequest,
    /// What the site lets it use.
    pub permit: &'a Permit<'a>,
    /// What is configured.
    pub settings: &'a GpuSettings,
    /// The caller's environment.
    pub env: &'a [(OsString, OsString)],
    /// Whose rank this is.
    pub step: &'a Step,
    /// The image's Env.
    pub image_env: &'a [String],
    /// Whether the image has this directory.
    pub image_has: &'a dyn Fn(&Path) -> bool,
    /// Gives the file, or the directory, that lies over what is covered ([`crate::store::RunDirectory::cover`]).
    pub cover: &'a dyn Fn(bool) -> Result<PathBuf, GpuError>,
}

/// What the first of a node's ranks finds for all. Nothing of it is mounted: others of the same user can write the file that it
/// is left in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The node's GPUs.
    pub machine: Machine,
    /// Those that the scheduler gave its ranks.
    pub grant: Grant,
}

impl Found {
    /// What a rank of `step` finds on this machine.
    pub fn look(env: &[(OsString, OsString)], step: &Step) -> Self {
        Self { machine: Machine::look(Path::new("/")), grant: Grant::of(env, step, Share::Node) }
    }
}

impl Showing<'_> {
    /// What the run gets, and what its user should be told; `None`: there are no GPUs, and no devices were asked for.
    ///
    /// # Errors
    /// [`GpuError`].
    pub fn show(&self, found: Option<&Found>) -> Result<(Option<Shown>, Vec<String>), GpuError> {
        let asks = self.request.gpu.is_some() || !self.request.devices.is_empty();
        if !asks && found.is_some_and(|found| found.machine.gpus.is_empty()) {
            return Ok((None, Vec::new()));
        }
        let decided = self.decide(found)?;
        let mut shown = Shown::of(&decided.view, &decided.machine, self.cover)?;
        let bundle = decided.bundle;
        let plan = |source: &Path, target: &Path, read_only| {
            let source = MountSource::Bind { path: source.into(), create: false };
            MountPlan { source, target: target.into(), read_only, optional: false, origin: bundle.origin.clone() }
        };
        if decided.machine.is_nvidia_s() && !decided.users.is_empty() {
            let count = match bundle.mounts.len() {
                0 => "none found".to_owned(),
                count => format!("{count} files"),
            };
            shown.driver = Some((count, bundle.origin.clone()));
        }
        let files = bundle.mounts.iter().map(|mount| plan(&mount.source, &mount.target, mount.read_only));
        shown.mounts = files.collect();
        shown.env = bundle.env;
        let has = |directory: &str| bundle.mounts.iter().any(|mount| mount.target.starts_with(directory));
        (shown.has_libraries, shown.has_programs) = (has(LIBRARIES), has(PROGRAMS));
        let is_something = shown.told.is_some() || !shown.mounts.is_empty() || !shown.env.is_empty();
        Ok((is_something.then_some(shown), decided.remarks))
    }

    fn decide(&self, found: Option<&Found>) -> Result<Decided, GpuError> {
        let request = self.request;
        // Where the scheduler names none; what it says is not overruled.
        let settled = |grant: Grant| match grant == Grant::Nothing && self.settings.default == GpuDefault::All {
            true => Grant::Some("the site's gpu.default is \"all\"".into()),
            false => grant,
        };
        let own = settled(Grant::of(self.env, self.step, request.share()));
        let (machine, grant) = match found {
            None => (Machine::look(Path::new("/")), own),
            Some(found) => {
                // Slurm gives each task a device cgroup of its own.
                let machine = match found.machine.is_held() {
                    true => Machine::look(Path::new("/")),
                    false => found.machine.clone(),
                };
                let grant = match request.share() {
                    Share::Task => own,
                    Share::Node => of_rank(&machine, settled(found.grant.clone()), own),
                };
                (machine, grant)
            }
        };
        let names = self.names();
        // A look into the directories is for who needs it.
        let registry = if names.is_empty() { Registry::default() } else { Registry::read(&self.settings.cdi_dirs, 0) };
        let applied = registry.apply(&names)?;
        let wished = self.wished(&machine, &registry)?;
        let mut view = View::decide(&machine, &grant, &wished)?;
        let mut remarks: Vec<_> = applied
            .hooks
            .iter()
            .map(|hook| format!("warning: the hook `{hook}` of a device's CDI specification is not run"))
            .collect();
        let mut users = view.visible.clone();
        if machine.is_held() && request.share() == Share::Node && wished == Wished::Granted && !grant.is_none() {
            // The container is for the ranks of the node together, and each opens others.
            users = machine.gpus.iter().map(|gpu| gpu.number).collect();
        }
        let uses_gpu = !users.is_empty() || names.iter().any(|name| name.kind.ends_with("/gpu"));
        if uses_gpu && let Err(denied) = self.permit.check_use(true, false) {
            if wished != Wished::Granted || !names.is_empty() {
                return Err(denied.into());
            }
            remarks.push(format!("no GPU is visible: {denied}"));
            view = View { why: denied.to_string(), ..View::decide(&machine, &grant, &Wished::Numbers(Vec::new()))? };
            users = Vec::new();
        }
        let bundle = self.bundle(&machine, &users, applied);
        Ok(Decided { machine, view, users, bundle, remarks })
    }

    /// All names of CDI.
    fn names(&self) -> Vec<CdiName> {
        let gpus = match self.request.gpu.as_ref().map(|wish| &wish.set) {
            Some(GpuSet::These(names)) => names.as_slice(),
            _ => &[],
        };
        let gpus = gpus.iter().filter_map(|name| match name {
            GpuName::Cdi(name) => Some(name.clone()),
            GpuName::Number(_) => None,
        });
        let devices = self.request.devices.iter().filter_map(|device| match device {
            DeviceWish::Cdi(name) => Some(name.clone()),
            DeviceWish::Path(_) => None,
        });
        gpus.chain(devices).collect()
    }

    /// The GPUs that the request comes to, by whichever way it asks for them.
    fn wished(&self, machine: &Machine, registry: &Registry) -> Result<Wished, GpuError> {
        let request = self.request;
        let of_files = |paths: &mut dyn Iterator<Item = &PathBuf>| -> Vec<u32> {
            paths.filter_map(|path| machine.owner_of(path)).map(|gpu| gpu.number).collect()
        };
        let of_cdi = |name: &CdiName| -> Result<Vec<u32>, GpuError> {
            let applied = registry.apply(std::slice::from_ref(name))?;
            Ok(of_files(&mut applied.nodes.iter().map(|(host, _)| host)))
        };
        let mut numbers = of_files(&mut request.mounts.iter().filter_map(|mount| mount.source.as_ref()));
        for device in &request.devices {
            match device {
                DeviceWish::Path(path) => numbers.extend(of_files(&mut std::iter::once(path))),
                DeviceWish::Cdi(name) => numbers.extend(of_cdi(name)?),
            }
        }
        let default = if self.settings.default == GpuDefault::None { GpuSet::None } else { GpuSet::Auto };
        match request.gpu.as_ref().map_or(&default, |wish| &wish.set) {
            GpuSet::Auto if numbers.is_empty() => return Ok(Wished::Granted),
            GpuSet::All if numbers.is_empty() => return Ok(Wished::All),
            GpuSet::Auto | GpuSet::All => return Ok(Wished::With(numbers)),
            GpuSet::None => {}
            GpuSet::These(names) => {
                for name in names {
                    match name {
                        GpuName::Number(number) => numbers.push(*number),
                        GpuName::Cdi(name) => numbers.extend(of_cdi(name)?),
                    }
                }
            }
        }
        Ok(Wished::Numbers(numbers))
    }

    /// Of `applied`, what was named, and of the driver of the GPUs `users`: by their CDI specification, else the driver's files.
    fn bundle(&self, machine: &Machine, users: &[u32], applied: Applied) -> Bundle {
        let is_named = self.names().iter().any(|name| name.kind.ends_with("/gpu"));
        let found = match !is_named && !users.is_empty() && machine.is_nvidia_s() {
            true => self.driver(users),
            false => Applied::default(),
        };
        let mut bundle = applied.bundle;
        let origins = [bundle.origin, found.bundle.origin];
        bundle.origin = origins.into_iter().filter(|origin| !origin.is_empty()).collect::<Vec<_>>().join(", ");
        bundle.env.extend(found.bundle.env);
        // Files of GPUs lie in /dev, and which of them is visible is decided elsewhere.
        let nodes = applied.nodes.into_iter().chain(found.nodes);
        let nodes = nodes.filter(|(host, inside)| !machine.owns(host) && !machine.has_path(inside));
        let nodes = nodes.map(|(source, target)| BundleMount { source, target, read_only: false });
        for mount in found.bundle.mounts.into_iter().chain(nodes) {
            if !bundle.mounts.iter().any(|other| other.target == mount.target) {
                bundle.mounts.push(mount);
            }
        }
        bundle
    }

    /// What shows NVIDIA's driver for the GPUs `users`.
    fn driver(&self, users: &[u32]) -> Applied {
        // A specification tells one whole driver.
        if self.request.gpu.as_ref().is_none_or(|wish| wish.capabilities.is_none()) {
            let registry = Registry::read(&self.settings.cdi_dirs, 0);
            let names: Vec<_> = users.iter().map(|number| nvidia(&number.to_string())).collect();
            if let Ok(applied) = registry.apply(&names).or_else(|_| registry.apply(&[nvidia("all")])) {
                return applied;
            }
        }
        let root = &self.settings.driver_root;
        let mounts = driver::find(root, &self.capabilities(), self.image_has);
        let origin = format!("the driver below {}", root.display());
        Applied { bundle: Bundle { mounts, env: Vec::new(), origin }, ..Applied::default() }
    }

    /// Of the driver: what was asked for, else what the image asks for, else the usual.
    fn capabilities(&self) -> Vec<Capability> {
        let asked = self.request.gpu.as_ref().and_then(|wish| wish.capabilities.clone());
        let of_image = || {
            let list = self.image_env.iter().find_map(|entry| entry.strip_prefix("NVIDIA_DRIVER_CAPABILITIES="))?;
            Capability::parse_list(list, ',')
        };
        asked.or_else(of_image).unwrap_or_else(|| Capability::DEFAULT.into())
    }
}

struct Decided {
    machine: Machine,
    view: View,
    /// The GPUs whose driver is shown.
    users: Vec<u32>,
    bundle: Bundle,
    remarks: Vec<String>,
}

fn nvidia(name: &str) -> CdiName {
    CdiName { kind: "nvidia.com/gpu".into(), name: name.into() }
}
