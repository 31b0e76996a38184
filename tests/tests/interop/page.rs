//! docs/reference/compatibility.md: what the comparison showed.

use std::fmt::Write as _;

use udocker_tests::PEER_VERSION;

use crate::behaviour::{Behaviour, Expected};
use crate::workshop::Outcome;

/// A behaviour and what both did.
pub struct Row {
    pub behaviour: Behaviour,
    /// udocker's, ours.
    pub shown: [Option<Outcome>; 2],
    /// What is not as expected.
    pub wrong: Vec<String>,
}

impl Row {
    /// For who reads the failure of the test.
    pub fn report(&self) -> String {
        let Behaviour { row, name, before, script, .. } = &self.behaviour;
        format!("- {row}: {name}\n  ({before}) {script}\n  {}", self.wrong.join("\n  "))
    }

    fn markdown(&self) -> String {
        let Behaviour { row, name, before, script, .. } = &self.behaviour;
        let commands =
            if before.is_empty() { code(script, 8, 400) } else { code(&format!("{before}\n{script}"), 8, 400) };
        let [python, ours] = self.shown.each_ref().map(|shown| shown.as_ref().map(cell).unwrap_or_default());
        let verdict = match self.behaviour.expected {
            Expected::Same => "same".to_owned(),
            Expected::Deliberate { reason, .. } => format!("**deliberate**: {reason}"),
        };
        format!("| {row} | {name} | {commands} | {python} | {ours} | {verdict} |\n")
    }
}

fn cell(outcome: &Outcome) -> String {
    let mut text = format!("**{}**", outcome.status);
    if !outcome.stdout.trim().is_empty() {
        write!(text, " {}", code(outcome.stdout.trim_end(), 4, 80)).expect("a string takes all");
    }
    if !outcome.errors.is_empty() {
        write!(text, " *Error:* {}", code(&outcome.errors.join("\n"), 3, 160)).expect("a string takes all");
    }
    text
}

/// At most so many lines, of so many characters each, as code in a cell of a table.
fn code(text: &str, lines: usize, width: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let mut shown: Vec<String> = all.iter().take(lines).map(|line| cut(line, width)).collect();
    if all.len() > lines {
        shown.push("…".into());
    }
    let escape = |line: &String| {
        let line = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('|', "&#124;");
        let line = line.replace('*', "&#42;").replace('[', "&#91;").replace('`', "&#96;").replace('_', "&#95;");
        format!("<code>{}</code>", line.replace('$', "&#36;"))
    };
    shown.iter().map(escape).collect::<Vec<_>>().join("<br>")
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width).chain(['…']).collect()
}

fn page(sections: &[(&str, &[Behaviour])], rows: &[Row]) -> String {
    let deliberate = rows.iter().filter(|row| matches!(row.behaviour.expected, Expected::Deliberate { .. })).count();
    let mut text = format!(
        "# Compatibility with udocker\n\n\
         Made by `tests/tests/interop`, which runs udocker {PEER_VERSION} of PyPI and ours side by side; do not edit \
         (`UPDATE_REFERENCE=1` rewrites it).\n\n\
         {} behaviours, {} the same, {deliberate} different on purpose.\n\n\
         In the commands `writer` prepares the store and `udocker` shows it. Both stand for either program: each behaviour \
         runs with all four pairs of writer and reader, and who reads sees the same whoever wrote; `theirs` is always \
         PyPI's. Statuses are bold. IDs, \
         digests, sizes and places are replaced by words.\n\n\
         Different everywhere, on purpose: udocker prints its remarks (`Info:`, `Warning:`) and the banner of a run on \
         standard output, ours on standard error, so that standard output holds results only. They are left out below. An \
         error of ours begins with udocker's words where scripts may look for them, and goes on with the cause and a hint.\n\n\
         A container that ours has just made may share its image's tree: it has no `ROOT`, and udocker shows `N` for it. \
         `udocker inspect -p` of ours makes the `ROOT`; from then on both run it.\n",
        rows.len(),
        rows.len() - deliberate,
    );
    let mut rows = rows.iter();
    for (title, behaviours) in sections {
        write!(text, "\n## {title}\n\n| of | behaviour | commands | udocker | ours | |\n|---|---|---|---|---|---|\n")
            .expect("a string takes all");
        text.extend(rows.by_ref().take(behaviours.len()).map(Row::markdown));
    }
    text
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/compatibility.md");

/// With `UPDATE_REFERENCE=1` the page becomes what the run showed.
pub fn update(sections: &[(&str, &[Behaviour])], rows: &[Row]) {
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(PAGE, page(sections, rows)).expect("the page can be written");
    }
}

/// The page must be what the run showed.
pub fn check(sections: &[(&str, &[Behaviour])], rows: &[Row]) {
    let text = page(sections, rows);
    let page = std::fs::read_to_string(PAGE).unwrap_or_default();
    let line = page.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(page == text, "docs/reference/compatibility.md is old: run this test with UPDATE_REFERENCE=1\n{line:#?}");
}
