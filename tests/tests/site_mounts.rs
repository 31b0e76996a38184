//! What the site says of mounts holds for every wish, whoever words it, and for what variables and files of a user add.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use udocker_core::run::{MountSpec, RunRequest};
use udocker_tests::{TestEnv, code, run, stderr, stdout};

const POLICY: i32 = 121;

/// A user with an image, and directories with a file `f` each that says its directory's name.
fn user() -> TestEnv {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    for name in ["secret", "secret2", "open", "data", "home"] {
        env.own_directory(name, 0o755);
        fs::write(env.path(name).join("f"), name).unwrap();
    }
    symlink(env.path("secret"), env.path("open/link")).unwrap();
    symlink("../secret", env.path("open/dots")).unwrap();
    env
}

fn at(env: &TestEnv, name: &str) -> String {
    env.path(name).to_str().unwrap().to_owned()
}

fn with(mut command: Command, name: &str, value: &str) -> Command {
    command.env(name, value);
    command
}

/// How `command` ended and the first line of what it said.
fn ended(mut command: Command) -> (i32, String) {
    let output = command.output().expect("a program of ours");
    (code(&output), stderr(&output).lines().next().unwrap_or_default().to_owned())
}

#[test]
fn no_way_leads_to_a_forbidden_source() {
    let mut env = user();
    let secret = at(&env, "secret");
    let all = env.path("");
    for (key, place) in [("forbidden_sources", "2:22"), ("user_binds.deny", "2:20")] {
        env.set_site(&format!("[mounts]\n{key} = [\"{secret}\"]\n"));
        let mount = |source: &str| format!("--mount={source}:/x");
        let request = |source: &str| {
            let spec: MountSpec = format!("{source}:/x").parse().unwrap();
            RunRequest { mounts: vec![spec], ..RunRequest::of_job("bb:1") }.to_json().unwrap()
        };
        let launch = |source: &str| env.launch(&[&mount(source), "bb:1", "true"]);
        let denied = vec![
            ("itself", launch(&secret)),
            ("with slashes", launch(&format!("/{secret}//."))),
            ("a link", launch(&at(&env, "open/link"))),
            ("a link with dots", launch(&at(&env, "open/dots"))),
            ("a file below", launch(&format!("{secret}/f"))),
            ("a file below a link", launch(&at(&env, "open/link/f"))),
            ("what is above", launch(all.to_str().unwrap())),
            ("all", launch("/")),
            ("by /proc", launch(&format!("/proc/self/root{secret}"))),
            (
                "in a mode without namespaces",
                env.launch(&["--mode=P1", &mount(&at(&env, "open/link")), "bb:1", "true"]),
            ),
            ("to be made", env.launch(&[&format!("--mount={secret}/new:/x:create"), "bb:1", "true"])),
            ("the option as a variable", with(env.launch(&["bb:1", "true"]), "UDOCKER_MOUNT", &format!("{secret}:/x"))),
            (
                "a request by hand",
                with(env.launch(&["--", "true"]), "UDOCKER_REQUEST", &request(&at(&env, "open/link"))),
            ),
            ("a process manager's directory", with(env.launch(&["bb:1", "true"]), "PMIX_SERVER_TMPDIR", &secret)),
            ("writes", env.launch(&[&format!("--write=dir:{secret}"), "bb:1", "true"])),
            ("a root", env.launch(&[&secret, "true"])),
        ];
        for (case, command) in denied {
            let (status, said) = ended(command);
            assert_eq!(status, POLICY, "{key}: {case}: {said}");
            assert!(said.contains(&format!("(/etc/udocker/site.toml:{place})")), "{key}: {case}: {said}");
        }
        for (case, words) in [
            ("a volume", &["run", "-v", &format!("{secret}:/x"), "bb:1", "true"][..]),
            ("a volume by a link", &["run", "-v", &at(&env, "open/link:/x"), "bb:1", "true"]),
            ("a directory as root", &["run", &format!("--location={}", at(&env, "open/link")), "", "true"]),
            ("writes", &["run", &format!("--write=dir:{secret}"), "bb:1", "true"]),
        ] {
            let (status, said) = ended(env.udocker(words));
            assert_eq!(status, 125, "{key}: {case}: {said}");
            assert!(said.contains(&format!("(/etc/udocker/site.toml:{place})")), "{key}: {case}: {said}");
        }
        // What variables and udocker.conf add is left out.
        let shows = |mut command: Command| stdout(&command.output().unwrap());
        let script = format!("cat {secret}/f 2>/dev/null || echo nothing");
        // The directories of this test lie in /tmp, which jobs see.
        let words = ["--umount=/tmp", "bb:1", "sh", "-c", &script];
        assert_eq!(shows(with(env.launch(&words), "HOME", &secret)), "nothing\n", "{key}");
        assert_eq!(shows(with(env.launch(&words), "TMPDIR", &secret)), "nothing\n", "{key}");
        let mut command = env.launch(&words);
        command.current_dir(&secret);
        assert_eq!(shows(command), "nothing\n", "{key}");
        let conf = at(&env, "open/udocker.conf");
        fs::write(&conf, format!("[DEFAULT]\nsysdirs_list = (\"/dev\", \"{secret}\")\n")).unwrap();
        let config = format!("--config={conf}");
        assert_eq!(shows(env.udocker(&[&[&*config, "run"], &words[1..]].concat())), "nothing\n", "{key}");
        // Look-alikes and others are there.
        for name in ["secret2", "open", "data"] {
            let output = run(&mut env.launch(&[&mount(&at(&env, name)), "bb:1", "cat", "/x/f"]));
            assert_eq!(stdout(&output), name, "{key}");
            let output =
                run(&mut env.udocker(&["run", "-v", &format!("{}:/x", at(&env, name)), "bb:1", "cat", "/x/f"]));
            assert_eq!(stdout(&output), name, "{key}");
        }
    }
}

#[test]
fn users_mount_what_is_allowed_and_write_where_they_may() {
    let mut env = user();
    let (open, data) = (at(&env, "open"), at(&env, "data"));
    env.set_site(&format!(
        "site.contact = \"help@site.example\"\n[mounts.user_binds]\nallow = [\"{open}\"]\nreadonly = [\"{data}\"]\n"
    ));
    for (case, source, script, expected) in [
        ("allowed", "open", "cat /x/f; echo new > /x/new", (0, "open")),
        ("only to read", "data", "cat /x/f; touch /x/new 2>/dev/null || exit 3", (3, "data")),
        ("not allowed", "secret", "cat /x/f", (POLICY, "")),
        ("out of it by a link", "open/link", "cat /x/f", (POLICY, "")),
        ("above it", "", "cat /x/f", (POLICY, "")),
    ] {
        let mount = format!("--mount={}:/x", at(&env, source));
        let output = env.launch(&[&mount, "bb:1", "sh", "-c", script]).output().unwrap();
        assert_eq!((code(&output), &*stdout(&output)), expected, "{case}: {}", stderr(&output));
    }
    let output = env.launch(&[&format!("--mount={}:/x:rw", at(&env, "secret")), "bb:1", "true"]).output().unwrap();
    let secret = at(&env, "secret");
    assert_eq!(
        stderr(&output),
        format!(
            "udocker: cannot use {secret}:/x (--mount): the site forbids mounts of {secret} (/etc/udocker/site.toml:3:10)\n  \
             hint: allowed: {open}, {data}\n  hint: ask help@site.example\n"
        )
    );
    // No variable makes a list longer.
    let mut command = env.launch(&[&format!("--mount={secret}:/x"), "bb:1", "true"]);
    command.env("USER", "open").env("HOME", &secret);
    assert_eq!(ended(command).0, POLICY);
    env.set_site("[mounts.user_binds]\nallow = []\n");
    assert_eq!(ended(env.launch(&[&format!("--mount={open}:/x"), "bb:1", "true"])).0, POLICY);
    assert_eq!(ended(env.launch(&["bb:1", "true"])).0, 0);
}

#[test]
fn targets_that_are_the_site_s() {
    let mut env = user();
    let (open, data) = (at(&env, "open"), at(&env, "data"));
    env.set_site(&format!("[mounts]\nforbidden_targets = [\"/etc/ssl\"]\nforced = [\"{data}:/site:ro\"]\n"));
    for (target, expected) in [
        ("/etc/ssl", POLICY),
        ("/etc/ssl/certs", POLICY),
        ("/etc", POLICY),
        ("/etc/ssl2", 0),
        ("/site", POLICY),
        ("/site/f", POLICY),
    ] {
        // The root of an image has no such directories; a writable one gets them.
        let words = [&format!("--mount={open}:{target}"), "--write=tmpfs", "bb:1", "true"].map(String::from);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (status, said) = ended(env.launch(&words));
        assert_eq!(status, expected, "{target}: {said}");
    }
}

#[test]
fn what_the_site_mounts() {
    let mut env = user();
    let [open, data, secret2] = ["open", "data", "secret2"].map(|name| at(&env, name));
    env.set_site(&format!(
        "[mounts]\nforced = [\"{open}:/a:ro\"]\ndefault = [\"{data}:/b\"]\noptional = [\"{secret2}:/c\", \"/nowhere:/d\"]\n"
    ));
    let script = "for d in a b c d; do cat /$d/f 2>/dev/null || echo -n -; echo -n ' '; done";
    let words = |options: &[&'static str]| [options, &["bb:1", "sh", "-c", script]].concat();
    let launched = |env: &TestEnv, options| stdout(&run(&mut env.launch(&words(options))));
    assert_eq!(launched(&env, &["--write=tmpfs"]), "open data secret2 - ");
    assert_eq!(launched(&env, &["--write=tmpfs", "--umount=/a", "--umount=/b", "--umount=/c"]), "open - - - ");
    assert_eq!(launched(&env, &["--mode=P1"]), "open data secret2 - ");
    let output = run(&mut env.udocker(&[&["run"], &words(&[])[..]].concat()));
    assert_eq!(stdout(&output), "open data secret2 - ");
    let output = run(&mut env.udocker(&[&["run", "--novol=/a", "--novol=/b"], &words(&[])[..]].concat()));
    assert_eq!(stdout(&output), "open - secret2 - ");
    // A wish wins over a default.
    let mount = format!("--mount={secret2}:/b");
    let output = run(&mut env.launch(&[&*mount, "--write=tmpfs", "bb:1", "cat", "/b/f"]));
    assert_eq!(stdout(&output), "secret2");
    // A default that is missing is told.
    env.set_site("[mounts]\ndefault = [\"/nowhere:/d\"]\n");
    let (status, said) = ended(env.launch(&["--write=tmpfs", "bb:1", "true"]));
    assert_eq!(status, 125, "{said}");
    assert!(said.contains("/nowhere"), "{said}");
}

#[test]
fn home_and_scratch_space_of_jobs() {
    let mut env = user();
    let home = at(&env, "home");
    let mark = format!("/tmp/site-mounts-{}", std::process::id());
    fs::write(&mark, "").unwrap();
    // The home of this test lies in /tmp.
    let script = format!("test -e {home}/f && echo home; test -e {mark} && echo tmp; touch /tmp/x && rm /tmp/x");
    let shows = |env: &TestEnv, options: &[&str]| {
        let mut command = env.launch(&[options, &["bb:1", "sh", "-c", &script]].concat());
        command.env("HOME", &home).current_dir("/");
        stdout(&command.output().unwrap()).replace('\n', " ")
    };
    for (site, options, expected) in [
        ("", &[][..], "home tmp "),
        ("mounts.tmp = \"host\"\n", &[], "home tmp "),
        ("mounts.tmp = \"private\"\n", &[], "home "),
        ("mounts.tmp = \"private\"\n", &["--no-home"], ""),
        ("mounts.tmp = \"private\"\nmounts.home = false\n", &[], ""),
        ("mounts.tmp = \"private\"\nmounts.home = false\n", &["--home"], "home "),
        ("mounts.tmp = \"private\"\nmounts.home = true\n", &[], "home "),
    ] {
        env.set_site(site);
        assert_eq!(shows(&env, options), expected, "{site} {options:?}");
    }
    fs::remove_file(&mark).unwrap();
}
