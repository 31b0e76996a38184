//! A kernel as old as 4.18, as far as system calls go: the wrapper answers ENOSYS to those numbered 335 and above.

use std::process::Command;

use udocker_tests::{TestEnv, program, run, stderr, stdout};

/// `words` under the wrapper, which core's examples build.
fn old(env: &TestEnv, words: &[&str]) -> Command {
    let inner = env.udocker(words);
    let mut command = Command::new(program("examples/enosys"));
    command.arg(inner.get_program()).args(inner.get_args()).env_clear().current_dir("/");
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn the_main_road_needs_no_newer_call() {
    let env = TestEnv::new();
    let tar = env.busybox_tar();
    run(&mut old(&env, &["import", tar.to_str().unwrap(), "bb:1"]));
    assert_eq!(stdout(&run(&mut old(&env, &["images"]))), "REPOSITORY\nbb:1    .\n");
    assert_eq!(stdout(&run(&mut old(&env, &["run", "bb:1", "echo", "here"]))), "here\n");
    assert_eq!(stdout(&run(&mut old(&env, &["run", "--write=none", "bb:1", "echo", "here"]))), "here\n");
    let data = format!("{}:/mnt/data:ro", env.path("root").display());
    let script = "ls /mnt/data; echo x > /mnt/data/x || echo refused";
    let output = run(&mut old(&env, &["run", "-v", &data, "bb:1", "sh", "-c", script]));
    assert_eq!(stdout(&output), "bin\ndev\netc\nproc\nroot\nsys\ntmp\nrefused\n", "{}", stderr(&output));
    run(&mut old(&env, &["create", "--name=c", "bb:1"]));
    run(&mut old(&env, &["run", "c", "touch", "/kept"]));
    assert_eq!(stdout(&run(&mut old(&env, &["run", "c", "ls", "/kept"]))), "/kept\n");
    run(&mut old(&env, &["rm", "c"]));
    run(&mut old(&env, &["rmi", "bb:1"]));
}
