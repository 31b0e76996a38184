//! The steps of entering, in their order.

use std::convert::Infallible;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::Gid;

use super::error::{EnterError, no_map, no_user_namespace};
use super::mounts::{Builder, open_sources};
use super::program::Program;
use crate::engine::{Cwd, ExecPlan, IdMap, IdentityPlan, KeepFds};
use crate::error::ErrorKind;
use crate::sys::process::Helper;
use crate::sys::{capabilities, exec, fds, mount, namespace, seccomp};

/// Does what `plan` says in this process; returns only if it could not.
pub fn execute(plan: &ExecPlan) -> EnterError {
    match enter(plan) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn enter(plan: &ExecPlan) -> Result<Infallible, EnterError> {
    if let Some(namespace) = plan.unshare.first() {
        return Err(EnterError::text(
            format!("unshare the {namespace:?} namespace"),
            ErrorKind::Unsupported,
            "this version makes user and mount namespaces only",
        ));
    }
    let program = Program::prepare(&plan.argv, &plan.env)?;
    let sources = open_sources(&plan.mounts)?;
    let tree = rustix::fs::open(&plan.root.tree, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| EnterError::errno(format!("open the root {}", plan.root.tree.display()), errno))?;

    unshare(&plan.identity)?;
    mount::make_all_slaves().map_err(|errno| EnterError::errno("cut mount propagation to the host", errno))?;
    let mut builder = Builder::new(&plan.root, tree)?;
    for (planned, source) in plan.mounts.iter().zip(&sources) {
        builder.mount(planned, source.as_ref())?;
    }
    for file in &plan.files {
        builder.generate(file)?;
    }
    let root = builder.finish()?;
    mount::pivot_into(&root).map_err(|errno| EnterError::errno("make the container's root the root", errno))?;
    drop(root);
    change_directory(&plan.cwd)?;

    take_identity(&plan.identity)?;
    if let KeepFds::Only(list) = &plan.keep_fds {
        fds::keep_only(list).map_err(|errno| EnterError::errno("close file descriptors", errno))?;
    }
    exec::restore_sigpipe();
    if plan.identity.fake_root_filter {
        seccomp::install_fake_root()
            .map_err(|errno| EnterError::errno("install the filter that answers changes of ownership", errno))?;
    }
    Err(program.execute())
}

/// Enters the namespaces and writes the maps.
pub(super) fn unshare(identity: &IdentityPlan) -> Result<(), EnterError> {
    namespace::set_dumpable().map_err(|errno| EnterError::errno("make this process dumpable", errno))?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    match identity.map {
        IdMap::Single => {
            namespace::unshare_user_and_mount().map_err(no_user_namespace)?;
            for (file, text) in [
                ("setgroups", "deny".to_owned()),
                ("gid_map", format!("{} {gid} 1", identity.gid)),
                ("uid_map", format!("{} {uid} 1", identity.uid)),
            ] {
                namespace::write_proc_self(file, &text).map_err(|errno| no_map(file, errno))?;
            }
        }
        IdMap::Subordinate { uids, gids } => {
            let helper = Helper::start(|pid| {
                let maps = [("newuidmap", uid, uids), ("newgidmap", gid, gids)];
                u8::from(!maps.iter().all(|(program, own, range)| write_map(program, pid, *own, *range)))
            })
            .map_err(|errno| EnterError::errno("start the helper that writes the ID maps", errno))?;
            namespace::unshare_user_and_mount().map_err(no_user_namespace)?;
            match helper.run() {
                Ok(0) => {}
                Ok(_) => {
                    return Err(EnterError::text("map subordinate IDs", ErrorKind::Unsupported, "newuidmap or newgidmap failed")
                        .hint("/etc/subuid and /etc/subgid must name this user"));
                }
                Err(errno) => return Err(EnterError::errno("wait for the helper that writes the ID maps", errno)),
            }
        }
    }
    Ok(())
}

fn write_map(program: &str, pid: u32, own: u32, (first, count): (u32, u32)) -> bool {
    let words = [pid, 0, own, 1, 1, first, count].map(|number| number.to_string());
    Command::new(program).args(words).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn change_directory(cwd: &Cwd) -> Result<(), EnterError> {
    let Err(errno) = rustix::process::chdir(&cwd.path) else { return Ok(()) };
    if let Some(fallback) = &cwd.fallback
        && rustix::process::chdir(fallback).is_ok()
    {
        return Ok(());
    }
    Err(EnterError::errno(format!("change to the directory {} in the container", cwd.path.display()), errno)
        .hint("`--workdir=DIR` names one that is there; `-v` makes one of the host visible"))
}

/// Privileges go, last: identity, capabilities, no_new_privs.
fn take_identity(identity: &IdentityPlan) -> Result<(), EnterError> {
    if matches!(identity.map, IdMap::Subordinate { .. }) {
        let (uid, gid) = (rustix::process::Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        rustix::thread::set_thread_groups(&[gid])
            .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
            .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
            .map_err(|errno| EnterError::errno(format!("become {}:{}", identity.uid, identity.gid), errno))?;
    }
    let keep = if identity.docker_capabilities && identity.uid == 0 { capabilities::DOCKER_DEFAULT } else { 0 };
    // After the change to another user nothing is left to reduce, and the bounding set needs a privilege that is gone.
    if !identity.docker_capabilities || identity.uid == 0 {
        capabilities::reduce(keep).map_err(|errno| EnterError::errno("drop capabilities", errno))?;
    }
    capabilities::set_no_new_privs().map_err(|errno| EnterError::errno("set no_new_privs", errno))
}
