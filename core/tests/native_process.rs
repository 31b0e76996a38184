//! What the program is: its process, descriptors, privileges and statuses; and the probes.

mod native_support;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use native_support::for_each_case;

const PROC: &str = "--bind=/proc:/proc";
/// busybox complains of the image's /etc/passwd.
const EMPTY: &str = "--file=/etc/passwd:";

#[test]
fn statuses_and_signals_are_the_programs_own() {
    for_each_case(|fixture| {
        for status in [0, 1, 77, 125, 126, 127, 255] {
            let output = fixture.run("read-only", &[], &["sh", "-c", &format!("exit {status}")]);
            assert_eq!(output.status.code(), Some(status));
        }
        let output = fixture.run("read-only", &[], &["sh", "-c", "kill -9 $$"]);
        assert_eq!(output.status.signal(), Some(libc::SIGKILL));
        // SIGPIPE ends the program although our runtime ignored it.
        let output = fixture.run("read-only", &[], &["sh", "-c", "kill -PIPE $$; echo lives"]);
        assert_eq!(output.status.signal(), Some(libc::SIGPIPE));
    });
}

#[test]
fn failures_have_dockers_statuses() {
    for_each_case(|fixture| {
        for (program, status, text) in [
            ("none", 127, "cannot run `none`: it is not in the container\n"),
            ("/bin/none", 127, "cannot run `/bin/none`: it is not in the container\n"),
            ("/bin/lost", 127, "cannot run `/bin/lost`: its interpreter `/no/such` is not in the container\n"),
            ("/bin/noexec", 126, "cannot run `/bin/noexec`: it is not executable\n"),
            ("noexec", 126, "cannot run `noexec`: it is not executable\n"),
            ("/etc", 126, "cannot run `/etc`: it is not executable\n"),
        ] {
            let (found, error) = fixture.fail("read-only", &[], &[program]);
            assert_eq!(found, status, "{program}: {error}");
            assert!(error.starts_with(text), "{error}");
        }
        let output = fixture.run("read-only", &[], &["plain", "argument"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "plain argument\n", "no #! line");
        let (status, error) = fixture.fail("read-only", &["--unshare-pid"], &["true"]);
        assert_eq!(status, 125);
        assert!(error.starts_with("cannot make a pid namespace: mode N1 shares the host's\n"), "{error}");
    });
}

#[test]
fn the_process_stays_the_same() {
    for_each_case(|fixture| {
        let mut command = fixture.plan("read-only", &[PROC], &["sh", "-c", "echo $$ $PPID; ls /proc/$$/task"]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(text, format!("{pid} {}\n{pid}\n", std::process::id()));
    });
}

#[test]
fn descriptors_are_kept_or_closed() {
    for_each_case(|fixture| {
        let directory = fixture.root();
        // Reading the directory would show the descriptor that it is read by.
        let numbers: String = (0..64).map(|fd| format!(" {fd}")).collect();
        let script = format!("for fd in{numbers}; do test -e /proc/$$/fd/$fd && echo $fd; done");
        for (options, expected) in [
            (&[PROC][..], &["0", "1", "2", "17", "29"][..]),
            (&[PROC, "--keep-fds=29,40"], &["0", "1", "2", "29"]),
            (&[PROC, "--keep-fds="], &["0", "1", "2"]),
        ] {
            let inner = fixture.plan("read-only", options, &["sh", "-c", &script]);
            // dash takes one digit only; busybox takes any.
            let mut outer = std::process::Command::new("/bin/busybox");
            outer.args(["sh", "-c", "exec \"$@\" 17<\"$0\" 29<\"$0\""]).arg(directory.join("etc/passwd"));
            outer.arg(inner.get_program()).args(inner.get_args());
            native_support::as_user(&mut outer, fixture.case.uid);
            let output = outer.output().unwrap();
            let found = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut found: Vec<&str> = found.lines().collect();
            if options.len() == 1 {
                // The test's own caller may have left more open.
                found.retain(|fd| expected.contains(fd));
            }
            assert_eq!(found, expected, "{options:?} {}", String::from_utf8_lossy(&output.stderr));
        }
    });
}

#[test]
fn no_privilege_is_left() {
    for_each_case(|fixture| {
        let script = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status; cat /proc/self/uid_map | { read a b c; echo $a $b $c; }; id -u; id -g";
        for (options, id) in [(vec![PROC, EMPTY], 0), (vec![PROC, EMPTY, "--id=4321:4321"], 4321)] {
            let none = "0000000000000000";
            let expected = format!(
                "CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\n\
                {id} {} 1\n{id}\n{id}\n",
                fixture.case.uid
            );
            assert_eq!(fixture.shell("read-only", &options, script), expected);
        }
    });
}

#[test]
fn the_fake_root_filter_lets_package_managers_by() {
    for_each_case(|fixture| {
        let script = "touch /data/f; chown 33:33 /data/f; echo $?; mknod /data/c c 1 3; echo $?; test -e /data/c; echo $?; \
            mknod /data/p p; test -p /data/p; echo $?; id -u";
        assert_eq!(fixture.shell("tmpfs=1000000", &["--filter", EMPTY], script), "0\n0\n1\n0\n0\n");
        let (status, error) = fixture.fail("tmpfs=1000000", &[EMPTY], &["chown", "33:33", "/data"]);
        assert_eq!((status, error.as_str()), (1, "chown: /data: Invalid argument\n"));
    });
}

#[test]
fn the_working_directory_and_its_fallback() {
    for_each_case(|fixture| {
        assert_eq!(fixture.shell("read-only", &["--cwd=/home/user"], "pwd"), "/home/user\n");
        assert_eq!(fixture.shell("read-only", &["--cwd=/none", "--cwd-fallback=/data"], "pwd"), "/data\n");
        let (status, error) = fixture.fail("read-only", &["--cwd=/none"], &["pwd"]);
        assert_eq!(status, 125);
        assert_eq!(
            error,
            "cannot change to the working directory `/none`\n  caused by: No such file or directory (os error 2)\n  \
            hint: `--workdir` names another directory inside the container\n"
        );
    });
}

#[test]
fn the_umask_is_the_callers() {
    for_each_case(|fixture| {
        let plan = fixture.plan("tmpfs=1000000", &["--tmpfs=/new"], &["sh", "-c", "umask; stat -c %a /new/"]);
        let mut outer = std::process::Command::new("/bin/sh");
        outer.args(["-c", "umask 0027; exec \"$0\" \"$@\""]).arg(plan.get_program()).args(plan.get_args());
        native_support::as_user(&mut outer, fixture.case.uid);
        assert_eq!(String::from_utf8_lossy(&outer.output().unwrap().stdout), "0027\n1777\n");
    });
}

#[test]
fn probes_do_what_they_say_and_leave_nothing() {
    for_each_case(|fixture| {
        let root = fixture.root();
        let root = root.to_str().unwrap();
        let (upper, work) = (fixture.make("upper"), fixture.make("work"));
        for probe in [vec!["user"], vec!["overlay", root], vec!["layer", root, &upper, &work]] {
            let output = fixture.command().arg("probe").args(&probe).output().unwrap();
            assert_eq!(
                (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
                (Some(0), ""),
                "{probe:?}"
            );
        }
        for directory in [&upper, &work] {
            assert_eq!(std::fs::read_dir(Path::new(directory)).unwrap().count(), 0, "{directory}");
        }
        let output = fixture.command().args(["probe", "overlay", "/none"]).output().unwrap();
        let expected = "cannot open the root file system here: No such file or directory (os error 2)\n";
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), expected));
    });
}

/// Needs root, for an /etc/subuid of its own; as a user it is covered by the run as root in CI.
#[test]
fn subordinate_ids_come_from_newuidmap() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    assert!(Path::new("/usr/bin/newuidmap").exists(), "this test needs newuidmap: install the package uidmap");
    let fixture = native_support::Fixture::new(native_support::Case { uid: 1234, old_kernel: false });
    std::fs::write(fixture.host("subid"), "probe:100000:65536\n").unwrap();
    std::fs::write(fixture.host("passwd"), "root:x:0:0::/:/bin/sh\nprobe:x:1234:1234::/:/bin/sh\n").unwrap();
    let map = "--subordinate=100000:65535:100000:65535";
    let script = "read a b c </proc/self/uid_map; echo $a $b $c; id -u; touch /data/f; chown 33:33 /data/f; stat -c %u:%g /data/f; \
        grep -E '^Cap(Eff|Bnd)' /proc/self/status";
    let enter = |options: &[&str], ranges: bool| {
        let plan = fixture.plan("tmpfs=1000000", &[&[PROC, EMPTY, map], options].concat(), &["sh", "-c", script]);
        let setup = "for file in subuid subgid; do mount --bind \"$0/$1\" /etc/$file || exit 1; done; \
            mount --bind \"$0/passwd\" /etc/passwd; shift; exec setpriv --reuid=1234 --regid=1234 --clear-groups \"$@\"";
        let mut outer = std::process::Command::new("unshare");
        outer.args(["-m", "sh", "-c", setup]).arg(fixture.host("")).arg(if ranges { "subid" } else { "file" });
        let output = outer.arg(plan.get_program()).args(plan.get_args()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let docker = "0 1234 1\n0\n33:33\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n";
    assert_eq!(enter(&["--docker-capabilities"], true), (docker.into(), String::new(), Some(0)));
    let none = "0 1234 1\n33\n0:0\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n";
    let (text, _, _) = enter(&["--id=33:33"], true);
    assert_eq!(text, none.replace("0:0\n", ""), "{text}");
    let (text, error, status) = enter(&[], false);
    assert_eq!((text.as_str(), status), ("", Some(125)));
    assert!(error.contains("cannot map subordinate IDs: newuidmap failed or is not installed\n"), "{error}");
}
