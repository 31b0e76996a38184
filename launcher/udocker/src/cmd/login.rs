//! `udocker login`.

use std::io;
use std::process::ExitCode;

use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::reference::RegistryHost;
use udocker_transfer::registry::{Gate, Keystore, RegistryError, Secret, gate, try_login};

use super::{Outcome, RegistryUrl, given};
use crate::context::Context;
use crate::terminal;

/// Log in to a registry: check the credentials and store them.
///
/// Example: udocker login --registry=https://quay.io --username=me --password-stdin
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The user [default: asked for].
    #[arg(long, value_name = "USER")]
    pub username: Option<String>,
    /// The password; other users of this machine can see it here.
    #[arg(long, value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Read the password from standard input, its first line.
    #[arg(long)]
    pub password_stdin: bool,
    /// The registry [default: Docker Hub, or UDOCKER_REGISTRY].
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

/// Nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry refuses them.
    #[error("invalid credentials")]
    Refused(#[source] RegistryError),
    /// Nothing to try.
    #[error("invalid credentials: the {0} is empty")]
    Empty(&'static str),
    /// HTTP has no way of sending it.
    #[error("invalid credentials: a user's name has no `:`")]
    Colon,
    /// They could not be tried.
    #[error("cannot log in to {host}")]
    Untried {
        /// The registry.
        host: RegistryHost,
        /// Why not.
        #[source]
        source: RegistryError,
    },
    /// Nothing could be read.
    #[error("cannot read the {what}")]
    Input {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no place for them.
    #[error("no keystore is configured")]
    NoKeystore,
}

impl Explain for LoginError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(source) | Self::Untried { source, .. } => source.kind(),
            Self::Empty(_) | Self::Colon => ErrorKind::Usage,
            Self::Input { source, .. } => ErrorKind::from_io(source),
            Self::NoKeystore => ErrorKind::NotFound,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(_) => vec!["nothing was stored; check the user, the password and the registry".into()],
            Self::Untried { source, .. } => source.hints(),
            Self::NoKeystore => vec!["UDOCKER_KEYSTORE names a file for it".into()],
            _ => Vec::new(),
        }
    }
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    let registry = registry(args.registry.as_deref(), context)?;
    let keystore = keystore(context)?;
    let user = match given(args.username.as_deref()) {
        Some(user) => user.to_owned(),
        None => answer("user's name", terminal::ask("username: "))?,
    };
    let password = if args.password_stdin {
        answer("password", terminal::line())?
    } else if let Some(password) = given(args.password.as_deref()) {
        context.ui.warning("other users of this machine can see a password on a command line; use --password-stdin");
        password.to_owned()
    } else {
        answer("password", terminal::ask_hidden("password: "))?
    };
    for (what, value) in [("user's name", &user), ("password", &password)] {
        if value.is_empty() {
            return Err(LoginError::Empty(what).into());
        }
    }
    if user.contains(':') {
        return Err(LoginError::Colon.into());
    }
    if password == password.to_uppercase() {
        context.ui.warning("password in uppercase Caps Lock ?");
    }
    let password = Secret::new(password);
    let token_server = check(context, &registry.host, &user, &password)?;
    keystore.put(&registry.url, &registry.host, &user, &password, token_server.as_deref())?;
    context.ui.info(&format!("logged in to {} as {user}", registry.host));
    Ok(ExitCode::SUCCESS)
}

/// Tries the credentials; returns the host of the token server that took them, if one did.
fn check(context: &Context, host: &RegistryHost, user: &str, password: &Secret) -> Result<Option<String>, LoginError> {
    let registries = &context.settings.registries;
    let untried = |source| LoginError::Untried { host: host.clone(), source };
    let token_server = match gate(registries, host).map_err(untried)? {
        Gate::Open => {
            context.ui.warning(&format!("{host} asks nobody for credentials: these are stored and were not checked"));
            return Ok(None);
        }
        Gate::Password => None,
        Gate::TokenServer { host: server, related } => {
            let text = format!("the password goes to {server}, which {host} names as its token server");
            if related {
                context.ui.info(&text)
            } else {
                context.ui.warning(&text)
            }
            Some(server)
        }
    };
    match try_login(registries, host, user, password) {
        Ok(()) => Ok(token_server),
        Err(error @ (RegistryError::Password { .. } | RegistryError::Status { status: 401 | 403, .. })) => {
            Err(LoginError::Refused(error))
        }
        Err(error) => Err(untried(error)),
    }
}

fn answer(what: &'static str, read: io::Result<Option<String>>) -> Result<String, LoginError> {
    let text = read.map_err(|source| LoginError::Input { what, source })?;
    text.ok_or(LoginError::Empty(what))
}

/// The registry that `--registry` names, else that of names without a host.
pub fn registry(option: Option<&str>, context: &mut Context) -> Result<RegistryUrl, Failure> {
    let registries = &mut context.settings.registries;
    if let Some(text) = given(option) {
        RegistryUrl::parse(text)?.make_default(registries);
    }
    Ok(RegistryUrl::default_of(registries))
}

/// The user's keystore.
pub fn keystore(context: &Context) -> Result<Keystore, LoginError> {
    context.settings.registries.keystore.as_deref().map(Keystore::at).ok_or(LoginError::NoKeystore)
}
