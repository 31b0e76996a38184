//! Programs of three images under `udocker run`: streams, statuses, volumes, a terminal, signals, the process itself.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use udocker_tests::images::Kind;
use udocker_tests::random::Random;
use udocker_tests::{Registry, TestEnv, code, run, stderr, stdout};

/// A store with the image of `kind`, and the image's name.
fn pulled(kind: Kind) -> (TestEnv, Registry, String) {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.serve(kind);
    run(&mut env.udocker(&["pull", &reference]));
    (env, registry, reference)
}

/// Everything of this file in one image, which is pulled once.
fn programs_run_as_if_called_directly(kind: Kind, statuses: &[i32]) {
    let (env, _registry, image) = pulled(kind);
    streams(&env, &image);
    for status in statuses {
        let output = env.udocker(&["run", &image, "sh", "-c", &format!("exit {status}")]).output().unwrap();
        assert_eq!(
            (output.status.code(), stdout(&output), stderr(&output)),
            (Some(*status), String::new(), String::new())
        );
    }
    signals(&env, &image);
    volumes(&env, &image);
    terminal(&env, &image);
}

#[test]
fn in_busybox() {
    programs_run_as_if_called_directly(Kind::Busybox, &(0..=255).collect::<Vec<_>>());
}

#[test]
fn in_debian_minbase() {
    programs_run_as_if_called_directly(Kind::Minbase, &(0..=255).collect::<Vec<_>>());
}

#[test]
fn in_a_python_science_stack() {
    programs_run_as_if_called_directly(Kind::Science, &(0..=255).collect::<Vec<_>>());
}

#[test]
fn python_finds_its_compiled_modules_fresh() {
    let (env, _registry, image) = pulled(Kind::Science);
    let script = "import numpy, scipy.linalg as l; print(l.det(numpy.eye(3) * 2)); \
                  import importlib.util as u, os; s = u.find_spec('numpy'); \
                  print(os.stat(s.origin).st_mtime_ns % 10**9)";
    let output = run(&mut env.udocker(&["run", &image, "python3", "-c", script]));
    assert_eq!(stdout(&output), "8.0\n0\n", "{}", stderr(&output));
}

fn streams(env: &TestEnv, image: &str) {
    let output = run(&mut env.udocker(&["run", image, "sh", "-c", "echo out; echo err >&2"]));
    assert_eq!((stdout(&output), stderr(&output)), ("out\n".into(), "err\n".into()));
    let sent = Random::new(1).bytes(100 << 20);
    let mut child = env.udocker(&["run", image, "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut received = Vec::with_capacity(sent.len());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            input.write_all(&sent).unwrap();
            drop(input);
        });
        child.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    });
    assert!(child.wait().unwrap().success());
    assert!(received == sent, "{} bytes came of {}", received.len(), sent.len());
}

fn signals(env: &TestEnv, image: &str) {
    for (name, number) in [("TERM", 15), ("INT", 2), ("USR1", 10), ("HUP", 1), ("KILL", 9), ("SEGV", 11)] {
        // Uncaught: the shell that waits for udocker shows 128 + n.
        let output = env.udocker(&["run", image, "sh", "-c", &format!("kill -{name} $$")]).output().unwrap();
        assert_eq!(code(&output), 128 + number, "{name}: {}", stderr(&output));
    }
    for (name, number) in [("TERM", 15), ("INT", 2), ("USR1", 10)] {
        let script = format!("trap 'echo caught {name}; exit 42' {name}; echo $$ $PPID; while :; do sleep 0.05; done");
        let mut child = env.udocker(&["run", image, "sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let identity = lines.next().unwrap().unwrap();
        assert_eq!(identity, format!("{} {}", child.id(), std::process::id()), "exec in place keeps PID and parent");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::from_named_raw(number).unwrap()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("caught {name}"));
        assert_eq!(child.wait().unwrap().code(), Some(42), "{name}");
    }
}

fn volumes(env: &TestEnv, image: &str) {
    let data = env.own_directory("data", 0o755);
    fs::write(data.join("file"), "content\n").unwrap();
    let writable = env.own_directory("writable", 0o755);
    let (data, writable) = (data.display().to_string(), writable.display().to_string());
    let script = "cat /file /new/deep/file; echo more > /w/made; for d in /ro /ro/sub; do echo x > $d/no 2>/dev/null || echo refused; done; \
                  echo x >> /file-ro 2>/dev/null || echo refused; cat /ro/file";
    fs::create_dir_all(format!("{data}/sub")).unwrap();
    let volumes = [
        format!("{data}/file:/file"),
        format!("{data}:/new/deep"),
        format!("{writable}:/w"),
        format!("{data}:/ro:ro"),
        format!("{data}/file:/file-ro:ro"),
    ];
    let mut words = vec!["run"];
    for volume in &volumes {
        words.extend(["-v", volume]);
    }
    words.extend([image, "sh", "-c", script]);
    let output = run(&mut env.udocker(&words));
    assert_eq!(stdout(&output), "content\ncontent\nrefused\nrefused\nrefused\ncontent\n", "{}", stderr(&output));
    assert_eq!(fs::read_to_string(format!("{writable}/made")).unwrap(), "more\n");
    assert_eq!(fs::read_to_string(format!("{data}/file")).unwrap(), "content\n");
    fs::remove_file(format!("{writable}/made")).unwrap();
}

/// Runs the command on a terminal of 33 lines and 77 columns, types `^C` at "ready", and prints what appeared.
const PTY: &str = r#"
import fcntl, os, pty, struct, sys, termios
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    os.execv(sys.argv[1], sys.argv[1:])
seen, typed = b"", False
while True:
    try:
        part = os.read(master, 4096)
    except OSError:
        break
    if not part:
        break
    seen += part
    if b"ready" in seen and not typed:
        os.write(master, b"\x03")
        typed = True
_, status = os.waitpid(pid, 0)
sys.stdout.write(seen.decode().replace("\r\n", "\n").replace("^C", ""))
sys.exit(os.waitstatus_to_exitcode(status))
"#;

fn terminal(env: &TestEnv, image: &str) {
    let script = "test -t 0 && test -t 1 && test -t 2 && echo all three; stty size; \
                  trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.05; done";
    let inner = env.udocker(&["run", image, "sh", "-c", script]);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PTY]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(uid) = env.uid() {
        std::os::unix::process::CommandExt::gid(std::os::unix::process::CommandExt::uid(&mut command, uid), uid);
    }
    let output = command.output().unwrap();
    assert_eq!(
        (output.status.code(), &*stdout(&output)),
        (Some(7), "all three\n33 77\nready\ninterrupted\n"),
        "{}",
        stderr(&output)
    );
}
