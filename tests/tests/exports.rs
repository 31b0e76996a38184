//! `save` and `export`: archives that Docker's and OCI's tools, GNU tar and we ourselves read; pipes; what fails leaves nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use udocker_tests::images::{Kind, Layer, Recipe, busybox_layer, hex};
use udocker_tests::tree::{assert_listed, listing, reference_listing};
use udocker_tests::{TestEnv, children, is_root, program, run, stderr, stdout};

/// Loads an image of the set, from its layout.
fn load(env: &TestEnv, layout: &Path, name: &str) {
    // The layout may lie below a directory that is private.
    let mut tar = Command::new("tar").arg("-C").arg(layout).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
    run(env.udocker(&["load", "-", name]).stdin(tar.stdout.take().unwrap()));
    assert!(tar.wait().unwrap().success());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file of a tar.
fn member(tar: &Path, name: &str) -> Vec<u8> {
    run(Command::new("tar").arg("-xOf").arg(tar).arg(name)).stdout
}

fn json_member(tar: &Path, name: &str) -> Value {
    serde_json::from_slice(&member(tar, name)).unwrap()
}

/// `tar -tv` by GNU tar: mode, numeric owner and name of each entry.
fn entries(tar: &Path) -> Vec<String> {
    let output = run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(tar));
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        format!("{} {} {}", words[0], words[1], words[5..].join(" "))
    };
    stdout(&output).lines().map(line).collect()
}

#[track_caller]
fn assert_failed(output: &Output, expected: &str) {
    assert_eq!((output.status.code(), stderr(output)), (Some(1), expected.to_owned()));
}

#[test]
fn a_saved_image_is_read_by_skopeo_and_by_us() {
    for kind in [Kind::Features, Kind::FeaturesZstd, Kind::BusyboxDocker] {
        let env = TestEnv::ordinary();
        let image = kind.image();
        load(&env, image.directory(), "some/name:v1");
        let work = env.own_directory("work", 0o755);
        let tar = work.join("saved.tar");
        let output = run(&mut env.udocker(&["save", "-o", text(&tar), "some/name:v1"]));
        assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
        assert_eq!(children(&work), std::slice::from_ref(&tar));
        // The same bytes again, through a pipe, in all spellings.
        let bytes = fs::read(&tar).unwrap();
        for words in
            [&["save", "-", "some/name:v1"][..], &["save", "some/name:v1"], &["save", "-o", "-", "some/name:v1"]]
        {
            assert!(run(&mut env.udocker(words)).stdout == bytes, "{words:?}");
        }
        let archive = format!("docker-archive:{}", tar.display());
        let seen: Value =
            serde_json::from_slice(&run(Command::new("skopeo").args(["inspect", &archive])).stdout).unwrap();
        assert_eq!(seen["Layers"], json!(image.diff_ids()));
        let config = image.document()["config"]["digest"].as_str().unwrap().to_owned();
        let name = format!("{}.json", config.strip_prefix("sha256:").unwrap());
        assert_eq!(json_member(&tar, "manifest.json")[0]["Config"], json!(name));
        assert_eq!(member(&tar, &name), fs::read(image.blob(&config)).unwrap());
        let copied = env.path("copied");
        run(Command::new("skopeo").args(["copy", "-q", &archive, &format!("oci:{}:latest", copied.display())]));
        // The tree is the same by way of either archive.
        let reference = reference_listing(&image);
        for (source, name) in [(&tar, "some/name:v1\n"), (&copied, "copied:latest\n")] {
            let again = TestEnv::ordinary();
            if source == &copied {
                load(&again, source, "copied");
            } else {
                assert_eq!(stdout(&run(&mut again.udocker(&["load", "-i", text(source)]))), name);
            }
            assert_listed(&again.only_tree(), &reference);
        }
    }
}

#[test]
fn layers_that_images_share_are_saved_once() {
    let env = TestEnv::ordinary();
    let scratch = tempfile::tempdir().unwrap();
    let tar_of = |name: &str, layer: Layer| {
        let path = scratch.path().join(name);
        fs::write(&path, layer.finish()).unwrap();
        path
    };
    let base = tar_of("base", busybox_layer());
    let one = tar_of("one", Layer::new().directories(&["opt"]).file("opt/one", 0o644, "1\n"));
    let gone = tar_of("gone", Layer::new().whiteout("opt/one"));
    // One layer twice in an image, with a removal between; and the same layers under another chain.
    let first = Recipe::new(vec![base.clone(), one.clone(), gone, one.clone()]).write(&scratch.path().join("first"));
    let second = Recipe::new(vec![one, base]).write(&scratch.path().join("second"));
    load(&env, first.directory(), "first:1");
    load(&env, first.directory(), "first:2");
    load(&env, second.directory(), "second:1");
    let tar = env.own_directory("work", 0o755).join("all.tar");
    run(&mut env.udocker(&["save", "-o", text(&tar), "first:1", "first:2", "second:1"]));
    let manifest = json_member(&tar, "manifest.json");
    assert_eq!(manifest[0]["RepoTags"], json!(["first:1", "first:2"]));
    assert_eq!(manifest[1]["RepoTags"], json!(["second:1"]));
    assert_eq!(manifest.as_array().unwrap().len(), 2);
    assert_eq!(manifest[0]["Layers"][1], manifest[0]["Layers"][3]);
    assert_eq!(manifest[0]["Layers"][0], manifest[1]["Layers"][1]);
    let layers: Vec<_> = entries(&tar).into_iter().filter(|line| line.contains("layer.tar")).collect();
    let links = layers.iter().filter(|line| line.starts_with('h')).count();
    assert_eq!((layers.len(), links), (6, 3), "{layers:#?}");
    // Each top's directory leads down its own chain of parents, as udocker and Docker before 1.10 follow it.
    let repositories = json_member(&tar, "repositories");
    for (top, count) in [(&repositories["first"]["1"], 4), (&repositories["second"]["1"], 2)] {
        let mut id = Some(top.as_str().unwrap().to_owned());
        let mut seen = 0;
        while let Some(this) = id {
            assert_eq!(member(&tar, &format!("{this}/VERSION")), b"1.0");
            let layer = json_member(&tar, &format!("{this}/json"));
            assert_eq!(layer["id"], json!(this));
            id = layer["parent"].as_str().map(str::to_owned);
            seen += 1;
        }
        assert_eq!(seen, count);
    }
    for (name, image) in [("first:1", &first), ("second:1", &second)] {
        let archive = format!("docker-archive:{}:{name}", tar.display());
        let target = format!("oci:{}", env.path(&format!("out-{}", &name[..5])).display());
        run(Command::new("skopeo").args(["copy", "-q", &archive, &target]));
        let again = TestEnv::ordinary();
        let loaded = stdout(&run(&mut again.udocker(&["load", "-i", text(&tar)])));
        assert_eq!(loaded, "first:1\nfirst:2\nsecond:1\n");
        let seen: Vec<_> = again.trees().iter().map(|tree| listing(tree)).collect();
        assert!(seen.contains(&reference_listing(image)), "{name}");
    }
}

/// An image as udocker's `load` writes it: version 1, IDs that are no digests.
fn write_version_1(env: &TestEnv, kind: Kind) {
    let tag = env.own_directory("store/repos", 0o755).join("of/udocker/1");
    fs::create_dir_all(&tag).unwrap();
    env.own_directory("store/layers", 0o755);
    let mut ancestry = Vec::new();
    for (number, layer) in kind.image().layers("amd64").iter().enumerate() {
        let id = hex(&Sha256::digest(format!("layer {number}")));
        fs::copy(layer, env.store().join(format!("layers/{id}.layer"))).unwrap();
        symlink(format!("../../../../layers/{id}.layer"), tag.join(format!("{id}.layer"))).unwrap();
        ancestry.insert(0, id);
    }
    let top = format!("{}.json", ancestry[0]);
    let config =
        json!({"id": ancestry[0], "created": "2020-01-01T00:00:00Z", "container_config": {"Env": ["OF=udocker"]}});
    fs::write(env.store().join("layers").join(&top), config.to_string()).unwrap();
    symlink(format!("../../../../layers/{top}"), tag.join(top)).unwrap();
    fs::write(tag.join("ancestry"), json!(ancestry).to_string()).unwrap();
    fs::write(tag.join("v1"), "").unwrap();
    fs::write(tag.join("TAG"), "of/udocker:1").unwrap();
}

/// The layers of `kind` under a manifest of schema 1, with an empty layer among them.
fn write_schema_1(env: &TestEnv, kind: Kind) {
    let tag = env.own_directory("store/repos", 0o755).join("of/docker/1");
    fs::create_dir_all(&tag).unwrap();
    env.own_directory("store/layers", 0o755);
    let mut sums = Vec::new();
    for layer in kind.image().layers("amd64") {
        let sum = format!("sha256:{}", text(Path::new(layer.file_name().unwrap())));
        fs::copy(layer, env.store().join("layers").join(&sum)).unwrap();
        sums.insert(0, json!({"blobSum": sum}));
    }
    sums.insert(1, json!({"blobSum": "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"}));
    let config = json!({"id": "1", "architecture": "amd64", "os": "linux", "config": {"Env": ["OF=docker"]}});
    let manifest = json!({"schemaVersion": 1, "name": "of/docker", "tag": "1", "architecture": "amd64",
        "fsLayers": sums, "history": [{"v1Compatibility": config.to_string()}]});
    fs::write(tag.join("manifest"), manifest.to_string()).unwrap();
    fs::write(tag.join("v2"), "").unwrap();
    fs::write(tag.join("TAG"), "of/docker:1").unwrap();
}

#[test]
fn images_of_old_forms_are_saved_with_a_configuration_that_fits() {
    let reference = reference_listing(&Kind::Features.image());
    for (write, name, env_value) in [
        (write_version_1 as fn(&TestEnv, Kind), "of/udocker:1", "OF=udocker"),
        (write_schema_1, "of/docker:1", "OF=docker"),
    ] {
        let env = TestEnv::ordinary();
        write(&env, Kind::Features);
        let tar = env.own_directory("work", 0o755).join("old.tar");
        run(&mut env.udocker(&["save", "-o", text(&tar), name]));
        let archive = format!("docker-archive:{}", tar.display());
        let target = format!("oci:{}:x", env.path("out").display());
        run(Command::new("skopeo").args(["copy", "-q", &archive, &target]));
        let config: Value =
            serde_json::from_slice(&run(Command::new("skopeo").args(["inspect", &archive])).stdout).unwrap();
        assert_eq!(config["Env"], json!([env_value]));
        let again = TestEnv::ordinary();
        assert_eq!(stdout(&run(&mut again.udocker(&["load", "-i", text(&tar)]))), format!("{name}\n"));
        assert_listed(&again.only_tree(), &reference);
    }
}

#[test]
fn a_claim_about_layers_that_is_wrong_is_put_right() {
    let env = TestEnv::ordinary();
    load(&env, Kind::Liar.image().directory(), "liar:1");
    let tar = env.own_directory("work", 0o755).join("liar.tar");
    run(&mut env.udocker(&["save", "-o", text(&tar), "liar:1"]));
    let target = format!("oci:{}:x", env.path("out").display());
    run(Command::new("skopeo").args(["copy", "-q", &format!("docker-archive:{}", tar.display()), &target]));
}

#[test]
fn save_that_fails_leaves_no_file() {
    let env = TestEnv::ordinary();
    load(&env, Kind::Features.image().directory(), "some:1");
    let work = env.own_directory("work", 0o755);
    let there = work.join("there.tar");
    fs::write(&there, "precious").unwrap();
    let save = |file: &Path, image: &str| env.udocker(&["save", "-o", text(file), image]).output().unwrap();
    let exists = "  hint: remove it, or choose another name\n";
    assert_failed(
        &save(&there, "some:1"),
        &format!("Error: output file already exists: {}\n{exists}", there.display()),
    );
    assert_eq!(fs::read(&there).unwrap(), b"precious");
    let new = work.join("new.tar");
    assert_failed(
        &save(&new, "other:1"),
        "Error: image other:1 does not exist\n  hint: `udocker images` lists what is here\n",
    );
    assert_failed(&env.udocker(&["save"]).output().unwrap(), "Error: must specify image:tag or repository/image:tag\n");
    let closed = env.own_directory("closed", 0o500);
    let denied = save(&closed.join("new.tar"), "some:1");
    assert!(denied.status.code() == Some(1) && stderr(&denied).contains("cannot write "), "{}", stderr(&denied));
    // A store that keeps no layers, and one whose layer was written into.
    let first = Kind::Features.image().layers("amd64").remove(0);
    let layer = env.store().join("layers").join(format!("sha256:{}", text(Path::new(first.file_name().unwrap()))));
    let bytes = fs::read(&layer).unwrap();
    fs::write(&layer, [&bytes[..bytes.len() - 1], b"x"].concat()).unwrap();
    let damaged = save(&new, "some:1");
    assert!(stderr(&damaged).starts_with("Error: the stored blob "), "{}", stderr(&damaged));
    fs::remove_file(&layer).unwrap();
    let gone = stderr(&save(&new, "some:1"));
    assert!(gone.starts_with("Error: image some:1 cannot be saved: its blob sha256:"), "{gone}");
    assert!(gone.contains("hint: a store with `[store] keep_layers = false` keeps trees and no layers"), "{gone}");
    assert_eq!(children(&work), [there]);
    assert_eq!(children(&closed), Vec::<PathBuf>::new());
    // A terminal is no place for an archive.
    let line = format!("{} --allow-root save some:1", program("udocker").display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("UDOCKER_DIR", env.store()).env("HOME", env.path("home"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let shown = stdout(&output).replace('\r', "");
    assert_eq!(
        (output.status.code(), &*shown),
        (
            Some(1),
            "Error: an archive is not written to a terminal\n  hint: name a file by `-o FILE`, or pipe the output\n"
        )
    );
}

const CHANGES: &str = "echo new > /a/new; ln /a/new /a/new-too; rm /absolute /a/empty; rm -r /opaque; mkdir /opaque; \
                       echo y > /opaque/y; mkfifo /fifo; chmod 4755 /etc/release; echo more >> /a/big; rm -r /deep; \
                       ln -s ..//x/./y/ /odd-link; echo x > /deep";

/// A layered container of the image with everything, in which things were changed.
fn changed_container(env: &TestEnv) {
    load(env, Kind::Features.image().directory(), "features:1");
    run(&mut env.udocker(&["create", "--name=work", "features:1"]));
    run(&mut env.udocker(&["run", "work", "sh", "-c", CHANGES]));
}

/// What a tar holds, extracted by GNU tar; set-id bits and closed modes are evened out.
fn extracted(env: &TestEnv, tar: &Path, name: &str) -> PathBuf {
    let directory = env.path(name);
    fs::create_dir(&directory).unwrap();
    run(Command::new("tar").arg("-C").arg(&directory).args(["-xpf"]).arg(tar));
    run(Command::new("chmod").args(["-R", "ug-s,u+rwX"]).arg(&directory));
    directory
}

#[test]
fn a_layered_container_is_exported_as_it_looks_and_stays_layered() {
    let env = TestEnv::ordinary();
    changed_container(&env);
    let work = env.own_directory("work", 0o755);
    let (plain, clone, full) = (work.join("plain.tar"), work.join("clone.tar"), work.join("full.tar"));
    let output = run(&mut env.udocker(&["export", "-o", text(&plain), "work"]));
    assert_eq!(stderr(&output), format!("Info: exporting to file {}\n", plain.display()));
    run(&mut env.udocker(&["export", "--clone", "-o", text(&clone), "work"]));
    assert!(env.store().join("containers/work/layered").exists());
    // The same through `ROOT/`, by GNU tar: whiteouts applied, the two layers merged.
    let root = stdout(&run(&mut env.udocker(&["inspect", "-p", "work"])));
    run(Command::new("tar").args(["-C", root.trim_end(), "-cf"]).arg(&full).arg("."));
    let reference = listing(&extracted(&env, &full, "full"));
    assert_listed(&extracted(&env, &plain, "plain"), &reference);
    assert_listed(&extracted(&env, &clone, "clone").join("ROOT"), &reference);
    let lines = entries(&plain);
    let own = env.uid().unwrap_or_default();
    for expected in [
        "-rwsr-xr-x 0/0 modes/setuid".to_owned(),
        "-rwx--s--x 0/0 modes/setgid".into(),
        "---------- 0/0 modes/none".into(),
        "d--------- 0/0 modes/closed/".into(),
        "drwxr-xr-x 0/0 usr/".into(),
        format!("-rw-r--r-- {own}/{own} a/new"),
        format!("hrw-r--r-- {own}/{own} a/new-too link to a/new"),
        format!("prw-r--r-- {own}/{own} fifo"),
        format!("lrwxrwxrwx {own}/{own} odd-link -> ..//x/./y/"),
    ] {
        assert!(lines.contains(&expected), "{expected}\n{}", lines.join("\n"));
    }
    let mut top: Vec<_> = entries(&clone).into_iter().filter(|line| !line.contains("ROOT/")).collect();
    top.iter_mut().for_each(|line| *line = line.rsplit(' ').next().unwrap().to_owned());
    assert_eq!(top, ["./", "container.json", "imagerepo.name"]);
}

#[test]
fn export_takes_udockers_words_and_its_own() {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    let id = stdout(&run(&mut env.udocker(&["create", "--name=work", "bb:1"])));
    let id = id.trim_end();
    let work = env.own_directory("work", 0o755);
    let bytes = run(&mut env.udocker(&["export", "-", "work"])).stdout;
    assert_eq!(run(&mut env.udocker(&["export", id])).stdout, bytes);
    let file = work.join("file.tar");
    let name = text(&file).to_owned();
    let long = format!("--output={name}");
    let clone = run(&mut env.udocker(&["export", "--clone", "-", "work"])).stdout;
    assert_ne!(clone, bytes);
    for (words, expected) in [
        (&["export", "-o", &name, id][..], &bytes),
        (&["export", &long, "work"], &bytes),
        (&["export", "-o", "--clone", &name, id], &clone),
        (&["export", "--clone", "-o", &name, id], &clone),
    ] {
        // As udocker's, an export replaces what is there; by one rename.
        fs::write(&file, "old").unwrap();
        run(&mut env.udocker(words));
        assert!(fs::read(&file).unwrap() == *expected, "{words:?}");
        assert_eq!(children(&work), std::slice::from_ref(&file));
    }
    // Through a link the file is replaced; and standard output is one by either name.
    let linked = env.own_directory("linked", 0o755).join("file.tar");
    let link = env.path("link.tar");
    fs::write(&linked, "old").unwrap();
    std::os::unix::fs::symlink(&linked, &link).unwrap();
    run(&mut env.udocker(&["export", "-o", text(&link), id]));
    assert!(link.is_symlink() && fs::read(&linked).unwrap() == bytes);
    let redirected = fs::File::create(env.path("redirected.tar")).unwrap();
    assert!(env.udocker(&["export", "-o", "/dev/stdout", id]).stdout(redirected).status().unwrap().success());
    assert!(fs::read(env.path("redirected.tar")).unwrap() == bytes);
    for (words, expected) in [
        (&["export", "-o", &name, "nobody"][..], "Error: invalid container id\n"),
        (&["export"], "Error: invalid container id\n"),
        (&["export", "-o", &name], "Error: invalid container id\n"),
        (&["export", id, "more"], "Error: syntax error at: more\n"),
        (&["export", "-o", &name, id, "more"], "Error: syntax error at: more\n"),
    ] {
        assert_failed(&env.udocker(words).output().unwrap(), expected);
    }
    assert_eq!(fs::read(&file).unwrap(), clone);
    let closed = env.own_directory("closed", 0o500);
    let denied = env.udocker(&["export", "-o", text(&closed.join("x.tar")), id]).output().unwrap();
    assert!(denied.status.code() == Some(1) && stderr(&denied).contains("cannot write "), "{}", stderr(&denied));
    assert_eq!(children(&closed), Vec::<PathBuf>::new());
}

#[test]
fn files_that_cannot_be_read_are_named_and_left_out() {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    run(&mut env.udocker(&["create", "--name=work", "bb:1"]));
    let script = "mkdir /closed; touch /closed/in /secret; chmod 0 /closed /secret";
    run(&mut env.udocker(&["run", "work", "sh", "-c", script]));
    let file = env.own_directory("work", 0o755).join("x.tar");
    let output = env.udocker(&["export", "-o", text(&file), "work"]).output().unwrap();
    let name = file.display();
    let expected = format!(
        "Info: exporting to file {name}\nWarning: cannot read closed\nWarning: cannot read secret\n\
         Error: 2 of the container's files cannot be read and are not in {name}\n  \
         hint: those of another user become yours by `udocker setup --fixperm CONTAINER`\n"
    );
    assert_failed(&output, &expected);
    let names: Vec<_> = entries(&file).iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert!(names.contains(&"bin/busybox".to_owned()) && !names.contains(&"secret".to_owned()), "{names:?}");
}

#[test]
fn a_container_in_use_is_exported_with_a_warning() {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    run(&mut env.udocker(&["create", "--name=work", "bb:1"]));
    let mut sleeper = env.udocker(&["run", "work", "sh", "-c", "echo up; read line"]);
    let mut sleeper = sleeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 3];
    std::io::Read::read_exact(sleeper.stdout.as_mut().unwrap(), &mut line).unwrap();
    let output = run(&mut env.udocker(&["export", "-", "work"]));
    assert!(stderr(&output).starts_with("Warning: process "), "{}", stderr(&output));
    drop(sleeper.stdin.take());
    sleeper.wait().unwrap();
    assert_eq!(stderr(&run(&mut env.udocker(&["export", "-", "work"]))), "");
}

#[test]
fn holes_stay_holes_both_ways() {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    run(&mut env.udocker(&["create", "--name=work", "bb:1"]));
    run(&mut env.udocker(&["run", "work", "/bin/busybox", "truncate", "-s", "3G", "/hollow"]));
    let tar = run(&mut env.udocker(&["export", "--clone", "-", "work"])).stdout;
    assert!(tar.len() < 10_000_000, "{}", tar.len());
    let file = env.path("clone.tar");
    fs::write(&file, tar).unwrap();
    let id = stdout(&run(&mut env.udocker(&["import", "--clone", text(&file)])));
    let hollow = env.store().join("containers").join(id.trim_end()).join("ROOT/hollow").metadata().unwrap();
    assert_eq!(hollow.len(), 3 << 30);
    assert!(std::os::unix::fs::MetadataExt::blocks(&hollow) < 100);
}

#[test]
fn a_clone_comes_back_with_its_settings_and_another_id() {
    let env = TestEnv::ordinary();
    changed_container(&env);
    let directory = env.store().join("containers").join(fs::read_link(env.store().join("containers/work")).unwrap());
    fs::write(directory.join("execmode"), "P2").unwrap();
    // By a pipe from one store into another.
    let other = TestEnv::ordinary();
    let mut export = env.udocker(&["export", "--clone", "-", "work"]).stdout(Stdio::piped()).spawn().unwrap();
    let words = ["import", "--clone", "--name=copy", "-"];
    let id = stdout(&run(other.udocker(&words).stdin(export.stdout.take().unwrap())));
    assert!(export.wait().unwrap().success());
    let copy = other.store().join("containers").join(id.trim_end());
    assert_eq!(fs::read_link(other.store().join("containers/copy")).unwrap(), Path::new(id.trim_end()));
    assert_ne!(copy.file_name(), directory.file_name());
    for file in ["container.json", "imagerepo.name", "execmode"] {
        assert_eq!(fs::read(copy.join(file)).unwrap(), fs::read(directory.join(file)).unwrap(), "{file}");
    }
    let root = stdout(&run(&mut env.udocker(&["inspect", "-p", "work"])));
    let whole_seconds = |root: &Path, name: &str| {
        let tar = env.path(&format!("{name}.tar"));
        run(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&tar).arg("."));
        listing(&extracted(&env, &tar, name))
    };
    let mut reference = whole_seconds(Path::new(root.trim_end()), "reference");
    // Extraction makes no fifos, of a clone as of an image.
    reference.retain(|line| !line.starts_with("\"fifo\""));
    let ours = whole_seconds(&copy.join("ROOT"), "ours");
    assert!(ours == reference, "{ours:#?}");
    assert_eq!(children(&other.store().join("tmp")), Vec::<PathBuf>::new());
}

#[test]
fn a_hostile_clone_stays_in_its_directory() {
    let env = TestEnv::ordinary();
    let make = |name: &str, layer: Layer| {
        let path = env.path(name);
        fs::write(&path, layer.finish()).unwrap();
        path.display().to_string()
    };
    let whole = || Layer::new().file("container.json", 0o644, "{}").directory("ROOT", 0o755);
    let odd = whole()
        .file("ROOT/set-id", 0o6755, "x")
        .symlink("ROOT/out", "/tmp")
        .file("ROOT/out/written", 0o644, "x")
        .symlink("execmode", "/etc/passwd")
        .directory("upper", 0o755)
        .file("layered", 0o644, "1 0\n")
        .directory("nvidia", 0o755)
        .symlink("escape", "..");
    let output = run(&mut env.udocker(&["import", "--clone", &make("odd.tar", odd)]));
    // `/tmp` of a link is that of the new directory.
    let warned: String = ["escape", "execmode", "layered", "nvidia", "tmp", "upper"]
        .map(|name| format!("Warning: `{name}` of the archive is no part of a container and is left out\n"))
        .concat();
    assert_eq!(stderr(&output), warned);
    let directory = env.store().join("containers").join(stdout(&output).trim_end());
    let names: Vec<_> = children(&directory).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["ROOT", "container.json", "imagerepo.name"]);
    assert_eq!(directory.join("ROOT/set-id").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    let before = children(&env.store().join("containers"));
    for (name, layer, expected) in [
        ("up.tar", whole().entry("ROOT/x", tar::EntryType::Link, 0o644, "../../etc/passwd", b""), "cannot extract"),
        ("rootless.tar", Layer::new().file("container.json", 0o644, "{}"), "it has no `ROOT`"),
        (
            "link.tar",
            Layer::new().directory("ROOT", 0o755).symlink("container.json", "/etc/passwd"),
            "no `container.json`",
        ),
        ("linked.tar", Layer::new().symlink("ROOT", "/etc").file("container.json", 0o644, "{}"), "it has no `ROOT`"),
    ] {
        let output = env.udocker(&["import", "--clone", "--name=bad", &make(name, layer)]).output().unwrap();
        assert!(output.status.code() == Some(1) && stderr(&output).contains(expected), "{name}: {}", stderr(&output));
    }
    assert_eq!(children(&env.store().join("containers")), before);
    assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
}

#[test]
fn archives_go_through_pipes_from_store_to_store() {
    let (env, other) = (TestEnv::ordinary(), TestEnv::ordinary());
    load(&env, Kind::Features.image().directory(), "features:1");
    run(&mut env.udocker(&["create", "--name=work", "features:1"]));
    let script = r#"set -e
        one() { UDOCKER_DIR="$ONE" "$UDOCKER" --allow-root -q "$@"; }
        two() { "$UDOCKER" --allow-root -q --repo="$TWO" "$@"; }
        two mkrepo "$TWO" 2>/dev/null || true
        one save - features:1 | two load -
        one save features:1 | gzip | two load - zipped
        one export - work | two import - exported:1
        one export work | xz -1 | two import --tocontainer --name=made - >/dev/null
        one export --clone - work | two import --clone --name=cloned - >/dev/null
        two images
        two run exported:1 cat /a/one; two run made cat /a/one; two run cloned cat /a/one
    "#;
    run(&mut other.udocker(&["import", text(&other.busybox_tar()), "exists:1"]));
    let programs = env.path("programs/udocker");
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("UDOCKER", programs).env("ONE", env.store()).env("TWO", other.store());
    command.env("HOME", env.path("home"));
    if let Some(uid) = env.uid() {
        std::os::unix::process::CommandExt::gid(std::os::unix::process::CommandExt::uid(&mut command, uid), uid);
    }
    let one = "one of the third layer\n";
    let expected = format!(
        "features:1\nzipped:1\nexists:1    .\nexported:1    .\nfeatures:1    .\nzipped:1    .\n{one}{one}{one}"
    );
    assert_eq!(stdout(&run(&mut command)), expected);
    assert_eq!(children(&other.store().join("tmp")), Vec::<PathBuf>::new());
}

#[test]
fn a_full_disk_leaves_nothing() {
    assert!(is_root(), "only root can mount a small file system");
    let env = TestEnv::new();
    load(&env, Kind::Features.image().directory(), "features:1");
    run(&mut env.udocker(&["create", "--name=work", "features:1"]));
    for (words, name) in [
        (&["save", "features:1"][..], "image.tar"),
        (&["export", "work"], "root.tar"),
        (&["export", "--clone", "work"], "clone.tar"),
    ] {
        fs::write(env.path(name), run(&mut env.udocker(words)).stdout).unwrap();
    }
    let script = r#"
        mount -t tmpfs -o size=4m none small && mkdir small/store small/out
        full() { UDOCKER_DIR=$PWD/small/store "$UDOCKER" --allow-root -q "$@" 2>error && echo "no failure: $*"
            grep -q "No space left\|has .* bytes free" error || { echo "$*"; cat error; }; }
        full load -i image.tar
        full import root.tar a:1
        full import - a:1 < root.tar
        full import --tocontainer --name=c root.tar
        full import --clone --name=c clone.tar
        full import --clone --name=c - < clone.tar
        UDOCKER_DIR=$PWD/store; export UDOCKER_DIR
        UDOCKER_DIR=$PWD/store
        out() { "$UDOCKER" --allow-root -q "$@" 2>error && echo "no failure: $*"; grep -q "No space left" error || cat error; }
        out save -o small/out/x.tar features:1
        out export -o small/out/x.tar work
        out export --clone -o small/out/x.tar work
        cd small && find out store -mindepth 1 ! -name udocker.store ! -path 'store/*' ; find store -mindepth 2 ! -path 'store/rootfs/1' ! -path 'store/records/sha256'
    "#;
    let mut command = Command::new("unshare");
    fs::create_dir(env.path("small")).unwrap();
    command.args(["-m", "sh", "-c", script]).current_dir(env.path("."));
    command.env("UDOCKER", program("udocker")).env("HOME", env.path("home"));
    assert_eq!(stdout(&command.output().unwrap()), "");
}
