//! Signals to a rank: as the bare program gets them, whoever sends them to whom, with or without a process in between.

use std::time::Duration;

use udocker_tests::engines::Mode;
use udocker_tests::random::{Random, trials};
use udocker_tests::rank::{Change, How, Rank, Ranks, ToWhom};

/// Longer than the time after which a process in between passes a signal on, or stops.
const SOON: Duration = Duration::from_millis(400);

/// All that have a name but KILL and STOP, which nobody can catch, and CHLD.
fn catchable() -> impl Iterator<Item = i32> {
    (1..32).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(signal))
}

/// Does `work` for every case at once: they wait most of the time.
fn at_once<T: Send, R: Send>(cases: impl IntoIterator<Item = T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work = &work;
    let cases: Vec<T> = cases.into_iter().collect();
    let mut results = Vec::new();
    let mut cases = cases.into_iter().peekable();
    while cases.peek().is_some() {
        let some: Vec<T> = cases.by_ref().take(8).collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = some.into_iter().map(|case| scope.spawn(move || work(case))).collect();
            results.extend(threads.into_iter().map(|thread| thread.join().expect("the case holds")));
        });
    }
    results
}

/// What the parent sees: of one signal, then of SIGCONT if it was stopped, then of the end of input.
fn seen_by_parent(mut rank: Rank, signal: i32, to: ToWhom) -> Vec<Change> {
    rank.signal(signal, to);
    let mut seen = vec![rank.change_within(SOON)];
    if let Change::Stopped(_) = seen[0] {
        rank.signal(libc::SIGCONT, to);
    }
    if !matches!(seen[0], Change::Exited(_) | Change::Killed(_)) {
        rank.end_input();
        seen.push(rank.change());
    }
    seen
}

/// `udocker run` in a process of its own ends with 128 + n where its program was ended by signal n.
fn as_a_shell_tells(changes: &[Change]) -> Vec<Change> {
    let told = |change: &Change| match change {
        Change::Killed(signal) if *signal != libc::SIGKILL => Change::Exited(128 + signal),
        other => *other,
    };
    changes.iter().map(told).collect()
}

/// Runs each case in each way and compares with the bare one.
fn as_bare(ways: &[How], cases: &[(i32, ToWhom)], start: impl Fn(How) -> Rank + Sync) {
    let run = |how: How| at_once(cases, |(signal, to)| seen_by_parent(start(how), *signal, *to));
    let bare = run(How::Bare);
    for how in ways {
        for ((case, bare), found) in cases.iter().zip(&bare).zip(run(*how)) {
            let expected = if matches!(how, How::Launched(_)) { bare.clone() } else { as_a_shell_tells(bare) };
            let found = if matches!(how, How::Launched(_)) { found } else { as_a_shell_tells(&found) };
            assert_eq!(found, expected, "{how:?}: signal {} to {:?}", case.0, case.1);
        }
    }
}

#[test]
fn what_no_one_catches_ends_stops_or_does_nothing() {
    let ranks = Ranks::new();
    let all: Vec<_> = (1..32).flat_map(|signal| [(signal, ToWhom::Alone), (signal, ToWhom::Session)]).collect();
    as_bare(&How::LAUNCHED, &all, |how| ranks.start(how, &["waiting"]));
}

#[test]
fn what_is_ignored_does_nothing() {
    let ranks = Ranks::new();
    let all: Vec<_> = catchable().map(|signal| (signal, ToWhom::Alone)).collect();
    as_bare(&[How::Launched(Mode::P2)], &all, |how| ranks.start(how, &["ignoring"]));
}

#[test]
fn the_other_ways_to_run_a_program_pass_the_usual_ones_on() {
    let ranks = Ranks::new();
    let usual = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGALRM, libc::SIGSTOP];
    let cases: Vec<_> = usual.into_iter().flat_map(|signal| ToWhom::ALL.map(|to| (signal, to))).collect();
    as_bare(&How::CONTAINED, &cases, |how| ranks.start(how, &["waiting"]));
}

/// Each is counted once, whoever gets it, in whatever order.
fn counted_once(how: How, rounds: u64) {
    let ranks = Ranks::new();
    let mut rank = ranks.start(how, &["counting"]);
    let signals: Vec<i32> = catchable().collect();
    let mut random = Random::new(rounds);
    let mut expected = [0u32; 32];
    let text = |counts: &[u32; 32]| {
        let counts = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(signal, count)| format!("{signal}:{count}")).collect::<Vec<_>>().join(" ")
    };
    for round in 0..rounds {
        // All of them in turn: one that a process has not handled yet it gets once, here as without a container. The number
        // has no divisor in common with theirs.
        let signal = signals[(round as usize * 11) % signals.len()];
        let to = ToWhom::ALL[random.below(4) as usize];
        rank.signal(signal, to);
        expected[signal as usize] += 1;
        let since = std::time::Instant::now();
        while rank.ask("?") != text(&expected) {
            let counts = rank.ask("?");
            assert!(
                since.elapsed() < Duration::from_secs(10),
                "{how:?} round {round}, signal {signal} to {to:?}: {counts} for {}",
                text(&expected)
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    std::thread::sleep(SOON);
    assert_eq!(rank.ask("?"), text(&expected), "{how:?}: later");
    rank.end_input();
    assert_eq!(rank.change(), Change::Exited(9));
}

#[test]
fn each_is_counted_once() {
    for how in [How::Bare].into_iter().chain(How::CONTAINED) {
        counted_once(how, trials(10).max(200));
    }
}

#[test]
fn a_job_of_a_shell_is_stopped_and_continued() {
    let ranks = Ranks::new();
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let cases: Vec<_> = stops.into_iter().flat_map(|s| [(s, ToWhom::Alone), (s, ToWhom::Group)]).collect();
    as_bare(&How::CONTAINED, &cases, |how| ranks.start_in_group(how, &["waiting"]));
    // With a child, as `^Z` stops a shell that waits for a program.
    let script = ["/bin/busybox", "sh", "-c", "echo ready $$; sleep 1000; true"];
    let run = |how: How| {
        let mut command = ranks.command(how, &script);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut rank = Rank::start(command);
        let mut seen = Vec::new();
        for signal in [libc::SIGTSTP, libc::SIGSTOP] {
            rank.signal(signal, ToWhom::Group);
            seen.push(rank.change());
            rank.signal(libc::SIGCONT, ToWhom::Group);
        }
        rank.signal(libc::SIGTERM, ToWhom::Group);
        seen.push(rank.change());
        as_a_shell_tells(&seen)
    };
    for how in [How::Bare].into_iter().chain(How::CONTAINED) {
        let expected = [Change::Stopped(libc::SIGTSTP), Change::Stopped(libc::SIGSTOP), Change::Exited(128 + 15)];
        assert_eq!(run(how), expected, "{how:?}");
    }
}

#[test]
fn a_program_that_stops_itself_is_continued() {
    let ranks = Ranks::new();
    for how in [How::Bare].into_iter().chain(How::CONTAINED) {
        for to in ToWhom::ALL {
            let mut rank = ranks.start_script(how, "ready; kill -STOP $$; echo goes on; exit 9");
            assert_eq!(rank.change(), Change::Stopped(libc::SIGSTOP), "{how:?} {to:?}");
            rank.signal(libc::SIGCONT, to);
            assert_eq!((rank.line().as_str(), rank.change()), ("goes on", Change::Exited(9)), "{how:?} {to:?}");
        }
    }
}

/// Stopped and continued at any distance, it goes on and counts each SIGCONT (18) once.
fn stopped_and_continued(how: How, rounds: u64) {
    let ranks = Ranks::new();
    let mut rank = ranks.start(how, &["counting"]);
    let mut random = Random::new(rounds);
    let is_right = |counts: &str, round: u64| counts == format!("18:{round}");
    for round in 1..=rounds {
        let to = ToWhom::ALL[random.below(4) as usize];
        rank.signal(libc::SIGSTOP, to);
        let longest = if random.once_in(8) { 250_000 } else { 2000 };
        std::thread::sleep(Duration::from_micros(random.below(longest)));
        rank.signal(libc::SIGCONT, to);
        let since = std::time::Instant::now();
        loop {
            let counts = rank.ask("?");
            if is_right(&counts, round) {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "{how:?} round {round} to {to:?}: {counts}");
            std::thread::sleep(Duration::from_millis(2));
        }
        if let How::RanAndRemoved(_) = how {
            // A SIGSTOP takes a SIGCONT back that the witness, or who it tells, has not seen yet.
            std::thread::sleep(Duration::from_millis(150));
        }
    }
    std::thread::sleep(SOON);
    let counts = rank.ask("?");
    assert!(is_right(&counts, rounds), "{how:?} later: {counts}");
    rank.end_input();
    while let Change::Stopped(_) = rank.change() {}
}

#[test]
fn stopping_and_continuing_loses_nothing() {
    at_once([How::Bare].into_iter().chain(How::CONTAINED), |how| stopped_and_continued(how, trials(10).max(200)));
}

/// What scripts do about signals, and what their parent sees of it.
#[test]
fn scripts_end_as_without_a_container() {
    let ranks = Ranks::new();
    let scripts = [
        // Waits for a child and does nothing itself.
        "ready; sleep 1000; exit 3",
        "ready; sleep 1000 >/dev/null & wait; exit 3",
        "trap 'exit 9' USR1 TERM INT HUP; ready; sleep 1000 >/dev/null & wait; exit 3",
        // The trap comes when the child has ended, which it does by what all get.
        "trap 'echo trapped; exit 9' USR1 TERM INT HUP; ready; sleep 1000; exit 3",
        "trap '' USR1 TERM INT HUP; ready; sleep 1; exit 3",
        "trap 'echo trapped' USR1 TERM INT HUP; ready; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; exit 3",
        // In a pipeline, whose status is the last one's.
        "ready; sleep 1000 | sleep 1000",
        "ready; exec sleep 1000",
    ];
    let signals = [libc::SIGUSR1, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
    // Backwards, a shell may see the end of its child before its own signal, or after: also without a container.
    let whole = [ToWhom::Group, ToWhom::Session];
    let mut cases = Vec::new();
    for script in scripts {
        for signal in signals {
            cases.extend(whole.map(|to| (script, signal, to)));
        }
    }
    let run = |how: How| {
        at_once(&cases, |(script, signal, to)| {
            let mut rank = ranks.start_script(how, script);
            // The children are there.
            std::thread::sleep(Duration::from_millis(150));
            rank.signal(*signal, *to);
            let change = rank.change();
            let rest = rank.rest();
            // Background jobs of a shell ignore SIGINT.
            rank.signal(libc::SIGKILL, ToWhom::Session);
            (change, rest)
        })
    };
    let bare = run(How::Bare);
    for how in How::LAUNCHED {
        for ((case, bare), found) in cases.iter().zip(&bare).zip(run(how)) {
            assert_eq!(&found, bare, "{how:?}: {case:?}");
        }
    }
}

#[test]
fn a_program_signals_its_own_group() {
    let ranks = Ranks::new();
    let script = "trap 'echo once' USR1; ready; kill -USR1 0; sleep 0.5; trap - USR1; kill -USR1 0; sleep 10";
    for how in [How::Bare].into_iter().chain(How::CONTAINED) {
        let mut rank = ranks.start_script(how, script);
        let change = as_a_shell_tells(&[rank.change()]);
        assert_eq!((change[0], rank.rest().as_str()), (Change::Exited(128 + libc::SIGUSR1), "once\n"), "{how:?}");
    }
}

#[test]
fn what_the_caller_set_stays_set() {
    let ranks = Ranks::new();
    let shown = |how: How, ignored: &str| {
        let command = ranks.command(how, &["/bin/busybox", "cat", "/proc/self/status"]);
        // What the launcher says on its way changes nothing.
        let words = ["env", "UDOCKER_VERBOSE=1", "--block-signal=USR1,TERM", &format!("--ignore-signal={ignored}")];
        let output = ranks.behind(&words, &command).output().expect("env of coreutils");
        let text = udocker_tests::stdout(&output);
        let lines = text.lines().filter(|line| line.starts_with("Sig") || line.starts_with("ShdPnd"));
        lines.filter(|line| !line.starts_with("SigQ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let bare = shown(How::Bare, "HUP,QUIT");
    assert_eq!(bare.len(), 5);
    for how in How::CONTAINED {
        assert_eq!(shown(how, "HUP,QUIT"), bare, "{how:?}");
    }
    // What `udocker run` had of SIGPIPE is lost before our first line.
    for how in How::LAUNCHED {
        assert_eq!(shown(how, "PIPE"), shown(How::Bare, "PIPE"), "{how:?}");
    }
}

#[test]
fn an_alarm_that_was_set_before_goes_off() {
    let ranks = Ranks::new();
    let program = ranks.program();
    for how in [How::Bare].into_iter().chain(How::LAUNCHED) {
        let command = ranks.command(how, &[program.to_str().unwrap(), "waiting"]);
        let mut rank = Rank::start(ranks.behind(&["perl", "-e", "alarm 2; exec @ARGV"], &command));
        assert_eq!(rank.change(), Change::Killed(libc::SIGALRM), "{how:?}");
    }
}

#[test]
fn real_time_signals_arrive() {
    let ranks = Ranks::new();
    for how in [How::Bare].into_iter().chain(How::LAUNCHED) {
        let mut rank = ranks.start(how, &["counting"]);
        for signal in [34, 40, 63, 64] {
            let pid = rank.pid().as_raw_nonzero().to_string();
            udocker_tests::run(std::process::Command::new("/bin/busybox").args(["kill", &format!("-{signal}"), &pid]));
        }
        std::thread::sleep(SOON);
        assert_eq!(rank.ask("?"), "34:1 40:1 63:1 64:1", "{how:?}");
    }
}

/// A batch system that loses patience.
#[test]
fn what_ignores_the_end_is_killed() {
    let ranks = Ranks::new();
    for how in [How::Bare].into_iter().chain(How::CONTAINED) {
        let mut rank = ranks.start_script(how, "trap '' TERM; ready; while true; do sleep 0.1; done");
        rank.signal(libc::SIGTERM, ToWhom::Session);
        assert_eq!(rank.change_within(SOON), Change::Nothing, "{how:?}");
        rank.signal(libc::SIGKILL, ToWhom::Session);
        assert_eq!(rank.change(), Change::Killed(libc::SIGKILL), "{how:?}");
        // Nobody holds its streams open.
        assert_eq!(rank.rest(), "", "{how:?}");
    }
}

/// Runs a command on a terminal: types the keys that send INT, QUIT and TSTP, resizes it, asks what was counted; or hangs
/// up. Prints the answer and the wait status.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios, time
what, argv = sys.argv[1], sys.argv[2:]
pid, master = pty.fork()
if pid == 0:
    attributes = termios.tcgetattr(0)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, attributes)
    os.execvp(argv[0], argv)
seen = b""
def read_until(text):
    global seen
    while text not in seen:
        seen += os.read(master, 4096)
read_until(b"\n")
if what == "keys":
    for key in b"\x03", b"\x1c", b"\x1a", b"\x03":
        os.write(master, key)
        time.sleep(0.3)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    time.sleep(0.3)
    seen = b""
    os.write(master, b"?\n")
    read_until(b"\n")
    print(seen.decode().strip())
    os.write(master, b"\x04")
else:
    os.close(master)
print(os.waitpid(pid, 0)[1])
"#;

#[test]
fn a_terminal_signals_once() {
    let ranks = Ranks::new();
    let program = ranks.program();
    let counting = [program.to_str().unwrap(), "counting"];
    let sleeping = ["/bin/busybox", "sh", "-c", "echo ready; exec sleep 1000"];
    let shown = |how: How, what: &str| {
        let command = ranks.command(how, if what == "keys" { &counting } else { &sleeping });
        let output = ranks.behind(&["python3", "-c", TERMINAL, what], &command).output().expect("python3");
        (udocker_tests::stdout(&output), udocker_tests::stderr(&output))
    };
    for what in ["keys", "hang up"] {
        let bare = shown(How::Bare, what);
        let expected = if what == "keys" { "2:2 3:1 20:1 28:1\n2304\n" } else { "1\n" };
        assert_eq!(bare, (expected.into(), String::new()));
        for how in How::LAUNCHED {
            assert_eq!(shown(how, what), bare, "{how:?} {what}");
        }
    }
    let found = shown(How::RanAndRemoved(Mode::N1), "keys");
    assert_eq!(found, ("2:2 3:1 20:1 28:1\n2304\n".into(), String::new()));
}
