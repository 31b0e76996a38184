//! `user_session.sh`: every command in the order a user would type them, as an ordinary user, without a terminal and on
//! one, twice in a row in the same home; and in a home where the kernel refuses overlays.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use udocker_tests::images::Kind;
use udocker_tests::{Registry, TestEnv, stderr, stdout};

/// Where a session takes place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    NoTerminal,
    Terminal,
    /// The home lies on an overlay of an overlay, where the kernel refuses a third one as the upper of a container. Needs
    /// root, for the mounts.
    Overlay,
}

/// Mounts two overlays on one another, and goes on in a home on them as the user `$WHO`.
const ON_OVERLAYS: &str = r#"
    mkdir t && mount -t tmpfs none t && cd t && mkdir l0 u1 w1 m1 u2 w2 m2
    mount -t overlay one -o lowerdir=l0,upperdir=u1,workdir=w1 m1 || exit 99
    mount -t overlay two -o lowerdir=m1,upperdir=u2,workdir=w2 m2 || exit 99
    mkdir m2/home m2/work && chown "$WHO:$WHO" m2/home m2/work && cd m2/home && export HOME=$PWD && cd ../work
    for round in 1 2; do setpriv --reuid="$WHO" --regid="$WHO" --clear-groups bash "$@" || exit; done
    exec setpriv --reuid="$WHO" --regid="$WHO" --clear-groups sh -c '
        "$1" -q pull "$2/test/busybox:latest"
        "$1" -q create --name=last "$2/test/busybox:latest" >/dev/null && ls "$HOME/.udocker/containers/last"
        "$1" create "$2/test/busybox:latest" 2>&1 >/dev/null | grep -c "the container is a full copy, since cannot "' "$@"
"#;

fn session(place: Place) {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    registry.serve(Kind::Busybox);
    registry.serve(Kind::Multi);
    let closed = TestEnv::new();
    let login = Registry::start_with_password(&closed);
    // The checkout may lie where the ordinary user cannot look.
    let script = env.path("user_session.sh");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("user_session.sh"), &script).unwrap();
    let program = env.udocker(&[]).get_program().to_owned();
    let root = env.busybox_tar();
    let mut told = Vec::new();
    for _ in 0..2 {
        let mut command = match place {
            Place::Terminal => Command::new("script"),
            Place::NoTerminal => Command::new("bash"),
            Place::Overlay => Command::new("unshare"),
        };
        let words = [script.as_os_str(), &program, registry.host.as_ref(), login.host.as_ref(), root.as_os_str()];
        if place == Place::Overlay {
            command.args(["-m", "sh", "-c", ON_OVERLAYS, "sh"]).args(words);
        } else if place == Place::Terminal {
            let line = words.map(|word| word.to_str().expect("a path of ours")).join(" ");
            command.args(["-qec", &format!("bash {line}"), "/dev/null"]);
        } else {
            command.args(words);
        }
        command.env_clear().env("HOME", env.path("home")).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).current_dir(env.path("work"));
        if place == Place::Overlay {
            command.env("WHO", env.uid().unwrap_or_default().to_string()).current_dir(env.path("."));
            let text = stdout(&command.output().unwrap());
            let ended = " passed, 0 failed\n";
            assert_eq!(text.matches(ended).count(), 2, "{text}");
            assert!(text.ends_with(&format!("{ended}ROOT\ncontainer.json\nimagerepo.name\n1\n")), "{text}");
            return;
        }
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
    session(Place::NoTerminal);
}

#[test]
fn on_a_terminal() {
    session(Place::Terminal);
}

#[test]
fn where_overlays_are_refused() {
    session(Place::Overlay);
}
