//! Profiles, and `[run]` of the site's and the user's files: who wins, and that none of them gets around the site.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use udocker_core::run::RunRequest;
use udocker_tests::{ORDINARY_USER, TestEnv, code, run, stderr, stdout};

const POLICY: i32 = 121;
const USAGE: i32 = 125;

fn user() -> TestEnv {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    for name in ["secret", "open", "home"] {
        env.own_directory(name, 0o755);
        fs::write(env.path(name).join("f"), name).unwrap();
    }
    env
}

/// A file below the user's ~/.config/udocker.
fn write(env: &TestEnv, name: &str, text: &str) {
    let path = env.path("home/.config/udocker").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    chown(&path, Some(ORDINARY_USER), None).unwrap();
}

/// How `command` ended, what it printed, and what it said, with the test's directory as DIR.
fn ended(env: &TestEnv, command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let shorten = |text: String| text.replace(env.path("").to_str().unwrap().trim_end_matches('/'), "DIR");
    (code(&output), shorten(stdout(&output)), shorten(stderr(&output)))
}

#[test]
fn command_line_beats_variables_and_these_the_profile_and_that_the_files() {
    let mut env = user();
    env.set_site("[run]\nwrite = \"tmpfs\"\nuser = \"root\"\n");
    // The site's: a root that is written, by root.
    let script = "touch /x 2>/dev/null && echo written || echo kept; id -u";
    let show = |env: &TestEnv, words: &[&str], variable: Option<&str>| {
        let mut command = env.launch(&[words, &["bb:1", "sh", "-c", script]].concat());
        command.envs(variable.map(|value| ("UDOCKER_WRITE", value)));
        stdout(&run(&mut command)).replace('\n', " ")
    };
    assert_eq!(show(&env, &[], None), "written 0 ");
    write(&env, "config.toml", "[run]\nwrite = \"none\"\n");
    assert_eq!(show(&env, &[], None), "kept 0 ", "the user's file over the site's");
    write(&env, "profiles/p.toml", "write = \"tmpfs:1M\"\nuser = \"self\"\n");
    let own = format!("written {ORDINARY_USER} ");
    assert_eq!(show(&env, &["--profile=p"], None), own, "the profile over the user's file");
    assert_eq!(show(&env, &["--profile=p"], Some("none")), own.replace("written", "kept"), "a variable over that");
    assert_eq!(show(&env, &["--profile=p", "--write=tmpfs"], Some("none")), own, "an option over that");
    write(&env, "profiles/q.toml", "write = \"none\"\n");
    assert_eq!(show(&env, &["--profile=p", "--profile=q"], None), own.replace("written", "kept"), "the later profile");
    // By hand nobody is a job.
    fs::remove_file(env.path("home/.config/udocker/config.toml")).unwrap();
    let by_hand = |words: &[&str]| {
        let words = [&["run"], words, &["bb:1", "sh", "-c", script]].concat();
        stdout(&run(&mut env.udocker(&words))).replace('\n', " ")
    };
    assert_eq!(by_hand(&[]), "written 0 ");
    assert_eq!(by_hand(&["--profile=q"]), "kept 0 ");
    assert_eq!(by_hand(&["--profile=q", "--profile=p"]), own);
}

#[test]
fn lists_of_a_profile_lie_beneath_those_of_the_command_line() {
    let env = user();
    let open = env.path("open");
    write(
        &env,
        "profiles/p.toml",
        &format!("mount = \"{0}:/m\"\nenv = [\"A=profile\", \"B=profile\"]\nimage = \"bb:1\"\n", open.display()),
    );
    let words = ["--profile=p", "--env=A=user", "--", "sh", "-c", "cat /m/f; echo $A $B"];
    assert_eq!(stdout(&run(&mut env.launch(&words))), "openuser profile\n");
    let words = ["run", "--profile=p", "--env=A=user", "bb:1", "sh", "-c", "cat /m/f; echo $A $B"];
    assert_eq!(stdout(&run(&mut env.udocker(&words))), "openuser profile\n");
    let mut by_variable = env.launch(&["--", "sh", "-c", "echo $A $B"]);
    by_variable.env("UDOCKER_PROFILE", env.path("home/.config/udocker/profiles/p.toml"));
    assert_eq!(stdout(&run(&mut by_variable)), "profile profile\n");
}

#[test]
fn a_profile_does_not_get_around_the_site() {
    let mut env = user();
    env.import_busybox("denied:1");
    let secret = env.path("secret").to_str().unwrap().to_owned();
    let site = format!(
        "[mounts]\nforced = [\"/srv:/site\"]\nforbidden_sources = [\"{secret}\"]\nforbidden_targets = [\"/etc/ssl\"]\n\
         [modes]\nallowed = [\"N1\"]\n\
         [[policy.rule]]\nmatch.image = [\"docker.io/library/denied\"]\naction = \"deny\"\n\
         [[policy.rule]]\naction = \"allow\"\nwritable = false\n"
    );
    std::os::unix::fs::symlink(&secret, env.path("open/link")).unwrap();
    let open = env.path("open").to_str().unwrap().to_owned();
    for (case, profile, denied) in [
        ("what is allowed", "mode = \"N1\"\nwrite = \"none\"".to_owned(), None),
        ("an open source", format!("mount = [\"{open}:/m\"]"), None),
        ("a forbidden source", format!("mount = [\"{secret}:/m\"]"), Some("mount")),
        ("a link to it", format!("mount = [\"{open}/link:/m\"]"), Some("mount")),
        ("what is above it", format!("mount = [\"{}:/m\"]", env.path("").display()), Some("mount")),
        ("a forbidden target", format!("mount = [\"{open}:/etc/ssl\"]"), Some("mount")),
        ("on a forced mount", format!("mount = [\"{open}:/site/x\"]"), Some("mount")),
        ("a mode", "mode = \"P1\"".to_owned(), Some("mode")),
        ("an image", "image = \"denied:1\"".to_owned(), Some("denied:1")),
        ("a written root", "write = \"tmpfs\"".to_owned(), Some("bb:1")),
        ("a directory that is written", format!("write = \"dir:{open}/w\""), Some("bb:1")),
    ] {
        for by_variable in [false, true] {
            env.set_site(&site);
            write(&env, "profiles/p.toml", &profile);
            let words: &[&str] = if profile.starts_with("image") { &["--", "true"] } else { &["bb:1", "true"] };
            let mut command = match by_variable {
                true => env.launch(words),
                false => env.launch(&[&["--profile=p"], words].concat()),
            };
            if by_variable {
                command.env("UDOCKER_PROFILE", "p");
            }
            let (status, _, said) = ended(&env, &mut command);
            assert_eq!(status, if denied.is_some() { POLICY } else { 0 }, "{case}: {said}");
            assert!(
                said.contains(denied.unwrap_or("")) && said.contains("site.toml") == denied.is_some(),
                "{case}: {said}"
            );
            // The same words without a site.
            env.set_site("");
            let mut command = env.launch(&[&["--profile=p"], words].concat());
            let (status, _, said) = ended(&env, &mut command);
            assert_eq!(status, 0, "{case} without rules: {said}");
        }
        env.set_site(&site);
        if !profile.starts_with("image") {
            let run_by_hand = ["run", "--profile=p", "--read-only", "bb:1", "true"];
            let forbids = denied.is_some() && !profile.starts_with("write");
            let (status, _, said) = ended(&env, &mut env.udocker(&run_by_hand));
            assert_eq!(status, if forbids { 125 } else { 0 }, "{case} by hand: {said}");
        }
    }
    // Nor does the user's config.toml.
    write(&env, "config.toml", "[run]\nwrite = \"tmpfs\"\n");
    assert_eq!(ended(&env, &mut env.launch(&["bb:1", "true"])).0, POLICY);
    write(&env, "config.toml", "[policy]\ndefault = \"allow\"\n");
    let (status, _, said) = ended(&env, &mut env.launch(&["bb:1", "true"]));
    assert_eq!(said, "udocker: DIR/home/.config/udocker/config.toml:1:2: `policy` is for the site's files alone\n");
    assert_eq!(status, POLICY);
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let mut env = user();
    let file = env.path("home/.config/udocker/profiles/p.toml");
    let shown = "DIR/home/.config/udocker/profiles/p.toml";
    for (text, said) in [
        ("wirte = \"none\"", format!("{shown}:1:1: unknown key `wirte`\n  hint: did you mean `write`?")),
        ("profile = \"q\"", format!("{shown}:1:1: a profile cannot ask for `profile`")),
        ("explain = true", format!("{shown}:1:1: a profile cannot ask for `explain`")),
        ("home = \"yes\"", format!("{shown}:1:8: cannot use the value of `home`: expected true or false")),
        ("\nenv = [1]", format!("{shown}:2:8: cannot use the value of `env`: expected a text, or a list of texts")),
        ("write = []", format!("{shown}:1:9: cannot use the value of `write`: expected a text")),
        ("mpi = \"auto\"", format!("{shown}:1:7: option --mpi is not supported by this version")),
        (
            "mode = \"N9\"",
            format!(
                "{shown}:1:8: `N9` is no execution mode: expected one of N1, P1, P2, F1, F2, F3, F4, R1, R2, R3, S1"
            ),
        ),
        ("[run]\nwrite = \"none\"", format!("{shown}:1:2: unknown key `run`")),
    ] {
        write(&env, "profiles/p.toml", text);
        let (status, _, said_here) = ended(&env, &mut env.launch(&["--profile=p", "bb:1", "true"]));
        assert!(said_here.starts_with(&format!("udocker: {said}\n")), "{text}: {said_here}");
        assert_eq!(status, USAGE, "{text}");
        let (status, _, by_hand) = ended(&env, &mut env.udocker(&["run", "--profile=p", "bb:1", "true"]));
        assert!(by_hand.starts_with(&format!("Error: {said}\n")), "{text}: {by_hand}");
        assert_eq!(status, 1, "{text}");
    }
    write(&env, "profiles/p.toml", "share = \"task\"");
    let (status, _, said) = ended(&env, &mut env.udocker(&["run", "--profile=p", "bb:1", "true"]));
    let expected = format!(
        "Error: {shown}:1:9: `share` is of jobs, and `udocker run` has it not\n  hint: leave it away, or use `udocker-launch`\n"
    );
    assert_eq!((status, said), (1, expected));

    let refused = |env: &TestEnv, profile: &str| {
        let (status, _, said) = ended(env, &mut env.launch(&[&format!("--profile={profile}"), "bb:1", "true"]));
        assert_eq!(status, USAGE, "{said}");
        said.lines().next().unwrap().to_owned()
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let expected = format!("udocker: cannot trust the configuration {shown}: mode 0666 lets group or others write it");
    assert_eq!(refused(&env, "p"), expected);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    chown(&file, Some(4242), None).unwrap();
    let expected =
        format!("udocker: cannot trust the configuration {shown}: it belongs to uid 4242, not to uid {ORDINARY_USER}");
    assert_eq!(refused(&env, "p"), expected);
    env.set_site("");
    assert_eq!(
        refused(&env, "q"),
        "udocker: cannot read the profile `q`: there is no DIR/home/.config/udocker/profiles/q.toml and no /etc/udocker/profiles/q.toml"
    );
    for name in ["", "..", "a b"] {
        assert_eq!(
            refused(&env, name),
            format!("udocker: cannot read the profile `{name}`: it is neither a name nor a path")
        );
    }
    // The site has some as well, that nobody else may write.
    let of_site = env.path("etc/udocker/profiles");
    fs::create_dir_all(&of_site).unwrap();
    fs::write(of_site.join("q.toml"), "env = \"FROM=site\"\n").unwrap();
    let words = ["--profile=q", "bb:1", "sh", "-c", "echo $FROM"];
    assert_eq!(stdout(&run(&mut env.launch(&words))), "site\n");
    fs::set_permissions(&of_site, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        refused(&env, "q"),
        "udocker: cannot trust the configuration /etc/udocker/profiles: mode 0777 lets group or others write it"
    );
    // A whole request has no place beneath it.
    let mut command = env.launch(&["--profile=q", "--", "true"]);
    command.env("UDOCKER_REQUEST", RunRequest::of_job("bb:1").to_json().unwrap());
    let (status, _, said) = ended(&env, &mut command);
    assert!(
        said.starts_with("udocker: --profile lies beneath all other options, and UDOCKER_REQUEST holds all of them\n"),
        "{said}"
    );
    assert_eq!(status, USAGE);
}

#[test]
fn a_site_runs_batch_scripts_on_the_host() {
    let mut env = user();
    env.set_site("[run]\nbatch = \"host\"\n");
    let inside = "test -z \"$UDOCKER_INSIDE\" && echo host $SLURM_UDOCKER_SCRIPT || echo inside";
    let place = |request: &RunRequest, script: bool| {
        let mut command = env.launch(&["--", "sh", "-c", inside]);
        command.env("SLURM_UDOCKER_REQUEST", request.to_json().unwrap()).env("SLURM_JOB_ID", "5");
        if script {
            command.env("SLURM_UDOCKER_SCRIPT", "/spool/script");
        }
        let output = run(&mut command);
        (stdout(&output), stderr(&output).contains("this script runs on the host, its srun steps in bb:1\n"))
    };
    let request = RunRequest::of_job("bb:1");
    assert_eq!(place(&request, true), ("host\n".into(), true));
    assert_eq!(place(&request, false), ("inside\n".into(), false), "a step");
    let contained = RunRequest { batch: Some(udocker_core::run::Batch::Container), ..request };
    assert_eq!(place(&contained, true), ("inside\n".into(), false), "the user said so");
    // Of its user's own file, so that no other program starts it.
    let by_user = user();
    write(&by_user, "config.toml", "[run]\nbatch = \"host\"\n");
    let mut login = by_user.launch(&[]);
    std::os::unix::process::CommandExt::arg0(&mut login, "-udocker-launch");
    login.env("UDOCKER_IMAGE", "bb:1");
    let (status, _, said) = ended(&env, &mut login);
    let expected = "udocker: cannot run a login shell on the host: `run.batch` is \"host\"";
    assert!(status == USAGE && said.starts_with(expected), "{status}: {said}");
}

#[test]
fn the_users_own_file_has_runs_alone() {
    let env = user();
    let file = "DIR/home/.config/udocker/config.toml";
    for (text, said) in [
        ("[rum]\n", format!("{file}:1:2: unknown key `rum`\n  hint: did you mean `run`?\n")),
        ("[run]\nusr = \"root\"\n", format!("{file}:2:1: unknown key `run.usr`\n  hint: did you mean `run.user`?\n")),
        ("[mounts]\nhome = true\n", format!("{file}:1:2: `mounts` is for the site's files alone\n")),
        (
            "[run]\nshare = \"all\"\n",
            format!("{file}:2:9: cannot use the value of `run.share`: expected node or task\n"),
        ),
        ("[run\n", format!("{file}:1:5: unclosed table, expected `]`\n")),
    ] {
        write(&env, "config.toml", text);
        let (_, _, told) = ended(&env, &mut env.launch(&["bb:1", "true"]));
        assert_eq!(told, format!("udocker: {said}"), "{text}");
        let (_, _, told) = ended(&env, &mut env.udocker(&["images"]));
        assert_eq!(told, format!("Error: {said}"), "{text}");
    }
    write(&env, "config.toml", "[run]\nwrite = \"tmpfs:1M\"\nkeep = true\n");
    let (_, told, _) = ended(&env, &mut env.udocker(&["site", "explain", "run"]));
    let expected = format!(
        "run.keep = true\n    set by {file}:3:8\nrun.user = self\n    built in\nrun.entrypoint = false\n    built in\n\
         run.write = tmpfs:1M\n    set by {file}:2:9\nrun.batch = container\n    built in\nrun.share = node\n    built in\n"
    );
    assert_eq!(told, expected);
    let path = env.path("home/.config/udocker/config.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
    let (_, _, told) = ended(&env, &mut env.launch(&["bb:1", "true"]));
    let expected = format!("udocker: cannot trust the configuration {file}: mode 0646 lets group or others write it");
    assert!(told.starts_with(&expected), "{told}");
}
