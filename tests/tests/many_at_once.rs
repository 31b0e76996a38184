//! Many processes of one user on one store: each ends well or says clearly why not, and the store stays clean.

use std::path::PathBuf;
use std::process::Output;

use udocker_tests::images::Kind;
use udocker_tests::random::{Random, trials};
use udocker_tests::{FaultProxy, Registry, TestEnv, children, run, stderr, stdout};

const WORKERS: u64 = 8;

/// Everything in the store, but for what may differ: containers.
fn assert_clean(env: &TestEnv, images: &[&str]) {
    assert_eq!(children(&env.store().join("tmp")), Vec::<PathBuf>::new());
    let listed = stdout(&run(&mut env.udocker(&["images"])));
    let names: Vec<&str> = listed.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, images);
    for image in images {
        run(&mut env.udocker(&["verify", image]));
        run(&mut env.udocker(&["run", "--pull=never", image, "true"]));
    }
    for link in children(&env.store().join("containers")).iter().filter(|path| path.is_symlink()) {
        assert!(link.exists(), "{} leads nowhere", link.display());
    }
}

#[test]
fn parallel_pulls_of_one_image_fetch_each_blob_once() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let tag = registry.serve(Kind::Features);
    let proxy = FaultProxy::start(&registry.host, 1);
    let reference = tag.replace(&registry.host, &proxy.host);
    let pulls: Vec<_> = (0..WORKERS).map(|_| env.udocker(&["-q", "pull", &reference]).spawn().unwrap()).collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success());
    }
    let mut blobs: Vec<String> =
        proxy.requests().into_iter().filter(|r| r.starts_with("GET") && r.contains("/blobs/")).collect();
    let all = blobs.len();
    blobs.sort();
    blobs.dedup();
    assert_eq!(blobs.len(), all, "{:?}", proxy.requests());
    let manifest = Kind::Features.image().manifest("amd64");
    let layers = manifest["layers"].as_array().expect("layers").len();
    assert_eq!(blobs.len(), layers + 1, "the layers and the configuration");
    assert_clean(&env, &[&reference]);
}

/// Each failure that a user may see here, by its first line.
fn is_clear(output: &Output) -> bool {
    let text = stderr(output);
    let first = text.lines().find(|line| line.starts_with("Error:")).unwrap_or_default();
    first.contains(" is in use by process ")
        || first.contains("is protected")
        || first.contains("was removed a moment ago")
}

#[test]
fn mixed_commands_on_one_store_leave_it_clean() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Features);
    run(&mut env.udocker(&["pull", &reference]));
    run(&mut env.udocker(&["create", "--name=shared", &reference]));
    run(&mut env.udocker(&["create", "--name=kept", &reference]));
    run(&mut env.udocker(&["protect", "kept"]));
    let rounds = 6 * trials(1);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (env, reference) = (&env, &reference);
            scope.spawn(move || {
                let mut random = Random::new(worker + 1);
                for round in 0..rounds {
                    let (name, tag) = (format!("own{worker}"), format!("tagged:w{worker}"));
                    let commands: Vec<Vec<&str>> = match random.below(7) {
                        0 => vec![
                            vec!["create", "--name", &name, reference],
                            vec!["run", &name, "true"],
                            vec!["rm", &name],
                        ],
                        1 => vec![vec!["run", reference, "true"]],
                        2 => vec![vec!["pull", reference]],
                        3 => vec![vec!["run", "shared", "true"]],
                        4 => vec![vec!["tag", reference, &tag], vec!["run", &tag, "true"], vec!["rmi", &tag]],
                        5 => vec![vec!["rm", "kept"]],
                        _ => vec![vec!["run", "--name", &name, "--rm", reference, "true"]],
                    };
                    for words in commands {
                        let output = env.udocker(&words).output().unwrap();
                        let fine = output.status.success() || is_clear(&output);
                        assert!(fine, "worker {worker}, round {round}: {words:?}: {}", stderr(&output));
                    }
                }
            });
        }
    });
    let listed = stdout(&run(&mut env.udocker(&["ps"])));
    let names: Vec<&str> = listed.lines().skip(1).map(|line| line.split_whitespace().nth(3).unwrap()).collect();
    assert_eq!(
        {
            let mut names = names;
            names.sort_unstable();
            names
        },
        ["['kept']", "['shared']"]
    );
    assert_clean(&env, &[&reference]);
    run(&mut env.udocker(&["unprotect", "kept"]));
    run(&mut env.udocker(&["rm", "kept", "shared"]));
    run(&mut env.udocker(&["rmi", &reference]));
    for empty in ["repos", "layers", "containers", "tmp", "rootfs/1", "records/sha256"] {
        assert_eq!(children(&env.store().join(empty)), Vec::<PathBuf>::new(), "{empty}");
    }
}

/// A store from which others remove the image while it is pulled: every pull ends with an image that is whole.
#[test]
fn pulls_and_removals_do_not_meet() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Features);
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let (env, reference) = (&env, &reference);
            scope.spawn(move || {
                for _ in 0..4 * trials(1) {
                    let words: &[&str] =
                        if worker % 2 == 0 { &["-q", "pull", reference] } else { &["-q", "rmi", reference] };
                    let output = env.udocker(words).output().unwrap();
                    let absent = stderr(&output).contains("does not exist");
                    assert!(output.status.success() || absent, "{words:?}: {}", stderr(&output));
                }
            });
        }
    });
    run(&mut env.udocker(&["pull", &reference]));
    assert_clean(&env, &[&reference]);
}
