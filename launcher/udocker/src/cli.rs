//! The command line as clap sees it: general options, then one command.
//!
//! Spellings are udocker 1.3's (docs: compatibility). General options end at the command; a command's options end at its
//! first argument where the rest belongs to a program.

use clap::{Arg, ArgAction, CommandFactory, Parser, Subcommand};

use crate::cmd;
use crate::general::General;

/// The whole command line: every command has `-h` and `--help` but `run`, whose `-h` is Docker's.
///
/// `--help` before the command is an option of ours, since the command behind it counts; clap hands the switch that makes
/// room for it on to the commands.
pub fn command() -> clap::Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print help, all of it by --help");
    with_help(Cli::command(), &help)
}

fn with_help(command: clap::Command, help: &Arg) -> clap::Command {
    command.mut_subcommands(|command| match command.get_name() {
        "run" => command,
        _ => with_help(command.disable_help_flag(true).disable_help_subcommand(true).arg(help.clone()), help),
    })
}

/// Pulls Docker and OCI images and runs them in user space, without privileges.
///
/// General options stand before the command. Results go to standard output, all else to standard error.
///
/// Example: udocker run debian:12 cat /etc/os-release
#[derive(Debug, Parser)]
#[command(
    name = "udocker",
    disable_version_flag = true,
    disable_help_subcommand = true,
    disable_help_flag = true,
    args_override_self = true,
    subcommand_required = false,
    after_help = "`udocker COMMAND --help` explains a command."
)]
pub struct Cli {
    #[command(flatten)]
    pub general: General,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Search(cmd::search::Args),
    Pull(cmd::pull::Args),
    Create(cmd::create::Args),
    Doctor(cmd::doctor::Args),
    Run(Box<cmd::run::Args>),
    Exec(cmd::exec::Args),
    Images(cmd::images::Args),
    Ps(cmd::ps::Args),
    Name(cmd::name::Args),
    Rename(cmd::rename::Args),
    Rmname(cmd::rmname::Args),
    Clone(cmd::clone::Args),
    Rm(cmd::rm::Args),
    Rmi(cmd::rmi::Args),
    Tag(cmd::tag::Args),
    Import(cmd::import::Args),
    Export(cmd::export::Args),
    Load(cmd::load::Args),
    Save(cmd::save::Args),
    Inspect(cmd::inspect::Args),
    Verify(cmd::verify::Args),
    Manifest(cmd::manifest::Args),
    Protect(cmd::protect::Args),
    Unprotect(cmd::unprotect::Args),
    Mkrepo(cmd::mkrepo::Args),
    Setup(cmd::setup::Args),
    Login(cmd::login::Args),
    Logout(cmd::logout::Args),
    Install(cmd::install::Args),
    Showconf(cmd::showconf::Args),
    Site(cmd::site::Args),
    Resolve(cmd::resolve::Args),
    Stage(cmd::stage::Args),
    Version(cmd::version::Args),
    /// Print help, of a command if one is named.
    ///
    /// Example: udocker help run
    Help {
        /// The command.
        command: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use super::*;

    /// The reference page of all commands, in Markdown.
    fn reference_page() -> String {
        let mut whole = command();
        whole.build();
        let mut out = String::from(
            "# Commands\n\nMade from the definitions in `launcher/udocker/src`; do not edit.\n\n\
             `udocker [GENERAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]`: general options stand before the command; \
             `--option=value` and `--option value` are the same; of a repeated option with one value the last counts.\n\n\
             ## General options\n",
        );
        options(&whole, &mut out);
        sections(&mut whole, "udocker", &mut out);
        out
    }

    /// The commands of `whole`, whose own words are `words`.
    fn sections(whole: &mut clap::Command, words: &str, out: &mut String) {
        for command in whole.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
            let words = format!("{words} {}", command.get_name());
            let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
            let usage = command.render_usage().to_string();
            let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
            out.push_str(&format!("\n## {words}\n\n`{usage}`\n\n"));
            for paragraph in about.split("\n\n") {
                match paragraph.strip_prefix("Example: ") {
                    Some(example) => out.push_str(&format!("```sh\n{example}\n```\n")),
                    None => out.push_str(&format!("{}\n\n", paragraph.trim_end_matches('.').to_owned() + ".")),
                }
            }
            options(command, out);
            sections(command, &words, out);
        }
    }

    /// The options and arguments of `command`, one table a heading.
    fn options(command: &clap::Command, out: &mut String) {
        let mut tables: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
        let mut order: Vec<String> = Vec::new();
        let is_own_help = |arg: &&Arg| arg.get_id() == "help" && command.get_name() != "udocker";
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_own_help(arg)) {
            let heading = if arg.is_positional() { "Arguments" } else { arg.get_help_heading().unwrap_or("Options") };
            let place = order.iter().position(|known| known == heading).unwrap_or_else(|| {
                order.push(heading.to_owned());
                order.len() - 1
            });
            let row = format!("| {} | {} |\n", spelled(arg), meaning(arg));
            tables.entry((place, heading.to_owned())).or_default().push(row);
        }
        for ((_, heading), rows) in tables {
            out.push_str(&format!("\n| {heading} | |\n|---|---|\n{}", rows.concat()));
        }
    }

    fn spelled(arg: &Arg) -> String {
        let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default();
        if arg.is_positional() {
            return format!("`{value}`").replace('|', "\\|");
        }
        let takes = arg.get_action().takes_values();
        let short = arg.get_short().map(|short| format!("-{short}"));
        let long = arg.get_long().into_iter().chain(arg.get_visible_aliases().unwrap_or_default());
        let long = long.map(|long| if takes { format!("--{long}={value}") } else { format!("--{long}") });
        let all: Vec<String> = short.into_iter().chain(long).map(|word| format!("`{word}`")).collect();
        all.join(", ").replace('|', "\\|")
    }

    fn meaning(arg: &Arg) -> String {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        match arg.get_default_values() {
            [default] if arg.get_action().takes_values() => format!("{help} [default: {}]", default.display()),
            _ => help,
        }
    }

    #[test]
    fn the_reference_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/commands.md");
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(path, reference_page()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == reference_page(), "docs/reference/commands.md is old: run this test with UPDATE_REFERENCE=1");
    }

    #[test]
    fn the_definitions_are_sound_and_every_command_has_an_example() {
        command().debug_assert();
        for command in command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            let example = format!("Example: udocker {}", command.get_name());
            assert!(about.contains(&example), "{}: {about}", command.get_name());
        }
    }

    fn parsed(words: &[&str]) -> Result<Cli, clap::Error> {
        let words = std::iter::once("udocker").chain(words.iter().copied());
        command().try_get_matches_from(words).and_then(|matches| clap::FromArgMatches::from_arg_matches(&matches))
    }

    fn run(words: &[&str]) -> Box<cmd::run::Args> {
        match parsed(&[&["run"], words].concat()).unwrap().command {
            Some(Command::Run(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_of_a_run_end_at_its_first_argument() {
        for (words, expected) in [
            (&["img", "ls", "-l", "--name=x"][..], &["img", "ls", "-l", "--name=x"][..]),
            (&["--name=x", "img", "--help"], &["img", "--help"]),
            (&["-it", "--rm", "img", "", "-"], &["img", "", "-"]),
            (&["--", "img", "-x"], &["img", "-x"]),
            (&["--entrypoint", "sh", "img"], &["img"]),
            (&["--entrypoint=", "img"], &["img"]),
            (&["--entrypoint", "-w", "/x", "img"], &["img"]),
            (&["-v/a:/b", "-e", "A=1", "img"], &["img"]),
            (&["--location=/x", "name", "ls"], &["name", "ls"]),
        ] {
            assert_eq!(run(words).words, expected.iter().map(OsString::from).collect::<Vec<_>>(), "{words:?}");
        }
    }

    #[test]
    fn of_a_repeated_option_with_one_value_the_last_counts() {
        let args =
            run(&["-w", "/a", "--workdir=/b", "-u", "x", "--user", "y", "-v", "/a", "-v", "/b", "--rm", "--rm", "img"]);
        assert_eq!((args.workdir, args.user, args.rm), (Some("/b".into()), Some("y".into()), true));
        assert_eq!(args.volume, ["/a", "/b"].map(OsString::from));
        let Some(Command::Create(create)) = parsed(&["create", "--name=a", "--name", "b", "img"]).unwrap().command
        else {
            panic!("a create")
        };
        assert_eq!(create.name.as_deref(), Some("b"));
    }
}
