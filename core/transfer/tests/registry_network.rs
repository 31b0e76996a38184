//! The way to a registry: redirects, certificates, proxies, hosts that are not there.

#[allow(dead_code, reason = "every test binary uses a part")]
mod fault_registry;

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use fault_registry::*;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::reference::RegistryHost;
use udocker_core::settings::RegistrySettings;
use udocker_transfer::registry::{Client, Limits, RegistryError, Unreached};

const BLOB: &[u8] = b"a blob";
const CHILD: &str = "UDOCKER_TEST_CHILD";

/// Serves the blob to whoever has the token `T`, and redirects its holders to where `to` says.
fn guarded(to: impl Fn(&Request) -> String + Send + Sync + 'static) -> FaultRegistry {
    FaultRegistry::start(move |request, _| match (request.target.as_str(), request.header("authorization")) {
        (target, _) if target.starts_with("/token") => Reply::ok(br#"{"token":"T"}"#),
        (target, Some("Bearer T")) if target.starts_with("/v2/") => Reply::redirect(&to(request)),
        (target, _) if target.starts_with("/v2/") => {
            let realm = format!(r#"Bearer realm="http://{}/token""#, request.header("host").unwrap());
            Reply::status(401).with("WWW-Authenticate", &realm)
        }
        _ => Reply::ok(BLOB),
    })
}

fn authorization_of(registry: &FaultRegistry, target: &str) -> Option<String> {
    let request = registry.requests().into_iter().find(|request| request.target == target).unwrap();
    request.header("authorization").map(ToOwned::to_owned)
}

#[test]
fn a_redirect_to_the_same_host_keeps_the_credentials() {
    let registry = guarded(|_| "/store/1?x=y".into());
    assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB);
    assert_eq!(authorization_of(&registry, "/store/1?x=y"), Some("Bearer T".into()));
}

#[test]
fn a_redirect_to_another_port_loses_the_credentials() {
    let other = FaultRegistry::start(|_, _| Reply::ok(BLOB));
    let to = other.url("/store/1");
    let registry = guarded(move |_| to.clone());
    assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB);
    assert_eq!(other.headers("authorization"), [None]);
}

#[test]
fn a_redirect_to_another_host_loses_the_credentials() {
    // The same server by another name, with credentials in the URL that are not used either.
    let registry = guarded(|request| {
        let port = request.header("host").unwrap().split(':').nth(1).unwrap();
        format!("http://user:password@localhost:{port}/store/1")
    });
    assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB);
    assert_eq!(authorization_of(&registry, "/store/1"), None);
}

#[test]
fn a_redirect_there_and_back_loses_the_credentials() {
    let other = FaultRegistry::start(|request, _| Reply::redirect(&request.target["/back-to?".len()..]));
    let to = other.url("/back-to?");
    let registry = guarded(move |request| format!("{to}http://{}/store/1", request.header("host").unwrap()));
    assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB);
    assert_eq!(authorization_of(&registry, "/store/1"), None);
}

#[test]
fn a_redirect_to_another_scheme_loses_the_credentials() {
    let authority = Authority::new();
    let other = FaultRegistry::start_tls(&authority, |_, _| Reply::ok(BLOB));
    let to = other.url("/store/1");
    let registry = guarded(move |_| to.clone());
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("any.pem"));
    let settings = RegistrySettings { ca_dir: Some(directory.path().into()), ..settings() };
    assert_eq!(read_blob(&client(&settings, &registry.host()), &descriptor(BLOB)).unwrap(), BLOB);
    assert_eq!(other.headers("authorization"), [None]);
}

#[test]
fn five_hops_are_followed_and_a_sixth_is_not() {
    for hops in [5, 6] {
        let registry = FaultRegistry::start(move |_, number| match number {
            number if number < hops => Reply::redirect(&format!("/hop/{number}")),
            _ => Reply::ok(BLOB),
        });
        let result = read_blob(&registry.client(), &descriptor(BLOB));
        assert_eq!(registry.requests().len(), 6, "{hops}");
        match (hops, result) {
            (5, result) => assert_eq!(result.unwrap(), BLOB),
            (_, result) => {
                let error = result.unwrap_err();
                assert_eq!(error.to_string(), format!("the registry {} redirects more than 5 times", registry.host()));
                assert_eq!(error.kind(), ErrorKind::Unsupported);
            }
        }
    }
}

#[test]
fn redirects_to_where_nobody_allowed_are_refused() {
    let plain = FaultRegistry::start(|_, _| Reply::ok(BLOB));
    let clear = plain.url("/1");
    for (over_tls, to, expected) in [
        (true, clear.as_str(), "from https to http, which is not followed"),
        (false, "http://203.0.113.9/1", "to http://203.0.113.9, which is not allowed"),
        (false, "file:///etc/passwd", "to file://, which is not allowed"),
        (false, "", "to no place"),
    ] {
        let reply = if to.is_empty() { Reply::status(302) } else { Reply::redirect(to) };
        let handler = move |_: &Request, _| reply.clone();
        let registry =
            if over_tls { FaultRegistry::start_tls(&Authority::new(), handler) } else { FaultRegistry::start(handler) };
        let settings = RegistrySettings { insecure: vec![registry.host()], ..settings() };
        let error = read_blob(&client(&settings, &registry.host()), &descriptor(BLOB)).unwrap_err();
        assert!(matches!(&error, RegistryError::Redirect { what, .. } if what == expected), "{error}");
        assert_eq!(registry.requests().len(), 1);
    }
    assert_eq!(plain.requests().len(), 0);
}

#[test]
fn a_private_authority_is_trusted_where_its_certificate_lies() {
    let authority = Authority::new();
    let registry = FaultRegistry::start_tls(&authority, |_, _| Reply::ok(BLOB));
    let own = format!("{}/ca.crt", registry.host());
    for (file, trusted) in [("site.pem", true), (own.as_str(), true), ("other.host/ca.crt", false)] {
        let directory = tempfile::tempdir().unwrap();
        authority.write(&directory.path().join(file));
        let settings = RegistrySettings { ca_dir: Some(directory.path().into()), ..settings() };
        let result = read_blob(&client(&settings, &registry.host()), &descriptor(BLOB));
        match (trusted, result) {
            (true, result) => assert_eq!(result.unwrap(), BLOB, "{file}"),
            (false, result) => assert_untrusted(&result.unwrap_err(), &registry),
        }
    }
    assert_eq!(registry.requests().len(), 2);
}

fn assert_untrusted(error: &RegistryError, registry: &FaultRegistry) {
    let expected = format!("cannot reach the registry {}: its certificate is not trusted", registry.host());
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, RegistryError::Unreachable { why: Unreached::Certificate, .. }));
    assert_eq!(error.hints()[0], "`ca_dir` in site.toml names a directory of certificates");
}

#[test]
fn an_unknown_authority_is_refused_unless_the_host_is_listed() {
    let registry = FaultRegistry::start_tls(&Authority::new(), |_, _| Reply::ok(BLOB));
    assert_untrusted(&read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err(), &registry);
    let other: RegistryHost = "127.0.0.1:1".parse().unwrap();
    let wrong = RegistrySettings { insecure: vec![other], ..settings() };
    assert_untrusted(&read_blob(&client(&wrong, &registry.host()), &descriptor(BLOB)).unwrap_err(), &registry);
    assert_eq!(registry.requests().len(), 0);
    let listed = RegistrySettings { insecure: vec![registry.host()], ..settings() };
    assert_eq!(read_blob(&client(&listed, &registry.host()), &descriptor(BLOB)).unwrap(), BLOB);
}

#[test]
fn a_listed_host_vouches_for_no_other() {
    let other = FaultRegistry::start_tls(&Authority::new(), |_, _| Reply::ok(BLOB));
    let to = other.url("/1");
    let registry = FaultRegistry::start(move |_, _| Reply::redirect(&to));
    let listed = RegistrySettings { insecure: vec![registry.host()], ..settings() };
    assert_untrusted(&read_blob(&client(&listed, &registry.host()), &descriptor(BLOB)).unwrap_err(), &other);
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (missing, bad) = (directory.path().join("missing"), directory.path().join("bad.pem"));
    std::fs::write(&bad, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
    for (ca_dir, expected) in [
        (missing.as_path(), format!("cannot read {}: No such file or directory (os error 2)", missing.display())),
        (directory.path(), format!("cannot use the certificates of {}: ", bad.display())),
    ] {
        let settings = RegistrySettings { ca_dir: Some(ca_dir.into()), ..settings() };
        let error = Client::new(&settings, &"localhost:1".parse().unwrap()).unwrap_err();
        assert!(matches!(&error, RegistryError::Setup { what, .. } if what.starts_with(&expected)), "{error}");
    }
}

#[test]
fn a_proxy_that_is_no_url_is_told_without_its_password() {
    let proxy = Some("http://alice:secret@[".to_owned());
    let client = client(&RegistrySettings { proxy, ..settings() }, &"registry.test".parse().unwrap());
    let error = read_blob(&client, &descriptor(BLOB)).unwrap_err();
    assert!(matches!(&error, RegistryError::Setup { what, .. } if what.starts_with("the proxy's URL: ")), "{error}");
    assert!(!format!("{error:?}{client:?}").contains("secret"), "{error:?}{client:?}");
}

#[test]
fn a_port_where_nobody_listens_is_told_at_once() {
    // The port of a connection's other end: taken, and nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let host: RegistryHost = taken.local_addr().unwrap().to_string().parse().unwrap();
    let error = read_blob(&client(&settings(), &host), &descriptor(BLOB)).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach the registry {host}: nobody listens there"));
    assert!(matches!(error, RegistryError::Unreachable { why: Unreached::Refused, .. }));
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(error.hints(), ["check the host's name and port, and the proxy if there is one"]);
}

#[test]
fn a_connection_that_is_never_made_is_given_up() {
    // The kernel accepts; nobody answers the TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let to = format!("https://{host}/1");
    let registry = FaultRegistry::start(move |_, _| Reply::redirect(&to));
    let limits = Limits { connect: Duration::from_millis(300), silence: Duration::from_secs(60), ..limits() };
    let settings = RegistrySettings { retries: 1, ..settings() };
    let client = Client::with_limits(&settings, &registry.host(), limits).unwrap();
    let start = Instant::now();
    let error = read_blob(&client, &descriptor(BLOB)).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach the registry {host}: it does not answer"));
    assert!(matches!(error, RegistryError::Unreachable { why: Unreached::Timeout, .. }));
    assert!(error.is_retryable());
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(20), "{took:?}");
}

/// Runs this binary's test `name` with `variables` and no other that names a proxy; returns what it printed of results.
fn in_child(name: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
    for scheme in ["http", "https", "all", "no"] {
        command.env_remove(format!("{scheme}_proxy")).env_remove(format!("{}_PROXY", scheme.to_uppercase()));
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| Some(line.split_once("RESULT ")?.1.to_owned())).collect()
}

/// In a child: reads the blob from `host`, trusting the certificates in `ca_dir`.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn report(host: &str, insecure: bool) {
    let host: RegistryHost = host.parse().unwrap();
    let insecure = if insecure { vec![host.clone()] } else { Vec::new() };
    let ca_dir = std::env::var_os("CA_DIR").map(Into::into);
    let proxy = std::env::var("EXPLICIT_PROXY").ok();
    let settings = RegistrySettings { insecure, ca_dir, proxy, retries: 0, ..settings() };
    let text = match read_blob(&client(&settings, &host), &descriptor(BLOB)) {
        Ok(bytes) => format!("{} bytes", bytes.len()),
        Err(error) => error.to_string(),
    };
    println!("\nRESULT {text}");
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn an_unknown_host_is_told_at_once() {
    if is_child() {
        return report("no-such-host.invalid", false);
    }
    let results = in_child("an_unknown_host_is_told_at_once", &[]);
    assert_eq!(results, ["cannot reach the registry no-such-host.invalid: its name is not known"]);
}

#[test]
fn an_https_proxy_tunnels_to_the_registry() {
    if is_child() {
        return report("registry.test", false);
    }
    let authority = Authority::new();
    let registry = FaultRegistry::start_tls(&authority, |_, _| Reply::ok(BLOB));
    let target = registry.address();
    let proxy = FaultRegistry::start(move |_, _| Reply::status(200).sent(Manner::Tunnel(target)));
    let directory = tempfile::tempdir().unwrap();
    authority.write(&directory.path().join("registry.test/ca.crt"));
    let ca_dir = directory.path().to_str().unwrap();
    let url = proxy.url("");
    for (number, variable) in ["HTTPS_PROXY", "https_proxy", "EXPLICIT_PROXY"].into_iter().enumerate() {
        let results = in_child("an_https_proxy_tunnels_to_the_registry", &[("CA_DIR", ca_dir), (variable, &url)]);
        assert_eq!(results, ["6 bytes"], "{variable}");
        let asked: Vec<_> = proxy.requests().into_iter().map(|request| (request.method, request.target)).collect();
        assert_eq!(asked, vec![("CONNECT".into(), "registry.test:443".into()); number + 1], "{variable}");
        assert_eq!(registry.headers("host"), vec![Some("registry.test".to_owned()); number + 1], "{variable}");
    }
    for variable in ["HTTPS_PROXY", "EXPLICIT_PROXY"] {
        let past = [("CA_DIR", ca_dir), (variable, url.as_str()), ("NO_PROXY", ".test")];
        let results = in_child("an_https_proxy_tunnels_to_the_registry", &past);
        assert_eq!(results, ["cannot reach the registry registry.test: its name is not known"], "{variable}");
    }
    assert_eq!(proxy.requests().len(), 3);
}

#[test]
fn an_http_proxy_is_asked_for_listed_hosts() {
    if is_child() {
        return report("registry.test:5000", true);
    }
    let proxy = FaultRegistry::start(|request, _| match request.method.as_str() {
        "GET" => Reply::ok(BLOB),
        _ => Reply::status(502),
    });
    let url = proxy.url("");
    let results = in_child("an_http_proxy_is_asked_for_listed_hosts", &[("HTTP_PROXY", &url), ("HTTPS_PROXY", &url)]);
    assert_eq!(results, ["6 bytes"]);
    let get = format!("http://registry.test:5000/v2/team/app/blobs/{}", descriptor(BLOB).digest);
    assert_eq!(proxy.targets(), ["registry.test:5000", get.as_str()]);
}

#[test]
fn loopback_is_never_asked_through_a_proxy() {
    if is_child() {
        return report(&std::env::var("HOST").unwrap(), false);
    }
    let registry = FaultRegistry::start(|_, _| Reply::ok(BLOB));
    let proxy = FaultRegistry::start(|_, _| Reply::status(502));
    let (host, url) = (registry.host().to_string(), proxy.url(""));
    let variables = [("HOST", host.as_str()), ("HTTP_PROXY", &url), ("EXPLICIT_PROXY", &url)];
    assert_eq!(in_child("loopback_is_never_asked_through_a_proxy", &variables), ["6 bytes"]);
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn a_host_that_nobody_listed_gets_no_plain_request() {
    if is_child() {
        return report("registry.test:5000", false);
    }
    let proxy = FaultRegistry::start(|_, _| Reply::status(502));
    let url = proxy.url("");
    let variables = [("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", &url)];
    let results = in_child("a_host_that_nobody_listed_gets_no_plain_request", &variables);
    assert_eq!(results, ["cannot reach the registry registry.test:5000"]);
    assert_eq!(proxy.targets(), ["registry.test:5000"]);
}
