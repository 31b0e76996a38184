//! One file per command: its options, and one `run`.

use std::process::ExitCode;

use udocker_core::error::Failure;

pub mod clone;
pub mod create;
pub mod export;
pub mod images;
pub mod import;
pub mod inspect;
pub mod install;
pub mod load;
pub mod login;
pub mod logout;
pub mod manifest;
pub mod mkrepo;
pub mod name;
pub mod protect;
pub mod ps;
pub mod pull;
pub mod rename;
pub mod rm;
pub mod rmi;
pub mod rmname;
pub mod run;
pub mod save;
pub mod search;
pub mod setup;
pub mod showconf;
pub mod stage;
pub mod tag;
pub mod unprotect;
pub mod verify;
pub mod version;

/// What a command ends with: a status, or an error that the caller reports.
pub type Outcome = Result<ExitCode, Failure>;

/// Options of everything that asks a registry.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct RegistryArgs {
    /// Accepted for compatibility; indexes are not asked.
    #[arg(long, value_name = "URL", hide = true)]
    pub index: Option<String>,
    /// Ask this registry for names without a host.
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
    /// Ask through this proxy.
    #[arg(long, value_name = "PROXY")]
    pub httpproxy: Option<String>,
}

impl RegistryArgs {
    /// `settings` with these options applied.
    pub fn apply(&self, settings: &mut udocker_core::settings::Settings) -> Result<(), Failure> {
        if let Some(url) = &self.registry {
            let host = url.strip_prefix("https://").or(url.strip_prefix("http://")).unwrap_or(url);
            let host: udocker_core::reference::RegistryHost =
                host.trim_end_matches('/').parse().map_err(crate::usage)?;
            if url.starts_with("http://") {
                settings.registries.insecure.push(host.clone());
            }
            settings.registries.default = host;
        }
        if let Some(proxy) = &self.httpproxy {
            settings.registries.proxy = Some(proxy.clone());
        }
        Ok(())
    }
}
