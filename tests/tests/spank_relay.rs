//! Commands of Slurm inside: a contained script or shell runs them on its node, as outside.
#![cfg(target_arch = "x86_64")]

use std::process::Command;
use std::time::{Duration, Instant};

use udocker_tests::cluster::Release;
use udocker_tests::mpi_steps::OPEN_MPI_CRASHED;
use udocker_tests::slurm_site::{ALL, Site, meets, numberless, places};
use udocker_tests::{code, stderr, stdout};

/// Submits a script of `lines` with and without a container; what came of it, which is the same.
fn same(site: &Site, words: &[&str], lines: &str) -> (i32, String, String) {
    let run = |head: &str| numberless(site.batch(&[], words, &format!("{head}\n{lines}")));
    let bare = run("#!/bin/bash");
    assert_eq!(run(&format!("#!/bin/bash\n#SBATCH {}", site.image)), bare, "{lines}");
    bare
}

/// A contained script of `lines`.
fn contained(site: &Site, words: &[&str], lines: &str) -> (i32, String, String) {
    site.batch(&[], words, &format!("#!/bin/bash\n#SBATCH {}\n{lines}", site.image))
}

#[test]
fn a_script_starts_its_ranks_from_inside() {
    for release in ALL {
        let site = Site::new(release);
        for shell in ["/bin/sh", "/bin/bash -l"] {
            let ranks = format!("{}; {}", site.place, meets(4));
            let script = format!("#!{shell}\n#SBATCH {}\n{}\nsrun sh -c '{ranks}'\n", site.image, site.place);
            let (status, out, err) = site.batch(&[], &["-N2", "-n4"], &script);
            assert_eq!((status, err.as_str()), (0, ""), "{release:?} {shell}: {out}");
            assert_eq!(places(&out), ["inside"; 5], "{release:?} {shell}: {out}");
            // One container for the script, and one for the ranks of each node.
            let mut containers: Vec<_> = out.lines().collect();
            containers.sort_unstable();
            containers.dedup();
            assert_eq!(containers.len(), 3, "{release:?} {shell}: {out}");
        }
        // A tracer serves them as well.
        let script = format!("#!/bin/bash -l\n{}\nsrun sh -c '{}'\n", site.place, site.place);
        let (status, out, err) = site.batch(&[], &["-N2", "-n4", &site.image, "--udocker-mode=P2"], &script);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?} P2: {out}");
        assert_eq!(places(&out), ["inside"; 5], "{release:?} P2: {out}");
        site.down();
    }
}

#[test]
fn ranks_have_the_environment_that_the_script_exported() {
    for release in ALL {
        let site = Site::new(release);
        let lines = r#"export PYTHONPATH=/py LD_LIBRARY_PATH=/own/lib PATH=/own/bin:$PATH OWN='a b'
            said() { echo said; }; export -f said
            export LONG=$(head -c 100000 /dev/zero | tr '\0' x) LONGER=$(head -c 100000 /dev/zero | tr '\0' y)
            unset GONE
            srun -n1 bash -c 'echo $PYTHONPATH $LD_LIBRARY_PATH ${PATH%%:*} "$OWN" ${#LONG} ${#LONGER} ${GONE-gone}; said'
            echo $?
            srun -n1 env | grep -v ^_= | grep -c -e SLURM_UDOCKER_INSIDE -e SLURM_UDOCKER_ENV -e /run/udocker"#;
        let (status, out, err) = site.batch(
            &["GONE=1", "OWN=host"],
            &["-n1"],
            &format!("#!/bin/bash\n#SBATCH {} --udocker-env=OWN=option\n{lines}", site.image),
        );
        let expected = "/py /own/lib /own/bin a b 100000 100000 gone\nsaid\n0\n0\n";
        assert_eq!((status, out.as_str(), err.as_str()), (1, expected, ""), "{release:?}");
        // Another image has its own, and the options of the job.
        let place = "sh -c 'echo ${PYTHONPATH-none} $OWN'";
        let lines = format!(
            "export PYTHONPATH=/py OWN=script; ln -s {} other\n\
             srun -n1 --udocker-image=./other {place}; srun -n1 --udocker-image={}/. {place}; srun -n1 --udocker-env=OWN=step {place}",
            site.root, site.root
        );
        let script = format!("#!/bin/bash\n#SBATCH {} --udocker-env=OWN=option\n{lines}", site.image);
        let (status, out, err) = site.batch(&[], &["-n1"], &script);
        assert_eq!((status, out.as_str(), err.as_str()), (0, "none option\n/py script\n/py step\n", ""), "{release:?}");
        site.down();
    }
}

#[test]
fn commands_are_to_a_script_what_they_are_outside() {
    for release in ALL {
        let site = Site::new(release);
        let (_, out, _) = same(&site, &["-n1", "--overcommit"], &SCRIPT.join("\necho ---\n"));
        let parts: Vec<_> = out.split("---\n").collect();
        assert!(parts.len() == SCRIPT.len() && parts.iter().all(|part| !part.is_empty()), "{release:?}: {out}");
        site.down();
    }
}

/// Uses of srun and its kin that print something.
const SCRIPT: &[&str] = &[
    "for s in 0 3 127 255; do srun -n1 sh -c \"exit $s\" 2>/dev/null; echo $?; done",
    "for s in HUP INT KILL TERM SEGV; do srun -Q -n1 sh -c \"kill -$s \\$\\$\" 2>/dev/null; echo $?; done",
    "srun --nothing 2>/dev/null; echo $?; scancel nothing; echo $?; scontrol nothing; echo $?",
    "squeue -h -o '%j %T'; sinfo -h -o %P; scontrol show hostnames $SLURM_JOB_NODELIST; sacct >/dev/null 2>&1; echo $?",
    // It takes the loop's input, once.
    "printf 'a\\nb\\nc\\n' | while read -r word; do srun -n1 cat; echo read $word; done",
    "printf 'a\\nb\\nc\\n' | while read -r word; do srun -n1 echo $word </dev/null; done",
    "srun -Q -n1 sh -c 'echo out; echo err >&2' >of.out 2>of.err; cat of.out of.err; rm of.out of.err",
    "seq 20000 | srun -n1 cat | cksum",
    "mkdir -p sub; cd sub; srun -n1 pwd; cd ..; rmdir sub",
    "for i in $(seq 32); do srun -n1 --overlap sh -c \"exit $((i % 5))\" 2>/dev/null & pids+=($!); done; \
     for pid in ${pids[@]}; do wait $pid; echo $?; done",
    "perl -e 'for (1..3) { fork or exec \"srun\", \"-n1\", \"--overlap\", \"sleep\", \"0.3\" } 1 while wait != -1; print \"none left\\n\"'",
    "srun -n1 sh -c 'touch up; exec sleep 100' 2>/dev/null & until [ -e up ]; do sleep 0.1; done; \
     kill -TERM $!; wait $! 2>/dev/null; echo $?; rm up",
    "srun -n1 sh -c 'trap \"echo usr1; exit 4\" USR1; touch up; while :; do sleep 0.1; done' 2>/dev/null & \
     until [ -e up ]; do sleep 0.1; done; kill -USR1 $!; wait $!; echo $?; rm up",
    // A shell's background jobs ignore the keyboard, and srun does not.
    "srun -n1 sh -c 'touch up; while [ -e up ]; do sleep 0.1; done; echo not interrupted' & \
     until [ -e up ]; do sleep 0.1; done; sleep 1; kill -INT $!; sleep 1; rm up; wait $!; echo $?",
    "sbatch --parsable -Q -o /dev/null --wrap true >/dev/null; echo $?",
];

/// The processes of the nodes, which count them together, that have one of these words.
fn processes(site: &Site, words: &[&str]) -> Vec<String> {
    let (_, out, _) = site.cluster.run_as_root("n1", &["ps", "-eo", "user,comm,args"]);
    out.lines().filter(|line| words.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
}

/// Waits for so many seconds.
fn wait(seconds: u64, what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(seconds), "{what} took more than {seconds} s");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_script_that_ends_leaves_nothing() {
    for release in ALL {
        let site = Site::new(release);
        for (what, end, status) in [("by itself", "exit 3", "3:0"), ("by a signal", "kill -9 $$", "0:9")] {
            let lines = format!("(srun -N2 -n2 sleep 200 &); until [ -e end ]; do sleep 0.1; done; {end}");
            site.write("script", &format!("#!/bin/bash\n#SBATCH {}\n{lines}\n", site.image));
            let (_, job, _) = site.run(&["sbatch", "--parsable", "-N2", "-n2", "script"]);
            let left = || processes(&site, &["udocker-relay", "slurmstepd:", "sleep 200", "srun"]);
            wait(60, "the steps", || left().iter().filter(|line| line.contains(" sleep  ")).count() == 2);
            site.write("end", "");
            wait(5, "the job's end", || left().is_empty());
            let (_, told, _) = site.run(&["scontrol", "show", "job", job.trim()]);
            assert!(told.contains(&format!("ExitCode={status}")), "{release:?} {what}: {told}");
            site.run(&["rm", "end"]);
        }
        let (_, litter, _) = site.cluster.run_as_root("n1", &["sh", "-c", "ls -d /dev/shm/udocker-2000/relay-*"]);
        assert_eq!(litter, "", "{release:?}");
        site.down();
    }
}

#[test]
fn what_cannot_be_run_is_told() {
    let site = Site::new(Release::Bookworm);
    let lines = "cd /usr; srun -n1 true; echo $?; sbcast a /tmp/b; echo $?; sinfo -h -o %P
        srun -n1 --chdir=$HOME pwd; cd; ln -s /run/udocker/launch /tmp/squeue; /run/udocker/launch; echo $?";
    let (_, out, err) = contained(&site, &["-n1"], lines);
    assert_eq!(out, "125\n125\nmain*\n/home/tester\n125\n");
    assert_eq!(
        err.lines().take(4).collect::<Vec<_>>(),
        [
            "udocker: cannot run srun for this container: its current directory /usr is not that of the node",
            "  hint: `--chdir=DIRECTORY` names one of the host's, as $HOME is",
            "udocker: cannot run sbcast for this container: its current directory /usr is not that of the node",
            "  hint: go to a directory of the host's, as $HOME is",
        ],
        "{err}"
    );
    site.down();
}

#[test]
fn the_keys_of_a_terminal_do_what_they_do_outside() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/relay_terminal.py");
    for release in ALL {
        let site = Site::new(release);
        let run = |image: &[&str]| {
            let words = [&["srun", "-n1", "--pty"], image].concat();
            let session = site.cluster.command(&words);
            let output =
                Command::new("python3").arg(program).arg(session.get_program()).args(session.get_args()).output();
            let output = output.expect("python3 is there");
            (code(&output), stdout(&output), stderr(&output))
        };
        let bare = run(&[]);
        assert_eq!((bare.0, bare.2.as_str()), (0, ""), "{release:?}: {}", bare.1);
        assert!(bare.1.ends_with("ended 8\n"), "{release:?}: {}", bare.1);
        assert_eq!(run(&[&site.image]), bare, "{release:?}");
        site.down();
    }
}

#[test]
fn nobody_else_is_served() {
    let site = Site::new(Release::Bookworm);
    site.write(
        "script",
        &format!("#!/bin/sh\n#SBATCH {}\ntouch up; until [ -e done ]; do sleep 0.1; done\n", site.image),
    );
    site.run(&["sbatch", "-w", "n1", "script"]);
    let connect = "import glob, socket, sys, time\n\
        found = []\n\
        while not found: time.sleep(0.1); found = glob.glob('/dev/shm/udocker-2000/relay-*/socket')\n\
        peer = socket.socket(socket.AF_UNIX); peer.connect(found[0]); print(peer.recv(1000).decode())";
    let refused = "rcannot run a command for user 0: this container is another's\n";
    assert_eq!(site.cluster.run_as_root("n1", &["python3", "-c", connect]), (0, refused.into(), String::new()));
    // What is none is told, and its sender alone suffers.
    let nonsense = connect.replace("print(", "peer.send(b'\\xff' * 9); print(");
    let refused = "rcannot run a command for this container: what arrived is none\n";
    assert_eq!(site.cluster.run_on("n1", &["python3", "-c", &nonsense]), (0, refused.into(), String::new()));
    site.write("done", "");
    site.down();
}

#[test]
fn jobs_that_a_script_submits_ask_for_themselves() {
    for release in ALL {
        let site = Site::new(release);
        site.write("inner", &format!("#!/bin/sh\n{}\nenv | grep -c UDOCKER || true\n", site.place));
        let lines = "cat /proc/self/cgroup >/dev/null
            sbatch -W -Q -n1 -o inner.out inner; cat inner.out
            export UDOCKER_IMAGE=$1
            sbatch -W -Q -n1 -o inner.out inner; head -1 inner.out
            unset UDOCKER_IMAGE
            SHELL=/bin/bash salloc -Q -n1 srun -n1 sh inner";
        let lines = lines.replace("$1", &site.root);
        let (status, out, err) = contained(&site, &["-n1"], &lines);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?}: {out}");
        let what: Vec<_> = out.lines().map(|line| line.rsplit(' ').next().expect("a word")).collect();
        assert_eq!(what, ["host", "0", "inside", "host", "0"], "{release:?}: {out}");
        site.down();
    }
}

#[test]
fn a_site_can_close_it_and_choose_its_commands() {
    let toml = |text: &str| format!("[relay]\n{text}\n");
    for (text, expected) in [
        ("enabled = false", "none\n"),
        ("commands = [\"squeue\", \"/usr/bin/id\", \"/nothere/x\"]", "/run/udocker/bin/id\n/run/udocker/bin/squeue\n"),
    ] {
        let site = Site::new(Release::Bookworm);
        std::fs::create_dir_all(site.cluster.etc().join("udocker")).expect("a directory");
        std::fs::write(site.cluster.etc().join("udocker/site.toml"), toml(text)).expect("a file");
        let (_, out, _) = contained(&site, &["-n1"], "ls -d /run/udocker/bin/* 2>/dev/null || echo none");
        assert_eq!(out, expected);
        site.down();
    }
}

/// An mpirun inside starts its daemons on the job's other nodes by srun: they and the ranks are in containers of the image, as
/// those that srun starts itself.
#[test]
fn mpirun_of_a_script_reaches_all_nodes() {
    // The Open MPI of 26.05's Debian finds no way from node to node over loopback, in containers or not.
    for (release, programs) in [(Release::Trixie, "mpich openmpi"), (Release::Forky, "mpich")] {
        let site = Site::new(release);
        let own = format!("--udocker-image={}", release.root().display());
        let mount = format!("--udocker-mount={}/programs:/mnt:ro", env!("CARGO_MANIFEST_DIR"));
        // The nodes have no network but loopback.
        let lines = format!(
            "export OMPI_MCA_btl_tcp_if_include=lo
             for mpi in {programs}; do
                 mpicc.$mpi -O1 -o ranks.$mpi /mnt/ranks.c
                 for attempt in 1 2 3 4 5 6; do
                     timeout -k5 60 mpirun.$mpi -n 4 ./ranks.$mpi 2>err.$mpi && break
                     grep -q {OPEN_MPI_CRASHED} err.$mpi || {{ cat err.$mpi; break; }}
                 done
             done
             timeout -k5 60 srun --mpi=pmi2 ./ranks.mpich
             for mpi in mpich openmpi; do
                 timeout -k5 60 mpirun.$mpi -n 4 sh -c '{}' 2>err.$mpi | sort || cat err.$mpi
             done",
            site.place
        );
        let script = format!("#!/bin/bash\n#SBATCH {own} {mount}\n{lines}\n");
        let (status, out, err) = site.batch(&[], &["-N2", "-n4", "--ntasks-per-node=2"], &script);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?}: {out}");
        let (told, shown): (Vec<_>, Vec<_>) = out.lines().partition(|line| line.starts_with("ranks "));
        assert_eq!(told, vec!["ranks 4 sum 10 wrong 0 cma yes"; programs.split(' ').count() + 1], "{release:?}: {out}");
        assert_eq!(places(&shown.join("\n")), ["inside"; 8], "{release:?}: {out}");
        // Two on each node, in one container.
        for pair in shown.chunks(2) {
            assert_eq!(pair[0], pair[1], "{release:?}: {out}");
        }
        site.down();
    }
}

/// A program that cleans its environment knows nothing of ours: the container is not lost with it.
#[test]
fn steps_with_a_cleaned_environment_run_inside() {
    for release in ALL {
        let site = Site::new(release);
        site.write("place", &format!("{}\necho ${{OWN-none}}\n", site.place));
        let lines = r#"export OWN=script
            srun -n1 sh place
            env -u SLURM_UDOCKER_REQUEST srun -n1 sh place
            perl -e '%ENV = map { $_ => $ENV{$_} } qw(PATH SLURM_JOB_ID); system qw(srun -n1 sh place)'
            env -i PATH=$PATH SLURM_JOB_ID=$SLURM_JOB_ID srun -n1 --udocker-image=none sh place
            env -i PATH=$PATH srun -Q -n1 sh place"#;
        let script = format!("#!/bin/bash\n#SBATCH {} --udocker-env=OWN=option\n{lines}", site.image);
        let (status, out, err) = site.batch(&[], &["-n1"], &script);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?}: {out}");
        let what: Vec<_> = out.lines().map(|line| line.rsplit(' ').next().expect("a word")).collect();
        let expected =
            [["inside", "script"], ["inside", "script"], ["inside", "none"], ["host", "none"], ["host", "none"]];
        assert_eq!(what, expected.concat(), "{release:?}: {out}");
        site.down();
    }
}

#[test]
fn without_a_run_directory_a_script_does_not_start() {
    let site = Site::new(Release::Bookworm);
    let make = "mkdir -m 0700 /dev/shm/udocker-2000 /tmp/udocker-2000";
    site.cluster.run_as_root("n1", &["sh", "-c", make]);
    let told = contained(&site, &["-n1", "-w", "n1"], "echo runs; type srun");
    let foreign = "is passed over as the run directory: it is of user 0 and has mode 0700, not yours and 0700";
    let expected = format!(
        "udocker: [n1] warning: /dev/shm/udocker-2000 {foreign}\n\
         udocker: [n1] cannot make the scheduler's commands work inside: none of /run/udocker/2000, /dev/shm/udocker-2000, \
         /tmp/udocker-2000 is a directory of mode 0700 that is yours\n  \
         hint: `ls -ld` shows whose they are; `[paths] run_dir` names another\n  \
         hint: `[relay] enabled = false` in the site's site.toml does without\n"
    );
    assert_eq!(told, (125, String::new(), expected));
    site.down();
}
