//! `udocker run --explain`.

use std::process::ExitCode;

use udocker_core::run::{Asked, Defaults, Explaining, RunRequest, RunSpec, Said};

use super::args::Mode;
use super::target::Target;
use super::{Args, planned, refusal};
use crate::cmd::Outcome;
use crate::context::Context;

/// Prints the plan of `request`; `said`: who asked for what, the profiles' part first.
pub fn explain(
    args: &Args,
    context: &Context,
    request: &RunRequest,
    target: &Target,
    mut said: Vec<Vec<Said>>,
) -> Outcome {
    let planned = planned(context, request, target)?;
    let named = said.iter().flatten().filter(|said| said.option == "mount").count();
    let of_setup = Said { option: "mount", value: "".into(), origin: "`udocker setup --nvidia`".into() };
    said.push(vec![of_setup; request.mounts.len().saturating_sub(named)]);
    let (caller, files, facts) = (&planned.caller, &planned.files, &planned.facts);
    let variables = RunSpec::variables(request, &target.config, files, caller, Defaults::Interactive, facts);
    let configuration = &context.configuration;
    let of_container = target.container.as_ref().filter(|(_, container)| container.mode().is_some());
    let explaining = Explaining {
        request,
        asked: &Asked::of(&said),
        configured: &|key| configuration.set_by(key),
        defaults: Defaults::Interactive,
        caller,
        config: &target.config,
        plan: &planned.plan,
        variables: variables.map_err(refusal::of_spec)?,
        root: if args.location.is_some() { "--location" } else { "store" }.into(),
        setup: match of_container {
            _ if matches!(args.mode, Some(Mode::Auto)) => None,
            Some((_, container)) => Some(format!("the setup of container {}", container.id())),
            None => context.settings.engines.default_mode.and(configuration.set_by("override_default_execution_mode")),
        },
        why: target.choice.why.as_deref(),
    };
    let explanation = explaining.explain();
    let text = match args.format.as_deref() {
        Some("json") => explanation.to_json(),
        _ => explanation.to_text(),
    };
    context.ui.result(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
