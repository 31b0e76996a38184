//! What every command prints: its help, its output on a prepared store, its errors; without a terminal and on one alike.
//!
//! Each file in `cmd` is one command's and has a home and a store of its own, with the image `bb:1` and the container
//! `work` in it. `TRYCMD=overwrite` writes the files anew; what differs between machines is replaced by `golden.py`.

use std::path::{Path, PathBuf};

use udocker_tests::images::Kind;
use udocker_tests::{Registry, TestEnv, children, program, run, stdout};

fn files() -> Vec<PathBuf> {
    children(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cmd"))
}

fn golden(terminal: bool) {
    let shared = TestEnv::new();
    let registry = Registry::start(&shared);
    for kind in [Kind::Busybox, Kind::Multi] {
        registry.serve(kind);
    }
    for file in files() {
        let env = TestEnv::ordinary();
        env.import_busybox("bb:1");
        run(&mut env.udocker(&["create", "--name=work", "bb:1"]));
        let cases = trycmd::TestCases::new();
        cases.register_bin("udocker", Path::new(env!("CARGO_MANIFEST_DIR")).join("golden.py"));
        let path = |path: PathBuf| path.to_str().expect("a path of ours").to_owned();
        cases.env("GOLDEN_PROGRAM", path(program_of(&env)));
        cases.env("GOLDEN_DIRECTORY", path(env.path("").components().collect()));
        cases.env("GOLDEN_REGISTRY", &registry.host);
        if let Some(uid) = env.uid() {
            cases.env("GOLDEN_UID", uid.to_string());
        }
        if terminal {
            cases.env("GOLDEN_TERMINAL", "1");
        }
        cases.case(file);
        cases.run();
    }
}

/// Where an ordinary user reaches the program.
fn program_of(env: &TestEnv) -> PathBuf {
    env.udocker(&[]).get_program().into()
}

#[test]
fn without_a_terminal() {
    golden(false);
}

#[test]
fn on_a_terminal() {
    golden(true);
}

#[test]
fn every_command_has_a_file() {
    let output = run(std::process::Command::new(program("udocker")).arg("help"));
    let help = stdout(&output);
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    // What does not fit into a line goes on further to the right.
    let lines = list.lines().filter(|line| !line.starts_with("   "));
    let mut commands: Vec<_> = lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    commands.push("general".into());
    commands.sort();
    let files = files();
    let files: Vec<_> = files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(files, commands);
}
