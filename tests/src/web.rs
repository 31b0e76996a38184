//! A small server of HTTP: a function answers, or says to which server a request goes on.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::fault_proxy::Head;

/// What was asked: without a body, as nothing of ours sends one here.
#[derive(Clone, Debug)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
}

impl Request {
    /// The values of a field of the query, decoded.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(field, _)| *field == name).map(|(_, value)| decoded(value)).collect()
    }
    /// The first of them, or nothing.
    pub fn field(&self, name: &str) -> String {
        self.fields(name).into_iter().next().unwrap_or_default()
    }
    /// Path without a query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// `+` and `%XX` of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = [rest.next().expect("two digits"), rest.next().expect("two digits")];
                let hex = std::str::from_utf8(&hex).expect("digits");
                bytes.push(u8::from_str_radix(hex, 16).expect("digits"));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).expect("a text")
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status line after `HTTP/1.1`, and JSON.
    Json(&'static str, serde_json::Value),
    /// Another server has the answer.
    From(String),
}

impl Answer {
    /// With status 200.
    pub fn ok(value: serde_json::Value) -> Self {
        Self::Json("200 OK", value)
    }
    /// With status 404.
    pub fn not_found() -> Self {
        Self::Json("404 Not Found", serde_json::json!({"detail": "not found"}))
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// Listens on a free port of loopback until it is dropped.
pub struct WebServer {
    /// `127.0.0.1:PORT`
    pub host: String,
    ended: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl WebServer {
    /// Starts it; `handler` is told the server's host too.
    pub fn start(handler: impl Fn(&str, &Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let host = listener.local_addr().expect("a bound socket").to_string();
        let (ended, requests) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Request>>>::default());
        let server = Self { host: host.clone(), ended: ended.clone(), requests: requests.clone() };
        let handler: Arc<Handler> = Arc::new(move |request| handler(&host, request));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (handler, requests) = (handler.clone(), requests.clone());
                // A client may go away; what it asked is recorded.
                std::thread::spawn(move || stream.and_then(|stream| serve(&stream, &handler, &requests)));
            }
        });
        server
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no thread panics").clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener; if that fails it has ended already.
        let _ = TcpStream::connect(&self.host);
    }
}

fn serve(mut client: &TcpStream, handler: &Arc<Handler>, requests: &Mutex<Vec<Request>>) -> io::Result<()> {
    let Some(head) = Head::read(&mut BufReader::new(client))? else { return Ok(()) };
    let request = Request {
        target: head.first.split(' ').nth(1).unwrap_or_default().to_owned(),
        authorization: head.header("authorization").map(ToOwned::to_owned),
    };
    requests.lock().expect("no thread panics").push(request.clone());
    match handler(&request) {
        Answer::Json(status, value) => {
            let body = value.to_string();
            let lines = vec!["Content-Type: application/json".to_owned(), format!("Content-Length: {}", body.len())];
            Head { first: format!("HTTP/1.1 {status}"), lines }.write(&mut client)?;
            client.write_all(body.as_bytes())?;
        }
        Answer::From(server) => {
            let mut upstream = TcpStream::connect(server)?;
            head.without("connection").write(&mut upstream)?;
            io::copy(&mut upstream, &mut client)?;
        }
    }
    client.shutdown(Shutdown::Write)
}
