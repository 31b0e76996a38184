//! Docker's credential helpers: `docker-credential-NAME get`, the server's name on its input, JSON on its output.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// How long a helper may take; one that asks a person would wait for ever.
const LIMIT: Duration = Duration::from_secs(10);
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// What all helpers print if they know nothing (`docker-credential-helpers/credentials/error.go`).
const NOTHING_FOUND: &str = "credentials not found in native keychain";

/// What a helper has for a server. It holds a password, so it cannot be shown.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    pub(super) username: String,
    pub(super) secret: String,
}

/// Asks helper `name` for `server`; `None` if it has nothing.
///
/// # Errors
/// In words, if it cannot be run, fails or does not end.
pub(super) fn ask(name: &str, server: &str) -> Result<Option<Answer>, String> {
    let program = format!("docker-credential-{name}");
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(format!("`{}` is no name of a credential helper", name.escape_default()));
    }
    let cannot = |error: std::io::Error| format!("cannot run the credential helper {program}: {error}");
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(cannot)?;
    let (mut input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (sender, receiver) = mpsc::channel();
    // It ends with the helper's output; if that stays open beyond the limit, with this process.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.take(MAX_ANSWER_BYTES).read_to_end(&mut text).map(|_| text);
        // The other side has given up.
        let _ = sender.send(read);
    });
    // A helper that does not read its input answers all the same, or fails by itself.
    let _ = input.write_all(server.as_bytes());
    drop(input);
    let deadline = Instant::now() + LIMIT;
    let answer = receiver.recv_timeout(LIMIT);
    let ended = answer.is_ok() && has_ended(&mut child, deadline).map_err(cannot)?;
    if !ended {
        // It has ended just now, else.
        let _ = child.kill();
    }
    let status = child.wait().map_err(cannot)?;
    let (Ok(answer), true) = (answer, ended) else {
        return Err(format!("the credential helper {program} did not end within {} s", LIMIT.as_secs()));
    };
    let text = answer.map_err(cannot)?;
    if !status.success() {
        let nothing = text.trim_ascii() == NOTHING_FOUND.as_bytes();
        return if nothing { Ok(None) } else { Err(format!("the credential helper {program} failed: {status}")) };
    }
    // Neither the answer nor the parser's words about it: they may hold the password.
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|_| format!("the answer of the credential helper {program} cannot be read"))
}

/// Whether `child` ends before `deadline`; helpers do so at once after their answer.
fn has_ended(child: &mut Child, deadline: Instant) -> std::io::Result<bool> {
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}
