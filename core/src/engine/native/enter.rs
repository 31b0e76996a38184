//! From a plan to an exec, in this process.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::iter;

use rustix::fs::Mode;
use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Pid, Signal};
use rustix::thread::UnshareFlags;

use super::error::{During, EnterError, Step};
use super::mounts::{self, Stopped};
use super::root::{NewRoot, Trees};
use crate::engine::{Cwd, ExecPlan, IdMap, IdentityPlan, JoinPlan, KeepFds, ProgramError, RootWrite, Unshare};
use crate::members::{Found, Member, Members, holder};
use crate::run::Range;
use crate::sys::caps::{self, CapabilitySet};
use crate::sys::exec::Command;
use crate::sys::namespace::Namespace;
use crate::sys::{fds, mount, namespace, process, seccomp};

/// Enters the container of `plan` and executes its program in place: same pid, same parent, same open files, nothing
/// left behind. With `sharing`, the locked list of a container's
/// processes and what it says, the container is shared with those. Returns only if that failed, and then
/// this process is fit for nothing but to report it and exit.
///
/// Single-threaded callers only.
pub fn execute(plan: &ExecPlan, sharing: Option<(Members, Found)>) -> EnterError {
    match enter(plan, sharing) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn enter(plan: &ExecPlan, sharing: Option<(Members, Found)>) -> Result<Infallible, EnterError> {
    if plan.unshare.contains(&Unshare::Pid) {
        return Err(EnterError::Unsupported(Unshare::Pid));
    }
    let command = plan.command()?;
    if let KeepFds::Only(keep) = &plan.keep_fds {
        fds::close_on_exec_except(keep).during(Step::Descriptors)?;
    }
    let shared = match sharing {
        None => {
            enter_namespaces(&plan.identity, &plan.unshare)?;
            make_root(plan)?;
            None
        }
        Some((list, found)) => Some(share(plan, list, found)?),
    };
    change_directory(&plan.cwd)?;
    drop_privileges(&plan.identity)?;
    if let Some((list, namespace)) = shared {
        stay_within_reach(list, namespace, &command)?;
    }
    Err(ProgramError::new(&plan.argv, command.exec()).into())
}

/// Enters a container that runs, by its locked list and the process `pid` of it, and executes a program there as
/// [`execute`] does. What the container's processes are, `identity` and `unshare` tell.
///
/// Single-threaded callers only.
pub fn execute_in(
    list: Members,
    (pid, mounts): (u32, Namespace),
    (identity, unshare): (&IdentityPlan, &[Unshare]),
    plan: &JoinPlan,
) -> EnterError {
    let enter = |mut list: Members| -> Result<Infallible, EnterError> {
        let command = Command::new(&plan.argv, &plan.env).ok_or(ProgramError::BadCommand)?;
        if let KeepFds::Only(keep) = &plan.keep_fds {
            fds::close_on_exec_except(keep).during(Step::Descriptors)?;
        }
        let me = Member::me(0).during(Step::Member)?;
        join(pid, &mounts, unshare)?;
        list.add(Member { namespace: mounts.inode(), ..me })?;
        change_directory(&plan.cwd)?;
        drop_privileges(identity)?;
        stay_within_reach(list, mounts.inode(), &command)?;
        Err(ProgramError::new(&plan.argv, command.exec()).into())
    };
    match enter(list) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Joins the container that others made, or makes it; returns the list with this process in it, still locked, and the
/// inode of the mount namespace.
fn share(plan: &ExecPlan, mut list: Members, found: Found) -> Result<(Members, u64), EnterError> {
    // /proc may not be visible inside.
    let me = Member::me(0).during(Step::Member)?;
    let namespace = match found {
        Found::Joinable(pid, mounts) => {
            join(pid, &mounts, &plan.unshare)?;
            mounts.inode()
        }
        Found::Nobody | Found::OutOfReach(_) => {
            enter_namespaces(&plan.identity, &plan.unshare)?;
            let namespace = namespace::own_inode("mnt").during(Step::Member)?;
            make_root(plan)?;
            namespace
        }
    };
    list.add(Member { namespace, ..me })?;
    Ok((list, namespace))
}

/// Enters the namespaces of process `pid`, whose mount namespace is `mounts`.
pub(super) fn join(pid: u32, mounts: &Namespace, unshare: &[Unshare]) -> Result<(), EnterError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).during(Step::Dumpable)?;
    let others = unshare.iter().map(|kind| Namespace::of(pid, kind.name())).collect::<io::Result<Vec<_>>>();
    let others = others.during(Step::Join)?;
    // Not its user namespace, which may be a nested one of the program's.
    mounts.enter_owner().during(Step::Join)?;
    others.iter().try_for_each(Namespace::enter).during(Step::Join)?;
    mounts.enter().during(Step::Join)
}

/// Sees to it that others can join once this process is the program of `command`, and lets them.
fn stay_within_reach(mut list: Members, namespace: u64, command: &Command) -> Result<(), EnterError> {
    // A change of the user takes this away; an exec of what can be read keeps it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).during(Step::Dumpable)?;
    if command.is_unreadable() {
        holder::start(&mut list, namespace).during(Step::Holder)?;
    }
    Ok(())
}

/// Does `work` in a child that is root in a user namespace where the caller's subordinate IDs are mapped: files of theirs
/// are not the caller's to change. Single-threaded callers only.
///
/// # Errors
/// EPERM if the namespace cannot be had, else those of `work`.
pub fn as_mapped_root((uids, gids): (Range, Range), work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let map = IdMap::Subordinate { uids, gids };
    let identity = IdentityPlan { uid: 0, gid: 0, map, fake_root_filter: false, docker_capabilities: false };
    let status = process::in_child(|| match enter_namespaces(&identity, &[]) {
        Err(_) => libc::EPERM as u8,
        Ok(()) => work().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO) as u8),
    })?;
    match status.exit_status() {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

/// Makes and enters the namespaces, maps the IDs, and cuts the mounts off from the host's.
pub(super) fn enter_namespaces(identity: &IdentityPlan, unshare: &[Unshare]) -> Result<(), EnterError> {
    let flags = unshare.iter().fold(UnshareFlags::NEWNS, |flags, kind| flags | kind.flag());
    // Other ranks join by /proc/PID/ns, and the kernel shows that of dumpable processes only.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).during(Step::Dumpable)?;
    match &identity.map {
        IdMap::Single => {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            namespace::unshare_with_user(flags).during(Step::Unshare)?;
            namespace::deny_setgroups().during(Step::Setgroups)?;
            namespace::write_gid_map(identity.gid, gid).during(Step::GidMap)?;
            namespace::write_uid_map(identity.uid, uid).during(Step::UidMap)?;
        }
        IdMap::Subordinate { uids, gids } => map_by_helpers(flags, *uids, *gids)?,
    }
    if unshare.contains(&Unshare::Net) {
        namespace::raise_loopback().during(Step::Loopback)?;
    }
    mount::make_all_slaves().during(Step::Propagation)
}

/// Starts a child outside that maps our IDs by newuidmap and newgidmap once we are inside, and reaps it.
fn map_by_helpers(flags: UnshareFlags, uids: (u32, u32), gids: (u32, u32)) -> Result<(), EnterError> {
    let pid = rustix::process::getpid();
    let user = helper_command("newuidmap", pid, rustix::process::geteuid().as_raw(), uids);
    let group = helper_command("newgidmap", pid, rustix::process::getegid().as_raw(), gids);
    let (Some(user), Some(group)) = (user, group) else { return Err(ProgramError::BadCommand.into()) };
    let (ready, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).during(Step::Fork)?;
    let child = process::fork_child(|| {
        // Should we be killed, nobody tells it to go on; or have been, in between.
        let _unsupported_is_fine = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        if rustix::process::getppid() != Some(pid) {
            return 0;
        }
        let mut word = [0u8];
        match rustix::io::read(&ready, &mut word) {
            Ok(1) if word == *b"y" => run_helpers(&user, &group),
            _ => 0,
        }
    })
    .during(Step::Fork)?;
    let entered = namespace::unshare_with_user(flags);
    rustix::io::write(&tell, if entered.is_ok() { b"y" } else { b"n" }).during(Step::Fork)?;
    let status = process::wait(child).during(Step::Fork)?;
    entered.during(Step::Unshare)?;
    let program = match status.exit_status() {
        Some(0) => return Ok(()),
        Some(HELPER_GID) => "newgidmap",
        _ => "newuidmap",
    };
    Err(EnterError::IdHelper { program })
}

/// What the child of [`map_by_helpers`] ends with if newuidmap failed.
const HELPER_UID: i32 = 1;
/// The same for newgidmap.
const HELPER_GID: i32 = 2;

/// `program PID 0 OUTSIDE 1 1 FIRST COUNT`, with a fixed environment.
fn helper_command(program: &str, pid: Pid, outside: u32, (first, count): (u32, u32)) -> Option<Command> {
    let numbers = [pid.as_raw_nonzero().get() as u32, 0, outside, 1, 1, first, count];
    let argv: Vec<OsString> =
        iter::once(program.into()).chain(numbers.iter().map(|number| number.to_string().into())).collect();
    Command::new(&argv, &["PATH=/usr/bin:/bin:/usr/sbin:/sbin".into()])
}

fn run_helpers(user: &Command, group: &Command) -> u8 {
    let run = |command: &Command| {
        let ended = process::in_child(|| {
            command.exec();
            127
        });
        ended.is_ok_and(|status| status.exit_status() == Some(0))
    };
    if !run(user) {
        HELPER_UID as u8
    } else if !run(group) {
        HELPER_GID as u8
    } else {
        0
    }
}

fn make_root(plan: &ExecPlan) -> Result<(), EnterError> {
    let tree = plan.root.tree.as_path();
    let trees = Trees::open(&plan.root)?;
    let mut pending = mounts::open_sources(&plan.files, &plan.mounts)?;
    // What is made here has explicit modes; the program inherits the caller's umask.
    let umask = rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut with_scratch = mounts::need_scratch(&pending);
    let root = loop {
        let mut root = NewRoot::make(&plan.root, &trees, with_scratch)?;
        let made = match plan.root.write {
            RootWrite::ReadOnly => mounts::make_points(&mut root, &mut pending),
            _ => Ok(()),
        };
        match made {
            Ok(()) => break root,
            // Rare, so the attempt is cheaper than looking first.
            Err(Stopped::NeedsScratch) => root.discard(tree)?,
            Err(Stopped::Failed(error)) => return Err(error),
        }
        with_scratch = true;
    };
    mounts::mount_all(&root, &mut pending)?;
    rustix::process::umask(umask);
    root.enter(tree)
}

fn change_directory(cwd: &Cwd) -> Result<(), EnterError> {
    let first = rustix::process::chdir(&cwd.path);
    match (&cwd.fallback, first) {
        (_, Ok(())) => Ok(()),
        (Some(fallback), Err(_)) => rustix::process::chdir(fallback).on(Step::WorkingDirectory, fallback),
        (None, failed) => failed.on(Step::WorkingDirectory, &cwd.path),
    }
}

fn drop_privileges(identity: &IdentityPlan) -> Result<(), EnterError> {
    let subordinate = identity.map != IdMap::Single;
    let keep = if identity.docker_capabilities && subordinate { CapabilitySet::DOCKER } else { CapabilitySet::NONE };
    caps::limit_bounding_set(keep).during(Step::Capabilities)?;
    if subordinate && (identity.uid, identity.gid) != (0, 0) {
        process::become_user(identity.uid, identity.gid).during(Step::User)?;
    }
    // Who is not 0 has lost them with the change, and could not take them back.
    let keep = if identity.uid == 0 { keep } else { CapabilitySet::NONE };
    caps::set_capabilities(keep).during(Step::Capabilities)?;
    rustix::thread::set_no_new_privs(true).during(Step::NoNewPrivileges)?;
    if identity.fake_root_filter {
        seccomp::install_fake_root().during(Step::Filter)?;
    }
    Ok(())
}
