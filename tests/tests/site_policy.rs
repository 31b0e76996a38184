//! What the site forbids stays forbidden on every way to a tree, whatever its user sets, names or writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use udocker_core::digest::Digest;
use udocker_core::run::RunRequest;
use udocker_tests::images::Kind;
use udocker_tests::{ORDINARY_USER, Registry, TestEnv, children, code, run, stderr, stdout};

const LICENSED: &str = "registry.example/team/licensed:1";
const FREE: &str = "registry.example/team/free:1";
const POLICY: i32 = 121;

/// How `command` ended and the first line of what it said.
fn ended(mut command: Command) -> (i32, String) {
    let output = command.output().expect("a program of ours");
    (code(&output), stderr(&output).lines().next().unwrap_or_default().to_owned())
}

/// A store of the site with both images, and what the site says of it before any rule.
fn central(env: &mut TestEnv) -> String {
    let site = env.path("site");
    let store =
        |readonly| format!("[[store]]\nname = \"central\"\npath = {site:?}\nkind = \"site\"\nreadonly = {readonly}\n");
    env.set_uid(None);
    env.set_site(&store(false));
    let tar = env.busybox_tar();
    run(env.udocker(&["import", tar.to_str().unwrap(), LICENSED]).env("UDOCKER_DIR", &site));
    fs::write(env.path("root/etc/free"), "free").unwrap();
    let free = env.path("free.tar");
    run(Command::new("tar")
        .arg("-C")
        .arg(env.path("root"))
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&free)
        .arg("."));
    run(env.udocker(&["import", free.to_str().unwrap(), FREE]).env("UDOCKER_DIR", &site));
    env.set_uid(Some(ORDINARY_USER));
    env.set_site(&store(true));
    store(true)
}

/// The digest of an image of the site's store.
fn digest(env: &TestEnv, reference: &str) -> Digest {
    let tag = reference.replace(':', "/");
    Digest::sha256_of(&fs::read(env.path("site/repos").join(tag).join("manifest")).unwrap())
}

#[test]
fn no_way_leads_around_a_rule() {
    let mut env = TestEnv::ordinary();
    let store = central(&mut env);
    let (site, own) = (env.path("site"), env.store());
    // What was made before there was a rule: a container, a rank's note of its image, a copy in the user's own store.
    run(&mut env.udocker(&["create", "--name=free", LICENSED]));
    let job = format!("policy{}", std::process::id());
    let rank = |env: &TestEnv, number: &str, words: &[&str]| {
        let mut command = env.launch(words);
        for (name, value) in
            [("SLURM_JOB_ID", &*job), ("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", number)]
        {
            command.env(name, value);
        }
        command
    };
    run(&mut rank(&env, "0", &[LICENSED, "true"]));
    run(env.udocker(&["import", env.busybox_tar().to_str().unwrap(), LICENSED]).env("UDOCKER_DIR", &own));
    symlink(&site, env.path("link")).unwrap();

    let rule = "[site]\ncontact = \"help@site.example\"\n[[policy.rule]]\n\
                match.image = [\"registry.example/team/licensed\"]\naction = \"deny\"\nreason = \"ask for a licence\"\n";
    env.set_site(&format!("{store}{rule}"));
    let by_digest = format!("registry.example/team/free@{}", digest(&env, LICENSED));
    let with_tag = format!("registry.example/team/free:1@{}", digest(&env, LICENSED));
    let trees: Vec<_> = children(&site.join("rootfs")).iter().flat_map(|format| children(format)).collect();
    let tree = trees[0].join("root").to_str().unwrap().to_owned();
    let container = children(&own.join("containers"))
        .into_iter()
        .find(|path| path.is_dir() && !path.is_symlink())
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let request = |image: &str| RunRequest::of_job(image).to_json().unwrap();
    let with = |mut command: Command, name: &str, value: &str| {
        command.env(name, value);
        command
    };
    let launch = |words: &[&str]| env.launch(words);
    let denied_jobs: Vec<(&str, Command)> = vec![
        ("its name", launch(&[LICENSED, "true"])),
        ("with a scheme", launch(&[&format!("docker://{LICENSED}"), "true"])),
        ("by the digest, under another name", launch(&[&by_digest, "true"])),
        ("by the digest, under another name and tag", launch(&[&with_tag, "true"])),
        ("a container that looks like another image", launch(&["free", "true"])),
        ("that container's ID", launch(&[&container, "true"])),
        ("a tree of the store by its path", launch(&[&tree, "true"])),
        ("a request written by hand", with(launch(&["--", "true"]), "UDOCKER_REQUEST", &request(LICENSED))),
        ("the option as a variable", with(launch(&["--", "true"]), "UDOCKER_IMAGE", LICENSED)),
        ("the user's own store", with(launch(&[LICENSED, "true"]), "UDOCKER_DIR", own.to_str().unwrap())),
        ("the site's store, named", with(launch(&[LICENSED, "true"]), "UDOCKER_DIR", site.to_str().unwrap())),
        ("a link to it", with(launch(&[LICENSED, "true"]), "UDOCKER_DIR", env.path("link").to_str().unwrap())),
        ("another registry", with(launch(&[LICENSED, "true"]), "UDOCKER_REGISTRY", "other.example")),
        ("a partition", with(launch(&[LICENSED, "true"]), "SLURM_JOB_PARTITION", "free")),
        ("a later rank of a step that ran before", rank(&env, "1", &[LICENSED, "true"])),
    ];
    for (case, command) in denied_jobs {
        let (status, said) = ended(command);
        assert_eq!(status, POLICY, "{case}: {said}");
        assert!(said.contains("site.toml:8:1): ask for a licence"), "{case}: {said}");
    }
    for (case, words, expected) in [
        ("run", &["run", LICENSED, "true"][..], 125),
        ("run without a copy", &["run", "--write=none", LICENSED, "true"], 125),
        ("run of a container", &["run", "free", "true"], 125),
        ("run of a directory", &["run", &format!("--location={tree}"), "", "true"], 125),
        ("run by digest", &["run", &by_digest, "true"], 125),
        ("create", &["create", LICENSED], 1),
    ] {
        let (status, said) = ended(env.udocker(words));
        assert_eq!(status, expected, "{case}: {said}");
        assert!(said.contains("(/etc/udocker/site.toml:8:1): ask for a licence"), "{case}: {said}");
    }
    let output = env.launch(&[LICENSED, "true"]).output().unwrap();
    assert_eq!(
        stderr(&output),
        format!(
            "udocker: cannot use {LICENSED}: the site forbids it (/etc/udocker/site.toml:8:1): ask for a licence\n  \
             hint: ask help@site.example\n"
        )
    );
    // Files of the user's own change no rule.
    fs::create_dir_all(env.path("home/.udocker")).unwrap();
    fs::write(env.path("home/.udocker/udocker.conf"), "[DEFAULT]\npolicy = \"allow\"\ndefault = \"allow\"\n").unwrap();
    assert_eq!(ended(env.launch(&[LICENSED, "true"])).0, POLICY);
    // The rest runs.
    let by_digest = format!("registry.example/team/free@{}", digest(&env, FREE));
    for image in [FREE, &by_digest] {
        let output = run(&mut env.launch(&[image, "cat", "/etc/free"]));
        assert_eq!(stdout(&output), "free", "{image}");
        let output = run(&mut env.udocker(&["run", image, "cat", "/etc/free"]));
        assert_eq!(stdout(&output), "free", "{image}");
    }
}

#[test]
fn where_all_is_denied_what_a_rule_allows_runs_as_it_says() {
    let mut env = TestEnv::ordinary();
    let store = central(&mut env);
    run(&mut env.udocker(&["import", env.busybox_tar().to_str().unwrap(), FREE]));
    run(&mut env.udocker(&["create", "--name=mine", FREE]));
    let rules = format!(
        "{store}[policy]\ndefault = \"deny\"\n[[policy.rule]]\nmatch.store = [\"central\"]\nmatch.group = [{ORDINARY_USER}]\n\
         action = \"allow\"\nmodes = [\"N1\"]\nwritable = false\n"
    );
    env.set_site(&rules);
    let elsewhere = env.own_directory("elsewhere", 0o700);
    for (case, words, in_central, expected) in [
        ("of the site", &[FREE, "true"][..], true, 0),
        ("of the user", &[FREE, "true"], false, POLICY),
        ("the user's container", &["mine", "true"], false, POLICY),
        ("a directory", &[elsewhere.to_str().unwrap(), "true"], false, POLICY),
        ("the mode", &["--mode=N1", FREE, "true"], true, 0),
        ("another mode", &["--mode=P1", FREE, "true"], true, POLICY),
        ("writes", &["--write=tmpfs", FREE, "true"], true, POLICY),
    ] {
        let mut command = env.launch(words);
        if in_central {
            command.env("UDOCKER_DIR", env.path("empty"));
        }
        let (status, said) = ended(command);
        assert_eq!(status, expected, "{case}: {said}");
    }
    env.set_site(&rules.replace(&format!("[{ORDINARY_USER}]"), "[12345]"));
    assert_eq!(ended(env.launch(&[FREE, "true"])).0, POLICY, "another group");
}

/// What a record in a user's store says is his word: it makes nothing there the site's.
#[test]
fn a_record_that_its_user_wrote_makes_no_tree_the_site_s() {
    let mut env = TestEnv::ordinary();
    let store = central(&mut env);
    let (site, own) = (env.path("site"), env.store());
    // A tree of his own under the digest and the tag of the site's image.
    fs::write(env.path("root/etc/free"), "forged").unwrap();
    let tar = env.path("forged.tar");
    run(Command::new("tar").arg("-C").arg(env.path("root")).arg("-cf").arg(&tar).arg("."));
    run(&mut env.udocker(&["import", tar.to_str().unwrap(), FREE]));
    let tag = Path::new("repos").join(FREE.replace(':', "/")).join("manifest");
    let digest_in = |store: &Path| Digest::sha256_of(&fs::read(store.join(&tag)).unwrap());
    let (theirs, of_site) = (digest_in(&own), digest_in(&site));
    let record = children(&own.join("records/sha256")).remove(0);
    let forged = fs::read_to_string(&record).unwrap().replace(&theirs.to_string(), &of_site.to_string());
    let name = record.file_name().unwrap().to_str().unwrap().replace(theirs.hex(), of_site.hex());
    fs::write(record.with_file_name(name), forged).unwrap();
    fs::copy(site.join(&tag), own.join(&tag)).unwrap();
    let by_digest = format!("registry.example/team/free@{of_site}");
    let cases = |image: &str| {
        let words = ["--pull=never", image, "cat", "/etc/free"];
        let written = [&["run", "--write=none"], &words[..]].concat();
        [("launch", env.launch(&words), POLICY), ("run", env.udocker(&written), 125)]
    };
    for image in [FREE, &by_digest] {
        for (case, mut command, _) in cases(image) {
            assert_eq!(stdout(&run(&mut command)), "forged", "{case} {image}");
        }
    }
    let rule = "[policy]\ndefault = \"deny\"\n[[policy.rule]]\nmatch.store = [\"central\"]\naction = \"allow\"\n";
    fs::write(env.path("etc/udocker/site.toml"), format!("{store}{rule}")).unwrap();
    for image in [FREE, &by_digest] {
        let denied =
            format!("cannot use {image}: the site forbids it (/etc/udocker/site.toml:7:11): no rule allows it");
        for (case, command, expected) in cases(image) {
            let (status, said) = ended(command);
            assert_eq!(
                (status, said.trim_start_matches("udocker: ").trim_start_matches("Error: ")),
                (expected, &*denied),
                "{case}"
            );
        }
        for (case, mut command, _) in cases(image) {
            let output = run(command.env("UDOCKER_DIR", env.path("work/empty")));
            assert_eq!(stdout(&output), "free", "{case} {image}: the site's own");
        }
    }
    let (status, said) = ended(env.udocker(&["create", FREE]));
    assert_eq!(
        (status, &*said),
        (
            1,
            &*format!("Error: cannot use {FREE}: the site forbids it (/etc/udocker/site.toml:7:11): no rule allows it")
        )
    );
}

#[test]
fn modes_that_the_site_allows() {
    let mut env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    env.set_site("modes.allowed = [\"P1\"]\n");
    let mode = |words: &[&str]| {
        let words = [&["run", "--write=none"], words, &["bb:1", "sh", "-c", "echo $container_execmode"]].concat();
        let output = env.udocker(&words).output().unwrap();
        (code(&output), stdout(&output))
    };
    assert_eq!(mode(&[]), (0, "P1\n".into()));
    assert_eq!(mode(&["--mode=auto"]), (0, "P1\n".into()));
    assert_eq!(mode(&["--mode=N1"]), (125, String::new()));
    assert_eq!(ended(env.launch(&["--mode=N1", "bb:1", "true"])).0, POLICY);
    assert_eq!(ended(env.launch(&["bb:1", "true"])).0, 0);
    let output = env.udocker(&["run", "--mode=N1", "bb:1", "true"]).output().unwrap();
    assert_eq!(
        stderr(&output),
        "Error: cannot run in the mode that --mode asks for\n  caused by: cannot use bb:1: the site forbids mode N1 \
         (/etc/udocker/site.toml:1:17)\n  hint: allowed: P1\n"
    );
}

#[test]
fn registries_that_the_site_denies_are_not_asked() {
    let mut env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Busybox);
    env.set_site("registries.allow = [\"registry.example\"]\n");
    let words = format!("the site forbids the registry {} (/etc/udocker/site.toml:1:20)", registry.host);
    let list = format!("{}/test/{}", registry.host, Kind::Busybox.name());
    for (case, command, expected) in [
        ("pull", env.udocker(&["pull", &reference]), 1),
        ("run", env.udocker(&["run", &reference, "true"]), 125),
        ("launch", env.launch(&[&reference, "true"]), POLICY),
        ("launch, asking again", env.launch(&["--pull=always", &reference, "true"]), POLICY),
        ("manifest", env.udocker(&["manifest", "inspect", &reference]), 1),
        ("tags", env.udocker(&["search", "--list-tags", &list]), 1),
    ] {
        let mut command = command;
        let output = command.output().unwrap();
        assert_eq!(code(&output), expected, "{case}: {}", stderr(&output));
        assert!(stderr(&output).contains(&words), "{case}: {}", stderr(&output));
    }
    assert!(env.trees().is_empty());
    env.set_site(&format!("registries.allow = [\"{}\"]\n", registry.host));
    run(&mut env.udocker(&["pull", &reference]));
    // What is here already is used no more once its registry is denied.
    env.set_site(&format!("registries.deny = [\"{}\"]\n", registry.host));
    assert_eq!(ended(env.launch(&[&reference, "true"])).0, POLICY);
}
