//! A central store while several administrators work on it, die at it, and users read it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use udocker_tests::central::Site;
use udocker_tests::images::Kind;
use udocker_tests::random::{Random, trials};
use udocker_tests::{Fault, FaultProxy, code, run, stderr, stdout};

/// The tag leads to the old image or to the new one, which runs; a further publish finishes.
#[test]
fn a_killed_publish_leaves_the_old_image_or_the_new_one() {
    let site = Site::new("[cleanup]\nretire_after = \"1s\"\n");
    let tag = site.registry.publish(&Kind::Busybox.image(), "x");
    let proxy = FaultProxy::start(&site.registry.host, 1);
    proxy.add("/blobs/", u64::MAX, Fault::Delay(Duration::from_millis(4)));
    let reference = tag.replace(&site.registry.host, &proxy.host);
    site.publish(&reference);
    let mut random = Random::new(11);
    let (count, mut killed, mut shortest) = (trials(10), 0, 0);
    for trial in 0..count {
        // Each kills a publish of the image that is not there.
        let (old, new) = if trial % 2 == 0 { ("first\n", "second\n") } else { ("second\n", "first\n") };
        let image = if trial % 2 == 0 { Kind::Multi.image() } else { Kind::Busybox.image() };
        site.registry.publish(&image, "x");
        let limit = if shortest == 0 { 300_000 } else { shortest };
        let mut child = site.admin(&["publish", &reference]).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(limit)));
        // The shell that makes it became it.
        child.kill().unwrap();
        killed += u64::from(!child.wait().unwrap().success());
        let saw = site.look(&reference);
        assert!(saw == old || saw == new, "trial {trial}: {saw}");
        let verified = site.admin(&["verify"]).output().unwrap();
        assert_eq!(code(&verified), 0, "trial {trial}: {}", stdout(&verified));
        let since = Instant::now();
        site.publish(&reference);
        let took = u64::try_from(since.elapsed().as_micros()).unwrap();
        shortest = if shortest == 0 { took } else { shortest.min(took) };
        assert_eq!(site.look(&reference), new, "trial {trial}");
        assert_eq!(site.left_over().len(), 0, "trial {trial}");
        site.age_marks(Duration::from_secs(60));
        // What nothing names any more, since its publisher died, goes when it is a day old.
        run(Command::new("find").arg(site.store.join("layers")).args([
            "-exec",
            "touch",
            "-hd",
            "2 days ago",
            "{}",
            "+",
        ]));
        run(&mut site.admin(&["gc"]));
        assert_eq!((site.list().len(), site.trees().len(), site.blobs().len()), (1, 1, 2), "trial {trial}");
    }
    assert!(killed > count / 4, "{killed} of {count} publishes were killed before their end");
    site.assert_readable();
}

#[test]
fn administrators_who_publish_at_once_all_succeed() {
    let site = Site::new("");
    let kinds = [Kind::Busybox, Kind::Multi, Kind::Truth, Kind::Features];
    let references: Vec<String> = kinds.iter().map(|kind| site.registry.serve(*kind)).collect();
    // Each image twice, all at the same moment, into a store that nobody made.
    let children: Vec<_> = (0..2)
        .flat_map(|_| &references)
        .map(|reference| site.admin(&["publish", reference]).stderr(std::process::Stdio::piped()).spawn().unwrap())
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let mut states: Vec<_> = site.states().into_iter().map(|(name, _, state)| (name, state)).collect();
    let mut expected: Vec<_> = references.iter().map(|name| (name.clone(), "published".to_owned())).collect();
    states.sort();
    expected.sort();
    assert_eq!(states, expected);
    let verified = site.admin(&["verify"]).output().unwrap();
    assert_eq!(code(&verified), 0, "{}", stdout(&verified));
    assert_eq!((site.trees().len(), site.left_over().len()), (4, 0));
    site.assert_readable();
}

#[test]
fn readers_never_fail_while_a_tag_moves_and_old_images_are_collected() {
    let site = Site::new("[cleanup]\nretire_after = \"1s\"\n");
    let reference = site.registry.publish(&Kind::Busybox.image(), "x");
    site.publish(&reference);
    let (stop, runs) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (site, reference, stop, runs) = (&site, &reference, &stop, &runs);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let words = ["--pull=never", reference, "sh", "-c", "[ -e /bin/busybox ] && echo ran"];
                    let output = match reader {
                        0 => site.user.launch(&words).output().unwrap(),
                        _ => site.user.udocker(&[&["run"], &words[..]].concat()).output().unwrap(),
                    };
                    assert_eq!(stdout(&output), "ran\n", "{}", stderr(&output));
                    runs.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..trials(6) {
            let image = if round % 2 == 0 { Kind::Multi.image() } else { Kind::Busybox.image() };
            site.registry.publish(&image, "x");
            site.publish(&reference);
            // As after a month: who has read the tag a moment ago is in the image by now.
            std::thread::sleep(Duration::from_millis(300));
            site.age_marks(Duration::from_secs(60));
            run(&mut site.admin(&["gc"]));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(runs.load(Ordering::Relaxed) > 10, "{runs:?}");
    let verified = site.admin(&["verify"]).output().unwrap();
    assert_eq!(code(&verified), 0, "{}", stdout(&verified));
}
