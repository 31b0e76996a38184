//! `load` of what Docker's and OCI's tools save, `import` of root file systems: the tree is the one of the layers.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use udocker_tests::images::Kind;
use udocker_tests::tree::{assert_listed, reference_listing};
use udocker_tests::{TestEnv, children, run, stderr, stdout};

/// The image of `kind` as an archive that skopeo wrote, in a directory that everybody may read.
fn saved(env: &TestEnv, kind: Kind, transport: &str) -> String {
    let path = env.path(&format!("{transport}.tar")).display().to_string();
    let source = format!("oci:{}:latest", kind.image().directory().display());
    let target = format!("{transport}:{path}:saved/{}:v1", kind.name());
    run(Command::new("skopeo").args(["copy", "-q", &source, &target]));
    path
}

#[test]
fn saved_images_are_loaded() {
    for kind in [Kind::Features, Kind::Busybox] {
        let reference = reference_listing(&kind.image());
        // The name is as the archive has it: with its registry in Docker's form.
        for (transport, registry) in [("docker-archive", "docker.io/"), ("oci-archive", "")] {
            let env = TestEnv::ordinary();
            let path = saved(&env, kind, transport);
            let name = format!("{registry}saved/{}:v1", kind.name());
            assert_eq!(stdout(&run(&mut env.udocker(&["load", "-i", &path]))), format!("{name}\n"), "{transport}");
            assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), format!("REPOSITORY\n{name}    .\n"));
            assert_listed(&env.only_tree(), &reference);
            assert_eq!(stdout(&run(&mut env.udocker(&["run", "--pull=never", &name, "echo", "here"]))), "here\n");
            // A second time nothing is replaced; under another name it is the same tree.
            let again = env.udocker(&["load", "-i", &path]).output().unwrap();
            assert_eq!(again.status.code(), Some(1));
            assert!(stderr(&again).contains(&name), "{}", stderr(&again));
            let renamed = run(&mut env.udocker(&["load", "-i", &path, "mine"]));
            assert_eq!(stdout(&renamed), "mine:v1\n");
            assert_eq!(env.trees().len(), 1);
            assert_eq!(children(&env.store().join("tmp")).len(), 0);
        }
    }
}

#[test]
fn archives_come_compressed_and_through_a_pipe() {
    let source = TestEnv::new();
    let path = saved(&source, Kind::Features, "docker-archive");
    let reference = reference_listing(&Kind::Features.image());
    for tool in ["gzip", "zstd", "xz", "bzip2", "cat"] {
        let env = TestEnv::ordinary();
        let mut packed = Command::new(tool);
        if tool != "cat" {
            packed.arg("-c");
        }
        let mut packed = packed.arg(&path).stdout(Stdio::piped()).spawn().expect("the tool is installed");
        let output = env.udocker(&["load", "-"]).stdin(packed.stdout.take().unwrap()).output().unwrap();
        assert!(packed.wait().unwrap().success());
        assert_eq!(stdout(&output), "docker.io/saved/features:v1\n", "{tool}: {}", stderr(&output));
        assert_listed(&env.only_tree(), &reference);
    }
}

#[test]
fn a_root_file_system_is_imported() {
    let source = TestEnv::new();
    let tar = source.busybox_tar();
    let listing = |env: &TestEnv| udocker_tests::tree::listing(&env.only_tree());
    let mut listings = Vec::new();
    for tool in ["cat", "gzip", "zstd", "xz", "bzip2"] {
        let env = TestEnv::ordinary();
        let packed = env.path("packed");
        let mut command = Command::new(tool);
        if tool != "cat" {
            command.arg("-c");
        }
        run(command.arg(&tar).stdout(File::create(&packed).unwrap()));
        run(&mut env.udocker(&["import", packed.to_str().unwrap(), "root:1"]));
        assert_eq!(stdout(&run(&mut env.udocker(&["run", "root:1", "echo", "here"]))), "here\n", "{tool}");
        listings.push(listing(&env));
        let piped = TestEnv::ordinary();
        run(piped.udocker(&["import", "-", "root:1"]).stdin(File::open(&packed).unwrap()));
        listings.push(listing(&piped));
    }
    assert!(listings.iter().all(|listing| *listing == listings[0]), "{listings:#?}");
    assert!(listings[0].iter().any(|line| line.starts_with("\"bin/busybox\" f 755 ")), "{:#?}", listings[0]);
}

#[track_caller]
fn assert_nothing_came(env: &TestEnv, output: &Output, text: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert!(stderr(output).contains("Error: ") && stderr(output).contains(text), "{}", stderr(output));
    for directory in ["tmp", "layers", "rootfs/1", "repos", "records/sha256"] {
        assert_eq!(children(&env.store().join(directory)), Vec::<std::path::PathBuf>::new(), "{directory}");
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let env = TestEnv::ordinary();
    let path = saved(&env, Kind::Features, "docker-archive");
    let bytes = std::fs::read(&path).unwrap();
    let cut = env.path("cut.tar");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert_nothing_came(&env, &env.udocker(&["load", "-i", cut.to_str().unwrap()]).output().unwrap(), "cut.tar");
    let other = TestEnv::new();
    let tar = other.busybox_tar();
    assert_nothing_came(&env, &env.udocker(&["load", "-i", tar.to_str().unwrap()]).output().unwrap(), "root.tar");
    let text = env.path("text");
    std::fs::write(&text, "no archive at all").unwrap();
    let text = text.to_str().unwrap();
    assert_nothing_came(&env, &env.udocker(&["load", "-i", text]).output().unwrap(), "text");
    assert_nothing_came(
        &env,
        &env.udocker(&["import", text, "a:1"]).output().unwrap(),
        "the archive ends in the middle",
    );
    assert_nothing_came(&env, &env.udocker(&["load", "-i", "/nothere"]).output().unwrap(), "/nothere");
    assert_nothing_came(&env, &env.udocker(&["import", "/nothere", "a:1"]).output().unwrap(), "/nothere");
}
