//! Trials with random times: a registry that answers when it likes, pulls that are killed when they like.

use std::time::{Duration, Instant};

use udocker_tests::images::Kind;
use udocker_tests::random::{Random, trials};
use udocker_tests::tree::{assert_listed, reference_listing, tree_digest};
use udocker_tests::{Fault, FaultProxy, Registry, TestEnv, children, run, stdout};

#[test]
fn random_delays_change_no_tree() {
    let shared = TestEnv::ordinary();
    let registry = Registry::start(&shared);
    for kind in [Kind::Features, Kind::Many] {
        let image = kind.image();
        let tag = registry.publish(&image, &kind.name());
        let digests: Vec<String> = (1..=20)
            .map(|seed| {
                let proxy = FaultProxy::start(&registry.host, seed);
                proxy.add("/blobs/", u64::MAX, Fault::Delay(Duration::from_millis(10)));
                let env = TestEnv::ordinary();
                let reference = tag.replace(&registry.host, &proxy.host);
                run(&mut env.udocker(&["pull", &reference]));
                if seed == 1 {
                    assert_listed(&env.only_tree(), &reference_listing(&image));
                }
                tree_digest(&env.only_tree())
            })
            .collect();
        assert_eq!(digests, vec![digests[0].clone(); 20], "{kind:?}");
    }
}

#[test]
fn killed_pulls_leave_nothing_and_the_next_succeeds() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let image = Kind::Features.image();
    let wanted = reference_listing(&image);
    let tag = registry.publish(&image, "features");
    let proxy = FaultProxy::start(&registry.host, 1);
    proxy.add("/blobs/", u64::MAX, Fault::Delay(Duration::from_millis(4)));
    let reference = tag.replace(&registry.host, &proxy.host);
    let start = Instant::now();
    run(&mut env.udocker(&["pull", &reference]));
    // The shortest so far: a machine that was busy for a while must not let most of them end.
    let mut shortest = u64::try_from(start.elapsed().as_micros()).unwrap();
    run(&mut env.udocker(&["rmi", &reference]));
    let mut random = Random::new(1);
    let mut interrupted = 0;
    let count = trials(10);
    for trial in 0..count {
        let mut child = env.udocker(&["-q", "pull", &reference]).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(shortest)));
        child.kill().unwrap();
        interrupted += u64::from(!child.wait().unwrap().success());
        let listed = stdout(&run(&mut env.udocker(&["images"])));
        let whole = format!("REPOSITORY\n{reference}    .\n");
        assert!(listed == "REPOSITORY\n" || listed == whole, "trial {trial}: {listed}");
        assert_eq!(
            children(&env.store().join("tmp")).len(),
            0,
            "trial {trial}: temporaries after udocker ran once more"
        );
        if listed == whole {
            run(&mut env.udocker(&["run", "--pull=never", &reference, "true"]));
        }
        let start = Instant::now();
        run(&mut env.udocker(&["pull", &reference]));
        if listed != whole {
            shortest = shortest.min(u64::try_from(start.elapsed().as_micros()).unwrap());
        }
        assert_listed(&env.only_tree(), &wanted);
        run(&mut env.udocker(&["rmi", &reference]));
    }
    assert!(interrupted > count / 4, "{interrupted} of {count} pulls were killed before their end");
}
