//! What each system call of x86-64 does with paths, and what becomes of it in a container of the P modes.
//!
//! Every number that the kernel headers know is here: a test compares. What is not here is answered with ENOSYS: a call
//! that nobody has looked at never reaches the host.

use rustix::fs::AtFlags;

const AT_SYMLINK_NOFOLLOW: u32 = AtFlags::SYMLINK_NOFOLLOW.bits();
const AT_SYMLINK_FOLLOW: u32 = AtFlags::SYMLINK_FOLLOW.bits();
const AT_EMPTY_PATH: u32 = AtFlags::EMPTY_PATH.bits();
const IN_DONT_FOLLOW: u32 = libc::IN_DONT_FOLLOW;
const FAN_MARK_DONT_FOLLOW: u32 = libc::FAN_MARK_DONT_FOLLOW;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The kernel does it: it takes no path.
    Allow,
    /// Its paths are replaced by host paths, then the kernel does it.
    Translate,
    /// The engine has its own way with it.
    Emulate(Emulation),
    /// It fails with this number.
    Refuse(i32),
}

/// Calls that are not done by replacing paths alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// stat, lstat, newfstatat.
    Stat,
    /// statx.
    Statx,
    /// access and its kin.
    Access,
    /// readlink, readlinkat.
    Readlink,
    /// getxattr, listxattr and their kin.
    Xattr,
    /// getcwd.
    Getcwd,
    /// open and its kin.
    Open,
    /// execve, execveat.
    Exec,
    /// A socket address that may be a path: bind, connect, sendto.
    Address,
    /// Messages with such an address.
    Message,
    /// Shows such an address: getsockname, getpeername.
    SocketName,
    /// sched_setaffinity, sched_getaffinity: they are about what the tracer may have changed.
    Affinity,
    /// chroot.
    Chroot,
    /// Changes a file by its descriptor.
    Descriptor,
    /// ioctl: changes attributes of a file by its descriptor, with some requests.
    Attribute,
}

/// Whether a link at the end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is.
    Always,
    /// It is not, but by a slash at the end of the path.
    Never,
    /// It is not: the call is about the name, not about what is there.
    Name,
    /// It is unless the argument has this flag.
    Unless(u8, u32),
    /// It is if the argument has this flag.
    If(u8, u32),
    /// As the flags of open(2) in the argument say.
    Open(u8),
}

/// A path among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathArgument {
    /// Which argument.
    pub index: u8,
    /// Which argument is the directory that it is relative to; `None`: the working directory.
    pub directory: Option<u8>,
    /// Whether the last name is followed.
    pub follow: Follow,
}

/// What a call does to the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Read,
    /// Makes a name; EEXIST wins over EROFS.
    Create,
    /// Takes a name away.
    Remove,
    /// Changes what is there; ENOENT wins over EROFS.
    Change,
    /// Moves a name.
    Rename,
    /// Makes a second name.
    Link,
}

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: u32,
    /// Its name in the kernel headers.
    pub name: &'static str,
    /// What becomes of it.
    pub action: Action,
    /// Its paths.
    pub paths: [Option<PathArgument>; 2],
    /// What it does.
    pub effect: Effect,
}

/// The call of this number.
pub fn find(number: u64) -> Option<&'static Call> {
    let known = u32::try_from(number).ok()?;
    // Numbers up to 336 leave no gap.
    match CALLS.get(known as usize) {
        Some(call) if call.number == known => Some(call),
        _ => CALLS.binary_search_by_key(&known, |call| call.number).ok().map(|at| &CALLS[at]),
    }
}

/// Whether the flags of a call are those that it knows. Others are refused here, as by a kernel that does not know them:
/// they may say of a path what this table does not.
pub fn has_known_flags(number: u64, argument: impl Fn(u8) -> u64) -> bool {
    let number = number as u32;
    FLAGS.iter().filter(|flags| flags.0 == number).all(|(_, index, known)| argument(*index) as u32 & !known == 0)
}

/// By number: which argument holds flags, and the flags that it may hold.
const FLAGS: &[(u32, u8, u32)] = &[
    (21, 1, 7),
    (188, 4, XATTR_FLAGS),
    (189, 4, XATTR_FLAGS),
    (260, 4, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    (262, 3, STAT_FLAGS),
    (263, 2, libc::AT_REMOVEDIR as u32),
    (265, 4, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH),
    (269, 2, 7),
    (280, 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    // AT_HANDLE_FID, AT_HANDLE_MNT_ID_UNIQUE, AT_HANDLE_CONNECTABLE.
    (303, 4, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | 0x203),
    (316, 4, libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT),
    (332, 2, STAT_FLAGS),
    (439, 2, 7),
    (439, 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | libc::AT_EACCESS as u32),
    (452, 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    (463, 2, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    (464, 2, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    (465, 2, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    (466, 2, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    (468, 4, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    (469, 4, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
];

/// AT_NO_AUTOMOUNT and AT_STATX_SYNC_TYPE.
const STAT_FLAGS: u32 = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | 0x6800;

/// XATTR_CREATE and XATTR_REPLACE.
const XATTR_FLAGS: u32 = 3;

const fn path(index: u8, follow: Follow) -> PathArgument {
    PathArgument { index, directory: None, follow }
}

const fn at(directory: u8, index: u8, follow: Follow) -> PathArgument {
    PathArgument { index, directory: Some(directory), follow }
}

const fn allow(number: u32, name: &'static str) -> Call {
    Call { number, name, action: Action::Allow, paths: [None, None], effect: Effect::Read }
}

const fn refuse(number: u32, name: &'static str, errno: i32) -> Call {
    Call { number, name, action: Action::Refuse(errno), paths: [None, None], effect: Effect::Read }
}

const fn translate(number: u32, name: &'static str, paths: [Option<PathArgument>; 2], effect: Effect) -> Call {
    Call { number, name, action: Action::Translate, paths, effect }
}

const fn emulate(number: u32, name: &'static str, paths: [Option<PathArgument>; 2], how: Emulation) -> Call {
    Call { number, name, action: Action::Emulate(how), paths, effect: Effect::Read }
}

/// All calls, by number.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    allow(0, "read"),
    allow(1, "write"),
    emulate(2, "open", [Some(path(0, Follow::Open(1))), None], Emulation::Open),
    allow(3, "close"),
    emulate(4, "stat", [Some(path(0, Follow::Always)), None], Emulation::Stat),
    allow(5, "fstat"),
    emulate(6, "lstat", [Some(path(0, Follow::Never)), None], Emulation::Stat),
    allow(7, "poll"),
    allow(8, "lseek"),
    allow(9, "mmap"),
    allow(10, "mprotect"),
    allow(11, "munmap"),
    allow(12, "brk"),
    allow(13, "rt_sigaction"),
    allow(14, "rt_sigprocmask"),
    allow(15, "rt_sigreturn"),
    emulate(16, "ioctl", [None, None], Emulation::Attribute),
    allow(17, "pread64"),
    allow(18, "pwrite64"),
    allow(19, "readv"),
    allow(20, "writev"),
    emulate(21, "access", [Some(path(0, Follow::Always)), None], Emulation::Access),
    allow(22, "pipe"),
    allow(23, "select"),
    allow(24, "sched_yield"),
    allow(25, "mremap"),
    allow(26, "msync"),
    allow(27, "mincore"),
    allow(28, "madvise"),
    allow(29, "shmget"),
    allow(30, "shmat"),
    allow(31, "shmctl"),
    allow(32, "dup"),
    allow(33, "dup2"),
    allow(34, "pause"),
    allow(35, "nanosleep"),
    allow(36, "getitimer"),
    allow(37, "alarm"),
    allow(38, "setitimer"),
    allow(39, "getpid"),
    allow(40, "sendfile"),
    allow(41, "socket"),
    emulate(42, "connect", [None, None], Emulation::Address),
    allow(43, "accept"),
    emulate(44, "sendto", [None, None], Emulation::Address),
    allow(45, "recvfrom"),
    emulate(46, "sendmsg", [None, None], Emulation::Message),
    allow(47, "recvmsg"),
    allow(48, "shutdown"),
    emulate(49, "bind", [None, None], Emulation::Address),
    allow(50, "listen"),
    emulate(51, "getsockname", [None, None], Emulation::SocketName),
    emulate(52, "getpeername", [None, None], Emulation::SocketName),
    allow(53, "socketpair"),
    allow(54, "setsockopt"),
    allow(55, "getsockopt"),
    allow(56, "clone"),
    allow(57, "fork"),
    allow(58, "vfork"),
    emulate(59, "execve", [Some(path(0, Follow::Always)), None], Emulation::Exec),
    allow(60, "exit"),
    allow(61, "wait4"),
    allow(62, "kill"),
    allow(63, "uname"),
    allow(64, "semget"),
    allow(65, "semop"),
    allow(66, "semctl"),
    allow(67, "shmdt"),
    allow(68, "msgget"),
    allow(69, "msgsnd"),
    allow(70, "msgrcv"),
    allow(71, "msgctl"),
    allow(72, "fcntl"),
    allow(73, "flock"),
    allow(74, "fsync"),
    allow(75, "fdatasync"),
    translate(76, "truncate", [Some(path(0, Follow::Always)), None], Effect::Change),
    allow(77, "ftruncate"),
    allow(78, "getdents"),
    emulate(79, "getcwd", [None, None], Emulation::Getcwd),
    translate(80, "chdir", [Some(path(0, Follow::Always)), None], Effect::Read),
    allow(81, "fchdir"),
    translate(82, "rename", [Some(path(0, Follow::Name)), Some(path(1, Follow::Name))], Effect::Rename),
    translate(83, "mkdir", [Some(path(0, Follow::Name)), None], Effect::Create),
    translate(84, "rmdir", [Some(path(0, Follow::Name)), None], Effect::Remove),
    emulate(85, "creat", [Some(path(0, Follow::Always)), None], Emulation::Open),
    translate(86, "link", [Some(path(0, Follow::Never)), Some(path(1, Follow::Name))], Effect::Link),
    translate(87, "unlink", [Some(path(0, Follow::Name)), None], Effect::Remove),
    translate(88, "symlink", [Some(path(1, Follow::Name)), None], Effect::Create),
    emulate(89, "readlink", [Some(path(0, Follow::Never)), None], Emulation::Readlink),
    translate(90, "chmod", [Some(path(0, Follow::Always)), None], Effect::Change),
    emulate(91, "fchmod", [None, None], Emulation::Descriptor),
    translate(92, "chown", [Some(path(0, Follow::Always)), None], Effect::Change),
    emulate(93, "fchown", [None, None], Emulation::Descriptor),
    translate(94, "lchown", [Some(path(0, Follow::Never)), None], Effect::Change),
    allow(95, "umask"),
    allow(96, "gettimeofday"),
    allow(97, "getrlimit"),
    allow(98, "getrusage"),
    allow(99, "sysinfo"),
    allow(100, "times"),
    allow(101, "ptrace"),
    allow(102, "getuid"),
    allow(103, "syslog"),
    allow(104, "getgid"),
    allow(105, "setuid"),
    allow(106, "setgid"),
    allow(107, "geteuid"),
    allow(108, "getegid"),
    allow(109, "setpgid"),
    allow(110, "getppid"),
    allow(111, "getpgrp"),
    allow(112, "setsid"),
    allow(113, "setreuid"),
    allow(114, "setregid"),
    allow(115, "getgroups"),
    allow(116, "setgroups"),
    allow(117, "setresuid"),
    allow(118, "getresuid"),
    allow(119, "setresgid"),
    allow(120, "getresgid"),
    allow(121, "getpgid"),
    allow(122, "setfsuid"),
    allow(123, "setfsgid"),
    allow(124, "getsid"),
    allow(125, "capget"),
    allow(126, "capset"),
    allow(127, "rt_sigpending"),
    allow(128, "rt_sigtimedwait"),
    allow(129, "rt_sigqueueinfo"),
    allow(130, "rt_sigsuspend"),
    allow(131, "sigaltstack"),
    translate(132, "utime", [Some(path(0, Follow::Always)), None], Effect::Change),
    translate(133, "mknod", [Some(path(0, Follow::Name)), None], Effect::Create),
    refuse(134, "uselib", libc::EPERM),
    allow(135, "personality"),
    allow(136, "ustat"),
    translate(137, "statfs", [Some(path(0, Follow::Always)), None], Effect::Read),
    allow(138, "fstatfs"),
    allow(139, "sysfs"),
    allow(140, "getpriority"),
    allow(141, "setpriority"),
    allow(142, "sched_setparam"),
    allow(143, "sched_getparam"),
    allow(144, "sched_setscheduler"),
    allow(145, "sched_getscheduler"),
    allow(146, "sched_get_priority_max"),
    allow(147, "sched_get_priority_min"),
    allow(148, "sched_rr_get_interval"),
    allow(149, "mlock"),
    allow(150, "munlock"),
    allow(151, "mlockall"),
    allow(152, "munlockall"),
    allow(153, "vhangup"),
    allow(154, "modify_ldt"),
    refuse(155, "pivot_root", libc::EPERM),
    refuse(156, "_sysctl", libc::ENOSYS),
    allow(157, "prctl"),
    allow(158, "arch_prctl"),
    allow(159, "adjtimex"),
    allow(160, "setrlimit"),
    emulate(161, "chroot", [Some(path(0, Follow::Always)), None], Emulation::Chroot),
    allow(162, "sync"),
    refuse(163, "acct", libc::EPERM),
    allow(164, "settimeofday"),
    refuse(165, "mount", libc::EPERM),
    refuse(166, "umount2", libc::EPERM),
    refuse(167, "swapon", libc::EPERM),
    refuse(168, "swapoff", libc::EPERM),
    refuse(169, "reboot", libc::EPERM),
    allow(170, "sethostname"),
    allow(171, "setdomainname"),
    allow(172, "iopl"),
    allow(173, "ioperm"),
    refuse(174, "create_module", libc::ENOSYS),
    refuse(175, "init_module", libc::EPERM),
    refuse(176, "delete_module", libc::EPERM),
    refuse(177, "get_kernel_syms", libc::ENOSYS),
    refuse(178, "query_module", libc::ENOSYS),
    refuse(179, "quotactl", libc::EPERM),
    refuse(180, "nfsservctl", libc::ENOSYS),
    refuse(181, "getpmsg", libc::ENOSYS),
    refuse(182, "putpmsg", libc::ENOSYS),
    refuse(183, "afs_syscall", libc::ENOSYS),
    refuse(184, "tuxcall", libc::ENOSYS),
    refuse(185, "security", libc::ENOSYS),
    allow(186, "gettid"),
    allow(187, "readahead"),
    translate(188, "setxattr", [Some(path(0, Follow::Always)), None], Effect::Change),
    translate(189, "lsetxattr", [Some(path(0, Follow::Never)), None], Effect::Change),
    emulate(190, "fsetxattr", [None, None], Emulation::Descriptor),
    emulate(191, "getxattr", [Some(path(0, Follow::Always)), None], Emulation::Xattr),
    emulate(192, "lgetxattr", [Some(path(0, Follow::Never)), None], Emulation::Xattr),
    allow(193, "fgetxattr"),
    emulate(194, "listxattr", [Some(path(0, Follow::Always)), None], Emulation::Xattr),
    emulate(195, "llistxattr", [Some(path(0, Follow::Never)), None], Emulation::Xattr),
    allow(196, "flistxattr"),
    translate(197, "removexattr", [Some(path(0, Follow::Always)), None], Effect::Change),
    translate(198, "lremovexattr", [Some(path(0, Follow::Never)), None], Effect::Change),
    emulate(199, "fremovexattr", [None, None], Emulation::Descriptor),
    allow(200, "tkill"),
    allow(201, "time"),
    allow(202, "futex"),
    emulate(203, "sched_setaffinity", [None, None], Emulation::Affinity),
    emulate(204, "sched_getaffinity", [None, None], Emulation::Affinity),
    allow(205, "set_thread_area"),
    allow(206, "io_setup"),
    allow(207, "io_destroy"),
    allow(208, "io_getevents"),
    allow(209, "io_submit"),
    allow(210, "io_cancel"),
    allow(211, "get_thread_area"),
    allow(212, "lookup_dcookie"),
    allow(213, "epoll_create"),
    allow(214, "epoll_ctl_old"),
    allow(215, "epoll_wait_old"),
    allow(216, "remap_file_pages"),
    allow(217, "getdents64"),
    allow(218, "set_tid_address"),
    allow(219, "restart_syscall"),
    allow(220, "semtimedop"),
    allow(221, "fadvise64"),
    allow(222, "timer_create"),
    allow(223, "timer_settime"),
    allow(224, "timer_gettime"),
    allow(225, "timer_getoverrun"),
    allow(226, "timer_delete"),
    allow(227, "clock_settime"),
    allow(228, "clock_gettime"),
    allow(229, "clock_getres"),
    allow(230, "clock_nanosleep"),
    allow(231, "exit_group"),
    allow(232, "epoll_wait"),
    allow(233, "epoll_ctl"),
    allow(234, "tgkill"),
    translate(235, "utimes", [Some(path(0, Follow::Always)), None], Effect::Change),
    refuse(236, "vserver", libc::ENOSYS),
    allow(237, "mbind"),
    allow(238, "set_mempolicy"),
    allow(239, "get_mempolicy"),
    allow(240, "mq_open"),
    allow(241, "mq_unlink"),
    allow(242, "mq_timedsend"),
    allow(243, "mq_timedreceive"),
    allow(244, "mq_notify"),
    allow(245, "mq_getsetattr"),
    refuse(246, "kexec_load", libc::EPERM),
    allow(247, "waitid"),
    allow(248, "add_key"),
    allow(249, "request_key"),
    allow(250, "keyctl"),
    allow(251, "ioprio_set"),
    allow(252, "ioprio_get"),
    allow(253, "inotify_init"),
    translate(254, "inotify_add_watch", [Some(path(1, Follow::Unless(2, IN_DONT_FOLLOW))), None], Effect::Read),
    allow(255, "inotify_rm_watch"),
    allow(256, "migrate_pages"),
    emulate(257, "openat", [Some(at(0, 1, Follow::Open(2))), None], Emulation::Open),
    translate(258, "mkdirat", [Some(at(0, 1, Follow::Name)), None], Effect::Create),
    translate(259, "mknodat", [Some(at(0, 1, Follow::Name)), None], Effect::Create),
    translate(260, "fchownat", [Some(at(0, 1, Follow::Unless(4, AT_SYMLINK_NOFOLLOW))), None], Effect::Change),
    translate(261, "futimesat", [Some(at(0, 1, Follow::Always)), None], Effect::Change),
    emulate(262, "newfstatat", [Some(at(0, 1, Follow::Unless(3, AT_SYMLINK_NOFOLLOW))), None], Emulation::Stat),
    translate(263, "unlinkat", [Some(at(0, 1, Follow::Name)), None], Effect::Remove),
    translate(264, "renameat", [Some(at(0, 1, Follow::Name)), Some(at(2, 3, Follow::Name))], Effect::Rename),
    translate(265, "linkat", [Some(at(0, 1, Follow::If(4, AT_SYMLINK_FOLLOW))), Some(at(2, 3, Follow::Name))], Effect::Link),
    translate(266, "symlinkat", [Some(at(1, 2, Follow::Name)), None], Effect::Create),
    emulate(267, "readlinkat", [Some(at(0, 1, Follow::Never)), None], Emulation::Readlink),
    translate(268, "fchmodat", [Some(at(0, 1, Follow::Always)), None], Effect::Change),
    emulate(269, "faccessat", [Some(at(0, 1, Follow::Always)), None], Emulation::Access),
    allow(270, "pselect6"),
    allow(271, "ppoll"),
    allow(272, "unshare"),
    allow(273, "set_robust_list"),
    allow(274, "get_robust_list"),
    allow(275, "splice"),
    allow(276, "tee"),
    allow(277, "sync_file_range"),
    allow(278, "vmsplice"),
    allow(279, "move_pages"),
    translate(280, "utimensat", [Some(at(0, 1, Follow::Unless(3, AT_SYMLINK_NOFOLLOW))), None], Effect::Change),
    allow(281, "epoll_pwait"),
    allow(282, "signalfd"),
    allow(283, "timerfd_create"),
    allow(284, "eventfd"),
    allow(285, "fallocate"),
    allow(286, "timerfd_settime"),
    allow(287, "timerfd_gettime"),
    allow(288, "accept4"),
    allow(289, "signalfd4"),
    allow(290, "eventfd2"),
    allow(291, "epoll_create1"),
    allow(292, "dup3"),
    allow(293, "pipe2"),
    allow(294, "inotify_init1"),
    allow(295, "preadv"),
    allow(296, "pwritev"),
    allow(297, "rt_tgsigqueueinfo"),
    allow(298, "perf_event_open"),
    allow(299, "recvmmsg"),
    allow(300, "fanotify_init"),
    translate(301, "fanotify_mark", [Some(at(3, 4, Follow::Unless(1, FAN_MARK_DONT_FOLLOW))), None], Effect::Read),
    allow(302, "prlimit64"),
    translate(303, "name_to_handle_at", [Some(at(0, 1, Follow::If(4, AT_SYMLINK_FOLLOW))), None], Effect::Read),
    refuse(304, "open_by_handle_at", libc::EPERM),
    allow(305, "clock_adjtime"),
    allow(306, "syncfs"),
    emulate(307, "sendmmsg", [None, None], Emulation::Message),
    refuse(308, "setns", libc::EPERM),
    allow(309, "getcpu"),
    allow(310, "process_vm_readv"),
    allow(311, "process_vm_writev"),
    allow(312, "kcmp"),
    refuse(313, "finit_module", libc::EPERM),
    allow(314, "sched_setattr"),
    allow(315, "sched_getattr"),
    translate(316, "renameat2", [Some(at(0, 1, Follow::Name)), Some(at(2, 3, Follow::Name))], Effect::Rename),
    allow(317, "seccomp"),
    allow(318, "getrandom"),
    allow(319, "memfd_create"),
    refuse(320, "kexec_file_load", libc::EPERM),
    allow(321, "bpf"),
    emulate(322, "execveat", [Some(at(0, 1, Follow::Unless(4, AT_SYMLINK_NOFOLLOW))), None], Emulation::Exec),
    allow(323, "userfaultfd"),
    allow(324, "membarrier"),
    allow(325, "mlock2"),
    allow(326, "copy_file_range"),
    allow(327, "preadv2"),
    allow(328, "pwritev2"),
    allow(329, "pkey_mprotect"),
    allow(330, "pkey_alloc"),
    allow(331, "pkey_free"),
    emulate(332, "statx", [Some(at(0, 1, Follow::Unless(2, AT_SYMLINK_NOFOLLOW))), None], Emulation::Statx),
    allow(333, "io_pgetevents"),
    allow(334, "rseq"),
    allow(335, "uretprobe"),
    allow(336, "uprobe"),
    allow(424, "pidfd_send_signal"),
    refuse(425, "io_uring_setup", libc::ENOSYS),
    refuse(426, "io_uring_enter", libc::ENOSYS),
    refuse(427, "io_uring_register", libc::ENOSYS),
    refuse(428, "open_tree", libc::EPERM),
    refuse(429, "move_mount", libc::EPERM),
    refuse(430, "fsopen", libc::EPERM),
    refuse(431, "fsconfig", libc::EPERM),
    refuse(432, "fsmount", libc::EPERM),
    refuse(433, "fspick", libc::EPERM),
    allow(434, "pidfd_open"),
    allow(435, "clone3"),
    allow(436, "close_range"),
    emulate(437, "openat2", [Some(at(0, 1, Follow::Always)), None], Emulation::Open),
    allow(438, "pidfd_getfd"),
    emulate(439, "faccessat2", [Some(at(0, 1, Follow::Unless(3, AT_SYMLINK_NOFOLLOW))), None], Emulation::Access),
    allow(440, "process_madvise"),
    allow(441, "epoll_pwait2"),
    refuse(442, "mount_setattr", libc::EPERM),
    refuse(443, "quotactl_fd", libc::EPERM),
    allow(444, "landlock_create_ruleset"),
    allow(445, "landlock_add_rule"),
    allow(446, "landlock_restrict_self"),
    allow(447, "memfd_secret"),
    allow(448, "process_mrelease"),
    allow(449, "futex_waitv"),
    allow(450, "set_mempolicy_home_node"),
    allow(451, "cachestat"),
    translate(452, "fchmodat2", [Some(at(0, 1, Follow::Unless(3, AT_SYMLINK_NOFOLLOW))), None], Effect::Change),
    allow(453, "map_shadow_stack"),
    allow(454, "futex_wake"),
    allow(455, "futex_wait"),
    allow(456, "futex_requeue"),
    refuse(457, "statmount", libc::ENOSYS),
    refuse(458, "listmount", libc::ENOSYS),
    allow(459, "lsm_get_self_attr"),
    allow(460, "lsm_set_self_attr"),
    allow(461, "lsm_list_modules"),
    allow(462, "mseal"),
    translate(463, "setxattrat", [Some(at(0, 1, Follow::Unless(2, AT_SYMLINK_NOFOLLOW))), None], Effect::Change),
    translate(464, "getxattrat", [Some(at(0, 1, Follow::Unless(2, AT_SYMLINK_NOFOLLOW))), None], Effect::Read),
    translate(465, "listxattrat", [Some(at(0, 1, Follow::Unless(2, AT_SYMLINK_NOFOLLOW))), None], Effect::Read),
    translate(466, "removexattrat", [Some(at(0, 1, Follow::Unless(2, AT_SYMLINK_NOFOLLOW))), None], Effect::Change),
    refuse(467, "open_tree_attr", libc::EPERM),
    translate(468, "file_getattr", [Some(at(0, 1, Follow::Unless(4, AT_SYMLINK_NOFOLLOW))), None], Effect::Read),
    translate(469, "file_setattr", [Some(at(0, 1, Follow::Unless(4, AT_SYMLINK_NOFOLLOW))), None], Effect::Change),
    allow(470, "listns"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_kernel_headers_is_decided() {
        const HEADER: &str = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
        let text = std::fs::read_to_string(HEADER).expect("the package linux-libc-dev is installed");
        let mut count = 0;
        for line in text.lines() {
            let Some((name, number)) = line.strip_prefix("#define __NR_").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let call = find(number.trim().parse().unwrap());
            assert_eq!(call.map(|call| call.name), Some(name), "{name} is not in the table: decide what becomes of it");
            count += 1;
        }
        assert!(count > 300, "{HEADER} has {count} calls");
    }

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(CALLS.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert_eq!(CALLS.last().map(|call| call.number), Some(470));
        for call in CALLS {
            assert_eq!(find(u64::from(call.number)).map(|found| found.name), Some(call.name));
            assert_eq!(call.action == Action::Translate, call.action == Action::Translate && call.paths[0].is_some());
        }
        for unknown in [337, 423, 471, 1000, 0x4000_0002, u64::MAX] {
            assert!(find(unknown).is_none(), "{unknown}");
        }
    }

    /// The names say which calls take paths; those that do and are let through are listed with their reason.
    #[test]
    fn no_call_with_a_path_is_let_through() {
        // By descriptor or without a file: fchdir, mqueues by name (no file system), uname, key types.
        let harmless =
            ["fchdir", "mq_open", "mq_unlink", "fstat", "fstatfs", "fgetxattr", "flistxattr", "ustat", "cachestat"];
        let words = [
            "open", "stat", "link", "chmod", "chown", "xattr", "mk", "rename", "dir", "exec", "mount", "utime",
            "access", "truncate",
        ];
        let by_descriptor = ["getdents", "getdents64", "ftruncate", "pidfd_open", "perf_event_open", "mq_open"];
        for call in CALLS.iter().filter(|call| call.action == Action::Allow) {
            let suspicious = words.iter().any(|word| call.name.contains(word));
            assert!(
                !suspicious || harmless.contains(&call.name) || by_descriptor.contains(&call.name),
                "{}",
                call.name
            );
        }
    }
}
