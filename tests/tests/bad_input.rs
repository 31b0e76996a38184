//! What cannot work: one clear error with a hint, the status of Docker or udocker, and nothing half-made in the store.

use std::fs;
use std::process::{Command, Output};

use udocker_tests::images::{Kind, Layer, Recipe};
use udocker_tests::{Fault, FaultProxy, Registry, TestEnv, children, run, stderr, stdout};

/// Asserts one error that holds all of `texts`, a hint, and a store without anything of an image.
#[track_caller]
fn assert_refused(env: &TestEnv, output: &Output, status: i32, texts: &[&str]) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert_eq!(error.lines().filter(|line| line.starts_with("Error: ")).count(), 1, "{error}");
    assert!(error.contains("\n  hint: "), "{error}");
    for text in texts {
        assert!(error.contains(text), "`{text}` is not in: {error}");
    }
    assert_eq!(stdout(output), "");
    for directory in ["tmp", "layers", "records/sha256", "rootfs/1", "repos", "containers"] {
        let left = children(&env.store().join(directory));
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_is_not_there() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    registry.serve(Kind::Busybox);
    let host = &registry.host;
    for (image, text) in [
        (format!("{host}/test/nothing:1"), "answered 404"),
        (format!("{host}/test/busybox:nothing"), "answered 404 MANIFEST_UNKNOWN"),
        (format!("{host}/test/busybox@sha256:{}", "0".repeat(64)), "answered 404"),
        ("no-such-host.invalid/a:1".into(), "no-such-host.invalid"),
        ("127.0.0.1:1/a:1".into(), "cannot reach the registry 127.0.0.1:1"),
    ] {
        assert_refused(&env, &env.udocker(&["pull", &image]).output().unwrap(), 1, &[text, &image]);
        assert_refused(&env, &env.udocker(&["run", &image, "true"]).output().unwrap(), 125, &[text]);
    }
}

#[test]
fn a_host_without_certificates_trusts_no_registry() {
    let env = TestEnv::ordinary();
    let image = "no-such-host.invalid/a:1";
    let texts = [
        image,
        "cannot set up the connection to no-such-host.invalid: no CA certificates were found on this host\n  hint: install the \
         package ca-certificates, or name a file of certificates by the variable SSL_CERT_FILE\n",
    ];
    let output = env.udocker(&["pull", image]).env("SSL_CERT_FILE", "/dev/null").output().unwrap();
    assert_refused(&env, &output, 1, &texts);
}

#[test]
fn a_registry_that_lies_or_stammers() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = registry.serve(Kind::Busybox);
    let layer = Kind::Busybox.image().manifest("amd64")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let json = |body: &str| Fault::Answer {
        status: "200 OK",
        headers: vec!["Content-Type: application/vnd.oci.image.manifest.v1+json".into()],
        body: body.into(),
    };
    for (path, fault, texts) in [
        (&*layer, Fault::Corrupt(70_000), &["is corrupt", &*layer][..]),
        (&layer, Fault::Cut(70_000), &[&*layer]),
        ("/manifests/", json("{\"schemaVersion\": 2, \"lay"), &["manifest"]),
        ("/manifests/", json("{}"), &["manifest"]),
        ("/manifests/", json("{\"schemaVersion\": 2, \"layers\": [], \"manifests\": []}"), &["manifest"]),
        ("/manifests/", json("<html>log in to the wireless network</html>"), &["manifest"]),
    ] {
        let proxy = FaultProxy::start(&registry.host, 1);
        proxy.add(path, u64::MAX, fault.clone());
        let reference = image.replace(&registry.host, &proxy.host);
        let output = env.udocker(&["pull", &reference]).output().unwrap();
        let mut texts = texts.to_vec();
        texts.push(&reference);
        assert_refused(&env, &output, 1, &texts);
    }
}

#[test]
fn an_image_for_another_machine() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = registry.serve(Kind::Multi);
    let output = env.udocker(&["pull", "--platform=linux/s390x", &image]).output().unwrap();
    assert_refused(&env, &output, 1, &["linux/s390x", "linux/amd64", "linux/arm64"]);
    let output = env.udocker(&["run", "--platform=linux/s390x", &image, "true"]).output().unwrap();
    assert_refused(&env, &output, 125, &["linux/s390x"]);
    // Of this machine's own platform nobody says that it does not run here.
    let image = registry.serve(Kind::Truth);
    let native = udocker_core::platform::Platform::native();
    let output = env.udocker(&["pull", "--platform=linux/s390x", &image]).output().unwrap();
    assert_refused(&env, &output, 1, &[&format!("`--platform={native}` pulls it all the same\n")]);
}

/// The command with `setup` done before it in a mount namespace of its own; `$0` is the store.
fn behind(env: &TestEnv, setup: &str, words: &[&str]) -> Output {
    let inner = env.udocker(words);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{setup} && exec \"$@\"")]).arg(env.store());
    if let Some(uid) = env.uid() {
        command.arg("setpriv").args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]);
    }
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).output().unwrap()
}

#[test]
fn a_full_disk() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    // One layer is larger than the disk, the other packs so well that only extraction finds out.
    let large = registry.serve(Kind::Many);
    let scratch = tempfile::tempdir().unwrap();
    let zeros = Layer::new().file("zeros", 0o644, vec![0; 30 << 20]).finish();
    fs::write(scratch.path().join("zeros.tar"), zeros).unwrap();
    let image = Recipe::new(vec![scratch.path().join("zeros.tar")]).write(&scratch.path().join("zeros"));
    let zeros = registry.publish(&image, "zeros");
    let tmpfs = |size: &str| format!("mount -t tmpfs -o size={size},mode=1777 none $0");
    for (size, image, texts) in [
        ("1m", &large, &["bytes free, and the image needs at least"][..]),
        ("8m", &zeros, &["zeros", "No space left on device"]),
        ("64m,nr_inodes=80", &large, &[" more files, and the image needs at least 104"]),
        ("64m,nr_inodes=200", &large, &["No space left on device"]),
    ] {
        let script = format!("{} && (set -- \"$@\"; \"$@\"; s=$?; find $0 -type f >&2; exit $s) && true", tmpfs(size));
        let output = behind(&env, &script, &["pull", image]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        for text in texts {
            assert!(error.contains(text), "`{text}` is not in: {error}");
        }
        assert!(error.contains("\n  hint: ") && error.contains("UDOCKER_DIR"), "{error}");
        let store = format!("{}/", env.store().display());
        let mut left = error.lines().filter_map(|line| line.strip_prefix(&store)).collect::<Vec<_>>();
        left.sort_unstable();
        assert_eq!(left, ["udocker.lock", "udocker.store"], "{error}");
    }
}

#[test]
fn a_read_only_store() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = registry.serve(Kind::Busybox);
    let read_only = "mount --bind $0 $0 && mount -o remount,bind,ro $0";
    let output = behind(&env, read_only, &["pull", &image]);
    assert_refused(&env, &output, 1, &["Read-only file system", "UDOCKER_DIR"]);
    run(&mut env.udocker(&["pull", &image]));
    let output = behind(&env, read_only, &["run", &image, "echo", "here"]);
    assert_eq!((stdout(&output), output.status.code()), ("here\n".into(), Some(0)), "{}", stderr(&output));
}

#[test]
fn what_a_run_lacks() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = registry.serve(Kind::Busybox);
    run(&mut env.udocker(&["pull", &image]));
    for (words, status, text) in [
        (&["run", "--workdir=/nothere", &image, "true"][..], 125, "/nothere"),
        (&["run", "-v", "/nothere:/x", &image, "true"], 125, "/nothere"),
        (&["run", &image, "nothere"], 127, "nothere"),
        (&["run", &image, "/nothere"], 127, "/nothere"),
        (&["run", &image, "/etc/passwd"], 126, "/etc/passwd"),
        (&["run", &image, "/etc"], 126, "/etc"),
    ] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", stderr(&output));
        let error = stderr(&output);
        assert!(
            error.starts_with("Error: ") && error.contains(text) && error.contains("\n  hint: "),
            "{words:?}: {error}"
        );
        assert_eq!(stdout(&output), "", "{words:?}");
    }
}

#[test]
fn a_machine_without_user_namespaces() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = registry.serve(Kind::Busybox);
    run(&mut env.udocker(&["pull", &image]));
    let inner = env.udocker(&["run", "--mode=N1", &image, "true"]);
    let mut command = Command::new("unshare");
    // A limit of this user namespace: inside it nobody can make another one.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs \"$@\"";
    command.args(["-Ur", "sh", "-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(uid) = env.uid() {
        std::os::unix::process::CommandExt::gid(std::os::unix::process::CommandExt::uid(&mut command, uid), uid);
    }
    let output = command.output().unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("user namespace") && error.contains("max_user_namespaces"), "{error}");
    assert!(error.contains("\n  hint: "), "{error}");
}
