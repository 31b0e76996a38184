//! `udocker resolve`: what a name stands for now, by the stores, by the registry, or by its answer of a moment ago.

use std::net::TcpListener;
use std::time::Instant;

use udocker_tests::images::Kind;
use udocker_tests::{Fault, FaultProxy, Registry, TestEnv, code, run, stderr, stdout};

fn resolved(env: &TestEnv, words: &[&str]) -> String {
    stdout(&run(&mut env.udocker(&[&["resolve"], words].concat())))
}

/// A registry with an index, what counts before it, the reference, and the reference by the index's digest.
fn served(env: &TestEnv) -> (Registry, FaultProxy, String, String) {
    let registry = Registry::start(env);
    let proxy = FaultProxy::start(&registry.host, 1);
    let reference = registry.serve(Kind::Multi).replace(&registry.host, &proxy.host);
    let pinned = format!("{}@{}\n", reference.trim_end_matches(":latest"), Kind::Multi.image().digest());
    (registry, proxy, reference, pinned)
}

#[test]
fn a_registry_is_asked_once_a_minute_for_one_head() {
    let env = TestEnv::ordinary();
    let (_registry, proxy, reference, pinned) = served(&env);
    let asked = ["HEAD /v2/test/multi/manifests/latest"];
    for _ in 0..2 {
        assert_eq!(resolved(&env, &[&reference]), pinned);
        assert_eq!(proxy.requests(), asked);
    }
    assert_eq!(resolved(&env, &["--pull=always", &reference]), pinned);
    assert_eq!(proxy.requests(), [asked, asked].concat());
    assert_eq!(resolved(&env, &[pinned.trim_end()]), pinned);
    assert_eq!(proxy.requests().len(), 2, "a digest is itself");
    assert_eq!(env.trees().len(), 0);
}

#[test]
fn a_store_is_asked_before_the_registry() {
    let env = TestEnv::ordinary();
    let (registry, proxy, reference, pinned) = served(&env);
    run(&mut env.udocker(&["pull", &reference]));
    drop((registry, proxy));
    assert_eq!(resolved(&env, &[&reference]), pinned);
    assert_eq!(resolved(&env, &["--pull=never", &reference]), pinned);
    // What the registry had is not asked for by a rank either.
    assert_eq!(stdout(&run(&mut env.launch(&["--pull=never", pinned.trim_end(), "cat", "/etc/arch"]))), "amd64\n");
    env.import_busybox("local:1");
    let local = resolved(&env, &["local:1"]);
    assert!(local.starts_with("local@sha256:"), "{local}");
    assert_eq!(stdout(&run(&mut env.launch(&[local.trim_end(), "echo", "runs"]))), "runs\n");
    run(&mut env.udocker(&["create", "--name=work", "local:1"]));
    assert_eq!(resolved(&env, &["work"]), "work\n");
    assert_eq!(resolved(&env, &["/some/root"]), "/some/root\n");
}

#[test]
fn a_registry_that_tells_no_digest_is_asked_for_the_document() {
    let env = TestEnv::ordinary();
    let (_registry, proxy, reference, pinned) = served(&env);
    let image = Kind::Multi.image();
    let body = std::fs::read(image.blob(&image.digest())).unwrap();
    let headers = vec!["Content-Type: application/vnd.oci.image.index.v1+json".into()];
    proxy.add("/manifests/", u64::MAX, Fault::Answer { status: "200 OK", headers, body });
    assert_eq!(resolved(&env, &[&reference]), pinned);
    assert_eq!(proxy.requests(), ["HEAD /v2/test/multi/manifests/latest", "GET /v2/test/multi/manifests/latest"]);
}

#[test]
fn what_cannot_be_resolved_is_told_in_time() {
    let env = TestEnv::ordinary();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/x:1", silent.local_addr().unwrap());
    let since = Instant::now();
    let output = env.udocker(&["resolve", &reference]).output().unwrap();
    let told = format!(
        "Error: cannot ask for the digest of {reference}: its registry did not answer within 5 s\n  \
         hint: `udocker pull {reference}` gets it into your store, which is asked first\n"
    );
    assert_eq!((code(&output), stderr(&output)), (1, told));
    assert!((5..8).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    let (_registry, proxy, present, _) = served(&env);
    let missing = present.replace(":latest", ":none");
    for (words, message) in [
        (&["resolve", "--pull=never", &missing][..], "is in no store, and `--pull=never` forbids"),
        (&["resolve", &missing], "answered 404 for tag `none`"),
        (&["resolve"], "must specify image:tag or repository/image:tag"),
    ] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(code(&output), 1, "{words:?}");
        assert!(stderr(&output).contains(message), "{words:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    // A refusal is not asked for twice.
    assert_eq!(proxy.requests().iter().filter(|request| request.contains("/none")).count(), 1);
}
