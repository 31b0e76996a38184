//! `user_session.sh`: every command in the order a user would type them, as an ordinary user, without a terminal and on
//! one, twice in a row in the same home.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use udocker_tests::images::Kind;
use udocker_tests::{Registry, TestEnv, stderr, stdout};

/// A docker-registry that knows the user alice with the password `U*U` (a test vector of crypt_blowfish).
struct LoginRegistry(Child, String);

impl LoginRegistry {
    fn start(env: &TestEnv) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let (passwords, data, file) = (env.path("htpasswd"), env.path("login-registry"), env.path("login.yml"));
        fs::write(&passwords, "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n").unwrap();
        fs::create_dir_all(&data).unwrap();
        let configuration = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '{host}'}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            data.display(),
            passwords.display()
        );
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("docker-registry");
        let child = command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let this = Self(child.expect("docker-registry of the package of that name"), host);
        let since = Instant::now();
        while std::net::TcpStream::connect(&this.1).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20), "the registry does not listen");
            std::thread::yield_now();
        }
        this
    }
}

impl Drop for LoginRegistry {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn session(terminal: bool) {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    registry.serve(Kind::Busybox);
    registry.serve(Kind::Multi);
    let login = LoginRegistry::start(&env);
    // The checkout may lie where the ordinary user cannot look.
    let script = env.path("user_session.sh");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("user_session.sh"), &script).unwrap();
    let program = env.udocker(&[]).get_program().to_owned();
    let root = env.busybox_tar();
    let mut told = Vec::new();
    for _ in 0..2 {
        let mut command = match terminal {
            true => Command::new("script"),
            false => Command::new("bash"),
        };
        let words = [script.as_os_str(), &program, registry.host.as_ref(), login.1.as_ref(), root.as_os_str()];
        if terminal {
            let line = words.map(|word| word.to_str().expect("a path of ours")).join(" ");
            command.args(["-qec", &format!("bash {line}"), "/dev/null"]);
        } else {
            command.args(words);
        }
        command.env_clear().env("HOME", env.path("home")).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).current_dir(env.path("work"));
        if let Some(uid) = env.uid() {
            std::os::unix::process::CommandExt::gid(std::os::unix::process::CommandExt::uid(&mut command, uid), uid);
        }
        let output = command.output().unwrap();
        let text = stdout(&output).replace("\r\n", "\n");
        assert!(output.status.success() && text.ends_with(" passed, 0 failed\n"), "{text}{}", stderr(&output));
        told.push(text);
    }
    assert_eq!(told[0], told[1]);
}

#[test]
fn without_a_terminal() {
    session(false);
}

#[test]
fn on_a_terminal() {
    session(true);
}
