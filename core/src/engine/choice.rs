//! Which mode a run takes, and which engine carries it out.

use std::ffi::OsStr;

use super::{Engine, ProotPlan};
use crate::error::{ErrorKind, Explain};
use crate::run::ExecMode;
use crate::settings::EngineSettings;

/// How a run is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The mode.
    pub mode: ExecMode,
    /// Who does it.
    pub engine: Engine,
    /// Why it is not N1, where nobody named a mode.
    pub why: Option<String>,
}

/// A mode that is known and not built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode {0} is not built in this version")]
pub struct ModeNotBuilt(pub ExecMode);

impl ModeNotBuilt {
    /// # Errors
    /// Itself, if `mode` is not built.
    pub fn check(mode: ExecMode) -> Result<(), Self> {
        match mode {
            ExecMode::N1 | ExecMode::P1 | ExecMode::P2 => Ok(()),
            other => Err(Self(other)),
        }
    }
}

impl Explain for ModeNotBuilt {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
    fn hints(&self) -> Vec<String> {
        vec!["`--mode=auto` takes one that works here, `udocker doctor` lists them".into()]
    }
}

/// Chooses for a run that asks for `mode`; `None`: N1 where it works, as `native` tells, else P1.
///
/// P1 and P2 are both carried out by our tracer, but where the site names a PRoot; `search`: the caller's PATH.
///
/// # Errors
/// [`ModeNotBuilt`].
pub fn choose(
    mode: Option<ExecMode>,
    settings: &EngineSettings,
    search: &OsStr,
    native: impl FnOnce() -> Result<(), String>,
) -> Result<Choice, ModeNotBuilt> {
    let (mode, why) = match mode {
        Some(mode) => (mode, None),
        None => match native() {
            Ok(()) => (ExecMode::N1, None),
            Err(why) => (ExecMode::P1, Some(why)),
        },
    };
    ModeNotBuilt::check(mode)?;
    let engine = match mode {
        ExecMode::N1 => Engine::Native,
        _ => ProotPlan::of_settings(settings, mode, search).map_or(Engine::Ptrace, Engine::Proot),
    };
    Ok(Choice { mode, engine, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Executable;

    #[test]
    fn a_named_mode_is_taken_and_else_the_first_that_works() {
        let plain = EngineSettings::default();
        let chosen =
            |mode, native: Result<(), &str>| choose(mode, &plain, OsStr::new(""), || native.map_err(str::to_owned));
        let native = Choice { mode: ExecMode::N1, engine: Engine::Native, why: None };
        let traced = |mode, why: Option<&str>| Choice { mode, engine: Engine::Ptrace, why: why.map(str::to_owned) };
        assert_eq!(chosen(None, Ok(())), Ok(native.clone()));
        assert_eq!(chosen(Some(ExecMode::N1), Err("no")), Ok(native));
        assert_eq!(chosen(None, Err("no")), Ok(traced(ExecMode::P1, Some("no"))));
        assert_eq!(chosen(Some(ExecMode::P2), Ok(())), Ok(traced(ExecMode::P2, None)));
        assert_eq!(chosen(Some(ExecMode::R1), Ok(())), Err(ModeNotBuilt(ExecMode::R1)));
        let foreign = EngineSettings { proot: Executable::Path("/opt/proot".into()), ..EngineSettings::default() };
        for (mode, no_seccomp) in [(ExecMode::P1, false), (ExecMode::P2, true)] {
            let choice = choose(Some(mode), &foreign, OsStr::new(""), || Ok(())).unwrap();
            let Engine::Proot(proot) = choice.engine else { panic!("the site's PRoot") };
            assert_eq!((proot.program.to_str(), proot.no_seccomp), (Some("/opt/proot"), no_seccomp));
        }
    }
}
