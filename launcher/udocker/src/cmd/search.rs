//! `udocker search`.

use std::process::ExitCode;

use udocker_core::error::{ErrorKind, Explain, Failure};
use udocker_core::reference::{ImageReference, RegistryHost, is_docker_hub};
use udocker_core::settings::Verbosity;
use udocker_transfer::registry::{Found, RegistryError, Search, Searched};

use super::{Outcome, RegistryArgs, RegistryUrl, given};
use crate::context::Context;
use crate::terminal;

/// Results that are asked for at a time where nobody waits for a page to fill.
const PAGE_SIZE: usize = 100;
/// Rows of a terminal that does not tell.
const ROWS: usize = 24;

/// Search a registry for images, or list the tags of one.
///
/// Example: udocker search --list-tags docker.io/library/debian
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Print everything, without asking after each page.
    #[arg(short = 'a')]
    pub all: bool,
    /// Whole lines, however long.
    #[arg(long)]
    pub no_trunc: bool,
    /// List the tags of the repository EXPR instead.
    #[arg(long)]
    pub list_tags: bool,
    /// `table` or `json`.
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// What to search for; a registry's host may stand before it.
    #[arg(value_name = "EXPR")]
    pub expression: Option<String>,
}

/// A search came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("cannot search for `{expression}`")]
struct SearchError {
    expression: String,
    source: RegistryError,
}

impl Explain for SearchError {
    fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
    fn hints(&self) -> Vec<String> {
        self.source.hints()
    }
}

pub fn run(args: &Args, context: &mut Context) -> Outcome {
    args.registry.apply(&mut context.settings)?;
    let wanted = Wanted::parse(args.expression.as_deref().unwrap_or_default(), context)?;
    if args.list_tags {
        return list_tags(&wanted, args, context);
    }
    let interactive = args.format == "table" && !args.all && terminal::is_interactive();
    let rows = terminal::rows().unwrap_or(ROWS).saturating_sub(2).max(1);
    let page_size = if interactive { rows.min(PAGE_SIZE) } else { PAGE_SIZE };
    let failed = |source| SearchError { expression: wanted.expression.clone(), source };
    let places = wanted.places(args, context);
    let search = Search::start(&context.settings.registries, &places, &wanted.expression, page_size).map_err(failed)?;
    let results = Results { search, waiting: Vec::new().into_iter() };
    let printed = match (args.format.as_str(), interactive) {
        ("json", _) => print_json(results, context),
        (_, true) => print_pages(results, rows, args, context),
        (_, false) => print_all(results, args, context),
    };
    printed.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn list_tags(wanted: &Wanted, args: &Args, context: &Context) -> Outcome {
    let name = match &wanted.host {
        Some(host) => format!("{host}/{}", wanted.expression),
        None => wanted.expression.clone(),
    };
    let reference: ImageReference = crate::image::parse_reference(Some(&name))?;
    let tags = udocker_transfer::locate::tags(&reference, &context.settings.registries)?;
    if args.format == "json" {
        context.ui.result(serde_json::to_string_pretty(&tags).expect("texts serialise"));
    } else {
        tags.iter().for_each(|tag| context.ui.result(printable(tag, usize::MAX)));
    }
    Ok(ExitCode::SUCCESS)
}

/// EXPR, taken apart.
struct Wanted {
    host: Option<RegistryHost>,
    /// Without a tag.
    expression: String,
}

impl Wanted {
    fn parse(text: &str, context: &mut Context) -> Result<Self, Failure> {
        let (is_url, rest) = match text.split_once("://") {
            Some((_, rest)) => (true, rest),
            None => (false, text),
        };
        let (host, expression) = match rest.split_once('/') {
            Some((host, rest)) if is_url || host.contains(['.', ':']) || host == "localhost" => {
                let url = RegistryUrl::parse(&text[..text.len() - rest.len() - 1])?;
                if url.url.starts_with("http://") {
                    context.settings.registries.insecure.push(url.host.clone());
                }
                (Some(url.host), rest)
            }
            _ => (None, rest),
        };
        let expression = expression.split(':').next().unwrap_or_default().to_owned();
        Ok(Self { host, expression })
    }

    /// Where to search, in order. A host that is no Docker Hub is asked itself; one of `--index` and `--registry` without
    /// the other means that one alone.
    fn places(&self, args: &Args, context: &Context) -> Vec<Searched> {
        let registries = &context.settings.registries;
        let index = Searched::Index(registries.index.clone());
        let registry = Searched::Registry(registries.default.clone());
        let options = (given(args.registry.index.as_deref()), given(args.registry.registry.as_deref()));
        match (&self.host, options) {
            (Some(host), _) if !is_docker_hub(host) => vec![Searched::Registry(host.clone())],
            (_, (None, Some(_))) => vec![registry],
            (_, (Some(_), None)) => vec![index],
            _ => vec![index, registry],
        }
    }
}

/// The results one by one, page after page.
struct Results {
    search: Search,
    waiting: std::vec::IntoIter<Found>,
}

impl Results {
    fn next(&mut self) -> Result<Option<Found>, RegistryError> {
        loop {
            if let Some(found) = self.waiting.next() {
                return Ok(Some(found));
            }
            match self.search.next_page()? {
                Some(page) => self.waiting = page.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

fn print_json(mut results: Results, context: &Context) -> Result<(), RegistryError> {
    let mut all = Vec::new();
    while let Some(found) = results.next()? {
        all.push(found);
    }
    context.ui.result(serde_json::to_string_pretty(&all).expect("results of ours serialise"));
    Ok(())
}

fn print_all(mut results: Results, args: &Args, context: &Context) -> Result<(), RegistryError> {
    let mut is_first = true;
    while let Some(found) = results.next()? {
        if std::mem::take(&mut is_first) {
            print_header(args, context);
        }
        context.ui.result(line_of(&found, args.no_trunc));
    }
    if is_first {
        context.ui.info("nothing was found");
    }
    Ok(())
}

/// Each page under its header, with a question after it.
fn print_pages(mut results: Results, rows: usize, args: &Args, context: &Context) -> Result<(), RegistryError> {
    let Some(mut found) = results.next()? else {
        context.ui.info("nothing was found");
        return Ok(());
    };
    loop {
        print_header(args, context);
        for row in 1.. {
            context.ui.result(line_of(&found, args.no_trunc));
            match results.next()? {
                Some(next) => found = next,
                None => return Ok(()),
            }
            if row == rows {
                break;
            }
        }
        match terminal::ask("[return or q to quit]") {
            Ok(Some(answer)) if !matches!(answer.as_str(), "q" | "Q" | "e" | "E") => {}
            _ => return Ok(()),
        }
    }
}

fn print_header(args: &Args, context: &Context) {
    if context.ui.verbosity >= Verbosity::Info {
        context.ui.result(columns("NAME", "OFFICIAL", "DESCRIPTION", "STARS", args.no_trunc));
    }
}

fn line_of(found: &Found, no_trunc: bool) -> String {
    let official = if found.official { "[OK]" } else { "----" };
    // As udocker: the first line, of ASCII.
    let description: String =
        found.description.split('\n').next().unwrap_or_default().chars().filter(char::is_ascii).collect();
    let stars = found.stars.map(|stars| stars.to_string()).unwrap_or_default();
    columns(&found.name, official, &description, &stars, no_trunc)
}

/// udocker's columns; what is longer than its column is cut, a name only beyond 80.
fn columns(name: &str, official: &str, description: &str, stars: &str, no_trunc: bool) -> String {
    let cut = |text: &str, limit| printable(text, if no_trunc { usize::MAX } else { limit });
    format!("{:<55} {:>8} {:<70} {:>5}", cut(name, 80), official, cut(description, 70), cut(stars, 5))
}

/// At most `limit` characters of a registry's text, none of which a terminal obeys.
fn printable(text: &str, limit: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_udockers() {
        let found = Found {
            name: "n".repeat(90),
            official: true,
            description: format!("d\u{e9}\u{1b}{}\nsecond", "x".repeat(80)),
            stars: Some(123_456),
        };
        let (name, description) = ("n".repeat(80), format!("d{}", "x".repeat(69)));
        assert_eq!(line_of(&found, false), format!("{name}     [OK] {description} 12345"));
        let (name, description) = ("n".repeat(90), format!("d{}", "x".repeat(80)));
        assert_eq!(line_of(&found, true), format!("{name}     [OK] {description} 123456"));
        let found = Found { name: "a/b".into(), official: false, description: "c".into(), stars: None };
        assert_eq!(line_of(&found, false), format!("{:<55}     ---- {:<70}      ", "a/b", "c"));
    }
}
