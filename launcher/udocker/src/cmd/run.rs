//! `udocker run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use udocker_core::engine::{ExecPlan, RootPlan, RootWrite};
use udocker_core::error::Failure;
use udocker_core::image_config::ImageConfig;
use udocker_core::run::{
    Accounts, Caller, ContainerFacts, Defaults, Entrypoint, EnvSpec, ExecMode, ImageFiles, MountSpec, PullPolicy,
    RunRequest, RunSpec, UserSpec, WriteSpec, parse_env_file,
};

use super::{Outcome, RegistryArgs};
use crate::context::Context;
use crate::{refused, usage, usage_text};

/// Run a command in a container, or in an image without keeping anything.
///
/// Example: udocker run -v /scratch:/data debian:12 ls -l /data
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Bind a file or directory of the host: HOST[:CONTAINER[:ro]].
    #[arg(short = 'v', long, value_name = "HOST:CONTAINER", help_heading = "Files")]
    pub volume: Vec<String>,
    /// Mount SRC:DST[:ro,optional,create] or tmpfs:DST[:size=N].
    #[arg(long, value_name = "SRC:DST", help_heading = "Files")]
    pub mount: Vec<String>,
    /// Drop a default or given volume.
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    pub novol: Vec<OsString>,
    /// Where writes to the root go: none, tmpfs[:SIZE] or dir:PATH [default: tmpfs, gone at the end].
    #[arg(long, value_name = "WHERE", help_heading = "Files")]
    pub write: Option<String>,
    /// Make the home directory visible.
    #[arg(long, help_heading = "Files")]
    pub bindhome: bool,
    /// No default volumes.
    #[arg(long, help_heading = "Files")]
    pub nosysdirs: bool,
    /// Use this directory as the root instead of an image's.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub location: Option<PathBuf>,
    /// Set NAME=VALUE, or take NAME from the host.
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]", help_heading = "Environment")]
    pub env: Vec<OsString>,
    /// Read such lines from a file; they do not override --env.
    #[arg(long, value_name = "FILE", help_heading = "Environment")]
    pub env_file: Vec<PathBuf>,
    /// Pass the whole environment of the host.
    #[arg(long, help_heading = "Environment")]
    pub hostenv: bool,
    /// Working directory inside.
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Program")]
    pub workdir: Option<PathBuf>,
    /// Name, uid or uid:gid.
    #[arg(short = 'u', long, value_name = "USER", help_heading = "Program")]
    pub user: Option<String>,
    /// Run this instead of the image's entrypoint; empty for none.
    #[arg(long, value_name = "PROGRAM", help_heading = "Program", num_args = 0..=1, default_missing_value = "", require_equals = false)]
    pub entrypoint: Option<OsString>,
    /// Use the host's accounts.
    #[arg(long, help_heading = "Program")]
    pub hostauth: bool,
    /// Use the container's accounts unchanged.
    #[arg(long, help_heading = "Program")]
    pub containerauth: bool,
    /// Ignore the image's Env, Cmd, Entrypoint, WorkingDir and User.
    #[arg(long, help_heading = "Program")]
    pub nometa: bool,
    /// CPUs to run on, as 0,2-3.
    #[arg(long, value_name = "CPUS", help_heading = "Program")]
    pub cpuset_cpus: Option<String>,
    /// Mode: auto, N1, P1 …
    #[arg(long, value_name = "MODE", help_heading = "Program")]
    pub mode: Option<String>,
    /// Keep the container under this name.
    #[arg(long, value_name = "NAME", help_heading = "Container")]
    pub name: Option<String>,
    /// Keep the container, as udocker does.
    #[arg(long, help_heading = "Container")]
    pub keep: bool,
    /// Remove the container after the run.
    #[arg(long, help_heading = "Container")]
    pub rm: bool,
    /// missing, never, always or reuse.
    #[arg(long, value_name = "WHEN", help_heading = "Container")]
    pub pull: Option<String>,
    /// Take the image for this platform.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Container")]
    pub platform: Option<String>,
    /// Print what would be done and do nothing.
    #[arg(long, help_heading = "Output")]
    pub dry_run: bool,
    /// Format of --dry-run: json.
    #[arg(long, value_name = "FORMAT", default_value = "json", value_parser = ["json"], help_heading = "Output")]
    pub format: String,
    /// No banner; there is none.
    #[arg(long, hide = true)]
    pub nobanner: bool,
    #[arg(long, hide = true)]
    pub dri: bool,
    #[arg(long, hide = true)]
    pub netcoop: bool,
    #[arg(short = 'p', long, hide = true)]
    pub publish: Vec<String>,
    #[arg(short = 'P', long, hide = true)]
    pub publish_all: bool,
    #[arg(long, hide = true)]
    pub device: Vec<String>,
    #[arg(long, hide = true)]
    pub kernel: Option<String>,
    #[arg(short = 'i', long, hide = true)]
    pub interactive: bool,
    #[arg(short = 't', long, hide = true)]
    pub tty: bool,
    #[arg(short = 'a', long, hide = true)]
    pub attach: Vec<String>,
    #[arg(long, hide = true)]
    pub volumes_from: Vec<String>,
    #[arg(long, hide = true)]
    pub dns: Vec<String>,
    #[arg(long, hide = true)]
    pub dns_search: Vec<String>,
    #[arg(long, hide = true)]
    pub net: Option<String>,
    #[arg(long, hide = true)]
    pub privileged: bool,
    /// The image or container, and the command with its arguments.
    #[arg(value_name = "IMAGE [COMMAND…]", trailing_var_arg = true)]
    pub words: Vec<OsString>,
}

/// Docker's status for a run that could not begin.
pub fn status_of(_failure: &Failure) -> u8 {
    125
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    args.registry.apply(&mut context.settings)?;
    refuse_unbuilt(args, context)?;
    let request = args.request()?;
    if let Some(cpus) = &args.cpuset_cpus {
        set_affinity(cpus)?;
    }
    let target = target(args, context, &request)?;
    let caller = Caller::gather(std::env::vars_os().collect(), &request.user);
    let root = target.root.clone();
    let files = match request.accounts {
        Accounts::Host => ImageFiles::of_host()?,
        Accounts::Generated | Accounts::Container => ImageFiles::of_root(&root)?,
    };
    let facts = ContainerFacts { id: target.id.clone(), names: target.names.clone(), root: target.root.tree.clone() };
    let spec = RunSpec::build(&request, &target.config, &files, &caller, Defaults::Interactive, &facts)?;
    let plan = spec.native_plan(root);
    if args.dry_run {
        context.ui.result(serde_json::to_string_pretty(&plan).expect("a plan serialises"));
        return Ok(ExitCode::SUCCESS);
    }
    start(args, context, target, plan)
}

/// What is run: a tree, where writes into it go, and what must be done around it.
struct Target {
    id: String,
    names: Vec<String>,
    root: RootPlan,
    config: ImageConfig,
    /// A container of a store, to be marked as in use.
    container: Option<(udocker_core::store::Store, udocker_core::container::Container)>,
    /// A private copy of an image's tree that goes with the run.
    private: Option<udocker_core::store::Temporary>,
}

fn target(args: &Args, context: &Context, request: &RunRequest) -> Result<Target, Failure> {
    if let Some(directory) = &args.location {
        if args.write.is_some() {
            return Err(
                usage_text("--location names a directory that is written in place: --write would be another").into()
            );
        }
        return Ok(Target {
            id: String::new(),
            names: Vec::new(),
            root: RootPlan::new(std::path::absolute(directory).map_err(usage)?, RootWrite::InPlace),
            config: ImageConfig::default(),
            container: None,
            private: None,
        });
    }
    let reuse = args.pull.as_deref() == Some("reuse");
    let stores = context.stores()?;
    let named = if reuse { args.name.as_deref() } else { None };
    let found = match named.map(|name| stores.find_container(name)).transpose()?.flatten() {
        Some(found) => Some(found),
        None => stores.find_container(&request.image)?,
    };
    if let Some((store, container)) = found {
        return container_target(args, store, container, request, context);
    }
    let platform = request.platform.clone().unwrap_or_else(udocker_core::platform::Platform::native);
    let reference = crate::image::parse_reference(Some(&request.image))?;
    let image = crate::image::ready(context, &reference, &platform, request.pull)?;
    if args.name.is_some() || args.keep {
        let name = args.name.as_deref().map(str::parse).transpose().map_err(usage)?;
        let store = context.writable_store()?;
        let id = super::create::create(context, &store, &reference, &image.record, name.as_ref())?;
        let stores = context.stores()?;
        let (store, container) = stores.find_container(&id)?.ok_or_else(|| usage_text("invalid container id"))?;
        return container_target(args, store, container, request, context);
    }
    let mut target = Target {
        id: image.record.tree.hex()[..32].to_owned(),
        names: Vec::new(),
        root: RootPlan::new(image.tree, RootWrite::ReadOnly),
        config: image.record.config,
        container: None,
        private: None,
    };
    place_writes(args, context, request, &mut target)?;
    Ok(target)
}

/// Says where writes into a root go that is only read so far.
fn place_writes(args: &Args, context: &Context, request: &RunRequest, target: &mut Target) -> Result<(), Failure> {
    match &request.write {
        WriteSpec::None => {}
        WriteSpec::Tmpfs { size } => match context.overlay_works(&target.root.tree) {
            // A container that is a layer itself is on a machine where overlays work.
            answer if answer.is_ok() || target.root.above.is_some() => {
                let configured = size.or(context.settings.limits.tmpfs_bytes);
                target.root.write =
                    RootWrite::Tmpfs { size: configured.unwrap_or_else(udocker_core::host::half_of_memory) };
            }
            // A dry run copies nothing; it shows the tree that would be copied.
            Err(_) if args.dry_run => target.root.write = RootWrite::InPlace,
            Err(reason) => make_private(context, target, &reason)?,
            Ok(()) => unreachable!("taken above"),
        },
        WriteSpec::Directory(path) => {
            let (upper, work) = (path.join("upper"), path.join("work"));
            for directory in [&upper, &work] {
                std::fs::create_dir_all(directory)
                    .map_err(|e| usage(format!("cannot make {}: {e}", directory.display())))?;
            }
            target.root.write = RootWrite::Layer { upper, work };
        }
    }
    Ok(())
}

/// A copy of the tree in the user's store, for kernels that refuse an overlay there.
fn make_private(context: &Context, target: &mut Target, reason: &str) -> Result<(), Failure> {
    let store = context.writable_store()?;
    let since = std::time::Instant::now();
    let folder = store.temporary("root")?;
    let root = folder.path().join("ROOT");
    let copied = udocker_core::container::copy_tree(&target.root.tree, &root)?;
    context.ui.info(&format!(
        "copied the image's root ({}, {:.1} s), since {reason}\n  hint: `--write=none` needs no copy; `udocker create --name=N` makes one that stays",
        crate::ui::bytes(copied),
        since.elapsed().as_secs_f64(),
    ));
    target.root = RootPlan::new(root, RootWrite::InPlace);
    target.private = Some(folder);
    Ok(())
}

/// A container is written itself, unless `--write` says where else writes go.
fn container_target(
    args: &Args,
    store: &udocker_core::store::Store,
    container: udocker_core::container::Container,
    request: &RunRequest,
    context: &Context,
) -> Result<Target, Failure> {
    let stores = context.stores()?;
    let config = container.config()?;
    let root = match args.write {
        Some(_) => store.container_view(&container, &stores)?,
        None => store.container_root(&container, &stores)?,
    };
    let mut target = Target {
        id: container.id().to_string(),
        names: container.names().iter().map(ToString::to_string).collect(),
        root,
        config: ImageConfig { platform: None, ..config },
        container: Some((store.clone(), container)),
        private: None,
    };
    if args.write.is_some() {
        place_writes(args, context, request, &mut target)?;
    }
    Ok(target)
}

fn start(args: &Args, context: &Context, target: Target, plan: ExecPlan) -> Outcome {
    let removed = args.rm.then_some(()).and(target.container.as_ref());
    if let Some((store, container)) = &target.container {
        store.mark_in_use(container, args.write.is_none(), &context.settings.run_dirs)?;
    }
    if removed.is_none() && target.private.is_none() {
        let error = crate::monitor::enter(&plan);
        let status = error.status();
        return Ok(context.ui.failed(&error.into(), status));
    }
    let status = crate::monitor::supervise(context.ui, &plan)?;
    if let Some((store, container)) = removed
        && !container.is_protected()
    {
        let caller = Caller::gather(std::env::vars_os().collect(), &UserSpec::Root);
        store.remove_container(container, &context.settings.run_dirs, caller.subordinate)?;
    }
    drop(target.private);
    Ok(status.end())
}

fn refuse_unbuilt(args: &Args, context: &Context) -> Result<(), Failure> {
    for (given, option) in
        [(!args.device.is_empty(), "--device"), (args.dri, "--dri"), (args.kernel.is_some(), "--kernel")]
    {
        if given {
            return Err(refused(option, "`-v` for files of the host; /dev is bound already").into());
        }
    }
    for (given, option) in [
        (args.netcoop, "--netcoop"),
        (!args.publish.is_empty(), "--publish"),
        (args.publish_all, "--publish-all"),
        (!args.volumes_from.is_empty(), "--volumes-from"),
        (!args.dns.is_empty(), "--dns"),
        (!args.dns_search.is_empty(), "--dns-search"),
        (args.net.is_some(), "--net"),
        (args.privileged, "--privileged"),
    ] {
        if given {
            context.ui.warning(&format!(
                "{option} has no effect: the container shares the host's network and privileges are never given"
            ));
        }
    }
    Ok(())
}

impl Args {
    fn request(&self) -> Result<RunRequest, Failure> {
        let mut words = self.words.iter().cloned();
        // With --location udocker still swallows one word as the container's name.
        let image = match words.next() {
            Some(word) => word.into_string().map_err(|w| usage_text(&format!("`{}` is no image name", w.display())))?,
            None if self.location.is_some() => String::new(),
            None => return Err(usage_text("must specify container_id or image:tag").into()),
        };
        let mut request = RunRequest::new(image);
        request.argv = words.skip_while(|word| word == "--").collect();
        request.mode = match self.mode.as_deref() {
            None | Some("auto") => None,
            Some(text) => match text.parse().map_err(usage)? {
                ExecMode::N1 => Some(ExecMode::N1),
                other => return Err(refused(&format!("--mode={other}"), "`--mode=N1`").into()),
            },
        };
        for volume in &self.volume {
            request.mounts.push(MountSpec::from_volume(volume.as_ref()).map_err(usage)?);
        }
        for mount in &self.mount {
            request.mounts.push(mount.parse().map_err(usage)?);
        }
        request.umounts = self.novol.clone();
        for file in &self.env_file {
            let bytes = std::fs::read(file).map_err(|e| usage(format!("cannot read {}: {e}", file.display())))?;
            request.env.extend(parse_env_file(&bytes).map_err(usage)?);
        }
        for text in &self.env {
            request.env.push(EnvSpec::parse(text).map_err(usage)?);
        }
        request.host_env = self.hostenv;
        request.workdir = self.workdir.clone();
        request.entrypoint = match &self.entrypoint {
            None => Entrypoint::Image,
            Some(program) if program.is_empty() => Entrypoint::None,
            Some(program) => Entrypoint::Program(program.clone()),
        };
        request.home = self.bindhome.then_some(true);
        request.user = match &self.user {
            None => UserSpec::Image,
            Some(text) => text.parse().map_err(usage)?,
        };
        if let Some(text) = &self.write {
            request.write = text.parse().map_err(usage)?;
        }
        request.no_system_mounts = self.nosysdirs;
        request.no_image_config = self.nometa;
        request.accounts = match (self.hostauth, self.containerauth) {
            (true, _) => Accounts::Host,
            (_, true) => Accounts::Container,
            _ => Accounts::Generated,
        };
        request.platform = self.platform.as_deref().map(str::parse).transpose().map_err(usage)?;
        request.pull = match self.pull.as_deref() {
            None | Some("reuse") => PullPolicy::Missing,
            Some(text) => text.parse().map_err(usage)?,
        };
        Ok(request)
    }
}

/// Restricts this process, and so the program, to `text` (`0,2-3`).
fn set_affinity(text: &str) -> Result<(), Failure> {
    let bad = || usage_text(&format!("`{text}` is no list of CPUs: expected numbers and ranges, as 0,2-3"));
    let mut set = rustix::thread::CpuSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        if first > last || last >= rustix::thread::CpuSet::MAX_CPU {
            return Err(bad().into());
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|errno| usage(format!("cannot run on the CPUs {text}: {errno}")).into())
}
