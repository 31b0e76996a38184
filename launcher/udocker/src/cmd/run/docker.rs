//! Docker's options that a run has no part for: each is taken, and answered by nothing where it is so in any case, by one
//! warning where it has no effect, and by a refusal where the program would get something else than was asked for.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::Unsupported;

/// What an option is answered by.
enum Answer {
    /// Nothing: it is so in any case.
    Moot,
    /// A warning, why it has no effect.
    NoEffect(&'static str),
    /// Nothing for these values, else a warning.
    Unless(&'static [&'static str], &'static str),
    /// A refusal, with what to use instead.
    Refused(&'static str),
}
use Answer::{Moot, NoEffect, Refused, Unless};

/// One option.
struct Spelling {
    /// The long name, also its name here; empty for the one that has none, `-a`.
    long: &'static str,
    short: Option<char>,
    aliases: &'static [&'static str],
    /// What the value is; `None`: a flag.
    value: Option<&'static str>,
    answer: Answer,
}

const fn flag(long: &'static str, answer: Answer) -> Spelling {
    Spelling { long, short: None, aliases: &[], value: None, answer }
}
const fn value(long: &'static str, value: &'static str, answer: Answer) -> Spelling {
    Spelling { long, short: None, aliases: &[], value: Some(value), answer }
}
const fn short(short: char, spelling: Spelling) -> Spelling {
    Spelling { short: Some(short), ..spelling }
}
const fn alias(aliases: &'static [&'static str], spelling: Spelling) -> Spelling {
    Spelling { aliases, ..spelling }
}

const LIMITS: Answer = NoEffect("the limits of the session or job hold");
const NAMES: Answer = NoEffect("names are looked up as on the host");
const NETWORK: &str = "the container shares the host's network";
const SHARED: Answer = Unless(&["host"], "the container shares the host's");
const HEALTH: Answer = NoEffect("nothing watches the program");
const LOG: Answer = NoEffect("the program writes where udocker writes");

/// In the order of the help text.
static SPELLINGS: &[Spelling] = &[
    short('i', flag("interactive", Moot)),
    short('t', flag("tty", Moot)),
    // udocker's `-a` has no value, Docker's long form has.
    short('a', flag("", Moot)),
    value("attach", "STREAM", Moot),
    short('d', flag("detach", NoEffect("the program runs in the foreground"))),
    flag("privileged", NoEffect("privileges are never given")),
    flag("init", NoEffect("the program runs in place, among the processes of the host")),
    alias(&["net"], value("network", "NETWORK", Unless(&["host"], NETWORK))),
    short('p', value("publish", "HOST:CONTAINER", NoEffect(NETWORK))),
    short('P', flag("publish-all", NoEffect(NETWORK))),
    flag("netcoop", NoEffect(NETWORK)),
    value("expose", "PORT", Moot),
    value("link", "CONTAINER", NoEffect(NETWORK)),
    alias(&["net-alias"], value("network-alias", "NAME", NoEffect(NETWORK))),
    value("ip", "ADDRESS", NoEffect(NETWORK)),
    value("ip6", "ADDRESS", NoEffect(NETWORK)),
    value("mac-address", "ADDRESS", NoEffect(NETWORK)),
    value("dns", "SERVER", NAMES),
    value("dns-search", "DOMAIN", NAMES),
    alias(&["dns-opt"], value("dns-option", "OPTION", NAMES)),
    value("add-host", "NAME:ADDRESS", NAMES),
    short('h', value("hostname", "NAME", NoEffect("the container has the host's name"))),
    value("domainname", "NAME", NoEffect("the container has the host's name")),
    value("ipc", "MODE", SHARED),
    value("pid", "MODE", SHARED),
    value("uts", "MODE", SHARED),
    value("userns", "MODE", Unless(&["host"], "the program runs in a user namespace of its own")),
    value("cgroupns", "MODE", SHARED),
    value("cap-add", "CAPABILITY", NoEffect("no capability of the host is ever given")),
    value("cap-drop", "CAPABILITY", NoEffect("no capability of the host is held, and those of a fake root stay")),
    value(
        "security-opt",
        "OPTION",
        Unless(
            &["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"],
            "the security modules are the host's",
        ),
    ),
    value("group-add", "GROUP", NoEffect("the groups of the caller hold")),
    value("gpus", "GPUS", Refused("another tool until GPUs are supported")),
    value("device-cgroup-rule", "RULE", NoEffect("devices are open to whom the host opens them")),
    value("volumes-from", "CONTAINER", NoEffect("containers share no volumes; `-v` names what this one gets")),
    value("volume-driver", "DRIVER", NoEffect("volumes are files and directories of the host")),
    value("storage-opt", "OPTION", NoEffect("`--write=tmpfs:SIZE` limits what is written")),
    value("shm-size", "BYTES", NoEffect("/dev/shm is the host's")),
    value("ulimit", "LIMIT", LIMITS),
    short('m', value("memory", "BYTES", LIMITS)),
    value("memory-reservation", "BYTES", LIMITS),
    value("memory-swap", "BYTES", LIMITS),
    value("memory-swappiness", "PERCENT", LIMITS),
    value("kernel-memory", "BYTES", LIMITS),
    value("cpus", "NUMBER", LIMITS),
    short('c', value("cpu-shares", "NUMBER", LIMITS)),
    value("cpu-period", "MICROSECONDS", LIMITS),
    value("cpu-quota", "MICROSECONDS", LIMITS),
    value("cpuset-mems", "NODES", LIMITS),
    value("pids-limit", "NUMBER", LIMITS),
    value("blkio-weight", "NUMBER", LIMITS),
    flag("oom-kill-disable", LIMITS),
    value("oom-score-adj", "NUMBER", LIMITS),
    value("cgroup-parent", "PATH", LIMITS),
    value("sysctl", "KEY=VALUE", NoEffect("the kernel's settings are the host's")),
    short('l', value("label", "KEY=VALUE", NoEffect("containers carry no labels"))),
    value("label-file", "FILE", NoEffect("containers carry no labels")),
    value("log-driver", "DRIVER", LOG),
    value("log-opt", "OPTION", LOG),
    value("restart", "POLICY", Unless(&["no"], "the program runs once")),
    value("stop-signal", "SIGNAL", NoEffect("signals reach the program itself")),
    value("stop-timeout", "SECONDS", NoEffect("signals reach the program itself")),
    value("health-cmd", "COMMAND", HEALTH),
    value("health-interval", "TIME", HEALTH),
    value("health-retries", "NUMBER", HEALTH),
    value("health-start-period", "TIME", HEALTH),
    value("health-timeout", "TIME", HEALTH),
    flag("no-healthcheck", Moot),
    value("runtime", "RUNTIME", NoEffect("`--mode` chooses how the container is entered")),
    value("isolation", "KIND", Unless(&["default"], "there is one kind")),
    value("detach-keys", "KEYS", Moot),
    value("kernel", "RELEASE", Refused("the kernel's own release; the P modes can show another once they are built")),
];

impl Spelling {
    fn id(&self) -> &'static str {
        if self.long.is_empty() { "-a" } else { self.long }
    }
    fn help(&self) -> String {
        match self.answer {
            Moot => "Accepted; it is so in any case".into(),
            NoEffect(why) => format!("No effect, with a warning: {why}"),
            Unless(values, why) => format!("No effect, with a warning unless {}: {why}", values[0]),
            Refused(instead) => format!("Refused; use {instead}"),
        }
    }
    fn arg(&'static self) -> Arg {
        let arg = Arg::new(self.id()).help(self.help()).help_heading("Options of Docker").hide_short_help(true);
        let arg = arg.visible_aliases(self.aliases.iter().copied()).short(self.short);
        let arg = if self.long.is_empty() { arg } else { arg.long(self.long) };
        match self.value {
            Some(name) => arg.value_name(name).action(ArgAction::Append),
            None => arg.action(ArgAction::SetTrue),
        }
    }
    /// What to say to `values`; of a flag there are none.
    fn answer(&self, values: &[String]) -> Result<Option<String>, Unsupported> {
        let name = format!("--{}", self.long);
        if let Some(other) = values.iter().find(|value| value.starts_with("container:")) {
            return Err(crate::refused(&format!("{name}={other}"), &format!("{name}=host, as it is in any case")));
        }
        let warning = |why: &str| Ok(Some(format!("{name} has no effect: {why}")));
        match self.answer {
            Moot => Ok(None),
            Unless(fine, _) if values.iter().all(|value| fine.contains(&value.as_str())) => Ok(None),
            NoEffect(why) | Unless(_, why) => warning(why),
            Refused(instead) => Err(crate::refused(&name, instead)),
        }
    }
}

/// Which of them were given, with their values.
#[derive(Debug, Default)]
pub struct DockerArgs(Vec<(&'static str, Vec<String>)>);

impl DockerArgs {
    /// The warnings to give, one an option.
    ///
    /// # Errors
    /// [`Unsupported`] for the first that is refused.
    pub fn answers(&self) -> Result<Vec<String>, Unsupported> {
        let mut warnings = Vec::new();
        for (id, values) in &self.0 {
            let spelling = SPELLINGS.iter().find(|spelling| spelling.id() == *id);
            warnings.extend(spelling.expect("made from the table").answer(values)?);
        }
        Ok(warnings)
    }
}

impl clap::Args for DockerArgs {
    fn augment_args(command: Command) -> Command {
        command.args(SPELLINGS.iter().map(Spelling::arg))
    }
    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for DockerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut this = Self::default();
        this.update_from_arg_matches(matches)?;
        Ok(this)
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.clear();
        for spelling in SPELLINGS {
            let id = spelling.id();
            let values = match spelling.value {
                Some(_) => matches.get_many::<String>(id).map(|values| values.cloned().collect()),
                None => matches.get_flag(id).then(Vec::new),
            };
            self.0.extend(values.map(|values| (id, values)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(list: &[(&'static str, &[&str])]) -> Result<Vec<String>, String> {
        let given = list.iter().map(|(id, values)| (*id, values.iter().map(|v| (*v).into()).collect()));
        DockerArgs(given.collect()).answers().map_err(|error| error.to_string())
    }

    #[test]
    fn one_warning_an_option_and_none_where_it_is_so() {
        let moot: &[(&'static str, &[&str])] =
            &[("interactive", &[]), ("-a", &[]), ("network", &["host"]), ("pid", &["host"]), ("restart", &["no"])];
        assert_eq!(answers(moot), Ok(vec![]));
        assert_eq!(
            answers(&[("network", &["none", "host"]), ("label", &["a=b", "c=d"]), ("privileged", &[])]),
            Ok(vec![
                "--network has no effect: the container shares the host's network".into(),
                "--label has no effect: containers carry no labels".into(),
                "--privileged has no effect: privileges are never given".into(),
            ])
        );
    }

    #[test]
    fn what_would_be_something_else_is_refused_by_name() {
        assert_eq!(answers(&[("gpus", &["all"])]), Err("--gpus is not supported by this version".into()));
        assert_eq!(
            answers(&[("pid", &["container:c"])]),
            Err("--pid=container:c is not supported by this version".into())
        );
    }
}
