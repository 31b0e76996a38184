//! Callers that are not as one thinks: users without an account, odd masks, directories, streams, environments and names.
//! A rank in a container works as the bare program, or is told exactly why not.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use udocker_tests::engines::Mode;
use udocker_tests::rank::{How, Ranks, file};
use udocker_tests::tree::fingerprint;
use udocker_tests::{ORDINARY_USER, TestEnv, code, is_root, run, stderr, stdout};

const WAYS: [How; 3] = [How::Bare, How::Launched(Mode::N1), How::Launched(Mode::P2)];

/// What came of it: both streams and the status.
type Outcome = (String, String, i32);

/// `argv` in one of the ways, after `prelude` of bash, which is the caller; `$shared` is a directory for both sides.
fn odd(ranks: &Ranks, how: How, prelude: &str, argv: &[&str]) -> Outcome {
    let command = ranks.command(how, argv);
    let script = format!("{prelude}\nexec \"$@\"");
    let mut command = ranks.behind(&["bash", "-c", &script, "bash"], &command);
    let output = command.env("shared", ranks.env.path("shared")).output().expect("bash");
    (stdout(&output), stderr(&output), code(&output))
}

/// The same for a script of the shell.
fn odd_script(ranks: &Ranks, how: How, prelude: &str, script: &str) -> Outcome {
    odd(ranks, how, prelude, &["/bin/busybox", "sh", "-c", script])
}

/// Ranks that may write to `shared`.
fn ranks_of(env: TestEnv) -> Ranks {
    let ranks = Ranks::of(env);
    fs::set_permissions(ranks.env.path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    ranks
}

fn said(out: &str) -> Outcome {
    (out.into(), String::new(), 0)
}

#[test]
fn users_without_an_account() {
    assert!(is_root(), "only root can be others");
    for uid in [ORDINARY_USER, 1 << 31, u32::MAX - 1] {
        let ranks = ranks_of(TestEnv::of_user(Some(uid)));
        for how in How::LAUNCHED {
            let found = odd_script(&ranks, how, "", "id; echo ~; echo made >$shared/made; cat $shared/made");
            let home = ranks.env.path("home");
            let expected = format!("uid={uid}(u{uid}) gid={uid}(u{uid})\n{}\nmade\n", home.display());
            assert_eq!(found, said(&expected), "{how:?}");
            let made = fs::metadata(ranks.env.path("shared/made")).unwrap();
            assert_eq!((made.uid(), made.gid()), (uid, uid));
            fs::remove_file(ranks.env.path("shared/made")).unwrap();
            let found = odd_script(&ranks, how, "export UDOCKER_USER=root", "id; echo ~");
            assert_eq!(found, said(&format!("uid=0(root) gid=0(root)\n{}\n", home.display())), "{how:?}");
            let found = odd_script(&ranks, how, "export USER='a:b'", "id -u -n");
            assert_eq!(found, said("a_b\n"), "{how:?}");
        }
    }
}

#[test]
fn the_umask_is_the_caller_s() {
    let ranks = ranks_of(TestEnv::ordinary());
    for mask in ["000", "022", "027", "077"] {
        let made = |how: How| {
            let script = "umask; touch $shared/file; mkdir $shared/directory; exec 2>&1; cat /etc/passwd >/dev/null";
            let found = odd_script(&ranks, how, &format!("umask {mask}"), script);
            let modes = ["file", "directory"].map(|name| {
                let path = ranks.env.path("shared").join(name);
                let metadata = fs::metadata(&path).unwrap_or_else(|error| panic!("{how:?} {mask}: {error}, {found:?}"));
                let mode = metadata.permissions().mode();
                if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
                mode
            });
            (found, modes)
        };
        let bare = made(How::Bare);
        for how in How::LAUNCHED {
            assert_eq!(made(how), bare, "{how:?} {mask}");
            // What we make has the modes that it must have.
            let prelude = format!("umask {mask}; export UDOCKER_MOUNT=$shared:/new/deep/mount");
            let found = odd_script(&ranks, how, &prelude, "ls -ld /run /etc/passwd /new /new/deep | cut -c1-10");
            assert_eq!(found, said("-rw-r--r--\ndrwxr-xr-x\ndrwxr-xr-x\ndrwxrwxrwt\n"), "{how:?} {mask}");
        }
    }
}

#[test]
fn homes_that_are_not_there() {
    let ranks = ranks_of(TestEnv::ordinary());
    let script = "echo $HOME; cd 2>/dev/null || echo none; pwd";
    for how in How::LAUNCHED {
        for (prelude, expected) in [
            ("unset HOME", "/\n/\n"),
            ("export HOME=", "/\n/\n"),
            ("export HOME=relative", "/\n/\n"),
            ("export HOME=/", "/\n/\n"),
            ("export HOME=/nonexistent", "/nonexistent\nnone\n/\n"),
            ("export HOME=/nonexistent/../x", "/nonexistent/../x\nnone\n/\n"),
        ] {
            assert_eq!(odd_script(&ranks, how, prelude, script), said(expected), "{how:?} {prelude}");
        }
        // Without a store there is no image.
        let found = odd_script(&ranks, how, "unset HOME UDOCKER_DIR; export UDOCKER_PULL=never", script);
        let told = "udocker: image bb:1 is in no store, and `--pull=never` forbids asking the registry\n  \
                    hint: `udocker pull bb:1` on a login node gets it\n";
        assert_eq!(found, (String::new(), told.into(), 122), "{how:?}");
    }
}

#[test]
fn directories_to_begin_in() {
    let ranks = ranks_of(TestEnv::ordinary());
    for how in How::LAUNCHED {
        for (prelude, expected) in [
            ("cd $shared", format!("{}\n", ranks.env.path("shared").display())),
            // As the shell came there: PWD says so.
            ("mkdir -p $shared/a/b; ln -sfn a/b $shared/link; cd $shared/link", {
                format!("{}\n", ranks.env.path("shared/link").display())
            }),
            // The image's own, though the host has one of that name.
            ("cd /etc", "/\n".into()),
            ("cd /usr/share", "/\n".into()),
            ("mkdir $shared/gone; cd $shared/gone; rmdir $shared/gone", "/\n".into()),
            // Where it is, it may stay; a tracer cannot bring it there.
            (
                "rmdir $shared/shut 2>/dev/null; mkdir $shared/shut; cd $shared/shut; chmod 0 .",
                match how {
                    How::Launched(Mode::N1) => format!("{}\n", ranks.env.path("shared/shut").display()),
                    _ => "/\n".into(),
                },
            ),
        ] {
            let found = odd_script(&ranks, how, prelude, "pwd");
            assert_eq!(found, said(&expected), "{how:?} {prelude}");
        }
        for prelude in ["cd /usr/share", "cd $shared; export UDOCKER_WORKDIR=/"] {
            let found = odd(&ranks, how, prelude, &["/bin/busybox", "env"]);
            assert!(!found.0.contains("\nPWD="), "{how:?} {prelude}: {}", found.0);
        }
        let found = odd_script(&ranks, how, "export UDOCKER_WORKDIR=/usr/share", "pwd");
        let told = "udocker: cannot change to the working directory `/usr/share`\n  \
                    caused by: No such file or directory (os error 2)\n  \
                    hint: `--workdir` names another directory inside the container\n";
        assert_eq!(found, (String::new(), told.into(), 125), "{how:?}");
    }
}

#[test]
fn closed_streams_stay_closed() {
    let ranks = ranks_of(TestEnv::ordinary());
    let list = ranks.env.path("shared/list");
    let program = ranks.program();
    let script = format!("{} descriptors >>$shared/list", program.display());
    let before = fingerprint(&ranks.env.store());
    for closed in ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"] {
        let listed = |how: How| {
            fs::write(&list, "").unwrap();
            fs::set_permissions(&list, fs::Permissions::from_mode(0o666)).unwrap();
            let close = "for fd in /proc/self/fd/*; do (( ${fd##*/} > 2 )) && eval \"exec ${fd##*/}<&-\"; done";
            let found = odd_script(&ranks, how, &format!("{close}; exec {closed}"), &script);
            (found, fs::read_to_string(&list).unwrap())
        };
        let bare = listed(How::Bare);
        assert!(bare.1.contains("listed"), "{bare:?}");
        for how in How::LAUNCHED {
            assert_eq!(listed(how), bare, "{how:?} {closed}");
        }
        // Messages go nowhere else.
        let found = odd_script(
            &ranks,
            How::Launched(Mode::N1),
            &format!("exec {closed}; UDOCKER_PULL=never; set -- \"$1\" --pull=never nothere true"),
            "",
        );
        assert_eq!((found.0.as_str(), found.2), ("", 122), "{closed}");
        assert_eq!(found.1.is_empty(), closed.contains("2>"), "{closed}: {}", found.1);
    }
    assert_eq!(fingerprint(&ranks.env.store()), before);
}

/// A library that tells where it is loaded.
const PRELOADED: &str = r#"
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) { if (write(2, "loaded\n", 7)) {} }
"#;

#[test]
fn a_module_system_s_environment_does_not_act_inside() {
    let ranks = ranks_of(TestEnv::ordinary());
    let (source, library) = (ranks.env.path("loaded.c"), ranks.env.path("shared/loaded.so"));
    fs::write(&source, PRELOADED).unwrap();
    run(Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
    let script = ranks.env.path("shared/script");
    file(&script, "echo sourced >&2\n");
    let dropped = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("LD_LIBRARY_PATH", "/opt/lib"),
        ("LD_AUDIT", library.to_str().unwrap()),
        ("BASH_ENV", script.to_str().unwrap()),
        ("ENV", script.to_str().unwrap()),
        ("BASH_FUNC_module%%", "() { echo called >&2; }"),
        ("PYTHONHOME", "/opt/python"),
        ("PYTHONPATH", "/opt/python/lib"),
        ("PERL5LIB", "/opt/perl"),
        ("LMOD_CMD", "/opt/lmod"),
        ("LMOD_VERSION", "8"),
        ("MODULEPATH", "/opt/modules"),
        ("MODULESHOME", "/opt/lmod"),
        ("LOADEDMODULES", "gcc/12"),
        ("XDG_DATA_DIRS", "/opt/share"),
    ];
    let kept = [("OMP_NUM_THREADS", "4"), ("SLURM_PROCID", "3"), ("A B", "c"), ("X", "=y\n z"), ("EMPTY", "")];
    for mode in ["--mode=N1", "--mode=P2"] {
        // The launcher itself is linked statically: nothing of this is loaded anywhere.
        let mut command = ranks.env.launch(&[mode, "bb:1", "cat", "/proc/self/environ"]);
        command.envs(dropped).envs(kept).env("VALUE", OsStr::from_bytes(b"\xff\xfe"));
        let output = run(&mut command);
        assert_eq!(stderr(&output), "", "{mode}");
        let mut found: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).collect();
        found.sort_unstable();
        let home = format!("HOME={}", ranks.env.path("home").display());
        let store = format!("UDOCKER_DIR={}", ranks.env.store().display());
        let user = ranks.env.uid().unwrap_or_else(|| rustix::process::getuid().as_raw());
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{user}");
        let id = format!("UDOCKER_INSIDE={}", tree_id(&ranks.env));
        let mut expected: Vec<Vec<u8>> = kept.iter().map(|(name, value)| format!("{name}={value}").into()).collect();
        let path = "PATH=/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
        expected.extend([
            home.into(),
            store.into(),
            id.into(),
            runtime.into(),
            path.into(),
            b"VALUE=\xff\xfe".to_vec(),
        ]);
        expected.sort_unstable();
        assert_eq!(found, expected, "{mode}");
        // What is asked for by name comes.
        let mut command = ranks.env.launch(&[mode, "--env=PYTHONPATH", "--env=LMOD_*", "bb:1", "env"]);
        let text = stdout(&run(command.envs(dropped)));
        let has = |line: &str| text.lines().any(|other| other == line);
        assert!(has("PYTHONPATH=/opt/python/lib") && has("LMOD_CMD=/opt/lmod") && has("LMOD_VERSION=8"), "{text}");
        assert!(!text.contains("PERL5LIB") && !text.contains("LD_"), "{text}");
    }
}

#[test]
fn names_and_words_are_taken_as_they_are() {
    let ranks = ranks_of(TestEnv::ordinary());
    let program = ranks.program();
    let program = program.to_str().unwrap();
    let words = ["", " ", "a b", "--", "--mode=X", "$HOME", "*", "new\nline", "\\", "'\"", "ä€"];
    let argv = [&["/bin/busybox", "printf", "%s|"][..], &words].concat();
    let bare = odd(&ranks, How::Bare, "", &argv);
    assert_eq!(bare.0.matches('|').count(), words.len());
    for how in How::LAUNCHED {
        assert_eq!(odd(&ranks, how, "", &argv), bare, "{how:?}");
        let long = "x".repeat(5000);
        for name in ["", "udocker-launch-", "a b", "help", "/", &long] {
            // `exec -a` of bash.
            let prelude = format!("set -- -a '{name}' \"$@\"; eval 'exec \"$@\"'");
            assert_eq!(odd(&ranks, how, &prelude, &[program, "name"]), said(&format!("{program}\n")), "{how:?} {name}");
        }
    }
    // 300 words of 4 kB, and a program found by PATH under its plain name.
    let word = "w".repeat(4000);
    let many: Vec<&str> = ["printf", "%s\\n"].into_iter().chain(std::iter::repeat_n(word.as_str(), 300)).collect();
    for mode in ["--mode=N1", "--mode=P2"] {
        let output = run(&mut ranks.env.launch(&[&[mode, "bb:1", "busybox"], &many[..]].concat()));
        assert_eq!(output.stdout.len(), 300 * 4001, "{mode}");
    }
}

#[test]
fn limits_are_inherited() {
    let ranks = ranks_of(TestEnv::ordinary());
    let prelude = "ulimit -S -n 123; ulimit -S -s 4321; ulimit -c 0; ulimit -S -u 5000; ulimit -S -f 77777";
    let shown = |how: How| odd_script(&ranks, how, prelude, "cat /proc/self/limits");
    let bare = shown(How::Bare);
    assert!(bare.0.contains("Max open files            123"), "{bare:?}");
    for how in How::LAUNCHED {
        assert_eq!(shown(how), bare, "{how:?}");
    }
    // Too few descriptors for us.
    for (how, told) in [
        (How::Launched(Mode::N1), "udocker: cannot open the mount's source `/tmp` (from default)\n"),
        (How::Launched(Mode::P2), "udocker: cannot make a pipe\n"),
    ] {
        let found = odd_script(&ranks, how, "ulimit -n 8", "true");
        let hint = "  hint: `ulimit -n` raises the number of files that a process may open\n";
        let told = format!("{told}  caused by: Too many open files (os error 24)\n{hint}");
        assert_eq!(found, (String::new(), told, 125), "{how:?}");
    }
}

/// What the variable UDOCKER_INSIDE says in the only image.
fn tree_id(env: &TestEnv) -> String {
    let tree = env.only_tree();
    tree.parent().expect("the tree's own directory").file_name().expect("a name").to_str().expect("hexadecimal")[..32]
        .into()
}

#[test]
fn an_empty_environment_will_do() {
    let ranks = ranks_of(TestEnv::ordinary());
    let store = format!("UDOCKER_DIR={}", ranks.env.store().display());
    for how in WAYS {
        let prelude = format!("set -- env -i '{store}' \"$@\"");
        let found = odd(&ranks, how, &prelude, &["/bin/busybox", "env"]);
        let user = ranks.env.uid().unwrap_or_else(|| rustix::process::getuid().as_raw());
        let path = "/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
        let id = tree_id(&ranks.env);
        let inside = format!("HOME=/\nUDOCKER_INSIDE={id}\nXDG_RUNTIME_DIR=/run/user/{user}\nPATH={path}\n");
        let expected = if how == How::Bare { format!("{store}\n") } else { format!("{store}\n{inside}") };
        assert_eq!(found, said(&expected), "{how:?}");
    }
    assert!(Path::new("/bin/busybox").exists());
}
