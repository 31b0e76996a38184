//! Signals to a rank: as the bare program gets them, whoever sends them to whom, with or without a process in between.

use std::time::Duration;

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
    as_bare(&[How::Launched(udocker_tests::engines::Mode::P2)], &all, |how| ranks.start(how, &["ignoring"]));
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
        // Not the one before: what a process has not handled yet it gets once, here as without a container.
        let signal = signals[(round as usize * 7) % signals.len()];
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
