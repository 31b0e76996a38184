//! `--explain`: the whole of a run, with who asked for each part; nothing runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use udocker_core::run::{RunRequest, Share};
use udocker_tests::{ORDINARY_USER, TestEnv, children, run, stdout};

const SITE: &str = "\
[mounts]
forced = [\"/srv:/site:ro\"]
tmp = \"private\"
home = false
[env]
set = { LICENSE = \"site\" }
prepend = { PATH = \"/site/bin\" }
[run]
user = \"self\"
share = \"task\"
[modes]
preference = [\"N1\", \"P2\"]
[limits]
tmpfs_default = \"1G\"
";

fn user() -> TestEnv {
    let mut env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    for name in ["open", "data", "home"] {
        env.own_directory(name, 0o755);
    }
    let profile = env.path("home/.config/udocker/profiles/p.toml");
    fs::create_dir_all(profile.parent().unwrap()).unwrap();
    fs::write(&profile, format!("mount = [\"{}:/m\"]\nenv = \"A=profile\"\n", env.path("open").display())).unwrap();
    fs::set_permissions(&profile, fs::Permissions::from_mode(0o644)).unwrap();
    chown(&profile, Some(ORDINARY_USER), None).unwrap();
    env.set_site(SITE);
    env
}

/// What `command` prints, with two blanks between columns, DIR for the test's directory and TREE for the image's root.
fn told(env: &TestEnv, command: &mut Command) -> String {
    let tree = env.only_tree();
    let id = tree.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let text =
        stdout(&run(command)).replace(tree.to_str().unwrap(), "TREE").replace(&id[..32], "ID").replace(&id[..8], "ID8");
    let run_dir = [format!("/run/udocker/{ORDINARY_USER}"), format!("/dev/shm/udocker-{ORDINARY_USER}")];
    let text = run_dir.iter().fold(text, |text, directory| text.replace(directory, "RUN"));
    let text = text.replace(env.path("").to_str().unwrap().trim_end_matches('/'), "DIR");
    let line = |line: &str| {
        let columns: Vec<_> = line.trim().split("  ").map(str::trim).filter(|text| !text.is_empty()).collect();
        let indent = if line.starts_with(' ') { "  " } else { "" };
        format!("{indent}{}\n", columns.join("  "))
    };
    text.lines().map(line).collect()
}

const JOB: &str = "\
run
  image  bb:1  command line
  root  TREE  store
  mode  N1  automatic by /etc/udocker/site.toml:12:14
  user  self (uid 65533, gid 65533)  /etc/udocker/site.toml:9:8
  entrypoint  none  default
  write  none  default
  home  hidden  /etc/udocker/site.toml:4:8
  workdir  /  the current directory
  command  touch /m/ran  command line
  share  task  /etc/udocker/site.toml:10:9
mounts
  /m  DIR/open  DIR/home/.config/udocker/profiles/p.toml:1:10
  /d  DIR/data, read-only  --mount
  /site  /srv, read-only  /etc/udocker/site.toml:2:11
  /dev  /dev, optional  default
  /proc  /proc, optional  default
  /sys  /sys, optional  default
  /tmp  tmpfs, optional  /etc/udocker/site.toml:3:7
  /run  tmpfs, optional  default
  /etc/resolv.conf  /etc/resolv.conf, optional  default
  /etc/host.conf  /etc/host.conf, optional  default
  /etc/hosts  /etc/hosts, optional  default
  /var/tmp  tmpfs, optional  /etc/udocker/site.toml:3:7
  /run/user/65533  RUN/xdg, optional  XDG_RUNTIME_DIR
devices
  /dev  /dev, optional  default
environment
  HOME  /  the user's account
  UDOCKER_DIR  DIR/store  host
  LANG  C  host
  UDOCKER_ENV  B=variable  host
  UDOCKER_INSIDE  ID  default
  XDG_RUNTIME_DIR  /run/user/65533  default
  PATH  /site/bin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin  /etc/udocker/site.toml:7:13
  LICENSE  site  /etc/udocker/site.toml:6:9
  A  profile  DIR/home/.config/udocker/profiles/p.toml:2:7
  B  variable  UDOCKER_ENV
  C  word  --env
";

const BY_HAND: &str = "\
run
  image  bb:1  command line
  root  TREE  store
  mode  N1  automatic by /etc/udocker/site.toml:12:14
  user  5:6 (uid 5, gid 6)  --user
  entrypoint  the image's  default
  write  tmpfs of 1073741824 bytes  default
  home  hidden  default
  workdir  /  default
  command  touch /m/ran  command line
mounts
  /m  DIR/open  DIR/home/.config/udocker/profiles/p.toml:1:10
  /t  tmpfs  --tmpfs
  /site  /srv, read-only  /etc/udocker/site.toml:2:11
  /dev  /dev, optional  default
  /proc  /proc, optional  default
  /sys  /sys, optional  default
  /etc/resolv.conf  /etc/resolv.conf, optional  default
  /etc/host.conf  /etc/host.conf, optional  default
  /lib/modules  /lib/modules, optional  default
devices
  /dev  /dev, optional  default
environment
  HOME  /  the user's account
  USER  u5  default
  LOGNAME  u5  default
  USERNAME  u5  default
  PS1  ID8\\$  default
  SHLVL  0  default
  container_ruser  u65533  default
  container_root  TREE  default
  container_uuid  ID  default
  container_execmode  N1  default
  container_names  default
  PATH  /site/bin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin  /etc/udocker/site.toml:7:13
  LICENSE  site  /etc/udocker/site.toml:6:9
  A  profile  DIR/home/.config/udocker/profiles/p.toml:2:7
  C  word  --env
";

/// The columns of the line for `name`.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let start = format!("  {name}  ");
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_job_tells_who_asked_for_each_part() {
    let env = user();
    let data = format!("--mount={}:/d:ro", env.path("data").display());
    let words = ["--explain", "--profile=p", &data, "--env=C=word", "bb:1", "touch", "/m/ran"];
    let mut command = env.launch(&words);
    command.env("UDOCKER_ENV", "B=variable").env("LANG", "C");
    assert_eq!(told(&env, &mut command), JOB);
    assert_eq!(children(&env.path("open")), Vec::<std::path::PathBuf>::new(), "nothing ran");
    // The word stands for the option.
    let mut command = env.launch(&[&["explain"], &words[1..]].concat());
    command.env("UDOCKER_ENV", "B=variable").env("LANG", "C");
    assert_eq!(told(&env, &mut command), JOB);
    let mut command = env.launch(&[&["--format=json"], &words[..]].concat());
    command.env("UDOCKER_ENV", "B=variable").env("LANG", "C");
    let json: serde_json::Value = serde_json::from_slice(&run(&mut command).stdout).unwrap();
    for (section, title) in [("run", "run"), ("mounts", "mounts"), ("devices", "devices"), ("env", "environment")] {
        let in_text = JOB.lines().skip_while(|line| *line != title).skip(1).take_while(|line| line.starts_with(' '));
        assert_eq!(json[section].as_array().unwrap().len(), in_text.count(), "{section}");
    }
    let expected = serde_json::json!({ "name": "C", "value": "word", "origin": "--env" });
    assert_eq!(json["env"].as_array().unwrap().last().unwrap(), &expected);
}

/// Of the ranks of a node one tells it.
#[test]
fn a_step_is_explained_once_per_node() {
    let env = user();
    let told = |step: &str, rank: &str| {
        let mut command = env.launch(&["--explain", "bb:1", "true"]);
        command.envs([("SLURM_JOB_ID", "5"), ("SLURM_STEP_ID", step), ("SLURM_PROCID", rank), ("SLURM_LOCALID", rank)]);
        stdout(&run(&mut command)).lines().next().unwrap_or_default().to_owned()
    };
    let steps = [("0", "1"), ("0", "0"), ("0", "2"), ("0", "1"), ("1", "0"), ("1", "1")];
    assert_eq!(steps.map(|(step, rank)| told(step, rank)), ["run", "", "", "run", "run", ""]);
}

#[test]
fn a_run_by_hand_tells_the_same() {
    let env = user();
    let words =
        ["run", "--explain", "--profile=p", "--tmpfs=/t", "-e", "C=word", "-u", "5:6", "bb:1", "touch", "/m/ran"];
    assert_eq!(told(&env, &mut env.udocker(&words)), BY_HAND);
    assert_eq!(children(&env.path("open")), Vec::<std::path::PathBuf>::new(), "nothing ran");
    run(&mut env.udocker(&["run", "--explain", "--name=n", "bb:1", "true"]));
    assert_eq!(children(&env.store().join("containers")), Vec::<std::path::PathBuf>::new(), "nothing was made");
    let json: serde_json::Value =
        serde_json::from_slice(&run(&mut env.udocker(&["run", "--explain", "--format=json", "bb:1"])).stdout).unwrap();
    let command = json["run"].as_array().unwrap().iter().find(|part| part["name"] == "command").unwrap();
    assert_eq!(command, &serde_json::json!({ "name": "command", "value": "sh -i", "origin": "default" }));
}

#[test]
fn whoever_decides_is_named() {
    let env = user();
    let explain = |words: &[&str]| told(&env, &mut env.launch(&[&["--explain"], words].concat()));
    let text = explain(&["--mode=P2", "--home", "--user=self", "bb:1", "true"]);
    assert_eq!(line(&text, "mode"), "P2  --mode");
    assert_eq!(line(&text, "home"), "visible  --home");
    assert_eq!(line(&text, "user"), "self (uid 65533, gid 65533)  --user");
    let layer = format!("--write=dir:{}", env.path("open/w").display());
    assert_eq!(line(&explain(&[&layer, "bb:1", "true"]), "write"), "layer in DIR/open/w/upper  --write");
    assert_eq!(children(&env.path("open")), Vec::<std::path::PathBuf>::new(), "nothing was made");
    // A request that somebody else has made, and a word over it.
    let request = RunRequest {
        share: Some(Share::Node),
        mounts: vec!["/srv:/a".parse().unwrap()],
        env: vec!["A=1".parse().unwrap()],
        ..RunRequest::of_job("bb:1")
    };
    let mut command = env.launch(&["--explain", "--env=B=2", "--", "true"]);
    command.env("UDOCKER_REQUEST", request.to_json().unwrap());
    let text = told(&env, &mut command);
    assert_eq!(line(&text, "image"), "bb:1  UDOCKER_REQUEST");
    assert_eq!(line(&text, "share"), "node  UDOCKER_REQUEST");
    assert_eq!(line(&text, "/a"), "/srv  UDOCKER_REQUEST");
    assert_eq!(line(&text, "user"), "self (uid 65533, gid 65533)  /etc/udocker/site.toml:9:8");
    assert_eq!((line(&text, "A"), line(&text, "B")), ("1  UDOCKER_REQUEST", "2  --env"));
    // A container, and its setup.
    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "bb:1"]))).trim().to_owned();
    run(&mut env.udocker(&["setup", "--execmode=P2", "c"]));
    let text = told(&env, &mut env.udocker(&["run", "--explain", "c", "true"]));
    assert_eq!(line(&text, "mode"), format!("P2  the setup of container {id}"));
    assert_eq!(line(&text, "write"), "in place  default");
    let text = told(&env, &mut env.udocker(&["run", "--explain", "--mode=auto", "--write=none", "c", "true"]));
    assert_eq!(line(&text, "mode"), "N1  automatic by /etc/udocker/site.toml:12:14");
    assert_eq!(line(&text, "write"), "none  --write");
}
