//! Images that come before a job starts: by Slurm's Prolog on its nodes, as its user.
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use udocker_tests::cluster::{Cluster, Ended, Release};
use udocker_tests::images::Kind;
use udocker_tests::slurm_site::{is, plugin};
use udocker_tests::{FaultProxy, Registry, TestEnv, children, program, run, stdout};

/// The user of the clusters.
const TESTER: u32 = 2000;
/// A program that tells what only the image has.
const WHICH: [&str; 2] = ["cat", "/etc/arch"];

fn prolog() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spank-plugin/prolog.sh")
}

/// The prolog that we ship, with `udocker` where `program` lies.
fn prolog_with(env: &TestEnv, program: &Path) -> PathBuf {
    let path = env.own_directory("tools", 0o755).join("prolog.sh");
    let text = fs::read_to_string(prolog()).unwrap();
    let named = text.replace("\nudocker=/usr/bin/udocker\n", &format!("\nudocker={}\n", program.display()));
    assert_ne!(named, text);
    fs::write(&path, named).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Writes into the prolog where the site's file is.
fn tell_config(prolog: &Path, path: &str) {
    let text = fs::read_to_string(prolog).unwrap();
    let told = text.replace("\nconfig= ", &format!("\nconfig={path} "));
    assert_ne!(told, text);
    fs::write(prolog, told).unwrap();
}

/// A cluster whose launcher has no `udocker` beside it: a task runs if its image came before.
fn cluster(env: &TestEnv, site: &str, conf: &str) -> Cluster {
    let tools = env.own_directory("tools", 0o755);
    let udocker = tools.join("udocker");
    fs::copy(program("udocker"), &udocker).unwrap();
    let prolog = prolog_with(env, &udocker);
    let launcher = env.own_directory("tools/launcher", 0o755).join("udocker-launch");
    fs::copy(env.launch(&[]).get_program(), &launcher).unwrap();
    let line = format!("required {} launcher={}\n", plugin(Release::Bookworm).display(), launcher.display());
    let files = [("slurm/plugstack.conf", line.as_str()), ("udocker/site.toml", site)];
    Cluster::up_with(Release::Bookworm, &[&tools], &files, &format!("Prolog={}\n{conf}", prolog.display()))
}

/// What `udocker site check --node` says of the prolog.
fn checked(env: &TestEnv, cluster: &Cluster) -> String {
    let tools = env.path("tools").display().to_string();
    let (_, out, _) = cluster.run_as_root("n1", &[&format!("{tools}/udocker"), "site", "check", "--node"]);
    out.lines().filter(|line| line.starts_with("Prolog")).map(|line| line.replace(&tools, "DIR")).collect()
}

fn srun(cluster: &Cluster, variables: &[&str], image: &str) -> Ended {
    let image = format!("--udocker-image={image}");
    without_udocker(cluster.run(variables, &[&["srun", "-Q", "-N2", "-n2", &image], &WHICH[..]].concat()))
}

/// What came of a command, but that no `udocker` lies beside the launcher: the client says so each time.
fn without_udocker((status, out, err): Ended) -> Ended {
    let is_told =
        |line: &&str| line.starts_with("srun: udocker: warning: ") && line.contains(" is not pinned to a digest");
    assert_eq!(err.lines().filter(is_told).count(), 1, "{err}");
    (status, out, err.split_inclusive('\n').filter(|line| !is_told(line)).collect())
}

/// What the two nodes' slurmd wrote of us.
fn logs(cluster: &Cluster) -> String {
    let log = |node: &str| {
        let (_, text, _) = cluster.run_as_root(node, &["cat", &format!("/var/log/slurm/slurmd.{node}.log")]);
        text
    };
    ["n1", "n2"].map(log).concat()
}

/// Everything in `directory` is the user's.
fn assert_of_tester(directory: &Path) {
    let found = stdout(&run(Command::new("find").arg(directory).args(["!", "-uid", &TESTER.to_string()])));
    assert_eq!(found, "");
}

#[test]
fn a_prolog_has_the_image_before_the_task_starts() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let tag = registry.serve(Kind::Multi);
    let proxy = FaultProxy::start(&registry.host, 1);
    let reference = tag.replace(&registry.host, &proxy.host);
    let site = "[stage]\nwhen = \"prolog\"\nstore = \"staged\"\n\
                [[store]]\nname = \"staged\"\npath = \"/home/{user}/staged\"\nkind = \"user\"\n";
    let cluster = cluster(&env, site, "PrologFlags=Alloc\n");
    assert_eq!(checked(&env, &cluster), "Prolog: good: DIR/prolog.sh makes images ready");
    let ran = is(0, "amd64\namd64\n", "");
    assert_eq!(srun(&cluster, &[], &reference), ran, "{}", logs(&cluster));
    let requests = proxy.requests();
    let blobs = requests.iter().filter(|request| request.contains("/blobs/")).count();
    let layers = Kind::Multi.image().manifest("amd64")["layers"].as_array().unwrap().len();
    assert_eq!((blobs, requests.len()), (layers + 1, layers + 3), "{requests:?}");
    let staged = cluster.home().join("staged");
    assert_eq!(children(&staged.join("rootfs/1")).len(), 1);
    assert!(!cluster.home().join(".udocker/rootfs").exists());
    assert_of_tester(&cluster.home());
    // Who names a store of his own has it there; a script's own steps find what its job's prolog brought.
    let image = format!("--udocker-image={}", registry.serve(Kind::Busybox));
    let words = ["srun", "-Q", "-n1", &image, "sh", "-c", "[ -e /usr/bin/env ] || echo inside"];
    let ended = without_udocker(cluster.run(&["UDOCKER_DIR=own"], &words));
    assert_eq!(ended, is(0, "inside\n", ""), "{}", logs(&cluster));
    let own = cluster.home().join("own");
    assert_eq!((children(&own.join("rootfs/1")).len(), fs::metadata(&own).unwrap().uid()), (1, TESTER));
    let script =
        format!("#!/bin/sh\n#SBATCH -N1 -o out -W --udocker-image={reference}\ncat /etc/arch\nsrun cat /etc/arch\n");
    fs::write(cluster.home().join("script"), script).unwrap();
    let (status, _, err) = cluster.run(&[], &["sbatch", "script"]);
    let out = fs::read_to_string(cluster.home().join("out")).unwrap();
    assert_eq!((status, out.as_str()), (0, "amd64\namd64\n"), "{err}");
    // A site whose file lies elsewhere names it to the plugin and to the prolog.
    let etc = cluster.etc();
    fs::create_dir(etc.join("elsewhere")).unwrap();
    fs::rename(etc.join("udocker/site.toml"), etc.join("elsewhere/site.toml")).unwrap();
    let line = fs::read_to_string(etc.join("slurm/plugstack.conf")).unwrap();
    fs::write(etc.join("slurm/plugstack.conf"), format!("{} config=/etc/elsewhere/site.toml\n", line.trim_end()))
        .unwrap();
    let again = registry.publish(&Kind::Multi.image(), "again");
    let tag = staged.join("repos").join(again.replace(":latest", "/latest"));
    cluster.idle();
    let (status, _, err) = srun(&cluster, &[], &again);
    assert_eq!((status, tag.exists()), (122, false), "{err}");
    let other = "Prolog: wrong: DIR/prolog.sh does not name /etc/elsewhere/site.toml, and reads another site.toml than the \
                 plugin's line; hint: `config=` in the script names the file of the plugin's line";
    assert_eq!(checked(&env, &cluster), other);
    tell_config(&env.path("tools/prolog.sh"), "/etc/elsewhere/site.toml");
    assert_eq!(checked(&env, &cluster), "Prolog: good: DIR/prolog.sh makes images ready");
    cluster.idle();
    assert_eq!(srun(&cluster, &[], &again), ran, "{}", logs(&cluster));
    assert!(tag.exists());
    cluster.idle();
    assert_eq!(cluster.down(), "");
}

/// What cannot be staged drains no node, and the job is told; where images come at the start, the prolog does nothing.
#[test]
fn a_prolog_that_cannot_stage_drains_no_node() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Multi);
    let cluster = cluster(&env, "[stage]\nwhen = \"prolog\"\n", "");
    let note =
        "Prolog: note: DIR/prolog.sh makes images ready; without PrologFlags=Alloc one that takes long costs the step";
    assert_eq!(checked(&env, &cluster), note);
    let missing = reference.replace("/test/", "/nothere/");
    let (status, out, err) = srun(&cluster, &[], &missing);
    assert_eq!((status, out.as_str()), (122, ""), "{err}");
    assert!(err.contains(&format!("cannot run `udocker stage` for {missing}")), "{err}");
    cluster.idle();
    let script = fs::read_to_string(env.path("tools/prolog.sh")).unwrap();
    fs::write(env.path("tools/prolog.sh"), "#!/bin/sh\n").unwrap();
    let wrong = "Prolog: wrong: DIR/prolog.sh makes no image ready, and `stage.when` of site.toml is \"prolog\"; \
                 hint: make the script of docs/admin/slurm.md your Prolog, or its last lines";
    assert_eq!(checked(&env, &cluster), wrong);
    fs::write(env.path("tools/prolog.sh"), script).unwrap();
    // The file that the prolog reads is the site's, and says another thing from now on.
    fs::write(cluster.etc().join("udocker/site.toml"), "[stage]\nwhen = \"start\"\n").unwrap();
    assert_eq!(checked(&env, &cluster), "");
    let (status, _, err) = srun(&cluster, &[], &reference);
    assert_eq!(status, 122, "{err}");
    assert!(err.contains(&format!("cannot run `udocker stage` for {reference}")), "{err}");
    assert!(!cluster.home().join(".udocker/rootfs").exists());
    // Who asks for no container meets no prolog of ours.
    assert_eq!(cluster.run(&[], &["srun", "-Q", "-N2", "true"]), is(0, "", ""));
    cluster.idle();
    assert_eq!(cluster.down(), "");
}

/// The request is a user's text: the script, which begins as root, hands it on and is the user before anything reads it.
#[test]
fn the_prolog_is_its_user_before_it_reads_what_he_sent() {
    let env = TestEnv::ordinary();
    let tools = env.own_directory("tools", 0o755);
    let (udocker, told) = (tools.join("udocker"), tools.join("told"));
    let script = "#!/bin/sh\n{ id -u; id -g; id -G; grep -E '^Cap(Prm|Eff|Inh)' /proc/self/status | cut -f2 | sort -u; echo \"$@\"\n\
                  printf '%s\\n' \"$HOME $USER $UDOCKER_DIR ${SLURM_UDOCKER_CONFIG-none} $UDOCKER_REQUEST\"; for fd in /proc/self/fd/*; do readlink $fd; done | cut -d: -f1\n\
                  } >TOLD\necho said; exit 1\n";
    fs::write(&udocker, script.replace("TOLD", &told.display().to_string())).unwrap();
    fs::set_permissions(&udocker, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&told, "").unwrap();
    fs::set_permissions(&told, fs::Permissions::from_mode(0o666)).unwrap();
    let prolog = prolog_with(&env, &udocker);
    // An account of every Debian.
    let (uid, trap) = ("65534", tools.join("trap"));
    let request = format!("$(touch {0}) `touch {0}` ; touch {0} \"'\\n --allow-root", trap.display());
    // As slurmd's Prolog, with a stray descriptor; and a syslog that we read.
    let log = tools.join("log");
    let syslog = UnixDatagram::bind(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = Command::new("unshare");
    let machine = "exec 7>/dev/full; mount -t tmpfs dev /mnt && touch /mnt/null && mount --bind /dev/null /mnt/null && \
                   ln -s $LOG /mnt/log && mount --move /mnt /dev && unset LOG && exec \"$0\"";
    command.args(["-m", "sh", "-c", machine]).arg(&prolog).env_clear().env("LOG", &log);
    command.env("PATH", "/usr/bin:/bin").envs([("SLURM_JOB_UID", uid), ("SPANK_UDOCKER_DIR", "/a b")]);
    assert_eq!(stdout(&run(command.env("SPANK_UDOCKER_REQUEST", &request))), "");
    syslog.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut line = [0; 1024];
    let length = syslog.recv(&mut line).unwrap();
    assert!(line[..length].ends_with(b" udocker-prolog: said"), "{}", String::from_utf8_lossy(&line[..length]));
    let told = fs::read_to_string(told).unwrap();
    let (head, fds) = told.split_at(told.find("/nonexistent").unwrap());
    assert_eq!(head, "65534\n65534\n65534\n0000000000000000\n--allow-root stage --when=prolog\n");
    let mut lines = fds.lines();
    assert_eq!(lines.next(), Some(format!("/nonexistent nobody /a b none {request}").as_str()));
    assert!(!lines.any(|line| line == "/dev/full"), "{fds}");
    assert!(!trap.exists());
}

/// One that ignores signals, and leaves a process behind that keeps the pipe to syslog open.
#[test]
fn the_prolog_ends_whatever_runs_in_it() {
    let env = TestEnv::ordinary();
    let udocker = env.own_directory("tools", 0o755).join("udocker");
    fs::write(&udocker, "#!/bin/sh\ntrap '' TERM\nsetsid sleep 60 &\nwhile :; do sleep 1; done\n").unwrap();
    fs::set_permissions(&udocker, fs::Permissions::from_mode(0o755)).unwrap();
    let prolog = prolog_with(&env, &udocker);
    let text = fs::read_to_string(&prolog).unwrap();
    fs::write(&prolog, text.replace("\nlimit=900 ", "\nlimit=1 ")).unwrap();
    let since = Instant::now();
    let mut command = Command::new(&prolog);
    command.env_clear().envs([("SLURM_JOB_UID", "65534"), ("SPANK_UDOCKER_REQUEST", "{}")]);
    assert_eq!(stdout(&run(&mut command)), "");
    // A second, five until it is killed, eleven for the log.
    assert!((5..50).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
}
