//! What srun, sbatch or salloc sends: one request, made of what the step inherits, of profiles, of variables and of options.
//! Pure, but for files that `--udocker-env-file` and `--udocker-profile` name.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use udocker_core::env_vars::{SLURM_JOB_ID, SLURM_UDOCKER_DIR, SLURM_UDOCKER_INSIDE, SLURM_UDOCKER_REQUEST};
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::platform::Platform;
use udocker_core::run::{
    JOB_OPTIONS, JobOption, OptionError, PullPolicy, RequestError, RunRequest, Said, Wish, in_variables, is_carried,
    is_path, option_variables,
};
use udocker_site_config::ConfigError;
use udocker_spank_sys::Client;

/// What a profile asks for, by its name.
pub type Profiles<'a> = &'a dyn Fn(&OsStr) -> Result<Vec<Said>, ConfigError>;

/// How the client's environment, and with it the job's, changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What is sent, as `SLURM_UDOCKER_REQUEST`.
    pub request: Option<Box<RunRequest>>,
    /// The toolkit is asked before it is sent. Its image was named here, and not where the step inherits from: nobody has asked
    /// yet what it stands for.
    pub asks: bool,
    /// Who asked for what, if the plan is to be told and nothing sent.
    pub explain: Option<Vec<Said>>,
    /// Variables that go. Those of options that a request says are taken out: what a job's script sets later is news then.
    pub unset: Vec<String>,
}

/// Nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("options of a container and no image were given")]
    NoImage,
    #[error("one job was given two images, `{0}` and `{1}`: Slurm hands one to all components")]
    TwoImages(String, String),
    #[error("a later component of the job asks for another container than the first one")]
    LaterComponent,
    #[error("cannot put the job into a container: {0}")]
    Lost(Lost),
    #[error("cannot put the job into a container")]
    Option(#[source] OptionError),
    #[error("cannot put the job into a container")]
    Profile(#[source] ConfigError),
    #[error("there is no container to explain: the image is `none`")]
    NothingToExplain,
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
            Self::LaterComponent => {
                vec!["give the options to the first component, whose container sbatch hands to all".into()]
            }
            Self::Lost(lost) => vec![lost.hint().into()],
            Self::Option(error) => error.hints(),
            Self::Profile(error) => error.hints(),
            Self::NothingToExplain => vec!["leave `--udocker-explain` away, or name an image".into()],
            Self::Inherited(error) | Self::Request(error) => error.hints(),
            Self::Directory(_) => vec!["give an absolute path".into()],
        }
    }
}

/// Ways to submit a job on which a request does not reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("with `--export-file` sbatch sends the file's variables alone, and the request is one")]
    ExportFile,
    #[error("`salloc --no-shell` hands nothing on to the steps of its allocation")]
    NoShell,
    #[error("scrontab sends no variables, and the request is one")]
    Scrontab,
}

impl Lost {
    /// The one by which `program` submits, if it is one; `has`: whether it was given an option of Slurm's.
    pub fn of(program: &OsStr, has: impl Fn(&CStr) -> bool) -> Option<Self> {
        match program.as_bytes() {
            b"sbatch" => has(c"export-file").then_some(Self::ExportFile),
            b"salloc" => has(c"no-shell").then_some(Self::NoShell),
            b"scrontab" => Some(Self::Scrontab),
            _ => None,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::ExportFile => "`--export=NAME=VALUE,…` sets variables, and the request passes it",
            Self::NoShell => "give `--udocker-image` to each srun of the allocation",
            Self::Scrontab => "give `--udocker-image` to each srun of the script, or run `udocker-launch` in it",
        }
    }
}

/// What a later component of a job is `given` that those before it were not, which were given `earlier`. Slurm tells each of the
/// earlier ones' options again.
///
/// # Errors
/// Another image than theirs; `is_sent`: the first component's request is sent already, and no other will be.
pub fn news_of<'a>(
    earlier: &[(&JobOption, OsString)],
    mut given: Vec<(&'a JobOption, OsString)>,
    is_sent: bool,
) -> Result<Vec<(&'a JobOption, OsString)>, ClientError> {
    let image = |value: &OsStr| value.to_str().map(whole).transpose();
    for (option, value) in given.iter_mut().filter(|(option, _)| option.name == "image") {
        let last = earlier.iter().rev().find(|(other, _)| other.name == option.name);
        let Some((_, first)) = last else { continue };
        if image(value)? != image(first)? {
            return Err(ClientError::TwoImages(first.display().to_string(), value.display().to_string()));
        }
        value.clone_from(first);
    }
    given.retain(|(option, value)| !earlier.iter().any(|(other, old)| other.name == option.name && old == value));
    if is_sent && !given.is_empty() { Err(ClientError::LaterComponent) } else { Ok(given) }
}

/// Decides what `client` sends that was `given` these options and has the environment `env`.
///
/// An inherited request serves srun alone, and within its own job. It is changed by profiles, these by variables, and these by
/// options.
pub fn decide(
    client: Client,
    given: &[(&JobOption, OsString)],
    env: &[(OsString, OsString)],
    profiles: Profiles<'_>,
) -> Result<Change, ClientError> {
    let variable = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str());
    let carried = variable(SLURM_UDOCKER_REQUEST);
    let inherited = match carried.filter(|_| client == Client::Starter) {
        Some(text) if variable(SLURM_JOB_ID).is_some() => {
            Some(RunRequest::from_json(text.as_bytes()).map_err(ClientError::Inherited)?).filter(|r| r.is_for(env))
        }
        _ => None,
    };
    let of_profiles = read_profiles(given, env, profiles)?;
    let in_profiles = of_profiles.iter().rev().find(|said| said.option == "image").map(|said| said.value.as_os_str());
    let asked = given.iter().rev().find(|(option, _)| option.name == "image").map(|(_, image)| image.as_os_str());
    let asked = asked.or_else(|| variable("UDOCKER_IMAGE").filter(|image| !image.is_empty())).or(in_profiles);
    if inherited.is_none() && asked.is_none() && given.is_empty() {
        return Ok(Change { unset: ours(env), ..Change::default() });
    }
    let asked = asked.and_then(OsStr::to_str).map(whole).transpose()?;
    // What an image's name stands for.
    let before = inherited.as_ref().map(names_image);
    let explain = explains(given, env);
    let mut said =
        inherited.as_ref().map(|request| Said::of_request(request, SLURM_UDOCKER_REQUEST)).unwrap_or_default();
    let is_script_s = variable(SLURM_UDOCKER_INSIDE).is_some();
    let inherited =
        inherited.map(|request| match is_script_s && asked.as_ref().is_none_or(|image| *image == request.image) {
            // The script's environment came of these, and what it has made of that since is the step's.
            true => RunRequest { env: Vec::new(), unset_env: Vec::new(), clean_env: false, ..request },
            false => request,
        });
    let mut wish = Wish::over(inherited.unwrap_or_else(|| RunRequest::of_job("")));
    of_profiles.iter().try_for_each(|said| said.apply(&mut wish)).map_err(ClientError::Option)?;
    wish.take_variables(option_variables(env)).map_err(ClientError::Option)?;
    for (option, value) in given.iter().filter(|(option, _)| !option.is_of_reader()) {
        option.apply(&mut wish, value).map_err(ClientError::Option)?;
    }
    if explain {
        said.extend(of_profiles);
        said.extend(Said::in_variables(option_variables(env)));
        said.extend(given.iter().map(|(option, value)| Said {
            option: option.name,
            value: value.clone(),
            origin: format!("--udocker-{}", option.name),
        }));
    }
    let mut unset: Vec<String> = JOB_OPTIONS.iter().map(JobOption::variable).collect();
    unset.retain(|name| variable(name).is_some());
    let mut request = RunRequest { job: None, ..wish.into_request() };
    match request.image.as_str() {
        "" => return Err(ClientError::NoImage),
        "none" if explain => return Err(ClientError::NothingToExplain),
        "none" => {
            unset.extend(ours(env));
            return Ok(Change { unset, ..Change::default() });
        }
        image => request.image = whole(image)?,
    }
    let is_new = before.as_ref() != Some(&names_image(&request));
    if is_new {
        // It was another image's, or is asked for anew.
        request.pin = None;
    }
    request.to_json().map_err(ClientError::Request)?;
    // A step starts now: its nodes tell at once what they think of a path, which has no digest.
    let starts_now = client == Client::Starter && variable(SLURM_JOB_ID).is_some();
    let asks = is_new && !(starts_now && is_path(&request.image));
    Ok(Change { request: Some(Box::new(request)), asks, explain: explain.then_some(said), unset })
}

/// All of `request` that says which image it is for.
fn names_image(request: &RunRequest) -> (String, PullPolicy, Option<Platform>) {
    (request.image.clone(), request.pull, request.platform.clone())
}

/// What the profiles ask for that the variable and the options name, in that order.
fn read_profiles(
    given: &[(&JobOption, OsString)],
    env: &[(OsString, OsString)],
    profiles: Profiles<'_>,
) -> Result<Vec<Said>, ClientError> {
    let mut all = Vec::new();
    let mut read = |name: &OsStr| profiles(name).map(|said| all.extend(said)).map_err(ClientError::Profile);
    in_variables(option_variables(env), |option, name| if option.name == "profile" { read(name) } else { Ok(()) })?;
    given.iter().filter(|(option, _)| option.name == "profile").try_for_each(|(_, name)| read(name))?;
    Ok(all)
}

/// Whether the plan is asked for, by the option or its variable.
fn explains(given: &[(&JobOption, OsString)], env: &[(OsString, OsString)]) -> bool {
    let is_it = |option: &JobOption| if option.name == "explain" { Err(()) } else { Ok(()) };
    given.iter().any(|(option, _)| is_it(option).is_err())
        || in_variables(option_variables(env), |option, _| is_it(option)).is_err()
}

/// What of `env` is ours and of no use to a job without a container.
fn ours(env: &[(OsString, OsString)]) -> Vec<String> {
    let is_ours = |name: &&OsString| *name == SLURM_UDOCKER_REQUEST || *name == SLURM_UDOCKER_DIR || is_carried(name);
    let names = env.iter().map(|(name, _)| name).filter(is_ours);
    names.filter_map(|name| name.to_str().map(str::to_owned)).collect()
}

/// The name `image` as the job's nodes take it.
fn whole(image: &str) -> Result<String, ClientError> {
    if is_path(image) { absolute(image) } else { Ok(image.into()) }
}

/// The path `image` from the root on, as the job's nodes know it. Its `..` stay: what they leave may be a link.
fn absolute(image: &str) -> Result<String, ClientError> {
    let here = std::env::current_dir().map_err(ClientError::Directory);
    let path = if image.starts_with('/') { PathBuf::from(image) } else { here?.join(image) };
    let path: PathBuf = path.components().collect();
    let text = path.into_os_string().into_string();
    text.map_err(|path| ClientError::Option(OptionError::NotText(path.display().to_string())))
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
        let profiles = |name: &OsStr| {
            let said =
                |option, value: &str| Said { option, value: value.into(), origin: format!("{}:1:1", name.display()) };
            match name.to_str() {
                Some("p") => Ok(vec![said("image", "of-p"), said("umount", "/p"), said("workdir", "/p")]),
                Some("q") => Ok(vec![said("umount", "/q")]),
                _ => Err(ConfigError::NoProfile { name: name.display().to_string(), looked: Vec::new() }),
            }
        };
        decide(client, &given, &pairs(env), &profiles).map_err(|error| error.to_string())
    }

    /// The request that is sent, and what goes.
    fn sent(client: Client, words: &[(&str, &str)], env: &[(&str, &str)]) -> (RunRequest, Vec<String>) {
        let change = decided(client, words, env).unwrap();
        (*change.request.unwrap(), change.unset)
    }

    fn request(job: Option<&str>) -> String {
        let request = RunRequest { job: job.map(Into::into), umounts: vec!["/x".into()], ..RunRequest::of_job("old") };
        request.to_json().unwrap()
    }

    #[test]
    fn who_asks_for_nothing_sends_nothing() {
        let change = decided(Client::Starter, &[], &[("UDOCKER_MOUNT", "nonsense"), ("UDOCKER_IMAGE", "")]).unwrap();
        assert_eq!(change, Change::default());
        // Nor does it keep what the job had in which it was asked.
        let change = decided(Client::Allocator, &[], &[("SLURM_UDOCKER_DIR", "/store"), ("UDOCKER_DIR", "/store")]);
        assert_eq!(change.unwrap(), Change { unset: vec!["SLURM_UDOCKER_DIR".into()], ..Change::default() });
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
        let gone = Change { unset: vec![SLURM_UDOCKER_REQUEST.into()], ..Change::default() };
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
        assert_eq!(change, Change { unset, ..Change::default() });
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
        assert_eq!(decided(Client::Allocator, &[], &env).unwrap(), Change { unset: gone, ..Change::default() });
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (words, env, expected) in [
            (&[("umount", "/x")][..], &[][..], "options of a container and no image were given"),
            (&[("image", "i")], &[("UDOCKER_MOUNT", "x")], "cannot put the job into a container"),
            (&[("image", "i"), ("profile", "none")], &[], "cannot put the job into a container"),
            (&[("profile", "q")], &[], "options of a container and no image were given"),
            (&[("explain", "")], &[], "options of a container and no image were given"),
            (&[("explain", ""), ("image", "none")], &[], "there is no container to explain: the image is `none`"),
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
    fn components_share_a_container() {
        let options = |list: &[(&str, &str)]| -> Vec<(&'static JobOption, OsString)> {
            list.iter().map(|(name, value)| (JobOption::find(name).unwrap(), (*value).into())).collect()
        };
        let news = |earlier: &[(&str, &str)], given: &[(&str, &str)], is_sent| {
            let news = news_of(&options(earlier), options(given), is_sent).map_err(|error| error.to_string())?;
            Ok(news
                .into_iter()
                .map(|(option, value)| format!("{}={}", option.name, value.display()))
                .collect::<Vec<_>>())
        };
        let first = [("image", "x"), ("image", "/a"), ("umount", "/u")];
        let (none, other) =
            (Vec::<String>::new(), "a later component of the job asks for another container than the first one");
        for is_sent in [true, false] {
            assert_eq!(news(&first, &[], is_sent), Ok(none.clone()));
            assert_eq!(news(&first, &[("umount", "/u"), ("image", "/a/")], is_sent), Ok(none.clone()));
            for given in [&[("image", "b")][..], &[("image", "b"), ("image", "/a")]] {
                let two = "one job was given two images, `/a` and `b`: Slurm hands one to all components";
                assert_eq!(news(&first, given, is_sent), Err(two.to_owned()));
            }
        }
        for (earlier, given) in [(&first[..], ("umount", "/v")), (&[], ("image", "b"))] {
            assert_eq!(news(earlier, &[given], true), Err(other.to_owned()));
            assert_eq!(news(earlier, &[given], false), Ok(vec![format!("{}={}", given.0, given.1)]));
        }
    }

    #[test]
    fn where_a_request_is_lost() {
        for (program, option, lost) in [
            ("sbatch", c"export-file", Some(Lost::ExportFile)),
            ("sbatch", c"export", None),
            ("salloc", c"no-shell", Some(Lost::NoShell)),
            ("srun", c"no-shell", None),
            ("scrontab", c"", Some(Lost::Scrontab)),
        ] {
            assert_eq!(Lost::of(program.as_ref(), |name| name == option), lost, "{program} {option:?}");
        }
    }

    #[test]
    fn paths_are_made_absolute() {
        let here = std::env::current_dir().unwrap();
        let (request, _) = sent(Client::Starter, &[("image", "./a/../b/.")], &[]);
        assert_eq!(request.image, here.join("a/../b").to_str().unwrap());
        assert_eq!(sent(Client::Starter, &[("image", "/a//b")], &[]).0.image, "/a/b");
    }

    #[test]
    fn a_profile_lies_beneath_variables_and_options_and_over_what_is_inherited() {
        let env = [("UDOCKER_PROFILE", "p"), ("UDOCKER_WORKDIR", "/v")];
        let (request, unset) = sent(Client::Allocator, &[("profile", "q"), ("umount", "/o")], &env);
        let umounts: Vec<OsString> = ["/p", "/q", "/o"].map(Into::into).into();
        let expected =
            RunRequest { umounts: umounts.clone(), workdir: Some("/v".into()), ..RunRequest::of_job("of-p") };
        assert_eq!(request, expected);
        assert_eq!(unset, ["UDOCKER_WORKDIR", "UDOCKER_PROFILE"]);
        let text = self::request(Some("5"));
        let inherits = [(SLURM_UDOCKER_REQUEST, text.as_str()), ("SLURM_JOB_ID", "5")];
        let (request, _) = sent(Client::Starter, &[("profile", "q")], &inherits);
        assert_eq!((request.image.as_str(), request.umounts), ("old", vec!["/x".into(), "/q".into()]));
        assert_eq!(sent(Client::Starter, &[("profile", "p"), ("image", "new")], &inherits).0.image, "new");
        assert_eq!(sent(Client::Starter, &[("profile", "p")], &inherits).0.image, "of-p");
        // One that says nothing of an image makes no container.
        let change = decided(Client::Starter, &[], &[("UDOCKER_PROFILE", "q")]).unwrap();
        assert_eq!(change, Change::default());
    }

    #[test]
    fn a_digest_is_inherited_with_its_image() {
        let pin = udocker_core::digest::Digest::sha256_of(b"x");
        let pinned = RunRequest { job: Some("5".into()), pin: Some(pin.clone()), ..RunRequest::of_job("old") };
        let text = pinned.to_json().unwrap();
        let env = [(SLURM_UDOCKER_REQUEST, text.as_str()), ("SLURM_JOB_ID", "5")];
        for (words, has_pin) in [
            (&[][..], true),
            (&[("umount", "/y")], true),
            (&[("image", "old")], true),
            (&[("image", "new")], false),
            (&[("profile", "p")], false),
            // It is asked for anew, or another one of the same name.
            (&[("pull", "always")], false),
            (&[("image", "old"), ("pull", "never")], false),
            (&[("pull", "missing")], true),
            (&[("platform", "linux/arm64")], false),
            (&[("platform", "native")], true),
        ] {
            let change = decided(Client::Starter, words, &env).unwrap();
            assert_eq!(change.request.unwrap().pin, has_pin.then(|| pin.clone()), "{words:?}");
            assert_eq!(change.asks, !has_pin, "{words:?}");
        }
        let change = decided(Client::Allocator, &[("image", "old")], &env).unwrap();
        assert_eq!((change.request.unwrap().pin, change.asks), (None, true));
    }

    #[test]
    fn a_path_is_asked_about_if_its_job_may_have_to_wait() {
        let job = ("SLURM_JOB_ID", "5");
        for (client, image, env, asks) in [
            (Client::Starter, "/image", &[job][..], false),
            (Client::Starter, "image:tag", &[job], true),
            (Client::Starter, "/image", &[], true),
            (Client::Allocator, "/image", &[job], true),
        ] {
            let change = decided(client, &[("image", image)], env).unwrap();
            assert_eq!(change.asks, asks, "{client:?} {image} {env:?}");
        }
    }

    #[test]
    fn a_plan_is_explained_with_who_asked() {
        let words = [("profile", "q"), ("explain", ""), ("image", "i"), ("umount", "/o")];
        let said = decided(Client::Starter, &words, &[("UDOCKER_WORKDIR", "/v")]).unwrap().explain.unwrap();
        let told: Vec<_> = said.iter().map(|said| (said.option, said.origin.as_str())).collect();
        let expected = [
            ("umount", "q:1:1"),
            ("workdir", "UDOCKER_WORKDIR"),
            ("profile", "--udocker-profile"),
            ("explain", "--udocker-explain"),
            ("image", "--udocker-image"),
            ("umount", "--udocker-umount"),
        ];
        assert_eq!(told, expected);
        assert_eq!(Said::from_json(Said::to_json(&said).as_bytes()), Some(said));
        let change = decided(Client::Starter, &[("image", "i")], &[("UDOCKER_EXPLAIN", "1")]).unwrap();
        assert!(change.explain.is_some());
        let change = decided(Client::Starter, &[("image", "i")], &[("UDOCKER_EXPLAIN", "0")]).unwrap();
        assert_eq!(change.explain, None);
    }
}
