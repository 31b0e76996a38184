//! `udocker-launch` in a batch script: one after the other, each finds what there is then and speaks for itself.

use std::process::{Command, Output};

use udocker_tests::node::Node;
use udocker_tests::{code, run, stderr, stdout};

/// What a script and an interactive shell have in common.
const STEPS: [(&str, &str); 3] = [("4294967291", "1"), ("4294967290", "1"), ("0", "1")];

fn in_job(node: &Node, step: (&str, &str), words: &[&str]) -> Output {
    let mut command = node.env.launch(words);
    command.env("SLURM_JOB_ID", "1").env("SLURM_STEP_ID", step.0).env("SLURM_STEP_NUM_TASKS", step.1);
    command.env("SLURM_PROCID", "0").output().expect("a launcher")
}

/// Puts `text` into `/version` of the image `i`.
fn import(node: &Node, text: &str) {
    let root = node.env.path("root");
    std::fs::write(root.join("version"), text).unwrap();
    let archive = node.env.path("version.tar");
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
    run(&mut node.env.udocker(&["rmi", "-f", "i"]));
    run(&mut node.env.udocker(&["import", archive.to_str().unwrap(), "i"]));
}

#[test]
fn each_command_finds_the_image_that_is_there() {
    let node = Node::new();
    for (number, step) in STEPS.into_iter().enumerate() {
        for version in ["first\n", "second\n"] {
            import(&node, version);
            let output = in_job(&node, step, &["i", "cat", "/version"]);
            assert_eq!(
                (code(&output), stdout(&output).as_str(), stderr(&output).as_str()),
                (0, version, ""),
                "{number}"
            );
        }
        let always = in_job(&node, step, &["--pull=always", "127.0.0.1:1/none", "true"]);
        assert_eq!(code(&always), 122, "{always:?}");
    }
}

#[test]
fn each_command_says_why_it_failed() {
    let node = Node::new();
    let name = run(Command::new("hostname").arg("-s"));
    let expected = format!("udocker: [{}] cannot run `nothere`: it is not in the container\n", stdout(&name).trim());
    for step in STEPS {
        for _ in 0..3 {
            let output = in_job(&node, step, &["i", "nothere"]);
            assert!(code(&output) == 127 && stderr(&output).starts_with(&expected), "{output:?}");
        }
    }
    // One task of several says it for all, as often as it fails.
    let rank = |number: &str| {
        let mut command = node.env.launch(&["i", "nothere"]);
        command.env("SLURM_JOB_ID", "1").env("SLURM_STEP_ID", "3").env("SLURM_STEP_NUM_TASKS", "2");
        stderr(&command.env("SLURM_PROCID", number).output().unwrap()).lines().count()
    };
    let told: Vec<usize> = ["1", "0", "1", "0"].map(rank).into();
    assert!(told[0] > 0, "{told:?}");
    assert_eq!(told, [told[0], 0, told[0], 0]);
}
