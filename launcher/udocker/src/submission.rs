//! A job is submitted: everything that a submit host knows of it and a node would find out later.
//!
//! ```text
//! advise   what the site's rules deny on every node is refused now, in the node's words; the node still decides
//! pin      the tag becomes the digest that it stands for now (`policy.pin`)
//! stage    its image is made ready, where the site wants that now (`stage.when`)
//! ```
//! Slurm's plugin, which reads no configuration and asks no registry, runs it once a submission (`udocker resolve --request`):
//! the request comes in SLURM_UDOCKER_REQUEST and goes to stdout, and a refusal is an error as of any command.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use udocker_core::container::Container;
use udocker_core::digest::Digest;
use udocker_core::env_vars::SLURM_UDOCKER_REQUEST;
use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::platform::Platform;
use udocker_core::policy::{self, ModeSettings, Name, Pin, Policy, Subject};
use udocker_core::reference::ImageReference;
use udocker_core::run::{Defaults, PullPolicy, RequestError, RunRequest, WriteSpec, is_path};
use udocker_core::settings::{Settings, StageWhen};
use udocker_core::store::Stores;
use udocker_transfer::resolve::resolve;

use crate::cmd::Outcome;
use crate::cmd::stage::for_job;
use crate::context::Context;

/// How long staging is silent.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// A job is not submitted, or there is none.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    #[error("there is no request: {SLURM_UDOCKER_REQUEST} is not set")]
    None,
    #[error("cannot read the request in {SLURM_UDOCKER_REQUEST}")]
    NotRead(#[source] RequestError),
    #[error("cannot send the request to the job")]
    NotSent(#[source] RequestError),
    #[error("cannot print the request")]
    NotPrinted(#[source] std::io::Error),
}

impl Explain for SubmissionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::None => vec!["Slurm's plugin sets it; `udocker resolve IMAGE` tells what a name stands for".into()],
            Self::NotRead(error) | Self::NotSent(error) => error.hints(),
            Self::NotPrinted(_) => Vec::new(),
        }
    }
}

/// What the image of a request is.
enum Image<'a> {
    Path(&'a Path),
    Container(Container),
    Reference(ImageReference),
}

/// See the module's head.
pub fn run(context: &mut Context) -> Outcome {
    let text = std::env::var_os(SLURM_UDOCKER_REQUEST).ok_or(SubmissionError::None)?;
    let request = RunRequest::from_json(text.as_encoded_bytes()).map_err(SubmissionError::NotRead)?;
    let stores = match is_path(&request.image) {
        // It is in none, and the user's may be closed to this host.
        true => Stores::open(&Settings::default())?,
        false => context.stores()?,
    };
    let image = image_of(&request, &stores)?;
    if let Image::Path(path) = &image
        && !path.is_dir()
    {
        context
            .ui
            .warning(&format!("there is no directory {} on this host: the job's nodes must have it", path.display()));
    }
    advise(&request, &image, &stores, context)?;
    let pin = match &image {
        Image::Reference(reference) => pin(&request, reference, &stores, context)?,
        Image::Path(_) | Image::Container(_) => None,
    };
    drop(image);
    let request = RunRequest { pin: pin.or(request.pin.clone()), ..request };
    match audibly(&request.image, || for_job(&request, StageWhen::Submit, context)) {
        Err(denied) if denied.kind() == ErrorKind::Forbidden => return Err(denied),
        // A submit host may lack what the nodes have: a store, a network, space.
        Err(failure) => {
            let text = format!("{} is not made ready now: the job's first task does that", request.image);
            context.ui.warning(&failure.under(text).report());
        }
        Ok(()) => {}
    }
    let text = request.to_json().map_err(SubmissionError::NotSent)?;
    // Not by `ui`: the answer is none of the results that a user can turn off.
    writeln!(std::io::stdout().lock(), "{text}").map_err(SubmissionError::NotPrinted)?;
    Ok(ExitCode::SUCCESS)
}

/// Does `work` for `image`, and says now and then that it goes on, also to who wants to hear little: the plugin ends a program that
/// is silent (spank-plugin/src/submit.rs).
fn audibly<T>(image: &str, work: impl FnOnce() -> T) -> T {
    let (done, waits) = mpsc::channel::<()>();
    let since = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = waits.recv_timeout(SIGN_OF_LIFE) {
                // Nobody is left to tell if stderr is gone.
                let _ = writeln!(
                    std::io::stderr().lock(),
                    "Info: {image} is being made ready for the job ({} s)",
                    since.elapsed().as_secs()
                );
            }
        });
        let answer = work();
        drop(done);
        answer
    })
}

/// As a node takes it: a path, else a stored container, else an image.
fn image_of<'a>(request: &'a RunRequest, stores: &Stores) -> Result<Image<'a>, Failure> {
    if is_path(&request.image) {
        return Ok(Image::Path(Path::new(&request.image)));
    }
    if let Some((_, container)) = stores.find_container(&request.image)? {
        return Ok(Image::Container(container));
    }
    Ok(Image::Reference(request.image.parse().map_err(crate::usage)?))
}

/// The digest that the job's image has by `policy.pin`; a failure if it must have one and none can be told.
fn pin(
    request: &RunRequest,
    reference: &ImageReference,
    stores: &Stores,
    context: &Context,
) -> Result<Option<Digest>, Failure> {
    let settings = &context.settings;
    if settings.policy.pin == Pin::Off || reference.digest().is_some() {
        return Ok(None);
    }
    match resolve(stores, reference, &platform(request), request.pull, settings) {
        Ok(resolved) => Ok(Some(resolved.digest)),
        Err(error) if settings.policy.pin == Pin::Require => {
            let why = "the site's `policy.pin` is \"require\"";
            Err(Failure::from(error)
                .under(format!("cannot submit a job with {reference}: it has no digest, and {why}")))
        }
        Err(error) => {
            let text =
                format!("{reference} is not pinned to a digest now: the job's first task decides which image it is");
            context.ui.warning(&Failure::from(error).under(text).report());
            Ok(None)
        }
    }
}

fn platform(request: &RunRequest) -> Platform {
    request.platform.clone().unwrap_or_else(Platform::native)
}

/// Refuses what every node would refuse, in its order and words.
///
/// Of the job's account, partition and queue nothing is known, so rules about them count at their mildest
/// ([`Policy::mildest`]), and tables that an override sets for some jobs not at all. The stores are taken for those of the nodes.
fn advise(request: &RunRequest, image: &Image<'_>, stores: &Stores, context: &Context) -> Result<(), Failure> {
    let found = match image {
        Image::Reference(reference) if request.pull != PullPolicy::Always => {
            stores.find_image(reference, &platform(request))?.and_then(|found| Some((found.record?, found.tree?)))
        }
        _ => None,
    };
    let settings = certain(context, found.is_some() || matches!(image, Image::Container(_)));
    let mut request = request.clone();
    request.complete(&settings.run);
    let (shown, mounts, write) = (&*request.image, settings.mounts.as_deref(), request.write(Defaults::Job));
    if let (Some(mounts), Image::Path(path)) = (mounts, image) {
        mounts.judge_as_written(shown, Some(path), None)?;
    }
    let subject = |name, digests| Subject { shown, name, digests };
    let permit = match (image, &found) {
        (Image::Path(path), _) => policy::ask(&settings, &subject(Name::None, Vec::new()), path, &[])?,
        (Image::Container(container), _) => policy::ask_container(&settings, shown, container, &[])?,
        (Image::Reference(reference), Some((record, tree))) => {
            policy::ask_image(&settings, (shown, reference), (record, tree), request.is_written(Defaults::Job), &[])?
        }
        (Image::Reference(reference), None) => {
            let digests = reference.digest().into_iter().collect();
            policy::ask(&settings, &subject(Name::Image(reference), digests), Path::new(""), &[])?
        }
    };
    permit.check_use(false, request.is_written(Defaults::Job))?;
    if let (Some(mounts), WriteSpec::Directory(path)) = (mounts, write) {
        mounts.judge_as_written(&format!("--write={write}"), Some(path), None)?;
    }
    if let Some(mode) = request.mode {
        let words = "cannot run in the mode that `--mode` asks for";
        permit.check_mode(mode).map_err(|denied| Failure::from(denied).under(words))?;
    }
    for (wish, mounts) in request.mounts.iter().zip(mounts.into_iter().cycle()) {
        mounts.judge_as_written(&format!("{wish} (--mount)"), wish.source.as_deref(), Some(&wish.target))?;
    }
    Ok(())
}

/// What is configured whichever job this is; `is_found`: it is known where the image lies, and its digests.
fn certain(context: &Context, is_found: bool) -> Settings {
    let (mut settings, configuration) = (context.settings.clone(), &context.configuration);
    settings.policy = match configuration.varies("policy") {
        true => Policy { registry: settings.policy.registry, pin: settings.policy.pin, ..Policy::default() },
        false => settings.policy.mildest(is_found),
    };
    if configuration.varies("modes") {
        settings.modes = ModeSettings::default();
    }
    if configuration.varies("mounts") {
        settings.mounts = None;
    }
    settings
}
