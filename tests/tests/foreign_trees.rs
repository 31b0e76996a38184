//! Writable roots over images of a store that belongs to another user: they are extracted anew, once, into the user's own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use udocker_tests::central::Site;
use udocker_tests::images::Kind;
use udocker_tests::many_nodes::ManyNodes;
use udocker_tests::tree::fingerprint;
use udocker_tests::{Registry, TestEnv, children, code, run, stderr, stdout};

/// Makes, changes and removes what the image has in directories of its own.
const WRITE: &str = "set -e; echo new > /etc/new; chmod 700 /bin/busybox; mv /bin/true /bin/other; rm /bin/false; \
                     mkdir /usr/made; stat -c %a /bin/busybox; ls -d /etc/new /bin/other /usr/made; [ ! -e /bin/false ]";
const WRITTEN: &str = "700\n/bin/other\n/etc/new\n/usr/made\n";

/// A site that has published [`Kind::Busybox`], its reference, and the digest of that.
fn site(more: &str) -> (Site, String, String) {
    let site = Site::new(more);
    let reference = site.registry.serve(Kind::Busybox);
    site.publish(&reference);
    let by_digest = reference.replace(":latest", &format!("@{}", Kind::Busybox.image().digest()));
    (site, reference, by_digest)
}

#[test]
fn an_image_of_root_s_store_is_extracted_once_to_be_written_over() {
    let (site, reference, by_digest) = site("");
    let before = fingerprint(&site.store);
    let shared = site.user.own_directory("shared", 0o755);
    // As it is, it needs no tree of one's own.
    let read_only = ["run", "--pull=never", "--write=none", &reference, "true"];
    assert_eq!(stderr(&run(&mut site.user.udocker(&read_only))), "");
    assert_eq!(site.user.trees().len(), 0);
    let told = format!(
        "Info: extracting {reference} into {}, once: a writable layer lies over files of one's own, and those of {} are uid \
         0's\n  hint: `--write=none` runs it as it is\n",
        site.user.store().display(),
        site.store.display()
    );
    let bind = format!("{}:/opt/not/there", shared.display());
    for is_first in [true, false] {
        let script = format!("{WRITE} && touch /opt/not/there/file");
        let words = ["run", "--pull=never", "-v", &bind, &reference, "sh", "-c", &script];
        let output = run(&mut site.user.udocker(&words));
        assert_eq!(stdout(&output), WRITTEN);
        assert_eq!(stderr(&output).starts_with(&told), is_first, "{}", stderr(&output));
        assert_eq!(stderr(&output).is_empty(), !is_first, "{}", stderr(&output));
    }
    assert!(shared.join("file").is_file());
    // The same tree serves jobs, and whoever names the digest.
    for name in [&reference, &by_digest] {
        let words = ["--pull=never", "--write=tmpfs", name, "sh", "-c", WRITE];
        let output = run(&mut site.user.launch(&words));
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), (WRITTEN, ""));
    }
    assert_eq!(site.user.trees().len(), 1);
    assert_eq!(fingerprint(&site.store), before);
}

#[test]
fn a_job_extracts_what_it_writes_over_also_by_digest() {
    // Multi is found through an index, by whose digest jobs are pinned.
    for (kind, by_digest) in [(Kind::Busybox, false), (Kind::Busybox, true), (Kind::Multi, false), (Kind::Multi, true)]
    {
        let site = Site::new("");
        let reference = site.registry.serve(kind);
        site.publish(&reference);
        let pinned = reference.replace(":latest", &format!("@{}", kind.image().digest()));
        let name = if by_digest { &pinned } else { &reference };
        let words = ["--pull=never", "--write=tmpfs", name, "sh", "-c", WRITE];
        // So that it lies beside the launcher.
        run(&mut site.user.udocker(&["version"]));
        let output = run(&mut site.user.launch(&words));
        assert_eq!(stdout(&output), WRITTEN, "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("extracting {name} into ")), "{}", stderr(&output));
        // By whichever name it is asked for next.
        for again in [&reference, &pinned] {
            let words = ["--pull=never", "--write=tmpfs", again, "sh", "-c", WRITE];
            let output = run(&mut site.user.launch(&words));
            assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), (WRITTEN, ""), "{kind:?} {again}");
        }
        assert_eq!(site.user.trees().len(), 1);
    }
}

/// To rules about stores a copy of the site's image is the site's image, the node's as well as one's own; to all rules it comes
/// before it is made.
#[test]
fn a_copy_is_of_the_store_that_it_was_made_of() {
    let rule = |writable| {
        format!(
            "[policy]\ndefault = \"deny\"\n[[policy.rule]]\nmatch.store = [\"central\"]\naction = \"allow\"\nwritable = {writable}\n"
        )
    };
    let (mut site, reference, by_digest) = site("");
    let toml = fs::read_to_string(site.user.path("etc/udocker/site.toml")).unwrap();
    run(&mut site.user.udocker(&["version"]));
    for name in [&reference, &by_digest] {
        let words = ["--pull=never", "--write=tmpfs", name, "sh", "-c", WRITE];
        site.user.set_site(&format!("{toml}{}", rule(false)));
        let output = site.user.launch(&words).output().unwrap();
        assert_eq!((code(&output), site.user.trees().len()), (121, 0), "{}", stderr(&output));
        site.user.set_site(&format!("{toml}{}", rule(true)));
        for _ in 0..2 {
            let output = run(&mut site.user.launch(&words));
            assert_eq!((stdout(&output).as_str(), site.user.trees().len()), (WRITTEN, 1), "{}", stderr(&output));
        }
        let run_words = [&["run"], &words[..]].concat();
        assert_eq!(stdout(&run(&mut site.user.udocker(&run_words))), WRITTEN);
        run(Command::new("rm").arg("-r").arg(site.user.store()));
        site.user.own_directory("store", 0o700);
    }
}

/// Nothing to extract from: a run copies the tree, a job asks the registry.
#[test]
fn without_layers_it_is_copied_or_pulled() {
    let mut site = Site::new("");
    let text =
        format!("[[store]]\nname = \"central\"\npath = {:?}\nkind = \"site\"\nkeep_layers = false\n", site.store);
    site.user.set_site(&text);
    let reference = site.registry.serve(Kind::Busybox);
    site.publish(&reference);
    let output = run(&mut site.user.udocker(&["run", "--pull=never", &reference, "sh", "-c", WRITE]));
    assert_eq!(stdout(&output), WRITTEN);
    let told = ", since no layer over it can be written: its files are uid 0's\n  hint: `--write=none` needs no copy";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    let words = |pull| [pull, "--write=tmpfs", &reference, "sh", "-c", WRITE];
    let output = site.user.launch(&words("--pull=never")).output().unwrap();
    assert_eq!(code(&output), 122);
    let told = format!(
        "image {reference} is another user's, no store has the layers to extract it anew, and `--pull=never` forbids \
         asking the registry\n  hint: `--write=none` runs it as it is\n"
    );
    assert!(stderr(&output).contains(&told), "{}", stderr(&output));
    assert_eq!(site.user.trees().len(), 0);
    let output = run(&mut site.user.launch(&words("--pull=missing")));
    assert_eq!(stdout(&output), WRITTEN, "{}", stderr(&output));
    assert_eq!(site.user.trees().len(), 1);
}

/// The members of a project share a store, in which each one's trees are his.
#[test]
fn a_colleague_s_tree_of_a_project_s_store_is_made_anew_in_one_s_own() {
    const GROUP: u32 = 4000;
    const COLLEAGUE: u32 = 4321;
    for keeps_layers in [true, false] {
        let mut env = TestEnv::ordinary();
        let registry = Registry::start(&env);
        let reference = registry.serve(Kind::Busybox);
        let project = env.own_directory("project", 0o755);
        chown(&project, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&project, fs::Permissions::from_mode(0o2770)).unwrap();
        env.set_site(&format!(
            "[stage]\nstore = \"project\"\n[[store]]\nname = \"project\"\npath = {project:?}\nkind = \"project\"\n\
             keep_layers = {keeps_layers}\n"
        ));
        let me = env.uid();
        env.set_uid(Some(COLLEAGUE));
        let home = env.own_directory("colleague", 0o700);
        run(as_member(env.udocker(&["stage", &reference]), GROUP).env("HOME", &home));
        env.set_uid(me);
        let before = fingerprint(&project);
        let member = |command: Command| as_member(command, GROUP);
        run(&mut member(env.udocker(&["version"])));
        let launch = |words: &[&str]| {
            let words = [words, &[&*reference, "sh", "-c", WRITE]].concat();
            member(env.launch(&words)).output().unwrap()
        };
        // What is only read is the project's.
        let output = run(&mut member(env.launch(&["--pull=never", &reference, "echo", "read"])));
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("read\n", ""));
        let own = env.path("home/.udocker");
        let trees = || children(&own.join("rootfs/1")).len();
        assert_eq!(trees(), 0);
        if !keeps_layers {
            assert_eq!(code(&launch(&["--pull=never", "--write=tmpfs"])), 122);
        }
        let output = launch(&["--write=tmpfs"]);
        assert_eq!((code(&output), stdout(&output).as_str(), trees()), (0, WRITTEN, 1), "{}", stderr(&output));
        let told = format!(
            "Info: extracting {reference} into {}, once: a writable layer lies over files of one's own, and those of {} are \
             uid {COLLEAGUE}'s\n",
            own.display(),
            project.display()
        );
        assert_eq!(stderr(&output).contains(&told), keeps_layers, "{}", stderr(&output));
        drop(registry);
        let output = launch(&["--write=tmpfs"]);
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str(), trees()), (WRITTEN, "", 1));
        let output = run(&mut member(env.udocker(&["run", &reference, "sh", "-c", WRITE])));
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str(), trees()), (WRITTEN, "", 1));
        assert_eq!(fingerprint(&project), before, "{keeps_layers}");
    }
}

/// `command` of an environment with a site, by a user who is in `group` too, lets it write his files, and has his store in his
/// home.
fn as_member(command: Command, group: u32) -> Command {
    let mut member = Command::new("sh");
    member.args(["-c", r#"umask 002; exec "$@""#, "sh"]).arg(command.get_program());
    let group = format!("--groups={group}");
    let word = |word: &OsStr| if word == "--clear-groups" { group.clone().into() } else { word.to_owned() };
    member.args(command.get_args().map(word)).env_clear().current_dir("/");
    member.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("UDOCKER_DIR");
    member
}

#[test]
fn a_container_of_such_an_image_is_a_full_copy() {
    let (site, reference, _) = site("");
    let output = run(&mut site.user.udocker(&["create", "--name=c", &reference]));
    let told =
        "Info: the container is a full copy, since no layer over the image can be written: its files are uid 0's\n";
    assert_eq!(stderr(&output), told);
    assert_eq!(stdout(&run(&mut site.user.udocker(&["run", "c", "sh", "-c", WRITE]))), WRITTEN);
}

/// A copy on the node is the user's own.
#[test]
fn a_copy_on_the_node_is_written_over() {
    let mut nodes = ManyNodes::new(2, 2);
    let central = nodes.env.path("central");
    let toml = format!(
        "[paths]\nnode_cache = \"{}/cache-{{uid}}\"\n[[store]]\nname = \"central\"\npath = {central:?}\nkind = \"site\"\n",
        nodes.local().display()
    );
    nodes.set_site(&toml);
    let registry = Registry::start(&nodes.env);
    let reference = registry.serve(Kind::Multi);
    let user = nodes.env.uid();
    nodes.env.set_site(&toml);
    nodes.env.set_uid(None);
    run(&mut nodes.env.udocker(&["site", "publish", &reference]));
    nodes.env.set_uid(user);
    drop(registry);
    for name in [reference.clone(), reference.replace(":latest", &format!("@{}", Kind::Multi.image().digest()))] {
        let step = format!("step-{}", name.len());
        let ranks = nodes.step(&step, &["--pull=never", "--write=tmpfs", "--share=task", &name, "sh", "-c", WRITE]);
        for rank in ranks {
            assert_eq!((rank.code, rank.out.as_str()), (0, WRITTEN), "{rank:?}");
        }
        assert_eq!(nodes.env.trees().len(), 0);
        for node in 0..2 {
            let cache = nodes.local_of(node).join(format!("cache-{}", user.unwrap()));
            assert_eq!(children(&cache.join("rootfs/1")).len(), 1);
            fs::remove_dir_all(cache).unwrap();
        }
    }
}

#[test]
fn a_directory_of_another_user_s_is_not_written_over() {
    let env = TestEnv::ordinary();
    env.busybox_tar();
    let root = env.path("root");
    let path = root.to_str().unwrap();
    assert_eq!(stdout(&run(&mut env.launch(&[path, "echo", "read"]))), "read\n");
    let output = env.launch(&["--write=tmpfs", path, "true"]).output().unwrap();
    let told = format!(
        "cannot lay `--write=tmpfs` over {path}: its files are uid 0's, and a layer is written over one's own only\n"
    );
    assert_eq!(code(&output), 123);
    assert!(stderr(&output).contains(&told), "{}", stderr(&output));
    let give = |whose: String| drop(run(Command::new("chown").arg("-R").arg(whose).arg(&root)));
    let uid = env.uid().unwrap();
    give(format!("{uid}:0"));
    let output = env.launch(&["--write=tmpfs", path, "true"]).output().unwrap();
    let told = format!("its files are of group 0, not of the caller's group {uid}, and");
    assert!(code(&output) == 123 && stderr(&output).contains(&told), "{}", stderr(&output));
    give(format!("{uid}:{uid}"));
    let script = "echo x > /etc/new && cat /etc/new";
    assert_eq!(stdout(&run(&mut env.launch(&["--write=tmpfs", path, "sh", "-c", script]))), "x\n");
    assert!(!fs::exists(root.join("etc/new")).unwrap());
}

/// As in a project's directory with the set-group-ID bit: a run works by a private copy, a job says why it cannot.
#[test]
fn a_store_of_another_group_is_copied_to_be_written() {
    let env = TestEnv::ordinary();
    fs::set_permissions(env.store(), fs::Permissions::from_mode(0o2770)).unwrap();
    chown(env.store(), None, Some(1)).unwrap();
    fs::set_permissions(env.store(), fs::Permissions::from_mode(0o2777)).unwrap();
    env.import_busybox("b:1");
    let script = ["sh", "-c", "echo x > /etc/new && echo y >> /etc/new && cat /etc/new"];
    let output = run(&mut env.udocker(&[&["run", "b:1"], &script[..]].concat()));
    let uid = env.uid().unwrap();
    let why = format!("no layer over it can be written: its files are of group 1, not of the caller's group {uid}\n");
    assert_eq!(stdout(&output), "x\ny\n");
    assert!(stderr(&output).contains(&why), "{}", stderr(&output));
    let output = env.launch(&[&["--write=tmpfs", "b:1"], &script[..]].concat()).output().unwrap();
    let told = format!("its files are of group 1, not of the caller's group {uid}, and a layer");
    assert!(code(&output) == 123 && stderr(&output).contains(&told), "{}", stderr(&output));
}
