//! udocker's words for a command line that clap could not read: one line, a hint, status 1.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use udocker_core::settings::Verbosity;

use crate::ui::Ui;

/// Prints help where that was asked for, else the error.
pub fn report(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let ui = Ui { verbosity: Verbosity::Info };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        ui.result(error.render().to_string().trim_end());
        return ExitCode::SUCCESS;
    }
    let (text, hint) = in_words(error, words);
    ui.error(&format!("{text}\n  hint: {hint}"));
    ExitCode::FAILURE
}

/// What is wrong, and what to do.
fn in_words(error: &clap::Error, words: &[OsString]) -> (String, String) {
    let words: Vec<String> = words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let whole = crate::cli::command();
    let command = words.iter().find_map(|word| whole.find_subcommand(word));
    let help = match command {
        Some(command) => format!("`udocker {} --help` lists its options", command.get_name()),
        None => "`udocker help` lists commands and general options".to_owned(),
    };
    let arg = context(error, ContextKind::InvalidArg);
    let value = context(error, ContextKind::InvalidValue);
    let option = arg.split(' ').next().unwrap_or_default();
    match (error.kind(), std::error::Error::source(error)) {
        (ErrorKind::InvalidSubcommand, _) => {
            (format!("invalid command: {}", context(error, ContextKind::InvalidSubcommand)), help)
        }
        // The parser of the value has said all there is to say.
        (ErrorKind::ValueValidation, Some(source)) => {
            (source.to_string(), format!("this is the value of {option}; {help}"))
        }
        (ErrorKind::InvalidValue, _) if !value.is_empty() => {
            let valid = context(error, ContextKind::ValidValue);
            (format!("invalid value of {option}: {value}"), format!("expected one of {valid}; {help}"))
        }
        (ErrorKind::InvalidValue, _) if option.starts_with(['[', '<']) => {
            (format!("the argument {} is empty", arg.trim_matches(['[', ']', '<', '>', '.'])), help)
        }
        (ErrorKind::InvalidValue, _) => {
            let typed = typed(command.unwrap_or(&whole), option, &words);
            (format!("syntax error at: {typed}"), format!("{option} needs a value; {help}"))
        }
        (ErrorKind::UnknownArgument | ErrorKind::TooManyValues | ErrorKind::NoEquals, _) => {
            let hint = match context(error, ContextKind::SuggestedArg) {
                suggested if suggested.is_empty() => help,
                suggested => format!("did you mean {suggested}? {help}"),
            };
            // A word too many has no option, it is the value.
            let word =
                if option.starts_with(['[', '<']) { value } else { typed(command.unwrap_or(&whole), option, &words) };
            (format!("syntax error at: {word}"), hint)
        }
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            (line.strip_prefix("error: ").unwrap_or(line).to_owned(), help)
        }
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::Strings(list)) => list.join(", "),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// The word in which `option`, as clap calls it, was typed: with its value, under its short name, or among other letters.
fn typed(command: &clap::Command, option: &str, words: &[String]) -> String {
    let short = match option.strip_prefix("--") {
        Some(long) => command.get_arguments().find(|arg| arg.get_long() == Some(long)).and_then(clap::Arg::get_short),
        None => option.strip_prefix('-').and_then(|rest| rest.chars().next()),
    };
    let letters = |word: &str| word.strip_prefix('-').filter(|rest| !rest.starts_with('-')).map(str::to_owned);
    let find = |is_it: &dyn Fn(&str) -> bool| words.iter().find(|word| is_it(word)).cloned();
    find(&|word| word == option)
        .or_else(|| find(&|word| word.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))))
        .or_else(|| short.and_then(|short| find(&|word| letters(word).is_some_and(|letters| letters.contains(short)))))
        .unwrap_or_else(|| option.to_owned())
}
