//! What the user sees: results on stdout, all else on stderr, by one verbosity.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use udocker_core::digest::Digest;
use udocker_core::error::Failure;
use udocker_core::progress::Progress;
use udocker_core::settings::Verbosity;
use udocker_core::text::printable;

/// The channel to the user.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    pub verbosity: Verbosity,
}

impl Ui {
    /// A result line, unless only errors are told. A reader that went away ends the program quietly.
    pub fn result(&self, line: impl AsRef<[u8]>) {
        if self.verbosity < Verbosity::Messages {
            return;
        }
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(line.as_ref()).and_then(|()| out.write_all(b"\n")) {
            std::process::exit(i32::from(error.kind() != io::ErrorKind::BrokenPipe));
        }
    }
    /// A remark, unless quiet.
    pub fn info(&self, text: &str) {
        if self.verbosity >= Verbosity::Info {
            self.line(&format!("Info: {text}"));
        }
    }
    /// A warning, unless quiet.
    pub fn warning(&self, text: &str) {
        if self.verbosity >= Verbosity::Warnings {
            self.line(&format!("Warning: {text}"));
        }
    }
    /// A remark for `--debug`.
    pub fn debug(&self, text: &str) {
        if self.verbosity >= Verbosity::Debug {
            self.line(&format!("Debug: {text}"));
        }
    }
    /// An error, with causes and hints.
    pub fn error(&self, text: &str) {
        if self.verbosity >= Verbosity::Errors {
            self.line(&format!("Error: {text}"));
        }
    }
    /// Reports `failure` and turns it into `status`.
    pub fn failed(&self, failure: &Failure, status: u8) -> ExitCode {
        self.error(&failure.report());
        ExitCode::from(status)
    }
    fn line(&self, text: &str) {
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(io::stderr().lock(), "{}", printable(text));
    }
    /// Bars on a terminal, one line per finished layer elsewhere, nothing when quiet.
    pub fn progress(&self) -> Box<dyn Progress> {
        self.progress_of(false)
    }
    /// The same for layers that come from an archive.
    pub fn adding(&self) -> Box<dyn Progress> {
        self.progress_of(true)
    }
    fn progress_of(&self, adds: bool) -> Box<dyn Progress> {
        let smart = io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        match self.verbosity {
            level if level < Verbosity::Info => Box::new(Quiet(*self)),
            _ if smart => Box::new(Bars { ui: *self, all: MultiProgress::new(), bars: Mutex::default() }),
            _ => Box::new(Lines { ui: *self, adds, started: Mutex::default() }),
        }
    }
}

struct Quiet(Ui);

impl Progress for Quiet {
    fn warning(&self, text: &str) {
        self.0.warning(text);
    }
}

struct Lines {
    ui: Ui,
    /// Layers are not downloaded, and whether the store had them before is of no interest.
    adds: bool,
    started: Mutex<Vec<(Digest, u64, bool, Instant)>>,
}

impl Progress for Lines {
    fn layer_started(&self, digest: &Digest, total: u64, present: bool) {
        self.started.lock().expect("no holder panics").push((digest.clone(), total, present, Instant::now()));
    }
    fn layer_finished(&self, digest: &Digest) {
        let started = self.started.lock().expect("no holder panics");
        let Some((_, total, present, since)) = started.iter().find(|(d, ..)| d == digest) else { return };
        let seconds = since.elapsed().as_secs_f64();
        self.ui.info(&match (self.adds, *present) {
            (true, _) => format!("adding layer {digest} ({}, {seconds:.1} s)", bytes(*total)),
            (false, true) => format!("layer {digest} is here already ({})", bytes(*total)),
            (false, false) => format!("downloading layer {digest} ({}, {seconds:.1} s)", bytes(*total)),
        });
    }
    fn note(&self, text: &str) {
        self.ui.debug(text);
    }
    fn warning(&self, text: &str) {
        self.ui.warning(text);
    }
}

struct Bars {
    ui: Ui,
    all: MultiProgress,
    bars: Mutex<Vec<(Digest, ProgressBar)>>,
}

impl Bars {
    fn with(&self, digest: &Digest, act: impl FnOnce(&ProgressBar)) {
        let bars = self.bars.lock().expect("no holder panics");
        if let Some((_, bar)) = bars.iter().find(|(d, _)| d == digest) {
            act(bar);
        }
    }
}

impl Progress for Bars {
    fn layer_started(&self, digest: &Digest, total: u64, present: bool) {
        let style = ProgressStyle::with_template("{prefix} {bar:30} {bytes:>10}/{total_bytes:10} {msg}");
        let bar = ProgressBar::new(total).with_style(style.expect("a constant template parses"));
        let bar = self.all.add(bar.with_prefix(digest.hex()[..12].to_owned()));
        if present {
            bar.set_position(total);
            bar.finish_with_message("present");
        }
        self.bars.lock().expect("no holder panics").push((digest.clone(), bar));
    }
    fn layer_advanced(&self, digest: &Digest, bytes: u64) {
        self.with(digest, |bar| bar.inc(bytes));
    }
    fn layer_finished(&self, digest: &Digest) {
        self.with(digest, |bar| {
            if !bar.is_finished() {
                bar.finish_with_message("done");
            }
        });
    }
    fn note(&self, text: &str) {
        self.all.suspend(|| self.ui.debug(text));
    }
    fn warning(&self, text: &str) {
        self.all.suspend(|| self.ui.warning(text));
    }
}

/// The lines of a table, each column as wide as its widest cell, two blanks apart.
pub fn aligned<const COLUMNS: usize>(table: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

/// `count` bytes in words: three digits and a binary unit.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (count, expected) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1 << 20, "1.0 MiB"), (431 << 20, "431.0 MiB")]
        {
            assert_eq!(super::bytes(count), expected);
        }
    }
}
