//! A central store as its readers find it: moved, mounted read-only, behind stores of the same names, by udocker 1.3.

use std::fs;
use std::process::Command;

use udocker_tests::central::{LOOK, Site};
use udocker_tests::images::Kind;
use udocker_tests::tree::fingerprint;
use udocker_tests::{Peer, run, stderr, stdout};

#[test]
fn all_stores_are_listed_and_the_first_that_has_a_name_is_found() {
    let site = Site::new("");
    let reference = site.registry.publish(&Kind::Busybox.image(), "x");
    site.publish(&reference);
    let digest = Kind::Busybox.image().digest();
    // A user's pull goes into his own store, although the site's may be written by root alone.
    site.registry.publish(&Kind::Truth.image(), "x");
    run(&mut site.user.udocker(&["pull", &reference]));
    let own = Kind::Truth.image().digest();
    let listed = stdout(&run(&mut site.user.udocker(&["images", "--all-stores", "--format=json"])));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let row = |at: usize| {
        let text = |key: &str| listed[at][key].as_str().map(str::to_owned);
        (text("store").unwrap(), text("name").unwrap(), text("digest").unwrap(), text("hidden_by"))
    };
    assert_eq!(row(0), ("user".into(), reference.clone(), own.clone(), None));
    assert_eq!(row(1), ("central".into(), reference.clone(), digest.clone(), Some("user".into())));
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let table = stdout(&run(&mut site.user.udocker(&["images", "--all-stores"])));
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("STORE    REPOSITORY ") && lines[1].starts_with(&format!("user     {reference}  {own}  "))
    );
    assert!(
        lines[2].starts_with(&format!("central  {reference}  {digest}  ")) && lines[2].ends_with("  hidden by user")
    );
    // By name the user's, by digest the one that has it.
    let truth = ["run", "--pull=never", &reference, "cat", "/etc/truth"];
    assert_eq!(stdout(&run(&mut site.user.udocker(&truth))), "true\n");
    let pinned = reference.replace(":latest", &format!("@{digest}"));
    let words = ["run", "--pull=never", &pinned, "sh", "-c", "[ -e /etc/truth ] || echo another"];
    assert_eq!(stdout(&run(&mut site.user.udocker(&words))), "another\n");
}

#[test]
fn a_pull_never_goes_into_the_site_s_store_although_its_user_may_write_there() {
    let mut site = Site::new("");
    let reference = site.registry.serve(Kind::Busybox);
    site.publish(&reference);
    site.user.set_site(&format!(
        "[[store]]\nname = \"central\"\npath = {:?}\nkind = \"site\"\nreadonly = false\n",
        site.store
    ));
    run(Command::new("chmod").args(["-R", "a+rwX"]).arg(&site.store));
    run(Command::new("rm").arg("-r").arg(site.user.store()));
    // Where his own cannot be made, it fails rather.
    fs::write(site.user.store(), "no directory").unwrap();
    let before = fingerprint(&site.store);
    let other = site.registry.serve(Kind::Multi);
    let output = site.user.udocker(&["pull", &other]).output().unwrap();
    assert!(!output.status.success(), "{}", stderr(&output));
    assert_eq!(fingerprint(&site.store), before);
    fs::remove_file(site.user.store()).unwrap();
    site.user.own_directory("store", 0o700);
    run(&mut site.user.udocker(&["pull", &other]));
    assert_eq!((site.user.trees().len(), fingerprint(&site.store) == before), (1, true));
}

#[test]
fn a_store_that_was_moved_and_is_mounted_read_only_serves_untouched() {
    let mut site = Site::new("");
    let reference = site.registry.publish(&Kind::Multi.image(), "x");
    site.publish(&reference);
    let moved = site.user.path("elsewhere/deep/central");
    fs::create_dir_all(moved.parent().unwrap()).unwrap();
    fs::rename(&site.store, &moved).unwrap();
    site.user.set_site(&format!("[[store]]\nname = \"central\"\npath = {moved:?}\nkind = \"site\"\n"));
    let before = fingerprint(&moved);
    let digest = Kind::Multi.image().digest();
    let pinned = reference.replace(":latest", &format!("@{digest}"));
    // The ordinary user sees it by a mount that is read-only.
    let script =
        r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/x" 2>/dev/null && exec "$@""#;
    for name in [&reference, &pinned] {
        for launched in [false, true] {
            let words = [&["--pull=never", name], &LOOK[..]].concat();
            let inner = match launched {
                true => site.user.launch(&words),
                false => site.user.udocker(&[&["run"], &words[..]].concat()),
            };
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", script]).arg(&moved).arg(inner.get_program()).args(inner.get_args());
            command
                .env_clear()
                .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
                .current_dir("/");
            let output = command.output().unwrap();
            assert_eq!(stdout(&output), "second\n", "{name} {launched}: {}", stderr(&output));
        }
    }
    for words in [&["images", "--all-stores"][..], &["inspect", &reference], &["verify", &reference]] {
        run(&mut site.user.udocker(words));
    }
    assert_eq!(fingerprint(&moved), before);
}

#[test]
fn udocker_1_3_reads_a_store_that_we_published() {
    let site = Site::new("");
    site.registry.publish(&Kind::Features.image(), "features");
    // It cuts a name at its first `:`, also where that belongs to a port.
    let (registry, name) = (format!("--registry=http://{}", site.registry.host), "test/features:latest");
    run(&mut site.admin(&["publish", &registry, name]));
    let peer = Peer::place(&site.user.path("peer"));
    // What it wants to write lies in the user's own repository, with the mark that its engines are installed.
    let own = site.user.own_directory("own", 0o700);
    for part in ["own/repos", "own/layers", "own/containers", "own/bin", "own/lib", "own/doc"] {
        site.user.own_directory(part, 0o755);
    }
    fs::write(own.join("lib/VERSION"), "1.2.11\n").unwrap();
    let before = fingerprint(&site.store);
    let python = |words: &str| {
        let mut command = Command::new("sh");
        let uid = udocker_tests::ORDINARY_USER;
        let drop = format!("exec setpriv --reuid={uid} --regid={uid} --clear-groups");
        command.args(["-c", &format!("{drop} {} {words}", peer.words())]).env_clear().current_dir("/");
        command.env("HOME", site.user.path("home")).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("UDOCKER_USE_PROOT_EXECUTABLE", "/usr/bin/proot").env("PROOT_NO_SECCOMP", "1");
        command.env("UDOCKER_DIR", &own).env("UDOCKER_REPOS", site.store.join("repos"));
        command.env("UDOCKER_LAYERS", site.store.join("layers"));
        stdout(&run(&mut command))
    };
    for words in ["images".to_owned(), format!("--repo={} images", site.store.display())] {
        let listed = python(&words);
        assert!(listed.lines().any(|line| line.split_whitespace().next() == Some(name)), "{words}: {listed}");
    }
    python(&format!("verify {name}"));
    let id = python(&format!("create --name=c {name}"));
    assert_eq!(id.trim().len(), 36, "{id}");
    let ran = python("run c /bin/busybox echo ran");
    assert!(ran.lines().any(|line| line == "ran"), "{ran}");
    assert_eq!(fingerprint(&site.store), before);
}

#[test]
fn a_store_of_a_stranger_is_not_run_from_and_one_for_others_is_not_seen() {
    let mut site = Site::new("");
    let reference = site.registry.serve(Kind::Truth);
    site.publish(&reference);
    run(Command::new("chown").args(["-R", "4321:4321"]).arg(&site.store));
    // Its owner makes another tree of it.
    let tree = site.trees()[0].join("root");
    fs::write(tree.join("etc/truth"), "a lie\n").unwrap();
    let words = ["run", "--pull=never", "--write=none", &reference, "cat", "/etc/truth"];
    let path = site.store.display().to_string();
    let set = |site: &mut Site, more: &str| {
        let toml = format!("[[store]]\nname = \"central\"\npath = {path:?}\nkind = \"site\"\n{more}\n");
        site.user.set_site(&toml);
    };
    let output = run(&mut site.user.udocker(&words));
    let why = "it belongs to uid 4321, whom `trust` of site.toml does not name";
    let told = format!(
        "Info: extracting {reference} into {}: {path} is not run from, as {why}\n",
        site.user.store().display()
    );
    assert_eq!(stdout(&output), "true\n");
    assert!(stderr(&output).starts_with(&told), "{}", stderr(&output));
    let output = run(&mut site.user.launch(&["--pull=never", &reference, "cat", "/etc/truth"]));
    assert_eq!((stdout(&output).as_str(), site.user.trees().len()), ("true\n", 1));
    run(Command::new("rm").arg("-r").arg(site.user.store()));
    site.user.own_directory("store", 0o700);
    set(&mut site, "trust = [1, 4321]");
    assert_eq!(stdout(&run(&mut site.user.udocker(&words))), "a lie\n", "the site trusts that user");
    // By group: seen by its members alone.
    let uid = udocker_tests::ORDINARY_USER;
    for (acl, is_seen) in [
        ("users = [7]", false),
        ("groups = [7]", false),
        (&*format!("groups = [7, {uid}]"), true),
        (&*format!("users = [{uid}]"), true),
    ] {
        set(&mut site, &format!("trust = [4321]\nacl = {{ {acl} }}"));
        assert_eq!(site.user.udocker(&words).output().unwrap().status.success(), is_seen, "{acl}");
        let launched = site.user.launch(&["--pull=never", &reference, "true"]).output().unwrap();
        assert_eq!(launched.status.success(), is_seen, "{acl}: {}", stderr(&launched));
    }
    set(&mut site, "acl = {}");
    let refused = site.user.udocker(&words).output().unwrap();
    let text = "/etc/udocker/site.toml:5:7: cannot use the value of `store.acl`: expected numbers of users or groups, else it \
                serves nobody\n";
    assert!(stderr(&refused).contains(text), "{}", stderr(&refused));
}
