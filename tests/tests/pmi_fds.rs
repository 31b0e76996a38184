//! File descriptors of a rank: the process manager's socket speaks through every engine, the rest is what was asked for.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};

use rustix::fs::{Mode as FileMode, OFlags};
use udocker_tests::engines::Mode;
use udocker_tests::rank::{How, Ranks, file};
use udocker_tests::{code, run, stdout};

/// The ways in which each rank below is run; the first is the reference.
const WAYS: [How; 3] = [How::Bare, How::Launched(Mode::N1), How::Launched(Mode::P2)];

/// `command` with these redirections of bash, where `&2` is `socket`; then standard error is nothing. What the caller of
/// the tests left open is closed.
fn redirected(ranks: &Ranks, command: &Command, redirections: &str, socket: UnixStream) -> Command {
    let close = "for fd in /proc/self/fd/*; do (( ${fd##*/} > 2 )) && eval \"exec ${fd##*/}<&-\"; done";
    let script = format!("{close}; exec \"$@\" {redirections} 2>/dev/null");
    let mut wrapped = ranks.behind(&["bash", "-c", &script, "bash"], command);
    wrapped.stderr(Stdio::from(OwnedFd::from(socket)));
    wrapped
}

/// What all ranks put, and where they meet.
struct Job {
    size: usize,
    values: Mutex<HashMap<String, String>>,
    barrier: Barrier,
}

impl Job {
    fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, values: Mutex::default(), barrier: Barrier::new(size) })
    }

    /// Serves one rank as hydra_pmi_proxy does, with every line checked; returns when the other end closes.
    fn serve(&self, rank: usize, socket: UnixStream) {
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        let mut wire = socket;
        let mut expect = |line: &str, answer: &str| {
            let found = lines.next().unwrap_or_else(|| panic!("rank {rank} closed before {line:?}")).unwrap();
            assert_eq!(found, line, "rank {rank}");
            wire.write_all(format!("{answer}\n").as_bytes()).unwrap();
        };
        let version = "pmi_version=1 pmi_subversion=1";
        expect(&format!("cmd=init {version}"), &format!("cmd=response_to_init {version} rc=0"));
        expect("cmd=get_maxes", "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024");
        expect("cmd=get_appnum", "cmd=appnum appnum=0");
        expect("cmd=get_my_kvsname", "cmd=my_kvsname kvsname=kvs_1_0");
        let (key, value) = (format!("card-{rank}"), format!("of rank {rank}/{}", self.size));
        self.values.lock().unwrap().insert(key.clone(), value.clone());
        expect(&format!("cmd=put kvsname=kvs_1_0 key={key} value={value}"), "cmd=put_result rc=0 msg=success");
        self.barrier.wait();
        expect("cmd=barrier_in", "cmd=barrier_out");
        for other in 0..self.size {
            let key = format!("card-{other}");
            let value = self.values.lock().unwrap()[&key].clone();
            expect(
                &format!("cmd=get kvsname=kvs_1_0 key={key}"),
                &format!("cmd=get_result rc=0 msg=success value={value}"),
            );
        }
        expect("cmd=finalize", "cmd=finalize_ack");
        // The rank lives on: nobody beside it holds the socket.
        assert!(lines.next().is_none(), "rank {rank} says more");
    }
}

/// Runs a job of two ranks, whose sockets have these numbers.
fn job(ranks: &Ranks, how: How, numbers: [u32; 2], redirections: &str) {
    let job = Job::new(numbers.len());
    let program = ranks.program();
    std::thread::scope(|scope| {
        let started: Vec<_> = numbers
            .iter()
            .enumerate()
            .map(|(rank, number)| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let command = ranks.command(how, &[program.to_str().unwrap(), "pmi"]);
                let redirections = format!("{number}<&2 {redirections}");
                let mut command = redirected(ranks, &command, &redirections, theirs);
                command.env("PMI_FD", number.to_string()).env("PMI_RANK", rank.to_string()).env("PMI_SIZE", "2");
                let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                // The command holds the other end.
                drop(command);
                let job = Arc::clone(&job);
                (child, scope.spawn(move || job.serve(rank, ours)))
            })
            .collect();
        for (rank, (mut child, server)) in started.into_iter().enumerate() {
            server.join().unwrap();
            drop(child.stdin.take());
            let output = child.wait_with_output().unwrap();
            let expected = (format!("rank {rank} of 2 done\n"), 7);
            assert_eq!((stdout(&output), code(&output)), expected, "{how:?} {numbers:?}");
        }
    });
}

#[test]
fn ranks_speak_to_their_process_manager() {
    let ranks = Ranks::new();
    file(&ranks.env.path("shared/file"), "x");
    let other = format!("3<{}", ranks.env.path("shared/file").display());
    for how in WAYS {
        for (numbers, redirections) in [([3, 4], ""), ([11, 200], ""), ([200, 11], &*other), ([1000, 5], "")] {
            job(&ranks, how, numbers, redirections);
        }
    }
}

/// The list of `rank descriptors`, and its status. Three is a pipe, seven a file, eleven and 200 a socket.
fn descriptors(ranks: &Ranks, how: How, options: &[&str], env: &[(&str, &str)]) -> (String, i32) {
    let program = ranks.program();
    let mut command = ranks.command(how, &[program.to_str().unwrap(), "descriptors"]);
    if let How::Launched(mode) = how {
        let mode = format!("--mode={mode:?}");
        let words = [&[&*mode], options, &["bb:1", program.to_str().unwrap(), "descriptors"]].concat();
        command = ranks.env.launch(&words);
    }
    let (shared, fifo) = (ranks.env.path("shared/file"), ranks.env.path("shared/fifo"));
    file(&shared, "x");
    if !fifo.exists() {
        run(Command::new("mkfifo").args(["-m", "666"]).arg(&fifo));
    }
    let redirections = format!("3<>{} 7<{} 11<&2 200<&2", fifo.display(), shared.display());
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let mut command = redirected(ranks, &command, &redirections, theirs);
    let output = command.envs(env.iter().copied()).output().unwrap();
    (stdout(&output), code(&output))
}

/// Standard streams, these, and how many that is.
fn listed(more: &[&str]) -> (String, i32) {
    let lines: String = more.iter().map(|line| format!("{line}\n")).collect();
    (format!("0 device\n1 pipe\n2 device\n{lines}listed {}\n", more.len() + 3), 0)
}

#[test]
fn a_rank_has_what_was_asked_for_and_no_more() {
    let ranks = Ranks::new();
    let all = listed(&["3 pipe", "7 file", "11 socket", "200 socket"]);
    for how in [How::Bare, How::Ran(Mode::N1), How::Ran(Mode::P2)] {
        assert_eq!(descriptors(&ranks, how, &[], &[]), all, "{how:?}");
    }
    for how in How::LAUNCHED {
        for (options, env, expected) in [
            (&[][..], &[][..], &[][..]),
            (&[], &[("PMI_FD", "11")], &["11 socket"]),
            (&[], &[("PMI_FD", "200")], &["200 socket"]),
            (&[], &[("PMI_FD", "11"), ("PMI_CONTROL_FD", "200")], &["11 socket", "200 socket"]),
            // Neither a file nor a closed number is a process manager's.
            (&[], &[("PMI_FD", "7")], &[]),
            (&[], &[("PMI_FD", "3")], &[]),
            (&[], &[("PMI_FD", "99")], &[]),
            (&[], &[("PMI_FD", "-1")], &[]),
            (&[], &[("PMI_FD", "eleven")], &[]),
            (&["--fd=7"], &[], &["7 file"]),
            (&["--fd=1"], &[], &[]),
            (&["--fd=7:3"], &[], &["3 file"]),
            (&["--fd=7:300", "--fd=3"], &[("PMI_FD", "11")], &["3 pipe", "11 socket", "300 file"]),
            (&["--fd=7:3", "--fd=3:7"], &[], &["3 file", "7 pipe"]),
            (&["--fd=0:5"], &[], &["5 device"]),
            (&[], &[("UDOCKER_FD", "3;7:8")], &["3 pipe", "8 file"]),
            (&["--pass-pmi=none"], &[("PMI_FD", "11")], &[]),
            (&["--pass-pmi=none", "--fd=11:4"], &[("PMI_FD", "11")], &["4 socket"]),
            (&["--pass-pmi=auto"], &[("PMI_FD", "11"), ("UDOCKER_PASS_PMI", "none")], &["11 socket"]),
        ] {
            assert_eq!(descriptors(&ranks, how, options, env), listed(expected), "{how:?} {options:?} {env:?}");
        }
    }
}

#[test]
fn without_pmi_it_is_a_program_by_itself() {
    let ranks = Ranks::new();
    let manager = [("PMI_RANK", "1"), ("PMI_SIZE", "2"), ("PMIX_RANK", "1"), ("OMPI_COMM_WORLD_RANK", "1")];
    let others = [("SLURM_PROCID", "1"), ("CUDA_VISIBLE_DEVICES", "0")];
    for mode in ["--mode=N1", "--mode=P2"] {
        for (option, kept) in [("--pass-pmi=auto", true), ("--pass-pmi=none", false)] {
            // Under PMIx nobody may be root inside.
            let user = if kept { "--user=self" } else { "--user=root" };
            let mut command = ranks.env.launch(&[mode, option, user, "bb:1", "env"]);
            let output = run(command.envs(manager).envs(others));
            let has =
                |(name, value): &(&str, &str)| stdout(&output).lines().any(|line| line == format!("{name}={value}"));
            assert!(others.iter().all(has), "{mode} {option}");
            assert!(manager.iter().all(|variable| has(variable) == kept), "{mode} {option}: {}", stdout(&output));
        }
    }
}

#[test]
fn wrong_numbers_are_told() {
    let ranks = Ranks::new();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    for (words, env, text) in [
        (
            &["--fd=99"][..],
            "",
            "udocker: cannot keep descriptor 99 (from --fd): it is not open\n  \
             hint: a shell opens one by `7<FILE`, `7>FILE` or `7<>FILE` behind the command\n",
        ),
        (
            &["--fd=0:11"],
            "11",
            "udocker: cannot make a descriptor 11 (from --fd): that is the process manager's socket\n  \
             hint: `--fd=N:M` with another M\n",
        ),
        (
            &["--fd=0:5", "--fd=1:5"],
            "",
            "udocker: cannot make a descriptor 5 (from --fd): two are to have that number\n  \
             hint: `--fd=N:M` with another M\n",
        ),
        (
            &["--fd=0:2"],
            "",
            "udocker: `0:2` names no descriptor: expected N or N:M, with M above 2\n  \
             hint: `udocker-launch --help` lists the options\n",
        ),
    ] {
        let command = ranks.env.launch(&[words, &["bb:1", "true"]].concat());
        let script = "exec \"$@\" 11<&2 2>&1";
        let mut command = ranks.behind(&["bash", "-c", script, "bash"], &command);
        command.stderr(Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()))).env("PMI_FD", env);
        let output = command.output().unwrap();
        assert_eq!((stdout(&output).as_str(), code(&output)), (text, 125), "{words:?}");
    }
}

/// A pipe of the batch system's, left open by accident, is not held open by anybody in a container.
#[test]
fn a_leaked_pipe_ends_when_its_other_holders_end() {
    let ranks = Ranks::new();
    let fifo = ranks.env.path("shared/leaked");
    run(Command::new("mkfifo").args(["-m", "666"]).arg(&fifo));
    for (how, ends) in [(How::Bare, false), (How::Launched(Mode::N1), true), (How::Launched(Mode::P2), true)] {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut reader = File::from(rustix::fs::open(&fifo, flags, FileMode::empty()).unwrap());
        let command = ranks.command(how, &["/bin/busybox", "sh", "-c", "echo begun; exec cat >/dev/null"]);
        let script = format!("exec \"$@\" 18>{}", fifo.display());
        let mut command = ranks.behind(&["bash", "-c", &script, "bash"], &command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        let found = reader.read(&mut [0; 1]).map_err(|error| error.kind());
        let expected = if ends { Ok(0) } else { Err(std::io::ErrorKind::WouldBlock) };
        assert_eq!(found, expected, "{how:?}");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
