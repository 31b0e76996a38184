//! A job keeps to the image that its first task found, where the site wants that; another job takes what the tag is then.

use std::process::Output;

use udocker_tests::images::Kind;
use udocker_tests::{Registry, TestEnv, children, code, run, stderr, stdout};

/// One task of a step of a job; no other test has such a job.
fn task(env: &TestEnv, (job, step): (&str, &str), words: &[&str]) -> Output {
    let job = format!("{job}{}", std::process::id());
    let mut command = env.launch(words);
    command
        .env("SLURM_JOB_ID", job)
        .env("SLURM_STEP_ID", step)
        .env("SLURM_PROCID", "0")
        .env("SLURM_STEP_NUM_TASKS", "2");
    command.output().unwrap()
}

/// What only the second image has.
const LOOK: [&str; 3] = ["sh", "-c", "[ -e /etc/arch ] && echo second || echo first"];

#[test]
fn a_tag_that_moves_does_not_split_a_job() {
    let mut env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.publish(&Kind::Busybox.image(), "x");
    run(&mut env.udocker(&["images"]));
    let words = [&[reference.as_str()], &LOOK[..]].concat();
    let saw = |env: &TestEnv, place: (&str, &str)| {
        let output = task(env, place, &words);
        assert_eq!(code(&output), 0, "{output:?}");
        stdout(&output)
    };
    env.set_site("[policy]\npin = \"prefer\"\n");
    assert_eq!(saw(&env, ("1", "0")), "first\n");
    registry.publish(&Kind::Multi.image(), "x");
    run(&mut env.udocker(&["pull", &reference]));
    assert_eq!(saw(&env, ("1", "1")), "first\n", "the job's later step");
    assert_eq!(saw(&env, ("2", "0")), "second\n", "another job");
    assert_eq!(children(&env.store().join("pins")).len(), 2);
    env.set_site("");
    assert_eq!(saw(&env, ("1", "2")), "second\n", "without pins");
    assert_eq!(children(&env.store().join("pins")).len(), 2);
    assert_eq!(children(&env.store().join("tmp")).len(), 0);
}

#[test]
fn where_a_pin_is_required_and_cannot_be_written_no_task_runs() {
    let mut env = TestEnv::ordinary();
    env.import_busybox("i:1");
    let resolved = stdout(&run(&mut env.udocker(&["resolve", "i:1"])));
    // Another's store, which this user may read.
    for path in ["store", "store/rootfs", "store/records", "store/repos"] {
        std::fs::set_permissions(env.path(path), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    run(std::process::Command::new("chown").args(["-R", "0:0"]).arg(env.store()));
    run(std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(env.store()));
    for (pin, status) in [("require", 121), ("prefer", 0), ("off", 0)] {
        env.set_site(&format!("[policy]\npin = \"{pin}\"\n"));
        let output = task(&env, ("7", pin), &["i:1", "true"]);
        assert_eq!(code(&output), status, "{pin}: {output:?}");
        if status != 0 {
            let told = "cannot write down which image i:1 is for this job: none of its stores can be written";
            assert!(stderr(&output).contains(told), "{}", stderr(&output));
            assert!(stderr(&output).contains("`udocker resolve i:1` prints its name"), "{}", stderr(&output));
            let output = task(&env, ("7", "digest"), &[resolved.trim_end(), "true"]);
            assert_eq!(code(&output), 0, "a digest needs no pin: {output:?}");
        }
    }
}
