//! A central store: what an administrator publishes, pins, retires and collects, and what users see of it.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use udocker_tests::central::{Site, mark};
use udocker_tests::images::Kind;
use udocker_tests::tree::fingerprint;
use udocker_tests::{children, code, run, stderr, stdout};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn what_is_published_everybody_runs_whatever_the_umask_was() {
    let site = Site::new("");
    let reference = site.registry.serve(Kind::Private);
    let published = site.publish(&reference);
    let digest = Kind::Private.image().digest();
    assert_eq!(stdout(&published), format!("{digest}\n"));
    let told = "Warning: 3 files and directories that the image keeps private can be read by everybody who reads the store: \
                /root/private, /root/private/busybox, /root/private/data\n";
    assert!(stderr(&published).contains(told), "{}", stderr(&published));
    let done = format!("Info: published {reference} for linux/amd64 in {}: 1 layers, ", site.store.display());
    assert!(stderr(&published).contains(&done), "{}", stderr(&published));
    site.assert_readable();
    assert_eq!(site.left_over().len(), 0);
    assert_eq!(site.states(), [(reference.clone(), digest.clone(), "published".into())]);
    let before = fingerprint(&site.store);
    let script = "cat /root/private/data && /root/private/busybox true && echo ran";
    for (name, launched) in [(reference.clone(), false), (reference.replace(":latest", &format!("@{digest}")), true)] {
        let words = ["--pull=never", &name, "sh", "-c", script];
        let mut command = match launched {
            true => site.user.launch(&words),
            false => site.user.udocker(&[&["run"], &words[..]].concat()),
        };
        let output = run(&mut command);
        assert_eq!(stdout(&output), "for the owner alone\nran\n", "{}", stderr(&output));
    }
    assert_eq!(fingerprint(&site.store), before);
    // A table for people, aligned; what is good is told to be.
    let table = stdout(&run(&mut site.admin(&["list"])));
    let lines: Vec<&str> = table.lines().collect();
    let width = reference.len();
    assert_eq!(lines[0], format!("{:<width$}  {:<71}  SIZE     STATE      AGE", "NAME", "DIGEST"));
    assert!(lines[1].starts_with(&format!("{reference}  {digest}  ")), "{table}");
    assert_eq!(lines.len(), 2);
    assert_eq!(stdout(&run(&mut site.admin(&["verify"]))), "2 blobs, 1 trees and 1 tags are good\n");
}

#[test]
fn a_tag_that_moves_retires_its_image_and_gc_deletes_it_in_time() {
    let site = Site::new("[cleanup]\nretire_after = \"10d\"\n");
    let reference = site.registry.publish(&Kind::Busybox.image(), "x");
    site.publish(&reference);
    site.assert_readable();
    let first = Kind::Busybox.image().digest();
    let blobs = site.blobs();
    site.registry.publish(&Kind::Multi.image(), "x");
    let published = site.publish(&reference);
    let index = Kind::Multi.image().digest();
    assert_eq!(stdout(&published), format!("{index}\n"), "the pin of an index is its digest");
    assert!(stderr(&published).contains(&format!("Info: retired {first}, which had this name\n")));
    let second = site.states()[0].1.clone();
    let states = [
        (reference.clone(), second.clone(), "published".to_owned()),
        (reference.clone(), first.clone(), "retired".to_owned()),
    ];
    assert_eq!(site.states(), states);
    let pinned = |digest: &str| reference.replace(":latest", &format!("@{digest}"));
    assert_eq!(site.look(&reference), "second\n");
    assert_eq!((site.look(&pinned(&first)), site.look(&pinned(&index))), ("first\n".into(), "second\n".into()));
    // Not yet; nor in the ninth day. Its layers stay with it.
    site.age_marks(9 * DAY);
    assert_eq!(stdout(&run(&mut site.admin(&["gc"]))), "");
    assert_eq!((site.states(), site.trees().len()), (states.to_vec(), 2));
    assert!(blobs.iter().all(|blob| site.blobs().contains(blob)));
    // A removal by `udocker rmi` leaves it as well.
    site.publish(&site.registry.publish(&Kind::Truth.image(), "t"));
    let truth = format!("{}/test/t:latest", site.registry.host);
    let rmi = site.as_root(&["--allow-root", "--repo", site.store.to_str().unwrap(), "rmi", &truth]).output().unwrap();
    assert_eq!(code(&rmi), 1, "the site's store is read-only for every other command: {}", stderr(&rmi));
    assert_eq!(site.look(&pinned(&first)), "first\n");
    run(&mut site.admin(&["retire", &truth]));
    site.age_marks(10 * DAY);
    let collected = stdout(&run(&mut site.admin(&["gc"])));
    let expected = format!("deleted {first} ({reference}, ");
    assert!(collected.contains(&expected) && collected.lines().count() == 2, "{collected}");
    assert_eq!(site.states(), states[..1]);
    assert_eq!((site.trees().len(), children(&site.store.join("marks")).len(), site.left_over().len()), (1, 0, 0));
    assert_eq!(stdout(&run(&mut site.admin(&["verify"]))), "2 blobs, 1 trees and 1 tags are good\n");
    assert_eq!(site.look(&reference), "second\n");
    // It comes back by its digest.
    site.registry.publish(&Kind::Busybox.image(), "x");
    site.publish(&pinned(&first));
    assert_eq!(site.look(&pinned(&first)), "first\n");
}

#[test]
fn pins_and_names_keep_images() {
    let site = Site::new("[cleanup]\nretire_after = \"1s\"\n");
    let one = site.registry.publish(&Kind::Busybox.image(), "one");
    let two = site.registry.publish(&Kind::Busybox.image(), "two");
    let digest = Kind::Busybox.image().digest();
    site.publish(&one);
    site.publish(&two);
    // Under another name it is no retired image.
    assert_eq!(stdout(&run(&mut site.admin(&["retire", &one]))), format!("{digest}\n"));
    assert_eq!(site.states(), [(two.clone(), digest.clone(), "published".into())]);
    let refused = site.admin(&["retire", &digest]).output().unwrap();
    let text =
        format!("Error: image {digest} has the name {two}\n  hint: `udocker site retire {two}` takes the name away\n");
    assert_eq!((code(&refused), stderr(&refused)), (1, text));
    // A pin outlives the name, and the name cannot be taken away while it holds.
    run(&mut site.admin(&["pin", &two]));
    let refused = site.admin(&["retire", &two]).output().unwrap();
    let text = format!("Error: image {two} is pinned\n  hint: `udocker site pin --remove {two}` takes the pin away\n");
    assert_eq!((code(&refused), stderr(&refused)), (1, text));
    site.registry.publish(&Kind::Multi.image(), "two");
    site.publish(&two);
    assert_eq!(site.states()[1], (two.clone(), digest.clone(), "pinned".into()));
    site.age_marks(DAY);
    assert_eq!(stdout(&run(&mut site.admin(&["gc"]))), "");
    let pinned = two.replace(":latest", &format!("@{digest}"));
    assert_eq!(site.look(&pinned), "first\n");
    run(&mut site.admin(&["pin", "--remove", &digest]));
    assert_eq!(site.states()[1].2, "retired");
    // Published again it has its name, and the mark goes.
    site.registry.publish(&Kind::Busybox.image(), "two");
    site.publish(&two);
    assert!(!mark(&site.store, &digest).exists());
    site.age_marks(DAY);
    run(&mut site.admin(&["gc"]));
    assert_eq!(site.states(), [(two.clone(), digest, "published".into())]);
    for (words, text) in [
        (&["retire", "absent:1"][..], format!("the store {} has no image absent:1", site.store.display())),
        (&["list", "--store=other"], "site.toml has no store other".into()),
        (&["list", "--store=user"], "the store user is no central one: its kind is user or cache".into()),
        (&["list", "--store=/nowhere/x"], "there is no store in /nowhere/x".into()),
        (&["pin"], "must specify image:tag or repository/image:tag".into()),
    ] {
        let refused = site.admin(words).output().unwrap();
        assert_eq!(code(&refused), 1);
        assert!(stderr(&refused).starts_with(&format!("Error: {text}\n")), "{}", stderr(&refused));
    }
}

#[test]
fn gc_spares_what_runs_under_any_user() {
    let site = Site::new("[cleanup]\nretire_after = \"1s\"\n");
    let reference = site.registry.publish(&Kind::Busybox.image(), "x");
    site.publish(&reference);
    let fifo = site.user.path("fifo");
    run(Command::new("mkfifo").args(["-m", "666"]).arg(&fifo));
    let script = "echo up > $0; cat $0 /bin/busybox > /dev/null && echo whole";
    let mut command = site.user.launch(&["--pull=never", &reference, "sh", "-c", script, fifo.to_str().unwrap()]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "up\n");
    run(&mut site.admin(&["retire", &reference]));
    site.age_marks(DAY);
    let gc = run(&mut site.admin(&["gc"]));
    assert_eq!(stdout(&gc), "");
    let digest = Kind::Busybox.image().digest();
    assert!(stderr(&gc).starts_with(&format!("Info: spared {digest} ({reference}): process ")), "{}", stderr(&gc));
    assert_eq!(site.trees().len(), 1);
    fs::write(&fifo, "go on\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("whole\n", Some(0)));
    assert!(stdout(&run(&mut site.admin(&["gc"]))).starts_with(&format!("deleted {digest} ")));
    assert_eq!((site.trees().len(), site.blobs().len(), site.list().len()), (0, 0, 0));
}

#[test]
fn verify_names_each_damage() {
    let site = Site::new("");
    let reference = site.registry.serve(Kind::Features);
    site.publish(&reference);
    let tree = site.trees()[0].join("root");
    fs::remove_file(tree.join("bin/busybox")).unwrap();
    let layers = children(&site.store.join("layers"));
    fs::write(&layers[0], "other bytes").unwrap();
    fs::remove_file(&layers[1]).unwrap();
    let output = site.admin(&["verify"]).output().unwrap();
    assert_eq!(code(&output), 1);
    let told = stdout(&output);
    for part in [
        format!("{}: its bytes have the digest sha256:", layers[0].display()),
        "is missing\n".to_owned(),
        format!("{reference}: its tree has "),
        "4 blobs, 0 trees and 0 tags are good\n".to_owned(),
    ] {
        assert!(told.contains(&part), "{part}\n{told}");
    }
}

#[test]
fn a_publish_without_room_ends_with_the_numbers_before_the_first_byte() {
    let site = Site::new("");
    let large = site.registry.serve(Kind::Many);
    fs::create_dir(&site.store).unwrap();
    let publish = site.admin(&["publish", &large]);
    for (size, text) in [
        ("1m", " bytes free, and the image needs at least "),
        ("64m,nr_inodes=80", " more files, and the image needs at least 104\n"),
    ] {
        let script = format!("mount -t tmpfs -o size={size},mode=755 none \"$0\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).arg(&site.store).arg(publish.get_program()).args(publish.get_args());
        command.env_clear().envs(publish.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().unwrap();
        let error = stderr(&output);
        assert_eq!(code(&output), 1, "{error}");
        assert!(error.starts_with(&format!("Error: cannot pull {large}\n  caused by: {} has ", site.store.display())));
        assert!(error.contains(text) && error.contains("\n  hint: ") && !error.contains("layer"), "{error}");
    }
}
