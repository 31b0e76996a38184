//! The modes P1 and P2 on the command line: what is copied, what is refused, what is left, and how `auto` comes to them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use udocker_tests::{TestEnv, children, code, run, stderr, stdout, tree};

fn image() -> TestEnv {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    env
}

/// The run directory of who runs our programs.
fn run_directory(env: &TestEnv) -> PathBuf {
    let uid = env.uid().unwrap_or_else(|| rustix::process::getuid().as_raw());
    let known = [format!("/run/udocker/{uid}"), format!("/dev/shm/udocker-{uid}"), format!("/tmp/udocker-{uid}")];
    known.into_iter().map(PathBuf::from).find(|path| path.is_dir()).expect("a run directory")
}

/// What the process `pid` left in the run directory.
fn left_by(env: &TestEnv, pid: u32) -> Vec<PathBuf> {
    let all = children(&run_directory(env).join("tmp"));
    all.into_iter().filter(|path| path.to_string_lossy().contains(&format!("-{pid}-"))).collect()
}

fn failed(output: &Output, status: i32, text: &str) {
    assert_eq!(code(output), status, "{}", stderr(output));
    assert!(stderr(output).contains(text), "{}", stderr(output));
}

#[test]
fn an_image_is_copied_for_its_run_and_the_copy_goes() {
    let env = image();
    let before = tree::listing(&env.only_tree());
    for mode in ["--mode=P1", "--mode=P2"] {
        let script = "id -u; touch /made /bin/made; ls /; exit 9";
        let output = env.udocker(&["run", mode, "bb:1", "sh", "-c", script]).output().unwrap();
        assert_eq!(stdout(&output), "0\nbin\ndev\netc\nmade\nproc\nroot\nsys\ntmp\n", "{}", stderr(&output));
        assert_eq!(code(&output), 9);
        let said = stderr(&output);
        assert!(said.starts_with("Info: copied the image's root ("), "{said}");
        assert!(said.contains("lays no writable layer over it\n  hint: `--write=none` needs no copy"), "{said}");
        assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
    }
    assert_eq!(tree::listing(&env.only_tree()), before);
}

/// Whatever lengths their names have: the first program is the one that the tracer writes beside the stack of.
#[test]
fn a_script_as_the_first_program_is_run_by_the_image_s_shell() {
    let env = image();
    let work = env.own_directory("scripts", 0o755);
    for length in 1..=20 {
        let name = "x".repeat(length);
        let script = work.join(&name);
        fs::write(&script, "#!/bin/sh\n[ -e /usr/bin/env ] || echo inside $0 $#\n").unwrap();
        fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        for program in [format!("./{name}"), script.display().to_string()] {
            let mut launched = env.launch(&["--mode=P2", "bb:1", "--", &program, "a"]);
            let output = launched.current_dir(&work).output().unwrap();
            assert_eq!((stdout(&output), stderr(&output)), (format!("inside {program} 1\n"), String::new()));
        }
    }
}

#[test]
fn a_shared_root_answers_erofs() {
    let env = image();
    let before = tree::listing(&env.only_tree());
    let script = "touch /etc/passwd; echo x > /new; touch /tmp/a /run/b && ls /tmp /run; echo $?";
    let expected = "/run:\nb\n\n/tmp:\na\n0\n";
    let output = env.udocker(&["run", "--mode=P2", "--write=none", "bb:1", "sh", "-c", script]).output().unwrap();
    let refused = "touch: /etc/passwd: Read-only file system\nsh: can't create /new: Read-only file system\n";
    assert_eq!((stdout(&output), stderr(&output)), (expected.into(), refused.into()));
    let mut launched = env.launch(&["--mode=P1", "bb:1", "sh", "-c", "touch /etc/passwd; id -u; pwd"]);
    let child = launched.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let uid = env.uid().unwrap_or_else(|| rustix::process::getuid().as_raw());
    let refused = "touch: /etc/passwd: Read-only file system\n";
    assert_eq!((stdout(&output), stderr(&output)), (format!("{uid}\n/\n"), refused.into()));
    assert_eq!(tree::listing(&env.only_tree()), before);
    assert_eq!(left_by(&env, pid), Vec::<PathBuf>::new());
}

#[test]
fn a_container_is_set_to_a_mode_and_back() {
    let env = image();
    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"]))).trim().to_owned();
    let directory = env.store().join("containers").join(id);
    run(&mut env.udocker(&["run", "c", "touch", "/natively"]));
    for mode in ["P1", "P2"] {
        run(&mut env.udocker(&["setup", &format!("--execmode={mode}"), "c"]));
        assert_eq!(stdout(&run(&mut env.udocker(&["setup", "c"]))), format!("execmode: {mode}\nnvidiamode: False\n"));
        assert_eq!(fs::read_to_string(directory.join("execmode")).unwrap(), mode);
        assert!(!directory.join("mode").exists() && !directory.join("upper").exists());
        let output =
            run(&mut env.udocker(&["run", "c", "sh", "-c", "ls / >/listed; cat /listed; echo $container_execmode"]));
        assert!(stdout(&output).ends_with(&format!("natively\nproc\nroot\nsys\ntmp\n{mode}\n")), "{}", stdout(&output));
        assert_eq!(stderr(&output), "");
        assert!(directory.join("ROOT/listed").exists());
        let plan = stdout(&run(&mut env.udocker(&["run", "--dry-run", "c", "true"])));
        assert!(plan.contains(&format!("\"mode\": \"{mode}\",\n  \"engine\": \"ptrace\"")), "{plan}");
        let output = env.launch(&["c", "sh", "-c", "cat /listed && touch /listed"]).output().unwrap();
        failed(&output, 1, "touch: /listed: Read-only file system");
    }
    run(&mut env.udocker(&["setup", "--execmode=N1", "c"]));
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "c", "ls", "/listed"]))), "/listed\n");
    let output = env.udocker(&["setup", "--execmode=F1", "c"]).output().unwrap();
    failed(&output, 1, "mode F1 is not built in this version");
}

#[test]
fn a_layered_container_gets_a_root_of_its_own_when_it_is_traced() {
    let env = image();
    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"]))).trim().to_owned();
    let directory = env.store().join("containers").join(&id);
    assert!(directory.join("upper").exists(), "overlays work here");
    run(&mut env.udocker(&["run", "c", "touch", "/natively"]));
    let output = env.launch(&["--mode=P2", "c", "true"]).output().unwrap();
    failed(&output, 123, &format!("cannot run container {id} in mode P2: it is a layer over its image"));
    let output = run(&mut env.udocker(&["run", "--mode=P2", "c", "ls", "/natively"]));
    assert_eq!(stdout(&output), "/natively\n");
    assert!(stderr(&output).contains("has a ROOT of its own from now on ("), "{}", stderr(&output));
    assert!(directory.join("ROOT/natively").exists() && !directory.join("upper").exists());
}

#[test]
fn what_needs_a_layer_or_a_namespace_is_refused_by_name() {
    let env = image();
    let directory = format!("--write=dir:{}", env.path("work/over").display());
    for (write, told) in [(directory.as_str(), "--write=dir:"), ("--write=tmpfs:10m", "--write=tmpfs:10M")] {
        let output = env.udocker(&["run", "--mode=P2", write, "bb:1", "true"]).output().unwrap();
        failed(&output, 125, &format!("cannot run with {told}"));
        assert!(stderr(&output).contains("in mode P2: it lays no writable layer over an image"), "{}", stderr(&output));
        failed(&env.launch(&["--mode=P2", write, "bb:1", "true"]).output().unwrap(), 123, told);
    }
    let output = env.launch(&["--mode=P2", "--mount=tmpfs:/x:size=1m", "bb:1", "true"]).output().unwrap();
    failed(&output, 123, "cannot limit the size of the tmpfs on `/x` (from --mount) in this mode");
    for (words, status, text) in [
        (&["bb:1", "nothere"][..], 127, "cannot run `nothere`: it is not in the container"),
        (&["bb:1", "/etc/passwd"], 126, "cannot run `/etc/passwd`: it is not executable"),
        (&["--workdir=/nothere", "bb:1", "true"], 125, "cannot change to the working directory `/nothere`"),
        (&["--mount=/nothere:/x", "bb:1", "true"], 125, "cannot open the mount's source `/nothere` (from --mount)"),
    ] {
        let words = [&["--mode=P2"], words].concat();
        failed(&env.launch(&words).output().unwrap(), status, text);
    }
}

#[test]
fn the_launcher_ends_as_its_program_ended() {
    let env = image();
    let ended = |script: &str| env.launch(&["--mode=P2", "bb:1", "sh", "-c", script]).output().unwrap().status;
    assert_eq!(ended("exit 77").code(), Some(77));
    for signal in [libc::SIGKILL, libc::SIGUSR1, libc::SIGTERM, libc::SIGSEGV] {
        let status = ended(&format!("kill -{signal} $$"));
        assert_eq!((status.signal(), status.core_dumped()), (Some(signal), false));
    }
}

/// A command in a user namespace where no other can be made.
fn without_namespaces(command: &Command) -> Command {
    let mut wrapped = Command::new("unshare");
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
    wrapped.args(["-Ur", "sh", "-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    wrapped.env_clear().current_dir("/").stdin(Stdio::null());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

#[test]
fn where_namespaces_are_refused_a_tracer_runs_it() {
    // In that namespace other users' files are nobody's, so who is root there has made all.
    let env = TestEnv::new();
    env.import_busybox("bb:1");
    let output = without_namespaces(&env.udocker(&["run", "--write=none", "bb:1", "id", "-u"])).output().unwrap();
    assert_eq!(stdout(&output), "0\n", "{}", stderr(&output));
    let why = "Info: running in mode P1, since cannot make a user and a mount namespace here: No space left on device";
    assert!(stderr(&output).starts_with(why), "{}", stderr(&output));
    let output = without_namespaces(&env.launch(&["bb:1", "id", "-u"])).output().unwrap();
    assert_eq!(stdout(&output), "0\n");
    assert!(stderr(&output).starts_with(&why.replace("Info", "udocker")), "{output:?}");
    let output = without_namespaces(&env.udocker(&["run", "--mode=N1", "bb:1", "true"])).output().unwrap();
    failed(&output, 125, "cannot make a user and a mount namespace");
}

#[test]
fn doctor_tells_what_works_and_what_helps() {
    let env = TestEnv::new();
    let rows = |output: &Output| -> Vec<(String, bool, String)> {
        let rows: serde_json::Value = serde_json::from_str(&stdout(output)).unwrap();
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (text(row, "mode"), row["works"].as_bool().unwrap(), text(row, "why"))).collect()
    };
    let here = rows(&run(&mut env.udocker(&["doctor", "--format=json"])));
    let works: Vec<_> = here.iter().filter(|row| row.1).map(|row| row.0.as_str()).collect();
    assert_eq!(works, ["N1", "N1 overlay", "P1", "P2"]);
    let rest: Vec<_> = here.iter().filter(|row| !row.1).map(|row| row.2.as_str()).collect();
    assert_eq!(rest.len(), 8);
    assert_eq!(rest[0], "mode F1 is not built in this version");
    let output = without_namespaces(&env.udocker(&["doctor"])).output().unwrap();
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    let expected = "MODE        WORKS WHAT IT IS\nN1          no    user namespaces\n  \
        cannot make a user and a mount namespace here: No space left on device (os error 28)\n  \
        \x20 hint: the number of user namespaces is limited: see the sysctl user.max_user_namespaces (0 forbids them)\n\
        N1 overlay  no    writable layers over the store\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.contains(
            "\nP1          yes   a tracer\nP2          yes   a tracer\nF1          no    not in this version\n"
        )
    );
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes with `mark` in their environment.
fn marked(mark: &str) -> usize {
    let has_mark = |path: &Path| {
        fs::read(path.join("environ")).is_ok_and(|text| text.windows(mark.len()).any(|part| part == mark.as_bytes()))
    };
    fs::read_dir("/proc").unwrap().flatten().filter(|entry| has_mark(&entry.path())).count()
}

#[test]
fn a_killed_run_leaves_no_process_and_its_files_are_swept() {
    let env = image();
    let mark = format!("MARK=traced-{}", std::process::id());
    let words = ["run", "--mode=P2", "-e", &mark, "bb:1", "sh", "-c", "sleep 1000 & sleep 1000; true"];
    let mut child = env.udocker(&words).stderr(Stdio::null()).spawn().unwrap();
    wait_for("three processes", || marked(&mark) == 3);
    assert_eq!(children(&env.store().join("tmp")).len(), 1, "the private root");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("no process", || marked(&mark) == 0);
    run(&mut env.udocker(&["run", "--mode=P2", "bb:1", "true"]));
    assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
    assert_eq!(left_by(&env, child.id()), Vec::<PathBuf>::new());
}
