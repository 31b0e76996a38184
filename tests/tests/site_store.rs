//! A site's store, read-only and another user's, that serves a private image to many at once.

use udocker_tests::images::Kind;
use udocker_tests::tree::fingerprint;
use udocker_tests::{ORDINARY_USER, Registry, TestEnv, run, stderr, stdout};

#[test]
fn a_private_image_of_a_site_s_store_runs_64_times_at_once() {
    let mut env = TestEnv::ordinary();
    let site = env.path("site");
    let store = |readonly: bool| {
        format!("[[store]]\nname = \"central\"\npath = {site:?}\nkind = \"site\"\nreadonly = {readonly}\n")
    };
    // The admin fills it by naming it.
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Private);
    env.set_uid(None);
    env.set_site(&store(false));
    run(env.udocker(&["pull", &reference]).env("UDOCKER_DIR", &site));

    env.set_uid(Some(ORDINARY_USER));
    env.set_site(&store(true));
    let before = fingerprint(&site);
    let script = "cat /root/private/data && /root/private/busybox true && echo ran";
    let words = ["run", "--pull=never", &reference, "sh", "-c", script];
    let output = run(&mut env.udocker(&words));
    assert_eq!(stdout(&output), "for the owner alone\nran\n", "{}", stderr(&output));
    let output = run(&mut env.launch(&["--pull=never", &reference, "sh", "-c", script]));
    assert_eq!(stdout(&output), "for the owner alone\nran\n", "{}", stderr(&output));
    let children: Vec<_> = (0..64)
        .map(|_| env.udocker(&["run", "--pull=never", &reference, "/root/private/busybox", "true"]).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fingerprint(&site), before, "nothing in the site's store was touched");
    assert_eq!(stdout(&run(&mut env.udocker(&["ps"]))).lines().count(), 1);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(site.to_str().unwrap()), "{mounts}");
    // A container of it goes into the user's own store.
    run(&mut env.udocker(&["create", "--name=mine", &reference]));
    let output = run(&mut env.udocker(&["run", "mine", "cat", "/root/private/data"]));
    assert_eq!(stdout(&output), "for the owner alone\n");
    assert_eq!(fingerprint(&site), before);
}
