//! Pulling from Debian's docker-registry: references, repetition, what stays in the store.

use std::path::PathBuf;
use std::process::Command;

use udocker_tests::{Registry, TestEnv, run, stderr, stdout};

/// An OCI layout of three layers over busybox; the last one hides and adds. `options`: see the script.
fn layout_of(env: &TestEnv, options: &[&str]) -> PathBuf {
    let layout = env.path(&format!("layout-{}", options.join("-")));
    let tar = env.busybox_tar();
    let script = include_str!("../images/layout.py");
    run(Command::new("python3").arg("-c").arg(script).arg(&layout).arg(&tar).args(options));
    layout
}

fn layout(env: &TestEnv) -> PathBuf {
    layout_of(env, &[])
}

/// Every path of the image's tree with type, mode, size, time and target.
fn tree(env: &TestEnv, reference: &str) -> String {
    let root = stdout(&run(&mut env.udocker(&["inspect", "-p", reference])));
    let listed = run(Command::new("find").arg(root.trim()).args(["-printf", "%P %y %m %s %T@ %l\n"]));
    let mut lines: Vec<String> = stdout(&listed).lines().filter(|line| !line.contains(" d ")).map(Into::into).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn every_codec_gives_the_same_tree() {
    let env = TestEnv::new();
    let registry = Registry::start(&env);
    let trees: Vec<String> = ["gzip", "zstd", "plain"]
        .into_iter()
        .map(|codec| {
            registry.push(&layout_of(&env, &[codec]), "t", &format!("test/{codec}:t"));
            let reference = format!("{}/test/{codec}:t", registry.host);
            run(&mut env.udocker(&["pull", &reference]));
            tree(&env, &reference)
        })
        .collect();
    assert!(trees[0].contains("etc/new f 644 4 1700000000.0000000000"), "{}", trees[0]);
    assert_eq!(trees[0], trees[1]);
    assert_eq!(trees[0], trees[2]);
}

#[test]
fn an_image_that_claims_another_one_s_diff_ids_gets_its_own_tree() {
    let env = TestEnv::new();
    let registry = Registry::start(&env);
    registry.push(&layout_of(&env, &["gzip"]), "t", "test/honest:t");
    registry.push(&layout_of(&env, &["gzip", "a lie"]), "t", "test/liar:t");
    let (honest, liar) = (format!("{}/test/honest:t", registry.host), format!("{}/test/liar:t", registry.host));
    for order in [[&honest, &liar], [&liar, &honest]] {
        for reference in order {
            run(&mut env.udocker(&["pull", reference]));
        }
        for (reference, text) in [(&honest, "new\n"), (&liar, "a lie\n")] {
            assert_eq!(stdout(&run(&mut env.udocker(&["run", reference, "cat", "/etc/new"]))), text);
            run(&mut env.udocker(&["rmi", reference]));
        }
    }
}

#[test]
fn by_tag_and_by_digest_and_what_is_hidden_stays_hidden() {
    let env = TestEnv::new();
    let registry = Registry::start(&env);
    registry.push(&layout(&env), "t", "test/two:t");
    let reference = format!("{}/test/two:t", registry.host);
    run(&mut env.udocker(&["pull", &reference]));
    assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), format!("REPOSITORY\n{reference}    .\n"));
    let root = stdout(&run(&mut env.udocker(&["inspect", "-p", &reference])));
    let tests = ["(", "-path", "*/etc/*", "-o", "-path", "*/opq*", "-o", "-name", "link", ")"];
    let format = ["-printf", "%P %y %m %T@ %l\n"];
    let listed = stdout(&run(Command::new("find").arg(root.trim()).args(tests).args(format)));
    let mut lines: Vec<&str> = listed.lines().filter(|line| !line.starts_with("etc/passwd")).collect();
    lines.sort_unstable();
    let time = "1700000000.0000000000";
    let expected = [
        format!("etc/new f 644 {time} "),
        format!("link l 777 {time} target"),
        // Its own entry is in the lower layer, and stays.
        format!("opq d 755 {time} "),
        format!("opq/after f 644 {time} "),
    ];
    assert_eq!(lines, expected);
    run(&mut env.udocker(&["run", &reference, "cat", "/etc/new"]));

    let manifest = std::fs::read(env.path("store/repos").join(&registry.host).join("test/two/t/manifest")).unwrap();
    let digest = udocker_core::digest::Digest::sha256_of(&manifest);
    let pinned = format!("{}/test/two@{digest}", registry.host);
    run(&mut env.udocker(&["pull", &pinned]));
    run(&mut env.udocker(&["run", "--pull=never", &pinned, "true"]));
    // Once here, no registry is needed.
    drop(registry);
    run(&mut env.udocker(&["run", &reference, "true"]));
    run(&mut env.udocker(&["rmi", &reference]));
    run(&mut env.udocker(&["rmi", &pinned]));
    let left = stdout(&run(Command::new("find").arg(env.path("store")).args(["-type", "f", "-printf", "%P\n"])));
    let mut left: Vec<_> = left.lines().collect();
    left.sort_unstable();
    assert_eq!(left, ["udocker.lock", "udocker.store"]);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let env = TestEnv::new();
    let registry = Registry::start(&env);
    registry.push(&layout(&env), "t", "test/two:t");
    let host = &registry.host;
    for (reference, message) in [
        (format!("{host}/test/two:nope"), "answered 404 MANIFEST_UNKNOWN"),
        (format!("{host}/no/such:1"), "answered 404"),
        ("127.0.0.1:1/a:1".to_owned(), "cannot reach the registry 127.0.0.1:1"),
        ("UPPER".to_owned(), "is no image name"),
    ] {
        let output = env.udocker(&["pull", &reference]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{reference}");
        assert!(stderr(&output).contains(message), "{reference}: {}", stderr(&output));
    }
    let output = env.udocker(&["pull", "--platform=linux/s390x", &format!("{host}/test/two:t")]).output().unwrap();
    assert!(stderr(&output).contains("the image is for linux/amd64, not for linux/s390x"), "{}", stderr(&output));
    assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), "REPOSITORY\n");
    let left = stdout(&run(Command::new("find").arg(env.path("store")).args(["-type", "f", "-printf", "%P\n"])));
    assert_eq!(left, "udocker.store\n");
}

#[test]
fn a_damaged_stored_blob_is_fetched_anew() {
    let env = TestEnv::new();
    let registry = Registry::start(&env);
    registry.push(&layout(&env), "t", "test/heal:t");
    let reference = format!("{}/test/heal:t", registry.host);
    run(&mut env.udocker(&["pull", &reference]));
    let wanted = tree(&env, &reference);
    let blobs = || -> Vec<PathBuf> {
        let list = std::fs::read_dir(env.path("store/layers")).unwrap();
        let mut paths: Vec<PathBuf> = list.map(|entry| entry.unwrap().path()).collect();
        paths.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
        paths
    };
    let whole: Vec<Vec<u8>> = blobs().iter().map(|path| std::fs::read(path).unwrap()).collect();
    for (case, damage) in [
        ("a bit", (|bytes| bytes[700] ^= 1) as fn(&mut Vec<u8>)),
        ("its end", |bytes| bytes.truncate(900)),
        ("too long", |bytes| bytes.extend(b"more")),
        ("empty", |bytes| bytes.clear()),
    ] {
        let largest = blobs().pop().unwrap();
        let mut bytes = std::fs::read(&largest).unwrap();
        damage(&mut bytes);
        std::fs::write(&largest, &bytes).unwrap();
        for directory in ["rootfs", "records"] {
            udocker_core::store::remove_tree(&env.path("store").join(directory)).unwrap();
        }
        let run_it = env.udocker(&["run", "--pull=never", &reference, "true"]).output().unwrap();
        assert_eq!(run_it.status.code(), Some(125), "{case}");
        let message = format!("the stored blob {} is damaged", largest.display());
        assert!(stderr(&run_it).contains(&message), "{case}: {}", stderr(&run_it));
        let healed = run(&mut env.udocker(&["pull", &reference]));
        assert!(stderr(&healed).contains("is damaged and is fetched anew"), "{case}: {}", stderr(&healed));
        assert_eq!(tree(&env, &reference), wanted, "{case}");
        let now: Vec<Vec<u8>> = blobs().iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert_eq!(now, whole, "{case}");
        assert_eq!(std::fs::read_dir(env.path("store/tmp")).unwrap().count(), 0, "{case}");
    }
}
