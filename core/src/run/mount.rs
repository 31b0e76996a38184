//! What is mounted, and where the program begins: defaults, the user's wishes, and who wins. Pure: no source is looked at,
//! but for where its links lead if the site has rules on mounts, or if GPUs are covered.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::identity::Identity;
use super::{Accounts, Caller, Defaults, MountSpec, RunRequest, SpecError, WriteSpec, home_is_visible};
use crate::engine::{Cwd, MountPlan, MountSource};
use crate::env_vars;
use crate::gpu::DeviceWish;
use crate::image_config::ImageConfig;
use crate::policy::{Asker, MountDenied, MountPolicy, Scratch, SiteMount, SiteMountKind};
use crate::settings::InteractiveDefaults;

/// What a job gets of the host.
const JOB: &[&str] = &["/dev", "/proc", "/sys", "/etc/resolv.conf", "/etc/host.conf", "/etc/hosts"];
/// Directories that both want writable in a read-only root: a job gets the host's, but for /run.
const SCRATCH: &[&str] = &["/tmp", "/var/tmp"];

/// The image's own directories: a job's cwd or TMPDIR in or above them is not bound, as it would hide the image.
const IMAGE_TREES: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/dev", "/proc", "/sys", "/boot"];
/// Directories that are too much of an image to be covered as a whole; what lies below them may be.
const IMAGE_TOPS: &[&str] = &["/", "/var", "/run", "/opt", "/srv"];

/// Where a mount comes from, lowest rank first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// A default: dropped by a wish for its target or by `umount`.
    Default,
    /// A default for the job's own directories: also left out where something is mounted above it.
    Directory,
    /// The user's.
    Wish,
    /// Cannot be dropped.
    Forced,
}

struct Candidate {
    rank: Rank,
    plan: MountPlan,
}

impl Candidate {
    /// Whether its target is `path`. Both are [`clean`], so bytes are enough, where paths would be taken apart each time.
    fn is_at(&self, path: &Path) -> bool {
        self.plan.target.as_os_str() == path.as_os_str()
    }
}

/// All mounts, parents before children.
///
/// For one target the last wish wins, and any wish wins over a default. `umounts` drop defaults; in
/// [`Defaults::Interactive`] also wishes, by target or by source, as udocker's `--novol`. `root` is the image's, where targets
/// lead. A wish that the site forbids is an error, a default that it forbids is left out.
pub(crate) fn collect(
    request: &RunRequest,
    caller: &Caller,
    defaults: Defaults,
    root: &Path,
) -> Result<Vec<MountPlan>, SpecError> {
    let mut chosen = candidates(request, caller, defaults, root)?;
    let dropped = umounted(request);
    chosen.retain(|candidate| !dropped.iter().any(|path| drops(path, candidate, defaults)));
    let hidden: Vec<bool> = chosen.iter().map(|candidate| is_superfluous(candidate, &chosen)).collect();
    let mut hidden = hidden.into_iter();
    chosen.retain(|_| !hidden.next().unwrap_or(false));
    let mut plans: Vec<MountPlan> = chosen.into_iter().map(|candidate| candidate.plan).collect();
    plans.sort_by_cached_key(|plan| plan.target.components().count());
    if let Some(gpu) = &caller.gpu {
        // Nobody mounts anything below a device.
        let covers: Vec<_> = gpu.covers.iter().filter(|cover| is_reached(&plans, &cover.target)).cloned().collect();
        plans.extend(covers);
    }
    Ok(plans)
}

/// The wishes and the defaults that no wish replaces, before any is dropped.
fn candidates(
    request: &RunRequest,
    caller: &Caller,
    defaults: Defaults,
    root: &Path,
) -> Result<Vec<Candidate>, SpecError> {
    let site = caller.site_mounts.as_deref();
    let origin = match defaults {
        Defaults::Interactive => "--volume",
        Defaults::Job => "--mount",
    };
    let mut chosen: Vec<Candidate> = Vec::new();
    for wish in &request.mounts {
        let mut plan = from_wish(wish, origin, caller)?;
        if let Some(site) = site {
            judge(site, Asker::User, &format!("{wish} ({origin})"), &mut plan, root)?;
        }
        place(&mut chosen, Candidate { rank: Rank::Wish, plan });
    }
    for device in &request.devices {
        let DeviceWish::Path(path) = device else { continue };
        let (source, target, origin) = (bind(path), clean(path), "--device".to_owned());
        let mut plan = MountPlan { source, target, read_only: false, optional: false, origin };
        if let Some(site) = site {
            judge(site, Asker::User, &format!("{device} (--device)"), &mut plan, root)?;
        }
        place(&mut chosen, Candidate { rank: Rank::Wish, plan });
    }
    for own in site.iter().flat_map(|site| &site.own) {
        let own = of_site(own);
        if own.rank == Rank::Forced || !chosen.iter().any(|other| other.is_at(&own.plan.target)) {
            place(&mut chosen, own);
        }
    }
    for mut default in default_mounts(request, caller, defaults) {
        if chosen.iter().any(|other| other.is_at(&default.plan.target)) {
            continue;
        }
        if let Some(site) = site {
            let asker = asker_of(&default, defaults);
            let shown = format!("{} ({})", default.plan.target.display(), default.plan.origin);
            match judge(site, asker, &shown, &mut default.plan, root) {
                // MPI needs it.
                Err(denied) if default.rank == Rank::Forced => return Err(denied.into()),
                Err(_) => continue,
                Ok(()) => {}
            }
        }
        chosen.push(default);
    }
    for plan in caller.gpu.iter().flat_map(|gpu| &gpu.mounts) {
        if !chosen.iter().any(|other| other.is_at(&plan.target)) {
            chosen.push(Candidate { rank: Rank::Default, plan: plan.clone() });
        }
    }
    Ok(chosen)
}

/// Whether `plan` may be; what may only be read is mounted so.
fn judge(site: &MountPolicy, asker: Asker, shown: &str, plan: &mut MountPlan, root: &Path) -> Result<(), MountDenied> {
    let source = match &plan.source {
        MountSource::Bind { path, .. } => Some(path.as_path()),
        MountSource::Tmpfs { .. } => None,
    };
    plan.read_only |= site.judge(asker, shown, source, (root, &plan.target))?;
    Ok(())
}

/// Whose a default is: variables and udocker.conf are the user's.
fn asker_of(candidate: &Candidate, defaults: Defaults) -> Asker {
    let is_built_in = || match (defaults, &candidate.plan.source) {
        (Defaults::Job, _) | (_, MountSource::Tmpfs { .. }) => true,
        (Defaults::Interactive, MountSource::Bind { path, .. }) => {
            candidate.plan.origin != "default" || InteractiveDefaults::default().system_mounts.contains(path)
        }
    };
    if candidate.rank == Rank::Default && is_built_in() { Asker::System } else { Asker::User }
}

/// A mount of the site's, which was judged when it was written down.
fn of_site(own: &SiteMount) -> Candidate {
    let spec = &own.spec;
    let source = match &spec.source {
        None => MountSource::Tmpfs { size: spec.size },
        Some(path) => MountSource::Bind { path: clean(path), create: spec.create },
    };
    let rank = if own.kind == SiteMountKind::Forced { Rank::Forced } else { Rank::Default };
    let optional = spec.optional || own.kind == SiteMountKind::Optional;
    let (target, origin) = (clean(&spec.target), own.origin.clone());
    Candidate { rank, plan: MountPlan { source, target, read_only: spec.read_only, optional, origin } }
}

/// The `umounts` that no mount of the run answers to, as typed.
pub(crate) fn unmatched_umounts(
    request: &RunRequest,
    caller: &Caller,
    defaults: Defaults,
    root: &Path,
) -> Result<Vec<OsString>, SpecError> {
    if request.umounts.is_empty() {
        return Ok(Vec::new());
    }
    let all = candidates(request, caller, defaults, root)?;
    let unmatched = umounted(request).into_iter().zip(&request.umounts);
    let unmatched = unmatched.filter(|(path, _)| !all.iter().any(|candidate| drops(path, candidate, defaults)));
    Ok(unmatched.map(|(_, typed)| typed.clone()).collect())
}

fn umounted(request: &RunRequest) -> Vec<PathBuf> {
    request.umounts.iter().map(|target| clean(Path::new(target))).collect()
}

/// Whether the umount `path` drops `candidate`.
fn drops(path: &Path, candidate: &Candidate, defaults: Defaults) -> bool {
    match candidate.rank {
        Rank::Forced => false,
        Rank::Wish => defaults == Defaults::Interactive && names(&candidate.plan, path),
        Rank::Default | Rank::Directory => path == candidate.plan.target,
    }
}

/// Whether `path` is the target, the source, or `SOURCE:TARGET`, as udocker's `--novol` takes them.
fn names(plan: &MountPlan, path: &Path) -> bool {
    let MountSource::Bind { path: source, .. } = &plan.source else { return plan.target == path };
    let mut both = source.clone().into_os_string();
    both.push(":");
    both.push(&plan.target);
    plan.target == path || source == path || both == path
}

/// Whether a job's directory lies below another mount: then it is there already, or the user wants something else there.
/// Only our own tmpfs does not count.
fn is_superfluous(candidate: &Candidate, all: &[Candidate]) -> bool {
    candidate.rank == Rank::Directory
        && all.iter().any(|other| {
            let ours = other.rank != Rank::Wish && matches!(other.plan.source, MountSource::Tmpfs { .. });
            !ours && other.plan.target != candidate.plan.target && candidate.plan.target.starts_with(&other.plan.target)
        })
}

/// Adds `candidate`; an earlier one with its target goes.
fn place(chosen: &mut Vec<Candidate>, candidate: Candidate) {
    chosen.retain(|other| !other.is_at(&candidate.plan.target));
    chosen.push(candidate);
}

fn from_wish(wish: &MountSpec, origin: &str, caller: &Caller) -> Result<MountPlan, SpecError> {
    let target = clean(&wish.target);
    if !is_mountable(&wish.target) || target == Path::new("/") {
        return Err(SpecError::BadTarget(wish.target.clone()));
    }
    let source = match &wish.source {
        None => MountSource::Tmpfs { size: wish.size },
        Some(path) if !is_mountable(path) => return Err(SpecError::BadSource(path.clone())),
        Some(path) => MountSource::Bind { path: clean(path), create: wish.create },
    };
    // A missing default volume that was asked for by name is passed over, as by udocker.
    let optional = wish.optional
        || matches!(&source, MountSource::Bind { path, .. } if caller.interactive.system_mounts.contains(path));
    Ok(MountPlan { source, target, read_only: wish.read_only, optional, origin: origin.into() })
}

fn default_mounts(request: &RunRequest, caller: &Caller, defaults: Defaults) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = Vec::new();
    let mut add = |rank: Rank, source: MountSource, target: &Path, origin: &str| {
        let target = clean(target);
        if !out.iter().any(|other| other.is_at(&target)) {
            let plan = MountPlan { source, target, read_only: false, optional: true, origin: origin.into() };
            out.push(Candidate { rank, plan });
        }
    };
    if !request.no_system_mounts {
        let jobs: Vec<_> = JOB.iter().map(PathBuf::from).collect();
        let system = match defaults {
            Defaults::Interactive => &caller.interactive.system_mounts,
            Defaults::Job => &jobs,
        };
        for path in system {
            add(Rank::Default, bind(path), path, "default");
        }
    }
    if request.accounts == Accounts::Host {
        for path in ["/etc/passwd", "/etc/group"] {
            add(Rank::Default, bind(Path::new(path)), Path::new(path), "--hostauth");
        }
    }
    let read_only = *request.write(defaults) == WriteSpec::None;
    for path in SCRATCH.iter().map(Path::new) {
        match defaults {
            Defaults::Job if caller.site_mounts.as_ref().is_some_and(|site| site.tmp == Some(Scratch::Private)) => {
                add(Rank::Default, MountSource::Tmpfs { size: None }, path, "mounts.tmp");
            }
            Defaults::Job => add(Rank::Default, bind(path), path, "default"),
            Defaults::Interactive if read_only => {
                add(Rank::Default, MountSource::Tmpfs { size: None }, path, "default");
            }
            Defaults::Interactive => {}
        }
    }
    if read_only {
        add(Rank::Default, MountSource::Tmpfs { size: None }, Path::new("/run"), "default");
    }
    if home_is_visible(request, caller, defaults) && is_mountable(&caller.home) && clean(&caller.home) != Path::new("/")
    {
        let origin = if defaults == Defaults::Interactive { "--bindhome" } else { "home" };
        add(Rank::Directory, bind(&caller.home), &caller.home, origin);
    }
    if defaults == Defaults::Job {
        if let Some(directory) = &caller.runtime_dir {
            add(Rank::Default, bind(directory), &runtime_dir_inside(caller), env_vars::XDG_RUNTIME_DIR);
        }
        if may_cover(&caller.cwd) {
            add(Rank::Directory, bind(&caller.cwd), &caller.cwd, "cwd");
        }
        for name in env_vars::JOB_DIRECTORIES.iter().chain(env_vars::JOB_FILES) {
            if let Some(path) = variable(caller, name).map(Path::new).filter(|path| may_cover(path)) {
                add(Rank::Directory, bind(path), path, name);
            }
        }
        for name in env_vars::MANAGER_DIRECTORIES {
            let path = variable(caller, name).map(Path::new);
            if let Some(path) = path.filter(|path| is_mountable(path) && clean(path) != Path::new("/")) {
                add(Rank::Forced, bind(path), path, name);
            }
        }
    }
    out
}

/// Where a job's program finds its XDG_RUNTIME_DIR.
pub(crate) fn runtime_dir_inside(caller: &Caller) -> PathBuf {
    format!("/run/user/{}", caller.uid).into()
}

/// Whether a job's directory may be bound at its own path without hiding the image's programs.
fn may_cover(path: &Path) -> bool {
    let path = clean(path);
    is_mountable(&path)
        && !IMAGE_TOPS.iter().any(|top| path == Path::new(top))
        && !IMAGE_TREES.iter().any(|tree| path.starts_with(tree))
}

fn bind(path: &Path) -> MountSource {
    MountSource::Bind { path: clean(path), create: false }
}

fn variable<'a>(caller: &'a Caller, name: &str) -> Option<&'a OsStr> {
    caller.env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str())
}

/// Whether `path` is absolute and has no `..`.
fn is_mountable(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// `path` without `.`, doubled and trailing slashes.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Whether the host path `path` is the same file at the same path inside.
pub(crate) fn is_visible(mounts: &[MountPlan], path: &Path) -> bool {
    nearest(mounts, &clean(path)).is_some_and(|(source, target)| source == target)
}

/// The same by whichever path its mount names the source, as /proc/self/root/dev for /dev: looks at the files where that differs.
fn is_reached(mounts: &[MountPlan], path: &Path) -> bool {
    nearest(mounts, path).is_some_and(|(source, target)| {
        let below = path.strip_prefix(target).expect("it lies below");
        source == target || is_same(&if below == Path::new("") { source.into() } else { source.join(below) }, path)
    })
}

/// Source and target of the bind that `path` lies in.
fn nearest<'a>(mounts: &'a [MountPlan], path: &Path) -> Option<(&'a Path, &'a Path)> {
    let above = mounts.iter().rev().filter(|mount| path.starts_with(&mount.target));
    let mount = above.max_by_key(|mount| mount.target.components().count())?;
    match &mount.source {
        MountSource::Bind { path, .. } => Some((path, &mount.target)),
        MountSource::Tmpfs { .. } => None,
    }
}

/// Whether two paths of the host lead to the same file, or the same device.
fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (std::fs::metadata(one), std::fs::metadata(other)) else { return false };
    let are_devices = one.file_type().is_char_device() && other.file_type().is_char_device();
    (one.dev(), one.ino()) == (other.dev(), other.ino()) || are_devices && one.rdev() == other.rdev()
}

/// Where the program begins.
///
/// A directory that the user named must exist. Else a job begins where it was submitted from if that is visible
/// inside, then in the image's directory; `udocker run` in the image's, then in the user's home, as udocker.
pub(crate) fn working_directory(
    request: &RunRequest,
    config: &ImageConfig,
    caller: &Caller,
    defaults: Defaults,
    mounts: &[MountPlan],
    identity: &Identity,
) -> Cwd {
    if let Some(path) = &request.workdir {
        return Cwd { path: Path::new("/").join(path), fallback: None };
    }
    let image = (!config.working_dir.is_empty()).then(|| Path::new("/").join(&config.working_dir));
    let root = PathBuf::from("/");
    let here = defaults == Defaults::Job && is_visible(mounts, &caller.cwd);
    let (path, fallback) = match (defaults, image) {
        (Defaults::Job, image) if here => (caller.cwd.clone(), image.unwrap_or(root)),
        (_, Some(image)) => (image, root),
        (Defaults::Job, None) => (root.clone(), root),
        (Defaults::Interactive, None) => (identity.home.clone(), root),
    };
    Cwd { path, fallback: Some(fallback) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::IdMap;
    use crate::run::tests::{caller, job};

    /// One line a mount: `source:target flags origin`.
    fn lines(request: &RunRequest, caller: &Caller, defaults: Defaults) -> Vec<String> {
        collect(request, caller, defaults, Path::new("/none")).unwrap().iter().map(line).collect()
    }

    fn line(plan: &MountPlan) -> String {
        let source = match &plan.source {
            MountSource::Bind { path, create } => format!("{}{}", path.display(), if *create { "+" } else { "" }),
            MountSource::Tmpfs { size } => format!("tmpfs({})", size.map_or("-".into(), |size| size.to_string())),
        };
        let read_only = if plan.read_only { " ro" } else { "" };
        let optional = if plan.optional { " optional" } else { "" };
        format!("{source}:{}{read_only}{optional} {}", plan.target.display(), plan.origin)
    }

    #[test]
    fn a_job_gets_a_runtime_directory_and_its_process_managers() {
        let mut request = job();
        request.no_system_mounts = true;
        request.home = Some(false);
        let mut caller = Caller { runtime_dir: Some("/shm/xdg".into()), ..caller() };
        caller.env =
            crate::run::tests::pairs(&[("PMIX_SERVER_TMPDIR", "/spool/pmix"), ("PALS_SPOOL_DIR", "/var/run/palsd/1")]);
        assert_eq!(
            lines(&request, &caller, Defaults::Job)[3..],
            [
                "/data/alice:/data/alice optional cwd",
                "/spool/pmix:/spool/pmix optional PMIX_SERVER_TMPDIR",
                "/shm/xdg:/run/user/1234 optional XDG_RUNTIME_DIR",
                "/var/run/palsd/1:/var/run/palsd/1 optional PALS_SPOOL_DIR",
            ]
        );
    }

    fn volumes(request: &mut RunRequest, list: &[&str]) {
        request.mounts.extend(list.iter().map(|text| MountSpec::from_volume(OsStr::new(text)).unwrap()));
    }

    #[test]
    fn udocker_run_mounts_what_udocker_mounts() {
        assert_eq!(
            lines(&RunRequest::new("i"), &caller(), Defaults::Interactive),
            [
                "/dev:/dev optional default",
                "/proc:/proc optional default",
                "/sys:/sys optional default",
                "/etc/resolv.conf:/etc/resolv.conf optional default",
                "/etc/host.conf:/etc/host.conf optional default",
                "/lib/modules:/lib/modules optional default",
            ]
        );
        let mut request = RunRequest::new("i");
        request.no_system_mounts = true;
        request.home = Some(true);
        request.accounts = Accounts::Host;
        assert_eq!(
            lines(&request, &caller(), Defaults::Interactive),
            [
                "/etc/passwd:/etc/passwd optional --hostauth",
                "/etc/group:/etc/group optional --hostauth",
                "/home/alice:/home/alice optional --bindhome",
            ]
        );
    }

    #[test]
    fn a_read_only_root_gets_scratch_space() {
        let mut request = RunRequest::new("i");
        request.no_system_mounts = true;
        request.write = Some(WriteSpec::None);
        volumes(&mut request, &["/scratch:/var/tmp"]);
        assert_eq!(
            lines(&request, &caller(), Defaults::Interactive),
            ["tmpfs(-):/tmp optional default", "tmpfs(-):/run optional default", "/scratch:/var/tmp --volume"]
        );
    }

    #[test]
    fn later_wishes_win_and_parents_come_first() {
        let mut request = RunRequest::new("i");
        volumes(
            &mut request,
            &["/a:/x/y/z", "/b:/x//y/", "/c:/x", "/d:/x/y:ro", "/mine:/etc/resolv.conf", "/dev", "/e:/f"],
        );
        request.umounts =
            ["/proc", "/sys/", "/c", "/lib/modules", "/etc/host.conf", "/x/y/z", "/e:/f"].map(Into::into).into();
        assert_eq!(
            lines(&request, &caller(), Defaults::Interactive),
            ["/dev:/dev optional --volume", "/d:/x/y ro --volume", "/mine:/etc/resolv.conf --volume"]
        );
    }

    #[test]
    fn a_job_gets_its_directories() {
        let mut caller = caller();
        for (name, value) in [
            ("TMPDIR", "/local/job1"),
            ("SLURM_SUBMIT_DIR", "/home/alice/project"),
            ("PBS_O_WORKDIR", "relative"),
            ("PBS_NODEFILE", "/var/spool/pbs/aux/1"),
            ("PMIX_SERVER_TMPDIR", "/tmp/pmix.1"),
        ] {
            caller.env.push((name.into(), value.into()));
        }
        assert_eq!(
            lines(&job(), &caller, Defaults::Job),
            [
                "/dev:/dev optional default",
                "/proc:/proc optional default",
                "/sys:/sys optional default",
                "/tmp:/tmp optional default",
                "tmpfs(-):/run optional default",
                "/etc/resolv.conf:/etc/resolv.conf optional default",
                "/etc/host.conf:/etc/host.conf optional default",
                "/etc/hosts:/etc/hosts optional default",
                "/var/tmp:/var/tmp optional default",
                "/home/alice:/home/alice optional home",
                "/data/alice:/data/alice optional cwd",
                "/local/job1:/local/job1 optional TMPDIR",
                "/tmp/pmix.1:/tmp/pmix.1 optional PMIX_SERVER_TMPDIR",
                "/var/spool/pbs/aux/1:/var/spool/pbs/aux/1 optional PBS_NODEFILE",
            ]
        );
    }

    #[test]
    fn a_jobs_directories_never_hide_the_image_nor_a_wish() {
        for (case, cwd, mounts, expected) in [
            ("the root", "/", &[][..], false),
            ("a tree of the image", "/usr/share/doc", &[], false),
            ("the top of many", "/var", &[], false),
            ("below it", "/var/data", &[], true),
            ("a like name", "/usr2", &[], true),
            ("below the home", "/home/alice/x", &[], false),
            ("below a wish", "/data/x", &["/other:/data"], false),
            ("below our tmpfs", "/run/user/1", &[], true),
            ("leaving", "/data/../etc", &[], false),
        ] {
            let mut caller = caller();
            caller.cwd = cwd.into();
            let mut request = job();
            volumes(&mut request, mounts);
            let found = lines(&request, &caller, Defaults::Job).iter().any(|line| line.ends_with(" cwd"));
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn a_cover_holds_by_whichever_path_devices_are_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        std::fs::create_dir(top.join("dev")).unwrap();
        std::fs::create_dir(top.join("other")).unwrap();
        std::fs::write(top.join("dev/nvidia1"), "").unwrap();
        std::fs::write(top.join("other/nvidia1"), "").unwrap();
        std::os::unix::fs::symlink("dev", top.join("link")).unwrap();
        let dev = top.join("dev");
        let is_covered = |mount: &str, target: &str| {
            let target: PathBuf = target.into();
            let cover = MountPlan {
                source: bind(Path::new("/covered")),
                target,
                read_only: true,
                optional: false,
                origin: "cover".into(),
            };
            let mut caller = caller();
            caller.gpu = Some(Box::new(crate::gpu::Shown { covers: vec![cover], ..Default::default() }));
            let mut request = job();
            request.no_system_mounts = true;
            volumes(&mut request, &[mount]);
            lines(&request, &caller, Defaults::Job).iter().any(|line| line.ends_with(" cover"))
        };
        let (at, node) = (dev.to_str().unwrap(), format!("{}/nvidia1", dev.display()));
        for (source, expected) in [("dev", true), ("link", true), ("other", false)] {
            let source = top.join(source);
            assert_eq!(is_covered(&format!("{}:{at}", source.display()), &node), expected, "{}", source.display());
        }
        let through = format!("/proc/self/root{node}:{node}");
        assert!(is_covered(&through, &node));
        assert!(is_covered("/proc/self/root/dev:/dev", "/dev/null"));
    }

    #[test]
    fn umount_spares_what_is_forced() {
        let mut caller = caller();
        caller.env.push(("PMIX_SERVER_TMPDIR".into(), "/pmix".into()));
        let mut request = job();
        request.no_system_mounts = true;
        request.home = Some(false);
        request.umounts = ["/tmp", "/var/tmp", "/run", "/data/alice", "/pmix", "/m"].map(Into::into).into();
        volumes(&mut request, &["/m"]);
        assert_eq!(
            lines(&request, &caller, Defaults::Job),
            ["/m:/m --mount", "/pmix:/pmix optional PMIX_SERVER_TMPDIR"]
        );
    }

    #[test]
    fn bad_wishes_are_refused() {
        let wish = |source: Option<&str>, target: &str| {
            let mut request = RunRequest::new("i");
            let (source, target) = (source.map(PathBuf::from), PathBuf::from(target));
            let wish = MountSpec { source, target, read_only: false, optional: false, create: false, size: None };
            request.mounts.push(wish);
            collect(&request, &caller(), Defaults::Job, Path::new("/none")).unwrap_err().to_string()
        };
        let target = |t: &str| {
            format!("cannot mount on `{t}` in the container: mounts need an absolute target other than /, without `..`")
        };
        assert_eq!(wish(None, "/"), target("/"));
        assert_eq!(wish(None, "//."), target("//."));
        assert_eq!(wish(None, "a"), target("a"));
        assert_eq!(wish(Some("/x"), "/a/../b"), target("/a/../b"));
        assert_eq!(wish(Some("x"), "/a"), "cannot mount `x`: mounts need an absolute source, without `..`");
    }

    #[test]
    fn working_directories() {
        let with = |request: &RunRequest, image: &str, cwd: &str, defaults| {
            let mut caller = caller();
            caller.cwd = cwd.into();
            let config = ImageConfig { working_dir: image.into(), ..ImageConfig::default() };
            let mounts = collect(request, &caller, defaults, Path::new("/none")).unwrap();
            let home = PathBuf::from("/root");
            let identity = Identity { uid: 0, gid: 0, map: IdMap::Single, name: "root".into(), home };
            let cwd = working_directory(request, &config, &caller, defaults, &mounts, &identity);
            let text = |path: PathBuf| path.to_str().unwrap().to_owned();
            (text(cwd.path), cwd.fallback.map(text))
        };
        let pair = |path: &str, fallback: Option<&str>| (path.to_owned(), fallback.map(str::to_owned));
        let run = RunRequest::new("i");
        assert_eq!(with(&run, "/app", "/work/a", Defaults::Interactive), pair("/app", Some("/")));
        assert_eq!(with(&run, "app", "/work/a", Defaults::Interactive), pair("/app", Some("/")));
        assert_eq!(with(&run, "", "/work/a", Defaults::Interactive), pair("/root", Some("/")));
        assert_eq!(with(&job(), "/app", "/work/a", Defaults::Job), pair("/work/a", Some("/app")));
        assert_eq!(with(&job(), "", "/tmp/x", Defaults::Job), pair("/tmp/x", Some("/")));
        assert_eq!(with(&job(), "/app", "/usr/lib", Defaults::Job), pair("/app", Some("/")));
        assert_eq!(with(&job(), "", "/run/x/..", Defaults::Job), pair("/", Some("/")));
        let mut covered = job();
        volumes(&mut covered, &["/other:/work"]);
        assert_eq!(with(&covered, "/app", "/work/a", Defaults::Job), pair("/app", Some("/")));
        let mut named = job();
        named.workdir = Some("/named".into());
        assert_eq!(with(&named, "/app", "/work/a", Defaults::Job), pair("/named", None));
    }
}
