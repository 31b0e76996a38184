//! An image comes once to a cluster: many nodes, one shared store, a registry that counts; and what goes wrong meanwhile.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Signal, kill_process};
use udocker_core::run::RunRequest;
use udocker_tests::images::Kind;
use udocker_tests::many_nodes::{ManyNodes, Rank};
use udocker_tests::random::{Random, trials};
use udocker_tests::{
    Fault, FaultProxy, ORDINARY_USER, Registry, TestEnv, children, code, program, run, stderr, stdout,
};

/// A program that tells what only the image has, and what only the host.
const WHERE: [&str; 3] = ["sh", "-c", "cat /etc/arch; [ -e /usr/bin/env ] || echo no host"];
const INSIDE: &str = "amd64\nno host\n";

/// An index, so that a pull asks for two documents.
fn served(nodes: &ManyNodes) -> (Registry, FaultProxy, String) {
    let registry = Registry::start(&nodes.env);
    let tag = registry.serve(Kind::Multi);
    let proxy = FaultProxy::start(&registry.host, 1);
    let reference = tag.replace(&registry.host, &proxy.host);
    (registry, proxy, reference)
}

/// Nodes of four ranks on which something goes wrong, and how many ranks those are: 8 nodes, 64 in `make trials`.
fn nodes_in_trouble() -> (ManyNodes, usize) {
    let count = if trials(1) == 1 { 8 } else { 64 };
    (ManyNodes::new(count, 4), 4 * count as usize)
}

fn words<'a>(options: &[&'a str], reference: &'a str) -> Vec<&'a str> {
    [options, &[reference], &WHERE].concat()
}

fn assert_inside(ranks: &[Rank], count: usize) {
    assert_eq!(ranks.len(), count);
    for rank in ranks {
        assert_eq!((rank.code, rank.out.as_str()), (0, INSIDE), "{rank:?}");
    }
}

/// The registry gave each blob once, and what leads to them once.
fn assert_fetched_once(proxy: &FaultProxy) {
    let requests = proxy.requests();
    let mut blobs: Vec<&String> = requests.iter().filter(|request| request.contains("/blobs/")).collect();
    let manifests = requests.iter().filter(|request| request.contains("/manifests/")).count();
    let all = blobs.len();
    blobs.sort();
    blobs.dedup();
    let layers = Kind::Multi.image().manifest("amd64")["layers"].as_array().expect("layers").len();
    assert_eq!((blobs.len(), all, manifests), (layers + 1, layers + 1, 2), "{requests:?}");
}

/// No temporary of a process that has ended, and an image that is whole.
fn assert_whole(nodes: &ManyNodes, reference: &str) {
    assert_eq!(nodes.leases().len(), 0);
    let env = &nodes.env;
    run(&mut env.udocker(&["verify", reference]));
    let output = run(&mut env.udocker(&[&["run", "--pull=never", reference], &WHERE[..]].concat()));
    assert!(stdout(&output).starts_with("amd64\n"), "{output:?}");
    assert_eq!(env.trees().len(), 1);
}

#[test]
fn sixty_four_nodes_fetch_each_blob_once_and_start_warm_without_the_registry() {
    let nodes = ManyNodes::new(64, 4);
    let (_registry, proxy, reference) = served(&nodes);
    assert_inside(&nodes.step("cold", &words(&["--timeout=5m"], &reference)), 256);
    assert_fetched_once(&proxy);
    let before = proxy.requests().len();
    assert_inside(&nodes.step("warm", &words(&[], &reference)), 256);
    assert_eq!(proxy.requests().len(), before, "a warm start asks no registry");
    assert_eq!(children(&nodes.env.store().join("tmp")).len(), 0);
    assert_whole(&nodes, &reference);
}

/// By its digest nothing is listed: no tag was asked for.
#[test]
fn by_digest_an_image_comes_once_and_gets_no_tag() {
    let nodes = ManyNodes::new(8, 4);
    let (_registry, proxy, reference) = served(&nodes);
    let pinned = format!("{}@{}", reference.trim_end_matches(":latest"), Kind::Multi.image().digest());
    assert_inside(&nodes.step("cold", &words(&[], &pinned)), 32);
    assert_fetched_once(&proxy);
    let before = proxy.requests().len();
    assert_inside(&nodes.step("warm", &words(&["--pull=always"], &pinned)), 32);
    assert_eq!(proxy.requests().len(), before, "what a digest names does not change");
    assert_eq!(stdout(&run(&mut nodes.env.udocker(&["images"]))), "REPOSITORY\n");
    assert_eq!(children(&nodes.env.store().join("repos")).len(), 0);
    assert_eq!(nodes.env.trees().len(), 1);
}

/// Whoever pulls is killed: its own rank says so, every other one runs.
#[test]
#[expect(clippy::print_stdout, reason = "for the log of the trials")]
fn killed_pullers_cost_their_own_rank_and_no_other() {
    let (nodes, all) = nodes_in_trouble();
    let (_registry, proxy, reference) = served(&nodes);
    proxy.add("/blobs/", u64::MAX, Fault::Delay(Duration::from_millis(40)));
    let mut random = Random::new(7);
    let (count, mut killed) = (trials(10).min(100), 0);
    for trial in 0..count {
        let running = nodes.start(&format!("s{trial}"), &words(&["--timeout=2m"], &reference));
        nodes.await_puller();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        let victims = nodes.puller().map_or(0, |pid| usize::from(kill_process(pid, Signal::KILL).is_ok()));
        let ranks = running.ended(Duration::from_secs(150));
        let (fine, failed): (Vec<Rank>, Vec<Rank>) = ranks.into_iter().partition(|rank| rank.code == 0);
        assert!(failed.len() <= victims, "trial {trial}: {failed:?}");
        for rank in &failed {
            assert_eq!((rank.code, rank.out.as_str()), (122, ""), "trial {trial}: {rank:?}");
            let told = format!("cannot get image {reference}: `udocker stage` ended with status 137");
            assert!(rank.err.contains(&told), "trial {trial}: {rank:?}");
        }
        assert_inside(&fine, all - failed.len());
        assert_whole(&nodes, &reference);
        killed += failed.len();
        run(&mut nodes.env.udocker(&["rmi", &reference]));
        assert_eq!(children(&nodes.env.store().join("rootfs/1")).len(), 0, "trial {trial}");
    }
    println!("{killed} of {count} pulls were killed before their end");
    assert!(killed as u64 > count / 2, "{killed} of {count} pulls were killed before their end");
}

#[test]
fn without_locks_of_the_shared_file_system_each_blob_comes_once() {
    let (nodes, all) = nodes_in_trouble();
    let (_registry, proxy, reference) = served(&nodes);
    std::fs::copy(program("examples/enolck"), nodes.programs().join("enolck")).unwrap();
    nodes.stage_by(&format!("exec {}/enolck \"$REAL\" \"$@\"", nodes.programs().display()));
    assert_inside(&nodes.step("s", &words(&[], &reference)), all);
    assert_fetched_once(&proxy);
    assert_whole(&nodes, &reference);
}

/// Ages are differences of the file server's own times: whoever compared them with his clock would take over at once.
#[test]
fn clocks_that_are_off_by_an_hour_take_no_lease_over() {
    let (nodes, all) = nodes_in_trouble();
    let (_registry, proxy, reference) = served(&nodes);
    proxy.add("/blobs/", u64::MAX, Fault::Delay(Duration::from_millis(300)));
    let (source, library) = (nodes.programs().join("clock.c"), nodes.programs().join("clock.so"));
    let text = "#define _GNU_SOURCE\n#include <stdlib.h>\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
                int clock_gettime(clockid_t id, struct timespec *t) {\n  long r = syscall(SYS_clock_gettime, id, t);\n\
                if (!r && id == CLOCK_REALTIME) t->tv_sec += atol(getenv(\"CLOCK_OFF\"));\n  return r;\n}\n";
    std::fs::write(&source, text).unwrap();
    run(Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
    let script = format!(
        "case $NODE in *[02468]) off=3600;; *) off=-3600;; esac\nCLOCK_OFF=$off LD_PRELOAD={} exec \"$REAL\" \"$@\"",
        library.display()
    );
    nodes.stage_by(&script);
    assert_inside(&nodes.step("s", &words(&[], &reference)), all);
    assert_fetched_once(&proxy);
    assert_whole(&nodes, &reference);
}

/// The holder is stopped, and the file server has not heard of it for an hour: another node takes over. The holder's own
/// node waits for it until the limit.
#[test]
fn a_stopped_holder_loses_its_lease_and_no_rank_hangs() {
    let (nodes, all) = nodes_in_trouble();
    let (_registry, proxy, reference) = served(&nodes);
    proxy.add("/blobs/", 3, Fault::Delay(Duration::from_millis(500)));
    let since = Instant::now();
    let running = nodes.start("s", &words(&["--timeout=20s"], &reference));
    let holder = nodes.await_puller();
    kill_process(holder, Signal::STOP).unwrap();
    let lease = nodes.leases().remove(0);
    let hour = Duration::from_secs(3600);
    File::options().write(true).open(&lease).unwrap().set_modified(SystemTime::now() - hour).unwrap();
    let ranks = running.ended(Duration::from_secs(60));
    assert!(since.elapsed() < Duration::from_secs(35), "{:?}", since.elapsed());
    let late: Vec<&Rank> = ranks.iter().filter(|rank| rank.code != 0).collect();
    assert_eq!(late.len(), 4, "{late:?}");
    for rank in late {
        assert_eq!((rank.node, rank.code, rank.out.as_str()), (late_node(&ranks), 124, ""), "{rank:?}");
    }
    let fine: Vec<Rank> = ranks.into_iter().filter(|rank| rank.code == 0).collect();
    assert_inside(&fine, all - 4);
    assert_whole(&nodes, &reference);
}

fn late_node(ranks: &[Rank]) -> u32 {
    ranks.iter().find(|rank| rank.code != 0).expect("a late rank").node
}

/// A lease of another node that is renewed all the time.
struct Busy {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn on(store: &std::path::Path, reference: &str) -> Self {
        let platform = udocker_core::platform::Platform::native();
        let key = udocker_core::digest::Digest::sha256_of(format!("{reference} {platform}").as_bytes());
        let path = store.join("leases").join(key.hex());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "lease-elsewhere_1-boot-7-9-00ff\nelsewhere\n").unwrap();
        std::os::unix::fs::chown(path.parent().unwrap(), Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // Its panic is that of the test.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// A task's limit is that of the program which gets its image, whatever that has by itself; else it is the site's.
#[test]
fn a_task_s_limit_is_that_of_its_wait_for_another_node() {
    let mut env = TestEnv::ordinary();
    env.import_busybox("i");
    let reference = "127.0.0.1:1/x:latest";
    let _busy = Busy::on(&env.store(), reference);
    env.set_site("[limits]\nwait_timeout = \"2s\"\n");
    for (words, seconds) in [(&["--timeout=5s", reference, "true"][..], 5), (&[reference, "true"], 2)] {
        let since = Instant::now();
        let output = env.launch(words).output().unwrap();
        let took = since.elapsed();
        assert_eq!(code(&output), 124, "{output:?}");
        let late = format!("cannot get image {reference}: it took longer than {seconds} s and was ended");
        assert!(stderr(&output).contains(&late), "{}", stderr(&output));
        assert!((seconds..seconds + 3).contains(&took.as_secs()), "{took:?}");
    }
    // By itself it says whom it waited for; its two waits (for this node, for the cluster) add up.
    let since = Instant::now();
    let stage = || env.udocker(&["stage", "--wait=2", reference]).stderr(Stdio::piped()).spawn().unwrap();
    let both = [stage(), stage()];
    let outputs = both.map(|child| child.wait_with_output().unwrap());
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    for output in &outputs {
        assert_eq!(code(output), 1, "{output:?}");
    }
    let told = "process 7 on elsewhere pulls the same image and was waited for 2 s";
    assert!(outputs.iter().any(|output| stderr(output).contains(told)), "{outputs:?}");
}

/// A site that has the images of jobs come at a time of its own, into a store of its own.
#[test]
fn a_job_s_image_comes_when_and_where_the_site_says() {
    let mut env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = registry.serve(Kind::Busybox);
    let group = env.own_directory("group", 0o755);
    let disk = env.own_directory("disk", 0o755);
    let site = format!(
        "[stage]\nwhen = \"submit\"\nstore = \"group\"\n[paths]\nnode_cache = \"{}/cache\"\n\
         [[store]]\nname = \"group\"\npath = \"{}\"\nkind = \"project\"\n",
        disk.display(),
        group.display()
    );
    env.set_site(&site);
    let request = RunRequest { env: vec!["SECRET=1".parse().unwrap()], ..RunRequest::of_job(&*image) };
    let stage = |words: &[&str], request: Option<&RunRequest>| {
        let mut command = env.udocker(&[&["stage"], words].concat());
        command.env_remove("UDOCKER_DIR").envs(request.map(|request| ("UDOCKER_REQUEST", request.to_json().unwrap())));
        command.output().unwrap()
    };
    let trees = || children(&group.join("rootfs")).iter().map(|format| children(format).len()).sum::<usize>();
    let output = stage(&["--when=submit"], None);
    assert_eq!(code(&output), 1);
    assert_eq!(stderr(&output), "Error: --when=submit is for a job, and UDOCKER_REQUEST is not set\n");
    // It is not due, or not an image: nothing is done.
    let path = RunRequest::of_job("/srv/root");
    for (when, request) in [("--when=prolog", &request), ("--when=submit", &path)] {
        let output = stage(&[when], Some(request));
        assert_eq!((code(&output), stderr(&output).as_str(), trees()), (0, "", 0));
    }
    let output = stage(&["--when=submit"], Some(&request));
    assert_eq!((code(&output), trees()), (0, 1), "{output:?}");
    assert!(!env.path("home/.udocker").exists(), "a job stages into the site's choice alone");
    assert!(!disk.join("cache").exists(), "where a job is submitted is none of its nodes");
    let output = env.launch(&[&*image, "true"]).env_remove("UDOCKER_DIR").output().unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    // A start does the same when nothing came before it, and so does the prolog, each into the node's cache as well.
    for (when, words) in [("start", &[&*image][..]), ("prolog", &["--when=prolog"])] {
        env_site(&env, &site.replace("submit", when));
        run(env.udocker(&["rmi", "--force", &image]).env_remove("UDOCKER_DIR"));
        std::fs::remove_dir_all(disk.join("cache")).ok();
        let output = stage(words, Some(&request));
        assert_eq!((code(&output), trees()), (0, 1), "{when}: {output:?}");
        assert_eq!(children(&disk.join("cache/rootfs/1")).len(), 1, "{when}");
    }
    // Who may not write there is told so; who names a store means that one.
    let other = registry.serve(Kind::Multi);
    std::fs::set_permissions(&group, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    std::os::unix::fs::chown(&group, Some(0), Some(0)).unwrap();
    let output = stage(&[&other], None);
    let told = format!(
        "Error: cannot stage into {}: the site's `stage.store` names it, and uid {ORDINARY_USER} may not write there\n  \
         hint: name one of yours by UDOCKER_DIR or `--repo=DIR`\n",
        group.display()
    );
    assert_eq!((code(&output), stderr(&output)), (1, told));
    // Nor does it come where nothing would be run from.
    for (owner, why) in
        [(4321, "it belongs to uid 4321, whom `trust` of site.toml does not name"), (0, "everybody may write it")]
    {
        std::os::unix::fs::chown(&group, Some(owner), None).unwrap();
        std::fs::set_permissions(&group, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let told = format!(
            "Error: cannot stage into {}: the site's `stage.store` names it, and nothing is run from it, as {why}\n  hint: \
             its keeper belongs into its `trust` in site.toml; `chmod o-w` closes it to everybody\n",
            group.display()
        );
        let output = stage(&[&other], None);
        assert_eq!((code(&output), stderr(&output)), (1, told.clone()));
        let output = env.launch(&[&*other, "true"]).env_remove("UDOCKER_DIR").output().unwrap();
        let own = format!("udocker: cannot get image {other}: `udocker stage` ended with status 1\n");
        assert_eq!((code(&output), stderr(&output).starts_with(&(told + &own))), (122, true), "{}", stderr(&output));
        assert!(!group.join("repos").join(other.replace(":latest", "")).exists());
    }
    run(&mut env.udocker(&["stage", &other]));
    assert_eq!(env.trees().len(), 1);
}

/// Another text for the file of `env.set_site`.
fn env_site(env: &TestEnv, toml: &str) {
    std::fs::write(env.path("etc/udocker/site.toml"), toml).unwrap();
}
