//! A job is submitted with `udocker` beside the launcher: its tag becomes a digest, the site's rules are told, and a profile or
//! `--udocker-explain` is read where it is typed.
#![cfg(target_arch = "x86_64")]

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Instant;

use udocker_tests::cluster::{Ended, Release};
use udocker_tests::images::Kind;
use udocker_tests::slurm_site::{ALL, INSTALLED, Site, is, places};
use udocker_tests::{FaultProxy, Registry, TestEnv};

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
    let (status, out, err) =
        site.cluster.run(&["SHELL=/bin/sh"], &[&["salloc", "-n1"], words, &command[..]].concat());
    assert_eq!(status, 0, "{out}{err}");
    let pin = out.split("\"pin\":").nth(1).expect("a request").split(',').next().expect("a value");
    // Of a message all lines but the first are indented.
    let is_ours = |line: &&str| line.starts_with("salloc: udocker: ") || line.starts_with("  ");
    let told: String = err.lines().filter(is_ours).map(|line| format!("{}\n", line.trim_start_matches("salloc: "))).collect();
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
        assert_eq!((text(&site, "out").as_str(), quiet(&text(&site, "err")).as_str()), ("first\nfirst\n", ""), "{number:?}");
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
        assert_eq!(err.split_inclusive("srun: error: ").nth(1).map(|_| err.starts_with(&told)), Some(true), "{number:?} {err}");
        assert!((5..12).contains(&since.elapsed().as_secs()), "{number:?} {:?}", since.elapsed());
        let (pin, told) = pinned(&site, &[&tag.image()]);
        assert_eq!((pin, told.as_str()), (Some(Kind::Busybox.image().digest()), ""), "{number:?}");
        if whole {
            for (word, why) in [
                (image(&tag.reference.replace("latest", "none")), "answered 404 for tag `none`"),
                ("--udocker-pull=never".into(), "is in no store, and `--pull=never` forbids asking the registry"),
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
