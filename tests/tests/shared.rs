//! A store that belongs to somebody else and cannot be written: it serves, and nothing in it changes.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use udocker_tests::{TestEnv, program, run, stderr, stdout};

const OTHER: u32 = 4321;

fn listing(env: &TestEnv) -> String {
    stdout(&run(Command::new("find").arg(env.path("store")).args(["-printf", "%p %y %m %s %T@ %C@ %i\n"])))
}

/// An image whose program and data lie in /root (0700), the program 0711; in a store whose files others may read.
fn private_image(env: &TestEnv) {
    env.busybox_tar();
    let root = env.path("root");
    std::fs::rename(root.join("bin/busybox"), root.join("root/busybox")).unwrap();
    symlink("/root/busybox", root.join("bin/busybox")).unwrap();
    std::fs::write(root.join("root/data"), "the data\n").unwrap();
    for (name, mode) in [("root/busybox", 0o711), ("root/data", 0o600), ("root", 0o700)] {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let tar = env.path("private.tar");
    run(Command::new("tar").arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cf"]).arg(&tar).arg("."));
    std::fs::create_dir_all(env.path("site")).unwrap();
    run(&mut env.udocker(&["import", tar.to_str().unwrap(), "private:1"]));
    // What a site's store would have: directories that others may pass.
    for path in ["store", "store/rootfs", "store/records", "store/repos"] {
        std::fs::set_permissions(env.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_owner_runs_what_lies_in_a_private_directory() {
    let env = TestEnv::new();
    private_image(&env);
    let output = run(&mut env.udocker(&["run", "private:1", "sh", "-c", "cat /root/data; /root/busybox id -u"]));
    assert_eq!(stdout(&output), "the data\n0\n");
    let output = run(&mut env.launch(&["private:1", "cat", "/root/data"]));
    assert_eq!(stdout(&output), "the data\n");
}

#[test]
fn another_user_runs_from_a_store_that_he_cannot_write() {
    let env = TestEnv::new();
    env.import_busybox("bb:1");
    let chmod = |mode: &str| run(Command::new("chmod").args(["-R", mode]).arg(env.path("store")));
    chmod("a+rX");
    std::fs::create_dir(env.path("home")).unwrap();
    std::os::unix::fs::chown(env.path("home"), Some(OTHER), Some(OTHER)).unwrap();
    // The programs lie where the other user may not go.
    for name in ["udocker", "udocker-launch"] {
        std::fs::copy(program(name), env.path(name)).unwrap();
    }
    let before = listing(&env);
    let command = |words: &[&str]| {
        let mut command = Command::new(env.path(words[0]));
        command.args(&words[1..]).env_clear().env("HOME", env.path("home")).env("UDOCKER_DIR", env.path("store"));
        command.uid(OTHER).gid(OTHER).current_dir("/");
        command
    };
    let output = command(&["udocker", "run", "bb:1", "id", "-u"]).output().unwrap();
    assert_eq!(stdout(&output), "0\n", "{}", stderr(&output));
    let told = "Warning: files of the image cannot be changed in this run: they are another user's, and no store";
    assert!(stderr(&output).starts_with(told), "{}", stderr(&output));
    let output = command(&["udocker-launch", "bb:1", "id", "-u"]).output().unwrap();
    assert_eq!(stdout(&output), format!("{OTHER}\n"), "{}", stderr(&output));
    let children: Vec<_> = (0..64).map(|_| command(&["udocker", "run", "bb:1", "true"]).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(listing(&env), before);
    let refused = command(&["udocker", "pull", "bb:2"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = format!("Error: no store can be written: {} is read-only\n", env.path("store").display());
    assert!(stderr(&refused).starts_with(&text), "{}", stderr(&refused));
}
