//! Running an image natively: statuses, streams, volumes, signals, and that nothing stays.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use udocker_tests::{TestEnv, run, stderr, stdout};

fn image() -> TestEnv {
    let env = TestEnv::new();
    env.import_busybox("bb:1");
    env
}

#[test]
fn the_program_s_status_is_ours() {
    let env = image();
    for status in [0, 1, 2, 42, 125, 126, 127, 200, 255] {
        let output = env.udocker(&["run", "bb:1", "sh", "-c", &format!("exit {status}")]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
    }
    let killed = env.udocker(&["run", "bb:1", "sh", "-c", "kill -9 $$"]).output().unwrap();
    // Exec in place: the signal is the process's own; a shell shows it as 137.
    assert_eq!(killed.status.signal(), Some(9));
}

#[test]
fn docker_s_statuses_for_what_does_not_start() {
    let env = image();
    for (words, status, message) in [
        (&["run", "bb:1", "nothere"][..], 127, "nothere"),
        (&["run", "bb:1", "/etc/passwd"], 126, "/etc/passwd"),
        (&["run", "--workdir=/nothere", "bb:1", "true"], 125, "/nothere"),
        (&["run", "-v", "/nothere:/x", "bb:1", "true"], 125, "/nothere"),
        (&["run", "--pull=never", "no/such:image", "true"], 125, "no/such:image"),
        (&["run", "127.0.0.1:1/x:1", "true"], 125, "127.0.0.1:1"),
        (&["run", "--nope", "bb:1", "true"], 1, "syntax error at: --nope"),
        (&["run", "--mode=P1", "bb:1", "true"], 1, "--mode=P1 is not supported by this version"),
        (&["nope"], 1, "invalid command: nope"),
    ] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("Error: "), "{words:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{words:?}");
    }
}

#[test]
fn streams_stay_apart_and_whole() {
    let env = image();
    let output = run(&mut env.udocker(&["run", "bb:1", "sh", "-c", "echo out; echo err >&2"]));
    assert_eq!((stdout(&output), stderr(&output)), ("out\n".into(), "err\n".into()));

    let sent: Vec<u8> = (0..16u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut command = env.udocker(&["run", "bb:1", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let mut received = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(received == sent, "{} bytes came of {}", received.len(), sent.len());
}

#[test]
fn volumes_are_bound_and_ro_is_kept() {
    let env = image();
    std::fs::create_dir(env.path("data")).unwrap();
    std::fs::write(env.path("data/file"), "content\n").unwrap();
    let data = env.path("data").display().to_string();
    let script = "cat /new/deep/file /f; echo more > /new/deep/other; echo x > /ro/no 2>/dev/null || echo refused";
    let volumes = [format!("{data}:/new/deep"), format!("{data}/file:/f"), format!("{data}:/ro:ro")];
    let words: Vec<&str> =
        ["run", "-v", &volumes[0], "-v", &volumes[1], "-v", &volumes[2], "bb:1", "sh", "-c", script].to_vec();
    let output = run(&mut env.udocker(&words));
    assert_eq!(stdout(&output), "content\ncontent\nrefused\n");
    assert_eq!(std::fs::read_to_string(env.path("data/other")).unwrap(), "more\n");
}

#[test]
fn writes_go_with_the_run_and_stay_in_a_container() {
    let env = image();
    let listing = |env: &TestEnv| stdout(&run(&mut env.udocker(&["run", "bb:1", "ls", "/"])));
    let before = listing(&env);
    run(&mut env.udocker(&["run", "bb:1", "touch", "/written"]));
    assert_eq!(listing(&env), before);

    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"])));
    run(&mut env.udocker(&["run", "c", "touch", "/written"]));
    assert!(stdout(&run(&mut env.udocker(&["run", "c", "ls", "/"]))).contains("written"));
    let listed = stdout(&run(&mut env.udocker(&["ps"])));
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains(id.trim()) && listed.contains("['c']"), "{listed}");
    let twice = env.udocker(&["create", "--name=c", "bb:1"]).output().unwrap();
    assert_eq!(
        (twice.status.code(), stderr(&twice).lines().next().unwrap_or("").to_owned()),
        (Some(1), "Error: container name already exists".into())
    );
    run(&mut env.udocker(&["rm", "c"]));
    assert_eq!(stdout(&run(&mut env.udocker(&["ps"]))).lines().count(), 1);
    assert_eq!(std::fs::read_dir(env.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn a_layered_container_becomes_a_full_one_with_all_its_changes() {
    let env = image();
    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"])));
    let change = "cd /; echo new > etc/new; echo changed > etc/group; rm bin/touch; rm -r tmp; mkdir tmp; echo x > tmp/x; \
                  rm bin/pwd; mkdir bin/pwd; echo in > bin/pwd/in; ln -s new etc/link; ln etc/new etc/hard; chmod 4711 etc/new; \
                  rm -r root";
    run(&mut env.udocker(&[
        "run",
        "c",
        "/bin/busybox",
        "sh",
        "-c",
        &change
            .replace("rm", "busybox rm")
            .replace("mkdir", "busybox mkdir")
            .replace("ln ", "busybox ln ")
            .replace("chmod", "busybox chmod"),
    ]));
    let look = "busybox find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -print | busybox sort; \
                cat /etc/new /etc/group /etc/link /tmp/x /bin/pwd/in";
    let inside = |env: &TestEnv| stdout(&run(&mut env.udocker(&["run", "c", "busybox", "sh", "-c", look])));
    let before = inside(&env);
    assert!(before.contains("/bin/pwd/in\n") && !before.contains("/bin/touch\n"), "{before}");
    let root = stdout(&run(&mut env.udocker(&["inspect", "-p", "c"])));
    let root = std::path::Path::new(root.trim());
    assert_eq!(root, env.path("store/containers").join(id.trim()).join("ROOT"));
    assert_eq!(inside(&env), before);
    assert_eq!(std::fs::read_to_string(root.join("etc/group")).unwrap(), "changed\n");
    let mut left: Vec<_> = root
        .parent()
        .unwrap()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["ROOT", "container.json", "imagerepo.name"]);
    // A second time nothing happens.
    assert_eq!(stdout(&run(&mut env.udocker(&["inspect", "-p", "c"]))).trim(), root.to_str().unwrap());
    assert_eq!(std::fs::read_dir(env.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn the_launcher_gives_a_read_only_root_in_place() {
    let env = image();
    let script = "touch /x 2>&1; echo $$; pwd";
    let mut command = env.launch(&["bb:1", "sh", "-c", script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), format!("touch: /x: Read-only file system\n{pid}\n/\n"), "{}", stderr(&output));
    for (words, status, message) in [
        (&["bb:1", "nothere"][..], 127, "nothere"),
        (&["--pull=never", "no/such:1", "true"], 122, "no/such:1"),
        (&["--gpu=all", "bb:1", "true"], 125, "option --gpu is not supported by this version"),
    ] {
        let output = env.launch(words).env("SLURM_PROCID", "3").output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", stderr(&output));
        assert!(
            stderr(&output).starts_with("udocker: [") && stderr(&output).contains(" task 3] "),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains(message), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn the_launcher_shows_a_container_and_changes_nothing_in_it() {
    let env = image();
    run(&mut env.udocker(&["create", "--name=c", "bb:1"]));
    run(&mut env.udocker(&["run", "c", "touch", "/kept"]));
    for (command, what) in [
        (env.launch(&["c", "ls", "/kept"]), "the launcher"),
        (env.udocker(&["run", "--write=none", "c", "ls", "/kept"]), "run --write=none"),
        (env.launch(&["--write=tmpfs", "c", "sh", "-c", "touch /gone && ls /kept"]), "the launcher, in memory"),
    ] {
        let mut command = command;
        assert_eq!(stdout(&run(&mut command)), "/kept\n", "{what}");
    }
    for mut command in [env.launch(&["c", "touch", "/no"]), env.udocker(&["run", "--write=none", "c", "touch", "/no"])]
    {
        let refused = command.output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(stderr(&refused), "touch: /no: Read-only file system\n");
    }
    assert_eq!(
        stdout(&run(&mut env.udocker(&["run", "c", "sh", "-c", "ls -d /kept; ls /gone /no 2>/dev/null; true"]))),
        "/kept\n"
    );
    let refused = env.launch(&["--pull=always", "c", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--pull"), "{}", stderr(&refused));
}

/// A container that is a full copy is shown and written alike.
#[test]
fn a_full_container_is_shown_read_only_by_the_launcher() {
    let env = image();
    run(&mut env.udocker(&["create", "--name=c", "bb:1"]));
    run(&mut env.udocker(&["inspect", "-p", "c"]));
    run(&mut env.udocker(&["run", "c", "touch", "/kept"]));
    assert_eq!(stdout(&run(&mut env.launch(&["c", "ls", "/kept"]))), "/kept\n");
    assert_eq!(env.launch(&["c", "touch", "/no"]).output().unwrap().status.code(), Some(1));
    assert_eq!(env.udocker(&["run", "c", "ls", "/no"]).output().unwrap().status.code(), Some(1));
}

/// `/var/run` is a link to `/run` in most images, and a job has a tmpfs on `/run`.
#[test]
fn a_mount_through_a_link_of_the_image_lies_in_the_mount_that_it_leads_to() {
    let env = TestEnv::new();
    env.busybox_tar();
    let root = env.path("root");
    std::fs::create_dir_all(root.join("run/there")).unwrap();
    std::fs::create_dir_all(root.join("var")).unwrap();
    std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
    let tar = env.path("linked.tar");
    run(std::process::Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
    run(&mut env.udocker(&["import", tar.to_str().unwrap(), "linked:1"]));
    std::fs::create_dir(env.path("data")).unwrap();
    std::fs::write(env.path("data/file"), "content\n").unwrap();
    for write in ["none", "tmpfs"] {
        for place in ["there", "new"] {
            let write = format!("--write={write}");
            let mount = format!("--mount={}:/var/run/{place}:ro", env.path("data").display());
            let script = format!("cat /run/{place}/file; echo x > /run/{place}/no 2>/dev/null || echo refused");
            let output = run(&mut env.launch(&[&write, &mount, "linked:1", "sh", "-c", &script]));
            assert_eq!(stdout(&output), "content\nrefused\n", "{write} {mount}: {}", stderr(&output));
        }
    }
}

/// What `make test` links is what `make dist` ships: no loader, no shared library, a fixed address.
#[test]
fn the_launcher_needs_no_loader() {
    let path = std::env::var_os("UDOCKER_LAUNCH_BIN").expect("`make test` names the static launcher");
    let elf = std::fs::read(path).unwrap();
    let number =
        |at: usize, size: usize| elf[at..at + size].iter().rev().fold(0usize, |n, byte| n << 8 | *byte as usize);
    assert_eq!((&elf[..4], elf[4]), (&b"\x7fELF"[..], 2), "a 64-bit ELF file");
    assert_eq!(number(16, 2), 2, "ET_EXEC");
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|index| number(start + index * size, 4)).collect();
    assert!(
        kinds.contains(&1) && !kinds.contains(&2) && !kinds.contains(&3),
        "PT_LOAD, no PT_DYNAMIC, no PT_INTERP: {kinds:?}"
    );
}

#[test]
fn many_at_once_leave_nothing() {
    let env = image();
    let list = || {
        stdout(&run(std::process::Command::new("find")
            .arg(env.path("store"))
            .args(["-printf", "%p %y %m %s %T@ %i\n"])))
    };
    // The first run answers the probe.
    run(&mut env.udocker(&["run", "bb:1", "true"]));
    let before = list();
    let children: Vec<_> = (0..64).map(|_| env.udocker(&["run", "bb:1", "true"]).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(list(), before);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("udocker-test-"), "{mounts}");
}
