//! HTTP in front of a registry that delays, cuts, corrupts or replaces what passes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::random::Random;

/// What is done to the answer to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers start, and each 64 KiB of a body goes on, after a random time up to this.
    Delay(Duration),
    /// The connection ends after this many bytes of the body.
    Cut(u64),
    /// The byte at this offset of the body is another one.
    Corrupt(u64),
    /// This is the answer: status line after `HTTP/1.1`, more header lines, body.
    Answer { status: &'static str, headers: Vec<String>, body: Vec<u8> },
}

/// A fault, where and how often.
#[derive(Debug)]
struct Rule {
    path_has: String,
    fault: Fault,
    times: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    rules: Mutex<Vec<Arc<Rule>>>,
    requests: Mutex<Vec<String>>,
    seed: AtomicU64,
    ended: AtomicBool,
}

/// Listens on a free port of loopback until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    /// `127.0.0.1:PORT`
    pub host: String,
    shared: Arc<Shared>,
}

impl FaultProxy {
    /// Starts it in front of `upstream`, a `host:port`; `seed` for the random times.
    pub fn start(upstream: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let host = listener.local_addr().expect("a bound socket").to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.into(),
            rules: Mutex::default(),
            requests: Mutex::default(),
            seed: AtomicU64::new(seed),
            ended: AtomicBool::new(false),
        });
        let proxy = Self { host, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // A client that goes away in the middle is what many of these tests are about.
                std::thread::spawn(move || stream.and_then(|stream| serve(&stream, &shared)));
            }
        });
        proxy
    }

    /// Does `fault` to the first `times` answers to paths that contain `path_has`. The first rule that fits is taken.
    pub fn add(&self, path_has: &str, times: u64, fault: Fault) -> &Self {
        let rule = Rule { path_has: path_has.into(), fault, times: AtomicU64::new(times) };
        self.shared.rules.lock().expect("no thread panics").push(Arc::new(rule));
        self
    }

    /// Returns the requests so far, as `GET /v2/…`, with `Range` where there is one.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("no thread panics").clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the listener; if that fails it has ended already.
        let _ = TcpStream::connect(&self.host);
    }
}

/// A head of HTTP: its first line and its header lines.
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) lines: Vec<String>,
}

impl Head {
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let first = if lines.is_empty() { String::new() } else { lines.remove(0) };
        Ok(Some(Self { first, lines }))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fits = |line: &&String| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        self.lines.iter().find(fits).map(|line| line.split_once(':').expect("a header").1.trim())
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.lines.retain(|line| !line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name)));
        self
    }

    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        for line in &self.lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        to.write_all(format!("{text}Connection: close\r\n\r\n").as_bytes())
    }
}

/// One request per connection: a client that wants another opens another.
fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let Some(request) = Head::read(&mut BufReader::new(client))? else { return Ok(()) };
    let path = request.first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut told = request.first.trim_end_matches(" HTTP/1.1").to_owned();
    if let Some(range) = request.header("range") {
        told.push_str(&format!(" {range}"));
    }
    shared.requests.lock().expect("no thread panics").push(told);
    let mut random = Random::new(shared.seed.fetch_add(1, Ordering::SeqCst));
    let fault = pick(shared, &path);
    let mut client = client;
    if let Some(Fault::Answer { status, headers, body }) = &fault {
        let mut lines = headers.clone();
        lines.push(format!("Content-Length: {}", body.len()));
        Head { first: format!("HTTP/1.1 {status}"), lines }.write(&mut client)?;
        client.write_all(if request.first.starts_with("HEAD") { b"" } else { body })?;
        return client.shutdown(Shutdown::Write);
    }
    let mut upstream = TcpStream::connect(&shared.upstream)?;
    request.without("connection").write(&mut upstream)?;
    let mut upstream = BufReader::new(upstream);
    let Some(answer) = Head::read(&mut upstream)? else { return Ok(()) };
    let pause = |random: &mut Random, longest: &Duration| {
        let micros = u64::try_from(longest.as_micros()).expect("a short time").max(1);
        std::thread::sleep(Duration::from_micros(random.below(micros)));
    };
    if let Some(Fault::Delay(longest)) = &fault {
        pause(&mut random, longest);
    }
    answer.without("connection").write(&mut client)?;
    let mut sent = 0u64;
    let mut buffer = vec![0; 65536];
    loop {
        let count = upstream.read(&mut buffer)?;
        if count == 0 {
            return client.shutdown(Shutdown::Write);
        }
        let end = sent + count as u64;
        match &fault {
            Some(Fault::Delay(longest)) => pause(&mut random, longest),
            Some(Fault::Corrupt(at)) if (sent..end).contains(at) => {
                buffer[usize::try_from(at - sent).expect("within the buffer")] ^= 0xff;
            }
            Some(Fault::Cut(at)) if *at < end => {
                client.write_all(&buffer[..usize::try_from(at.saturating_sub(sent)).expect("within the buffer")])?;
                return client.shutdown(Shutdown::Both);
            }
            _ => {}
        }
        client.write_all(&buffer[..count])?;
        sent = end;
    }
}

/// Takes the first rule that fits and is not used up.
fn pick(shared: &Shared, path: &str) -> Option<Fault> {
    let rules = shared.rules.lock().expect("no thread panics");
    let mut fitting = rules.iter().filter(|rule| path.contains(&rule.path_has));
    let take = |times: u64| times.checked_sub(1);
    fitting
        .find(|rule| rule.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok())
        .map(|rule| rule.fault.clone())
}
