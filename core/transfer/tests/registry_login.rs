//! Logging in: challenges, tokens, passwords, and where they are never sent.

#[allow(dead_code, reason = "every test binary uses a part")]
mod fault_registry;

use std::os::unix::fs::PermissionsExt;

use fault_registry::*;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::reference::RegistryHost;
use udocker_core::settings::RegistrySettings;
use udocker_transfer::registry::{Gate, Keystore, RegistryError, Secret, gate, try_login};

const BLOB: &[u8] = b"a blob";
/// `alice:secret`
const BASIC: &str = "Basic YWxpY2U6c2VjcmV0";

fn bearer(realm: &str) -> Reply {
    Reply::status(401)
        .with("WWW-Authenticate", &format!(r#"Bearer realm="{realm}",service="here",scope="repository:team/app:pull""#))
}

/// Settings with alice's password for `host`.
fn with_login(directory: &tempfile::TempDir, host: &RegistryHost) -> RegistrySettings {
    let keystore = directory.path().join("keystore");
    std::fs::write(&keystore, format!(r#"{{"https://{host}/v1/":{{"auth":"YWxpY2U6c2VjcmV0","email":""}}}}"#)).unwrap();
    std::fs::set_permissions(&keystore, PermissionsExt::from_mode(0o600)).unwrap();
    RegistrySettings { keystore: Some(keystore), ..settings() }
}

#[test]
fn a_bearer_token_is_fetched_once_and_kept() {
    let registry =
        FaultRegistry::start(|request, _| match (request.target.as_str(), request.header("authorization")) {
            (target, None) if target.starts_with("/token") => Reply::ok(br#"{"token":"T1","expires_in":300}"#),
            (_, Some("Bearer T1")) => Reply::ok(BLOB),
            _ => bearer(&format!("http://{}/token?account=a", request.header("host").unwrap())),
        });
    let client = registry.client();
    for _ in 0..2 {
        assert_eq!(read_blob(&client, &descriptor(BLOB)).unwrap(), BLOB);
    }
    let blob = format!("/v2/team/app/blobs/{}", descriptor(BLOB).digest);
    let token = "/token?account=a&service=here&scope=repository%3Ateam%2Fapp%3Apull".to_owned();
    assert_eq!(registry.targets(), [blob.clone(), token, blob.clone(), blob]);
    let bearer = Some("Bearer T1".to_owned());
    assert_eq!(registry.headers("authorization"), [None, None, bearer.clone(), bearer]);
}

#[test]
fn an_expired_token_is_renewed() {
    let registry = FaultRegistry::start(|request, number| match (request.target.as_str(), number) {
        ("/token?service=here&scope=repository%3Ateam%2Fapp%3Apull", _) => {
            Reply::ok(format!(r#"{{"access_token":"T{number}"}}"#).as_bytes())
        }
        (_, 0 | 3) => bearer(&format!("http://{}/token", request.header("host").unwrap())),
        _ => Reply::ok(BLOB),
    });
    let client = registry.client();
    for _ in 0..2 {
        assert_eq!(read_blob(&client, &descriptor(BLOB)).unwrap(), BLOB);
    }
    let authorizations = registry.headers("authorization");
    let expected = [None, None, Some("Bearer T1"), Some("Bearer T1"), None, Some("Bearer T4")];
    assert_eq!(authorizations, expected.map(|value| value.map(ToOwned::to_owned)));
}

#[test]
fn a_password_goes_to_basic_registries_and_to_token_servers() {
    for realm in [None, Some("/token")] {
        let registry = FaultRegistry::start(move |request, _| {
            let own = |path| format!("http://{}{path}", request.header("host").unwrap());
            match (request.target.as_str(), request.header("authorization"), realm) {
                (_, Some(BASIC), None) | (_, Some("Bearer T"), Some(_)) => Reply::ok(BLOB),
                (target, Some(BASIC), Some(_)) if target.starts_with("/token?") => Reply::ok(br#"{"token":"T"}"#),
                (_, _, Some(path)) => bearer(&own(path)),
                (_, _, None) => Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\""),
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let client = client(&with_login(&directory, &registry.host()), &registry.host());
        assert_eq!(read_blob(&client, &descriptor(BLOB)).unwrap(), BLOB, "{realm:?}");
        let authorizations: Vec<_> = registry.headers("authorization").into_iter().flatten().collect();
        let expected: &[&str] = if realm.is_some() { &[BASIC, "Bearer T"] } else { &[BASIC] };
        assert_eq!(authorizations, expected, "{realm:?}");
        assert!(!format!("{client:?}").contains("alice"), "{client:?}");
        assert!(!format!("{client:?}").contains("Bearer T"), "{client:?}");
    }
}

#[test]
fn a_wrong_password_is_named_and_not_tried_again() {
    for realm in [None, Some("/token")] {
        let registry = FaultRegistry::start(move |request, _| match realm {
            Some(path) if !request.target.starts_with("/token") => {
                bearer(&format!("http://{}{path}", request.header("host").unwrap()))
            }
            _ => Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\""),
        });
        let directory = tempfile::tempdir().unwrap();
        let client = client(&with_login(&directory, &registry.host()), &registry.host());
        let error = read_blob(&client, &descriptor(BLOB)).unwrap_err();
        let host = registry.host();
        assert_eq!(error.to_string(), format!("the registry {host} refuses the password of user `alice`"));
        assert!(matches!(&error, RegistryError::Password { user, .. } if user == "alice"));
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.hints(), [format!("`udocker login --registry=https://{host}` stores another")]);
        assert_eq!(registry.requests().len(), 2, "{realm:?}");
    }
}

#[test]
fn a_registry_that_wants_a_password_says_so_without_one() {
    let registry = FaultRegistry::start(|_, _| Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\""));
    let error = read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err();
    let host = registry.host();
    let expected = format!(
        "cannot log in to the registry {host}: it wants a user and a password; `udocker login --registry=https://{host}` \
         stores them"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn an_unknown_challenge_is_an_error() {
    let registry = FaultRegistry::start(|_, _| Reply::status(401).with("WWW-Authenticate", "Negotiate"));
    let error = read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err();
    let what = "it asks for no way of logging in that is known (Basic, Bearer)";
    assert!(matches!(&error, RegistryError::Login { what: w, .. } if w == what), "{error}");
}

#[test]
fn a_token_that_helps_nothing_is_an_error_after_one_try() {
    let registry = FaultRegistry::start(|request, _| match request.target.starts_with("/token") {
        true => Reply::ok(br#"{"token":"T"}"#),
        false => bearer(&format!("http://{}/token", request.header("host").unwrap())),
    });
    let error = read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 401, .. }), "{error}");
    assert_eq!(registry.requests().len(), 3);
}

#[test]
fn a_foreign_realm_in_clear_gets_no_request() {
    let foreign = FaultRegistry::start(|_, _| Reply::ok(br#"{"token":"T"}"#));
    let realm = foreign.url("/token");
    let shown = realm.clone();
    let registry = FaultRegistry::start(move |_, _| bearer(&realm));
    let directory = tempfile::tempdir().unwrap();
    let client = client(&with_login(&directory, &registry.host()), &registry.host());
    let error = read_blob(&client, &descriptor(BLOB)).unwrap_err();
    let expected = format!("its token server {shown} is neither https nor the registry itself");
    assert!(matches!(&error, RegistryError::Login { what, .. } if *what == expected), "{error}");
    assert_eq!(registry.headers("authorization"), [None]);
    assert_eq!(foreign.requests().len(), 0);
}

#[test]
fn bad_tokens_are_told_apart() {
    for (token, expected) in [
        (&b"{"[..], "its token is unreadable"),
        (b"{}", "its token server sent none"),
        (br#"{"token":"a\nb"}"#, "its token is no text"),
    ] {
        let registry = FaultRegistry::start(move |request, _| match request.target.starts_with("/token") {
            true => Reply::ok(token),
            false => bearer(&format!("http://{}/token", request.header("host").unwrap())),
        });
        let error = read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err();
        assert!(matches!(&error, RegistryError::Login { what, .. } if what == expected), "{error}");
    }
}

#[test]
fn a_token_of_more_than_64_kib_is_refused() {
    let registry = FaultRegistry::start(|request, _| match request.target.starts_with("/token") {
        true => Reply::ok(&vec![b' '; (64 << 10) + 1]).sent(Manner::Chunked),
        false => bearer(&format!("http://{}/token", request.header("host").unwrap())),
    });
    let error = read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err();
    assert!(matches!(&error, RegistryError::TooLarge { what, limit: 65536, .. } if what == "the token"), "{error}");
}

#[test]
fn a_busy_token_server_is_asked_again() {
    let registry = FaultRegistry::start(|request, number| {
        match (request.target.starts_with("/token"), request.header("authorization"), number) {
            (true, _, 1) => Reply::status(503),
            (true, _, _) => Reply::ok(br#"{"token":"T"}"#),
            (_, Some("Bearer T"), _) => Reply::ok(BLOB),
            _ => bearer(&format!("http://{}/token", request.header("host").unwrap())),
        }
    });
    assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB);
    assert_eq!(registry.requests().len(), 5);
}

#[test]
fn a_keystore_that_cannot_be_used_stops_what_needs_credentials_alone() {
    let open = FaultRegistry::start(|_, _| Reply::ok(BLOB));
    let closed = FaultRegistry::start(|_, _| Reply::status(401).with("www-authenticate", "Basic realm=\"x\""));
    let directory = tempfile::tempdir().unwrap();
    let settings = with_login(&directory, &closed.host());
    let keystore = settings.keystore.clone().unwrap();
    let shown = keystore.display();
    for (text, mode, expected) in [
        (None, 0o640, format!("{shown} holds passwords and others may read it; `chmod 600 {shown}` mends that")),
        (Some("x"), 0o600, format!("{shown} is no keystore: expected value at line 1 column 1")),
        (
            Some(""),
            0o600,
            format!("it wants a user and a password; `udocker login --registry=https://{}` stores them", closed.host()),
        ),
    ] {
        if let Some(text) = text {
            std::fs::write(&keystore, text).unwrap();
        }
        std::fs::set_permissions(&keystore, PermissionsExt::from_mode(mode)).unwrap();
        let of = |registry: &FaultRegistry| {
            let client = udocker_transfer::registry::Client::new(&settings, &registry.host()).unwrap();
            read_blob(&client, &descriptor(BLOB))
        };
        assert_eq!(of(&open).unwrap(), BLOB, "{expected}");
        let error = of(&closed).unwrap_err();
        assert!(matches!(&error, RegistryError::Login { what, .. } if *what == expected), "{error}");
    }
}

/// Settings with a `config.json` of Docker's and no keystore.
fn with_config(directory: &tempfile::TempDir, text: &str) -> RegistrySettings {
    let path = directory.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    RegistrySettings { docker_configs: vec![directory.path().join("absent.json"), path], ..settings() }
}

#[test]
fn passwords_of_dockers_files_are_used_after_the_keystores() {
    let registry = FaultRegistry::start(|request, _| match request.header("authorization") {
        Some(_) => Reply::ok(BLOB),
        None => Reply::status(401).with("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let host = registry.host();
    let directory = tempfile::tempdir().unwrap();
    // `bob:pw` twice.
    for entry in [r#"{"auth":"Ym9iOnB3"}"#, r#"{"username":"bob","password":"pw"}"#] {
        let text =
            format!(r#"{{"auths":{{"other":{{"auth":"eDp5"}},"https://{host}/v2/":{entry}}},"HttpHeaders":{{}}}}"#);
        let config = with_config(&directory, &text);
        assert_eq!(read_blob(&client(&config, &host), &descriptor(BLOB)).unwrap(), BLOB);
        let both = RegistrySettings { docker_configs: config.docker_configs, ..with_login(&directory, &host) };
        assert_eq!(read_blob(&client(&both, &host), &descriptor(BLOB)).unwrap(), BLOB);
    }
    let authorizations: Vec<_> = registry.headers("authorization").into_iter().flatten().collect();
    assert_eq!(authorizations, ["Basic Ym9iOnB3", BASIC, "Basic Ym9iOnB3", BASIC]);
}

#[test]
fn an_identity_token_is_posted_and_never_part_of_a_url() {
    let registry = FaultRegistry::start(|request, _| {
        match (request.method.as_str(), request.target.as_str(), request.header("authorization")) {
            ("POST", "/token", None) => Reply::ok(br#"{"access_token":"T"}"#),
            (_, _, Some("Bearer T")) => Reply::ok(BLOB),
            _ => bearer(&format!("http://{}/token", request.header("host").unwrap())),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"eDo=","identitytoken":"a b&c"}}}}}}"#, registry.host());
    let client = client(&with_config(&directory, &text), &registry.host());
    assert_eq!(read_blob(&client, &descriptor(BLOB)).unwrap(), BLOB);
    let form = "grant_type";
    assert!(registry.targets().iter().all(|target| !target.contains(form) && !target.contains("a+b")));
    assert!(!format!("{client:?}").contains("a b&c"), "{client:?}");
}

#[test]
fn what_a_broken_file_holds_is_told_only_where_a_password_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let open = FaultRegistry::start(|request, _| match request.target.starts_with("/token") {
        true => Reply::ok(br#"{"token":"T"}"#),
        false if request.header("authorization") == Some("Bearer T") => Reply::ok(BLOB),
        false => bearer(&format!("http://{}/token", request.header("host").unwrap())),
    });
    let config = with_config(&directory, "{\n \"auths\": 5}");
    assert_eq!(read_blob(&client(&config, &open.host()), &descriptor(BLOB)).unwrap(), BLOB);
    let path = directory.path().join("config.json");
    let expected = format!("cannot read {}: line 2, column 11", path.display());
    for challenge in ["Basic realm=\"r\"", "Bearer realm=\"REALM\""] {
        let closed = FaultRegistry::start(move |request, _| match request.target.starts_with("/token") {
            true => Reply::ok(br#"{"token":"T"}"#),
            false => {
                let realm = format!("http://{}/token", request.header("host").unwrap());
                Reply::status(401).with("WWW-Authenticate", &challenge.replace("REALM", &realm))
            }
        });
        let error = read_blob(&client(&config, &closed.host()), &descriptor(BLOB)).unwrap_err();
        assert!(matches!(&error, RegistryError::Login { what, .. } if *what == expected), "{error}");
    }
}

#[test]
fn a_password_goes_to_no_other_token_server_than_at_the_login() {
    let registry = FaultRegistry::start(|request, _| match request.target.starts_with("/token") {
        true => Reply::ok(br#"{"token":"T"}"#),
        false => bearer(&format!("http://{}/token", request.header("host").unwrap())),
    });
    let directory = tempfile::tempdir().unwrap();
    let (host, password) = (registry.host(), Secret::new("secret"));
    let keystore = directory.path().join("keystore");
    Keystore::at(&keystore).put(&format!("https://{host}"), &host, "alice", &password, Some("auth.test")).unwrap();
    let settings = RegistrySettings { keystore: Some(keystore), ..settings() };
    let error = read_blob(&client(&settings, &host), &descriptor(BLOB)).unwrap_err();
    let expected = format!(
        "its token server was auth.test and is now {host}; `udocker login --registry=https://{host}` allows that"
    );
    assert!(matches!(&error, RegistryError::Login { what, .. } if *what == expected), "{error}");
    assert_eq!(registry.headers("authorization"), [None]);
}

#[test]
fn a_login_is_tried_before_it_is_stored() {
    let registry =
        FaultRegistry::start(|request, _| match (request.target.as_str(), request.header("authorization")) {
            (target, Some(BASIC)) if target.starts_with("/token?") => Reply::ok(br#"{"token":"T"}"#),
            (target, _) if target.starts_with("/token?") => Reply::status(401),
            (_, Some("Bearer T")) => Reply::ok(b"{}"),
            _ => Reply::status(401).with(
                "WWW-Authenticate",
                &format!(r#"Bearer realm="http://{}/token",service="here""#, request.header("host").unwrap()),
            ),
        });
    let host = registry.host();
    let gate = gate(&settings(), &host).unwrap();
    assert_eq!(gate, Gate::TokenServer { host: host.to_string(), related: true });
    try_login(&settings(), &host, "alice", &Secret::new("secret")).unwrap();
    let error = try_login(&settings(), &host, "alice", &Secret::new("other")).unwrap_err();
    assert!(matches!(&error, RegistryError::Password { user, .. } if user == "alice"), "{error}");
    let token = "/token?service=here&account=alice";
    assert_eq!(registry.targets(), ["/v2/", "/v2/", token, "/v2/", "/v2/", token]);
}
