//! A job is submitted with `udocker` beside the launcher: its tag becomes a digest, the site's rules are told, and a profile or
//! `--udocker-explain` is read where it is typed.
#![cfg(target_arch = "x86_64")]

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use udocker_tests::cluster::Release;
use udocker_tests::images::Kind;
use udocker_tests::slurm_site::{ALL, INSTALLED, Site, is, on_the_host, places};
use udocker_tests::{Fault, FaultProxy, Registry, TestEnv};

const PREFER: &str = "[policy]\npin = \"prefer\"\n";
const REQUIRE: &str = "[policy]\npin = \"require\"\n";

/// What only the second image has.
const LOOK: &str = "[ -e /etc/arch ] && echo second || echo first";

/// A registry whose tag `test/x:latest` moves, and what counts before it.
struct Tag {
    registry: Registry,
    proxy: FaultProxy,
    reference: String,
    _env: TestEnv,
}

impl Tag {
    fn new() -> Self {
        let env = TestEnv::new();
        let registry = Registry::start(&env);
        let proxy = FaultProxy::start(&registry.host, 1);
        let tag = Self { reference: format!("{}/test/x:latest", proxy.host), registry, proxy, _env: env };
        tag.moves_to(Kind::Busybox);
        tag
    }
    fn moves_to(&self, kind: Kind) {
        self.registry.publish(&kind.image(), "x");
    }
    fn image(&self) -> String {
        format!("--udocker-image={}", self.reference)
    }
    /// How often the registry was asked what the tag is.
    fn asked(&self) -> usize {
        self.proxy.requests().iter().filter(|request| request.ends_with("/manifests/latest")).count()
    }
}

/// Counts the runs of `udocker` beside the launcher, in /home/tester/calls.
fn count_calls(site: &Site) {
    let program = site.etc(INSTALLED).join("udocker");
    std::fs::rename(&program, program.with_file_name("udocker.real")).unwrap();
    let script = format!("#!/bin/sh\necho $1 $2 >>/home/tester/calls\nexec {INSTALLED}/udocker.real \"$@\"\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
}

fn resolves(site: &Site) -> usize {
    let calls = std::fs::read_to_string(site.cluster.home().join("calls")).unwrap_or_default();
    calls.lines().filter(|line| *line == "resolve --request").count()
}

/// Submits `script` with `words`, held; the job's number.
fn hold(site: &Site, words: &[&str], script: &str) -> String {
    site.write("held", script);
    let (status, out, err) = site.run(&[&["sbatch", "--parsable", "--hold", "-N1"], words, &["held"]].concat());
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    out.trim().to_owned()
}

/// Waits until the job, or what it consists of, has ended.
const ENDED: &str = "while sleep 0.1; scontrol -o show job $job | grep -Eq 'JobState=(PENDING|RUNNING|CONFIGURING|COMPLETING)'; do :; done";

/// Lets the job go on and waits for its end.
fn release(site: &Site, job: &str) {
    assert_eq!(site.run(&["sh", "-c", &format!("job={job}; scontrol release $job; {ENDED}")]).2, "");
}

fn text(site: &Site, name: &str) -> String {
    std::fs::read_to_string(site.cluster.home().join(name)).unwrap_or_else(|error| format!("{name}: {error}\n"))
}

/// `err` without what `udocker stage` tells of a pull.
fn quiet(err: &str) -> String {
    err.split_inclusive('\n').filter(|line| !line.starts_with("Info: ")).collect()
}

/// The digest in the request of an allocation with `words`, and what salloc says.
fn pinned(site: &Site, words: &[&str]) -> (Option<String>, String) {
    let command = ["sh", "-c", "echo $SLURM_UDOCKER_REQUEST"];
    let (status, out, err) = site.cluster.run(&["SHELL=/bin/sh"], &[&["salloc", "-n1"], words, &command[..]].concat());
    assert_eq!(status, 0, "{out}{err}");
    let pin = out.split("\"pin\":").nth(1).expect("a request").split(',').next().expect("a value");
    // Of a message all lines but the first are indented.
    let is_ours = |line: &&str| line.starts_with("salloc: udocker: ") || line.starts_with("  ");
    let told: String =
        err.lines().filter(is_ours).map(|line| format!("{}\n", line.trim_start_matches("salloc: "))).collect();
    (pin.strip_prefix('"').map(|pin| pin.trim_end_matches('"').to_owned()), told)
}

#[test]
fn a_job_runs_what_its_tag_was_when_it_was_submitted() {
    for number in ALL {
        let (site, tag) = (Site::whole(number, PREFER), Tag::new());
        count_calls(&site);
        let script = format!("#!/bin/sh\n#SBATCH -o out -e err\n{LOOK}\nsrun -Q sh -c '{LOOK}'\n");
        let job = hold(&site, &[&tag.image()], &script);
        assert_eq!((tag.asked(), resolves(&site)), (1, 1), "{number:?}");
        tag.moves_to(Kind::Multi);
        release(&site, &job);
        assert_eq!(
            (text(&site, "out").as_str(), quiet(&text(&site, "err")).as_str()),
            ("first\nfirst\n", ""),
            "{number:?}"
        );
        // Nobody asked for the tag again, nor the toolkit about the step.
        assert_eq!((tag.asked(), resolves(&site)), (1, 1), "{number:?}");
        let (status, out, err) = site.run(&["srun", "-n1", "--udocker-pull=always", &tag.image(), "sh", "-c", LOOK]);
        assert_eq!((status, out.as_str(), quiet(&err).as_str()), (0, "second\n", ""), "{number:?}: the next job");
        assert_eq!((tag.asked(), resolves(&site)), (2, 2), "{number:?}");
        site.down();
    }
}

#[test]
fn arrays_components_requeued_and_nested_jobs_have_the_digest_that_is_theirs() {
    let (site, tag) = (Site::whole(Release::Bookworm, PREFER), Tag::new());
    let image = tag.image();
    count_calls(&site);
    site.write("look", &format!("#!/bin/sh\n{LOOK}\n"));
    // The first element moves the tag, and the nested job sees that.
    let array = format!("#!/bin/sh\n#SBATCH --array=0-1 -o out.%a -e err\n{LOOK}\n");
    let job = hold(&site, &[&image], &array);
    let components = format!(
        "#!/bin/sh\n#SBATCH -n1 -o out.het -e err.het\n#SBATCH hetjob\n#SBATCH -n1\n\
         srun -Q --het-group=0,1 sh -c '{LOOK}'\n"
    );
    let het = hold(&site, &[&image, "--udocker-batch=host"], &components);
    let nested = "#!/bin/sh\n#SBATCH -n1 -o out.nest -e err.nest\nsbatch -W -Q -n1 -o out.inner $1 look\n";
    let nest = hold(&site, &["--udocker-batch=host", &image], &nested.replace("$1", &image));
    let again = format!(
        "#!/bin/sh\n#SBATCH -n1 --requeue -o out.again -e err.again --open-mode=append\n{LOOK}\n\
         [ -n \"${{SLURM_RESTART_COUNT-}}\" ] || {{ touch up; sleep 100; }}\n"
    );
    let requeued = hold(&site, &[&image], &again);
    assert_eq!((tag.asked(), resolves(&site)), (1, 4), "the registry's answer is remembered for a minute");
    release(&site, &job);
    tag.moves_to(Kind::Multi);
    assert_eq!((text(&site, "out.0").as_str(), text(&site, "out.1").as_str()), ("first\n", "first\n"));
    release(&site, &het);
    assert_eq!(text(&site, "out.het"), "first\nfirst\n", "{}", text(&site, "err.het"));
    let line = format!(
        "job={requeued}; scontrol release $job; until [ -e up ]; do sleep 0.05; done; scontrol requeue $job
         until [ $(squeue -h -o %t -j $job) = PD ]; do sleep 0.1; done; sleep 2; scontrol update JobId=$job StartTime=now
         {ENDED}"
    );
    site.run(&["sh", "-c", &line]);
    assert_eq!(text(&site, "out.again"), "first\nfirst\n", "{}", text(&site, "err.again"));
    let memory = "rm -f /run/udocker/2000/resolved-* /dev/shm/udocker-2000/resolved-* /tmp/udocker-2000/resolved-*";
    for host in ["ctl", "n1", "n2"] {
        site.cluster.run_as_root(host, &["sh", "-c", memory]);
    }
    release(&site, &nest);
    assert_eq!(quiet(&text(&site, "out.inner")), "second\n", "{}", text(&site, "err.nest"));
    site.down();
}

/// Longer than the plugin listens to a program that says nothing.
#[test]
fn an_image_is_made_ready_at_submission_where_the_site_says_so() {
    let (site, tag) = (Site::whole(Release::Bookworm, "[stage]\nwhen = \"submit\"\n"), Tag::new());
    tag.proxy.add("/blobs/", u64::MAX, Fault::Delay(Duration::from_secs(3)));
    site.write("job", &format!("#!/bin/sh\n#SBATCH -n1 -o out -e err\n{LOOK}\n"));
    let (status, out, err) = site.run(&["sbatch", "--parsable", "--hold", &tag.image(), "job"]);
    assert_eq!(status, 0, "{out}{err}");
    let told = format!("udocker: {} is being made ready for the job (10 s)\n", tag.reference);
    assert!(err.contains(&told), "{err}");
    assert!(!err.contains("warning"), "{err}");
    // Nobody needs the registry any more.
    let asked = tag.proxy.requests();
    release(&site, out.trim());
    assert_eq!((text(&site, "out").as_str(), text(&site, "err").as_str()), ("first\n", ""));
    assert_eq!(tag.proxy.requests(), asked);
    // What cannot be had here may be had there: the job is submitted.
    let missing = tag.image().replace("/test/x", "/test/y");
    let (status, out, err) = site.run(&["sbatch", "--parsable", "--hold", &missing, "job"]);
    assert!(status == 0 && err.contains("is not made ready now: the job's first task does that"), "{err}");
    assert_eq!(site.run(&["scancel", out.trim()]), is(0, "", ""));
    site.down();
}

#[test]
fn what_a_tag_is_may_be_required_wished_or_left_open() {
    let tag = Tag::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("{}/x:1", silent.local_addr().unwrap());
    for (number, whole) in [(Release::Bookworm, true), (Release::Trixie, false), (Release::Forky, false)] {
        let site = Site::whole(number, "");
        let image = |name: &str| format!("--udocker-image={name}");
        let late = format!(
            "  caused by: cannot ask for the digest of {dead}: its registry did not answer within 5 s\n  \
             hint: `udocker pull {dead}` gets it into your store, which is asked first\n"
        );
        std::fs::write(site.etc("/etc/udocker/site.toml"), REQUIRE).unwrap();
        let since = Instant::now();
        let (status, out, err) = site.run(&["srun", "-n1", &image(&dead), "true"]);
        let told = format!(
            "srun: error: udocker: cannot submit a job with {dead}: it has no digest, and the site's `policy.pin` is \
             \"require\"\n{late}"
        );
        assert_eq!((status, out.as_str()), (1, ""), "{number:?}");
        assert_eq!(
            err.split_inclusive("srun: error: ").nth(1).map(|_| err.starts_with(&told)),
            Some(true),
            "{number:?} {err}"
        );
        assert!((5..12).contains(&since.elapsed().as_secs()), "{number:?} {:?}", since.elapsed());
        let (pin, told) = pinned(&site, &[&tag.image()]);
        assert_eq!((pin, told.as_str()), (Some(Kind::Busybox.image().digest()), ""), "{number:?}");
        if whole {
            for (word, why) in [
                (image(&tag.reference.replace("latest", "none")), "answered 404 for tag `none`"),
                (
                    "--udocker-pull=never".into(),
                    "is in no store, and `--udocker-pull=never` forbids asking the registry",
                ),
            ] {
                let (status, _, err) = site.run(&["sbatch", &tag.image(), &word, "--wrap=true"]);
                assert!(status == 1 && err.contains(why), "{word}: {err}");
                assert!(err.contains("sbatch: error: udocker: cannot submit a job with "), "{word}: {err}");
            }
            assert_eq!(site.run(&["squeue", "-h"]).1, "", "nothing was submitted");
            // What is no tag needs no digest of a registry.
            assert_eq!(pinned(&site, &[&site.image]), (None, String::new()));
            let by_digest = format!("{}@{}", tag.reference.trim_end_matches(":latest"), Kind::Busybox.image().digest());
            assert_eq!(pinned(&site, &[&image(&by_digest)]), (None, String::new()));
        }
        std::fs::write(site.etc("/etc/udocker/site.toml"), PREFER).unwrap();
        let (pin, told) = pinned(&site, &[&image(&dead)]);
        let warning = format!(
            "udocker: warning: {dead} is not pinned to a digest now: the job's first task decides which image it is\n{late}"
        );
        assert_eq!((pin, told), (None, warning), "{number:?}");
        let asked = tag.asked();
        for text in ["", "[policy]\npin = \"off\"\n"] {
            std::fs::write(site.etc("/etc/udocker/site.toml"), text).unwrap();
            let since = Instant::now();
            assert_eq!(pinned(&site, &[&image(&dead)]), (None, String::new()), "{number:?}");
            assert_eq!(pinned(&site, &[&tag.image()]), (None, String::new()), "{number:?}");
            assert!(since.elapsed().as_secs() < 5, "{number:?}");
        }
        assert_eq!(tag.asked(), asked, "{number:?}");
        site.down();
    }
}

#[test]
fn a_submission_without_udocker_goes_on_and_says_what_is_missing() {
    let (site, tag) = (Site::whole(Release::Bookworm, PREFER), Tag::new());
    let program = site.etc(INSTALLED).join("udocker");
    let away = program.with_file_name("udocker.away");
    std::fs::rename(&program, &away).unwrap();
    let told = |why: &str| {
        format!(
            "udocker: warning: {} is not pinned to a digest when the job is submitted: {INSTALLED}/udocker {why}\n",
            tag.reference
        )
    };
    let missing = told("cannot be run: No such file or directory (os error 2)");
    assert_eq!(pinned(&site, &[&tag.image()]), (None, missing));
    // A directory has no digest to lose.
    assert_eq!(pinned(&site, &[&site.image]), (None, String::new()));
    let script = |text: &str| {
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("#!/bin/sh\nexec sleep 100\n");
    let since = Instant::now();
    assert_eq!(pinned(&site, &[&tag.image()]), (None, told("said nothing for 15 s and was ended")));
    assert!((15..40).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    script("#!/bin/sh\nkill -9 $$\n");
    assert_eq!(pinned(&site, &[&tag.image()]), (None, told("was ended (signal: 9 (SIGKILL))")));
    script("#!/bin/sh\necho '{}'\n");
    let broken = "gave no answer: the request cannot be read";
    assert_eq!(pinned(&site, &[&tag.image()]), (None, told(broken)));
    assert_eq!(tag.asked(), 0);
    site.down();
}

/// What srun says of ours at submission, and what a node says of the same, each with its status.
fn said(site: &Site, words: &[&str]) -> [(i32, String); 2] {
    let program = site.etc(INSTALLED).join("udocker");
    let away = program.with_file_name("away");
    let ours = |text: &str, start: &str| {
        let rest = text.split_once(start).map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        // srun's own line about the task's end comes between those of the task as it likes.
        rest.split_inclusive('\n').filter(|line| !line.starts_with("srun: ")).collect::<String>()
    };
    let words = [&["srun", "-n1", "-w", "n1"], words, &["true"]].concat();
    let (status, _, err) = site.run(&words);
    let submitted = (status, ours(&err, "srun: error: udocker: "));
    // Nobody answers the plugin, and the node has what it needs.
    std::fs::rename(&program, &away).unwrap();
    let script = format!("#!/bin/sh\n[ $1 != resolve ] || kill -9 $$\nexec {INSTALLED}/away \"$@\"\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let (status, _, err) = site.run(&words);
    std::fs::rename(&away, &program).unwrap();
    [submitted, (status, ours(&err, "udocker: [n1] "))]
}

#[test]
fn what_every_node_would_refuse_is_refused_at_submission_in_the_same_words() {
    let (site, tag) = (Site::whole(Release::Bookworm, ""), Tag::new());
    let host = tag.proxy.host.clone();
    std::fs::create_dir(site.cluster.home().join("secret")).unwrap();
    chown(site.cluster.home().join("secret"), Some(2000), Some(2000)).unwrap();
    let (image, directory) = (tag.image(), site.image.clone());
    let contact = "[site]\ncontact = \"help@site.example\"\n";
    let rule = |text: &str| format!("[[policy.rule]]\nreason = \"we said so\"\n{text}\n");
    let named = |action: &str| rule(&format!("action = \"{action}\"\nmatch.image = [\"{host}/test/x\"]"));
    let secret = "/home/tester/secret";
    for toml in [format!("{PREFER}[registries]\ndeny = [\"{host}\"]\n"), format!("{PREFER}{}", named("deny"))] {
        std::fs::write(site.etc("/etc/udocker/site.toml"), toml).unwrap();
        assert_eq!(site.run(&["srun", "-n1", &image, "true"]).0, 1);
        assert_eq!(tag.proxy.requests(), Vec::<String>::new(), "nobody is asked for what is forbidden");
    }
    for (case, toml, words) in [
        ("registry", format!("[registries]\ndeny = [\"{host}\"]\n"), vec![image.as_str()]),
        ("image", named("deny"), vec![image.as_str()]),
        ("default", "[policy]\ndefault = \"deny\"\n".into(), vec![directory.as_str()]),
        ("mode", "[modes]\nallowed = [\"P2\"]\n".into(), vec![directory.as_str(), "--udocker-mode=N1"]),
        ("mode of a rule", rule("action = \"allow\"\nmodes = [\"P2\"]"), vec![directory.as_str(), "--udocker-mode=N1"]),
        ("writes", rule("action = \"allow\"\nwritable = false"), vec![directory.as_str(), "--udocker-write=tmpfs"]),
        (
            "mount",
            format!("[mounts]\nforbidden_sources = [\"{secret}\"]\n"),
            vec![directory.as_str(), "--udocker-mount=/home/tester/secret:/x"],
        ),
        (
            "target",
            "[mounts]\nforbidden_targets = [\"/usr\"]\n".into(),
            vec![directory.as_str(), "--udocker-mount=/home/tester/secret:/usr/x"],
        ),
        (
            "directory for writes",
            format!("[mounts]\nforbidden_sources = [\"{secret}\"]\n"),
            vec![directory.as_str(), "--udocker-write=dir:/home/tester/secret"],
        ),
        (
            "directory as image",
            format!("[mounts]\nforbidden_sources = [\"{secret}\"]\n"),
            vec!["--udocker-image=/home/tester/secret"],
        ),
    ] {
        std::fs::write(site.etc("/etc/udocker/site.toml"), format!("{contact}{toml}")).unwrap();
        let [(at_submit, submitted), (on_node, node)] = said(&site, &words);
        assert_eq!((at_submit, on_node), (1, 121), "{case}: {submitted}{node}");
        assert_eq!(submitted, node, "{case}");
        assert!(
            node.contains("/etc/udocker/site.toml:") && node.ends_with("  hint: ask help@site.example\n"),
            "{node}"
        );
        assert_eq!(node.contains("we said so"), toml.contains("reason"), "{case}: {node}");
    }
    // What another partition may is no node's certain answer.
    let allowed = rule("action = \"allow\"\nmatch.partition = [\"other\"]");
    let elsewhere = "[[override]]\npartition = [\"other\"]\nmodes.allowed = [\"N1\"]\n";
    for (case, toml, words) in [
        ("partition", format!("[policy]\ndefault = \"deny\"\n{allowed}"), vec![directory.as_str()]),
        (
            "override",
            format!("[modes]\nallowed = [\"P2\"]\n{elsewhere}"),
            vec![directory.as_str(), "--udocker-mode=N1"],
        ),
    ] {
        std::fs::write(site.etc("/etc/udocker/site.toml"), format!("{contact}{toml}")).unwrap();
        let words = [&["srun", "-n1"], &words[..], &["true"]].concat();
        let (status, _, err) = site.run(&words);
        assert_eq!((status, err.contains("udocker: [n1] cannot ")), (121, true), "{case}: {err}");
        site.idle();
        let (status, out, err) = site.run(&[&["salloc", "-Q", "-n1", "-pmain"], &words[2..]].concat());
        assert_eq!((status, out, err), is(0, "", ""), "{case}");
    }
    site.down();
}

#[test]
fn stores_platforms_and_the_pull_policy_count_as_on_the_node() {
    let (site, tag) = (Site::whole(Release::Bookworm, PREFER), Tag::new());
    let udocker = format!("{INSTALLED}/udocker");
    let image = tag.image();
    let first = Kind::Busybox.image().digest();
    let saw = |words: &[&str]| {
        let (status, out, err) = site.run(&[&["srun", "-n1"], words, &["sh", "-c", LOOK]].concat());
        assert_eq!(status, 0, "{words:?}: {err}");
        (out, quiet(&err))
    };
    let seen = |what: &str| (format!("{what}\n"), String::new());
    // The user's own store is asked before the registry, of which `always` thinks otherwise.
    assert_eq!(site.run(&[&udocker, "-q", "pull", &tag.reference]), is(0, "", ""));
    tag.moves_to(Kind::Multi);
    let asked = tag.asked();
    for words in [&[image.as_str()][..], &[&image, "--udocker-pull=never"]] {
        assert_eq!(pinned(&site, words), (Some(first.clone()), String::new()), "{words:?}");
        assert_eq!(saw(words), seen("first"), "{words:?}");
    }
    assert_eq!(tag.asked(), asked);
    let (_, plan, _) = site.run(&["srun", "-n1", &image, "--udocker-explain", "true"]);
    let digest: Vec<_> = plan.lines().filter_map(|line| line.trim_start().strip_prefix("digest ")).collect();
    let told: Vec<Vec<_>> = digest.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(told, [[first.as_str(), "/etc/udocker/site.toml:2:7"]], "{plan}");
    let always = [image.as_str(), "--udocker-pull=always"];
    assert_eq!(pinned(&site, &always), (Some(Kind::Multi.image().digest()), String::new()));
    let script = format!("#!/bin/sh\n#SBATCH -n1 -o out -e err\n{LOOK}\n");
    let job = hold(&site, &always, &script);
    tag.moves_to(Kind::Busybox);
    let asked = tag.asked();
    release(&site, &job);
    assert_eq!((text(&site, "out").as_str(), tag.asked()), ("second\n", asked), "{}", text(&site, "err"));
    // A store's tag that moves after the submission moves no job.
    let job = hold(&site, &[&image], &script);
    tag.moves_to(Kind::Multi);
    assert_eq!(site.run(&[&udocker, "-q", "pull", &tag.reference]), is(0, "", ""));
    release(&site, &job);
    assert_eq!(text(&site, "out"), "first\n", "{}", text(&site, "err"));
    assert_eq!(saw(&[&image]), seen("second"));
    // What was never extracted is found by its tag, without a registry.
    let reference = "local:1";
    assert_eq!(site.run(&[&udocker, "-q", "tag", &tag.reference, reference]).0, 0);
    for name in ["records", "rootfs"] {
        let from = site.cluster.home().join(".udocker").join(name);
        std::fs::rename(from, site.cluster.home().join(name)).unwrap();
    }
    let local = format!("--udocker-image={reference}");
    let (pin, told) = pinned(&site, &[&local, "--udocker-pull=never"]);
    assert_eq!((pin.is_some(), told.as_str()), (true, ""));
    assert_eq!(saw(&[&local, "--udocker-pull=never"]), seen("second"));
    // Another platform's image is not here: what its registry said a moment ago is the index of all.
    let arm = [image.as_str(), "--udocker-platform=linux/arm64"];
    assert_eq!(pinned(&site, &arm), (Some(Kind::Multi.image().digest()), String::new()));
    let (pin, told) = pinned(&site, &[arm[0], arm[1], "--udocker-pull=never"]);
    assert!(pin.is_none() && told.contains("is in no store, and `--udocker-pull=never` forbids"), "{told}");
    // Containers are none's to pin.
    assert_eq!(site.run(&[&udocker, "-q", "create", "--name=mine", reference]).0, 0);
    assert_eq!(pinned(&site, &["--udocker-image=mine"]), (None, String::new()));
    site.down();
}

/// What was an image when the job was submitted is that image, whatever has its name when it starts; a step that asks for it
/// anew asks for what it is then.
#[test]
fn a_container_that_takes_the_name_of_a_waiting_job_s_image_is_not_run() {
    let (site, tag) = (Site::whole(Release::Bookworm, PREFER), Tag::new());
    let udocker = |words: &[&str]| {
        let (status, out, err) = site.run(&[&[&*format!("{INSTALLED}/udocker"), "-q"], words].concat());
        assert_eq!((status, err.as_str()), (0, ""), "{words:?}: {out}");
    };
    udocker(&["pull", &tag.reference]);
    udocker(&["tag", &tag.reference, "mine:1"]);
    let script = |steps: &[&str]| {
        let steps: String = steps.iter().map(|words| format!("srun -Q {words} sh -c '{LOOK}'\n")).collect();
        format!("#!/bin/sh\n#SBATCH -n1 -o out -e err\n{LOOK}\n{steps}")
    };
    let of_name = script(&["", "--udocker-image=mine:1", "--udocker-pull=never"]);
    let of_name = hold(&site, &["--udocker-image=mine:1"], &of_name);
    let of_tag = hold(&site, &[&tag.image()], &script(&["", "--udocker-pull=always"]));
    tag.moves_to(Kind::Multi);
    udocker(&["pull", &tag.reference]);
    udocker(&["create", "--name=mine:1", &tag.reference]);
    let asked = tag.asked();
    for (job, expected) in [(&of_tag, "first first second"), (&of_name, "first first first second")] {
        release(&site, job);
        let out = text(&site, "out");
        assert_eq!(out.lines().collect::<Vec<_>>().join(" "), expected, "{}", text(&site, "err"));
        assert_eq!(tag.asked() - asked, 1, "{expected}");
    }
    let (status, out, err) = site.run(&["srun", "-n1", "--udocker-image=mine:1", "sh", "-c", LOOK]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "second\n", ""));
    site.down();
}

#[test]
fn the_plugin_s_line_names_the_site_s_file_and_no_user_does() {
    for number in [Release::Bookworm, Release::Trixie] {
        let site = Site::whole(number, "");
        let installed = site.etc(INSTALLED);
        let file = installed.join("site.toml");
        let named = format!("{INSTALLED}/site.toml");
        std::fs::write(&file, "[modes]\nallowed = [\"P2\"]\n").unwrap();
        std::fs::create_dir(installed.join("open")).unwrap();
        std::fs::write(installed.join("open/site.toml"), "").unwrap();
        let users = format!("SLURM_UDOCKER_CONFIG={INSTALLED}/open/site.toml");
        let words = [site.image.as_str(), "--udocker-mode=N1"];
        let denied = format!(
            "cannot run in the mode that `--udocker-mode` asks for\n  caused by: cannot use {}: the site forbids mode N1 \
             ({named}:2:11)\n  hint: allowed: P2\n",
            site.root
        );
        // Without the word it is the file in /etc, whatever the user says.
        let run = |words: &[&str]| site.cluster.run(&[&users], &[&["srun", "-n1", "-w", "n1"], words].concat());
        let shows = "echo ${SLURM_UDOCKER_CONFIG-none}";
        assert_eq!(run(&[words[0], words[1], "sh", "-c", shows]), is(0, "none\n", ""), "{number:?}");
        site.line(&format!("config={named}"));
        let denies = |told: &str, status: i32| {
            assert_eq!(said(&site, &words), [(1, told.to_owned()), (status, told.to_owned())], "{number:?}");
        };
        denies(&denied, 121);
        let (status, _, err) = run(&[words[0], words[1], "true"]);
        assert!(status == 1 && err.contains(&denied), "{number:?}: {err}");
        std::fs::rename(installed.join("udocker"), installed.join("away")).unwrap();
        let (status, _, err) = run(&[words[0], words[1], "true"]);
        std::fs::rename(installed.join("away"), installed.join("udocker")).unwrap();
        assert_eq!((status, err.contains(&format!("udocker: [n1] {denied}"))), (121, true), "{number:?}: {err}");
        // Of the script on the host, and not of the program inside, which knows no such path.
        std::fs::write(&file, "[policy]\npin = \"prefer\"\n").unwrap();
        let script = format!("#!/bin/sh\n{shows}\nsrun -Q sh -c '{shows}'\n");
        let (status, out, err) = site.batch(&[], &[&site.image, "--udocker-batch=host"], &script);
        assert_eq!((status, out.as_str()), (0, format!("{named}\nnone\n").as_str()), "{number:?}: {err}");
        // Broken, another's, everybody's, missing, and no site.toml: nothing that asks for a container runs.
        let cannot = |why: &str| format!("cannot {why}\n");
        std::fs::write(&file, "[policy]\npin = \"perhaps\"\n").unwrap();
        let [(at_submit, submitted), (on_node, node)] = said(&site, &words);
        assert_eq!((at_submit, on_node, &submitted), (1, 125, &node), "{number:?}");
        assert!(node.starts_with(&format!("{named}:2:7: ")), "{node}");
        std::fs::write(&file, "").unwrap();
        chown(&file, Some(2000), None).unwrap();
        let hint = format!("  hint: `chown 0 {named}`\n");
        let owner = format!("trust the configuration {named}: it belongs to uid 2000, not to uid 0");
        denies(&(cannot(&owner) + &hint), 122);
        chown(&file, Some(0), None).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        let hint = format!("  hint: `chmod go-w {named}`\n");
        denies(
            &(cannot(&format!("trust the configuration {named}: mode 0666 lets group or others write it")) + &hint),
            122,
        );
        std::fs::remove_file(&file).unwrap();
        denies(&cannot(&format!("read the configuration {named}: it does not exist")), 122);
        site.line("config=/etc/environment");
        let expected = "use the variable SLURM_UDOCKER_CONFIG, `/etc/environment`: expected the absolute path of a file that \
                        is called site.toml, by `config=` in plugstack.conf";
        denies(&cannot(expected), 125);
        // Others' jobs know nothing of it.
        assert_eq!(site.run(&["srun", "-n1", "echo", "bare"]), is(0, "bare\n", ""), "{number:?}");
        site.down();
    }
}

#[test]
fn profiles_and_plans_are_read_where_they_are_typed() {
    for number in ALL {
        let site = Site::whole(number, "");
        let profiles = site.cluster.home().join(".config/udocker/profiles");
        std::fs::create_dir_all(&profiles).unwrap();
        let of_site = site.etc("/etc/udocker/profiles");
        std::fs::create_dir_all(&of_site).unwrap();
        let profile = |value: &str| format!("image = \"{}\"\nenv = \"A={value}\"\n", site.root);
        std::fs::write(profiles.join("mine.toml"), profile("mine")).unwrap();
        std::fs::write(of_site.join("site.toml"), profile("site")).unwrap();
        std::fs::create_dir(site.cluster.home().join("dir")).unwrap();
        site.write("dir/here.toml", &profile("here"));
        let shows = format!("{}; echo - - $A", site.place);
        let runs = |variables: &[&str], words: &[&str]| {
            let words = [&["srun", "-Q", "-n1"], words, &["sh", "-c", &shows]].concat();
            let (status, out, err) = site.cluster.run(variables, &words);
            assert_eq!((status, err.as_str()), (0, ""), "{number:?} {words:?}");
            places(&out).join(" ")
        };
        assert_eq!(runs(&[], &["--udocker-profile=mine"]), "inside mine", "{number:?}");
        assert_eq!(runs(&[], &["--udocker-profile=site"]), "inside site", "{number:?}");
        assert_eq!(runs(&["UDOCKER_PROFILE=site;mine"], &[]), "inside mine", "{number:?}");
        assert_eq!(runs(&["UDOCKER_PROFILE=mine"], &["--udocker-env=A=option"]), "inside option", "{number:?}");
        assert_eq!(runs(&["UDOCKER_PROFILE=mine"], &["--udocker-image=none"]), "host -", "{number:?}");
        // A file is that of the directory where it is typed, as it is then; and a step may have a profile of its own.
        let script = "#!/bin/sh\n#SBATCH -n1\ncd /tmp\necho $A\nexport UDOCKER_PROFILE=mine\nsrun -Q --export=ALL sh -c 'echo $A'\n\
             unset UDOCKER_PROFILE\nsrun -Q sh -c 'echo $A'\n";
        let (status, out, err) =
            site.batch(&[], &["--udocker-profile=./dir/here.toml", "--udocker-batch=host"], script);
        let says = on_the_host(&site.root);
        assert_eq!((status, out.as_str(), err.as_str()), (0, "\nmine\nhere\n", says.as_str()), "{number:?}");
        let (status, _, err) = site.run(&["srun", "-n1", "--udocker-profile=gone", "true"]);
        let told = "srun: error: udocker: cannot put the job into a container\n  caused by: cannot read the profile `gone`: there \
                    is no /home/tester/.config/udocker/profiles/gone.toml and no /etc/udocker/profiles/gone.toml\n";
        assert!(status == 1 && err.starts_with(told), "{number:?}: {err}");

        // The plan, with who asked, and no job.
        let words = ["--udocker-profile=mine", "--udocker-workdir=/usr", "--udocker-explain"];
        for (command, of_it) in
            [("srun", &["-n1", "echo", "one two"][..]), ("sbatch", &["-n1", "script"]), ("salloc", &["-n1"])]
        {
            let (status, out, err) =
                site.cluster.run(&["UDOCKER_MOUNT=/home:/h"], &[&[command], &words[..], of_it].concat());
            assert_eq!((status, err.as_str()), (0, ""), "{number:?} {command}: {out}");
            let line = |name: &str, value: &str| {
                let of = |line: &&str| line.split_whitespace().next() == Some(name) && line.contains(value);
                let found = out.lines().find(of).unwrap_or_else(|| panic!("{name}: {out}"));
                found.split_whitespace().last().unwrap_or_default().to_owned()
            };
            let of_profile = |at: &str| format!("/home/tester/.config/udocker/profiles/mine.toml:{at}");
            assert_eq!(line("image", &site.root), of_profile("1:9"), "{number:?}");
            assert_eq!(line("A", "mine"), of_profile("2:7"), "{number:?}");
            assert_eq!(line("workdir", "/usr"), "--udocker-workdir", "{number:?}");
            assert_eq!(line("/h", "/home"), "UDOCKER_MOUNT", "{number:?}");
            assert!(!out.contains("SLURM_UDOCKER_SAID"), "{out}");
            if command == "srun" {
                assert!(out.contains("echo one two"), "{out}");
            }
        }
        let jobs = "scontrol -o show job | grep -c JobId= || true";
        let before = site.run(&["sh", "-c", jobs]).1;
        assert_eq!(site.cluster.run(&["UDOCKER_EXPLAIN=1"], &["srun", "-n1", &site.image, "true"]).0, 0);
        assert_eq!(site.run(&["sh", "-c", jobs]).1, before, "{number:?}");
        let (status, _, err) = site.run(&["srun", "-n1", "--udocker-image=none", "--udocker-explain", "true"]);
        assert!(status == 1 && err.contains("there is no container to explain: the image is `none`"), "{err}");
        site.down();
    }
}

/// srun has threads of its own in some releases: in a copy of it our code would meet locks whose holders are gone.
#[test]
fn the_toolkit_is_started_by_posix_spawn() {
    let site = Site::whole(Release::Bookworm, "");
    let line =
        format!("strace -f -o /home/tester/trace -e trace=clone,clone3,fork,vfork,execve srun -n1 {} true", site.image);
    let (status, _, err) = site.run(&["sh", "-c", &line]);
    assert_eq!(status, 0, "{err}");
    let trace = text(&site, "trace");
    let is_ours = |line: &&str| line.contains("execve(") && line.contains("\"resolve\", \"--request\"");
    assert_eq!(trace.lines().filter(is_ours).count(), 1, "{trace}");
    let before = trace.lines().take_while(|line| !is_ours(line));
    let makes = before.filter(|line| line.contains("fork(") || line.contains("clone") && line.contains("flags="));
    let processes: Vec<&str> = makes.filter(|line| !line.contains("CLONE_THREAD")).collect();
    let is_spawn = |line: &&str| line.contains("CLONE_VM|CLONE_VFORK") || line.contains("vfork(");
    assert!(processes.len() == 1 && processes.iter().all(is_spawn), "{processes:?}");
    site.down();
}

/// What was there at submission is gone, or closed to the job's user, when the job starts.
#[test]
fn a_job_whose_image_is_gone_runs_nothing() {
    let tag = Tag::new();
    for number in ALL {
        let site = Site::whole(number, PREFER);
        let script = format!("#!/bin/sh\n#SBATCH -o out -e err\n{}\nsrun true\n", site.place);
        let pinned = tag.reference.replace(":latest", &format!("@{}", Kind::Busybox.image().digest()));
        for (image, gone, says) in [
            (
                "--udocker-image=/home/tester/image",
                "rm image",
                "cannot run /home/tester/image: it is no directory with a root file system",
            ),
            (
                &tag.image(),
                "rm -r .udocker",
                &format!("image {pinned} is in no store, and `--udocker-pull=never` forbids asking the registry"),
            ),
            (&tag.image(), "chmod 0 .udocker", "cannot read /home/tester/.udocker/udocker.store"),
        ] {
            let there = format!("ln -sfn {} image; {INSTALLED}/udocker -q pull {}", site.root, tag.reference);
            assert_eq!(site.run(&["sh", "-c", &there]), is(0, "", ""));
            let job = hold(&site, &[image, "--udocker-pull=never"], &script);
            assert_eq!(site.run(&["sh", "-c", gone]), is(0, "", ""));
            release(&site, &job);
            let status = site.run(&["sh", "-c", &format!("scontrol show job {job} | grep -o ExitCode=.*")]).1;
            let (out, err) = (text(&site, "out"), text(&site, "err"));
            assert_eq!((status.as_str(), out.as_str()), ("ExitCode=122:0\n", ""), "{number:?} {gone}: {err}");
            let first = err.lines().next();
            assert_eq!(first, Some(format!("udocker: [n1] {says}").as_str()), "{number:?} {gone}: {err}");
            assert_eq!(err.matches("udocker: ").count(), 1, "{number:?} {gone}: {err}");
        }
        site.down();
    }
}

#[test]
fn an_image_by_path_needs_no_store_and_may_be_the_nodes_alone() {
    let site = Site::whole(Release::Bookworm, PREFER);
    assert_eq!(site.run(&["mkdir", "-m", "0", "closed"]), is(0, "", ""));
    for variable in ["HOME=/root", "UDOCKER_DIR=/home/tester/closed"] {
        let run = site.cluster.run(&[variable], &["srun", "-n1", &site.image, "echo", "runs"]);
        assert_eq!(run, is(0, "runs\n", ""), "{variable}");
    }
    site.write("job", "#!/bin/sh\n");
    let (status, out, err) = site.run(&["sbatch", "--parsable", "--hold", "-n1", "--udocker-image=./gone", "job"]);
    let told = "sbatch: udocker: warning: there is no directory /home/tester/gone on this host: the job's nodes must have it\n";
    assert_eq!((status, err.as_str()), (0, told), "{out}");
    assert_eq!(site.run(&["scancel", out.trim()]), is(0, "", ""));
    site.down();
}

/// Of a job's environment `SLURM_*` alone is left. A registry that is asked answers: what the store had is seen by its contents.
#[test]
fn the_store_of_a_job_is_that_of_its_submission_whatever_is_exported() {
    let (site, tag) = (Site::whole(Release::Bookworm, ""), Tag::new());
    let image = tag.image();
    let own = "UDOCKER_DIR=/home/tester/own";
    let pull = [&*format!("{INSTALLED}/udocker"), "-q", "pull", &tag.reference];
    assert_eq!(site.cluster.run(&[own], &pull), is(0, "", ""));
    let pull_never = "--udocker-pull=never";
    for variable in [own, "UDOCKER_DIR=own"] {
        for export in ["--export=NONE", "--export=A=1", "--export=ALL"] {
            let words = ["srun", "-n1", export, &image, pull_never, "sh", "-c", LOOK];
            assert_eq!(site.cluster.run(&[variable], &words), is(0, "first\n", ""), "{variable} {export}");
        }
    }
    // The script's steps inherit it; a job that it submits has that of its own environment.
    let steps = format!("srun -Q sh -c '{LOOK}'\nsbatch -W -Q -n1 -o inner {image} {pull_never} look\n");
    let script = format!("#!/bin/sh\n#SBATCH -n1 -o out -e err\n{LOOK}\n{steps}");
    site.write("look", &format!("#!/bin/sh\n{LOOK}\n"));
    site.write("job", &script);
    let words = ["sbatch", "-W", "-Q", "--export=NONE", "--udocker-batch=container", &image, pull_never, "job"];
    let (_, out, err) = site.cluster.run(&[own], &words);
    assert_eq!(text(&site, "out"), "first\nfirst\n", "{out}{err}{}", text(&site, "err"));
    let told = text(&site, "inner");
    assert!(told.contains("is in no store, and `--udocker-pull=never` forbids asking the registry"), "{told}");
    site.down();
}

/// A digest is found under any name: the rules about names hold for it as for what its job's user typed.
#[test]
fn rules_about_names_hold_for_a_job_with_a_digest() {
    let (site, tag) = (Site::whole(Release::Bookworm, ""), Tag::new());
    let host = &tag.proxy.host;
    let allow =
        format!("{PREFER}default = \"deny\"\n[[policy.rule]]\naction = \"allow\"\nmatch.image = [\"{host}/test/x\"]\n");
    std::fs::write(site.etc("/etc/udocker/site.toml"), allow).unwrap();
    let script = format!("#!/bin/sh\n#SBATCH -n1 -o out -e err\n{LOOK}\n");
    let job = hold(&site, &[&tag.image()], &script);
    tag.moves_to(Kind::Multi);
    release(&site, &job);
    assert_eq!((text(&site, "out").as_str(), quiet(&text(&site, "err")).as_str()), ("first\n", ""));
    // The same of one that is in the user's store under that name when it is submitted, and no longer when it starts.
    let udocker = format!("{INSTALLED}/udocker");
    let pull = [udocker.as_str(), "-q", "pull", &tag.reference];
    tag.moves_to(Kind::Busybox);
    assert_eq!(site.run(&pull), is(0, "", ""));
    let job = hold(&site, &[&tag.image()], &script);
    tag.moves_to(Kind::Multi);
    assert_eq!(site.run(&pull), is(0, "", ""));
    release(&site, &job);
    assert_eq!((text(&site, "out").as_str(), quiet(&text(&site, "err")).as_str()), ("first\n", ""));
    // Whoever writes another image's digest into the request gets that under its own name.
    let other = tag.registry.publish(&Kind::Features.image(), "other");
    assert_eq!(site.run(&[&format!("{INSTALLED}/udocker"), "-q", "pull", &other]), is(0, "", ""));
    let deny = format!(
        "{PREFER}[[policy.rule]]\naction = \"deny\"\nreason = \"not this one\"\nmatch.image = [\"{}/test/other\"]\n",
        tag.registry.host
    );
    std::fs::write(site.etc("/etc/udocker/site.toml"), deny).unwrap();
    let line = format!(
        "export SLURM_UDOCKER_REQUEST=$(printf %s \"$SLURM_UDOCKER_REQUEST\" | sed 's/sha256:[0-9a-f]*/{}/')\nsrun -Q -n1 true",
        Kind::Features.image().digest()
    );
    let (status, _, err) =
        site.cluster.run(&["SHELL=/bin/sh"], &["salloc", "-Q", "-n1", &tag.image(), "sh", "-c", &line]);
    assert!(status == 121 && err.contains("the site forbids it") && err.contains("not this one"), "{status} {err}");
    site.down();
}

#[test]
fn a_registry_is_asked_with_the_user_s_credentials() {
    let (env, site) = (TestEnv::new(), Site::whole(Release::Bookworm, REQUIRE));
    let registry = Registry::start_with_password(&env);
    let reference = registry.serve(Kind::Busybox);
    let image = format!("--udocker-image={reference}");
    let (status, _, err) = site.run(&["srun", "-n1", &image, "true"]);
    let told = format!("srun: error: udocker: cannot submit a job with {reference}: it has no digest");
    assert!(status == 1 && err.starts_with(&told) && err.contains("udocker login"), "{err}");
    let udocker = format!("{INSTALLED}/udocker");
    let host = format!("--registry=http://{}", registry.host);
    let (status, _, err) = site.run(&[&udocker, "login", "--username=alice", "--password=secret", &host]);
    assert_eq!(status, 0, "{err}");
    assert_eq!(pinned(&site, &[&image]), (Some(Kind::Busybox.image().digest()), String::new()));
    assert_eq!(site.run(&["srun", "-n1", &image, "echo", "runs"]).1, "runs\n");
    site.down();
}
