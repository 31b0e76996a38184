//! What srun, sbatch or salloc sends: one request, made of what the step inherits, of variables and of options. Pure, but for
//! files that `--udocker-env-file` names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use udocker_core::env_vars::{SLURM_JOB_ID, SLURM_UDOCKER_INSIDE, SLURM_UDOCKER_REQUEST};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::run::{
    JOB_OPTIONS, JobOption, OptionError, RequestError, RunRequest, Wish, is_carried, is_path, option_variables,
};
use udocker_spank_sys::Client;

/// How the client's environment, and with it the job's, changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The new value of `SLURM_UDOCKER_REQUEST`.
    pub request: Option<String>,
    /// Variables that go. Those of options that a request says are taken out: what a job's script sets later is news then.
    pub unset: Vec<String>,
}

/// Nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("options of a container and no image were given")]
    NoImage,
    #[error("one srun was given two images, `{0}` and `{1}`: Slurm hands one to all components of a step")]
    TwoImages(String, String),
    #[error("cannot put the job into a container")]
    Option(#[source] OptionError),
    #[error("cannot inherit what this job's container is: variable {SLURM_UDOCKER_REQUEST}")]
    Inherited(#[source] RequestError),
    #[error("cannot send the request to the job")]
    Request(#[source] RequestError),
    #[error("cannot tell the current directory, from which the image's path starts")]
    Directory(#[source] std::io::Error),
}

impl Explain for ClientError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoImage => vec!["`--udocker-image=IMAGE` or UDOCKER_IMAGE names it".into()],
            Self::TwoImages(..) => vec!["start a srun for each".into()],
            Self::Option(error) => error.hints(),
            Self::Inherited(error) | Self::Request(error) => error.hints(),
            Self::Directory(_) => vec!["give an absolute path".into()],
        }
    }
}

/// Decides what `client` sends that was `given` these options and has the environment `env`.
///
/// An inherited request serves srun alone, and within its own job. It is changed by variables, and these by options.
pub fn decide(
    client: Client,
    given: &[(&JobOption, OsString)],
    env: &[(OsString, OsString)],
) -> Result<Change, ClientError> {
    let variable = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str());
    let carried = variable(SLURM_UDOCKER_REQUEST);
    let inherited = match carried.filter(|_| client == Client::Starter) {
        Some(text) if variable(SLURM_JOB_ID).is_some() => {
            Some(RunRequest::from_json(text.as_bytes()).map_err(ClientError::Inherited)?).filter(|r| r.is_for(env))
        }
        _ => None,
    };
    let is_named = variable("UDOCKER_IMAGE").is_some_and(|image| !image.is_empty());
    if inherited.is_none() && !is_named && given.is_empty() {
        return Ok(Change { request: None, unset: ours(env) });
    }
    check_images(given)?;
    let asked = given.iter().rev().find(|(option, _)| option.name == "image").map(|(_, image)| image.as_os_str());
    let asked = asked.or_else(|| variable("UDOCKER_IMAGE").filter(|_| is_named)).and_then(OsStr::to_str);
    let asked = asked.map(whole).transpose()?;
    let is_script_s = variable(SLURM_UDOCKER_INSIDE).is_some();
    let inherited =
        inherited.map(|request| match is_script_s && asked.as_ref().is_none_or(|image| *image == request.image) {
            // The script's environment came of these, and what it has made of that since is the step's.
            true => RunRequest { env: Vec::new(), unset_env: Vec::new(), clean_env: false, ..request },
            false => request,
        });
    let mut wish = Wish::over(inherited.unwrap_or_else(|| RunRequest::of_job("")));
    wish.take_variables(option_variables(env)).map_err(ClientError::Option)?;
    for (option, value) in given {
        option.apply(&mut wish, value).map_err(ClientError::Option)?;
    }
    let mut unset: Vec<String> = JOB_OPTIONS.iter().map(JobOption::variable).collect();
    unset.retain(|name| variable(name).is_some());
    let mut request = RunRequest { job: None, ..wish.into_request() };
    match request.image.as_str() {
        "" => return Err(ClientError::NoImage),
        "none" => {
            unset.extend(ours(env));
            return Ok(Change { request: None, unset });
        }
        image => request.image = whole(image)?,
    }
    Ok(Change { request: Some(request.to_json().map_err(ClientError::Request)?), unset })
}

/// What of `env` is ours and of no use to a job without a container.
fn ours(env: &[(OsString, OsString)]) -> Vec<String> {
    let names = env.iter().map(|(name, _)| name).filter(|name| *name == SLURM_UDOCKER_REQUEST || is_carried(name));
    names.filter_map(|name| name.to_str().map(str::to_owned)).collect()
}

/// Of one step's components only the last image would count.
fn check_images(given: &[(&JobOption, OsString)]) -> Result<(), ClientError> {
    let mut images = given.iter().filter(|(option, _)| option.name == "image").map(|(_, image)| image);
    let Some(first) = images.next() else { return Ok(()) };
    let Some(other) = images.find(|image| *image != first) else { return Ok(()) };
    // Not from a library's own arguments, which it has none of.
    let words = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    match words.split(|byte| *byte == 0).any(|word| word == b":") {
        true => Err(ClientError::TwoImages(first.display().to_string(), other.display().to_string())),
        false => Ok(()),
    }
}

/// The name `image` as the job's nodes take it.
fn whole(image: &str) -> Result<String, ClientError> {
    if is_path(image) { absolute(image) } else { Ok(image.into()) }
}

/// The path `image` from the root on, as the job's nodes know it.
fn absolute(image: &str) -> Result<String, ClientError> {
    let path = match image.starts_with('/') {
        true => PathBuf::from(image),
        false => std::env::current_dir().map_err(ClientError::Directory)?.join(image),
    };
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = out.pop(),
            other => out.push(other),
        }
    }
    let text = |path: &Path| path.as_os_str().to_str().map(str::to_owned);
    text(&out).ok_or_else(|| ClientError::Option(OptionError::NotText(OsStr::display(out.as_os_str()).to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn decided(client: Client, words: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Change, String> {
        let given: Vec<_> =
            words.iter().map(|(name, value)| (JobOption::find(name).unwrap(), OsString::from(value))).collect();
        decide(client, &given, &pairs(env)).map_err(|error| error.to_string())
    }

    /// The request that is sent, and what goes.
    fn sent(client: Client, words: &[(&str, &str)], env: &[(&str, &str)]) -> (RunRequest, Vec<String>) {
        let change = decided(client, words, env).unwrap();
        (RunRequest::from_json(change.request.unwrap().as_bytes()).unwrap(), change.unset)
    }

    fn request(job: Option<&str>) -> String {
        let request = RunRequest { job: job.map(Into::into), umounts: vec!["/x".into()], ..RunRequest::of_job("old") };
        request.to_json().unwrap()
    }

    #[test]
    fn who_asks_for_nothing_sends_nothing() {
        let change = decided(Client::Starter, &[], &[("UDOCKER_MOUNT", "nonsense"), ("UDOCKER_IMAGE", "")]).unwrap();
        assert_eq!(change, Change::default());
    }

    #[test]
    fn options_beat_variables_which_are_taken_out() {
        let env = [("UDOCKER_IMAGE", "a"), ("UDOCKER_UMOUNT", "/v"), ("UDOCKER_DIR", "/store")];
        for client in [Client::Starter, Client::Allocator] {
            let (request, unset) = sent(client, &[("image", "b"), ("umount", "/w")], &env);
            let expected = RunRequest { umounts: vec!["/v".into(), "/w".into()], ..RunRequest::of_job("b") };
            assert_eq!((request, unset), (expected, vec!["UDOCKER_IMAGE".into(), "UDOCKER_UMOUNT".into()]));
        }
    }

    #[test]
    fn only_srun_of_the_same_job_inherits() {
        let (own, unnamed) = (request(Some("5")), request(None));
        let gone = Change { request: None, unset: vec![SLURM_UDOCKER_REQUEST.into()] };
        for (client, text, job, inherits) in [
            (Client::Starter, &own, Some("5"), true),
            (Client::Starter, &unnamed, Some("5"), true),
            (Client::Starter, &own, Some("6"), false),
            (Client::Starter, &own, None, false),
            (Client::Starter, &unnamed, None, false),
            (Client::Allocator, &own, Some("5"), false),
            (Client::Allocator, &unnamed, Some("5"), false),
        ] {
            let mut env = vec![(SLURM_UDOCKER_REQUEST, text.as_str())];
            env.extend(job.map(|job| ("SLURM_JOB_ID", job)));
            match inherits {
                true => assert_eq!(sent(client, &[], &env).0, RunRequest::from_json(unnamed.as_bytes()).unwrap()),
                false => assert_eq!(decided(client, &[], &env).unwrap(), gone, "{client:?} {text} {job:?}"),
            }
        }
    }

    #[test]
    fn a_step_changes_what_it_inherits_or_opts_out() {
        let text = request(Some("5"));
        let env = [(SLURM_UDOCKER_REQUEST, text.as_str()), ("SLURM_JOB_ID", "5"), ("UDOCKER_HOME", "1")];
        let (changed, unset) = sent(Client::Starter, &[("image", "new"), ("umount", "/y")], &env);
        let umounts = vec!["/x".into(), "/y".into()];
        assert_eq!(changed, RunRequest { umounts, home: Some(true), ..RunRequest::of_job("new") });
        assert_eq!(unset, ["UDOCKER_HOME"]);
        let change = decided(Client::Starter, &[("image", "none")], &env).unwrap();
        let unset = vec!["UDOCKER_HOME".into(), SLURM_UDOCKER_REQUEST.into()];
        assert_eq!(change, Change { request: None, unset });
    }

    #[test]
    fn a_script_inside_has_had_the_environment_that_its_steps_inherit() {
        let request = RunRequest {
            job: Some("5".into()),
            env: vec!["A=1".parse().unwrap()],
            unset_env: vec!["B".into()],
            clean_env: true,
            ..RunRequest::of_job("old")
        };
        let text = request.to_json().unwrap();
        let mut env = vec![(SLURM_UDOCKER_REQUEST, text.as_str()), ("SLURM_JOB_ID", "5")];
        let whole = RunRequest { job: None, ..request.clone() };
        assert_eq!(sent(Client::Starter, &[], &env).0, whole);
        env.push((SLURM_UDOCKER_INSIDE, "tree"));
        env.push(("SLURM_UDOCKER_ENV_PATH", "/bin"));
        assert_eq!(sent(Client::Starter, &[], &env).0, RunRequest::of_job("old"));
        assert_eq!(sent(Client::Starter, &[("image", "old")], &env).0, RunRequest::of_job("old"));
        let other = RunRequest { image: "new".into(), ..whole };
        assert_eq!(sent(Client::Starter, &[("image", "new")], &env).0, other);
        let gone = [SLURM_UDOCKER_REQUEST, SLURM_UDOCKER_INSIDE, "SLURM_UDOCKER_ENV_PATH"].map(String::from).into();
        assert_eq!(decided(Client::Allocator, &[], &env).unwrap(), Change { request: None, unset: gone });
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (words, env, expected) in [
            (&[("umount", "/x")][..], &[][..], "options of a container and no image were given"),
            (&[("image", "i")], &[("UDOCKER_MOUNT", "x")], "cannot put the job into a container"),
            (
                &[],
                &[(SLURM_UDOCKER_REQUEST, "{"), ("SLURM_JOB_ID", "5")],
                "cannot inherit what this job's container is: variable SLURM_UDOCKER_REQUEST",
            ),
        ] {
            assert_eq!(decided(Client::Starter, words, env).unwrap_err(), expected);
        }
        let long = "x".repeat(40_000);
        let error = decided(Client::Starter, &[("image", "i"), ("umount", &long)], &[]).unwrap_err();
        assert_eq!(error, "cannot send the request to the job");
    }

    #[test]
    fn paths_are_made_absolute() {
        let here = std::env::current_dir().unwrap();
        let (request, _) = sent(Client::Starter, &[("image", "./a/../b/.")], &[]);
        assert_eq!(request.image, here.join("b").to_str().unwrap());
        assert_eq!(sent(Client::Starter, &[("image", "/a//b")], &[]).0.image, "/a/b");
    }
}
