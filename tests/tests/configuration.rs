//! udocker.conf, the variables and the options: who wins, seen by `showconf` and by what happens.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use udocker_tests::{ORDINARY_USER, TestEnv, children, code, is_root, run, stderr, stdout};

/// `udocker` without a named store.
fn udocker(env: &TestEnv, words: &[&str]) -> Command {
    let mut command = env.udocker(words);
    command.env_remove("UDOCKER_DIR");
    command
}

/// Writes a file that belongs to who runs our programs.
fn write(env: &TestEnv, name: &str, text: &str) -> PathBuf {
    let path = env.path(name);
    let parent = path.parent().unwrap();
    fs::create_dir_all(parent).unwrap();
    fs::write(&path, text).unwrap();
    for path in [parent, &path] {
        chown(path, env.uid(), env.uid()).unwrap();
    }
    path
}

/// What showconf says of `key`: its value, and the remark below it.
fn shown(command: &mut Command, key: &str) -> (String, String) {
    let text = stdout(&run(command.arg("showconf")));
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("{key} = ")));
    let value = lines.next().unwrap_or_else(|| panic!("{key} is not in\n{text}")).split_once(" = ").unwrap().1;
    let remark = lines.next().and_then(|line| line.strip_prefix("    # ")).unwrap_or_default();
    (value.to_owned(), remark.to_owned())
}

#[test]
fn files_then_variables_then_options() {
    let mut env = TestEnv::ordinary();
    let store = |name: &str| env.own_directory(name, 0o700).to_str().unwrap().to_owned();
    let [machine, own, named, variable, option] = ["machine", "own", "named", "variable", "option"].map(store);
    for path in [&machine, &own, &named, &variable, &option] {
        run(&mut udocker(&env, &["mkrepo", &format!("{path}/repo")]));
    }
    let topdir = |path: &str| format!("[DEFAULT]\ntopdir = \"{path}/repo\"\n");
    let expect = |command: &mut Command, path: &str, remark: &str| {
        let remark = if remark.is_empty() { String::new() } else { format!("set by {remark}") };
        assert_eq!(shown(command, "topdir"), (format!("{path}/repo"), remark));
    };
    if is_root() {
        env.set_site("");
        fs::write(env.path("etc/udocker.conf"), topdir(&machine)).unwrap();
        expect(&mut udocker(&env, &[]), &machine, "/etc/udocker.conf:2");
        let default = (env.path("home/.udocker").to_str().unwrap().to_owned(), String::new());
        assert_eq!(shown(udocker(&env, &[]).env("UDOCKER_NOSYSCONF", "yes"), "topdir"), default);
    }
    let file = write(&env, "home/.udocker/udocker.conf", &topdir(&own));
    let file = format!("{}:2", file.display());
    expect(&mut udocker(&env, &[]), &own, &file);
    let config = write(&env, "named.conf", &topdir(&named));
    let config = config.to_str().unwrap();
    expect(&mut udocker(&env, &["--config", config]), &named, &format!("{config}:2"));
    let both = |words: &[&str]| {
        let mut command = udocker(&env, words);
        command.env("UDOCKER_DIR", format!("{variable}/repo"));
        command
    };
    expect(&mut both(&["--config", config]), &variable, "UDOCKER_DIR");
    let repo = format!("--repo={option}/repo");
    expect(&mut both(&["--config", config, &repo]), &option, "--repo");

    // And so it happens: each store gets what is imported through it.
    let tar = env.busybox_tar();
    let tar = tar.to_str().unwrap();
    run(udocker(&env, &[]).args(["import", tar, "own:1"]));
    run(udocker(&env, &["--config", config]).args(["import", tar, "named:1"]));
    run(both(&["--config", config]).args(["import", tar, "variable:1"]));
    run(both(&["--config", config, &repo]).args(["import", tar, "option:1"]));
    for (path, expected) in [(&own, "own"), (&named, "named"), (&variable, "variable"), (&option, "option")] {
        assert_eq!(children(&Path::new(path).join("repo/repos")), [Path::new(path).join("repo/repos").join(expected)]);
    }
}

#[test]
fn messages_by_file_variable_and_option() {
    let env = TestEnv::ordinary();
    let config = write(&env, "quiet.conf", "verbose_level = 1\nunknown_key = 2\n");
    let config = format!("--config={}", config.display());
    let outcome = |words: &[&str], level: Option<&str>| {
        let mut command = env.udocker(words);
        command.arg("ps");
        level.map(|level| command.env("UDOCKER_LOGLEVEL", level));
        let output = run(&mut command);
        (stderr(&output).contains("unknown key"), stdout(&output).is_empty())
    };
    // Whether a warning was told, and whether there was no result.
    for (words, level, expected) in [
        (&[config.as_str()][..], None, (false, false)),
        (&[&config], Some("0"), (false, true)),
        (&[&config], Some("1"), (false, false)),
        (&[&config], Some("2"), (true, false)),
        (&[&config, "-q"], Some("2"), (false, false)),
        (&[&config, "-q", "-q"], Some("2"), (false, true)),
        (&[&config, "-D"], Some("0"), (true, false)),
    ] {
        assert_eq!(outcome(words, level), expected, "{words:?} {level:?}");
    }
    let output = env.udocker(&["-q", "-q", "rmi", "missing"]).output().unwrap();
    assert_eq!((code(&output), stdout(&output), stderr(&output)), (1, String::new(), String::new()));
    let output = env.udocker(&["rmi", "missing"]).env("UDOCKER_LOGLEVEL", "0").output().unwrap();
    assert!(stderr(&output).starts_with("Error: "), "{}", stderr(&output));
}

#[test]
fn runs_by_hand_follow_the_file() {
    let env = TestEnv::ordinary();
    env.import_busybox("box");
    write(
        &env,
        "store/udocker.conf",
        "cmd = ['sh', '-c', 'echo $PATH $LANG $TERM; ls -d /dev/null /proc/1 2>/dev/null; true']\n\
         root_path = /sbin:/bin\nvalid_host_env = LANG\nsysdirs_list = \"/dev\"\n",
    );
    let mut command = env.udocker(&["run", "box"]);
    let output = run(command.env("LANG", "C.UTF-8").env("TERM", "dumb"));
    assert_eq!(stdout(&output), "/sbin:/bin C.UTF-8\n/dev/null\n", "{}", stderr(&output));
}

#[test]
fn a_configured_mode_is_refused_by_name_if_it_is_not_built() {
    let env = TestEnv::ordinary();
    env.import_busybox("box");
    let output = env.udocker(&["run", "box", "true"]).env("UDOCKER_DEFAULT_EXECUTION_MODE", "F3").output().unwrap();
    assert_eq!(code(&output), 125);
    assert_eq!(
        stderr(&output),
        "Error: cannot run in the mode that UDOCKER_DEFAULT_EXECUTION_MODE asks for\n  \
         caused by: mode F3 is not built in this version\n  \
         hint: `--mode=auto` takes one that works here, `udocker doctor` lists them\n"
    );
    for (words, mode) in [(&["run", "--mode=N1", "box", "true"][..], "F3"), (&["run", "box", "true"], "N1")] {
        run(env.udocker(words).env("UDOCKER_DEFAULT_EXECUTION_MODE", mode));
    }
}

#[test]
fn directories_of_a_store_may_lie_apart() {
    let env = TestEnv::ordinary();
    env.own_directory("apart", 0o700);
    // Another file system where there is one: nothing may depend on a rename.
    let scratch = tempfile::Builder::new().prefix("udocker-test-").tempdir_in("/dev/shm").unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let scratch_own = scratch.path().join("own");
    fs::create_dir(&scratch_own).unwrap();
    chown(&scratch_own, env.uid(), env.uid()).unwrap();
    let (repos, layers) = (env.path("apart/repos"), scratch_own.join("layers"));
    let containers = scratch_own.join("containers");
    let with = |words: &[&str]| {
        let mut command = env.udocker(words);
        command.env("UDOCKER_REPOS", &repos).env("UDOCKER_LAYERS", &layers).env("UDOCKER_CONTAINERS", &containers);
        command
    };
    let tar = env.busybox_tar();
    run(&mut with(&["import", tar.to_str().unwrap(), "box:1"]));
    run(&mut with(&["create", "--name=work", "box:1"]));
    assert_eq!(stdout(&run(&mut with(&["run", "work", "echo", "here"]))), "here\n");
    assert_eq!(stdout(&run(&mut with(&["images"]))), "REPOSITORY\nbox:1    .\n");
    for link in children(&repos.join("box/1")).iter().filter(|path| path.is_symlink()) {
        let target = fs::read_link(link).unwrap();
        assert!(target.is_relative() && link.is_file(), "{} -> {}", link.display(), target.display());
        assert_eq!(fs::canonicalize(link).unwrap().parent(), Some(layers.as_path()));
    }
    for name in ["repos", "layers", "containers"] {
        assert_eq!(children(&env.store().join(name)), [] as [PathBuf; 0], "{name}");
    }
    assert!(containers.join("work").is_symlink());
    run(&mut with(&["rm", "work"]));
    run(&mut with(&["rmi", "box:1"]));
    assert_eq!(children(&layers), [] as [PathBuf; 0]);
    assert_eq!(children(&containers.join(".tmp")), [] as [PathBuf; 0]);
}

#[test]
fn files_that_cannot_be_used_are_refused_by_place() {
    let env = TestEnv::ordinary();
    let own = write(&env, "home/.udocker/udocker.conf", "# mine\nhttp_insecure = maybe\n");
    let refused = |words: &[&str]| {
        let output = udocker(&env, words).arg("images").output().unwrap();
        assert_eq!((code(&output), stdout(&output)), (1, String::new()));
        stderr(&output).replace(env.path("").to_str().unwrap(), "DIR/")
    };
    assert_eq!(
        refused(&[]),
        "Error: DIR/home/.udocker/udocker.conf:2: cannot use the value of `http_insecure`: expected True or False\n"
    );
    fs::write(&own, "no key").unwrap();
    assert_eq!(refused(&[]), "Error: DIR/home/.udocker/udocker.conf:1: expected `key = value`\n");
    fs::write(&own, b"a = \xff").unwrap();
    assert_eq!(refused(&[]), "Error: cannot read the configuration DIR/home/.udocker/udocker.conf: it is not UTF-8\n");
    fs::write(&own, "verbose_level = 3").unwrap();
    let missing = env.path("missing.conf");
    assert_eq!(
        refused(&["--config", missing.to_str().unwrap()]),
        "Error: cannot read the configuration DIR/missing.conf: it does not exist\n"
    );
    if is_root() {
        fs::set_permissions(&own, fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(
            refused(&[]),
            "Error: cannot read the configuration DIR/home/.udocker/udocker.conf\n  \
             caused by: Permission denied (os error 13)\n"
        );
        chown(&own, Some(1), Some(1)).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            refused(&[]),
            format!(
                "Error: cannot trust the configuration DIR/home/.udocker/udocker.conf: it belongs to uid 1, not to uid \
                 {ORDINARY_USER}\n  hint: `chown {ORDINARY_USER} DIR/home/.udocker/udocker.conf`\n"
            )
        );
        // A home that was inherited from somebody else hides its file; the store is named, so all is well.
        fs::set_permissions(env.path("home"), fs::Permissions::from_mode(0o700)).unwrap();
        chown(env.path("home"), Some(1), Some(1)).unwrap();
        assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), "REPOSITORY\n");
    }
}

#[test]
fn a_colleagues_store_does_not_configure_its_guests() {
    let env = TestEnv::ordinary();
    run(&mut udocker(&env, &["mkrepo", env.path("work/theirs").to_str().unwrap()]));
    let conf = write(&env, "work/theirs/udocker.conf", "cmd = /bin/evil\n");
    if !is_root() {
        fs::set_permissions(&conf, fs::Permissions::from_mode(0o666)).unwrap();
    }
    chown(&conf, is_root().then_some(1), None).unwrap();
    let repo = format!("--repo={}", env.path("work/theirs").display());
    let output = run(&mut udocker(&env, &[&repo, "showconf"]));
    assert!(stdout(&output).contains("cmd = [\"bash\", \"-i\"]\n"));
    assert!(stderr(&output).starts_with("Warning: cannot trust the configuration "), "{}", stderr(&output));
    assert!(stderr(&output).ends_with("; it is passed over\n"), "{}", stderr(&output));
}

#[test]
fn showconf_tells_who_set_what() {
    let env = TestEnv::ordinary();
    let config = write(
        &env,
        "site.conf",
        "[DEFAULT]\n; proxies\nhttp_proxy = http://me:secret@proxy.example:3128\ntimeout: 20\n\
         use_runc_executable = \"/opt/crun\"\nverbose_level = 4\n",
    );
    let config = config.to_str().unwrap();
    let mut command = env.udocker(&["--config", config, "--insecure"]);
    command.env("UDOCKER_LOGLEVEL", "2");
    let output = run(command.arg("showconf"));
    let text = stdout(&output);
    let frame = "-".repeat(80);
    assert!(
        text.starts_with(&format!("{frame}\n\t\tConfiguration options\n")) && text.ends_with(&format!("{frame}\n"))
    );
    let told: Vec<_> = text.lines().zip(text.lines().skip(1)).filter(|(_, below)| below.starts_with("    #")).collect();
    let store = format!("topdir = {}", env.store().display());
    let by = |rest: &str| format!("    # set by {config}:{rest}");
    let expected = [
        ("verbose_level = 2", "    # set by UDOCKER_LOGLEVEL".to_owned()),
        (&store, "    # set by UDOCKER_DIR".to_owned()),
        ("use_runc_executable = /opt/crun", by("5; kept for an engine that is not built yet")),
        ("http_proxy = http://REDACTED@proxy.example:3128", by("3")),
        (
            "timeout = 20",
            by("4; no effect: connections end after 10 s without an answer, transfers after 20 s without progress"),
        ),
        ("http_insecure = True", "    # set by --insecure".to_owned()),
    ];
    let expected: Vec<_> = expected.iter().map(|(line, below)| (*line, below.as_str())).collect();
    assert_eq!(told, expected);
    assert!(!text.contains("secret"));

    let mut command = env.udocker(&["--config", config, "showconf", "--format=json"]);
    let json: Value = serde_json::from_slice(&run(&mut command).stdout).unwrap();
    let row = |value: &str, origin: &str, effect: &str| serde_json::json!({"value": value, "origin": origin, "effect": effect});
    assert_eq!(json["verbose_level"], row("4", &format!("{config}:6"), "acts"));
    assert_eq!(json["cmd"], row("[\"bash\", \"-i\"]", "default", "acts"));
    assert_eq!(json["limits.image_max"], row("549755813888", "default", "acts"));
    assert!(!json.to_string().contains("secret"));
}

#[test]
fn without_a_home_the_account_s_is_taken() {
    let env = TestEnv::ordinary();
    // The account of these tests is in no passwd: its home is /.
    let mut command = udocker(&env, &[]);
    let (value, _) = shown(command.env_remove("HOME"), "topdir");
    assert!(Path::new(&value).is_absolute() && value.ends_with("/.udocker"), "{value}");
    if is_root() {
        assert_eq!(value, "/.udocker");
        let output = udocker(&env, &["pull", "box"]).env_remove("HOME").output().unwrap();
        assert_eq!(code(&output), 1);
        assert!(stderr(&output).starts_with("Error: cannot make /.udocker\n"), "{}", stderr(&output));
    }
    // A named store needs no home.
    assert_eq!(stdout(&run(env.udocker(&["images"]).env_remove("HOME"))), "REPOSITORY\n");
}

#[test]
fn mkrepo_makes_what_repo_accepts() {
    let env = TestEnv::ordinary();
    let work = env.path("work");
    let mkrepo = |directory: &str| env.udocker(&["mkrepo", directory]).current_dir(&work).output().unwrap();
    let output = mkrepo("deep/er/repo");
    assert_eq!((code(&output), stdout(&output), stderr(&output)), (0, String::new(), String::new()));
    let repo = work.join("deep/er/repo");
    for name in ["repos", "layers", "containers", "bin", "lib", "doc"] {
        assert!(repo.join(name).is_dir(), "{name}");
    }
    assert_eq!(fs::metadata(&repo).unwrap().permissions().mode() & 0o777, 0o700);
    let output = env.udocker(&["--repo=deep/er/repo", "images"]).current_dir(&work).output().unwrap();
    assert_eq!((code(&output), stdout(&output)), (0, "REPOSITORY\n".to_owned()));
    symlink("nowhere", work.join("link")).unwrap();
    for directory in ["deep", "deep/er/repo", "link", work.to_str().unwrap()] {
        let output = mkrepo(directory);
        assert_eq!(code(&output), 1);
        let first = stderr(&output).lines().next().unwrap().to_owned();
        assert_eq!(first, format!("Error: localrepo directory already exists: {directory}"));
    }
    let output = env.udocker(&["--repo=deep", "images"]).current_dir(&work).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).starts_with(&format!("Error: invalid udocker repository: {}\n", work.join("deep").display()))
    );
    assert_eq!(children(&env.store()), [] as [PathBuf; 0], "mkrepo needs no other store");
}

#[test]
fn install_leaves_what_scripts_look_for() {
    let env = TestEnv::ordinary();
    let said = |words: &[&str]| {
        let output = run(env.udocker(&["install"]).args(words));
        assert_eq!(stdout(&output), "");
        stderr(&output)
    };
    const DONE: &str = "Info: installation successful: engines are built in, nothing was downloaded\n";
    const NOTHING: &str = "Info: nothing to install: engines are built in, nothing was downloaded\n";
    assert_eq!(said(&[]), DONE);
    let (proot, version) = (env.store().join("bin/proot-x86_64"), env.store().join("lib/VERSION"));
    assert_eq!(fs::read_to_string(&version).unwrap(), "1.2.11.built-in\n");
    for option in ["--help", "--version"] {
        let output = run(Command::new(&proot).arg(option));
        assert!(stdout(&output).contains("udocker 0."), "{}", stdout(&output));
    }
    let output = Command::new(&proot).args(["-r", "/", "true"]).output().unwrap();
    assert_eq!((code(&output), stdout(&output)), (1, String::new()));
    assert!(stderr(&output).starts_with("proot: there is no PRoot here"), "{}", stderr(&output));
    let written = fs::read(&proot).unwrap();
    assert_eq!(said(&[]), NOTHING);
    fs::write(&proot, b"#!/bin/sh\n# Written by `udocker install`; it is no PRoot.\nold\n").unwrap();
    assert_eq!(said(&[]), NOTHING);
    assert_eq!(said(&["--force"]), DONE);
    assert_eq!(fs::read(&proot).unwrap(), written);

    // What udocker's own installation left stays, until it is purged; other files stay always.
    let foreign = [("bin/proot-x86_64", "PRoot"), ("lib/VERSION", "1.2.11\n"), ("bin/crun-x86_64", "crun")];
    let kept = [("bin/mine", "m"), ("lib/libmine.so", "m"), ("doc/notes", "m")];
    for (name, text) in foreign.iter().chain(&kept) {
        fs::write(env.store().join(name), text).unwrap();
    }
    for words in [&[][..], &["--force"]] {
        let expected =
            [&proot, &version].map(|path| format!("Info: kept {}: another program left it\n", path.display()));
        assert_eq!(said(words), expected.concat() + NOTHING);
    }
    for (name, text) in foreign.iter().chain(&kept) {
        assert_eq!(fs::read_to_string(env.store().join(name)).unwrap(), *text, "{name}");
    }
    let removed = format!("Info: removed 3 files of an earlier installation from {}\n", env.store().display());
    assert_eq!(said(&["--purge"]), removed + DONE);
    assert_eq!(fs::read(&proot).unwrap(), written);
    assert!(!env.store().join("bin/crun-x86_64").exists());
    for (name, text) in kept {
        assert_eq!(fs::read_to_string(env.store().join(name)).unwrap(), text, "{name}");
    }
}

#[test]
fn jobs_find_the_store_that_the_file_names() {
    let env = TestEnv::ordinary();
    env.import_busybox("box");
    write(&env, "home/.udocker/udocker.conf", &format!("topdir = {}\n", env.store().display()));
    let output = run(env.launch(&["--pull=never", "box", "echo", "found"]).env_remove("UDOCKER_DIR"));
    assert_eq!(stdout(&output), "found\n");
}

#[test]
fn version_has_udockers_three_lines() {
    let output = run(&mut TestEnv::ordinary().udocker(&["version"]));
    let keys: Vec<_> = stdout(&output).lines().map(|line| line.split_once(": ").unwrap().0.to_owned()).collect();
    assert_eq!(keys, ["version", "tarball", "tarball_release"]);
}
