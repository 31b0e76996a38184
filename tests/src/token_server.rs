//! A token server for docker-registry (`distribution/docs/spec/auth/token.md`), on the registry's own host and port: what
//! is not `/token` goes on to the registry behind it.
//!
//! It signs with a key and a certificate that `openssl` makes; alice's password is `secret`, and she may do everything.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::web::{Answer, Request, WebServer};
use crate::{Registry, TestEnv, run};

const ISSUER: &str = "tests";
const SERVICE: &str = "registry";

/// A registry that wants tokens.
pub struct GuardedRegistry {
    /// What clients see.
    pub front: WebServer,
    /// What images are published into; its own host gives nothing without a token.
    pub registry: Registry,
}

impl GuardedRegistry {
    /// Starts both, with their data in `env`.
    pub fn start(env: &TestEnv) -> Self {
        let (key, certificate) = (env.path("token.key"), env.path("token.crt"));
        let subject = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests"];
        run(Command::new("openssl").arg("req").args(subject).arg("-keyout").arg(&key).arg("-out").arg(&certificate));
        let pem = fs::read_to_string(&certificate).expect("a certificate");
        let chain = pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        let behind: Arc<OnceLock<String>> = Arc::default();
        let upstream = behind.clone();
        let front = WebServer::start(move |_, request| match request.path() {
            "/token" => token(request, &chain, key.to_str().expect("UTF-8")),
            _ => Answer::From(upstream.get().expect("the registry runs").clone()),
        });
        let auth = format!(
            "auth: {{token: {{realm: 'http://{}/token', service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: '{}'}}}}\n",
            front.host,
            certificate.display()
        );
        let registry = Registry::start_with(env, &auth);
        behind.set(registry.host.clone()).expect("set once");
        Self { front, registry }
    }
}

fn token(request: &Request, chain: &str, key: &str) -> Answer {
    let alice = format!("Basic {}", STANDARD.encode("alice:secret"));
    let access: Vec<Value> = match &request.authorization {
        Some(given) if *given == alice => request.fields("scope").iter().map(|scope| granted(scope)).collect(),
        Some(_) => return Answer::Json("401 Unauthorized", json!({"details": "incorrect username or password"})),
        None => Vec::new(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [chain]});
    let claims = json!({"iss": ISSUER, "sub": "alice", "aud": request.field("service"), "exp": now + 300,
                        "nbf": now - 10, "iat": now, "jti": "1", "access": access});
    let signed = format!("{}.{}", encoded(head.to_string()), encoded(claims.to_string()));
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl of the package of that name");
    openssl.stdin.take().expect("piped").write_all(signed.as_bytes()).expect("openssl reads");
    let signature = openssl.wait_with_output().expect("openssl ends").stdout;
    Answer::ok(json!({"token": format!("{signed}.{}", encoded(signature))}))
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `TYPE:NAME:ACTION,ACTION`, where the name may have a `:`.
fn granted(scope: &str) -> Value {
    let (kind, rest) = scope.split_once(':').expect("a scope");
    let (name, actions) = rest.rsplit_once(':').expect("a scope");
    json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()})
}
