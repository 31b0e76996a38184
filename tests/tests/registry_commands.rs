//! search, login, logout, manifest inspect and pull, against hubs and registries of every kind.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use udocker_core::digest::Digest;
use udocker_core::platform::Platform;
use udocker_core::schema1::Schema1;
use udocker_tests::hub::{start_hub, start_hub_v1, targets};
use udocker_tests::images::Kind;
use udocker_tests::token_server::GuardedRegistry;
use udocker_tests::{Registry, TestEnv, code, run, stderr, stdout};

fn ended(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    (code(&output), stdout(&output), stderr(&output))
}

/// Runs `command` with `input` on its standard input.
fn fed(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A program that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn keystore(env: &TestEnv) -> PathBuf {
    env.path("home/.udocker/keystore")
}

/// Runs a command on a pseudo-terminal of 7 rows; types each answer when its question has come. Prints what was seen.
const PTY: &str = r#"
import fcntl, json, os, pty, struct, sys, termios
answers = json.loads(sys.argv[1])
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 200, 0, 0))
    os.execv(sys.argv[2], sys.argv[2:])
seen, new = b"", b""
while True:
    try:
        part = os.read(master, 4096)
    except OSError:
        break
    if not part:
        break
    seen, new = seen + part, new + part
    if answers and answers[0][0].encode() in new:
        os.write(master, answers.pop(0)[1].encode())
        new = b""
_, status = os.waitpid(pid, 0)
sys.stdout.write(seen.decode().replace("\r\n", "\n"))
sys.exit(os.waitstatus_to_exitcode(status))
"#;

fn on_a_terminal(env: &TestEnv, words: &[&str], answers: &[(&str, &str)]) -> (i32, String) {
    let inner = env.udocker(words);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PTY, &serde_json::to_string(answers).unwrap()]);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(uid) = env.uid() {
        std::os::unix::process::CommandExt::gid(std::os::unix::process::CommandExt::uid(&mut command, uid), uid);
    }
    let (status, out, error) = ended(&mut command);
    assert_eq!(error, "");
    (status, out)
}

fn header() -> String {
    format!("{:<55} {:>8} {:<70} {:>5}\n", "NAME", "OFFICIAL", "DESCRIPTION", "STARS")
}

/// A row of the stand-in for the hub.
fn row(expression: &str, number: usize) -> String {
    let official = if number == 1 { "[OK]" } else { "----" };
    let (name, description) = (format!("team/{expression}-{number}"), format!("Number {number}"));
    format!("{name:<55} {official:>8} {description:<70} {number:>5}\n")
}

fn rows(expression: &str, numbers: std::ops::RangeInclusive<usize>) -> String {
    numbers.map(|number| row(expression, number)).collect()
}

#[test]
fn a_hub_is_searched_to_its_end() {
    let env = TestEnv::ordinary();
    let hub = start_hub(230);
    let index = format!("--index=http://{}", hub.host);
    let expected = header() + &rows("tool", 1..=230);
    assert_eq!(ended(&mut env.udocker(&["search", &index, "tool"])), (0, expected, String::new()));
    let query = "/v2/search/repositories?query=tool&page_size=100";
    assert_eq!(targets(&hub), [query.to_owned(), format!("{query}&page=2"), format!("{query}&page=3")]);
    // A host of the Hub before the expression, a tag behind it.
    let quiet = ended(&mut env.udocker(&["-q", "search", "-a", &index, "docker.io/tool:1"]));
    assert_eq!(quiet, (0, rows("tool", 1..=230), String::new()));
    let json = run(&mut env.udocker(&["search", "--format", "json", &index, "tool"]));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 230);
    let first =
        serde_json::json!({"name": "team/tool-1", "official": true, "description": "Number 1\nand more", "stars": 1});
    assert_eq!(json[0], first);
}

#[test]
fn a_hub_of_version_1_is_searched_to_its_end() {
    let env = TestEnv::ordinary();
    let hub = start_hub_v1(30);
    for (path, requests) in [("", 3), ("/v1", 2)] {
        let before = hub.requests().len();
        let index = format!("--index=http://{}{path}", hub.host);
        let found = ended(&mut env.udocker(&["search", "--no-trunc", &index, "tool"]));
        assert_eq!(found, (0, header() + &rows("tool", 1..=30), String::new()));
        assert_eq!(hub.requests().len() - before, requests, "{:?}", targets(&hub));
    }
}

#[test]
fn a_terminal_gets_pages_and_a_question() {
    let env = TestEnv::ordinary();
    let hub = start_hub(12);
    let index = format!("--index=http://{}", hub.host);
    let question = "[return or q to quit]";
    let page = |from, to| header() + &rows("x", from..=to);
    let (status, seen) = on_a_terminal(&env, &["search", &index, "x"], &[(question, "\n"), (question, "\n")]);
    let expected = format!("{}{question}\n{}{question}\n{}", page(1, 5), page(6, 10), page(11, 12));
    assert_eq!((status, seen), (0, expected));
    let (status, seen) = on_a_terminal(&env, &["search", &index, "x"], &[(question, "q\n")]);
    assert_eq!((status, seen), (0, format!("{}{question}q\n", page(1, 5))));
    let (status, seen) = on_a_terminal(&env, &["search", "-a", &index, "x"], &[]);
    assert_eq!((status, seen), (0, page(1, 12)));
}

#[test]
fn a_registry_is_searched_by_its_catalogue() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    registry.serve(Kind::Busybox);
    registry.serve(Kind::Truth);
    let line = |name: &str| format!("{name:<55} {:>8} {:<70} {:>5}\n", "----", "", "");
    let both = header() + &line("test/busybox") + &line("test/truth");
    let only = header() + &line("test/truth");
    let (host, option) = (&registry.host, format!("--registry=http://{}", registry.host));
    for (words, expected) in [
        (vec![format!("{host}/")], &both),
        (vec![format!("http://{host}/test/tr")], &only),
        (vec![option.clone(), "test/tr".into()], &only),
    ] {
        let words: Vec<&str> = ["search"].into_iter().chain(words.iter().map(String::as_str)).collect();
        assert_eq!(ended(&mut env.udocker(&words)), (0, expected.clone(), String::new()), "{words:?}");
    }
    let none = ended(&mut env.udocker(&["search", &option, "nothing"]));
    assert_eq!(none, (0, String::new(), "Info: nothing was found\n".into()));
    for name in [format!("{host}/test/truth"), format!("{host}/test/truth:latest"), format!("http://{host}/test/truth")]
    {
        let tags = ended(&mut env.udocker(&["search", "--list-tags", &name]));
        assert_eq!(tags, (0, "latest\n".into(), String::new()), "{name}");
    }
    let tags = run(&mut env.udocker(&["search", "--list-tags", "--format=json", &option, "test/truth"]));
    assert_eq!(serde_json::from_slice::<Vec<String>>(&tags.stdout).unwrap(), ["latest"]);
    let (status, out, error) = ended(&mut env.udocker(&["search", "--list-tags", &format!("{host}/test/no")]));
    assert_eq!((status, out), (1, String::new()));
    let first = format!(
        "Error: cannot list the tags of {host}/test/no\n  caused by: the registry {host} answered 404 NAME_UNKNOWN"
    );
    assert!(error.starts_with(&first), "{error}");
}

#[test]
fn a_manifest_is_printed_as_python_prints_it() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Multi);
    let document = |words: &[&str]| {
        let output = run(&mut env.udocker(&[&["manifest", "inspect"], words].concat()));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (stdout(&output), value)
    };
    let (text, index) = document(&[&reference]);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let mut python = Command::new("python3");
    python.args([
        "-c",
        "import json,sys; print(json.dumps(json.load(sys.stdin), sort_keys=True, indent=4, separators=(',', ': ')))",
    ]);
    assert_eq!(text, stdout(&fed(&mut python, &text)));
    let arm = index["manifests"].as_array().unwrap().iter().find(|m| m["platform"]["architecture"] == "arm64").unwrap();
    let (_, image) = document(&["--platform=linux/arm64", &reference]);
    assert_eq!(image["layers"].as_array().unwrap().len(), 1);
    let (_, same) =
        document(&[&format!("{}@{}", reference.rsplit_once(':').unwrap().0, arm["digest"].as_str().unwrap())]);
    assert_eq!(image, same);

    let missing = format!("{}/test/no:latest", registry.host);
    let (status, out, error) = ended(&mut env.udocker(&["manifest", "inspect", &missing]));
    assert_eq!((status, out), (1, String::new()));
    assert!(error.starts_with(&format!("Error: cannot get the manifest of {missing}\n  caused by: ")), "{error}");
    let (status, _, error) = ended(&mut env.udocker(&["manifest", "push", "x"]));
    assert_eq!((status, &*error), (1, "Error: invalid command: manifest push\n"));
    let (status, _, error) = ended(&mut env.udocker(&["manifest", "inspect"]));
    assert_eq!((status, error.lines().next().unwrap()), (1, "Error: must specify image:tag or repository/image:tag"));
}

#[test]
fn a_pull_that_fails_says_udockers_words_first() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let missing = format!("{}/test/no:latest", registry.host);
    let (status, out, error) = ended(&mut env.udocker(&["pull", &missing]));
    assert_eq!((status, out), (1, String::new()));
    let expected = format!(
        "Error: no files downloaded: cannot pull {missing}\n  caused by: the registry {} answered 404",
        registry.host
    );
    assert!(error.starts_with(&expected), "{error}");
    let (status, _, error) = ended(&mut env.udocker(&["pull", "--httpproxy=ftp://127.0.0.1:1", &missing]));
    assert_eq!(
        (status, error.lines().next().unwrap()),
        (1, "Error: --httpproxy=ftp://… is not supported by this version")
    );
}

#[test]
fn names_of_one_part_lie_in_the_library_or_at_the_top() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let option = format!("--registry=http://{}", registry.host);
    let words = ["-q", "pull", &option, "truth"];
    let layout = Kind::Truth.image();
    for name in ["truth", "library/truth"] {
        registry.publish_as(&layout, name);
        assert_eq!(ended(&mut env.udocker(&words)), (0, String::new(), String::new()), "{name}");
        assert_eq!(ended(&mut env.udocker(&["images"])).1, "REPOSITORY\ntruth:latest    .\n");
        run(&mut env.udocker(&["rmi", "truth"]));
        let tags = ended(&mut env.udocker(&["search", "--list-tags", &option, "truth"]));
        assert_eq!(tags, (0, "latest\n".into(), String::new()), "{name}");
    }
}

/// A registry by udocker's default of mode and content, and what a login is to it.
fn login_pull_search_logout(env: &TestEnv, host: &str, told: &str) {
    let image = format!("{host}/test/truth:latest");
    let option = format!("--registry=http://{host}");
    let file = keystore(env);
    let refused = |error: &str| error.contains(&format!("`udocker login --registry=https://{host}` stores"));

    let (status, _, error) = ended(&mut env.udocker(&["pull", &image]));
    assert!(status == 1 && refused(&error), "{error}");

    let login = |user: &str, input: &str| {
        let user = format!("--username={user}");
        let output = fed(&mut env.udocker(&["login", &user, "--password-stdin", &option]), input);
        (code(&output), stdout(&output), stderr(&output))
    };
    for (user, input) in [("alice", "wrong\n"), ("bob", "secret\n")] {
        let expected = format!(
            "{told}Error: invalid credentials\n  caused by: the registry {host} refuses the password of user `{user}`\n  \
             hint: nothing was stored; check the user, the password and the registry\n"
        );
        assert_eq!(login(user, input), (1, String::new(), expected));
        assert!(!file.exists());
    }
    assert_eq!(login("alice", "\n").2, "Error: invalid credentials: the password is empty\n");
    let done = format!("{told}Info: logged in to {host} as alice\n");
    assert_eq!(login("alice", "secret\nmore\n"), (0, String::new(), done));
    let stored = format!(r#"{{"http://{host}": {{"auth": "YWxpY2U6c2VjcmV0", "email": ""}}}}"#);
    assert_eq!(fs::read_to_string(&file).unwrap(), stored);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);

    run(&mut env.udocker(&["pull", &image]));
    assert_eq!(ended(&mut env.udocker(&["search", "--list-tags", &image])), (0, "latest\n".into(), String::new()));
    let (status, out, error) = ended(&mut env.udocker(&["-q", "search", &format!("{host}/tru")]));
    let row = format!("{:<55} {:>8} {:<70} {:>5}\n", "test/truth", "----", "", "");
    assert_eq!((status, out, error), (0, row, String::new()));
    assert_eq!(ended(&mut env.udocker(&["manifest", "inspect", &image])).0, 0);

    assert_eq!(ended(&mut env.udocker(&["logout", &option])), (0, String::new(), String::new()));
    let nothing = |what: &str| {
        (
            1,
            String::new(),
            format!("Error: deleting credentials\n  caused by: {} has no credentials{what}\n", file.display()),
        )
    };
    assert_eq!(ended(&mut env.udocker(&["logout", &option])), nothing(&format!(" for {host}")));
    let (status, _, error) = ended(&mut env.udocker(&["manifest", "inspect", &image]));
    assert!(status == 1 && refused(&error), "{error}");
    assert_eq!(login("alice", "secret").0, 0);
    assert_eq!(ended(&mut env.udocker(&["logout", "-a"])), (0, String::new(), String::new()));
    assert_eq!(ended(&mut env.udocker(&["logout", "-a"])), nothing(""));
    let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_registry_with_passwords_is_logged_in_to() {
    let env = TestEnv::ordinary();
    let registry = Registry::start_with_password(&env);
    registry.serve(Kind::Truth);
    login_pull_search_logout(&env, &registry.host, "");
}

#[test]
fn a_registry_with_tokens_is_logged_in_to() {
    let env = TestEnv::ordinary();
    let guarded = GuardedRegistry::start(&env);
    guarded.registry.serve(Kind::Truth);
    let host = &guarded.front.host;
    let told = format!("Info: the password goes to {host}, which {host} names as its token server\n");
    login_pull_search_logout(&env, host, &told);
    let tokens: Vec<_> = guarded.front.requests().into_iter().filter(|request| request.path() == "/token").collect();
    let with_password = tokens.iter().filter(|request| request.authorization.is_some());
    assert!(with_password.clone().count() > 5);
    assert!(
        with_password.clone().all(|request| !request.field("account").is_empty() && !request.target.contains("secret"))
    );
}

#[test]
fn a_registry_that_asks_nobody_cannot_check() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let host = &registry.host;
    let words = ["login", "--username=me", "--password=pw", &format!("--registry=http://{host}")];
    let (status, out, error) = ended(&mut env.udocker(&words));
    let expected = format!(
        "Warning: other users of this machine can see a password on a command line; use --password-stdin\n\
         Warning: {host} asks nobody for credentials: these are stored and were not checked\n\
         Info: logged in to {host} as me\n"
    );
    assert_eq!((status, out, error), (0, String::new(), expected));
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    let env = TestEnv::ordinary();
    for words in [
        &["login", "--registry=https://me:secret@127.0.0.1:1"][..],
        &["run", "--registry=me:secret@127.0.0.1:1", "x"],
        &["search", "https://me:secret@127.0.0.1:1/x"],
        &["search", "--index=ftp://me:secret@127.0.0.1:1", "x"],
        &["search", "--index=https://me:secret@a b", "x"],
        &["search", "--httpproxy=http://me:secret@a b", "x"],
    ] {
        let (status, out, error) = ended(&mut env.udocker(words));
        assert!(status == 1 && out.is_empty() && !error.contains("secret"), "{words:?}: {error}");
    }
}

#[test]
fn a_terminal_is_asked_and_shows_no_password() {
    let env = TestEnv::ordinary();
    let registry = Registry::start_with_password(&env);
    let option = format!("--registry=http://{}", registry.host);
    let words = ["login", &option];
    // A slip of the finger, taken back.
    let answers = [("username: ", "alice\n"), ("password: ", "secreX\u{7f}t\n")];
    let (status, seen) = on_a_terminal(&env, &words, &answers);
    let expected = format!("username: alice\npassword: \nInfo: logged in to {} as alice\n", registry.host);
    assert_eq!((status, seen), (0, expected));
    let (status, seen) = on_a_terminal(&env, &words, &[("username: ", "alice\n"), ("password: ", "SECRET\n")]);
    let expected =
        "username: alice\npassword: \nWarning: password in uppercase Caps Lock ?\nError: invalid credentials\n";
    assert!(status == 1 && seen.starts_with(expected), "{seen}");
    let (status, seen) = on_a_terminal(&env, &words, &[("username: ", "alice\n"), ("password: ", "sec\u{3}")]);
    assert!(
        status == 1 && seen.starts_with("username: alice\npassword: \nError: cannot read the password\n"),
        "{seen}"
    );
    // Without a terminal the same questions take lines of standard input.
    let output = fed(env.udocker(&words).env("HOME", env.own_directory("other", 0o700)), "alice\nsecret\n");
    assert_eq!((code(&output), stdout(&output)), (0, String::new()), "{}", stderr(&output));
}

#[test]
fn credentials_of_docker_are_used() {
    let env = TestEnv::ordinary();
    let registry = Registry::start_with_password(&env);
    let image = registry.serve(Kind::Truth);
    let (host, inspect) = (&registry.host, ["manifest", "inspect", &image]);
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let auths = format!(r#"{{"auths": {{"{host}": {{"auth": "YWxpY2U6c2VjcmV0"}}}}}}"#);
    assert_eq!(ended(&mut env.udocker(&inspect)).0, 1);
    for (file, variable) in [
        ("home/.docker/config.json", None),
        ("docker/config.json", Some(("DOCKER_CONFIG", "docker"))),
        ("some.json", Some(("REGISTRY_AUTH_FILE", "some.json"))),
        ("run/containers/auth.json", Some(("XDG_RUNTIME_DIR", "run"))),
    ] {
        write(&env.path(file), &auths);
        let mut command = env.udocker(&inspect);
        command.envs(variable.map(|(name, value)| (name, env.path(value))));
        let (status, _, error) = ended(&mut command);
        assert_eq!(status, 0, "{file}: {error}");
        fs::remove_file(env.path(file)).unwrap();
    }

    let helper = env.path("bin/docker-credential-tests");
    let path = format!("{}:/usr/bin:/bin", env.path("bin").display());
    let script = |text: &str| {
        write(
            &helper,
            &format!("#!/bin/sh\nread server\necho \"$1 $server\" >> {}\n{text}\n", env.path("work/asked").display()),
        );
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let asked = || ended(env.udocker(&inspect).env("PATH", &path));
    for config in [
        r#"{"credsStore": "tests"}"#.to_owned(),
        format!(r#"{{"credsStore": "none", "credHelpers": {{"{host}": "tests"}}}}"#),
    ] {
        write(&env.path("home/.docker/config.json"), &config);
        script(r#"echo '{"ServerURL": "x", "Username": "alice", "Secret": "secret"}'"#);
        let (status, _, error) = asked();
        assert_eq!(status, 0, "{config}: {error}");
        assert_eq!(fs::read_to_string(env.path("work/asked")).unwrap(), format!("get {host}\n"));
        fs::remove_file(env.path("work/asked")).unwrap();
        for (text, expected) in [
            ("exit 3", "the credential helper docker-credential-tests failed: exit status: 3"),
            ("echo secret", "the answer of the credential helper docker-credential-tests cannot be read"),
            ("echo credentials not found in native keychain; exit 1", "it wants a user and a password; "),
        ] {
            script(text);
            let (status, _, error) = asked();
            let cause = format!("caused by: cannot log in to the registry {host}: {expected}");
            assert!(status == 1 && error.contains(&cause), "{text}: {error}");
        }
        fs::remove_file(env.path("work/asked")).unwrap();
    }
    write(&env.path("home/.docker/config.json"), r#"{"credsStore": "../x"}"#);
    assert!(asked().2.contains("`../x` is no name of a credential helper"));
}

/// The busybox root as `docker save` writes it, with a step in its history that made no layer.
fn archive_with_history(env: &TestEnv) -> PathBuf {
    let directory = env.path("archive");
    fs::create_dir_all(&directory).unwrap();
    fs::copy(env.busybox_tar(), directory.join("layer.tar")).unwrap();
    let layer = Digest::sha256_of(&fs::read(directory.join("layer.tar")).unwrap());
    let created = "2020-01-01T00:00:00Z";
    let config = serde_json::json!({
        "architecture": Platform::native().architecture, "os": "linux", "created": created,
        "config": {"Env": ["WHERE=old"]}, "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created": created, "created_by": "ADD"},
                    {"created": created, "created_by": "ENV", "empty_layer": true}]});
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["old:one"], "Layers": ["layer.tar"]}]);
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let tar = env.path("archive.tar");
    run(Command::new("tar").arg("-C").arg(&directory).arg("-cf").arg(&tar).args([
        "manifest.json",
        "config.json",
        "layer.tar",
    ]));
    tar
}

#[test]
fn schema_1_of_another_tool_is_pulled_and_run() {
    let env = TestEnv::ordinary();
    let registry = Registry::start_with(&env, "compatibility: {schema1: {enabled: true}}\n");
    let old = format!("{}/old/busybox:one", registry.host);
    let archive = format!("docker-archive:{}", archive_with_history(&env).display());
    let words = ["copy", "-q", "--format=v2s1", "--dest-tls-verify=false", &archive, &format!("docker://{old}")];
    run(Command::new("skopeo").args(words));
    let manifest = run(&mut env.udocker(&["manifest", "inspect", &old]));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.stdout).unwrap();
    assert_eq!((manifest["schemaVersion"].as_u64(), manifest["tag"].as_str()), (Some(1), Some("one")));
    run(&mut env.udocker(&["pull", &old]));
    let tag = env.store().join("repos").join(&registry.host).join("old/busybox/one");
    for layer in manifest["fsLayers"].as_array().unwrap() {
        assert!(tag.join(layer["blobSum"].as_str().unwrap()).is_file(), "{layer}");
    }
    // The registry signs anew for everybody.
    let unsigned =
        |mut manifest: serde_json::Value| manifest.as_object_mut().unwrap().remove("signatures").map(|_| manifest);
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(tag.join("manifest")).unwrap()).unwrap();
    assert_eq!(unsigned(kept).unwrap(), unsigned(manifest.clone()).unwrap());
    let blobs: Vec<_> =
        manifest["fsLayers"].as_array().unwrap().iter().map(|layer| layer["blobSum"].as_str()).collect();
    assert_eq!((blobs.len(), blobs[0]), (2, Some(&*Schema1::empty_layer().to_string())));
    let output = run(&mut env.udocker(&["run", &old, "sh", "-c", "echo $WHERE and well"]));
    assert_eq!(stdout(&output), "old and well\n");
}
