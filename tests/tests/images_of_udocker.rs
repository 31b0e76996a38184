//! Images as udocker stores them and as we do: run, listed, named, verified, inspected, removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use udocker_tests::images::Kind;
use udocker_tests::tree::{assert_listed, fingerprint, reference_listing};
use udocker_tests::udocker_store::{Origin, UdockerStore};
use udocker_tests::{ORDINARY_USER, Registry, TestEnv, children, run, stderr, stdout};

const ORIGINS: [Origin; 5] =
    [Origin::Pull, Origin::PullSchema1, Origin::LoadDocker, Origin::LoadOldDocker, Origin::LoadOci];

fn output(env: &TestEnv, words: &[&str]) -> Output {
    env.udocker(words).output().unwrap()
}

/// Status 1 and `first` as the first line of the error.
#[track_caller]
fn assert_refused(env: &TestEnv, words: &[&str], first: &str) {
    let output = output(env, words);
    let text = stderr(&output);
    let line = text.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
    assert_eq!((output.status.code(), line, stdout(&output).as_str()), (Some(1), first, ""), "{words:?}: {text}");
}

/// A root file system of busybox's as udocker's `import` stores it; `env` of its configuration.
fn put_import(env: &TestEnv, name: &str, tag: &str, id: char, variables: &[&str]) -> String {
    let id = id.to_string().repeat(64);
    let layer = fs::read(env.busybox_tar()).unwrap();
    let json = json!({"id": id, "comment": "created by udocker", "architecture": "amd64", "os": "linux",
        "config": {"Env": variables, "Cmd": null, "Entrypoint": null, "WorkingDir": ""}});
    UdockerStore::new(env).put_v1((name, tag), &[(id.clone(), layer, Some(json))], None);
    id
}

fn names_in(directory: &Path) -> Vec<String> {
    children(directory).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_form_gives_the_tree_of_its_layers() {
    let reference = reference_listing(&Kind::Features.image());
    for origin in ORIGINS {
        let env = TestEnv::ordinary();
        let store = UdockerStore::new(&env);
        store.put(&Kind::Features.image(), origin, "org/features", "v1");
        let ran = run(&mut env.udocker(&["run", "--pull=never", "org/features:v1", "echo", "here"]));
        assert_eq!(stdout(&ran), "here\n", "{origin:?}");
        assert_listed(&env.only_tree(), &reference);
        assert_eq!(children(&env.store().join("tmp")).len(), 0, "{origin:?}");

        // From now on no layer is opened, let alone hashed.
        for layer in children(&env.store().join("layers")).iter().filter(|path| path.metadata().unwrap().len() > 2000) {
            fs::set_permissions(layer, fs::Permissions::from_mode(0o0)).unwrap();
        }
        let again = run(&mut env.udocker(&["run", "--pull=never", "org/features:v1", "echo", "again"]));
        assert_eq!((stdout(&again).as_str(), stderr(&again).as_str()), ("again\n", ""), "{origin:?}");
        let launched = run(&mut env.launch(&["--pull=never", "org/features:v1", "echo", "launched"]));
        assert_eq!(stdout(&launched), "launched\n", "{origin:?}");
        let id = stdout(&run(&mut env.udocker(&["create", "--name=work", "org/features:v1"])));
        let made = env.store().join("containers").join(id.trim());
        assert_eq!(fs::read_to_string(made.join("imagerepo.name")).unwrap(), "org/features:v1");
        assert_eq!(stdout(&run(&mut env.udocker(&["run", "work", "echo", "created"]))), "created\n", "{origin:?}");
        let inspected = stdout(&run(&mut env.udocker(&["inspect", "org/features:v1"])));
        assert_eq!(stdout(&run(&mut env.udocker(&["inspect", "work"]))), inspected, "{origin:?}");
    }
}

#[test]
fn the_launcher_has_it_extracted_and_pulls_nothing() {
    for origin in [Origin::Pull, Origin::LoadOci] {
        let env = TestEnv::ordinary();
        UdockerStore::new(&env).put(&Kind::Busybox.image(), origin, "old", "1");
        // The child lies beside the launcher.
        run(&mut env.udocker(&["images"]));
        for words in [&["old:1", "echo", "here"][..], &["--pull=never", "old:1", "echo", "here"]] {
            assert_eq!(stdout(&run(&mut env.launch(words))), "here\n", "{origin:?}");
        }
    }
}

#[test]
fn the_same_layers_are_one_tree_in_whatever_form_they_came() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    for (origin, name) in ORIGINS.iter().zip(["a", "b", "c", "d", "e"]) {
        store.put(&Kind::Busybox.image(), *origin, name, "1");
        run(&mut env.udocker(&["run", "--pull=never", &format!("{name}:1"), "true"]));
    }
    assert_eq!(env.trees().len(), 1);
}

#[test]
fn what_udocker_imported_runs_with_its_configuration_and_anew_when_it_changes() {
    let env = TestEnv::ordinary();
    let id = put_import(&env, "MyImage", "Old_1", 'a', &["COLOUR=red"]);
    let colour =
        |image: &str| stdout(&run(&mut env.udocker(&["run", "--pull=never", image, "sh", "-c", "echo $COLOUR"])));
    assert_eq!(colour("MyImage:Old_1"), "red\n");

    // The same layers and IDs with another configuration are another image.
    let store = UdockerStore::new(&env);
    let layer = fs::read(env.busybox_tar()).unwrap();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["COLOUR=blue"]}});
    store.put_v1(("other", "1"), &[(id.clone(), layer, None)], Some(("blue.json", &config)));
    assert_eq!(colour("other:1"), "blue\n");
    assert_eq!(colour("MyImage:Old_1"), "red\n");
    assert_eq!(env.trees().len(), 1);

    // Another file under the same ID is another image as well.
    let root = env.path("root");
    fs::write(root.join("etc/new"), "new\n").unwrap();
    run(Command::new("tar")
        .arg("-C")
        .arg(&root)
        .args(["--owner=0", "-cf"])
        .arg(store.layer(&format!("{id}.layer")))
        .arg("."));
    let read = run(&mut env.udocker(&["run", "--pull=never", "other:1", "cat", "/etc/new"]));
    assert_eq!(stdout(&read), "new\n");
    assert_eq!(env.trees().len(), 2);
}

#[test]
fn an_image_without_a_platform_is_taken_for_this_machine_and_another_is_refused() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    let layer = || fs::read(env.busybox_tar()).unwrap();
    for (name, config) in [("none", json!({"config": {}})), ("arm", json!({"os": "linux", "architecture": "arm64"}))] {
        store.put_v1((name, "1"), &[(name.repeat(8), layer(), None)], Some((&format!("{name}.json"), &config)));
    }
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "--pull=never", "none:1", "echo", "ran"]))), "ran\n");
    assert_refused(&env, &["create", "arm:1"], "Error: the stored image arm:1 is for linux/arm64, not for linux/amd64");
    let listed = stdout(&run(&mut env.udocker(&["images", "-p"])));
    assert_eq!(listed, "REPOSITORY\nlinux/arm64        . arm:1\nunknown/unknown    . none:1\n");
}

#[test]
fn damaged_images_are_refused_by_name_and_leave_nothing() {
    for origin in ORIGINS {
        let env = TestEnv::ordinary();
        let store = UdockerStore::new(&env);
        store.put(&Kind::Busybox.image(), origin, "bb", "1");
        let layers = children(&store.layer(""));
        let layer = layers.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        fs::remove_file(layer).unwrap();
        let link = store.directory("bb", "1").join(layer.file_name().unwrap());
        let failed = output(&env, &["create", "--name=x", "bb:1"]);
        assert_eq!(failed.status.code(), Some(1));
        let text = format!(
            "Error: cannot use the stored image bb:1\n  caused by: {} is damaged: its layer is missing\n  hint: \
             `udocker rmi bb:1` removes it; then `udocker pull`, `load` or `import` it anew\n",
            link.display()
        );
        let extracting = "Info: extracting bb:1, which no store has as a tree yet\n";
        assert_eq!(stderr(&failed).trim_start_matches(extracting), text, "{origin:?}");
        assert_eq!(names_in(&env.store().join("containers")), Vec::<String>::new());
        assert_eq!(names_in(&env.store().join("tmp")), Vec::<String>::new());
        assert_eq!(env.trees().len(), 0);
        let verified = output(&env, &["verify", "bb:1"]);
        assert_eq!(verified.status.code(), Some(1));
        assert!(stderr(&verified).contains("Error: layer data file not found"), "{}", stderr(&verified));
        assert!(stderr(&verified).contains("\nError: image verification failure\n"), "{}", stderr(&verified));
        run(&mut env.udocker(&["rmi", "bb:1"]));
        assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), "REPOSITORY\n");
    }
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    store.put_v1(("bare", "1"), &[("a".repeat(64), b"x".to_vec(), None)], None);
    let directory = store.directory("bare", "1");
    fs::write(directory.join("ancestry"), r#"["../../../../etc/passwd"]"#).unwrap();
    let failed = stderr(&output(&env, &["create", "bare:1"]));
    assert!(failed.contains("ancestry is damaged: it is no list of layer IDs"), "{failed}");
    fs::write(directory.join("ancestry"), json!(["a".repeat(64)]).to_string()).unwrap();
    let failed = stderr(&output(&env, &["create", "bare:1"]));
    assert!(failed.contains("it has neither container.json nor aaaa"), "{failed}");
    assert_refused(
        &env,
        &["create", "absent:1"],
        "Error: create container: imagerepo is invalid: image absent:1 does not exist",
    );
}

#[test]
fn images_are_listed_as_udocker_lists_them() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    let id = put_import(&env, "zeta", "1", 'c', &[]);
    store.put(&Kind::Busybox.image(), Origin::PullSchema1, "org/one", "v1");
    env.import_busybox("ours:2");
    run(&mut env.udocker(&["protect", "zeta:1"]));
    // What is half made is not listed.
    store.begin("half", "1", "v2");
    let table = "REPOSITORY\norg/one:v1    .\nours:2    .\nzeta:1    P\n";
    for words in [&["images"][..], &["images", "--no-trunc", "--all"]] {
        assert_eq!(stdout(&run(&mut env.udocker(words))), table);
    }
    assert_eq!(stdout(&run(&mut env.udocker(&["-q", "images"]))), table.replace("REPOSITORY\n", ""));

    let long = stdout(&run(&mut env.udocker(&["images", "-l", "-p"])));
    let lines: Vec<&str> = long.lines().collect();
    let tar = env.busybox_tar().metadata().unwrap().len() >> 20;
    assert_eq!(lines[1], "linux/amd64        . org/one:v1");
    assert_eq!(lines[2], format!(" {}", store.directory("org/one", "v1").display()));
    assert_eq!(
        lines[lines.len() - 4..].join("\n"),
        format!(
            "linux/amd64        P zeta:1\n {}\n    /{id}.json (0 MB)\n    /{id}.layer ({tar} MB)",
            store.directory("zeta", "1").display()
        )
    );
    let list: Value = serde_json::from_slice(&run(&mut env.udocker(&["images", "--format=json"])).stdout).unwrap();
    let last = &list.as_array().unwrap()[2];
    assert_eq!((&last["name"], &last["tag"], &last["protected"]), (&json!("zeta"), &json!("1"), &json!(true)));
    assert_eq!((&last["platform"], &last["digest"]), (&json!("linux/amd64"), &Value::Null));
    assert_eq!(last["blobs"][1]["bytes"], json!(env.busybox_tar().metadata().unwrap().len()));
}

#[test]
fn a_tag_is_another_name_for_the_same_blobs() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    env.import_busybox("ours:1");
    store.put(&Kind::Busybox.image(), Origin::LoadDocker, "loaded", "1");
    for (source, name, tag) in [("ours:1", "a/b/ours", "new"), ("loaded:1", "Loaded", "2")] {
        let before = names_in(&store.layer(""));
        let tagged = run(&mut env.udocker(&["tag", source, &format!("{name}:{tag}")]));
        assert_eq!((stdout(&tagged), stderr(&tagged)), (String::new(), String::new()));
        assert_eq!(names_in(&store.layer("")), before, "nothing is copied");
        let (source_name, source_tag) = source.split_once(':').unwrap();
        let (from, to) = (store.directory(source_name, source_tag), store.directory(name, tag));
        assert_eq!(names_in(&from), names_in(&to));
        let label = format!("{}/{name}:{tag}", env.store().join("repos").display());
        assert_eq!(fs::read_to_string(to.join("TAG")).unwrap(), label);
        for path in children(&to).iter().filter(|path| path.file_name().unwrap() != "TAG") {
            let other = from.join(path.file_name().unwrap());
            assert_eq!(path.canonicalize().unwrap() == other.canonicalize().unwrap(), path.is_symlink(), "{path:?}");
            assert_eq!(fs::read(path).unwrap(), fs::read(other).unwrap());
        }
        run(&mut env.udocker(&["rmi", source]));
        let ran = run(&mut env.udocker(&["run", "--pull=never", &format!("{name}:{tag}"), "echo", "here"]));
        assert_eq!(stdout(&ran), "here\n");
        run(&mut env.udocker(&["verify", &format!("{name}:{tag}")]));
    }
    assert_eq!(children(&env.store().join("tmp")).len(), 0);
    assert_refused(&env, &["tag", "absent:1", "x:1"], "Error: source does not exist");
    assert_refused(&env, &["tag", "absent:1", "Loaded:2"], "Error: target already exists");
    assert_refused(&env, &["tag", "Loaded:2"], "Error: target name is invalid");
    run(&mut env.udocker(&["protect", "Loaded:2"]));
    assert_refused(&env, &["tag", "Loaded:2", "x:1"], "Error: source repository is protected");
    run(&mut env.udocker(&["unprotect", "Loaded:2"]));
    run(&mut env.udocker(&["tag", "Loaded:2", "x:1"]));
    // A tag never takes the place of a directory that holds other names.
    assert_refused(&env, &["tag", "Loaded:2", "a:b"], "Error: target already exists");
    let text = format!("Error: cannot make a tag of {}", store.directory("a", "b").display());
    assert_refused(&env, &["import", env.busybox_tar().to_str().unwrap(), "a:b"], &text);
}

#[test]
fn verify_reads_everything_and_tells_what_is_wrong() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    let image = Kind::Features.image();
    for (origin, name) in ORIGINS.iter().zip(["a", "b", "c", "d", "e"]) {
        store.put(&image, *origin, name, "1");
        let verified = run(&mut env.udocker(&["verify", &format!("{name}:1")]));
        let prefix = if name < "c" { "sha256:" } else { "" };
        let layer = |path: &std::path::PathBuf| format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        let mut lines: Vec<_> = image.layers("amd64").iter().map(|l| format!("Info: layer ok: {}", layer(l))).collect();
        if name == "a" {
            lines.push(format!("Info: layer ok: {}", image.manifest("amd64")["config"]["digest"].as_str().unwrap()));
        }
        lines.push("Info: image Ok".into());
        assert_eq!(stdout(&verified).lines().collect::<Vec<_>>(), lines, "{origin:?}");
        assert_eq!(stderr(&verified), format!("Info: verifying: {name}:1\n"), "{origin:?}");
    }
    // An unknown file is a warning; a flipped byte, a cut archive, a wrong ancestry are errors.
    fs::write(store.directory("a", "1").join("stray"), "").unwrap();
    let warned = run(&mut env.udocker(&["verify", "a:1"]));
    let stray = store.directory("a", "1").join("stray");
    assert_eq!(stderr(&warned), format!("Info: verifying: a:1\nWarning: unknown file in image: {}\n", stray.display()));
    let largest = |end: &str| {
        let found = children(&store.layer("")).into_iter().filter(|path| path.to_str().unwrap().ends_with(end));
        found.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
    };
    let layer = largest(".layer");
    let mut bytes = fs::read(&layer).unwrap();
    fs::write(&layer, &bytes[..bytes.len() / 2]).unwrap();
    for name in ["c:1", "d:1", "e:1"] {
        let failed = stderr(&output(&env, &["verify", name]));
        assert!(
            failed.contains(&format!(
                "layer tar verify failed: {}",
                layer.parent().unwrap().parent().unwrap().join("repos").display()
            )),
            "{failed}"
        );
    }
    let blob = store.layer(&format!("sha256:{}", layer.file_stem().unwrap().to_str().unwrap()));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    for name in ["a:1", "b:1"] {
        let failed = output(&env, &["verify", name]);
        assert_eq!(failed.status.code(), Some(1));
        assert!(stderr(&failed).contains(&format!("\nError: layer file chksum failed: {}", blob.display())));
        let value: Value = serde_json::from_slice(&output(&env, &["verify", "--format=json", name]).stdout).unwrap();
        assert_eq!((&value["ok"], value["errors"].as_array().unwrap().len()), (&json!(false), 1));
    }
    assert_refused(&env, &["verify", "absent:1"], "Error: selecting image and tag");
}

#[test]
fn verify_knows_when_a_layer_of_version_1_is_not_what_was_extracted() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    let id = put_import(&env, "old", "1", 'b', &[]);
    run(&mut env.udocker(&["run", "--pull=never", "old:1", "true"]));
    let layer = store.layer(&format!("{id}.layer"));
    let time = layer.metadata().unwrap().modified().unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let at = bytes.windows(9).position(|window| window == b"root:x:0:").unwrap();
    bytes[at + 5] = b'y';
    fs::write(&layer, &bytes).unwrap();
    fs::File::options().write(true).open(&layer).unwrap().set_modified(time).unwrap();
    let failed = output(&env, &["verify", "old:1"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        stderr(&failed).contains("Error: the layers have changed since they were extracted to "),
        "{}",
        stderr(&failed)
    );

    let chain = [("l".repeat(64), None), ("t".repeat(64), Some("x"))];
    let layers: Vec<_> = chain
        .iter()
        .map(|(id, parent)| {
            (id.clone(), fs::read(env.busybox_tar()).unwrap(), Some(json!({"id": id, "parent": parent})))
        })
        .collect();
    store.put_v1(("chain", "1"), &layers, None);
    let failed = stderr(&output(&env, &["verify", "chain:1"]));
    assert!(failed.contains(&format!("Error: ancestry and layers do not match {} x\n", "l".repeat(64))), "{failed}");
}

#[test]
fn rmi_takes_what_nothing_else_needs() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    let image = Kind::Features.image();
    for (origin, name) in ORIGINS.iter().zip(["a", "b", "c", "d", "e"]) {
        store.put(&image, *origin, name, "1");
        run(&mut env.udocker(&["run", "--pull=never", &format!("{name}:1"), "true"]));
    }
    run(&mut env.udocker(&["create", "--name=work", "c:1"]));
    // Several at once, errors in the midst.
    run(&mut env.udocker(&["protect", "b:1"]));
    for words in [&["rmi", "a:1", "absent:1", "b:1", "c:1"][..], &["rmi", "-f", "b:1"]] {
        let removed = output(&env, words);
        assert_eq!(removed.status.code(), Some(1), "{words:?}");
        let errors: Vec<_> = stderr(&removed).lines().filter(|l| l.starts_with("Error")).map(str::to_owned).collect();
        let protected = "Error: image repository is protected".to_owned();
        match words.len() {
            3 => assert_eq!(errors, [protected]),
            _ => assert_eq!(errors, ["Error: image absent:1 does not exist".to_owned(), protected]),
        }
    }
    assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), "REPOSITORY\nb:1    P\nd:1    .\ne:1    .\n");
    for name in ["d:1", "e:1"] {
        assert_eq!(stdout(&run(&mut env.udocker(&["run", "--pull=never", name, "echo", "left"]))), "left\n");
        run(&mut env.udocker(&["verify", name]));
    }
    run(&mut env.udocker(&["unprotect", "b:1"]));
    for name in ["b:1", "d:1", "e:1"] {
        let removed = run(&mut env.udocker(&["rmi", name]));
        assert_eq!((stdout(&removed), stderr(&removed)), (String::new(), format!("Info: deleting image: {name}\n")));
    }
    assert_eq!(names_in(&store.layer("")), Vec::<String>::new());
    assert_eq!(names_in(&env.store().join("repos")), Vec::<String>::new());
    assert_eq!(names_in(&env.store().join("records/sha256")), Vec::<String>::new());
    assert_eq!(env.trees().len(), 1, "a container is based on it");
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "work", "echo", "alive"]))), "alive\n");
    assert_eq!(children(&env.store().join("tmp")).len(), 0);
}

#[test]
fn rmi_spares_what_others_have_not_tagged_yet() {
    let env = TestEnv::ordinary();
    env.import_busybox("gone:1");
    let blob = env.store().join("layers").join(format!("sha256:{}", "0".repeat(64)));
    fs::write(&blob, "on its way to a name").unwrap();
    run(&mut env.udocker(&["rmi", "gone:1"]));
    assert_eq!(children(&env.store().join("layers")), [blob]);
    assert_eq!(env.trees().len(), 0);
}

#[test]
fn rmi_waits_for_those_who_publish() {
    let env = TestEnv::ordinary();
    env.import_busybox("gone:1");
    let lock = fs::File::open(env.store().join("udocker.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    let mut removal = env.udocker(&["rmi", "gone:1"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(removal.try_wait().unwrap().is_none(), "it waits");
    assert_eq!((children(&env.store().join("layers")).len(), env.trees().len()), (2, 1));
    drop(lock);
    assert!(removal.wait().unwrap().success());
    assert_eq!((children(&env.store().join("layers")).len(), env.trees().len()), (0, 0));
}

#[test]
fn rmi_by_digest_removes_what_has_no_tag_and_names_the_tag_otherwise() {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    let manifest = fs::read(UdockerStore(&env).directory("bb", "1").join("manifest")).unwrap();
    let pinned = format!("bb@{}", udocker_core::digest::Digest::sha256_of(&manifest));
    assert_refused(&env, &["rmi", &pinned], &format!("Error: image {pinned} is here under the name bb:1"));
    // As staging by digest leaves it.
    run(Command::new("rm").arg("-r").arg(env.store().join("repos/bb")));
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "--pull=never", &pinned, "echo", "here"]))), "here\n");
    run(&mut env.udocker(&["rmi", &pinned]));
    assert_eq!((env.trees().len(), names_in(&env.store().join("records/sha256"))), (0, Vec::new()));
    assert_refused(&env, &["rmi", &pinned], &format!("Error: image {pinned} does not exist"));
}

#[test]
fn rmi_spares_what_runs_now() {
    let env = TestEnv::ordinary();
    for (number, launched) in [("1", false), ("2", true)] {
        let name = format!("bb:{number}");
        env.import_busybox(&name);
        let fifo = env.path(&format!("fifo{number}"));
        run(Command::new("mkfifo").args(["-m", "666"]).arg(&fifo));
        let mut command = if launched {
            env.launch(&["--mount", &format!("{}:/tmp/fifo", fifo.display()), &name])
        } else {
            env.udocker(&["run", "-v", &format!("{}:/tmp/fifo", fifo.display()), &name])
        };
        let child =
            command.args(["sh", "-c", "echo up > /tmp/fifo; cat /tmp/fifo /bin/busybox > /dev/null && echo whole"]);
        let child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
        assert_eq!(fs::read_to_string(&fifo).unwrap(), "up\n");
        run(&mut env.udocker(&["rmi", &name]));
        assert_eq!(env.trees().len(), 1, "{name}");
        fs::write(&fifo, "go on\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((stdout(&output).as_str(), output.status.code()), ("whole\n", Some(0)), "{name}");
        // Now nothing runs in it; it goes with the next removal of its image.
        env.import_busybox(&name);
        run(&mut env.udocker(&["rmi", &name]));
        assert_eq!(env.trees().len(), 0, "{name}");
    }
}

#[test]
fn inspect_prints_what_python_would() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    let config = json!({"os": "linux", "architecture": "amd64", "author": "Zoë", "config": {"Env": [], "Cmd": ["sh"]}});
    let layer = fs::read(env.busybox_tar()).unwrap();
    store.put_v1(("one", "1"), &[("a".repeat(64), layer, Some(json!({"id": "other"})))], Some(("c.json", &config)));
    let expected = "{\n    \"architecture\": \"amd64\",\n    \"author\": \"Zo\\u00eb\",\n    \"config\": {\n        \"Cmd\": [\n            \"sh\"\n        ],\n        \"Env\": []\n    },\n    \"os\": \"linux\"\n}\n";
    assert_eq!(stdout(&run(&mut env.udocker(&["inspect", "one:1"]))), expected);
    assert_eq!(env.trees().len(), 0, "nothing is extracted for that");
    let tree = stdout(&run(&mut env.udocker(&["inspect", "-p", "one:1"])));
    assert_eq!(Path::new(tree.trim_end()), env.only_tree());
    // A container's name wins.
    let id = stdout(&run(&mut env.udocker(&["create", "--name=one", "one:1"])));
    env.import_busybox("one:latest");
    assert_eq!(stdout(&run(&mut env.udocker(&["inspect", "one"]))), expected);
    let root = stdout(&run(&mut env.udocker(&["inspect", "-p", "one"])));
    assert_eq!(Path::new(root.trim_end()), env.store().join("containers").join(id.trim()).join("ROOT"));
    assert_refused(&env, &["inspect", "absent"], "Error: image absent:latest does not exist");
}

#[test]
fn protect_marks_containers_and_images() {
    let env = TestEnv::ordinary();
    let store = UdockerStore::new(&env);
    env.import_busybox("bb:1");
    let id = stdout(&run(&mut env.udocker(&["create", "--name=work", "bb:1"])));
    let container = env.store().join("containers").join(id.trim());
    for (name, directory) in [("work", container), ("bb:1", store.directory("bb", "1"))] {
        let mark = directory.join("PROTECT");
        for (command, expected) in [("protect", true), ("protect", true), ("unprotect", false), ("unprotect", false)] {
            let done = run(&mut env.udocker(&[command, name]));
            assert_eq!((stdout(&done), stderr(&done)), (String::new(), String::new()));
            assert_eq!(mark.exists(), expected, "{command} {name}");
        }
    }
    assert_refused(&env, &["protect", "absent:1"], "Error: image absent:1 does not exist");
    assert_refused(&env, &["protect"], "Error: must specify image:tag or repository/image:tag");
}

#[test]
fn a_name_with_a_port_is_found_where_udocker_cuts_it() {
    let env = TestEnv::ordinary();
    put_import(&env, "localhost", "5000/tool:3", 'd', &[]);
    assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), "REPOSITORY\nlocalhost/5000:tool:3    .\n");
    let ran = run(&mut env.udocker(&["run", "--pull=never", "localhost:5000/tool:3", "echo", "here"]));
    assert_eq!(stdout(&ran), "here\n");
    run(&mut env.udocker(&["rmi", "localhost:5000/tool:3"]));
    assert_eq!(names_in(&env.store().join("repos")), Vec::<String>::new());
}

#[test]
fn what_lies_in_a_store_of_the_site_is_used_and_never_changed() {
    let mut env = TestEnv::ordinary();
    let site = env.path("site");
    let settings = |readonly: bool| {
        format!("[[store]]\nname = \"central\"\npath = {site:?}\nkind = \"site\"\nreadonly = {readonly}\n")
    };
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Busybox);
    env.set_uid(None);
    env.set_site(&settings(false));
    run(env.udocker(&["pull", &reference]).env("UDOCKER_DIR", &site));
    env.set_uid(Some(ORDINARY_USER));
    env.set_site(&settings(true));
    let before = fingerprint(&site);
    let refused = format!("Error: image {reference} lies in the store {}, which is read-only", site.display());
    for command in ["rmi", "protect", "unprotect"] {
        assert_refused(&env, &[command, &reference], &refused);
    }
    run(&mut env.udocker(&["tag", &reference, "mine:1"]));
    assert_eq!(
        stdout(&run(&mut env.udocker(&["run", "--pull=never", "--write=none", "mine:1", "echo", "here"]))),
        "here\n"
    );
    assert_eq!(env.trees().len(), 0, "the site's tree serves");
    run(&mut env.udocker(&["verify", "mine:1"]));
    run(&mut env.udocker(&["rmi", "mine:1"]));
    assert_eq!(names_in(&env.store().join("layers")), Vec::<String>::new());
    assert_eq!(fingerprint(&site), before);

    // One that a user's udocker loaded and a site then took over: it is extracted into the user's store.
    UdockerStore::new(&env).put(&Kind::Busybox.image(), Origin::LoadDocker, "old", "1");
    fs::rename(env.store().join("layers"), env.path("layers")).unwrap();
    for name in ["repos", "layers"] {
        let from = if name == "layers" { env.path("layers") } else { env.store().join("repos") };
        run(Command::new("cp").arg("-a").arg(from).arg("-T").arg(site.join(name)));
    }
    run(Command::new("rm").arg("-r").arg(env.store()));
    env.own_directory("store", 0o700);
    let before = fingerprint(&site);
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "--pull=never", "old:1", "echo", "here"]))), "here\n");
    assert_eq!(env.trees().len(), 1);
    let again = run(&mut env.udocker(&["run", "--pull=never", "old:1", "echo", "again"]));
    assert_eq!((stdout(&again).as_str(), stderr(&again).as_str()), ("again\n", ""));
    run(&mut env.udocker(&["tag", "old:1", "new:1"]));
    run(&mut env.udocker(&["verify", "new:1"]));
    let layer =
        children(&env.store().join("layers")).into_iter().find(|path| path.to_str().unwrap().ends_with(".layer"));
    let layer = layer.unwrap();
    fs::write(&layer, "another's").unwrap();
    let text = format!("Error: {} has the name of a layer of the image and other bytes", layer.display());
    assert_refused(&env, &["tag", "old:1", "newer:1"], &text);
    assert_eq!(fingerprint(&site), before);
}
