//! Ranks of srun on a cluster of two nodes, in `udocker-launch` without a plugin: MPI as on the bare nodes, one container per
//! node, signals and statuses of a bare step, one message per node.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::path::Path;

use udocker_tests::cluster::{Cluster, Ended, Release};
use udocker_tests::engines::made;
use udocker_tests::mpi_steps::{attempt, open_mpi_crashed};
use udocker_tests::random::trials;
use udocker_tests::slurm_site::meets;

/// Tells node, mount namespace, and whether it is inside: `$1` is a file that only the nodes have,
/// and Debian's list of packages is only in the root.
const WHERE: &str = r#"echo "$(hostname) $(readlink /proc/self/ns/mnt) $([ -e "$1" ] || [ ! -e /var/lib/dpkg/status ] || echo inside)""#;

struct Site {
    cluster: Cluster,
    launcher: String,
    root: String,
}

impl Site {
    fn new(release: Release) -> Self {
        let launcher = std::env::var("UDOCKER_LAUNCH_BIN").expect("`make` names the static launcher");
        let directory = Path::new(&launcher).parent().expect("a file's directory").to_owned();
        let root = match release {
            Release::Bookworm => made().join("root"),
            later => later.root(),
        };
        let cluster = Cluster::up(release, &[&directory, &root]);
        Self { cluster, launcher, root: root.display().to_string() }
    }

    /// `SRUN… udocker-launch OPTIONS… ROOT WORDS…`
    fn launched(&self, variables: &[&str], srun: &[&str], options: &[&str], words: &[&str]) -> Ended {
        let launcher = [&[self.launcher.as_str()], options, &[self.root.as_str()]].concat();
        self.cluster.run(variables, &[srun, &launcher, words].concat())
    }

    /// Makes `ranks.mpich` and `ranks.openmpi` in the home, by the root's compilers. They run on the nodes as well, which
    /// are of the same Debian.
    fn compile(&self) {
        let mount = format!("--mount={}:/mnt:ro", Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").display());
        for mpi in ["mpich", "openmpi"] {
            let (compiler, program) = (format!("mpicc.{mpi}"), format!("ranks.{mpi}"));
            let words = [&compiler, "-O1", "-o", &program, "/mnt/ranks.c"];
            assert_eq!(self.launched(&[], &["srun", "-n1"], &[&mount], &words), (0, String::new(), String::new()));
        }
    }
}

/// The namespaces of each node, from lines of [`WHERE`].
fn by_node(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        let [node, namespace, "inside"] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        nodes.entry(node).or_default().push(namespace);
    }
    nodes
}

const ONE_NODE: [&str; 2] = ["-N1", "-n2"];
const TWO_NODES: [&str; 3] = ["-N2", "-n4", "--ntasks-per-node=2"];
/// Two nodes of one kernel look like one to Debian 12's UCX, so it is told to use TCP between all.
const APART: &str = "UCX_TLS=tcp,self";

/// MPI library, what srun serves it with, variables, and the step's size.
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// What a step ends with that did not end by itself.
const HANGS: i32 = 124;
/// Ends a step that hangs.
const LIMITED: [&str; 4] = ["timeout", "-k5", "25", "srun"];

/// Two libraries fail over two nodes of one machine, in containers as on the bare nodes; such a step is started again. Debian 12's
/// MPICH with UCX over TCP says all and hangs in MPI_Finalize in one of four, on a busy machine.
fn is_the_librarys(ended: &Ended, variables: &[&str]) -> bool {
    open_mpi_crashed(ended) || variables.contains(&APART) && ended.0 == HANGS && ended.1.ends_with(" wrong 0 cma no\n")
}

/// Each case prints inside what it prints on the bare nodes: data, and whether memory is read between processes.
fn mpi_is_as_bare(release: Release, cases: &[Case]) {
    let site = Site::new(release);
    site.compile();
    for (mpi, pmi, variables, size) in cases {
        let (srun, program) = ([&LIMITED[..], &[pmi], *size].concat(), format!("./ranks.{mpi}"));
        let fails = |ended: &Ended| is_the_librarys(ended, variables);
        let bare = attempt(fails, || site.cluster.run(variables, &[&srun[..], &[program.as_str()]].concat()));
        let sum = if size.len() == 2 { "ranks 2 sum 3 wrong 0 cma " } else { "ranks 4 sum 10 wrong 0 cma " };
        assert!(bare.0 == 0 && bare.1.starts_with(sum) && bare.1.lines().count() == 1, "bare {mpi} {size:?}: {bare:?}");
        assert!(variables.contains(&APART) || bare.1.ends_with("yes\n"), "bare {mpi} {size:?}: {bare:?}");
        for round in 0..trials(1) {
            for mode in ["--mode=N1", "--mode=P2"] {
                let ended = attempt(fails, || site.launched(variables, &srun, &[mode], &[&program]));
                assert_eq!((ended.0, &ended.1), (0, &bare.1), "{mpi} {size:?} {mode} round {round}: {ended:?}");
            }
        }
    }
    assert_eq!(site.cluster.down(), "");
}

#[test]
fn mpi_is_as_on_the_bare_nodes_of_22_05() {
    let (apart, loopback) = (&[APART, "UCX_NET_DEVICES=lo"], &["OMPI_MCA_btl_tcp_if_include=lo"]);
    let cases: [Case; 4] = [
        ("mpich", "--mpi=pmi2", &[], &ONE_NODE),
        ("mpich", "--mpi=pmi2", apart, &TWO_NODES),
        ("openmpi", "--mpi=pmix", loopback, &ONE_NODE),
        ("openmpi", "--mpi=pmix", loopback, &TWO_NODES),
    ];
    mpi_is_as_bare(Release::Bookworm, &cases);
}

#[test]
fn mpi_is_as_on_the_bare_nodes_of_24_11() {
    let loopback = &["OMPI_MCA_btl_tcp_if_include=lo"];
    let cases: [Case; 4] = [
        ("mpich", "--mpi=pmi2", &[], &ONE_NODE),
        ("mpich", "--mpi=pmi2", &[], &TWO_NODES),
        ("openmpi", "--mpi=pmix", loopback, &ONE_NODE),
        ("openmpi", "--mpi=pmix", loopback, &TWO_NODES),
    ];
    mpi_is_as_bare(Release::Trixie, &cases);
}

/// Debian's 26.05 has no plugin for PMIx.
#[test]
fn mpi_is_as_on_the_bare_nodes_of_26_05() {
    let cases: [Case; 2] = [("mpich", "--mpi=pmi2", &[], &ONE_NODE), ("mpich", "--mpi=pmi2", &[], &TWO_NODES)];
    mpi_is_as_bare(Release::Forky, &cases);
}

#[test]
fn a_node_has_one_container_per_step() {
    for release in [Release::Bookworm, Release::Trixie, Release::Forky] {
        one_container_per_step(release);
    }
}

fn one_container_per_step(release: Release) {
    let site = Site::new(release);
    let script = format!("{WHERE}; {}", meets(4));
    let words = ["sh", "-c", &script, "where", &site.launcher];
    let srun = ["srun", "-N2", "-n4", "--ntasks-per-node=2"];
    let (status, out, err) = site.launched(&[], &srun, &[], &words);
    assert_eq!((status, err.as_str()), (0, ""));
    let nodes = by_node(&out);
    assert_eq!(nodes.keys().copied().collect::<Vec<_>>(), ["n1", "n2"]);
    for (node, namespaces) in &nodes {
        assert_eq!((namespaces.len(), namespaces[0]), (2, namespaces[1]), "{out}");
        let (_, host, _) = site.cluster.run_on(node, &["readlink", "/proc/self/ns/mnt"]);
        assert_ne!(namespaces[0], host.trim(), "{node}");
    }
    assert_ne!(nodes["n1"][0], nodes["n2"][0]);
    // Programs and arguments of their own (MPMD), and more tasks on one node than on the other.
    let file = "0 LAUNCHER ROOT sh -c 'WHERE; MEETS' a FILE\n1-2 LAUNCHER ROOT bash -c 'WHERE; MEETS' b FILE\n";
    let file = file.replace("MEETS", &meets(3));
    let file = file.replace("LAUNCHER", &site.launcher).replace("ROOT", &site.root).replace("WHERE", WHERE);
    std::fs::write(site.cluster.home().join("programs.conf"), file.replace("FILE", &site.launcher)).expect("a file");
    let (status, out, err) =
        site.cluster.run(&[], &["srun", "-N2", "-n3", "-m", "block", "--multi-prog", "programs.conf"]);
    assert_eq!((status, err.as_str()), (0, ""));
    let sizes: Vec<usize> = by_node(&out).values().map(Vec::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 3, "{out}");
    assert!(by_node(&out).values().all(|all| all.iter().all(|namespace| *namespace == all[0])), "{out}");
    let reaped = site.cluster.run_on("n1", &[&site.launcher, "reap"]);
    assert_eq!(reaped, (0, String::new(), String::new()));
    let (_, left, _) = site.cluster.run_on("n1", &["find", "/dev/shm", "-name", "step-*", "-o", "-name", "image-*"]);
    assert_eq!(left, "");
    assert_eq!(site.cluster.down(), "");
}

#[test]
fn a_step_ends_as_a_bare_one() {
    let site = Site::new(Release::Bookworm);
    let bare = |srun: &[&str], words: &[&str]| site.cluster.run(&[], &[srun, words].concat());
    for words in [&["sh", "-c", "exit 9"][..], &["sh", "-c", "kill -9 $$"], &["sh", "-c", "kill -TERM $$"], &["true"]] {
        let expected = bare(&["srun", "-n1"], words);
        for mode in ["--mode=N1", "--mode=P2"] {
            let ended = site.launched(&[], &["srun", "-n1"], &[mode], words);
            assert_eq!((ended.0, &ended.1), (expected.0, &expected.1), "{mode} {words:?}: {ended:?}");
        }
    }
    // `scancel -s` signals every process of the step; each task's trap runs once.
    let trap = "trap 'echo got; exit 9' USR1; touch up.$SLURM_PROCID; while :; do sleep 0.1; done";
    let signal = "until [ -e up.0 ] && [ -e up.1 ] && [ -e up.2 ]; do sleep 0.1; done; sleep 0.5; rm up.?; \
                  scancel -s USR1 $(squeue -h -o %i -n traps).0";
    for launcher in site.ways() {
        let line = [&["srun", "-J", "traps", "-N2", "-n3"], &launcher[..], &["sh", "-c", trap]].concat();
        let (traps, _) = std::thread::scope(|scope| {
            let traps = scope.spawn(|| site.cluster.run(&[], &line));
            let sent = scope.spawn(|| site.cluster.run(&[], &["sh", "-c", signal]));
            (traps.join().expect("a step"), sent.join().expect("a signal"))
        });
        assert_eq!((traps.0, traps.1.as_str()), (9, "got\ngot\ngot\n"), "{launcher:?}: {traps:?}");
    }
    assert_eq!(site.cluster.down(), "");
}

impl Site {
    /// Bare, and in each mode: what stands between `srun` and the program.
    fn ways(&self) -> [Vec<&str>; 3] {
        [vec![], vec![&self.launcher, "--mode=N1", &self.root], vec![&self.launcher, "--mode=P2", &self.root]]
    }
}

#[test]
fn a_step_is_stopped_and_goes_on_as_a_bare_one() {
    let site = Site::new(Release::Bookworm);
    let beats = "n=0; until [ -e end ]; do n=$((n + 1)); echo $n >beat.new; mv beat.new beat; sleep 0.02; done; exit 5";
    // Tells whether the beat goes on, before, between and after: a signal takes its time.
    let signals = "step=$(squeue -h -o %i -n beats).0
        beat() { a=$(cat beat); sleep 0.5; [ $a != $(cat beat) ] && echo goes || echo stands; }
        it() { for try in $(seq 40); do is=$(beat); [ $is != $1 ] || break; done; echo $is; }
        it goes; scancel -s STOP $step; it stands; scancel -s CONT $step; it goes; touch end";
    for launcher in site.ways() {
        let line = [&["srun", "-J", "beats", "-n1"], &launcher[..], &["sh", "-c", beats]].concat();
        let (step, told) = std::thread::scope(|scope| {
            let step = scope.spawn(|| site.cluster.run(&[], &line));
            let script = format!("until [ -e beat ]; do sleep 0.1; done; {signals}");
            let told = site.cluster.run(&[], &["sh", "-c", &script]);
            (step.join().expect("a step"), told)
        });
        assert_eq!(told, (0, "goes\nstands\ngoes\n".into(), String::new()), "{launcher:?}");
        assert_eq!((step.0, step.1.as_str()), (5, ""), "{launcher:?}: {step:?}");
        let cleared = site.cluster.run(&[], &["rm", "-f", "beat", "beat.new", "end"]);
        assert_eq!(cleared.0, 0, "{cleared:?}");
    }
    assert_eq!(site.cluster.down(), "");
}

/// Slurm's limits are whole minutes, so this takes one.
#[test]
fn a_time_limit_ends_a_step_as_a_bare_one() {
    let site = Site::new(Release::Bookworm);
    let script = "trap 'echo asked; exit 9' TERM; while :; do sleep 0.1; done";
    let ended = std::thread::scope(|scope| {
        let start = |launcher: Vec<&str>| {
            let line = [&["srun", "-t1", "-n1"], &launcher[..], &["sh", "-c", script]].concat();
            site.cluster.run(&[], &line)
        };
        let started: Vec<_> = site.ways().map(|way| scope.spawn(move || start(way))).into_iter().collect();
        started.into_iter().map(|step| step.join().expect("a step")).collect::<Vec<_>>()
    });
    for (status, out, err) in &ended {
        assert_eq!((*status, out.as_str()), (ended[0].0, "asked\n"), "{ended:?}");
        assert!(err.contains("DUE TO TIME LIMIT"), "{err}");
    }
    assert_eq!(site.cluster.down(), "");
}

#[test]
fn a_failure_is_told_once_per_node() {
    let site = Site::new(Release::Bookworm);
    let srun = ["srun", "-N2", "-n8", "--ntasks-per-node=4"];
    let (status, out, err) = site.launched(&[], &srun, &["--mount=/nothere:/mnt"], &["true"]);
    assert_eq!((status, out.as_str()), (125, ""));
    let told: Vec<&str> = err.lines().filter(|line| line.contains("/nothere")).collect();
    assert_eq!(told.len(), 2, "{err}");
    for node in ["n1", "n2"] {
        let prefix = format!("udocker: [{node} task ");
        assert!(told.iter().any(|line| line.starts_with(&prefix)), "{err}");
    }
    assert_eq!(site.cluster.down(), "");
}

#[test]
fn exec_enters_the_step_of_the_job() {
    let site = Site::new(Release::Bookworm);
    let step = format!(
        "srun -n1 {0} {1} sh -c 'readlink /proc/self/ns/mnt; touch up; while [ -e up ]; do sleep 0.1; done' & \
         until [ -e up ]; do sleep 0.1; done; \
         srun -n1 --overlap {0} exec sh -c 'readlink /proc/self/ns/mnt; pwd; echo $SLURM_STEP_ID'; rm up; wait",
        site.launcher, site.root
    );
    let (status, out, err) = site.cluster.run(&["SHELL=/bin/bash"], &["salloc", "-Q", "-N1", "-n2", "sh", "-c", &step]);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!((lines[0], lines[2], lines[3]), (lines[1], "/home/tester", "1"));
    assert_eq!(site.cluster.down(), "");
}
