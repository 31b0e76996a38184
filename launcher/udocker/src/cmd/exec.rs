//! `udocker exec`: one more program in a container that runs.

use std::ffi::OsString;
use std::path::PathBuf;

use udocker_core::engine::KeepFds;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::rendezvous::{NO_ENVIRONMENT, Running, running};
use udocker_core::run::EnvSpec;
use udocker_core::start::join;
use udocker_core::store::RunDirectory;
use udocker_core::sys::signal::restore_sigpipe;

use super::Outcome;
use super::run::NOT_STARTED;
use crate::context::Context;
use crate::usage_text;

/// Run a command in a container that runs on this machine.
///
/// The command sees the container's mounts and the environment that its first program began with. Its streams and its
/// terminal are those of `udocker exec`.
///
/// Example: udocker exec work ps aux
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Set a variable: NAME=VALUE, or NAME to take the caller's value.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = clap::builder::OsStringValueParser::new())]
    pub env: Vec<OsString>,
    /// Begin in this directory; default: where its first program is.
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Accepted: standard input is always passed on.
    #[arg(short, long)]
    pub interactive: bool,
    /// Accepted: a terminal is always passed on.
    #[arg(short, long)]
    pub tty: bool,
    /// A container's ID or name.
    #[arg(value_name = "CONTAINER")]
    pub name: Option<String>,
    /// The command and its arguments.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub argv: Vec<OsString>,
}

/// There is nothing to enter.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("cannot run a command in {0}: there is no such container")]
    NoContainer(String),
    #[error("cannot run a command in container {0}: nothing runs in it on this machine in mode N1")]
    NotRunning(String),
}

impl Explain for ExecError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }
    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::NoContainer(_) => "`udocker ps` lists containers and their names".into(),
            Self::NotRunning(id) => {
                format!("`udocker run {id}` starts it; the other modes have no namespaces that can be entered")
            }
        }]
    }
}

pub fn run(args: &Args, context: &Context) -> Outcome {
    let Some(name) = args.name.as_deref().filter(|_| !args.argv.is_empty()) else {
        return Err(usage_text("must specify a container and a command").into());
    };
    enter(name, args, context).or_else(|failure| Ok(context.ui.failed(&failure, NOT_STARTED)))
}

fn enter(name: &str, args: &Args, context: &Context) -> Outcome {
    let wishes = args.env.iter().map(|entry| EnvSpec::parse(entry)).collect::<Result<Vec<_>, _>>()?;
    let stores = context.stores()?;
    let found = stores.find_container(name)?;
    let (_, found) = found.ok_or_else(|| ExecError::NoContainer(name.to_owned()))?;
    let run = RunDirectory::open(&context.settings.run_dirs);
    let all = run.as_ref().map(running).unwrap_or_default();
    // A job names it as its user did.
    let names: Vec<String> =
        [found.id().to_string()].into_iter().chain(found.names().iter().map(ToString::to_string)).collect();
    let is_its = |running: &&Running| names.contains(&running.head.image);
    let container = all.iter().find(is_its).ok_or_else(|| ExecError::NotRunning(found.id().to_string()))?;
    // It stays for as long as this command runs, whatever becomes of the one that made it.
    run.iter().try_for_each(|run| run.enlist(&names[0]))?;
    if container.environment().is_none() {
        context.ui.warning(NO_ENVIRONMENT);
    }
    let caller: Vec<_> = std::env::vars_os().collect();
    let plan = container.plan(args.argv.clone(), &wishes, args.workdir.as_deref(), &caller, KeepFds::All);
    restore_sigpipe();
    let error = join(container, &plan);
    let status = error.status();
    Ok(context.ui.failed(&Failure::from(error), status))
}
