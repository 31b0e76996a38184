//! Every image of the set, pulled from Debian's docker-registry: the tree is the one that GNU tar and a whiteout pass give.

use udocker_tests::images::{Image, Kind};
use udocker_tests::tree::{assert_listed, reference_listing};
use udocker_tests::{Registry, TestEnv, run, stdout};

/// Pulls `kind` by tag and by digest as an ordinary user and compares the one tree that both give.
fn pulls_like_the_reference(kind: Kind) {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = kind.image();
    let tag = registry.publish(&image, &kind.name());
    let output = run(&mut env.udocker(&["pull", &tag]));
    assert_eq!(stdout(&output), "", "results go to stdout, and a pull has none");
    assert_eq!(stdout(&run(&mut env.udocker(&["images"]))), format!("REPOSITORY\n{tag}    .\n"));
    let tree = env.only_tree();
    assert_listed(&tree, &reference_listing(&image));

    let pinned = format!("{}@{}", tag.trim_end_matches(":latest"), image.digest());
    run(&mut env.udocker(&["pull", &pinned]));
    assert_eq!(env.only_tree(), tree, "by digest it is the same tree");
    assert_eq!(udocker_tests::children(&env.store().join("tmp")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn by_digest_alone() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = Kind::Features.image();
    let tag = registry.publish(&image, "features");
    run(&mut env.udocker(&["pull", &format!("{}@{}", tag.trim_end_matches(":latest"), image.digest())]));
    assert_listed(&env.only_tree(), &reference_listing(&image));
}

macro_rules! images {
    ($($name:ident: $kind:ident,)*) => {
        $(#[test]
        fn $name() {
            pulls_like_the_reference(Kind::$kind);
        })*
    };
}

images! {
    static_busybox: Busybox,
    static_busybox_as_docker_schema_2: BusyboxDocker,
    all_kinds_of_entries: Features,
    all_kinds_of_entries_in_zstd: FeaturesZstd,
    all_kinds_of_entries_unpacked: FeaturesPlain,
    all_kinds_of_entries_as_docker_schema_2: FeaturesDocker,
    a_hundred_layers: Many,
    debian_minbase: Minbase,
    python_science_stack: Science,
    python_science_stack_in_zstd: ScienceZstd,
    python_science_stack_unpacked: SciencePlain,
    python_science_stack_as_docker_schema_2: ScienceDocker,
}

#[test]
fn the_science_stack_is_as_large_as_promised() {
    let manifest = Kind::Science.image().manifest("amd64");
    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(8));
    let list = |tar: &std::path::Path| stdout(&run(std::process::Command::new("tar").arg("-tf").arg(tar)));
    let lists: Vec<String> = udocker_tests::images::debian_tars().iter().map(|tar| list(tar)).collect();
    let entries: usize = lists.iter().map(|list| list.lines().count()).sum();
    let count = |what: &str| lists[1..].iter().flat_map(|list| list.lines()).filter(|line| line.contains(what)).count();
    assert!(entries > 30_000, "{entries} entries");
    assert!(count("/.wh.") > 100 && count(".wh..wh..opq") > 0, "whiteouts and opaque directories between the layers");
}

#[test]
fn an_index_gives_the_platform_that_is_asked_for() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = Kind::Multi.image();
    let tag = registry.publish(&image, "multi");
    for (words, architecture) in
        [(&[][..], "amd64"), (&["--platform=linux/arm64"], "arm64"), (&["--platform=linux/amd64"], "amd64")]
    {
        // By tag and by the digest of the index.
        for reference in [tag.clone(), format!("{}/test/multi@{}", registry.host, image.digest())] {
            let alone = TestEnv::ordinary();
            let words: Vec<&str> = [&["pull"], words, &[&reference]].concat();
            run(&mut alone.udocker(&words));
            let tree = alone.only_tree();
            assert_eq!(
                std::fs::read_to_string(tree.join("etc/arch")).unwrap(),
                format!("{architecture}\n"),
                "{words:?}"
            );
        }
    }
    let output = env.udocker(&["pull", "--platform=linux/s390x", &tag]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = udocker_tests::stderr(&output);
    assert!(text.contains("linux/s390x") && text.contains("linux/amd64") && text.contains("linux/arm64"), "{text}");
}

/// Pulls `first` and then `second` into one store; returns what `etc/truth` says in each.
fn truths(first: Kind, second: Kind) -> (String, String) {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let [first, second] = [first, second].map(|kind| {
        let reference = registry.serve(kind);
        run(&mut env.udocker(&["pull", &reference]));
        reference
    });
    let truth = |reference: &str| stdout(&run(&mut env.udocker(&["run", reference, "cat", "/etc/truth"])));
    assert_eq!(env.trees().len(), 2);
    (truth(&first), truth(&second))
}

#[test]
fn a_claim_about_another_images_layers_changes_neither() {
    assert_eq!(Image::diff_ids(&Kind::Liar.image()), Kind::Truth.image().diff_ids(), "the claim is made");
    assert_eq!(truths(Kind::Liar, Kind::Truth), ("a lie\n".into(), "true\n".into()));
    assert_eq!(truths(Kind::Truth, Kind::Liar), ("true\n".into(), "a lie\n".into()));
}
