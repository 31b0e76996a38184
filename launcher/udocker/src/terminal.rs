//! Questions to a person: lines from standard input, and passwords that the terminal does not show.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether somebody sits before all three standard streams.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// The rows of the terminal of standard output.
pub fn rows() -> Option<usize> {
    tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

/// Asks on standard error and reads a line of standard input without its end; `None` at the end of the input.
pub fn ask(prompt: &str) -> io::Result<Option<String>> {
    let mut out = io::stderr().lock();
    // Nobody reads the question, then; the answer may come all the same.
    let _ = write!(out, "{prompt}").and_then(|()| out.flush());
    line()
}

/// Reads a line of standard input without its end.
pub fn line() -> io::Result<Option<String>> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let end = line.trim_end_matches('\n').trim_end_matches('\r').len();
    line.truncate(end);
    Ok(Some(line))
}

/// Asks for a password on the controlling terminal, which does not show it; without one reads a line of standard input.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`] if the user typed `^C`.
pub fn ask_hidden(prompt: &str) -> io::Result<Option<String>> {
    let Ok(mut terminal) = File::options().read(true).write(true).open("/dev/tty") else { return line() };
    let before = tcgetattr(&terminal)?;
    let mut silent = before.clone();
    // `^C` comes as a byte too: a signal would end us with the terminal still silent.
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let answer = write!(terminal, "{prompt}").and_then(|()| hidden_line(&mut terminal));
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    writeln!(terminal)?;
    answer
}

fn hidden_line(terminal: &mut File) -> io::Result<Option<String>> {
    let mut typed = Vec::new();
    let mut byte = [0];
    loop {
        let count = terminal.read(&mut byte)?;
        match byte[0] {
            0x03 => return Err(io::ErrorKind::Interrupted.into()),
            0x04 if typed.is_empty() => return Ok(None),
            _ if count == 0 => return Ok(None),
            b'\r' | b'\n' | 0x04 => break,
            0x15 => typed.clear(),
            0x08 | 0x7f => {
                // A character may have several bytes: the last ones, of the form 10xxxxxx, and the one before.
                while typed.pop().is_some_and(|last| last & 0xc0 == 0x80) {}
            }
            other => typed.push(other),
        }
    }
    let text = String::from_utf8(typed);
    text.map(Some).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "what was typed is not UTF-8"))
}
