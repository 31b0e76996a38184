//! Programs under the ptrace engine: what they see, write and leave behind.
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const APPLETS: [&str; 31] = [
    "sh", "ls", "cat", "id", "chown", "mkdir", "rm", "rmdir", "mv", "touch", "ln", "mknod", "stat", "true", "kill",
    "pwd", "readlink", "grep", "echo", "test", "head", "env", "find", "sleep", "yes", "wc", "chmod", "tar", "xargs",
    "cp", "su",
];
const PROC: &str = "--bind=/proc:/proc";
const DEV: &str = "--bind=/dev:/dev";
/// The user of the tests where the tests may choose.
const USER: u32 = 1234;

/// A busybox image in `root`, and beside it a host directory with files of the same names.
struct Fixture {
    directory: tempfile::TempDir,
    engine: PathBuf,
    /// What the engine is run by, to be refused something.
    below: Option<PathBuf>,
}

fn example(name: &str) -> PathBuf {
    let built = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(built.exists(), "{} is missing: run `cargo build -p udocker-core --examples`", built.display());
    built
}

impl Fixture {
    fn new() -> Self {
        let busybox = Path::new("/bin/busybox");
        assert!(busybox.exists(), "these tests need /bin/busybox: install the package busybox-static");
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = directory.path().join("root");
        for name in ["bin", "etc", "tmp", "var", "data/deep", "run", "proc", "dev"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::create_dir_all(directory.path().join("host/sub")).unwrap();
        fs::write(directory.path().join("host/file"), "host\n").unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        APPLETS.iter().for_each(|applet| symlink("busybox", root.join("bin").join(applet)).unwrap());
        symlink("/run", root.join("var/run")).unwrap();
        symlink("/../../etc/marker", root.join("data/up")).unwrap();
        fs::write(root.join("etc/marker"), "guest\n").unwrap();
        for (name, text) in [
            ("script", "#!/bin/sh\necho script \"$0\" \"$@\"\n"),
            ("chain", "#! /bin/script with one\n"),
            ("lost", "#!/no/such\n"),
            ("plain", "echo plain $1\n"),
            ("loop", "#!/bin/loop\n"),
        ] {
            fs::write(root.join("bin").join(name), text).unwrap();
            fs::set_permissions(root.join("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(root.join("bin/noexec"), "#!/bin/sh\n").unwrap();
        // A copy, since the user need not be able to reach the build directory.
        let copy = directory.path().join("ptrace");
        fs::copy(example("ptrace"), &copy).unwrap();
        let fixture = Self { directory, engine: copy, below: None };
        fixture.give_to_user();
        fixture
    }

    /// A tree of one's own is the hard case: permissions keep nothing from being written.
    fn give_to_user(&self) {
        if rustix::process::getuid().is_root() {
            walk(self.directory.path(), &mut |path| std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap());
        }
    }

    /// On this kernel, on one before 5.0, and where filters are refused.
    fn on_each_kernel(mut self, test: impl Fn(&Self, &str)) {
        test(&self, "this kernel");
        let old = self.directory.path().join("enosys");
        fs::copy(example("enosys"), &old).unwrap();
        self.below = Some(old);
        test(&self, "an old kernel");
        let refusing = self.directory.path().join("refusing");
        compile(&REFUSING.replace("CALL", "157").replace("FIRST", "22"), &refusing);
        self.below = Some(refusing);
        test(&self, "without filters");
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn bind(&self, name: &str, target: &str) -> String {
        format!("--bind={}:{target}", self.directory.path().join(name).display())
    }

    fn command(&self, options: &[&str], argv: &[&str]) -> Command {
        let mut command = match &self.below {
            None => Command::new(&self.engine),
            Some(program) => Command::new(program),
        };
        command.args(self.below.iter().map(|_| &self.engine));
        command.arg(self.root()).args(options).arg("--").args(argv).current_dir("/");
        if rustix::process::getuid().is_root() {
            command.uid(USER).gid(USER);
        }
        command
    }

    fn run(&self, options: &[&str], argv: &[&str]) -> Output {
        self.command(options, argv).output().unwrap()
    }

    /// The output of a script, which must be without complaint.
    #[track_caller]
    fn shell(&self, options: &[&str], script: &str) -> String {
        let output = self.run(options, &["sh", "-c", script]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), complaint.as_str()), (Some(0), ""), "{script}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Names, modes, times and contents of the image.
    fn fingerprint(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let mut text = String::new();
        walk(&self.root(), &mut |path| {
            let meta = path.symlink_metadata().unwrap();
            text += &format!("{path:?} {:o} {} {} {}", meta.mode(), meta.uid(), meta.mtime_nsec(), meta.ctime_nsec());
            text += &format!(" {} {}\n", meta.nlink(), meta.len());
        });
        text
    }
}

fn walk(path: &Path, visit: &mut impl FnMut(&Path)) {
    visit(path);
    if path.symlink_metadata().unwrap().is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| walk(entry, visit));
    }
}

#[test]
fn programs_see_the_image_and_not_the_host() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.shell(&[PROC], "cat /etc/marker /data/up; pwd; cd /data/deep; cd ..; pwd; ls"),
        "guest\nguest\n/\n/data\ndeep\nup\n"
    );
    let script = "readlink /proc/self/exe; readlink /proc/self/root; readlink /proc/self/cwd; cat /proc/$$/comm; \
        cat /proc/self/root/etc/marker; cat /proc/self/cwd/etc/marker; exec 7</etc; cat /proc/self/fd/7/marker; \
        readlink /proc/$$/fd/7; test -e /etc/passwd; echo $?; test -e /proc/self/root/etc/passwd; echo $?";
    assert_eq!(fixture.shell(&[PROC], script), "/bin/busybox\n/\n/\nsh\nguest\nguest\nguest\n/etc\n1\n1\n");
}

#[test]
fn statuses_and_failures_are_dockers() {
    let fixture = Fixture::new();
    for status in [0, 1, 77, 126, 255] {
        assert_eq!(fixture.run(&[], &["sh", "-c", &format!("exit {status}")]).status.code(), Some(status));
    }
    assert_eq!(fixture.run(&[], &["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    assert_eq!(fixture.run(&[], &["sh", "-c", "kill -PIPE $$; echo lives"]).status.code(), Some(141));
    for (program, status, text) in [
        ("none", 127, "cannot run `none`: it is not in the container\n"),
        ("/bin/none", 127, "cannot run `/bin/none`: it is not in the container\n"),
        ("/bin/lost", 127, "cannot run `/bin/lost`: its interpreter `/no/such` is not in the container\n"),
        ("/bin/noexec", 126, "cannot run `/bin/noexec`: it is not executable\n"),
        ("/etc", 126, "cannot run `/etc`: it is not executable\n"),
        ("/bin/loop", 125, "cannot run `/bin/loop`\n"),
    ] {
        let output = fixture.run(&[], &[program]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{program}: {error}");
        assert!(error.starts_with(text), "{error}");
    }
    let output = fixture.run(&["--cwd=/none"], &["true"]);
    assert_eq!(output.status.code(), Some(125));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("cannot change to the working directory `/none`\n"), "{error}");
}

#[test]
fn scripts_run_by_their_interpreters() {
    let fixture = Fixture::new();
    assert_eq!(fixture.shell(&[], "script a 'b c'"), "script /bin/script a b c\n");
    assert_eq!(fixture.shell(&[], "chain a"), "script /bin/script with one /bin/chain a\n");
    assert_eq!(fixture.shell(&[], "cd /bin; ./script x"), "script ./script x\n");
    assert_eq!(fixture.shell(&[PROC], "plain a"), "plain a\n");
    assert_eq!(fixture.shell(&[], "lost 2>/dev/null; echo $?"), "127\n".to_owned());
}

#[test]
fn pipelines_jobs_and_signals_work() {
    let fixture = Fixture::new();
    assert_eq!(fixture.shell(&[DEV], "yes | head -n 1000 | wc -l"), "1000\n");
    assert_eq!(fixture.shell(&[DEV], "(sleep 0.1; echo job)& wait; echo done"), "job\ndone\n");
    let script = "trap 'echo usr; exit 7' USR1; (sleep 0.1; kill -USR1 $$)& sleep 5 & wait; exit 0";
    let output = fixture.run(&[DEV], &["sh", "-c", script]);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(7), &b"usr\n"[..]), "{output:?}");
}

#[test]
fn binds_lie_over_the_image() {
    let fixture = Fixture::new();
    let (here, there) = (fixture.bind("host", "/data/deep"), fixture.bind("host", "/run"));
    assert_eq!(
        fixture.shell(&[&here], "cat /data/deep/file; cd /data/deep/sub; pwd; cd ../..; pwd"),
        "host\n/data/deep/sub\n/data\n"
    );
    assert_eq!(fixture.shell(&[&there], "cat /var/run/file; echo new > /var/run/made; cat /run/made"), "host\nnew\n");
    let absent = fixture.bind("host", "/absent/way/to");
    assert_eq!(fixture.shell(&[&absent], "cat /absent/way/to/file; ls /absent; ls /absent/way"), "host\nway\nto\n");
    let file = fixture.bind("host/file", "/etc/marker");
    assert_eq!(fixture.shell(&[&file, "--file=/etc/made:text"], "cat /etc/marker /etc/made"), "host\ntext");
    assert_eq!(fixture.shell(&[&file], "mv /etc/marker /etc/x 2>/dev/null || echo busy"), "busy\n");
}

#[test]
fn fake_root_owns_its_files_and_remembers_others() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nbob:x:55:66::/:/bin/sh\n").unwrap();
    fixture.give_to_user();
    let options = ["--id=0:0"];
    let script = "id -u; stat -c %u:%g /etc/marker; touch /data/f; chown 33:44 /data/f; stat -c %u:%g /data/f; \
        chown :55 /data/f; ls -ln /data/f | { read a b c d e; echo $c $d; }";
    assert_eq!(fixture.shell(&options, script), "0\n0:0\n33:44\n33 55\n");
    let script = "mknod /data/null c 1 3; echo $?; test -e /data/null; echo $?; mknod /data/pipe p; test -p /data/pipe; \
        echo $?; su bob -c 'id -u; id -g; chown 1 /data/f 2>/dev/null; echo $?'; id -u; stat -c %u /data/f";
    // Owners are remembered for the life of a run.
    assert_eq!(fixture.shell(&options, script), "0\n1\n0\n55\n66\n1\n0\n0\n");
    let script = "id -u; id -g; stat -c %u:%g /etc/marker";
    assert_eq!(fixture.shell(&["--id=77:88"], script), "77\n88\n77:88\n");
}

#[test]
fn fake_owners_follow_files_and_not_their_inode_numbers() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nbob:x:55:66::/:/bin/sh\n").unwrap();
    fixture.give_to_user();
    let script = "cd /data; mkdir d; for n in 1 2 3 4 5 6 7 8 9; do touch f$n d/f$n g$n; mkdir d$n; done; \
        chown 33:44 f* d/* g* d?; rm f*; rm -r d; rmdir d?; touch new; for n in 1 2 3 4 5 6 7 8 9; do mv new g$n; touch new; done; \
        for n in 1 2 3 4 5 6 7 8 9; do touch h$n; mkdir i$n; done; stat -c %u:%g * | grep -v 0:0; echo looked; \
        touch kept; chown 33 kept; ln kept too; rm kept; stat -c %u too; rmdir /data 2>/dev/null; mv too back; stat -c %u back";
    assert_eq!(fixture.shell(&["--id=0:0"], script), "looked\n33\n33\n");
    let script = "su bob -c 'cd /tmp; touch t; mkdir d; ln -s x l; mknod p p; : >>t; : >>/etc/marker; chown bob t; chown 1 t' 2>&1; \
        cd /tmp; stat -c '%n %u:%g' t d l p /etc/marker";
    let expected = "chown: t: Operation not permitted\nt 55:66\nd 55:66\nl 55:66\np 55:66\n/etc/marker 0:0\n";
    assert_eq!(fixture.shell(&["--id=0:0"], script), expected);
}

/// Gives up root, keeps the right to change its group as setpriv(1) does, and loses it by executing a program.
const KEEPER: &str = r#"
#include <stdio.h>
#include <unistd.h>
#include <sys/prctl.h>
int main(int count, char **argv) {
    if (count > 1) return printf("%d %d %d\n", getuid(), getgid(), setgid(5)) < 0;
    printf("%d ", prctl(PR_SET_KEEPCAPS, 1));
    printf("%d ", setresuid(7, 7, 7));
    printf("%d %d ", prctl(PR_GET_KEEPCAPS), setresgid(8, 8, 8));
    fflush(stdout);
    return execl(argv[0], argv[0], "again", NULL);
}
"#;

#[test]
fn fake_capabilities_are_kept_until_a_program_is_executed() {
    let fixture = Fixture::new();
    compile(KEEPER, &fixture.root().join("bin/keeper"));
    assert_eq!(fixture.shell(&["--id=0:0"], "/bin/keeper"), "0 0 1 0 7 8 -1\n");
}

#[test]
fn a_dynamic_program_keeps_its_arguments_and_its_name() {
    let fixture = Fixture::new();
    let mut options = vec![PROC];
    let binds = ["/lib", "/lib64", "/usr"].map(|path| format!("--bind={path}:{path}:ro"));
    options.extend(binds.iter().map(String::as_str));
    let script = "/usr/bin/env -i A=b /usr/bin/env; /usr/bin/readlink /proc/self/exe; \
        /usr/bin/cat /proc/self/comm; /usr/bin/cat /proc/self/cmdline | /usr/bin/tr '\\0' ' '";
    assert_eq!(fixture.shell(&options, script), "A=b\n/usr/bin/readlink\ncat\n/usr/bin/cat /proc/self/cmdline ");
}

/// Stops and continues children around their execve, at times that move over it.
const STOPS: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/wait.h>
static const char *round_of;
static void late(int s) { (void)s; write(1, round_of, 16); _exit(1); }
int main(void) {
    char text[17];
    signal(SIGALRM, late);
    for (int round = 0; round < 300; round++) {
        int status, pid = fork();
        if (pid == 0) { execl("/usr/bin/sleep", "sleep", "100", (char *)0); _exit(9); }
        snprintf(text, sizeof text, "lost in %7d\n", round);
        round_of = text;
        alarm(10);
        usleep(round * 10);
        kill(pid, SIGSTOP);
        if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status)) return 2;
        kill(pid, SIGCONT);
        if (waitpid(pid, &status, WCONTINUED) != pid || !WIFCONTINUED(status)) return 3;
        kill(pid, SIGSTOP);
        kill(pid, SIGCONT);
        kill(pid, SIGTERM);
        while (waitpid(pid, &status, 0) == pid && !WIFSIGNALED(status));
        if (WTERMSIG(status) != SIGTERM) return 4;
    }
    puts("none is lost");
}
"#;

#[test]
fn a_stop_that_comes_while_a_program_is_executed_is_not_lost() {
    let fixture = Fixture::new();
    compile(STOPS, &fixture.root().join("bin/stops"));
    let binds = ["/lib", "/lib64", "/usr"].map(|path| format!("--bind={path}:{path}:ro"));
    let options: Vec<&str> = binds.iter().map(String::as_str).collect();
    let output = fixture.run(&options, &["stops"]);
    assert_eq!((String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()), ("none is lost\n", Some(0)));
}

#[test]
fn listings_equal_those_without_a_tracer() {
    let fixture = Fixture::new();
    let list = |command: &mut Command| {
        let output = command.env_clear().output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        output.stdout
    };
    for (applet, arguments) in [("ls", &["-lnR", "/usr/include"][..]), ("find", &["/usr/include", "-size", "+20"])] {
        let argv: Vec<&str> = [&[applet][..], arguments].concat();
        let traced = list(&mut fixture.command(&["--bind=/usr:/usr:ro"], &argv));
        let plain = list(Command::new("/bin/busybox").args(&argv));
        assert!(plain.len() > 1000);
        assert_eq!(String::from_utf8_lossy(&traced), String::from_utf8_lossy(&plain), "{argv:?}");
    }
}

/// Tries every call that changes something, on files of the image, and prints what did not answer EROFS.
const WRITER: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utime.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <linux/fs.h>
static int count, wrong;
static void expect(const char *what, long result) {
    count++;
    if (result != -1 || errno != EROFS) {
        wrong++;
        printf("%s: %ld %s\n", what, result, strerror(errno));
    }
}
#define TRY(call) expect(#call, (call))
int main(void) {
    const char *f = "/data/file", *d = "/data/dir", *n = "/data/new", *l = "/data/link";
    struct timeval tv[2] = {{1, 0}, {1, 0}};
    struct timespec ts[2] = {{1, 0}, {1, 0}};
    struct utimbuf ut = {1, 1};
    int fd = open(f, O_RDONLY), dd = open("/data", O_RDONLY | O_DIRECTORY), flags = 0;
    TRY(open(f, O_WRONLY)); TRY(open(f, O_RDWR)); TRY(open(f, O_RDONLY | O_TRUNC)); TRY(open(n, O_CREAT | O_WRONLY, 0600));
    TRY(open(n, O_CREAT | O_RDONLY, 0600)); TRY(open(n, O_CREAT | O_EXCL | O_RDWR, 0600)); TRY(open("/data", O_TMPFILE | O_RDWR, 0600));
    TRY(syscall(SYS_creat, n, 0600)); TRY(syscall(SYS_creat, f, 0600)); TRY(openat(dd, "file", O_WRONLY)); TRY(openat(dd, "new", O_CREAT | O_WRONLY, 0600));
    TRY(open(l, O_WRONLY)); TRY(open("/data/dangling", O_CREAT | O_WRONLY, 0600));
    TRY(open("/data/../data/./file", O_WRONLY)); TRY(open("/proc/self/root/data/file", O_WRONLY)); TRY(open("/proc/self/fd/3", O_WRONLY));
    { unsigned long how[3] = {O_WRONLY, 0, 0}; TRY(syscall(437, dd, "file", how, sizeof how)); how[2] = 8; TRY(syscall(437, dd, "file", how, sizeof how)); }
    TRY(mkdir(n, 0700)); TRY(mkdirat(dd, "new", 0700)); TRY(syscall(SYS_mknod, n, S_IFIFO | 0600, 0)); TRY(mknodat(dd, "new", S_IFREG | 0600, 0));
    TRY(rmdir(d)); TRY(unlink(f)); TRY(unlinkat(dd, "file", 0)); TRY(unlinkat(dd, "dir", AT_REMOVEDIR)); TRY(unlink(n));
    TRY(rename(f, n)); TRY(renameat(dd, "file", dd, "new")); TRY(syscall(SYS_renameat2, dd, "file", dd, "dir", 2)); TRY(rename(d, n));
    TRY(link(f, n)); TRY(linkat(dd, "file", dd, "new", 0)); TRY(linkat(AT_FDCWD, l, dd, "new", AT_SYMLINK_FOLLOW));
    TRY(symlink("x", n)); TRY(symlinkat("x", dd, "new"));
    TRY(chmod(f, 0777)); TRY(fchmod(fd, 0777)); TRY(fchmodat(dd, "file", 0777, 0)); TRY(syscall(452, dd, "file", 0777, 0)); TRY(syscall(452, fd, "", 0777, AT_EMPTY_PATH)); TRY(chmod(l, 0777)); TRY(chmod("/", 0777));
    TRY(chown(f, -1, -1)); TRY(lchown(l, -1, -1)); TRY(fchown(fd, -1, -1)); TRY(fchownat(dd, "file", -1, -1, 0)); TRY(fchownat(fd, "", -1, -1, AT_EMPTY_PATH));
    TRY(syscall(SYS_utime, f, &ut)); TRY(syscall(SYS_utimes, f, tv)); TRY(syscall(SYS_futimesat, dd, "file", tv)); TRY(syscall(SYS_futimesat, fd, NULL, tv));
    TRY(utimensat(dd, "file", ts, 0)); TRY(syscall(SYS_utimensat, fd, NULL, ts, 0)); TRY(utimensat(AT_FDCWD, l, ts, AT_SYMLINK_NOFOLLOW));
    TRY(truncate(f, 0)); TRY(truncate(l, 0));
    TRY(setxattr(f, "user.a", "b", 1, 0)); TRY(lsetxattr(f, "user.a", "b", 1, 0)); TRY(fsetxattr(fd, "user.a", "b", 1, 0));
    TRY(removexattr(f, "user.a")); TRY(lremovexattr(f, "user.a")); TRY(fremovexattr(fd, "user.a"));
    TRY(syscall(463, dd, "file", 0, "user.a", NULL, 0)); TRY(syscall(466, dd, "file", 0, "user.a"));
    TRY(syscall(469, dd, "file", &flags, 24, 0));
    TRY(ioctl(fd, FS_IOC_SETFLAGS, &flags)); TRY(ioctl(dd, FS_IOC_FSSETXATTR, &flags));
    TRY(access(f, W_OK)); TRY(faccessat(dd, "dir", W_OK, 0)); TRY(faccessat(dd, "file", W_OK, AT_EACCESS));
    { struct sockaddr_un a = {AF_UNIX, "/data/socket"}; int s = socket(AF_UNIX, SOCK_STREAM, 0); TRY(bind(s, (void *)&a, sizeof a)); }
    chdir("/data");
    TRY(open("file", O_WRONLY)); TRY(unlink("file")); TRY(mkdir("new", 0700)); TRY(chmod("file", 0)); TRY(rename("file", "new"));
    printf("%d calls, %d wrong\n", count, wrong);
    return 0;
}
"#;

#[test]
fn nothing_changes_a_shared_image() {
    let fixture = Fixture::new();
    let root = fixture.root();
    fs::write(root.join("data/file"), "text\n").unwrap();
    fs::create_dir(root.join("data/dir")).unwrap();
    symlink("file", root.join("data/link")).unwrap();
    symlink("new", root.join("data/dangling")).unwrap();
    compile(WRITER, &root.join("bin/writer"));
    fixture.give_to_user();
    let before = fixture.fingerprint();
    fixture.on_each_kernel(|fixture, _| {
        let output = fixture.run(&["--ro", PROC], &["writer"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // An old kernel does not know the calls from 424 on.
        let wrong: Vec<&str> = text.lines().filter(|line| !line.ends_with("Function not implemented")).collect();
        assert_eq!(wrong.len(), 1, "{text} {output:?}");
        assert!(wrong[0].starts_with("77 calls, "), "{text}");
        assert_eq!(before, fixture.fingerprint());
    });
}

#[test]
fn binds_are_written_as_their_flags_say() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.root().join("data/dir")).unwrap();
    let bind = fixture.bind("host", "/data/dir");
    assert_eq!(
        fixture.shell(&["--ro", &bind], "echo x > /data/dir/written; cat /data/dir/written; mkdir -p /data/dir"),
        "x\n"
    );
    let bind = format!("{bind}:ro");
    let output = fixture.run(&[&bind], &["sh", "-c", "echo x > /data/dir/written"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "sh: can't create /data/dir/written: Read-only file system\n");
}

fn compile(text: &str, to: &Path) {
    let source = to.with_extension("c");
    fs::write(&source, text).unwrap();
    let status = Command::new("gcc").args(["-O1", "-static", "-pthread", "-w", "-o"]).arg(to).arg(&source).status();
    assert!(status.expect("gcc is installed").success());
    fs::remove_file(source).unwrap();
}

/// Runs a program to which one call, with this first argument, is refused.
const REFUSING: &str = include_str!("conformance/refuse.c");

#[test]
fn a_hard_link_that_is_refused_becomes_a_symbolic_one() {
    let protected = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap();
    assert_eq!(protected.trim(), "1", "the kernel refuses links to files of others");
    let fixture = Fixture::new();
    // A file of another user, in a directory of this one: the host's busybox, for who is not root.
    let bind = match rustix::process::getuid().is_root() {
        true => {
            fs::write(fixture.directory.path().join("host/theirs"), "theirs\n").unwrap();
            fixture.bind("host", "/data/deep")
        }
        false => "--bind=/bin:/data/deep".to_owned(),
    };
    let script = "cd /data/deep; ln theirs mine; ln /data/deep /data/dir 2>/dev/null; echo $?; \
        readlink mine; cat mine; ln theirs mine 2>/dev/null; echo $?";
    if rustix::process::getuid().is_root() {
        let expected = "1\n/data/deep/theirs\ntheirs\n1\n";
        fixture.on_each_kernel(|fixture, kernel| {
            assert_eq!(fixture.shell(&[&bind], script), expected, "{kernel}");
            fs::remove_file(fixture.directory.path().join("host/mine")).unwrap();
        });
    } else {
        // Two mounts: nothing is linked, and nothing is pretended.
        assert_eq!(fixture.run(&[&bind], &["ln", "/data/deep/busybox", "/data/x"]).status.code(), Some(1));
    }
}

#[test]
fn a_refusal_of_ptrace_is_told() {
    let mut fixture = Fixture::new();
    let refusing = fixture.directory.path().join("refusing");
    compile(&REFUSING.replace("CALL", "101").replace("FIRST", "0x4206"), &refusing);
    fixture.below = Some(refusing);
    let output = fixture.run(&[], &["true"]);
    assert_eq!(output.status.code(), Some(125));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let by_filter = "cannot trace the program: a seccomp filter forbids it, as those of other container runtimes do\n  \
        caused by: Operation not permitted";
    assert!(error.starts_with(by_filter), "{error}");
    fixture.below = None;
    let engine = fixture.command(&[], &["true"]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-o", "/dev/null"]).arg(engine.get_program()).args(engine.get_args());
    if rustix::process::getuid().is_root() {
        traced.uid(USER).gid(USER);
    }
    let output = traced.output().expect("strace of the package of that name");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains(" (strace) traces it already, and a program has one tracer\n"), "{error}");
}

/// Threads that look and exec, children by vfork, sockets, a caller that counts on its registers.
const PROCESSES: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
extern char **environ;
static int failures;
static volatile int ticks;
static void tick(int s) { (void)s; struct stat st; stat("/etc/marker", &st); ticks++; }
static void *work(void *arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) {
        struct stat st;
        char buffer[8];
        int fd = open("/etc/marker", O_RDONLY);
        if (fd < 0 || read(fd, buffer, 6) != 6 || memcmp(buffer, "guest\n", 6)) __sync_fetch_and_add(&failures, 1);
        close(fd);
        if (stat("/none", &st) != -1 || errno != ENOENT) __sync_fetch_and_add(&failures, 1);
    }
    char *argv[] = {"true", NULL};
    pid_t pid;
    int status;
    if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) || waitpid(pid, &status, 0) != pid || status) __sync_fetch_and_add(&failures, 1);
    return NULL;
}
static void *replace(void *arg) { (void)arg; execl("/bin/echo", "echo", "replaced", NULL); return NULL; }
int main(void) {
    pthread_t threads[16];
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    ualarm(1000, 1000);
    for (int i = 0; i < 16; i++) pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < 16; i++) pthread_join(threads[i], NULL);
    ualarm(0, 0);
    for (int i = 0; i < 50; i++) if (!vfork()) { execl("/bin/true", "true", NULL); _exit(1); }
    int status, children = 0;
    while (wait(&status) > 0) { children++; if (status) failures++; }
    struct sockaddr_un name = {AF_UNIX, "/tmp/socket"};
    int one = socket(AF_UNIX, SOCK_DGRAM, 0), other = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (bind(one, (void *)&name, sizeof name)) failures++;
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &part, .msg_iovlen = 1};
    if (sendto(other, "x", 1, 0, (void *)&name, sizeof name) != 1 || sendmsg(other, &message, 0) != 1) failures++;
    if (connect(other, (void *)&name, sizeof name)) failures++;
    if (strcmp(name.sun_path, "/tmp/socket")) failures++;
    const char *path = "/etc/marker";
    register const char *kept asm("rsi") = path;
    long result;
    asm volatile("syscall" : "=a"(result), "+r"(kept) : "0"(SYS_openat), "D"(AT_FDCWD), "d"(0) : "rcx", "r11", "memory");
    if (result < 0 || kept != path) failures++;
    if (syscall(425, 1, NULL) != -1 || errno != ENOSYS) failures++;
    if (syscall(1000) != -1 || errno != ENOSYS) failures++;
    if (ticks == 0) failures++;
    printf("%d children, %d failures\n", children, failures);
    fflush(stdout);
    pthread_create(&threads[0], NULL, replace, NULL);
    pause();
}
"#;

#[test]
fn threads_children_signals_and_sockets_work() {
    let fixture = Fixture::new();
    compile(PROCESSES, &fixture.root().join("bin/processes"));
    fixture.on_each_kernel(|fixture, kernel| {
        let output = fixture.run(&[], &["sh", "-c", "rm -f /tmp/socket; exec processes"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, "50 children, 0 failures\nreplaced\n", "{kernel}: {output:?}");
        assert_eq!(output.status.code(), Some(0));
    });
}

/// A thread opens a file 100 times while eight newer ones do nothing else; then it executes a program.
const CROWD: &str = r#"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static volatile long counts[8];
static volatile int begun;
static void *look(void *count) {
    for (;; ++*(volatile long *)count) close(open("/etc/marker", O_RDONLY));
    return NULL;
}
static void *old(void *arg) {
    long most = 0, before[8];
    while (!begun) usleep(1000);
    for (int i = 0; i < 8; i++) before[i] = counts[i];
    for (int i = 0; i < 100; i++) close(open("/etc/marker", O_RDONLY));
    for (int i = 0; i < 8; i++) if (counts[i] - before[i] > most) most = counts[i] - before[i];
    if (most > 100 * 20) printf("100 against %ld\n", most);
    fflush(stdout);
    execl("/bin/echo", "echo", "done", NULL);
    return arg;
}
int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, old, NULL);
    for (int i = 0; i < 8; i++) pthread_create(&thread, NULL, look, (void *)&counts[i]);
    begun = 1;
    for (;;) pause();
}
"#;

#[test]
fn an_old_thread_has_its_turn_among_busy_new_ones() {
    let fixture = Fixture::new();
    compile(CROWD, &fixture.root().join("bin/crowd"));
    fixture.on_each_kernel(|fixture, kernel| {
        for _ in 0..3 {
            assert_eq!(fixture.shell(&[], "crowd"), "done\n", "{kernel}");
        }
    });
}

/// Processes that have `mark` in their environment.
fn marked(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let found = environment.windows(mark.len()).any(|window| window == mark.as_bytes());
        found.then(|| entry.file_name().to_string_lossy().into_owned())
    });
    processes.collect()
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_left_behind() {
    let fixture = Fixture::new();
    let mark = format!("MARK=left-{}", std::process::id());
    let option = format!("--env={mark}");
    // Background jobs end with the program.
    let output = fixture.run(&[&option, DEV], &["sh", "-c", "sleep 1000 & sleep 1000 & exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(marked(&mark), Vec::<String>::new());
    // The tracer is killed.
    let mut tracer = fixture
        .command(&[&option, DEV], &["sh", "-c", "sleep 1000 & sleep 1000 & wait"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("three processes", || marked(&mark).len() == 3);
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    wait_for("none is left", || marked(&mark).is_empty());
    // A signal to the tracer is the program's.
    let script = "trap 'echo term; exit 9' TERM; echo ready; while true; do sleep 0.05; done";
    let mut tracer = fixture.command(&[&option, DEV], &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(tracer.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&tracer), rustix::process::Signal::TERM).unwrap();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!((line.as_str(), tracer.wait().unwrap().code()), ("ready\nterm\n", Some(9)));
}

#[test]
fn a_stopped_program_stops_its_tracer_and_goes_on() {
    let fixture = Fixture::new();
    let mut tracer = fixture.command(&[], &["sh", "-c", "kill -STOP $$; exit 4"]).spawn().unwrap();
    let pid = tracer.id();
    let state =
        || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().rsplit(')').next().unwrap()[1..2].to_owned();
    wait_for("the tracer is stopped", || state() == "T");
    rustix::process::kill_process(rustix::process::Pid::from_child(&tracer), rustix::process::Signal::CONT).unwrap();
    assert_eq!(tracer.wait().unwrap().code(), Some(4));
}

/// Where the kernel lets a process run, as /proc tells who looks from outside.
fn allowed(pid: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap_or_default().trim().to_owned()
}

/// The tracer keeps a busy thread on its own CPU; the program, its children, and what comes after see nothing of it.
#[test]
fn a_busy_thread_is_kept_by_its_tracer_and_does_not_see_it() {
    let own = allowed("self");
    assert!(own.contains(['-', ',']), "this test needs two CPUs, and has {own}");
    Fixture::new().on_each_kernel(|fixture, kernel| {
        let busy = "n=0; while [ $n -lt 300 ]; do [ -e /etc/marker ]; n=$((n + 1)); done";
        let look = "busybox taskset -p $$; grep Cpus_allowed_list /proc/self/status; cat /proc/$$/status | grep Cpus_allowed_list";
        let script = format!("{{ {look}; }} >/tmp/before; {busy}; {{ {look}; }} >/tmp/after; busybox cmp /tmp/before /tmp/after && cat /tmp/after");
        let tmp = fixture.bind("host/sub", "/tmp");
        let output = fixture.run(&[PROC, &tmp, "--ro"], &["sh", "-c", &script]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.matches(&format!("Cpus_allowed_list:\t{own}\n")).count(), 2, "{kernel}: {output:?}");

        // Born by a thread that is kept, a child is free.
        let script = format!("echo $$; {busy}; sleep 5 & echo $!; {busy}; {busy}; kill $!");
        let mut command = fixture.command(&[PROC, DEV, "--ro"], &["sh", "-c", &script]);
        let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(running.stdout.take().unwrap()));
        let pid = lines.next().unwrap().unwrap();
        let mut kept = 0;
        let child = std::thread::scope(|scope| {
            let child = scope.spawn(|| lines.next().unwrap().unwrap());
            while !child.is_finished() {
                kept += u32::from(![own.as_str(), ""].contains(&allowed(&pid).as_str()));
            }
            child.join().unwrap()
        });
        assert_eq!(allowed(&child), own, "{kernel}");
        assert!(kept > 0, "{kernel}: the busy shell was never seen on one CPU");
        assert!(running.wait().unwrap().success(), "{kernel}");
    });
}

#[test]
fn many_run_at_once() {
    let fixture = Fixture::new();
    let children: Vec<_> = (0..64)
        .map(|number| {
            let script = format!("cat /etc/marker; ls /bin | wc -l; exit {number}");
            fixture.command(&["--ro"], &["sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(number as i32));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("guest\n{}\n", APPLETS.len() + 7));
    }
}
