//! What is written in place is written by one container at a time, and who cannot see the others does not begin.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use udocker_tests::node::{Node, SOON, ended, until_it_is};
use udocker_tests::{code, is_root, run, stderr, stdout};

/// A node whose user runs programs as himself, and a layered container `c`.
struct Site {
    node: Node,
    user: String,
}

impl Site {
    fn new() -> Self {
        let node = Node::new();
        run(&mut node.env.udocker(&["create", "--name=c", "i"]));
        let user = format!("--user={}", node.env.uid().unwrap_or_else(|| rustix::process::getuid().as_raw()));
        Self { node, user }
    }

    fn udocker_run(&self, words: &[&str]) -> Command {
        let mut command = self.node.env.udocker(&[&["run", &self.user], words].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A program that becomes `sleep`, once it is that.
    fn started(&self, words: &[&str]) -> Child {
        let child = self.udocker_run(words).spawn().expect("a program");
        until_it_is(&child, "sleep");
        child
    }
}

fn refused(output: &Output, status: i32, text: &str) {
    assert!(code(output) == status && stderr(output).contains(text), "{text}: {output:?}");
}

#[test]
fn a_layer_is_written_by_one_container() {
    let site = Site::new();
    let first = site.started(&["c", "busybox", "unshare", "-Urm", "sleep", "4"]);
    let text = format!(
        "cannot write beside process {}: it cannot be joined, as it is in namespaces of its own\n  \
         hint: wait for process {0}, or end it: `kill {0}`\n",
        first.id()
    );
    refused(&site.udocker_run(&["c", "true"]).output().unwrap(), 125, &text);
    ended(first, SOON);
    assert_eq!(code(&site.udocker_run(&["c", "true"]).output().unwrap()), 0);

    // Of processes that are numbered elsewhere nobody knows whether they live.
    let first = site.started(&["c", "sleep", "4"]);
    let mut elsewhere = Command::new("unshare");
    let inner = site.udocker_run(&["c", "true"]);
    elsewhere.args(["-Urpf", "--mount-proc"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    elsewhere.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
    if let Some(uid) = site.node.env.uid() {
        std::os::unix::process::CommandExt::uid(&mut elsewhere, uid).stdin(Stdio::null());
        std::os::unix::process::CommandExt::gid(&mut elsewhere, uid);
    }
    let output = elsewhere.output().unwrap();
    assert_eq!(code(&output), 125, "{output:?}");
    ended(first, SOON);
}

#[test]
fn one_directory_is_written_by_one_container() {
    let site = Site::new();
    let directory = site.node.shared().join("written");
    let option = format!("--write=dir:{}", directory.display());
    let script = "readlink /proc/self/ns/mnt; echo $0 >>/both; sleep 2; cat /both";
    let mut children = Vec::new();
    for name in ["first", "second"] {
        let mut command = site.node.env.launch(&[&option, "i", "sh", "-c", script, name]);
        children.push(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        until_it_is(&children[children.len() - 1], "sh");
    }
    let texts: Vec<String> = children.into_iter().map(|child| stdout(&ended(child, SOON))).collect();
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].ends_with("first\nsecond\n"), "{texts:?}");
    // `udocker run` meets those as well, and says what differs.
    let running = site.started(&[&option, "i", "sleep", "3"]);
    let differs = site.udocker_run(&[&option, "--volume=/etc:/mnt", "i", "true"]).output().unwrap();
    refused(&differs, 125, &format!("cannot run the container beside its process {}: they differ in", running.id()));
    ended(running, SOON);
    let ranks: Vec<Child> =
        (0..2).map(|rank| site.node.start("s", rank, &["--share=task", &option, "i", "true"])).collect();
    let outputs: Vec<Output> = ranks.into_iter().map(|rank| ended(rank, SOON)).collect();
    assert!(outputs.iter().all(|output| code(output) == 125), "{outputs:?}");
    let text =
        format!("cannot give each task a container of its own that writes to --write=dir:{}", directory.display());
    assert_eq!(outputs.iter().filter(|output| stderr(output).contains(&text)).count(), 1, "{outputs:?}");
}

/// The ranks of a node may be the first that run a container in a mode without layers.
#[test]
fn a_layered_container_becomes_a_full_one_once() {
    let site = Site::new();
    assert_eq!(code(&site.udocker_run(&["c", "touch", "/written"]).output().unwrap()), 0);
    let ran = site.started(&["c", "sleep", "3"]);
    let busy = site.udocker_run(&["--mode=P2", "c", "true"]).output().unwrap();
    refused(&busy, 125, &format!("is in use by process {}", ran.id()));
    ended(ran, SOON);
    let ranks: Vec<Child> = (0..8)
        .map(|_| {
            site.udocker_run(&["--mode=P2", "c", "sh", "-c", "[ -e /written ] && [ -e /bin/sh ]"]).spawn().unwrap()
        })
        .collect();
    for output in ranks.into_iter().map(|rank| ended(rank, SOON)) {
        assert_eq!(code(&output), 0, "{output:?}");
    }
}

/// A path may lead to another directory the next time, or for another job.
#[test]
fn runs_of_one_container_see_the_files_that_they_named() {
    let site = Site::new();
    let data = site.node.env.own_directory("shared", 0o755).join("data");
    let volume = format!("--volume={}:/mnt", data.display());
    let make = || {
        fs::create_dir(&data).unwrap();
        fs::write(data.join("file"), "seen\n").unwrap();
    };
    make();
    let first = site.started(&[&volume, "c", "sleep", "3"]);
    let same = site.udocker_run(&[&volume, "c", "cat", "/mnt/file"]).output().unwrap();
    assert_eq!((code(&same), stdout(&same).as_str()), (0, "seen\n"), "{same:?}");
    fs::rename(&data, data.with_extension("old")).unwrap();
    make();
    let other = site.udocker_run(&[&volume, "c", "cat", "/mnt/file"]).output().unwrap();
    refused(&other, 125, "they differ in the files that are mounted\n");
    ended(first, SOON);
    let alone = site.udocker_run(&[&volume, "c", "cat", "/mnt/file"]).output().unwrap();
    assert_eq!((code(&alone), stdout(&alone).as_str()), (0, "seen\n"), "{alone:?}");
}

#[test]
fn who_has_no_place_to_meet_does_not_begin() {
    assert!(is_root(), "another user's directories stand in the way of this test's");
    let site = Site::new();
    let uid = site.node.env.uid().expect("a user of its own");
    let taken = [format!("/dev/shm/udocker-{uid}"), format!("/tmp/udocker-{uid}")];
    let _ = fs::remove_dir_all(&taken[0]);
    taken.iter().for_each(|path| fs::create_dir(path).unwrap());
    let rank = |words: &[&str]| site.udocker_run(words).env("PMI_RANK", "0").output().unwrap();
    let none =
        format!("none of /run/udocker/{uid}, {}, {} is a directory of mode 0700 that is yours", taken[0], taken[1]);
    refused(&rank(&["i", "true"]), 125, &none);
    refused(&site.udocker_run(&["c", "true"]).output().unwrap(), 125, &none);
    let launched = ended(site.node.start("s", 0, &["i", "true"]), SOON);
    refused(&launched, 125, &none);
    let told = format!("warning: {} is passed over as the run directory: it is of user 0 and has mode 0755", taken[0]);
    refused(&launched, 125, &told);
    // Alone, and without a layer, nothing has to be met.
    let alone = site.udocker_run(&["i", "true"]).output().unwrap();
    assert_eq!(code(&alone), 0, "{alone:?}");
    taken.iter().for_each(|path| fs::remove_dir(path).unwrap());
}
