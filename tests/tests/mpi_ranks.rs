//! MPI programs on one node: launched within a container, and each rank in a container of its own.
#![cfg(target_arch = "x86_64")]

use std::process::Command;

use udocker_tests::engines::{Container, Mode, same_in_each_mode};
use udocker_tests::random::trials;

#[test]
fn two_ranks_within_a_container() {
    let lines = ["mpich ranks 2 sum 3 wrong 0 cma yes", "openmpi ranks 2 sum 3 wrong 0 cma yes"];
    same_in_each_mode(&Container::shared(), trials(1), &["bash", "/mnt/mpi.sh", "/mnt"], &lines, 0);
}

/// Adds the launcher's variables to those of the engine's command, behind word `$1` of it, and runs that.
const RANK: &str = r#"
words=$1; shift
mapfile -d '' variables < <(env -0 -u PATH -u HOME -u LC_ALL)
exec "${@:1:words}" "${variables[@]}" "${@:words+1}"
"#;

/// `mpirun -n 2 ENGINE PROGRAM`: a tracer for each rank, which read each other's memory all the same.
#[test]
fn two_ranks_in_a_container_each() {
    let container = Container::shared();
    // The launcher and the ranks must see the same files; nothing more is bound.
    let shared = container.own_directory("shared");
    let at = shared.display().to_string();
    let container = container.bind(&shared, &at);
    let built = container.run(Mode::N1, &["bash", "/mnt/mpi.sh", "/mnt"]);
    assert_eq!(built.status, 0, "{built:?}");
    let tmp = container.path().join("tmp");
    for round in 0..trials(1) {
        for mpi in ["mpich", "openmpi"] {
            let program = format!("/tmp/ranks.{mpi}");
            let engine = container.command(Mode::P2, &tmp, &[&program]);
            let words: Vec<_> = [engine.get_program()].into_iter().chain(engine.get_args()).collect();
            let mut command = Command::new("env");
            command.args(["-i", "PATH=/usr/bin:/bin", "HOME=/tmp", &format!("TMPDIR={at}"), &format!("mpirun.{mpi}")]);
            command.args(["-n", "2", "bash", "-c", RANK, "rank", &(words.len() - 1).to_string()]).args(words);
            let what = format!("mpirun.{mpi} (packages mpich and openmpi-bin)");
            let outcome = container.watch(&what, &command);
            assert_eq!(outcome.out, "ranks 2 sum 3 wrong 0 cma yes\n", "round {round} of {what}: {outcome:?}");
            assert_eq!(outcome.status, 0, "{outcome:?}");
        }
    }
}
