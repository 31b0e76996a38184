//! Ranks that an MPI launcher starts, each in `udocker-launch` or `udocker run`: one container for all of them, and the
//! transport of the bare host.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use udocker_tests::engines::{Container, Mode, made};
use udocker_tests::random::trials;

const MPIS: [&str; 2] = ["mpich", "openmpi"];

/// What each rank runs: it notes its mount namespace, tells if it is not where it should be, and becomes the program.
/// Arguments: the directory for notes, a file that only the host has, the program.
const RANK: &str = r#"readlink /proc/self/ns/mnt >"$1/namespace.$$"
[ -e /opt/go/storm ] && [ ! -e "$2" ] || echo "not inside"
exec "$3""#;

/// The programs of both MPIs and what runs them, at one path inside and outside.
struct Ranks {
    container: Container,
    shared: PathBuf,
}

impl Ranks {
    fn new() -> Self {
        let container = Container::shared();
        let shared = container.own_directory("shared");
        let built = container.run(Mode::N1, &["bash", "/mnt/mpi.sh", "/mnt"]);
        assert_eq!(built.status, 0, "{built:?}");
        for mpi in MPIS {
            let name = format!("ranks.{mpi}");
            fs::copy(container.path().join("tmp").join(&name), shared.join(&name)).expect("a copy");
        }
        let launcher = std::env::var_os("UDOCKER_LAUNCH_BIN").expect("`make` names the static launcher");
        fs::copy(launcher, container.path().join("udocker-launch")).expect("a copy");
        Self { container, shared }
    }

    /// `mpirun -n 4 PREFIX… PROGRAM` for one MPI, and the mount namespaces of its ranks.
    fn run(&self, mpi: &str, what: &str, prefix: &[String]) -> BTreeSet<String> {
        let notes = self.container.own_directory("shared/notes");
        let home = self.container.path().join("home");
        let host_only = std::env::current_exe().expect("a path");
        let mut command = Command::new("env");
        command.args(["-i", "PATH=/usr/bin:/bin", "USER=alice", &format!("HOME={}", home.display())]);
        command.args([&format!("UDOCKER_DIR={}", home.display()), &format!("mpirun.{mpi}"), "-n", "4"]);
        command.args(if mpi == "openmpi" { &["--oversubscribe"][..] } else { &[] }).args(prefix);
        command.args(["/bin/sh", "-c", RANK, "rank"]).args([
            &notes,
            &host_only,
            &self.shared.join(format!("ranks.{mpi}")),
        ]);
        let outcome = self.container.watch(&format!("mpirun.{mpi} of {what}"), &command);
        assert_eq!(
            (outcome.status, outcome.out.as_str()),
            (0, "ranks 4 sum 10 wrong 0 cma yes\n"),
            "{mpi} {what}: {outcome:?}"
        );
        let entries = fs::read_dir(&notes).expect("a directory").map(|entry| entry.expect("an entry").path());
        let lines: Vec<String> = entries.map(|path| fs::read_to_string(path).expect("a note")).collect();
        assert_eq!(lines.len(), 4, "{mpi} {what}");
        lines.into_iter().collect()
    }

    fn beside(&self, name: &str) -> String {
        self.container.path().join(name).display().to_string()
    }
}

fn host() -> String {
    format!("{}\n", fs::read_link("/proc/self/ns/mnt").expect("/proc is there").display())
}

/// Who shares what: natively one namespace that is not the host's; a tracer has none.
fn assert_shared(mode: Mode, namespaces: &BTreeSet<String>, what: &str) {
    assert_eq!(namespaces.len(), 1, "{what}: {namespaces:?}");
    assert_eq!(namespaces.contains(&host()), mode != Mode::N1, "{what}");
}

#[test]
fn by_udocker_launch() {
    let ranks = Ranks::new();
    let root = made().join("root").display().to_string();
    for round in 0..trials(1) {
        for (mpi, mode) in MPIS.iter().flat_map(|mpi| [(mpi, Mode::N1), (mpi, Mode::P2)]) {
            let what = format!("udocker-launch in {mode:?}, round {round}");
            let prefix = [ranks.beside("udocker-launch"), format!("--mode={mode:?}"), root.clone()];
            assert_shared(mode, &ranks.run(mpi, &what, &prefix), &what);
        }
    }
}

/// The form in udocker's manual.
#[test]
fn by_udocker_run_of_a_container() {
    let ranks = Ranks::new();
    let root = made().join("root");
    let tar = ranks.shared.join("empty.tar");
    let directory = ranks.container.own_directory("tree");
    for name in ["bin", "lib", "lib64", "usr", "opt", "tmp", "etc"] {
        fs::create_dir(directory.join(name)).expect("mkdir");
    }
    udocker_tests::run(Command::new("tar").arg("-C").arg(&directory).arg("-cf").arg(&tar).arg("."));
    let udocker = |words: &[&str]| {
        let mut command = Command::new("env");
        command.arg(format!("UDOCKER_DIR={}", ranks.beside("home"))).arg(ranks.beside("udocker"));
        command.args(["--allow-root", "--quiet"]).args(words);
        let outcome = ranks.container.watch("udocker", &command);
        assert_eq!(outcome.status, 0, "{words:?}: {outcome:?}");
    };
    udocker(&["import", tar.to_str().expect("UTF-8"), "empty:1"]);
    for mode in [Mode::N1, Mode::P2] {
        udocker(&["create", &format!("--name=c{mode:?}"), "empty:1"]);
    }
    // The programs of the big root, in a container that is small.
    let binds = ["usr:/usr", "usr/bin:/bin", "usr/lib:/lib", "usr/lib64:/lib64", "opt:/opt", "etc:/etc"];
    let binds = binds.map(|bind| format!("--volume={}/{bind}", root.display()));
    let shared = format!("--volume={0}:{0}", ranks.shared.display());
    for round in 0..trials(1) {
        for (mpi, mode) in MPIS.iter().flat_map(|mpi| [(mpi, Mode::N1), (mpi, Mode::P2)]) {
            let what = format!("udocker run in {mode:?}, round {round}");
            let words = ["--allow-root", "--quiet", "run", "--hostenv", "--user=alice", "--volume=/tmp", &shared];
            let words = [ranks.beside("udocker")].into_iter().chain(words.map(str::to_owned)).chain(binds.clone());
            let prefix: Vec<String> = words.chain([format!("--mode={mode:?}"), format!("c{mode:?}")]).collect();
            assert_shared(mode, &ranks.run(mpi, &what, &prefix), &what);
        }
    }
}
