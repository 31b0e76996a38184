//! `udocker-launch` in a login shell's place, as PBS starts it: `-NAME` as argv[0], the script's path on standard input.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use udocker_tests::{TestEnv, code, run, stderr, stdout};

/// The output of the launcher as shell of `shell`, which reads `input`.
fn login(env: &TestEnv, variables: &[(&str, &str)], words: &[&str], input: &str) -> (String, String, i32) {
    let mut command = env.launch(words);
    command.arg0("-udocker-launch").envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the launcher starts");
    // A shell that is refused reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("output");
    (stdout(&output), stderr(&output), code(&output))
}

#[test]
fn it_is_the_users_shell_inside() {
    let env = TestEnv::ordinary();
    env.import_busybox("i");
    let asks = "echo $0; readlink /bin/sh; [ -e /usr/bin/env ] || echo no host\n";
    for mode in ["N1", "P2"] {
        let image = [("UDOCKER_IMAGE", "i"), ("UDOCKER_MODE", mode)];
        let shell = |name| [&image[..], &[("UDOCKER_SHELL", name)]].concat();
        let inside = |name: &str| (format!("{name}\nbusybox\nno host\n"), String::new(), 0);
        assert_eq!(login(&env, &image, &[], asks), inside("-sh"), "{mode}");
        assert_eq!(login(&env, &shell("/bin/bash"), &[], asks), inside("-sh"), "{mode}: the image has no bash");
        assert_eq!(
            login(&env, &shell("/bin/sh"), &["-s", "--", "one"], "echo $1 $#"),
            ("one 1\n".into(), String::new(), 0)
        );
        assert_eq!(login(&env, &image, &[], "exit 44\n").2, 44, "{mode}");
    }
}

/// A job's script is read by the shell, which runs it by its path.
#[test]
fn a_spooled_script_runs_by_its_first_line() {
    let env = TestEnv::ordinary();
    env.import_busybox("i");
    let spool = env.own_directory("spool", 0o755);
    let script = spool.join("1.SC");
    fs::write(&script, "#!/bin/sh\nreadlink /bin/sh\nexit 7\n").unwrap();
    run(std::process::Command::new("chmod").arg("755").arg(&script));
    let mount = format!("{0}:{0}:ro", script.display());
    let variables = [("UDOCKER_IMAGE", "i"), ("UDOCKER_MOUNT", &mount)];
    let ended = login(&env, &variables, &[], &format!("{}\n", script.display()));
    assert_eq!(ended, ("busybox\n".into(), String::new(), 7));
}

#[test]
fn without_an_image_nothing_runs() {
    let env = TestEnv::ordinary();
    let told = "udocker: no image: a login shell runs in the one that UDOCKER_IMAGE names\n  \
                hint: `udocker-launch --help` lists the options\n";
    assert_eq!(login(&env, &[], &[], "echo on the host\n"), (String::new(), told.into(), 125));
}
