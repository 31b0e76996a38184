//! Containers: names, copies, removal, settings, and what other programs' modes left in them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use udocker_tests::{TestEnv, children, run, stderr, stdout};

fn env() -> TestEnv {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    env
}

fn create(env: &TestEnv, words: &[&str]) -> String {
    let words: Vec<&str> = ["-q", "create"].iter().chain(words).chain(&["bb:1"]).copied().collect();
    stdout(&run(&mut env.udocker(&words))).trim().to_owned()
}

fn fails(env: &TestEnv, words: &[&str], message: &str) -> Output {
    let output = env.udocker(words).output().unwrap();
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.lines().next()), (Some(1), Some(message)), "{words:?}: {text}");
    output
}

fn listed(env: &TestEnv) -> Vec<String> {
    let text = stdout(&run(&mut env.udocker(&["ps"])));
    text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn names_are_given_changed_and_taken_away() {
    let env = env();
    let id = create(&env, &["--name=one"]);
    run(&mut env.udocker(&["name", &id, "two"]));
    run(&mut env.udocker(&["name", "one", "three"]));
    assert_eq!(listed(&env), [format!("{id} . W ['one', 'three', 'two'] bb:1")]);
    assert_eq!(fs::read_link(env.store().join("containers/two")).unwrap(), PathBuf::from(&id));
    run(&mut env.udocker(&["rename", "two", "zwei"]));
    let removed = run(&mut env.udocker(&["rmname", "one"]));
    assert_eq!((stdout(&removed), stderr(&removed)), (String::new(), "Info: container name: one removed.\n".into()));
    assert_eq!(listed(&env), [format!("{id} . W ['three', 'zwei'] bb:1")]);
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "zwei", "echo", "there"]))), "there\n");

    let invalid = "Error: invalid container name: `a b` may not be empty, longer than 2048 bytes, an ID, or hold / . [ ] or blanks";
    for (words, message) in [
        (&["name", "zwei", "three"][..], "Error: container name already exists"),
        (&["name", "zwei", "a b"], invalid),
        (&["name", "nobody", "x"], "Error: invalid container id or name"),
        (&["name", "zwei"], "Error: invalid container id or name"),
        (&["rename", "zwei", "three"], "Error: container name already exists"),
        (&["rename", "nobody", "x"], "Error: container does not exist"),
        (&["rename", &id, "x"], "Error: name does not exist"),
        (&["rmname", "nobody"], "Error: removing container name: no container has this name"),
        (&["rmname"], "Error: invalid container id or name"),
        (&["create", "--name=three", "bb:1"], "Error: container name already exists"),
        (&["create", "--name=a b", "bb:1"], invalid),
        (&["clone", "--name=three", "zwei"], "Error: container name already exists"),
        (&["clone", "nobody"], "Error: invalid container id"),
    ] {
        fails(&env, words, message);
    }
    assert_eq!(listed(&env).len(), 1);
    assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
    // As with udocker, `--force` makes the container without the name.
    let other = create(&env, &["--name=three", "--force"]);
    assert!(listed(&env).contains(&format!("{other} . W bb:1")), "{:?}", listed(&env));
    // A name that leads nowhere stops nobody.
    symlink("00000000-0000-4000-8000-000000000000", env.store().join("containers/lost")).unwrap();
    run(&mut env.udocker(&["name", &other, "lost"]));
}

#[test]
fn a_clone_is_a_copy_and_apart() {
    let env = env();
    for full in [false, true] {
        let source = format!("source{full}");
        let id = create(&env, &[&format!("--name={source}")]);
        if full {
            run(&mut env.udocker(&["inspect", "-p", &source]));
        }
        let change = "rm /etc/group; rm -r /root; mkdir /root; touch /root/new; echo one > /file; ln /file /twin; ln -s /file /link; chmod 500 /tmp";
        // /bin has neither rm nor ln: busybox is called by its own name.
        let change = change.replace("rm ", "busybox rm ").replace("ln ", "busybox ln ");
        let change = change.replace("mkdir", "busybox mkdir").replace("chmod", "busybox chmod");
        run(&mut env.udocker(&["run", &source, "sh", "-c", &change]));
        let copy = format!("copy{full}");
        let output = run(&mut env.udocker(&["clone", &format!("--name={copy}"), &source]));
        let copied = stdout(&output).trim().to_owned();
        assert_ne!(copied, id);
        let look = "ls /etc /root; cat /file; ls -l /link; busybox stat -c '%h %a' /file; busybox stat -c %a /tmp; ls /etc/group";
        let seen = |name: &str| stdout(&env.udocker(&["run", name, "sh", "-c", look]).output().unwrap());
        let first = seen(&copy);
        assert_eq!(first, seen(&source));
        assert!(first.contains("new\none\n") && first.contains("2 644\n500\n"), "{first}");
        run(&mut env.udocker(&["run", &copy, "sh", "-c", "echo two > /file"]));
        assert_eq!(stdout(&run(&mut env.udocker(&["run", &source, "cat", "/file", "/twin"]))), "one\none\n");
        assert_eq!(stdout(&run(&mut env.udocker(&["run", &copy, "cat", "/file", "/twin"]))), "two\ntwo\n");
        let layered = |id: &str| env.store().join("containers").join(id).join("layered").exists();
        assert_eq!((layered(&id), layered(&copied)), (!full, !full));
    }
}

#[test]
fn removal_goes_on_after_an_error_and_spares_what_is_protected_or_runs() {
    let env = env();
    let (a, b) = (create(&env, &["--name=a"]), create(&env, &["--name=b"]));
    fs::write(env.store().join("containers").join(&a).join("PROTECT"), "").unwrap();
    run(&mut env.udocker(&[
        "run",
        "b",
        "sh",
        "-c",
        "busybox mkdir -p /x/y && touch /x/y/z && busybox chmod -R a-w /x",
    ]));
    let output = env.udocker(&["rm", "a", "nobody", "b"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "Error: container is protected\n  hint: `udocker unprotect` lifts the protection\nError: invalid container id\nInfo: deleting container: {b}\n"
    );
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), expected));
    fails(&env, &["rm", "-f", "a"], "Error: container is protected");
    fs::remove_file(env.store().join("containers").join(&a).join("PROTECT")).unwrap();

    let mut running = env.udocker(&["run", "a", "sh", "-c", "echo up; cat"]);
    let mut running = running.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 3];
    std::io::Read::read_exact(running.stdout.as_mut().unwrap(), &mut line).unwrap();
    let busy = env.udocker(&["rm", "a"]).output().unwrap();
    let pid = running.id();
    assert!(stderr(&busy).contains(&format!("Error: container {a} is in use by process {pid}\n")), "{}", stderr(&busy));
    drop(running.stdin.take());
    assert!(running.wait().unwrap().success());
    run(&mut env.udocker(&["rm", "a"]));
    assert_eq!(children(&env.store().join("containers")), Vec::<PathBuf>::new());
    assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
}

#[test]
fn lists_have_udocker_s_columns() {
    let env = env();
    let id = create(&env, &["--name=c"]);
    let head = |words: &[&str]| {
        let output = stdout(&run(&mut env.udocker(words)));
        output.lines().map(|line| line.replace(&id, &"i".repeat(36))).collect::<Vec<_>>()
    };
    let (blank, ids) = (" ".repeat(24), "i".repeat(36));
    assert_eq!(
        head(&["ps", "-m", "-s", "-p"]),
        [
            format!("CONTAINER ID{blank} P M MOD SIZE PLATFORM           NAMES              IMAGE               "),
            format!("{ids} . W N1     1 linux/amd64        ['c']              bb:1                "),
        ]
    );
    assert_eq!(
        head(&["ps"]),
        [
            format!("CONTAINER ID{blank} P M NAMES              IMAGE               "),
            format!("{ids} . W ['c']              bb:1                "),
        ]
    );
}

/// A container as udocker leaves it: full, in `execmode`, its path in every link.
fn left_in(env: &TestEnv, mode: &str) -> (String, PathBuf) {
    let id = create(env, &[]);
    run(&mut env.udocker(&["-q", "inspect", "-p", &id]));
    let directory = env.store().join("containers").join(&id);
    fs::write(directory.join("execmode"), mode).unwrap();
    fs::write(directory.join("root.path"), directory.join("ROOT").to_str().unwrap()).unwrap();
    (id, directory)
}

#[test]
fn a_mode_is_shown_set_and_refused_by_name() {
    let env = env();
    let id = create(&env, &["--name=c"]);
    assert_eq!(stdout(&run(&mut env.udocker(&["setup", "c"]))), "execmode: N1\nnvidiamode: False\n");
    assert_eq!(stdout(&run(&mut env.udocker(&["setup", "--execmode=n1", &id]))), "");
    fails(&env, &["setup", "--execmode=R1", "c"], "Error: cannot set the execution mode");
    fails(&env, &["setup", "--execmode=X9", "c"], "Error: invalid execmode: X9");
    fails(&env, &["setup", "nobody"], "Error: invalid container id");
    let message = format!(
        "Error: cannot set up NVIDIA for container {id}: this host has no libcuda.so in /usr/lib/x86_64-linux-gnu, /usr/lib64"
    );
    fails(&env, &["setup", "--nvidia", "c"], &message);
    fs::write(env.store().join("containers/c/PROTECT"), "").unwrap();
    fails(&env, &["setup", "--execmode=N1", "c"], "Error: container is protected");
}

#[test]
fn what_f_modes_left_is_undone() {
    let env = env();
    let (id, directory) = left_in(&env, "F3");
    let root = directory.join("ROOT");
    // A program of the host with the changes that udocker's patchelf makes, and the loader that F2 leaves.
    for (from, to) in [("/bin/true", "bin/true"), ("/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2")] {
        fs::create_dir_all(root.join(to).parent().unwrap()).unwrap();
        let _ = fs::remove_file(root.join(to));
        fs::copy(from, root.join(to)).unwrap();
    }
    let libc = "/lib/x86_64-linux-gnu/libc.so.6";
    fs::create_dir_all(root.join("lib/x86_64-linux-gnu")).unwrap();
    fs::copy(libc, root.join(&libc[1..])).unwrap();
    let loader = root.join("lib64/ld-linux-x86-64.so.2");
    let patch = |words: &[&str]| run(Command::new("patchelf").args(words).arg(root.join("bin/true")));
    patch(&["--set-interpreter", loader.to_str().unwrap()]);
    patch(&["--set-rpath", &format!("{0}/lib/x86_64-linux-gnu:/opt:{0}/lib64", root.display())]);
    fs::copy(&loader, directory.join("ld.so.orig")).unwrap();
    fs::write(&loader, "a changed loader").unwrap();
    fs::write(directory.join("ld.so.path"), "/lib64/ld-linux-x86-64.so.2").unwrap();
    fs::write(directory.join("patch.path"), directory.to_str().unwrap()).unwrap();
    fs::write(directory.join("patch.time"), "1700000000").unwrap();
    symlink(root.join("etc/passwd"), root.join("absolute")).unwrap();
    run(Command::new("chown").args(["-R", "--reference"]).arg(env.store()).arg(&directory));

    assert_eq!(stdout(&run(&mut env.udocker(&["setup", &id]))), "execmode: F3\nnvidiamode: False\n");
    let refused = env.udocker(&["run", &id, "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("F3"), "{}", stderr(&refused));
    let refused = env.launch(&[&id, "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(123), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("mode F3 is not built in this version"), "{}", stderr(&refused));

    run(&mut env.udocker(&["setup", "--execmode=N1", &id]));
    assert_eq!(stdout(&run(&mut env.udocker(&["setup", &id]))), "execmode: N1\nnvidiamode: False\n");
    let seen = run(&mut env.udocker(&["run", &id, "sh", "-c", "/bin/true && readlink /absolute && echo good"]));
    assert_eq!(stdout(&seen), "/etc/passwd\ngood\n");
    let rpath = run(Command::new("patchelf").arg("--print-rpath").arg(root.join("bin/true")));
    assert_eq!(stdout(&rpath), "/lib/x86_64-linux-gnu:/opt:/lib64\n");
    // For udocker it is in its default mode again.
    assert_eq!(fs::read_to_string(directory.join("execmode")).unwrap(), "P1");
    assert!(!directory.join("patch.path").exists());
}

#[test]
fn purge_and_fixperm_clean_what_runs_left() {
    let env = env();
    let (id, directory) = left_in(&env, "R1");
    let root = directory.join("ROOT");
    fs::create_dir_all(directory.join(".bind_orig_files")).unwrap();
    fs::create_dir_all(directory.join(".mountpoints")).unwrap();
    fs::create_dir_all(root.join(".bind_host_files")).unwrap();
    fs::create_dir_all(root.join("data/in")).unwrap();
    fs::rename(root.join("etc/passwd"), directory.join(".bind_orig_files/#etc#passwd")).unwrap();
    symlink("/.bind_host_files/#etc#passwd", root.join("etc/passwd")).unwrap();
    symlink("#", directory.join(".mountpoints/#data#in")).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    run(Command::new("chown").args(["-R", "--reference"]).arg(env.store()).arg(&directory));
    assert_eq!(stdout(&run(&mut env.udocker(&["setup", "--purge", "--fixperm", &id]))), "");
    assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().starts_with("root:"));
    assert!(!root.join("data").exists() && !root.join(".bind_host_files").exists());
    assert_eq!(fs::metadata(root.join("closed")).unwrap().permissions().mode() & 0o777, 0o700);
    let seen = run(&mut env.udocker(&["run", "--mode=N1", &id, "cat", "/etc/passwd"]));
    assert!(stdout(&seen).starts_with("root:"));
}

/// The host's libraries with a driver among them, in a mount namespace of the commands' own. Needs root.
#[test]
fn a_driver_of_the_host_is_bound_and_not_copied() {
    let env = env();
    let id = create(&env, &["--name=c"]);
    fs::create_dir(env.path("driver")).unwrap();
    fs::write(env.path("driver/libcuda.so.1"), "the driver\n").unwrap();
    let script = r#"
        libraries=/usr/lib/x86_64-linux-gnu
        mount -t overlay driver -o "lowerdir=$DRIVER:$libraries" "$libraries" || exit 99
        u() { setpriv --reuid="$WHO" --regid="$WHO" --clear-groups "$UDOCKER" --allow-root "$@"; }
        u setup --nvidia c && u setup c && u run c cat /usr/lib64/libcuda.so.1
    "#;
    let program = env.udocker(&[]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).env("DRIVER", env.path("driver")).env("UDOCKER", program.get_program());
    command.env("WHO", env.uid().unwrap_or_default().to_string());
    command.env("HOME", env.path("home")).env("UDOCKER_DIR", env.store()).current_dir("/");
    let output = run(&mut command);
    assert_eq!(stdout(&output), "execmode: N1\nnvidiamode: True\nthe driver\n", "{}", stderr(&output));
    let directory = env.store().join("containers").join(id);
    assert_eq!(fs::metadata(directory.join("nvidia")).unwrap().len(), 0);
    // What stays is an empty mount point.
    assert_eq!(fs::read(directory.join("upper/usr/lib64/libcuda.so.1")).unwrap(), b"");
}

#[test]
fn containers_may_be_a_link_to_another_file_system() {
    let env = env();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::remove_dir(env.store().join("containers")).unwrap();
    symlink(elsewhere.path(), env.store().join("containers")).unwrap();
    let id = create(&env, &["--name=one"]);
    assert_eq!(listed(&env), [format!("{id} . W ['one'] bb:1")]);
    run(&mut env.udocker(&["clone", "--name=two", "one"]));
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "two", "echo", "there"]))), "there\n");
    run(&mut env.udocker(&["rm", "one", "two"]));
    assert_eq!(listed(&env), [""; 0]);
    assert_eq!(children(&elsewhere.path().join(".tmp")), Vec::<PathBuf>::new());
}

#[test]
fn a_container_is_made_while_nobody_removes_its_image() {
    let env = env();
    let lock = fs::File::open(env.store().join("udocker.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = env.udocker(&["create", "bb:1"]).stdout(Stdio::piped()).spawn().unwrap();
    let tmp = env.store().join("tmp");
    let begun = || children(&tmp).iter().flat_map(|folder| children(folder)).next();
    let container = loop {
        if let Some(container) = begun() {
            break container;
        }
    };
    std::thread::sleep(std::time::Duration::from_millis(300));
    for part in ["ROOT", "upper", "work", "layered"] {
        assert!(!container.join(part).exists(), "{part} is made while the image may be going");
    }
    drop(lock);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_an_image_has_beside_its_loader_is_not_written_through() {
    let env = env();
    let (clone, tar) = (env.own_directory("clone", 0o755), env.path("clone.tar"));
    let precious = env.path("work/precious");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::chown(&precious, env.uid(), env.uid()).unwrap();
    fs::create_dir_all(clone.join("ROOT/lib")).unwrap();
    for (name, text) in [
        ("container.json", "{}"),
        ("execmode", "F2"),
        ("ld.so.path", "/lib/ld.so"),
        ("ld.so.orig", "original"),
        ("ROOT/lib/ld.so", "changed"),
    ] {
        fs::write(clone.join(name), text).unwrap();
    }
    symlink(&precious, clone.join("ROOT/lib/ld.so.udocker-new")).unwrap();
    run(Command::new("tar").arg("-C").arg(&clone).arg("-cf").arg(&tar).arg("."));
    let id = stdout(&run(&mut env.udocker(&["import", "--clone", tar.to_str().unwrap()])));
    run(&mut env.udocker(&["setup", "--execmode=N1", id.trim()]));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    let loader = env.store().join("containers").join(id.trim()).join("ROOT/lib/ld.so");
    assert_eq!(fs::read_to_string(loader).unwrap(), "original");
}

/// Needs root, for an /etc/subuid of its own.
#[test]
fn what_a_removal_left_of_other_users_goes_with_the_next() {
    if !udocker_tests::is_root() {
        return;
    }
    let env = env();
    let id = create(&env, &["--name=one"]);
    create(&env, &["--name=two"]);
    let user = env.uid().unwrap();
    fs::write(env.path("ids"), "probe:200000:65536\n").unwrap();
    fs::write(env.path("passwd"), format!("root:x:0:0::/:/bin/sh\nprobe:x:{user}:{user}::/:/bin/sh\n")).unwrap();
    let script = r#"
        for file in subuid subgid; do mount --bind "$0/ids" /etc/$file || exit 1; done
        mount --bind "$0/passwd" /etc/passwd || exit 1; shift
        exec setpriv --reuid=$UID --regid=$UID --clear-groups "$@""#;
    let mapped = |words: &[&str]| {
        let inner = env.udocker(words);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script.replace("$UID", &user.to_string())]).arg(env.path(".")).arg("-");
        run(command
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))))
    };
    mapped(&["run", "--user=root", "one", "sh", "-c", "busybox mkdir /x; echo y >/x/y; busybox chown -R 5:5 /x"]);
    // As a removal that was killed leaves it.
    let left = env.own_directory("store/tmp/trash-host-boot-1-1-00", 0o700);
    fs::remove_file(env.store().join("containers/one")).unwrap();
    fs::rename(env.store().join("containers").join(&id), left.join("container")).unwrap();
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    fs::File::open(&left).unwrap().set_modified(yesterday).unwrap();
    run(&mut env.udocker(&["rm", "two"]));
    assert_eq!(children(&env.store().join("tmp")), [left], "files of others cannot go without a range");
    create(&env, &["--name=three"]);
    let foreign = env.store().join("tmp/trash-host-boot-1-1-00");
    fs::File::open(&foreign).unwrap().set_modified(yesterday).unwrap();
    mapped(&["rm", "three"]);
    assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
}

#[test]
fn a_container_without_its_base_is_listed_and_removed_and_nothing_else() {
    let env = env();
    let (one, two) = (create(&env, &["--name=one"]), create(&env, &["--name=two"]));
    let mark = env.store().join("containers").join(&one).join("layered");
    fs::write(&mark, "").unwrap();
    let mut expected = [format!("{one} . W ['one'] bb:1"), format!("{two} . W ['two'] bb:1")];
    expected.sort();
    assert_eq!(listed(&env), expected);
    let message = format!("Error: {} is damaged: it names no tree", mark.display());
    fails(&env, &["clone", "one"], &message);
    fails(&env, &["inspect", "-p", "one"], &message);
    let output = env.udocker(&["run", "one", "true"]).output().unwrap();
    let hint = format!("{message}\n  hint: `udocker rm {one}` removes the container\n");
    assert_eq!((output.status.code(), stderr(&output)), (Some(125), hint));
    run(&mut env.udocker(&["rm", "one"]));
    assert_eq!(listed(&env), [format!("{two} . W ['two'] bb:1")]);
    fs::write(env.store().join("containers").join(&two).join("container.json"), "").unwrap();
    let message = "Error: the configuration of two is damaged: EOF while parsing a value at line 1 column 0";
    fails(&env, &["inspect", "two"], message);
}

/// Needs root, for a PID namespace.
#[test]
fn what_is_made_in_another_pid_namespace_is_not_swept() {
    if !udocker_tests::is_root() {
        return;
    }
    let env = env();
    let lock = fs::File::open(env.store().join("udocker.lock")).unwrap();
    lock.lock().unwrap();
    let inner = env.udocker(&["create", "bb:1"]);
    let id = env.uid().unwrap().to_string();
    let mut outer = Command::new("unshare");
    outer.args(["-pf", "--mount-proc", "setpriv", "--clear-groups", "--reuid", &id, "--regid", &id]);
    outer.arg(inner.get_program()).args(inner.get_args()).env_clear().current_dir("/");
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = outer.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while children(&env.store().join("tmp")).is_empty() {}
    assert_eq!(listed(&env), [""; 0]);
    assert_eq!(children(&env.store().join("tmp")).len(), 1);
    drop(lock);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(listed(&env), [format!("{} . W bb:1", stdout(&output).trim())]);
}
