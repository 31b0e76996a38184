//! `load` of what Docker's and OCI's tools save, `import` of root file systems: the tree is the one of the layers.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use udocker_tests::images::hex;

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

/// A copy of a layout whose `index.json` can be changed.
fn layout(env: &TestEnv, kind: Kind) -> PathBuf {
    let path = env.path("layout");
    run(Command::new("cp").arg("-r").arg(kind.image().directory()).arg(&path));
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&path));
    path
}

fn index(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap()
}

fn set_index(layout: &Path, manifests: &[Value]) {
    let text = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    fs::write(layout.join("index.json"), text).unwrap();
}

/// Moves what `index.json` lists into an index of its own, to which `index.json` then leads.
fn nest(layout: &Path, name: Option<&str>) {
    let media_type = "application/vnd.oci.image.index.v1+json";
    let mut inner = index(layout);
    inner["mediaType"] = json!(media_type);
    for entry in inner["manifests"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("annotations");
    }
    let bytes = inner.to_string();
    let digest = hex(&Sha256::digest(&bytes));
    fs::write(layout.join("blobs/sha256").join(&digest), &bytes).unwrap();
    let mut entry = json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()});
    if let Some(name) = name {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    set_index(layout, &[entry]);
}

#[test]
fn a_layout_is_loaded_as_a_directory_and_through_indexes_within_indexes() {
    let env = TestEnv::ordinary();
    let layout = layout(&env, Kind::Multi);
    let path = layout.display().to_string();
    for depth in 1..=7 {
        let name = format!("nested/multi:{depth}");
        nest(&layout, Some(&name));
        let loaded = run(&mut env.udocker(&["load", "-i", &path]));
        assert_eq!(stdout(&loaded), format!("{name}\n"));
        let told = format!("Info: {name} is for linux/amd64, one of several platforms\n");
        assert!(stderr(&loaded).ends_with(&told), "{}", stderr(&loaded));
    }
    assert_eq!(fs::read_to_string(env.only_tree().join("etc/arch")).unwrap(), "amd64\n");
    // The same in a tar, and one index too many.
    let tar = env.path("layout.tar").display().to_string();
    run(Command::new("tar").args(["-C", &path, "-cf", &tar, "."]));
    assert_eq!(stdout(&run(&mut env.udocker(&["load", "-i", &tar, "packed"]))), "packed:7\n");
    nest(&layout, None);
    let refused = env.udocker(&["load", "-i", &path, "deeper"]).output().unwrap();
    assert_eq!(
        (refused.status.code(), stderr(&refused)),
        (Some(1), "Error: the indexes of the archive are nested deeper than 8\n".into())
    );
    assert_eq!(children(&env.store().join("tmp")).len(), 0);
}

#[test]
fn entries_of_one_index_are_images_of_their_own_unless_they_share_a_name() {
    let env = TestEnv::ordinary();
    let layout = layout(&env, Kind::Features);
    let path = layout.display().to_string();
    let entry = index(&layout)["manifests"][0].clone();
    let named = |name: &str, architecture: &str| {
        let mut entry = entry.clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let mut containerd = named("v9", "amd64");
    containerd["annotations"]["io.containerd.image.name"] = json!("docker.io/library/some:v9");
    let mut attestation = named("v1", "unknown");
    attestation["platform"]["os"] = json!("unknown");
    attestation["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let mut foreign = named("v2", "s390x");
    foreign["digest"] = json!(format!("sha256:{}", "1".repeat(64)));
    set_index(&layout, &[named("v1", "amd64"), containerd, attestation, foreign, named("v2", "amd64")]);
    let loaded = stdout(&run(&mut env.udocker(&["load", "-i", &path, "mine"])));
    assert_eq!(loaded, "mine:v1\nmine:v9\nmine:v2\n");
    let lines: Vec<_> = stdout(&run(&mut env.udocker(&["load", "-i", &path]))).lines().map(String::from).collect();
    assert_eq!(lines[1], "docker.io/library/some:v9");
    // Without a name there is a random one: 16 letters and digits.
    assert!(lines[0].strip_suffix(":v1").is_some_and(|name| name.len() == 16), "{lines:?}");
    assert_eq!(env.trees().len(), 1);
}

/// An archive as Docker before 1.10 wrote it, of the layers of `kind`.
fn old_archive(env: &TestEnv, kind: Kind) -> String {
    let folder = env.path("old");
    let mut parent: Option<String> = None;
    for (number, layer) in kind.image().layers("amd64").iter().enumerate() {
        let id = hex(&Sha256::digest(format!("layer {number}")));
        let directory = folder.join(&id);
        fs::create_dir_all(&directory).unwrap();
        run(Command::new("gzip").arg("-dc").arg(layer).stdout(File::create(directory.join("layer.tar")).unwrap()));
        fs::write(directory.join("VERSION"), "1.0").unwrap();
        let mut json = json!({"id": id, "architecture": "amd64", "os": "linux", "Size": 0,
            "config": {"Env": ["PATH=/bin", "OLD=yes"], "Cmd": ["/bin/sh"]}});
        if let Some(parent) = &parent {
            json["parent"] = json!(parent);
        }
        fs::write(directory.join("json"), json.to_string()).unwrap();
        parent = Some(id);
    }
    fs::write(folder.join("repositories"), json!({"old/name": {"0.9": parent}}).to_string()).unwrap();
    let tar = env.path("old.tar");
    run(Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&tar).arg("."));
    tar.display().to_string()
}

#[test]
fn an_archive_from_before_manifests_is_loaded() {
    let env = TestEnv::ordinary();
    let tar = old_archive(&env, Kind::Features);
    assert_eq!(stdout(&run(&mut env.udocker(&["load", "-i", &tar]))), "old/name:0.9\n");
    assert_listed(&env.only_tree(), &reference_listing(&Kind::Features.image()));
    let words = ["run", "old/name:0.9", "sh", "-c", "echo $OLD"];
    assert_eq!(stdout(&run(&mut env.udocker(&words))), "yes\n");
}

#[test]
fn load_says_that_it_adds_layers() {
    let env = TestEnv::ordinary();
    let path = saved(&env, Kind::Busybox, "docker-archive");
    for name in ["one", "two"] {
        let text = stderr(&run(&mut env.udocker(&["load", "-i", &path, name])));
        let adds = text.lines().all(|line| line.starts_with("Info: adding layer sha256:"));
        assert!(adds && text.lines().count() == usize::from(name == "one"), "{text}");
    }
}

#[test]
fn import_checks_names_before_it_reads() {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    let tar = env.busybox_tar().display().to_string();
    run(&mut env.udocker(&["import", "--tocontainer", "--name=work", &tar]));
    // Nothing is at the other end of this pipe: whoever reads it waits.
    let fifo = env.path("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    let fifo = fifo.to_str().unwrap();
    for (words, expected) in [
        (&["import", fifo, "bb:1"][..], "Error: image bb:1 exists already\n"),
        (&["import", "--tocontainer", "--name=work", fifo], "Error: container name already exists\n"),
        (&["import", "--clone", "--name=work", fifo], "Error: container name already exists\n"),
        (&["import", "--tocontainer", "--name=a/b", fifo], "Error: invalid container name: `a/b`"),
        (&["import", fifo], "Error: must specify image:tag or repository/image:tag\n"),
        (&["import", fifo, "Bad:"], "Error: "),
        (&["import"], "Error: must specify tar filename\n"),
    ] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(stderr(&output).starts_with(expected), "{words:?}: {}", stderr(&output));
    }
    assert_eq!(children(&env.store().join("tmp")).len(), 0);
}

#[test]
fn a_container_comes_directly_from_a_tar_and_no_image_is_listed() {
    let env = TestEnv::ordinary();
    let tar = env.busybox_tar();
    let words = ["import", "--tocontainer", "--name=one", tar.to_str().unwrap()];
    let id = stdout(&run(&mut env.udocker(&words)));
    let directory = env.store().join("containers").join(id.trim_end());
    assert_eq!(fs::read_to_string(directory.join("imagerepo.name")).unwrap(), "IMPORTED:unknown");
    run(env.udocker(&["import", "--tocontainer", "--name=two", "-", "my/root"]).stdin(File::open(&tar).unwrap()));
    let named = env.store().join("containers/two/imagerepo.name");
    assert_eq!(fs::read_to_string(named).unwrap(), "my/root:latest");
    assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), "REPOSITORY\n");
    // What is left is the configuration of the tree that both are based on.
    assert_eq!(children(&env.store().join("layers")).len(), 1);
    for name in ["one", "two"] {
        run(&mut env.udocker(&["run", name, "touch", "/mine"]));
        assert_eq!(stdout(&run(&mut env.udocker(&["run", name, "ls", "/mine"]))), "/mine\n");
    }
    // The tree that they stand on stays while they do.
    env.import_busybox("bb:1");
    run(&mut env.udocker(&["rmi", "bb:1"]));
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "one", "ls", "/mine"]))), "/mine\n");
}

#[test]
fn a_tar_that_is_moved_is_not_copied() {
    let env = TestEnv::ordinary();
    let moved = |directory: &Path| {
        let tar = directory.join(format!("moved-{}.tar", std::process::id()));
        fs::copy(env.busybox_tar(), &tar).unwrap();
        fs::set_permissions(&tar, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&tar, env.uid(), env.uid()).unwrap();
        tar
    };
    let work = env.own_directory("work", 0o700);
    let tar = moved(&work);
    let inode = tar.metadata().unwrap().ino();
    // A failure leaves the file as it was.
    env.import_busybox("bb:1");
    run(&mut env.udocker(&["rmi", "bb:1"]));
    let blocked = env.own_directory("store/repos/blocked", 0o500);
    let refused = env.udocker(&["import", "--mv", tar.to_str().unwrap(), "blocked:1"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let status = tar.metadata().unwrap();
    assert_eq!((status.ino(), status.mode() & 0o777, status.nlink()), (inode, 0o600, 1));
    fs::remove_dir(blocked).unwrap();
    run(&mut env.udocker(&["import", "--mv", tar.to_str().unwrap(), "moved:1"]));
    assert!(!tar.exists());
    let blobs = children(&env.store().join("layers"));
    let same = blobs.iter().find(|blob| blob.metadata().unwrap().ino() == inode).expect("the same file");
    assert_eq!(same.metadata().unwrap().mode() & 0o777, 0o644);
    // From another file system it is copied, and gone as well.
    let other = tempfile::Builder::new().prefix("udocker-test-").tempdir_in("/dev/shm").unwrap();
    chown(other.path(), env.uid(), env.uid()).unwrap();
    let tar = moved(other.path());
    run(&mut env.udocker(&["import", "--mv", tar.to_str().unwrap(), "moved:2"]));
    assert!(!tar.exists());
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "moved:2", "echo", "here"]))), "here\n");
    assert_eq!(children(&env.store().join("tmp")).len(), 0);
}

#[test]
fn a_container_that_cannot_be_made_of_a_tar_leaves_nothing() {
    let env = TestEnv::ordinary();
    let bytes = fs::read(env.busybox_tar()).unwrap();
    let cut = env.path("cut.tar");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let cut = cut.to_str().unwrap();
    for words in [&["import", "--tocontainer", "--name=c", cut][..], &["import", "--clone", "--name=c", cut]] {
        let output = env.udocker(words).output().unwrap();
        assert_nothing_came(&env, &output, "");
        assert_eq!(children(&env.store().join("containers")), Vec::<PathBuf>::new(), "{words:?}");
    }
}

#[test]
fn a_full_container_of_a_tar_leaves_no_tree_beside_it() {
    // A third overlay on two is refused, so that the container is a full one. Needs root, for the mounts.
    let env = TestEnv::new();
    let script = r#"
        mkdir t && mount -t tmpfs none t && cd t && mkdir l0 u1 w1 m1 u2 w2 m2
        mount -t overlay one -o lowerdir=l0,upperdir=u1,workdir=w1 m1 || exit 99
        mount -t overlay two -o lowerdir=m1,upperdir=u2,workdir=w2 m2 || exit 99
        export UDOCKER_DIR=$PWD/m2/store HOME=$PWD/m2
        "$UDOCKER" --allow-root -q import --tocontainer --name=c "$TAR" >/dev/null || exit 98
        cd m2/store && ls containers/c && cat containers/c/imagerepo.name
        find rootfs/1 records/sha256 layers tmp -mindepth 1
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(env.path("."));
    command.env("UDOCKER", udocker_tests::program("udocker")).env("TAR", env.busybox_tar());
    let output = command.output().unwrap();
    assert_eq!(stdout(&output), "ROOT\ncontainer.json\nimagerepo.name\nIMPORTED:unknown", "{}", stderr(&output));
}

#[test]
fn a_container_of_a_tar_leaves_the_layer_to_an_image_that_came_meanwhile() {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    let (tag, saved) = (env.store().join("repos/bb/1"), env.path("saved"));
    let layer = children(&env.store().join("layers"));
    run(Command::new("cp").arg("-a").arg(&tag).args(&layer).arg(env.own_directory("saved", 0o755)));
    run(&mut env.udocker(&["rmi", "bb:1"]));
    let lock = std::fs::File::open(env.store().join("udocker.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = env.udocker(&["import", "--tocontainer", env.busybox_tar().to_str().unwrap()]).spawn().unwrap();
    while children(&env.store().join("layers")).is_empty() {}
    // The image appears as another process would publish it.
    for path in &layer {
        run(Command::new("cp").arg("-an").arg(saved.join(path.file_name().unwrap())).arg(path));
    }
    run(Command::new("mkdir").arg("-p").arg(tag.parent().unwrap()));
    run(Command::new("cp").arg("-a").arg(saved.join("1")).arg(&tag));
    drop(lock);
    assert!(child.wait().unwrap().success());
    run(&mut env.udocker(&["verify", "bb:1"]));
}

#[test]
fn no_image_is_tagged_below_the_tag_of_another() {
    let env = TestEnv::ordinary();
    env.import_busybox("foo:latest");
    let tar = env.busybox_tar();
    for words in [&["tag", "foo:latest", "foo/latest:bar"][..], &["import", tar.to_str().unwrap(), "foo/latest:bar"]] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = stderr(&output);
        assert!(text.contains("it would lie below the tag of another image"), "{words:?}: {text}");
    }
    assert_eq!(stdout(&run(&mut env.udocker(&["images", "-q"]))), "foo:latest\n");
    assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
}

#[test]
fn of_two_imports_under_one_name_the_second_is_refused() {
    let env = TestEnv::ordinary();
    env.import_busybox("other:1");
    let compressed = env.path("root.tar.gz");
    run(Command::new("sh").args(["-c", "gzip <$0 >$1"]).arg(env.busybox_tar()).arg(&compressed));
    let lock = File::open(env.store().join("udocker.lock")).unwrap();
    lock.lock().unwrap();
    let sources = [compressed, env.busybox_tar()];
    let started = sources
        .map(|tar| env.udocker(&["import", tar.to_str().unwrap(), "one:1"]).stderr(Stdio::piped()).spawn().unwrap());
    // Both have found the name free, and wait for the lock.
    while children(&env.store().join("layers")).len() < 3 {}
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(lock);
    let outputs = started.map(|child| child.wait_with_output().unwrap());
    let mut codes: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(1)]);
    let refused = outputs.iter().find(|output| !output.status.success()).unwrap();
    assert!(stderr(refused).contains("image one:1 exists already"), "{}", stderr(refused));
    run(&mut env.udocker(&["verify", "one:1"]));
}

#[test]
fn what_is_no_archive_says_nothing_to_the_terminal() {
    let env = TestEnv::ordinary();
    let path = env.own_directory("work", 0o755).join("x.tar");
    fs::write(&path, "\u{1b}]0;title\u{7}\u{1b}[31m".repeat(60)).unwrap();
    for words in [&["load", "-i", path.to_str().unwrap()][..], &["import", path.to_str().unwrap(), "x:1"]] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = stderr(&output);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{words:?}: {text:?}");
    }
}
