//! Which signals a process passes on to the program that it stands for.
//!
//! Two kinds of senders are to be served alike. PBS signals every process of a session, Slurm every one of a step,
//! terminals and shells every one of a group: the program has got such a signal itself, and got twice it would be counted
//! twice. MPI starters, srun's kin and users signal the one pid that they know: ours. So a signal that we get is passed on
//! unless the program gets the same signal from the same sender within [`GRACE_MS`] before or after us. One of those
//! looks at what the program gets ([`Looks`]):
//!
//! - its tracer, which sees each signal that is about to be delivered ([`got`]);
//! - for a program without a tracer a *witness*: a child of ours in the same session, group and control group that does
//!   nothing but get what all get, and tells us by a queued signal.
//!
//! Each signal of the program's answers for one of ours. Where the program has it still pending (it blocks it, it is
//! stopped), passing it on changes nothing: the kernel keeps one of a kind. The kernel's own signals follow the same rule
//! with the sender 0: those of a terminal reach the group, and an alarm that was set before we were executed is ours alone.
//! So is the SIGHUP of a terminal that is gone, if we lead the session; that one is passed on at once.
//!
//! Stops: when the program is stopped, so are we, with the same signal, and by then `GRACE_MS` have gone by: who stops all
//! stops us too, and may have continued all meanwhile. SIGCONT is a signal as any other: it continues us, and is passed on
//! if it was for us alone.
//!
//! What remains wrong, as no rule of a process beside the program can mend it: a traced program that takes blocked signals by sigwait(3) or signalfd(2) gets twice what all get,
//! since no tracer sees that; of two signals of one kind that one sender sends within `GRACE_MS`, one to us and one to
//! the program alone, the program gets one; SIGSTOP to us alone stops a traced program at its next call with a path, and no
//! other program; SIGKILL to us alone ends a traced program, and no other.
//!
//! All state is the handlers', which run with every signal blocked; others change it in `quietly` only.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use rustix::io::Errno;

/// How far apart a signal to all reaches us and the program, in milliseconds: senders go from one process to the next,
/// on a node that is busy.
pub const GRACE_MS: u32 = 100;

/// Who looks at what the program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// This process traces it and calls [`got`].
    Tracer,
    /// A process of its own.
    Witness,
}

/// Queued by the witness, sent by the timer. The last of the real-time signals.
const TOLD: i32 = 64;
const SIGNALS: usize = 65;
/// `si_code` of signals that a timer or sigqueue(3) sent.
const BY_QUEUE: i32 = -1;
const BY_TIMER: i32 = -2;

/// Whom signals are for; 0: nobody.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// Its list of children, if signals are for them; -1: they are for itself.
static CHILDREN: AtomicI32 = AtomicI32::new(-1);
static WITNESS: AtomicI32 = AtomicI32::new(0);
static IS_TRACED: AtomicBool = AtomicBool::new(false);

#[expect(clippy::declare_interior_mutable_const, reason = "to fill arrays")]
const NONE: AtomicU64 = AtomicU64::new(0);
/// What we got and have not decided about, as [`mark`]s.
static OURS: [AtomicU64; SIGNALS] = [NONE; SIGNALS];
/// What the program got and nothing of ours answered to, as marks.
static ITS: [AtomicU64; SIGNALS] = [NONE; SIGNALS];
/// The signal that stopped the program, in a sender's place, and since when.
static STOPPED: AtomicU64 = AtomicU64::new(0);
/// The timer plus one.
static TIMER: AtomicUsize = AtomicUsize::new(0);
static IS_ARMED: AtomicBool = AtomicBool::new(false);

/// A sender and a time. Never 0.
fn mark(sender: i32) -> u64 {
    u64::from(sender as u32 + 1) << 32 | u64::from(now())
}

fn sender_of_mark(mark: u64) -> i32 {
    ((mark >> 32) as u32).wrapping_sub(1) as i32
}

fn age(mark: u64) -> u32 {
    now().wrapping_sub(mark as u32)
}

/// Milliseconds, which wrap around.
fn now() -> u32 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: async-signal-safe; writes one structure that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u32).wrapping_mul(1000).wrapping_add((time.tv_nsec / 1_000_000) as u32)
}

/// Who sent a signal: 0 for the kernel.
///
/// # Safety
/// The kernel filled `info`.
unsafe fn sender(info: &libc::siginfo_t) -> i32 {
    // SAFETY: signals that no kernel code made have a sender.
    if info.si_code > 0 { 0 } else { unsafe { info.si_pid() } }
}

/// The same for a tracer, which was given `info` by the kernel.
pub(super) fn sender_of(info: &libc::siginfo_t) -> i32 {
    // SAFETY: every siginfo that safe code can have was filled by the kernel.
    unsafe { sender(info) }
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the thread's own errno, which the interrupted code may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let info = unsafe { &*info };
    // SAFETY: as above.
    let from = unsafe { sender(info) };
    let is_fault = matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP | libc::SIGSYS | libc::SIGABRT
    );
    // SAFETY: takes no memory; getpid(2) cannot fail.
    let own = unsafe { libc::getpid() };
    if signal == TOLD && info.si_code == BY_TIMER {
        decide();
    } else if signal == TOLD && info.si_code == BY_QUEUE && from == WITNESS.load(Relaxed) {
        // SAFETY: signals of sigqueue(3) have a value.
        let value = unsafe { info.si_value() }.sival_ptr as u64;
        program_got((value >> 32) as i32, value as u32 as i32);
    } else if is_fault && (info.si_code > 0 || from == own) {
        // An error of ours: it happens again, or is raised again, and ends us.
        set_default(signal);
        if info.si_code <= 0 {
            raise(signal);
        }
    } else if matches!(signal, libc::SIGTTIN | libc::SIGTTOU) && from == 0 {
        // A terminal's, for its background: who goes on without having stopped gets it for ever.
        stop_with(signal);
    } else if from != own && !(signal == libc::SIGXCPU && info.si_code > 0) {
        // The program has a limit and an account of its own; and SIGPIPE is an error of write(2) to us.
        we_got(signal, from);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn we_got(signal: i32, from: i32) {
    let (ours, its) = (&OURS[signal as usize], &ITS[signal as usize]);
    let answer = its.swap(0, Relaxed);
    if answer != 0 && sender_of_mark(answer) == from && age(answer) < GRACE_MS {
        return;
    }
    // A terminal that is gone tells the leader of its session alone, and at once nothing can be read from it.
    // SAFETY: takes no memory.
    if signal == libc::SIGHUP && from == 0 && unsafe { libc::getsid(0) == libc::getpid() } {
        return pass_on(signal);
    }
    // The one before has waited long enough if another comes.
    if ours.swap(mark(from), Relaxed) != 0 {
        pass_on(signal);
    }
    arm(GRACE_MS);
}

fn program_got(signal: i32, from: i32) {
    let Some(ours) = OURS.get(signal as usize) else { return };
    let waiting = ours.load(Relaxed);
    if waiting != 0 && sender_of_mark(waiting) == from {
        ours.store(0, Relaxed);
    } else {
        ITS[signal as usize].store(mark(from), Relaxed);
    }
}

/// What the timer is for: passes on what nothing answered to, and stops us if the program is stopped.
fn decide() {
    IS_ARMED.store(false, Relaxed);
    let mut left: Option<u32> = None;
    let mut wait = |mark: u64| {
        let rest = GRACE_MS - age(mark);
        left = Some(left.map_or(rest, |least| least.min(rest)));
    };
    let mut continued = OURS[libc::SIGCONT as usize].load(Relaxed) != 0;
    for (signal, ours) in OURS.iter().enumerate() {
        let mark = ours.load(Relaxed);
        if mark != 0 && age(mark) < GRACE_MS {
            wait(mark);
        } else if mark != 0 {
            ours.store(0, Relaxed);
            pass_on(signal as i32);
        }
    }
    let stop = STOPPED.load(Relaxed);
    if stop != 0 && age(stop) < GRACE_MS {
        wait(stop);
    } else if stop != 0 {
        STOPPED.store(0, Relaxed);
        continued |= has_news();
        if !continued {
            stop_with(sender_of_mark(stop));
        }
    }
    if let Some(rest) = left {
        arm(rest.max(1));
    }
}

fn pass_on(signal: i32) {
    let child = CHILD.load(Relaxed);
    if child <= 0 {
        return;
    }
    let witness = WITNESS.load(Relaxed);
    if signal == libc::SIGCONT && witness > 0 {
        // Who stopped all stopped it.
        send(witness, signal);
    }
    let list = CHILDREN.load(Relaxed);
    if list < 0 {
        return send(child, signal);
    }
    let mut text = [0u8; 1024];
    // SAFETY: pread(2) is async-signal-safe and writes at most the bytes that are announced.
    let count = unsafe { libc::pread(list, text.as_mut_ptr().cast(), text.len(), 0) };
    pids(&text[..usize::try_from(count).unwrap_or(0)]).for_each(|pid| send(pid, signal));
}

fn send(pid: i32, signal: i32) {
    // SAFETY: kill(2) is async-signal-safe and takes integers.
    unsafe { libc::kill(pid, signal) };
}

fn raise(signal: i32) {
    // SAFETY: takes no memory.
    send(unsafe { libc::getpid() }, signal);
}

/// The numbers in a list of proc_pid_task_children(5). Allocates nothing.
pub(super) fn pids(text: &[u8]) -> impl Iterator<Item = i32> {
    text.split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .map(|word| word.iter().fold(0i32, |pid, digit| pid.wrapping_mul(10).wrapping_add(i32::from(*digit & 15))))
        .filter(|pid| *pid > 0)
}

/// Whether there is a change of state of the program that we have not heard of: it is no more as we know it.
fn has_news() -> bool {
    let mut options = libc::WNOHANG | libc::WNOWAIT | libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED;
    let (kind, id) = match IS_TRACED.load(Relaxed) {
        true => (libc::P_ALL, 0),
        false => (libc::P_PID, CHILD.load(Relaxed) as libc::id_t),
    };
    if kind == libc::P_ALL {
        options |= libc::__WALL;
    }
    // SAFETY: the structure holds numbers only, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: async-signal-safe; writes one structure that outlives the call.
    let result = unsafe { libc::waitid(kind, id, &raw mut info, options) };
    // SAFETY: zeroed, or filled by the kernel.
    result != 0 || unsafe { info.si_pid() } != 0
}

/// Stops us as the program was stopped; returns when we are continued.
fn stop_with(signal: i32) {
    let child = CHILD.load(Relaxed);
    // SAFETY: both are async-signal-safe and take numbers only.
    let is_of_group = unsafe { libc::getpgid(child) == libc::getpgrp() };
    // In another group than ours the kernel may ignore what stopped the program.
    if signal == libc::SIGSTOP || !is_of_group {
        return raise(libc::SIGSTOP);
    }
    set_default(signal);
    // It waits until it is unblocked; a SIGCONT in between takes it away again.
    raise(signal);
    let only = set_of(&[signal]);
    // SAFETY: the kernel reads a set that outlives the calls.
    unsafe {
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const only, ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const only, ptr::null_mut());
    }
    set_handler(signal);
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: an empty set is all zeros.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: changes the set, which outlives the call.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// Every signal.
fn all() -> libc::sigset_t {
    let mut set = set_of(&[]);
    // SAFETY: changes the set, which outlives the call.
    unsafe { libc::sigfillset(&raw mut set) };
    set
}

fn set_handler(signal: i32) {
    // SAFETY: a zeroed action is valid, and is completed here; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        action.sa_mask = all();
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

fn set_default(signal: i32) {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Lets the timer go off in so many milliseconds, unless it does so anyway.
fn arm(milliseconds: u32) {
    if IS_ARMED.swap(true, Relaxed) {
        return;
    }
    let time = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec {
            tv_sec: i64::from(milliseconds / 1000),
            tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
        },
    };
    let timer = TIMER.load(Relaxed).wrapping_sub(1) as libc::timer_t;
    // SAFETY: async-signal-safe; the kernel reads the time and checks the timer's number.
    if unsafe { libc::timer_settime(timer, 0, &raw const time, ptr::null_mut()) } != 0 {
        // Without a timer nothing waits.
        IS_ARMED.store(false, Relaxed);
        for (signal, ours) in OURS.iter().enumerate() {
            if ours.swap(0, Relaxed) != 0 {
                pass_on(signal as i32);
            }
        }
    }
}

fn make_timer() {
    // SAFETY: the structure holds numbers and pointers that nobody follows for SIGEV_SIGNAL.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = TOLD;
    let mut timer: libc::timer_t = ptr::null_mut();
    // SAFETY: the kernel reads and writes structures that outlive the call.
    if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } == 0 {
        TIMER.store((timer as usize).wrapping_add(1), Relaxed);
    }
}

/// Does `work` while no handler runs.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let (every, mut old) = (all(), set_of(&[]));
    // SAFETY: the sets outlive the calls.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const every, &raw mut old) };
    let done = work();
    // SAFETY: `old` was filled by the kernel.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut()) };
    done
}

/// Tells that the program gets `signal` from `sender` (0: the kernel). For its tracer.
pub fn got(signal: i32, sender: i32) {
    // What we passed on ourselves answers to nothing.
    if sender as u32 != std::process::id() {
        quietly(|| program_got(signal, sender));
    }
}

/// Tells that all of the program is stopped, the first process by `signal`: we will be as well.
pub fn stopped(signal: i32) {
    quietly(|| {
        if STOPPED.load(Relaxed) == 0 {
            STOPPED.store(mark(signal), Relaxed);
            arm(GRACE_MS);
        }
    });
}

/// Tells that something of the program runs: nobody stops.
pub fn goes_on() {
    STOPPED.store(0, Relaxed);
}

/// Forks as fork(2), with every signal blocked in the parent, which then calls [`begin`]; in the child the mask is as before.
pub(super) fn fork() -> Result<(i32, Mask), Errno> {
    let (every, mut old) = (all(), set_of(&[]));
    // SAFETY: the sets outlive the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const every, &raw mut old) };
    // SAFETY: callers are single-threaded, so the child may do anything the parent could.
    let pid = unsafe { libc::fork() };
    let error = std::io::Error::last_os_error();
    if pid <= 0 {
        // SAFETY: `old` was filled by the kernel.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut()) };
    }
    match pid {
        -1 => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        pid => Ok((pid, Mask(()))),
    }
}

/// Every signal is blocked.
pub(super) struct Mask(());

/// From here on signals are for `child`. Signals that our caller had blocked come to us: the program has its mask.
pub(super) fn begin(child: i32, looks: Looks, _blocked: Mask) {
    for slot in OURS.iter().chain(&ITS).chain([&STOPPED]) {
        slot.store(0, Relaxed);
    }
    CHILD.store(child, Relaxed);
    IS_TRACED.store(looks == Looks::Tracer, Relaxed);
    if TIMER.load(Relaxed) == 0 {
        make_timer();
    }
    if looks == Looks::Witness {
        start_witness();
    }
    for signal in 1..SIGNALS as i32 {
        // SIGCHLD is about the program; two are libc's own, which answers EINVAL.
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGCHLD) {
            set_handler(signal);
        }
    }
    let none = set_of(&[]);
    // SAFETY: the kernel reads a set that outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Signals are for the processes in this list of children, in the child's place.
pub(super) fn aim_at_children(list: i32) {
    CHILDREN.store(list, Relaxed);
}

/// Signals go nowhere.
pub(super) fn end() {
    CHILD.store(0, Relaxed);
    let witness = WITNESS.swap(0, Relaxed);
    if witness > 0 {
        send(witness, libc::SIGKILL);
        // SAFETY: waitpid(2) takes a null pointer for a status that nobody wants.
        while unsafe { libc::waitpid(witness, ptr::null_mut(), 0) } == -1
            && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
        {}
    }
}

/// Should there be no process to be had, every signal is passed on.
fn start_witness() {
    // SAFETY: takes no memory.
    let own = unsafe { libc::getpid() };
    // SAFETY: the child calls nothing but system calls.
    match unsafe { libc::fork() } {
        0 => watch(own),
        pid => WITNESS.store(pid.max(0), Relaxed),
    }
}

/// What the witness does, with every signal blocked, until `parent` ends.
fn watch(parent: i32) -> ! {
    // SAFETY: system calls that take numbers and constant strings. What its parent has open is the parent's to close.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, c"udocker-witness".as_ptr());
        if libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) != 0 {
            (0..1024).for_each(|fd| {
                libc::close(fd);
            });
        }
        libc::chdir(c"/".as_ptr());
    }
    let every = all();
    loop {
        // SAFETY: takes no memory.
        if unsafe { libc::getppid() } != parent {
            // SAFETY: ends this process without running the parent's exit handlers.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: the structure holds numbers only, for which zero is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel reads the set and fills the structure; both outlive the call.
        let signal = unsafe { libc::sigwaitinfo(&raw const every, &raw mut info) };
        if signal > 0 {
            let value = (signal as u64) << 32 | u64::from(sender_of(&info) as u32);
            let value = libc::sigval { sival_ptr: value as *mut libc::c_void };
            // SAFETY: takes numbers only; nobody follows the pointer.
            unsafe { libc::sigqueue(parent, TOLD, value) };
        }
    }
}
