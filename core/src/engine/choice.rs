//! Which mode a run takes, and which engine carries it out.

use std::ffi::OsStr;

use super::{Engine, ProotPlan};
use crate::error::{ErrorKind, Explain};
use crate::policy::{Denied, Permit};
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

/// No mode can be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// What was asked for is not built.
    #[error(transparent)]
    NotBuilt(#[from] ModeNotBuilt),
    /// The site allows it not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// What the site allows does not work here.
    #[error("no mode that the site allows works here: {0}")]
    NoneWorks(String),
}

impl Explain for ModeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotBuilt(error) => error.kind(),
            Self::Denied(denied) => denied.kind(),
            Self::NoneWorks(_) => ErrorKind::Unsupported,
        }
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotBuilt(error) => error.hints(),
            Self::Denied(denied) => denied.hints(),
            Self::NoneWorks(_) => vec!["`udocker doctor` tells what helps".into()],
        }
    }
}

/// Chooses for a run that asks for `mode`; `None`: the first that the site prefers and `permit` allows, N1 only where it
/// works, as `native` tells.
///
/// P1 and P2 are both carried out by our tracer, but where the site names a PRoot; `search`: the caller's PATH.
///
/// # Errors
/// [`ModeError`].
pub fn choose(
    mode: Option<ExecMode>,
    settings: &EngineSettings,
    permit: &Permit<'_>,
    search: &OsStr,
    native: impl FnOnce() -> Result<(), String>,
) -> Result<Choice, ModeError> {
    let (mode, why) = match mode {
        Some(mode) => {
            ModeNotBuilt::check(mode)?;
            permit.check_mode(mode)?;
            (mode, None)
        }
        None => first_that_works(permit, native)?,
    };
    let engine = match mode {
        ExecMode::N1 => Engine::Native,
        _ => ProotPlan::of_settings(settings, mode, search).map_or(Engine::Ptrace, Engine::Proot),
    };
    Ok(Choice { mode, engine, why })
}

/// A mode, and why it is not N1 where that comes before it.
fn first_that_works(
    permit: &Permit<'_>,
    native: impl FnOnce() -> Result<(), String>,
) -> Result<(ExecMode, Option<String>), ModeError> {
    let (mut native, mut why, mut denied) = (Some(native), None, None);
    for mode in permit.preference().iter().copied().filter(|mode| ModeNotBuilt::check(*mode).is_ok()) {
        if let Err(error) = permit.check_mode(mode) {
            denied.get_or_insert(error);
            continue;
        }
        match (mode, native.take_if(|_| mode == ExecMode::N1)) {
            (ExecMode::N1, Some(native)) => match native() {
                Ok(()) => return Ok((mode, None)),
                Err(reason) => why = Some(reason),
            },
            (ExecMode::N1, None) => {}
            _ => return Ok((mode, why)),
        }
    }
    Err(match (why, denied) {
        (None, Some(denied)) => denied.into(),
        (why, _) => ModeError::NoneWorks(why.unwrap_or_else(|| "`modes.preference` names none that is built".into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Executable, Settings};

    #[test]
    fn a_named_mode_is_taken_and_else_the_first_that_works() {
        let settings = Settings::default();
        let (plain, permit) = (&settings.engines, Permit::plain(settings.rules(), "i"));
        let chosen = |mode, native: Result<(), &str>| {
            choose(mode, plain, &permit, OsStr::new(""), || native.map_err(str::to_owned))
        };
        let native = Choice { mode: ExecMode::N1, engine: Engine::Native, why: None };
        let traced = |mode, why: Option<&str>| Choice { mode, engine: Engine::Ptrace, why: why.map(str::to_owned) };
        assert_eq!(chosen(None, Ok(())), Ok(native.clone()));
        assert_eq!(chosen(Some(ExecMode::N1), Err("no")), Ok(native));
        assert_eq!(chosen(None, Err("no")), Ok(traced(ExecMode::P1, Some("no"))));
        assert_eq!(chosen(Some(ExecMode::P2), Ok(())), Ok(traced(ExecMode::P2, None)));
        assert_eq!(chosen(Some(ExecMode::R1), Ok(())), Err(ModeNotBuilt(ExecMode::R1).into()));
        let foreign = EngineSettings { proot: Executable::Path("/opt/proot".into()), ..EngineSettings::default() };
        for (mode, no_seccomp) in [(ExecMode::P1, false), (ExecMode::P2, true)] {
            let choice = choose(Some(mode), &foreign, &permit, OsStr::new(""), || Ok(())).unwrap();
            let Engine::Proot(proot) = choice.engine else { panic!("the site's PRoot") };
            assert_eq!((proot.program.to_str(), proot.no_seccomp), (Some("/opt/proot"), no_seccomp));
        }
    }

    #[test]
    fn the_site_says_which_modes_there_are_and_which_comes_first() {
        use ExecMode::{F1, N1, P1, P2};
        let works = || Ok(());
        let fails = || Err("no namespaces".to_owned());
        let denied = |mode: &str, list: &str| {
            format!("cannot use i: the site forbids mode {mode} (site.toml:1:1) | allowed: {list}")
        };
        for (case, allowed, preference, asked, native, expected) in [
            ("allowed", Some(&[N1][..]), None, Some(N1), true, Ok((N1, None))),
            ("forbidden", Some(&[N1, P2]), None, Some(P1), true, Err(denied("P1", "N1, P2"))),
            ("nothing", Some(&[]), None, None, true, Err(denied("N1", "none"))),
            ("automatic, N1 works", Some(&[N1]), None, None, true, Ok((N1, None))),
            (
                "automatic, N1 alone and does not work",
                Some(&[N1]),
                None,
                None,
                false,
                Err("no mode that the site allows works here: no namespaces | `udocker doctor` tells what helps".into()),
            ),
            ("automatic, N1 forbidden", Some(&[P2]), None, None, true, Ok((P2, None))),
            ("the order", None, Some(&[P2, N1][..]), None, true, Ok((P2, None))),
            ("the order, and forbidden", Some(&[N1]), Some(&[P2, N1]), None, true, Ok((N1, None))),
            ("the order, N1 does not work", None, Some(&[N1, P2]), None, false, Ok((P2, Some("no namespaces")))),
            ("what is not built is passed over", None, Some(&[F1, P1]), None, true, Ok((P1, None))),
        ] {
            let mut settings = Settings::default();
            settings.modes.allowed = allowed.map(|modes| (modes.to_vec(), "site.toml:1:1".into()));
            settings.modes.preference = preference.map_or(settings.modes.preference, <[_]>::to_vec);
            let permit = Permit::plain(settings.rules(), "i");
            let native = if native { works } else { fails };
            let chosen = choose(asked, &settings.engines, &permit, OsStr::new(""), native);
            let chosen = chosen.map(|choice| (choice.mode, choice.why));
            let shown = |error: ModeError| format!("{error} | {}", error.hints().join(", "));
            let expected = expected.map(|(mode, why)| (mode, why.map(str::to_owned)));
            assert_eq!(chosen.map_err(shown), expected, "{case}");
        }
    }
}
