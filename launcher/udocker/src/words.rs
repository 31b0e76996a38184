//! The words of the command line before they are parsed: what unset variables of scripts left empty is passed over, as by
//! udocker. From the first argument of a command on, words stay as they are: they may be a program's.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Options to which an empty value says something, or is wrong.
const EMPTY_COUNTS: &[&str] = &["entrypoint", "write"];
/// Options that may be repeated, of which udocker passes over an empty value. An empty volume is an error there, too.
const LISTS: &[&str] = &["env", "env_file"];

/// `words` without empty ones before the command, and without options whose value is empty.
pub fn without_empty(whole: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let mut words = words.into_iter().peekable();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let mut command = None;
    while let Some(word) = words.next() {
        if word.is_empty() && command.is_none() {
            continue;
        }
        if word == "--" || !is_option(&word) {
            let found = word.to_str().filter(|_| command.is_none()).and_then(|name| whole.find_subcommand(name));
            out.push(word);
            if found.is_none() {
                break;
            }
            command = found;
            continue;
        }
        let Some((arg, value)) = with_value(command.unwrap_or(whole), &word.to_string_lossy()) else {
            out.push(word);
            continue;
        };
        let next = if value == Value::Behind { words.next_if(|next| !is_option(next)) } else { None };
        let is_empty = value == Value::Empty || next.as_ref().is_some_and(|next| next.is_empty());
        if !(is_empty && may_be_left_out(arg)) {
            out.push(word);
            out.extend(next);
        }
    }
    out.extend(words);
    out
}

/// Where the value of an option is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// In the next word, if that is none of an option.
    Behind,
    /// In the same word.
    Here,
    /// In the same word, and it has no characters.
    Empty,
}

fn is_option(word: &OsString) -> bool {
    word.len() > 1 && word.as_encoded_bytes()[0] == b'-'
}

/// The option with a value that `word` is, spelled alone.
fn with_value<'a>(command: &'a Command, word: &str) -> Option<(&'a Arg, Value)> {
    let (name, value) = match word.split_once('=') {
        Some((name, "")) => (name, Value::Empty),
        Some((name, _)) => (name, Value::Here),
        None => (word, Value::Behind),
    };
    let is_it = |arg: &&Arg| match name.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long) || arg.get_all_aliases().unwrap_or_default().contains(&long),
        None => arg.get_short().is_some_and(|short| name.strip_prefix('-') == Some(short.encode_utf8(&mut [0; 4]))),
    };
    let arg = command.get_arguments().find(is_it)?;
    arg.get_action().takes_values().then_some((arg, value))
}

fn may_be_left_out(arg: &Arg) -> bool {
    let name = arg.get_id().as_str();
    LISTS.contains(&name) || (matches!(arg.get_action(), ArgAction::Set) && !EMPTY_COUNTS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_passed_over_up_to_the_first_argument() {
        for (words, expected) in [
            ("||ps", "ps"),
            ("--repo=|--config||ps|-m", "ps|-m"),
            ("--repo|dir|ps", "--repo|dir|ps"),
            ("run|--name=|-u||--user|me|-w=|--platform=|i||--name=", "run|--user|me|i||--name="),
            ("run|-e||--env=|--env-file=|-eA|i", "run|-eA|i"),
            ("run|--entrypoint=|--entrypoint||-v||--volume=|i", "run|--entrypoint=|--entrypoint||-v||--volume=|i"),
            ("run|--pull=|--rm|i", "run|--rm|i"),
            ("run|--name|--rm|i", "run|--name|--rm|i"),
            ("run||--name=", "run||--name="),
            ("run|--|--name=", "run|--|--name="),
            ("rm|-f||--name=", "rm|-f||--name="),
            ("nope|--name=", "nope|--name="),
            ("run|--nope=|--name=|i", "run|--nope=|i"),
        ] {
            let words = ["udocker"].into_iter().chain(words.split('|')).map(OsString::from).collect();
            let kept = without_empty(&crate::cli::command(), words);
            let kept: Vec<_> = kept.iter().skip(1).map(|word| word.to_str().unwrap()).collect();
            assert_eq!(kept.join("|"), expected);
        }
    }
}
