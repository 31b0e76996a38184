//! Running an image natively: statuses, streams, volumes, signals, and that nothing stays.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use udocker_tests::{TestEnv, run, stderr, stdout};

fn image() -> TestEnv {
    let env = TestEnv::new();
    env.import_busybox("bb:1");
    env
}

#[test]
fn the_program_s_status_is_ours() {
    let env = image();
    for status in [0, 1, 2, 42, 125, 126, 127, 200, 255] {
        let output = env.udocker(&["run", "bb:1", "sh", "-c", &format!("exit {status}")]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
    }
    let killed = env.udocker(&["run", "bb:1", "sh", "-c", "kill -9 $$"]).output().unwrap();
    // Exec in place: the signal is the process's own; a shell shows it as 137.
    assert_eq!(killed.status.signal(), Some(9));
}

#[test]
fn docker_s_statuses_for_what_does_not_start() {
    let env = image();
    for (words, status, message) in [
        (&["run", "bb:1", "nothere"][..], 127, "command not found or has no execute bit set: nothere"),
        (&["run", "bb:1", "/etc/passwd"], 126, "command not found or has no execute bit set: /etc/passwd"),
        (&["run", "--workdir=/nothere", "bb:1", "true"], 125, "invalid working directory: /nothere"),
        (&["run", "-v", "/nothere:/x", "bb:1", "true"], 125, "invalid host volume path: /nothere"),
        (&["run", "-v", "data:/x", "bb:1", "true"], 125, "invalid host volume path: data:/x"),
        (&["run", "-v", "/tmp:x", "bb:1", "true"], 125, "invalid container volume path: /tmp:x"),
        (&["run", "-v", "/tmp:/", "bb:1", "true"], 125, "invalid container volume path: /tmp:/"),
        (&["run", "--user=a.b", "bb:1", "true"], 125, "invalid syntax for user a.b"),
        (&["run", "--user=a b", "bb:1", "true"], 125, "invalid syntax for user a b"),
        (&["run", "--hostauth", "--user=nosuch", "bb:1", "true"], 125, "user not found"),
        (&["run", "--containerauth", "--user=77", "bb:1", "true"], 125, "user not found"),
        (&["run", "--env-file=/nothere", "bb:1", "true"], 125, "cannot read the environment file /nothere"),
        (&["run", "--device=/dev/nothere", "bb:1", "true"], 125, "invalid device /dev/nothere"),
        (&["run", "--location=/nothere", "x", "true"], 125, "cannot run in /nothere"),
        (&["run", "--cpuset-cpus=1000", "bb:1", "true"], 125, "cannot run on the CPUs 1000"),
        (&["run", "--gpus=all", "bb:1", "true"], 125, "--gpus is not supported by this version"),
        (&["run", "--pid=container:x", "bb:1", "true"], 125, "--pid=container:x is not supported by this version"),
        (&["run", "--kernel=5.0", "bb:1", "true"], 125, "--kernel is not supported by this version"),
        (&["run", "A:b:c"], 125, "must specify image:tag or repository/image:tag"),
        (&["run"], 1, "must specify container_id or image:tag"),
        (&["run", "--pull=sometimes", "bb:1"], 1, "cannot read the pull policy `sometimes`"),
        (&["run", "--name=a.b", "bb:1"], 1, "invalid container name: `a.b`"),
        (&["run", "--pull=never", "no/such:image", "true"], 125, "image or container not available: no/such:image"),
        (&["run", "127.0.0.1:1/x:1", "true"], 125, "image or container not available: 127.0.0.1:1/x:1"),
        (&["run", "--nope", "bb:1", "true"], 1, "syntax error at: --nope"),
        (&["run", "--mode=F1", "bb:1", "true"], 125, "cannot run in the mode that --mode asks for"),
        (&["nope"], 1, "invalid command: nope"),
    ] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", stderr(&output));
        let expected = format!("Error: {message}");
        assert!(stderr(&output).starts_with(&expected), "{words:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{words:?}");
    }
}

/// What `words` print on both streams, as an ordinary user; they must succeed.
fn printed(env: &TestEnv, words: &[&str]) -> (String, String) {
    let output = run(&mut env.udocker(words));
    (stdout(&output), stderr(&output))
}

fn ordinary() -> TestEnv {
    let env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    env
}

#[test]
fn users_and_accounts() {
    let env = ordinary();
    let script = "id -u; id -g; echo $USER $LOGNAME $USERNAME $HOME; cat /etc/passwd";
    let of = |options: &[&str]| printed(&env, &[&["run"], options, &["bb:1", "sh", "-c", script]].concat()).0;
    let root = "root:x:0:0:root:/root:/bin/sh\n";
    assert_eq!(of(&[]), format!("0\n0\nroot root root /root\n{root}"));
    assert_eq!(of(&["--user=77:88"]), format!("77\n88\nu77 u77 u77 /\n{root}u77:x:77:88:u77:/:/bin/sh\n"));
    let uid = env.uid().map_or_else(|| rustix::process::getuid().as_raw().to_string(), |uid| uid.to_string());
    assert_eq!(of(&["-u", "bob"]), format!("{uid}\n{uid}\nbob bob bob /\n{root}bob:x:{uid}:{uid}:bob:/:/bin/sh\n"),);
    assert_eq!(of(&["--containerauth"]), format!("0\n0\nroot root root /root\n{root}"));
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    assert_eq!(of(&["--hostauth"]), format!("0\n0\nroot root root /root\n{host}"));
    let nobody = of(&["--hostauth", "--user=nobody"]);
    assert!(nobody.starts_with("65534\n65534\nnobody nobody nobody /nonexistent\n"), "{nobody}");
}

#[test]
fn the_environment_is_the_image_s_udocker_s_and_what_was_asked_for() {
    let env = ordinary();
    let file = env.path("work/env");
    std::fs::write(&file, "# no line\n\nA=file\nB=b = c\nHOSTS\n").unwrap();
    let file = format!("--env-file={}", file.display());
    let of = |options: &[&str]| {
        let words = [&["run"], options, &["bb:1", "env"]].concat();
        let output = run(env.udocker(&words).env("HOSTS", "h").env("VTE_VERSION", "1").env("TERM", "vt100"));
        let mut lines: Vec<_> = stdout(&output).lines().map(str::to_owned).collect();
        lines.retain(|line| !line.starts_with("container_") && !line.starts_with("PS1="));
        lines.sort();
        lines
    };
    let own = |more: &[&str]| {
        let mut lines: Vec<_> = [
            &["HOME=/root", "LOGNAME=root", "PATH=/usr/sbin:/sbin:/usr/bin:/bin", "SHLVL=0", "TERM=vt100", "USER=root"],
            &["USERNAME=root"][..],
            more,
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        lines.sort();
        lines
    };
    assert_eq!(of(&[]), own(&[]));
    assert_eq!(
        of(&["-e", "A=option", &file, "-e=C=x=y", "--env", "NOTHERE"]),
        own(&["A=option", "B=b = c", "C=x=y", "HOSTS=h"])
    );
    let store = format!("UDOCKER_DIR={}", env.store().display());
    assert_eq!(of(&["--hostenv"]), own(&["HOSTS=h", &store]));
    let (facts, _) = printed(
        &env,
        &["run", "--name=c", "bb:1", "sh", "-c", "echo $container_names $container_execmode $container_uuid $PS1"],
    );
    let (listed, _) = printed(&env, &["ps"]);
    let id = &listed.lines().nth(1).unwrap()[..36];
    assert_eq!(facts, format!("c N1 {id} {}#\n", &id[..8]));
}

#[test]
fn default_and_given_volumes_can_be_dropped() {
    let env = ordinary();
    let home = env.path("home").display().to_string();
    std::fs::write(env.path("home/mine"), "").unwrap();
    let of =
        |options: &[&str], script: &str| printed(&env, &[&["run"], options, &["bb:1", "sh", "-c", script]].concat());
    let look = "n=0; for f in /proc/self/maps /sys/kernel /dev/null /etc/resolv.conf; do [ ! -e $f ] || n=$((n+1)); done; echo $n";
    assert_eq!(of(&[], look).0, "4\n");
    assert_eq!(of(&["--nosysdirs"], look).0, "0\n");
    assert_eq!(
        of(&["--novol=/proc", "--novol", "/sys/", "--novol=/nothere", "-v", "/etc", "--novol=/etc"], look),
        ("2\n".into(), "Warning: --novol /nothere not in volumes list\n".into())
    );
    let look = format!("ls {home} 2>/dev/null; echo $HOME; pwd");
    assert_eq!(of(&[], &look).0, "/root\n/root\n");
    assert_eq!(of(&["--bindhome"], &look).0, format!("mine\n{home}\n{home}\n"));
    assert_eq!(of(&["--bindhome", &format!("--novol={home}")], "echo $HOME; pwd").0, format!("{home}\n/\n"));
}

#[test]
fn entrypoints_commands_and_directories() {
    let env = ordinary();
    let script = "#!/bin/sh\necho entry \"$@\"\n";
    std::fs::write(env.path("root/bin/entry"), script).unwrap();
    std::fs::set_permissions(env.path("root/bin/entry"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let layer = env.path("layer.tar");
    run(std::process::Command::new("tar")
        .arg("-C")
        .arg(env.path("root"))
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&layer)
        .arg("."));
    let recipe = udocker_tests::images::Recipe {
        config: serde_json::json!({"Entrypoint": ["/bin/entry", "-x"], "Cmd": ["cmd"], "WorkingDir": "/etc", "Env": ["A=image"]}),
        ..udocker_tests::images::Recipe::new(vec![layer])
    };
    let registry = udocker_tests::Registry::start(&env);
    let image = registry.publish(&recipe.write(&env.path("image")), "entry");
    let of = |words: &[&str]| {
        let words: Vec<&str> = words.iter().map(|word| if *word == "IMAGE" { &*image } else { word }).collect();
        let output = run(&mut env.udocker(&[&["-q", "run"], &*words].concat()));
        stdout(&output)
    };
    assert_eq!(of(&["IMAGE"]), "entry -x cmd\n");
    assert_eq!(of(&["IMAGE", "a b", "", "-"]), "entry -x a b  -\n");
    assert_eq!(of(&["--entrypoint=", "IMAGE", "pwd"]), "/etc\n");
    assert_eq!(of(&["--entrypoint", "-w", "/tmp", "IMAGE", "pwd"]), "/tmp\n");
    assert_eq!(of(&["--entrypoint", "echo -n", "IMAGE", "a", "b"]), "a b");
    assert_eq!(of(&["--entrypoint=pwd", "IMAGE"]), "/etc\n");
    assert_eq!(of(&["--nometa", "IMAGE", "sh", "-c", "pwd; echo $A"]), "/root\n\n");
    assert_eq!(of(&["--entrypoint=", "-w/", "--workdir=/bin", "IMAGE", "sh", "-c", "pwd; echo $A"]), "/bin\nimage\n");
    let root = env.path("root").display().to_string();
    assert_eq!(of(&["--location", &root, "swallowed", "sh", "-c", "pwd; ls /bin/entry"]), "/root\n/bin/entry\n");
}

#[test]
fn without_a_command_a_shell_is_assumed() {
    let env = ordinary();
    let with_input = |text: &str| {
        let mut command = env.udocker(&["run", "--name=c", "--pull=reuse", "bb:1"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (stdout(&output), stderr(&output).lines().next().unwrap_or_default().to_owned())
    };
    let (out, first) = with_input(
        "echo '#!/bin/sh' > /bin/bash; echo 'echo bash it is' >> /bin/bash; busybox chmod 755 /bin/bash; echo made\n",
    );
    assert!(out.contains("made\n"), "{out}");
    assert_eq!(first, "Warning: no command assuming: sh -i");
    let (out, first) = with_input("");
    assert_eq!(out, "bash it is\n");
    assert_eq!(first, "Warning: no command assuming: bash -i");
}

#[test]
fn docker_s_options_are_honoured_or_answered_by_one_line() {
    let env = ordinary();
    let of =
        |options: &[&str], script: &str| printed(&env, &[&["run"], options, &["bb:1", "sh", "-c", script]].concat());
    let quiet = [
        "-it",
        "--rm",
        "-a",
        "--net=host",
        "--network",
        "host",
        "--pid=host",
        "--ipc=host",
        "--uts=host",
        "--userns=host",
    ];
    assert_eq!(of(&quiet, "echo x"), ("x\n".into(), String::new()));
    let warned =
        ["-d", "--privileged", "--init", "-h", "name", "--hostname=other", "-m", "1g", "--cap-add=ALL", "--cap-add=X"];
    let (out, warnings) = of(&warned, "echo x");
    let names: Vec<_> = warnings.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(
        (&*out, names),
        ("x\n", vec!["--detach", "--privileged", "--init", "--hostname", "--cap-add", "--memory"])
    );
    assert!(
        warnings.lines().all(|line| line.starts_with("Warning: --") && line.contains(" has no effect: ")),
        "{warnings}"
    );
    let data = env.own_directory("data", 0o755);
    std::fs::write(data.join("file"), "content\n").unwrap();
    let mount = format!("--mount=type=bind,src={},dst=/m,readonly", data.display());
    let volume = format!("--volume={}:/v:ro,z", data.display());
    let script = "cat /m/file /v/file; for d in /m /v; do echo x 2>/dev/null > $d/no || echo refused; done";
    assert_eq!(of(&[&mount, &volume], script).0, "content\ncontent\nrefused\nrefused\n");
    let script = "echo x > /t/x && cat /t/x; busybox df -k /t | busybox awk 'NR == 2 {print $2}'; echo x 2>/dev/null > /no || echo refused";
    assert_eq!(of(&["--tmpfs=/t:size=4m,nosuid", "--read-only"], script).0, "x\n4096\nrefused\n");
    assert_eq!(of(&["--device=/dev/null", "--dri"], "echo x > /dev/null"), (String::new(), String::new()));
    let script = "echo x > /dev/zilch; ls /dev";
    assert_eq!(of(&["--nosysdirs", "--device=/dev/null:/dev/zilch:rwm"], script).0, "zilch\n");
    assert_eq!(of(&["--cpuset-cpus=0"], "busybox nproc").0, "1\n");
    let id = env.path("work/id");
    let option = format!("--cidfile={}", id.display());
    assert_eq!(of(&[&option], "echo -n $container_uuid").0, std::fs::read_to_string(&id).unwrap());
    let again = env.udocker(&["run", &option, "bb:1", "true"]).output().unwrap();
    assert_eq!(
        (again.status.code(), stderr(&again).lines().next()),
        (Some(125), Some(&*format!("Error: cannot write the container's ID to {}", id.display())))
    );
}

#[test]
fn names_decide_what_is_kept_and_what_is_run_again() {
    let env = ordinary();
    let of = |words: &[&str]| {
        let output = env.udocker(&[&["run"], words].concat()).output().unwrap();
        (output.status.code(), stdout(&output), stderr(&output).lines().next().unwrap_or_default().to_owned())
    };
    let containers = || stdout(&run(&mut env.udocker(&["ps"]))).lines().count() - 1;
    assert_eq!(of(&["bb:1", "true"]), (Some(0), String::new(), String::new()));
    assert_eq!(containers(), 0);
    assert_eq!(of(&["--name=c", "--pull=reuse", "bb:1", "touch", "/kept"]).0, Some(0));
    assert_eq!(of(&["--name=c", "--pull=reuse", "bb:1", "ls", "/kept"]), (Some(0), "/kept\n".into(), String::new()));
    assert_eq!(
        of(&["--name=c", "bb:1", "true"]),
        (Some(125), String::new(), "Error: container name already exists".into())
    );
    assert_eq!(containers(), 1);
    assert_eq!(of(&["--keep", "bb:1", "true"]).0, Some(0));
    assert_eq!(containers(), 2);
    assert_eq!(of(&["--name=d", "--rm", "bb:1", "sh", "-c", "exit 3"]).0, Some(3));
    assert_eq!(of(&["--rm", "c", "ls", "/kept"]), (Some(0), "/kept\n".into(), String::new()));
    assert_eq!(containers(), 1);
    // Nor does a run stay that cannot begin.
    for refused in ["--user=a:nosuch", "--workdir=/nothere", "--cidfile=/nothere/x"] {
        assert_eq!(of(&["--rm", "--name=e", refused, "bb:1", "true"]).0, Some(125), "{refused}");
        assert_eq!(containers(), 1, "{refused}");
    }
    assert_eq!(of(&["--name=kept", "--pull=reuse", "bb:1", "true"]).0, Some(0));
    assert_eq!(of(&["--rm", "--user=a:nosuch", "kept", "true"]).0, Some(125));
    assert_eq!(of(&["--rm", "kept", "true"]).0, Some(0));
    assert_eq!(containers(), 1);
    // What only is looked at is neither made, named nor removed.
    for words in [&["--name=f", "bb:1"][..], &["--keep", "--rm", "bb:1"]] {
        assert_eq!(of(&[&["--dry-run"], words].concat()).0, Some(0), "{words:?}");
    }
    assert_eq!(containers(), 1);
    let id = stdout(&run(&mut env.udocker(&["ps", "-q"]))).trim().to_owned();
    assert_eq!(of(&["--dry-run", "--rm", "--name=g", &id]).0, Some(0));
    assert_eq!(of(&["--rm", "g", "true"]).0, Some(125));
    assert_eq!(containers(), 1);
}

#[test]
fn an_empty_value_of_an_option_is_as_none() {
    let env = ordinary();
    let expected = stdout(&run(&mut env.udocker(&["run", "bb:1", "sh", "-c", "id; pwd"])));
    let empty = [
        "--name=",
        "--user=",
        "--workdir=",
        "--platform=",
        "--pull=",
        "--cpuset-cpus=",
        "--location=",
        "--env=",
        "--env-file=",
        "--cidfile=",
        "--mode=",
        "-e",
        "",
        "-u",
        "",
        "-w",
        "",
    ];
    let words = [&["", "--repo=", "--config", "", "run"][..], &empty, &["bb:1", "sh", "-c", "id; pwd"]].concat();
    let output = run(&mut env.udocker(&words));
    assert_eq!((stdout(&output), stderr(&output)), (expected, String::new()));
    run(&mut env.udocker(&["create", "--name=", "bb:1"]));
    assert_eq!(stdout(&run(&mut env.udocker(&["run", "bb:1", "echo", "--name=", "", "-w="]))), "--name=  -w=\n");
    for (words, error) in [
        (&["run", "--volume=", "bb:1", "true"][..], "Error: invalid host volume path: "),
        (&["mkrepo", ""], "Error: the argument DIR is empty"),
    ] {
        let output = env.udocker(words).output().unwrap();
        assert_eq!(stderr(&output).lines().next(), Some(error), "{words:?}");
    }
}

#[test]
fn a_container_that_another_run_uses_does_not_change_a_program_s_status() {
    let env = ordinary();
    run(&mut env.udocker(&["create", "--name=c", "bb:1"]));
    // Any number of runs may share a full root.
    run(&mut env.udocker(&["inspect", "-p", "c"]));
    let mut other = env.udocker(&["run", "c", "sh", "-c", "echo; read line"]);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    other.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let output = env.udocker(&["run", "--rm", "c", "sh", "-c", "exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("in use"), "{}", stderr(&output));
    drop(other.stdin.take());
    other.wait().unwrap();
    assert_eq!(stdout(&run(&mut env.udocker(&["ps", "-q"]))).lines().count(), 1);
}

#[test]
fn a_mode_that_is_not_built_is_refused_by_name() {
    let env = ordinary();
    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"])));
    let first = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let refused = |mode: &str, asked: &str| {
        let text = format!(
            "Error: cannot run in the mode that {asked} asks for\n  caused by: mode {mode} is not built in this version\n  \
             hint: `--mode=auto` takes one that works here, `udocker doctor` lists them\n"
        );
        (Some(125), text)
    };
    let variable = "UDOCKER_DEFAULT_EXECUTION_MODE";
    assert_eq!(first(env.udocker(&["run", "c", "true"]).env(variable, "F1")), refused("F1", variable));
    assert_eq!(first(env.udocker(&["run", "bb:1", "true"]).env(variable, "F2")), refused("F2", variable));
    assert_eq!(first(env.udocker(&["run", "bb:1", "true"]).env(variable, "N1")), (Some(0), String::new()));
    assert_eq!(
        first(env.udocker(&["run", "--mode=auto", "bb:1", "true"]).env(variable, "P1")),
        (Some(0), String::new())
    );
    std::fs::write(env.store().join("containers").join(id.trim()).join("execmode"), "R1").unwrap();
    assert_eq!(first(&mut env.udocker(&["run", "c", "true"])), refused("R1", "`udocker setup --execmode`"));
    assert_eq!(first(&mut env.udocker(&["run", "--mode=N1", "c", "true"])), (Some(0), String::new()));
    assert_eq!(first(&mut env.udocker(&["run", "--mode=S1", "c", "true"])), refused("S1", "--mode"));
}

#[test]
fn wrong_command_lines_end_with_1_and_udocker_s_words() {
    let env = ordinary();
    for (words, first) in [
        (&["pull", "--nope"][..], "syntax error at: --nope"),
        (&["pull", "--nope=1", "x"], "syntax error at: --nope=1"),
        (&["rm", "-x"], "syntax error at: -x"),
        (&["images", "extra"], "syntax error at: extra"),
        (&["tag", "a", "b", "c"], "syntax error at: c"),
        (&["export", "a", "b", "c"], "syntax error at: c"),
        (&["create", "--name"], "syntax error at: --name"),
        (&["run", "-v"], "syntax error at: -v"),
        (&["run", "--rm=1", "bb:1"], "syntax error at: --rm=1"),
        (&["run", "-itx", "bb:1"], "syntax error at: -itx"),
        (&["--nope", "images"], "syntax error at: --nope"),
        (&["nope", "--nope"], "invalid command: nope"),
        (&["help", "nope"], "invalid command: nope"),
        (&["images", "--format=xml"], "invalid value of --format: xml"),
    ] {
        let output = env.udocker(words).output().unwrap();
        let error = stderr(&output);
        assert_eq!(
            (output.status.code(), error.lines().next()),
            (Some(1), Some(&*format!("Error: {first}"))),
            "{words:?}"
        );
        assert_eq!(stdout(&output), "", "{words:?}");
        assert!(error.lines().skip(1).all(|line| line.starts_with("  hint: ")), "{words:?}: {error}");
    }
}

#[test]
fn help_and_version_are_results_for_everybody() {
    let env = ordinary();
    let of = |words: &[&str]| {
        let output = env.udocker(words).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{words:?}");
        stdout(&output)
    };
    let whole = of(&[]);
    for words in [&["-h"][..], &["--help"], &["help"], &["", "help"]] {
        assert_eq!(of(words), whole, "{words:?}");
    }
    let pull = of(&["pull", "--help"]);
    for words in [&["help", "pull"][..], &["--help", "pull"], &["-h", "pull", "x"], &["pull", "x", "--help"]] {
        assert_eq!(of(words), pull, "{words:?}");
    }
    assert_eq!(of(&["help", "run"]), of(&["run", "-v", "/x", "--help"]));
    let version = of(&["version"]);
    assert!(version.starts_with("version: "), "{version}");
    assert_eq!((of(&["-V"]), of(&["--version"])), (version.clone(), version));
}

#[test]
fn root_is_refused_unless_allowed() {
    let program = udocker_tests::program("udocker");
    let output = std::process::Command::new("unshare").arg("-r").arg(program).arg("images").output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).lines().next()), (Some(1), Some("Error: do not run as root !")));
}

#[test]
fn streams_stay_apart_and_whole() {
    let env = image();
    let output = run(&mut env.udocker(&["run", "bb:1", "sh", "-c", "echo out; echo err >&2"]));
    assert_eq!((stdout(&output), stderr(&output)), ("out\n".into(), "err\n".into()));

    let sent: Vec<u8> = (0..16u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut command = env.udocker(&["run", "bb:1", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let mut received = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(received == sent, "{} bytes came of {}", received.len(), sent.len());
}

#[test]
fn volumes_are_bound_and_ro_is_kept() {
    let env = image();
    std::fs::create_dir(env.path("data")).unwrap();
    std::fs::write(env.path("data/file"), "content\n").unwrap();
    let data = env.path("data").display().to_string();
    let script = "cat /new/deep/file /f; echo more > /new/deep/other; echo x > /ro/no 2>/dev/null || echo refused";
    let volumes = [format!("{data}:/new/deep"), format!("{data}/file:/f"), format!("{data}:/ro:ro")];
    let words: Vec<&str> =
        ["run", "-v", &volumes[0], "-v", &volumes[1], "-v", &volumes[2], "bb:1", "sh", "-c", script].to_vec();
    let output = run(&mut env.udocker(&words));
    assert_eq!(stdout(&output), "content\ncontent\nrefused\n");
    assert_eq!(std::fs::read_to_string(env.path("data/other")).unwrap(), "more\n");
    // Scripts write `$PWD/../data`.
    let above = format!("{data}/../data/../data/file");
    let words = ["run", "-v", &format!("{above}:/f:ro"), "-v", &above, "bb:1", "cat", "/f", &format!("{data}/file")];
    assert_eq!(stdout(&run(&mut env.udocker(&words))), "content\ncontent\n");
    let output = env.udocker(&["run", "-v", "/tmp/../nothere:/x", "bb:1", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).starts_with("Error: invalid host volume path: /tmp/../nothere\n"), "{}", stderr(&output));
}

#[test]
fn writes_go_with_the_run_and_stay_in_a_container() {
    let env = image();
    let listing = |env: &TestEnv| stdout(&run(&mut env.udocker(&["run", "bb:1", "ls", "/"])));
    let before = listing(&env);
    run(&mut env.udocker(&["run", "bb:1", "touch", "/written"]));
    assert_eq!(listing(&env), before);

    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"])));
    run(&mut env.udocker(&["run", "c", "touch", "/written"]));
    assert!(stdout(&run(&mut env.udocker(&["run", "c", "ls", "/"]))).contains("written"));
    let listed = stdout(&run(&mut env.udocker(&["ps"])));
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains(id.trim()) && listed.contains("['c']"), "{listed}");
    let twice = env.udocker(&["create", "--name=c", "bb:1"]).output().unwrap();
    assert_eq!(
        (twice.status.code(), stderr(&twice).lines().next().unwrap_or("").to_owned()),
        (Some(1), "Error: container name already exists".into())
    );
    run(&mut env.udocker(&["rm", "c"]));
    assert_eq!(stdout(&run(&mut env.udocker(&["ps"]))).lines().count(), 1);
    assert_eq!(std::fs::read_dir(env.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn a_layered_container_becomes_a_full_one_with_all_its_changes() {
    let env = image();
    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"])));
    let change = "cd /; echo new > etc/new; echo changed > etc/group; rm bin/touch; rm -r tmp; mkdir tmp; echo x > tmp/x; \
                  rm bin/pwd; mkdir bin/pwd; echo in > bin/pwd/in; ln -s new etc/link; ln etc/new etc/hard; chmod 4711 etc/new; \
                  rm -r root";
    run(&mut env.udocker(&[
        "run",
        "c",
        "/bin/busybox",
        "sh",
        "-c",
        &change
            .replace("rm", "busybox rm")
            .replace("mkdir", "busybox mkdir")
            .replace("ln ", "busybox ln ")
            .replace("chmod", "busybox chmod"),
    ]));
    let look = "busybox find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -print | busybox sort; \
                cat /etc/new /etc/group /etc/link /tmp/x /bin/pwd/in";
    let inside = |env: &TestEnv| stdout(&run(&mut env.udocker(&["run", "c", "busybox", "sh", "-c", look])));
    let before = inside(&env);
    assert!(before.contains("/bin/pwd/in\n") && !before.contains("/bin/touch\n"), "{before}");
    let root = stdout(&run(&mut env.udocker(&["inspect", "-p", "c"])));
    let root = std::path::Path::new(root.trim());
    assert_eq!(root, env.path("store/containers").join(id.trim()).join("ROOT"));
    assert_eq!(inside(&env), before);
    assert_eq!(std::fs::read_to_string(root.join("etc/group")).unwrap(), "changed\n");
    let mut left: Vec<_> = root
        .parent()
        .unwrap()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["ROOT", "container.json", "imagerepo.name"]);
    // A second time nothing happens.
    assert_eq!(stdout(&run(&mut env.udocker(&["inspect", "-p", "c"]))).trim(), root.to_str().unwrap());
    assert_eq!(std::fs::read_dir(env.path("store/tmp")).unwrap().count(), 0);
}

#[test]
fn the_launcher_gives_a_read_only_root_in_place() {
    let env = image();
    let script = "touch /x 2>&1; echo $$; pwd";
    let mut command = env.launch(&["bb:1", "sh", "-c", script]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), format!("touch: /x: Read-only file system\n{pid}\n/\n"), "{}", stderr(&output));
    for (words, status, message) in [
        (&["bb:1", "nothere"][..], 127, "nothere"),
        (&["--pull=never", "no/such:1", "true"], 122, "no/such:1"),
        (&["--mount=/nothere:/x", "bb:1", "true"], 125, "cannot open the mount's source `/nothere`"),
        (&["--workdir=/nothere", "bb:1", "true"], 125, "cannot change to the working directory `/nothere`"),
        (&["--write=dir:/proc/no", "bb:1", "true"], 125, "cannot make /proc/no/upper"),
        (&["--mpi=none", "bb:1", "true"], 125, "option --mpi is not supported by this version"),
    ] {
        let output = env.launch(words).env("SLURM_PROCID", "3").output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", stderr(&output));
        assert!(
            stderr(&output).starts_with("udocker: [") && stderr(&output).contains(" task 3] "),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains(message), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn the_launcher_writes_where_it_is_told() {
    let env = ordinary();
    let directory = env.path("work/writes");
    let write = format!("--write=dir:{}", directory.display());
    run(&mut env.launch(&[&write, "bb:1", "touch", "/made"]));
    assert!(directory.join("upper/made").exists());
    assert_eq!(stdout(&run(&mut env.launch(&[&write, "bb:1", "ls", "/made"]))), "/made\n");
}

#[test]
fn the_launcher_shows_a_container_and_changes_nothing_in_it() {
    let env = image();
    run(&mut env.udocker(&["create", "--name=c", "bb:1"]));
    run(&mut env.udocker(&["run", "c", "touch", "/kept"]));
    for (command, what) in [
        (env.launch(&["c", "ls", "/kept"]), "the launcher"),
        (env.udocker(&["run", "--write=none", "c", "ls", "/kept"]), "run --write=none"),
        (env.launch(&["--write=tmpfs", "c", "sh", "-c", "touch /gone && ls /kept"]), "the launcher, in memory"),
    ] {
        let mut command = command;
        assert_eq!(stdout(&run(&mut command)), "/kept\n", "{what}");
    }
    for mut command in [env.launch(&["c", "touch", "/no"]), env.udocker(&["run", "--write=none", "c", "touch", "/no"])]
    {
        let refused = command.output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(stderr(&refused), "touch: /no: Read-only file system\n");
    }
    assert_eq!(
        stdout(&run(&mut env.udocker(&["run", "c", "sh", "-c", "ls -d /kept; ls /gone /no 2>/dev/null; true"]))),
        "/kept\n"
    );
    let refused = env.launch(&["--pull=always", "c", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--pull"), "{}", stderr(&refused));
}

/// A container that is a full copy is shown and written alike.
#[test]
fn a_full_container_is_shown_read_only_by_the_launcher() {
    let env = image();
    run(&mut env.udocker(&["create", "--name=c", "bb:1"]));
    run(&mut env.udocker(&["inspect", "-p", "c"]));
    run(&mut env.udocker(&["run", "c", "touch", "/kept"]));
    assert_eq!(stdout(&run(&mut env.launch(&["c", "ls", "/kept"]))), "/kept\n");
    assert_eq!(env.launch(&["c", "touch", "/no"]).output().unwrap().status.code(), Some(1));
    assert_eq!(env.udocker(&["run", "c", "ls", "/no"]).output().unwrap().status.code(), Some(1));
}

/// `/var/run` is a link to `/run` in most images, and a job has a tmpfs on `/run`.
#[test]
fn a_mount_through_a_link_of_the_image_lies_in_the_mount_that_it_leads_to() {
    let env = TestEnv::new();
    env.busybox_tar();
    let root = env.path("root");
    std::fs::create_dir_all(root.join("run/there")).unwrap();
    std::fs::create_dir_all(root.join("var")).unwrap();
    std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
    let tar = env.path("linked.tar");
    run(std::process::Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
    run(&mut env.udocker(&["import", tar.to_str().unwrap(), "linked:1"]));
    std::fs::create_dir(env.path("data")).unwrap();
    std::fs::write(env.path("data/file"), "content\n").unwrap();
    for write in ["none", "tmpfs"] {
        for place in ["there", "new"] {
            let write = format!("--write={write}");
            let mount = format!("--mount={}:/var/run/{place}:ro", env.path("data").display());
            let script = format!("cat /run/{place}/file; echo x > /run/{place}/no 2>/dev/null || echo refused");
            let output = run(&mut env.launch(&[&write, &mount, "linked:1", "sh", "-c", &script]));
            assert_eq!(stdout(&output), "content\nrefused\n", "{write} {mount}: {}", stderr(&output));
        }
    }
}

/// What `make test` links is what `make dist` ships: no loader, no shared library, a fixed address.
#[test]
fn the_launcher_needs_no_loader() {
    let path = std::env::var_os("UDOCKER_LAUNCH_BIN").expect("`make test` names the static launcher");
    let elf = std::fs::read(path).unwrap();
    let number =
        |at: usize, size: usize| elf[at..at + size].iter().rev().fold(0usize, |n, byte| n << 8 | *byte as usize);
    assert_eq!((&elf[..4], elf[4]), (&b"\x7fELF"[..], 2), "a 64-bit ELF file");
    assert_eq!(number(16, 2), 2, "ET_EXEC");
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|index| number(start + index * size, 4)).collect();
    assert!(
        kinds.contains(&1) && !kinds.contains(&2) && !kinds.contains(&3),
        "PT_LOAD, no PT_DYNAMIC, no PT_INTERP: {kinds:?}"
    );
}

#[test]
fn many_at_once_leave_nothing() {
    let env = image();
    let list = || {
        stdout(&run(std::process::Command::new("find")
            .arg(env.path("store"))
            .args(["-printf", "%p %y %m %s %T@ %i\n"])))
    };
    // The first run answers the probe.
    run(&mut env.udocker(&["run", "bb:1", "true"]));
    let before = list();
    let children: Vec<_> = (0..64).map(|_| env.udocker(&["run", "bb:1", "true"]).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(list(), before);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("udocker-test-"), "{mounts}");
}
