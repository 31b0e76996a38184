//! What Slurm does to a task and its job, contained and bare: status, output, errors and limits are the same, to the letter.
#![cfg(target_arch = "x86_64")]

use std::os::unix::fs::PermissionsExt;

use udocker_tests::cluster::{Ended, Release};
use udocker_tests::slurm_site::{ALL, Site, numberless};

/// Runs `line` of shell with and without a container, for which `IMAGE` stands in it; what came of it, which is the same.
fn same(site: &Site, what: &str, line: &str) -> Ended {
    let ended = |image: &str| numberless(site.run(&["bash", "-c", &line.replace("IMAGE", image)]));
    let bare = ended("");
    assert_eq!(ended(&site.image), bare, "{what}: {line}");
    bare
}

#[test]
fn a_task_ends_with_its_status() {
    let site = Site::new(Release::Bookworm);
    let statuses = "salloc -Q -n1 bash -c 'for s in 0 1 2 3 9 42 100 124 125 126 127 128 129 137 143 254 255; do
        srun -n1 IMAGE sh -c \"exit $s\" 2>/dev/null; echo $s $?; done'";
    let (_, out, _) = same(&site, "statuses", &statuses.replace("salloc", "SHELL=/bin/bash salloc"));
    assert!(
        out.lines().count() == 17 && out.lines().all(|line| line.split_once(' ').is_some_and(|(a, b)| a == b)),
        "{out}"
    );
    for signal in ["HUP", "INT", "ABRT", "KILL", "USR1", "SEGV", "PIPE", "ALRM", "TERM"] {
        same(&site, signal, &format!("srun -n1 IMAGE sh -c 'kill -{signal} $$'"));
    }
    site.down();
}

#[test]
fn a_task_gets_what_slurm_gives() {
    for release in ALL {
        let site = Site::new(release);
        let what = release.number();
        site.write(
            "prolog",
            "#!/bin/sh\necho export OF_PROLOG=1\necho unset GONE\necho print prolog of $SLURM_PROCID\n",
        );
        let prolog = site.cluster.home().join("prolog");
        std::fs::set_permissions(&prolog, PermissionsExt::from_mode(0o755)).expect("a file of ours");
        let (status, out, _) = same(
            &site,
            what,
            "GONE=1 srun -n1 --task-prolog=/home/tester/prolog IMAGE sh -c 'echo $OF_PROLOG${GONE-gone}'",
        );
        assert_eq!((status, out.as_str()), (0, "prolog of 0\n1gone\n"), "{what}");
        let limits = "ulimit -S -n 777; ulimit -S -c 5; ulimit -S -s 4096; ulimit -S -u 3000; ulimit -S -f 99999";
        for propagate in ["", "--propagate=NONE", "--propagate=NOFILE,CORE", "--propagate=ALL"] {
            let line = format!("{limits}; srun -n1 {propagate} IMAGE bash -c 'ulimit -S -a; ulimit -H -a'");
            let (status, out, _) = same(&site, what, &line);
            assert_eq!(status, 0, "{what} {propagate}");
            assert_eq!(out.contains(" 777\n"), propagate != "--propagate=NONE", "{what} {propagate}: {out}");
        }
        // A container has a PATH, a HOME and a runtime directory of its own, and says what it is.
        let own = "-e '^PATH=' -e '^HOME=' -e '^XDG_RUNTIME_DIR=' -e '^UDOCKER_INSIDE='";
        let environment = format!("env | grep -v -e '^SLURM' -e '^SHLVL=' -e '^_=' {own} | sort");
        for export in ["NONE", "A", "ALL,B=2", "NIL"] {
            same(&site, what, &format!("A=1 srun -n1 --export={export} IMAGE /bin/sh -c \"{environment}\""));
        }
        for line in [
            "srun -n1 --chdir=/tmp IMAGE pwd",
            "srun -n1 --chdir=/home/tester IMAGE sh -c 'pwd; umask'",
            "umask 027; srun -n1 IMAGE sh -c umask",
            "srun -n1 --bcast=/tmp/sent IMAGE /usr/bin/printf '%s|' sent 'a b' ''",
            "seq 5000 | srun -n1 IMAGE cksum",
            "seq 5000 | srun -n2 -i1 IMAGE sh -c '[ $SLURM_PROCID = 0 ] || cksum'",
            "srun -n1 IMAGE cat </dev/null",
            "srun -n2 -o out.%t -e err.%t IMAGE sh -c 'echo $SLURM_PROCID; echo e$SLURM_PROCID >&2'; cat out.? err.?; rm out.? err.?",
            "srun -n4 -N2 -l --ntasks-per-node=2 IMAGE sh -c 'echo $SLURM_NODEID $SLURM_LOCALID' | sort",
            "sleep 2 | script -qec \"srun -n1 --pty IMAGE sh -c 'tty | cut -c1-8; stty size; exit 5' 2>err\" /dev/null; echo $?; cat err; rm err",
        ] {
            same(&site, what, line);
        }
        // As soon as one of them ended, not a minute later.
        let kill = "SECONDS=0; srun -n2 -Q --kill-on-bad-exit=1 IMAGE sh -c '[ $SLURM_PROCID = 0 ] && exit 3; sleep 60' 2>/dev/null
            [ $? != 0 ] && [ $SECONDS -lt 40 ] && echo ended";
        assert_eq!(same(&site, what, kill).1, "ended\n", "{what}");
        site.down();
    }
}

/// A program that tells of a signal and ends by it, and makes a file when it listens. Not a shell, whose child the signal reaches
/// as well, or before or after it has one.
fn listener(signal: &str) -> String {
    format!(
        r#"perl -e '$SIG{{{signal}}} = sub {{ syswrite STDOUT, "got {signal}\n"; exit 9 }}; open my $up, ">", "up"; sleep 1 while 1'"#
    )
}

#[test]
fn a_signal_of_scancel_is_seen_as_it_is() {
    for release in ALL {
        let site = Site::new(release);
        for signal in ["USR1", "HUP", "TERM", "CONT"] {
            // A handler of its own; below, the default.
            let line = format!(
                "rm -f up; srun -J sig -n1 IMAGE {} &
                 until [ -e up ]; do sleep 0.05; done; scancel -s {signal} $(squeue -h -o %i -n sig).0; wait $!; echo $?",
                listener(signal)
            );
            let (_, out, _) = same(&site, release.number(), &line);
            assert_eq!(out, format!("got {signal}\n9\n"), "{release:?}");
        }
        let line = "rm -f up; srun -J sig -n1 IMAGE sh -c 'touch up; exec sleep 60' 2>/dev/null &
            until [ -e up ]; do sleep 0.05; done; scancel $(squeue -h -o %i -n sig); wait $!; echo $?";
        same(&site, release.number(), line);
        site.down();
    }
}

/// Each run of the script tells which one it is, and the first waits for being put back.
#[test]
fn a_requeued_job_runs_again_in_its_container() {
    for release in ALL {
        let site = Site::new(release);
        let script = format!(
            "#!/bin/sh\n#SBATCH -n1 -J again --requeue -o out -e err --open-mode=append\n{}\n\
             echo - - ${{SLURM_RESTART_COUNT-none}}\n[ -n \"${{SLURM_RESTART_COUNT-}}\" ] || {{ touch up; sleep 100; }}\nexit 6\n",
            site.place
        );
        site.write("script", &script);
        // A job that was put back waits for two minutes, unless its start is set anew; at once, slurmd of 24.11 would
        // remove the script of the first run when the second has begun.
        let line = "rm -f up out err; job=$(sbatch --parsable IMAGE script); until [ -e up ]; do sleep 0.05; done
            scontrol requeue $job; until [ $(squeue -h -o %t -j $job) = PD ]; do sleep 0.1; done
            sleep 2; scontrol update JobId=$job StartTime=now
            until scontrol show job $job | grep -q JobState=FAILED; do sleep 0.2; done
            scontrol show job $job | grep -o -e ExitCode=.:. -e Restarts=.; cut -d' ' -f3- out; cat err | grep -c REQUEUE";
        for (image, place) in [("", "host"), (site.image.as_str(), "inside")] {
            let (status, out, err) = site.run(&["bash", "-c", &line.replace("IMAGE", image)]);
            let expected = format!("Restarts=1\nExitCode=6:0\n{place}\nnone\n{place}\n1\n1\n");
            assert_eq!((status, out.as_str()), (0, expected.as_str()), "{release:?} {image}: {err}");
        }
        site.down();
    }
}

/// Time limits are whole minutes, so both jobs wait at the same time.
#[test]
fn a_time_limit_ends_a_job() {
    let site = Site::new(Release::Bookworm);
    let step =
        |image: &str| numberless(site.run(&["bash", "-c", &format!("srun -n1 -t 1 {image} {}", listener("TERM"))]));
    let (bare, contained) = std::thread::scope(|scope| {
        let bare = scope.spawn(|| step(""));
        let contained = scope.spawn(|| step(&site.image));
        (bare.join().expect("a job"), contained.join().expect("a job"))
    });
    assert_eq!(contained, bare);
    assert_eq!((bare.0, bare.1.as_str()), (9, "got TERM\n"), "{bare:?}");
    assert!(bare.2.contains("DUE TO TIME LIMIT"), "{bare:?}");
    site.down();
}
