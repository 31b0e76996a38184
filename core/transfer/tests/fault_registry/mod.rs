//! A registry that misbehaves on demand: real HTTP over real sockets, one request a connection, one thread each.
//!
//! A test gives a function from a request and its number (from 0) to a [`Reply`]; the registry records all it was asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use udocker_core::digest::Digest;
use udocker_core::manifest::Descriptor;
use udocker_core::reference::RegistryHost;
use udocker_core::settings::RegistrySettings;
use udocker_transfer::registry::{Client, Limits, RegistryError};

pub const REPOSITORY: &str = "team/app";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// How a body is sent.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// With its length.
    Whole,
    /// In chunks, without its length.
    Chunked,
    /// With its length, but only so many bytes of it; then the connection ends.
    CutAfter(usize),
    /// So many bytes at once, then one byte each such time.
    Trickle(usize, Duration),
    /// Not even a head, until the client gives up.
    Silent,
    /// Nothing: the connection ends without an answer.
    HangUp,
    /// As a proxy's answer to CONNECT: bytes to and from that address.
    Tunnel(SocketAddr),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub manner: Manner,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), manner: Manner::Whole }
    }
    pub fn ok(body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::status(200) }
    }
    pub fn redirect(to: &str) -> Self {
        Self::status(307).with("Location", to)
    }
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
    pub fn sent(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }
    /// The part of `whole` that `request` asks for, as a server with ranges answers.
    pub fn ranged(request: &Request, whole: &[u8]) -> Self {
        let Some(range) = request.header("range") else { return Self::ok(whole) };
        let start: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
        if start >= whole.len() {
            return Self::status(416).with("Content-Range", &format!("bytes */{}", whole.len()));
        }
        let range = format!("bytes {start}-{}/{}", whole.len() - 1, whole.len());
        Self { body: whole[start..].to_vec(), ..Self::status(206) }.with("Content-Range", &range)
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

pub struct FaultRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    ended: AtomicBool,
    handler: Box<Handler>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl FaultRegistry {
    pub fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, Box::new(handler))
    }

    pub fn start_tls(
        authority: &Authority,
        handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(authority.server_config()), Box::new(handler))
    }

    fn listen(tls: Option<Arc<rustls::ServerConfig>>, handler: Box<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { requests: Mutex::default(), ended: AtomicBool::new(false), handler, tls });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if server.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (server, stream) = (Arc::clone(&server), stream.unwrap());
                // A client that goes away is what half of the tests are about.
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
    pub fn host(&self) -> RegistryHost {
        self.address.to_string().parse().unwrap()
    }
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
    /// The values of one header of all requests.
    pub fn headers(&self, name: &str) -> Vec<Option<String>> {
        self.requests().iter().map(|request| request.header(name).map(ToOwned::to_owned)).collect()
    }
    pub fn targets(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.target).collect()
    }
    pub fn client(&self) -> Client {
        client(&settings(), &self.host())
    }
}

impl Drop for FaultRegistry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Shared {
    fn serve(&self, tcp: TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let mut first = [0];
        tcp.peek(&mut first)?;
        let is_tls = first[0] == 0x16;
        match &self.tls {
            None if is_tls => Ok(()),
            None => self.answer(&mut &tcp, &tcp),
            Some(config) if is_tls => {
                let connection = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                let mut stream = rustls::StreamOwned::new(connection, tcp.try_clone()?);
                let result = self.answer(&mut stream, &tcp);
                stream.conn.send_close_notify();
                stream.flush()?;
                result
            }
            // As servers in Go answer.
            Some(_) => {
                read_head(&mut &tcp)?;
                (&tcp).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
            }
        }
    }

    fn answer(&self, stream: &mut dyn Stream, tcp: &TcpStream) -> io::Result<()> {
        let request = read_head(stream)?;
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let reply = (self.handler)(&request, number);
        let length = reply.body.len();
        let mut head = format!("HTTP/1.1 {} Status\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match reply.manner {
            Manner::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Manner::Tunnel(_) => {}
            _ => head.push_str(&format!("Content-Length: {length}\r\n")),
        }
        if !matches!(reply.manner, Manner::Tunnel(_)) {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let body = &reply.body;
        match reply.manner {
            Manner::HangUp => return Ok(()),
            Manner::Silent => {
                // Ends when the client closes its side.
                return stream.read(&mut [0]).map(drop);
            }
            _ => stream.write_all(head.as_bytes())?,
        }
        match reply.manner {
            Manner::Whole => stream.write_all(body)?,
            Manner::CutAfter(count) => stream.write_all(&body[..count])?,
            Manner::Chunked => {
                for piece in body.chunks(10_000) {
                    stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    stream.write_all(piece)?;
                    stream.write_all(b"\r\n")?;
                }
                stream.write_all(b"0\r\n\r\n")?;
            }
            Manner::Trickle(count, pause) => {
                stream.write_all(&body[..count])?;
                for byte in &body[count..] {
                    thread::sleep(pause);
                    stream.write_all(&[*byte])?;
                }
            }
            Manner::Tunnel(to) => return tunnel(tcp, to),
            Manner::Silent | Manner::HangUp => {}
        }
        stream.flush()
    }
}

fn read_head(stream: &mut dyn Stream) -> io::Result<Request> {
    // Clients send nothing after a GET's head, so reading ahead loses nothing.
    let mut lines = BufReader::new(stream).lines();
    let mut line = move || lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
    let first = line()?;
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            return Ok(Request { method, target, headers });
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Bytes between `client` and `to` until both have said all.
pub fn tunnel(client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    let (mut up, mut down) = ((client.try_clone()?, server.try_clone()?), (server, client.try_clone()?));
    let back = thread::spawn(move || {
        // Either side may go first.
        drop(io::copy(&mut down.0, &mut down.1));
        down.1.shutdown(std::net::Shutdown::Write)
    });
    io::copy(&mut up.0, &mut up.1)?;
    up.1.shutdown(std::net::Shutdown::Write)?;
    drop(back.join());
    Ok(())
}

/// A certificate authority and a server's certificate by it, for 127.0.0.1, localhost and registry.test.
pub struct Authority {
    /// The authority's certificate.
    pub pem: String,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let names = ["127.0.0.1", "localhost", "registry.test"].map(ToOwned::to_owned);
        let own = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&own, &issuer).unwrap();
        Self { pem, chain: vec![certificate.der().clone()], key: own.serialize_der() }
    }

    fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        Arc::new(builder.unwrap().with_no_client_auth().with_single_cert(self.chain.clone(), key).unwrap())
    }

    /// Writes the authority's certificate to `path`.
    pub fn write(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &self.pem).unwrap();
    }
}

/// Five repetitions at once.
pub fn settings() -> RegistrySettings {
    RegistrySettings { backoff: Duration::from_millis(1), ..RegistrySettings::default() }
}

/// Tens of milliseconds where the default is tens of seconds.
pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        silence: Duration::from_millis(400),
        window: Duration::from_millis(300),
        slowest: 1024,
        retry_after: Duration::from_secs(60),
    }
}

/// A client with patience for a loaded machine: for tests that are not about time.
pub fn client(settings: &RegistrySettings, host: &RegistryHost) -> Client {
    Client::new(settings, host).unwrap()
}

pub fn descriptor(bytes: &[u8]) -> Descriptor {
    let size = bytes.len() as u64;
    Descriptor { media_type: String::new(), digest: Digest::sha256_of(bytes), size, urls: Vec::new() }
}

/// `size` bytes, every four others.
pub fn pattern(size: usize) -> Vec<u8> {
    (0u32..).flat_map(u32::to_le_bytes).take(size).collect()
}

/// All of a blob's stream, or the registry's error.
pub fn read_blob(client: &Client, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    match client.blob(REPOSITORY, descriptor)?.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.downcast::<RegistryError>().unwrap()),
    }
}
