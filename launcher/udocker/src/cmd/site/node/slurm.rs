//! Slurm on this machine: its release, the plugin that it loads, the launcher that the plugin starts, the guard, and the prolog.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use udocker_core::env_vars::SLURM_UDOCKER_REQUEST;
use udocker_core::settings::{Settings, StageWhen};
use udocker_core::sys::process::wait_or_end;

use super::plugstack::{self, Line};
use super::release::Release;
use super::{Finding, files};

/// For so long a command of Slurm's is waited for: the controller may be away.
const LIMIT: Duration = Duration::from_secs(20);

/// Where Slurm's programs are, beside PATH.
const DIRECTORIES: &str = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin";

/// Where slurmd keeps the files that it got from the controller (slurmd(8), "configless").
const FETCHED: &str = "/run/slurm/conf";

/// Where the launcher is that the plugin's line does not name.
const LAUNCHER: &str = "/usr/bin/udocker-launch";

/// Checks it all. `when`: the site's choice of when images come, if the plugin's line names no other site.toml.
pub fn check(when: StageWhen) -> Vec<Finding> {
    let told = ["slurmd", "srun"].into_iter().find_map(|name| Some((name, answer(name, &["-V"])?)));
    let Some((program, version)) = told else {
        return vec![Finding::note("Slurm", "neither slurmd nor srun is here, and nothing of Slurm was checked")];
    };
    let release = Release::of_text(&version);
    let mut found = vec![match release {
        Some(_) => Finding::good("Slurm", format!("{}, says {program} -V", version.trim())),
        None => Finding::note("Slurm", format!("{program} -V tells no release: {}", version.trim())),
    }];
    let config = answer("scontrol", &["show", "config"]);
    if config.is_none() {
        let what =
            "`scontrol show config` fails: what slurm.conf says of plugstack.conf and TaskProlog was not checked";
        found.push(Finding::note("slurm.conf", what));
    }
    let value = |key: &str| config.as_deref().and_then(|text| setting(text, key));
    let file = plugstack_file(value("PlugStackConfig"));
    let lines = match plugstack::lines(&file) {
        Ok(lines) => lines,
        Err(why) => {
            found.push(Finding::wrong(file.display(), why, "docs/admin/slurm.md has the line to write"));
            return found;
        }
    };
    let directories = value("PluginDir").unwrap_or_default();
    let ours: Vec<(Line, PathBuf)> = lines
        .into_iter()
        .map(|line| (placed(&line.plugin, directories), line))
        .filter(|(path, _)| files::is_ours(path))
        .map(|(path, line)| (line, path))
        .collect();
    let Some((line, path)) = ours.first() else {
        let why = "no line loads our plugin: `--udocker-image` is no option here";
        found.push(Finding::wrong(file.display(), why, "docs/admin/slurm.md has the line to write"));
        return found;
    };
    for (other, _) in &ours[1..] {
        found.push(Finding::wrong(&other.at, "the plugin is loaded a second time", "leave one line"));
    }
    found.push(files::plugin(path, release));
    let (says, settings) = line_says(line);
    found.extend(says);
    found.extend(config.as_deref().map(|text| guard(line, setting(text, "TaskProlog"))));
    if settings.map_or(when, |settings| settings.stage.when) == StageWhen::Prolog {
        let site_file = line.words.iter().find_map(|word| word.strip_prefix("config="));
        found.extend(config.as_deref().map(|text| prolog(text, site_file)));
    }
    found
}

/// What is on the plugin's line, the launcher that it names, and what its site.toml says.
fn line_says(line: &Line) -> (Vec<Finding>, Option<Settings>) {
    let kind = if line.is_required {
        "required: slurmd, srun, sbatch and salloc do not start without the plugin"
    } else {
        "optional: if the plugin cannot be loaded, jobs run without it"
    };
    let mut found = vec![Finding::good(&line.at, kind)];
    let (mut launcher, mut settings) = (LAUNCHER, None);
    for word in &line.words {
        match (word.strip_prefix("launcher="), word.strip_prefix("config=")) {
            (Some(path), _) => launcher = path,
            (None, Some(path)) => {
                let (finding, says) = files::configuration(path);
                found.push(finding);
                settings = says;
            }
            (None, None) => found.push(Finding::wrong(
                &line.at,
                format!("`{word}` says nothing, and every contained task is refused"),
                "`launcher=PATH` and `config=PATH` are the words",
            )),
        }
    }
    found.push(files::launcher(Path::new(launcher)));
    (found, settings)
}

/// The guard for nodes without the plugin.
fn guard(line: &Line, program: Option<&str>) -> Finding {
    let thing = "TaskProlog";
    let hint = "make the guard of docs/admin/slurm.md your TaskProlog, or a part of it";
    let why = match program.map(|path| (path, std::fs::read(path))) {
        Some((path, Ok(text))) if names(&text, SLURM_UDOCKER_REQUEST) => {
            return Finding::good(thing, format!("{path} has the guard"));
        }
        Some((path, Ok(_))) => format!("{path} has no guard"),
        Some((path, Err(error))) => format!("{path} cannot be read: {error}"),
        None => "there is none, and no guard".to_owned(),
    };
    match line.is_required {
        true => Finding::note(thing, format!("{why}; it matters where a node may lack the plugin")),
        false => Finding::wrong(thing, format!("{why}: without the plugin contained jobs run on the host"), hint),
    }
}

/// The prolog that makes images ready, by the `site_file` of the plugin's line. Newer releases number their prologs, of which
/// the first is looked at.
fn prolog(config: &str, site_file: Option<&str>) -> Finding {
    let thing = "Prolog";
    let program = setting(config, "Prolog").or_else(|| setting(config, "Prolog[0]"));
    let why = match program.map(|path| (path, std::fs::read(path))) {
        Some((path, Ok(text))) if names(&text, "SPANK_UDOCKER_REQUEST") => {
            if let Some(file) = site_file.filter(|file| !names(&text, file)) {
                let why = format!("{path} does not name {file}, and reads another site.toml than the plugin's line");
                return Finding::wrong(thing, why, "`config=` in the script names the file of the plugin's line");
            }
            let waits = setting(config, "PrologFlags").is_some_and(|flags| flags.contains("Alloc"));
            return match waits {
                true => Finding::good(thing, format!("{path} makes images ready")),
                false => Finding::note(
                    thing,
                    format!("{path} makes images ready; without PrologFlags=Alloc one that takes long costs the step"),
                ),
            };
        }
        Some((path, Ok(_))) => format!("{path} makes no image ready"),
        Some((path, Err(error))) => format!("{path} cannot be read: {error}"),
        None => "there is none".to_owned(),
    };
    let hint = "make the script of docs/admin/slurm.md your Prolog, or its last lines";
    Finding::wrong(thing, format!("{why}, and `stage.when` of site.toml is \"prolog\""), hint)
}

/// Whether a script has this name in it.
fn names(script: &[u8], name: &str) -> bool {
    script.windows(name.len()).any(|part| part == name.as_bytes())
}

/// The value of `key` in what `scontrol show config` prints.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim() == key)?;
    Some(value.trim()).filter(|value| !matches!(*value, "" | "(null)"))
}

/// The file that Slurm reads here: the one named, or what slurmd fetched in its place, or the default.
fn plugstack_file(named: Option<&str>) -> PathBuf {
    let named = named.map_or_else(|| PathBuf::from("/etc/slurm/plugstack.conf"), PathBuf::from);
    let fetched = Path::new(FETCHED).join("plugstack.conf");
    if !named.exists() && fetched.exists() { fetched } else { named }
}

/// A plugin's path: from the root, or in the first of Slurm's plugin directories that has it.
fn placed(plugin: &Path, directories: &str) -> PathBuf {
    let all =
        directories.split(':').filter(|_| plugin.is_relative()).map(|directory| Path::new(directory).join(plugin));
    all.into_iter().find(|path| path.exists()).unwrap_or_else(|| plugin.to_owned())
}

/// What a command prints; `None` if there is none, it fails, or does not end.
fn answer(program: &str, words: &[&str]) -> Option<String> {
    let path =
        std::env::var_os("PATH").map(|path| format!("{}:{DIRECTORIES}", path.display())).unwrap_or(DIRECTORIES.into());
    let mut command = Command::new(program);
    command.args(words).env("PATH", path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // What they print is shorter than a pipe is long.
    let status = wait_or_end(&mut child, LIMIT).ok()??;
    let mut text = String::new();
    child.stdout.take()?.read_to_string(&mut text).ok()?;
    status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_by_their_whole_name() {
        let text = "Configuration data as of 2026\nTaskPlugin              = task/none\nTaskProlog              = (null)\n\
                    PlugStackConfig         = /etc/p.conf\nPluginDir =\n";
        assert_eq!(setting(text, "PlugStackConfig"), Some("/etc/p.conf"));
        assert_eq!(
            (setting(text, "TaskProlog"), setting(text, "Task"), setting(text, "PluginDir")),
            (None, None, None)
        );
    }
}
