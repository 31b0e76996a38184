//! `--explain`: each part of a plan, and who asked for it. A run computes nothing of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Defaults, Entrypoint, EnvOrigin, RunRequest, Said, home_is_visible, mount::clean, parse_env_file};
use crate::engine::{ExecPlan, MountPlan, MountSource, RootWrite};
use crate::image_config::ImageConfig;
use crate::run::Caller;
use crate::text::printable;

/// Who asked for what, option by option.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of options that count once: the last one.
    options: BTreeMap<&'static str, String>,
    /// Of each mount of the request.
    mounts: Vec<String>,
    /// Of each entry of its environment.
    env: Vec<String>,
}

impl Asked {
    /// `groups`: options in the order in which the request took them; within one, files of variables count as given first.
    pub fn of(groups: &[Vec<Said>]) -> Self {
        let mut asked = Self::default();
        for group in groups {
            let mut env = Vec::new();
            for Said { option, value, origin } in group {
                match *option {
                    "mount" => asked.mounts.push(origin.clone()),
                    "env" => env.push(origin.clone()),
                    "env-file" => {
                        // What could not be read was told when it was.
                        let entries = parse_env_file(&std::fs::read(value).unwrap_or_default()).unwrap_or_default();
                        asked.env.extend(entries.iter().map(|_| origin.clone()));
                    }
                    name => _ = asked.options.insert(name.strip_prefix("no-").unwrap_or(name), origin.clone()),
                }
            }
            asked.env.extend(env);
        }
        asked
    }

    /// Who asked for the option `name`.
    fn option(&self, name: &str) -> Option<String> {
        self.options.get(name).cloned()
    }
}

/// A plan, and what it was made of.
pub struct Explaining<'a> {
    /// What was asked for, and what is configured where nothing was.
    pub request: &'a RunRequest,
    /// Who asked.
    pub asked: &'a Asked,
    /// Who set a key of the configuration, `table.key`; `None`: nobody.
    pub configured: &'a dyn Fn(&str) -> Option<String>,
    /// See [`Defaults`].
    pub defaults: Defaults,
    /// Whose run it is.
    pub caller: &'a Caller,
    /// What the image says.
    pub config: &'a ImageConfig,
    /// What it became.
    pub plan: &'a ExecPlan,
    /// Of [`super::RunSpec::variables`].
    pub variables: Vec<(OsString, OsString, EnvOrigin)>,
    /// Where the root comes from.
    pub root: String,
    /// Who chose the mode where the request does not: the setup of a container, a configuration.
    pub setup: Option<String>,
    /// Why the mode is not the first that could be.
    pub why: Option<&'a str>,
}

/// One part of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is: a setting, a path inside, a variable.
    pub name: String,
    /// What is there.
    pub value: String,
    /// Who asked for it.
    pub origin: String,
}

/// All parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Settings.
    pub run: Vec<Part>,
    /// Mounts, by their targets.
    pub mounts: Vec<Part>,
    /// Those that show devices.
    pub devices: Vec<Part>,
    /// Variables.
    pub env: Vec<Part>,
}

impl Explaining<'_> {
    /// What is to be told.
    pub fn explain(&self) -> Explanation {
        let mounts: Vec<_> = self.plan.mounts.iter().map(|mount| self.mount(mount)).collect();
        let is_of_dev = |path: &Path| path.starts_with("/dev") && !path.starts_with("/dev/shm");
        let shows_devices = |mount: &&MountPlan| match &mount.source {
            MountSource::Bind { path, .. } => is_of_dev(path) || is_of_dev(&mount.target) || is_device(path),
            MountSource::Tmpfs { .. } => false,
        };
        let devices = self.plan.mounts.iter().filter(shows_devices).map(|mount| self.mount(mount)).collect();
        let env = self.variables.iter().map(|(name, value, origin)| Part {
            name: text(name),
            value: text(value),
            origin: self.variable(&text(name), *origin),
        });
        Explanation { run: self.settings(), mounts, devices, env: env.collect() }
    }

    fn settings(&self) -> Vec<Part> {
        let (request, plan, defaults) = (self.request, self.plan, self.defaults);
        let words = |words: &[OsString]| words.iter().map(text).collect::<Vec<_>>().join(" ");
        let part = |name: &str, value: String, origin: String| Part { name: name.into(), value, origin };
        let identity = &plan.identity;
        let user = format!("{} (uid {}, gid {})", request.user(defaults), identity.uid, identity.gid);
        let entrypoint = match request.entrypoint(defaults) {
            Entrypoint::Image => "the image's".to_owned(),
            Entrypoint::None => "none".to_owned(),
            Entrypoint::Program(program) => text(program),
        };
        let write = match &plan.root.write {
            RootWrite::ReadOnly => "none".to_owned(),
            RootWrite::Tmpfs { size } => format!("tmpfs of {size} bytes"),
            RootWrite::Layer { upper, .. } => format!("layer in {}", text(upper)),
            RootWrite::InPlace => "in place".to_owned(),
        };
        let home = if home_is_visible(request, self.caller, defaults) { "visible" } else { "hidden" };
        let origin = || (self.configured)("policy.pin").unwrap_or_else(|| "default".into());
        let digest = request.pin.as_ref().map(|pin| part("digest", pin.to_string(), origin()));
        let mut out = vec![part("image", request.image.clone(), self.said("image"))];
        out.extend(digest);
        out.extend([
            part("root", text(&plan.root.tree), self.root.clone()),
            part("mode", plan.mode.to_string(), self.mode()),
            part("user", user, self.setting("user")),
            part("entrypoint", entrypoint, self.setting("entrypoint")),
            part("write", write, self.setting("write")),
            part("home", home.to_owned(), self.home()),
            part("workdir", text(&plan.cwd.path), self.workdir()),
            part("command", words(&plan.argv), self.command()),
        ]);
        if defaults == Defaults::Job {
            out.push(part("share", request.share().to_string(), self.setting("share")));
        }
        let gpu = self.caller.gpu.as_ref();
        if let Some((shown, why)) = gpu.and_then(|gpu| gpu.told.as_ref()) {
            let origin = self.or_configured("gpu", "gpu.default");
            out.push(part("gpu", shown.clone(), format!("{origin}: {why}")));
        }
        if let Some((files, origin)) = gpu.and_then(|gpu| gpu.driver.clone()) {
            out.push(part("driver", files, origin));
        }
        if !plan.unshare.is_empty() {
            let names: Vec<_> = plan.unshare.iter().map(|namespace| namespace.name()).collect();
            out.push(part("unshare", names.join(","), self.said("unshare")));
        }
        out
    }

    fn said(&self, name: &str) -> String {
        self.asked.option(name).unwrap_or_else(|| "default".into())
    }

    /// Of an option for which `key` of the configuration stands in jobs.
    fn or_configured(&self, name: &str, key: &str) -> String {
        let configured = || (self.configured)(key).filter(|_| self.defaults == Defaults::Job);
        self.asked.option(name).or_else(configured).unwrap_or_else(|| "default".into())
    }

    fn setting(&self, name: &str) -> String {
        self.or_configured(name, &format!("run.{name}"))
    }

    fn home(&self) -> String {
        self.or_configured("home", "mounts.home")
    }

    fn mode(&self) -> String {
        if let Some(origin) = self.asked.option("mode").filter(|_| self.request.mode.is_some()) {
            return origin;
        }
        if let Some(setup) = &self.setup {
            return setup.clone();
        }
        let order = (self.configured)("modes.preference").map(|origin| format!(" by {origin}")).unwrap_or_default();
        let why = self.why.map(|why| format!(", since {why}")).unwrap_or_default();
        format!("automatic{order}{why}")
    }

    fn command(&self) -> String {
        match self.request.argv.is_empty() {
            true => self.of_image(|config| !(config.entrypoint.is_empty() && config.cmd.is_empty())),
            false => "command line".into(),
        }
    }

    /// `image` if that says something of it.
    fn of_image(&self, says: impl FnOnce(&ImageConfig) -> bool) -> String {
        if !self.request.no_image_config && says(self.config) { "image" } else { "default" }.into()
    }

    fn workdir(&self) -> String {
        let is_callers = self.defaults == Defaults::Job && self.plan.cwd.path == self.caller.cwd;
        let built_in = || match is_callers {
            true => "the current directory".into(),
            false => self.of_image(|config| !config.working_dir.is_empty()),
        };
        self.asked.option("workdir").unwrap_or_else(built_in)
    }

    fn mount(&self, mount: &MountPlan) -> Part {
        let mut value = match &mount.source {
            MountSource::Bind { path, .. } => text(path),
            MountSource::Tmpfs { size: None } => "tmpfs".to_owned(),
            MountSource::Tmpfs { size: Some(size) } => format!("tmpfs of {size} bytes"),
        };
        if mount.read_only {
            value.push_str(", read-only");
        }
        if mount.optional {
            value.push_str(", optional");
        }
        let origin = match mount.origin.as_str() {
            // The last wish for a target counts.
            "--mount" | "--volume" => {
                let wishes = self.request.mounts.iter();
                let wish = wishes.clone().rposition(|wish| clean(&wish.target) == mount.target);
                let asked = wish.and_then(|number| self.asked.mounts.get(number).cloned());
                asked.unwrap_or_else(|| mount.origin.clone())
            }
            "home" | "--bindhome" => self.home(),
            "mounts.tmp" => (self.configured)("mounts.tmp").unwrap_or_else(|| "default".into()),
            "default" if self.defaults == Defaults::Interactive => {
                (self.configured)("sysdirs_list").unwrap_or_else(|| "default".into())
            }
            "cwd" => "the current directory".into(),
            other => other.into(),
        };
        Part { name: text(&mount.target), value, origin }
    }

    fn variable(&self, name: &str, origin: EnvOrigin) -> String {
        let site =
            |list: &str| (self.configured)(&format!("env.{list}.{name}")).unwrap_or_else(|| format!("env.{list}"));
        match origin {
            EnvOrigin::Host => "host".into(),
            EnvOrigin::Account => "the user's account".into(),
            EnvOrigin::Image => "image".into(),
            EnvOrigin::Script => "the script".into(),
            EnvOrigin::Default => "default".into(),
            EnvOrigin::SiteSet => site("set"),
            EnvOrigin::SitePrepend => site("prepend"),
            EnvOrigin::SiteAppend => site("append"),
            EnvOrigin::Gpu => "the GPU's driver".into(),
            EnvOrigin::Wish(number) => {
                let asked = self.asked.env.get(number as usize).cloned();
                asked.unwrap_or_else(|| "--env".into())
            }
        }
    }
}

fn is_device(path: &Path) -> bool {
    let kind = std::fs::metadata(path).map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device())
}

fn text(value: impl Into<PathBuf>) -> String {
    value.into().to_string_lossy().into_owned()
}

/// The widest column that still makes all lines wide, characters.
const MAX_COLUMN: usize = 60;

impl Explanation {
    /// As a table for people, a line for each part.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (title, parts) in
            [("run", &self.run), ("mounts", &self.mounts), ("devices", &self.devices), ("environment", &self.env)]
        {
            out.push_str(title);
            out.push('\n');
            let shown: Vec<_> = parts
                .iter()
                .map(|part| {
                    let one_line = |text: &str| printable(&text.replace('\n', "\\n"));
                    (one_line(&part.name), one_line(&part.value), one_line(&part.origin))
                })
                .collect();
            let width = |column: fn(&(String, String, String)) -> &String| {
                shown
                    .iter()
                    .map(|row| column(row).chars().count())
                    .filter(|width| *width <= MAX_COLUMN)
                    .max()
                    .unwrap_or(0)
            };
            let (names, values) = (width(|row| &row.0), width(|row| &row.1));
            for (name, value, origin) in &shown {
                out.push_str(&format!("  {name:<names$}  {value:<values$}  {origin}\n"));
            }
        }
        out
    }

    /// As JSON, one object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings serialise") + "\n"
    }
}
