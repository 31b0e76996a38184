//! `udocker exec` and `udocker-launch exec`: one more program in a container that runs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use udocker_tests::{TestEnv, code, run, stderr, stdout};

/// A container in which a shell waits until its standard input ends.
struct Running {
    child: Child,
    /// Its mount namespace.
    namespace: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
        Self { child, namespace: line.trim_end().to_owned() }
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("a child").success());
    }
}

const WAIT: &str = "readlink /proc/self/ns/mnt; read line; true";
/// Tells where it is, what it was given, and ends with a status of its own.
const LOOK: &str = "readlink /proc/self/ns/mnt; echo $FIRST $SECOND $PMIX_RANK; pwd; cat /tmp/note; exit 7";

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.import_busybox("i");
    env
}

fn refused(output: &Output, status: i32, text: &str) {
    assert_eq!((code(output), stdout(output).as_str(), stderr(output).as_str()), (status, "", text));
}

#[test]
fn a_command_enters_a_container_that_runs() {
    let env = env();
    let id = stdout(&run(&mut env.udocker(&["create", "--name=c", "i"])));
    let id = id.trim_end();
    let idle = format!(
        "Error: cannot run a command in container {id}: nothing runs in it on this machine in mode N1\n  hint: `udocker run {id}` \
         starts it; the other modes have no namespaces that can be entered\n"
    );
    refused(&env.udocker(&["exec", "c", "true"]).output().unwrap(), 125, &idle);

    let script = format!("echo inside >/tmp/note; cd /etc; {WAIT}");
    let first = Running::start(&mut env.udocker(&["run", "--env=FIRST=1", "c", "sh", "-c", &script]));
    for name in ["c", id] {
        let output = env.udocker(&["exec", "--env=SECOND=2", name, "sh", "-c", LOOK]).output().unwrap();
        let expected = format!("{}\n1 2\n/etc\ninside\n", first.namespace);
        assert_eq!((code(&output), stdout(&output), stderr(&output).as_str()), (7, expected, ""), "{name}");
    }
    let output = run(&mut env.udocker(&["exec", "--workdir=/tmp", "c", "pwd"]));
    assert_eq!(stdout(&output), "/tmp\n");
    let output = env.udocker(&["exec", "c", "nothere"]).output().unwrap();
    assert_eq!(code(&output), 127, "{output:?}");

    // Who entered keeps the container, when the one that made it has ended: nobody removes it, and others join it.
    let second = Running::start(&mut env.udocker(&["exec", "c", "sh", "-c", WAIT]));
    assert_eq!(second.namespace, first.namespace);
    first.end();
    let busy = env.udocker(&["rm", "c"]).output().unwrap();
    let text = format!("Error: container {id} is in use by process {}\n", second.child.id());
    assert!(code(&busy) == 1 && stderr(&busy).contains(&text), "{busy:?}");
    let third = run(&mut env.udocker(&["run", "c", "readlink", "/proc/self/ns/mnt"]));
    assert_eq!(stdout(&third).trim_end(), second.namespace);
    second.end();
    refused(&env.udocker(&["exec", "c", "true"]).output().unwrap(), 125, &idle);
    run(&mut env.udocker(&["rm", "c"]));
}

#[test]
fn a_command_enters_a_step() {
    let env = env();
    // The run directory is that of other tests as well.
    let job = std::process::id().to_string();
    let of_job = format!("--job={job}");
    let rank = |step: &str, words: &[&str]| {
        let mut command = env.launch(words);
        command.env("SLURM_JOB_ID", &job).env("SLURM_STEP_ID", step).env("SLURM_PROCID", "3").env("PMIX_RANK", "3");
        command
    };
    // It stands where the first rank stands.
    let note = env.own_directory("notes", 0o755);
    fs::write(note.join("note"), "inside\n").unwrap();
    let mount = format!("--mount={}:/tmp", note.display());
    let script = format!("cd /etc; {WAIT}");
    let words = [&mount, "--env=FIRST=1", "i", "sh", "-c", &script];
    let first = Running::start(&mut rank("0", &words));
    let look = ["exec", &of_job, "--env=SECOND=2", "sh", "-c", LOOK];
    let output = env.launch(&look).output().unwrap();
    let expected = format!("{}\n1 2\n/etc\ninside\n", first.namespace);
    assert_eq!((code(&output), stdout(&output), stderr(&output).as_str()), (7, expected, ""));
    // From within the job it needs no name; its own rank is its own.
    let output = rank("extern", &["exec", "sh", "-c", LOOK]).env("PMIX_RANK", "5").output().unwrap();
    assert_eq!(stdout(&output), format!("{}\n1 5\n/etc\ninside\n", first.namespace), "{output:?}");

    let other = Running::start(&mut rank("1", &["i", "sh", "-c", WAIT]));
    let several = env.launch(&["exec", &of_job, "true"]).output().unwrap();
    let text = format!(
        "udocker: cannot choose a container: on this node run job {job} step 0 (i), job {job} step 1 (i)\n  \
         hint: `--job=JOB` and `--step=STEP` choose one\n"
    );
    refused(&several, 125, &text);
    let output = run(&mut env.launch(&["exec", &of_job, "--step=1", "readlink", "/proc/self/ns/mnt"]));
    assert_eq!(stdout(&output).trim_end(), other.namespace);
    // What is piped into it arrives.
    let mut command = env.launch(&["exec", &of_job, "--step=1", "cat"]);
    let mut piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"through\n").unwrap();
    assert_eq!(stdout(&piped.wait_with_output().unwrap()), "through\n");
    first.end();
    other.end();
    let none = env.launch(&["exec", &of_job, "true"]).output().unwrap();
    let text = format!(
        "udocker: cannot enter a container: nothing of job {job} runs on this node in one that can be entered\n  \
         hint: be on a node of the job; modes other than N1 have no namespaces to enter\n"
    );
    refused(&none, 125, &text);
}
