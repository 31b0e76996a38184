//! Copies of images on the disks of many nodes: made once per node from the shared store, run from there, and spared or
//! removed when there is no room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use udocker_tests::images::Kind;
use udocker_tests::many_nodes::{ManyNodes, Rank};
use udocker_tests::{FaultProxy, Registry, children, run, stdout};

/// Tells what only the image has, and from where its directories are.
const WHERE: [&str; 3] = ["sh", "-c", "cat /etc/arch; cut -d' ' -f4 /proc/self/mountinfo"];

fn site(nodes: &ManyNodes, more: &str) -> String {
    format!("[paths]\nnode_cache = \"{}/cache-{{uid}}\"\n{more}", nodes.local().display())
}

fn trees(cache: &Path) -> Vec<PathBuf> {
    children(&cache.join("rootfs/1"))
}

fn cache_of(nodes: &ManyNodes, node: u32) -> PathBuf {
    nodes.local_of(node).join(format!("cache-{}", nodes.env.uid().unwrap()))
}

/// Each ran inside; whether from its node's disk.
fn ran_from_node(ranks: &[Rank]) -> Vec<bool> {
    let from = |rank: &Rank| {
        assert_eq!(rank.code, 0, "{rank:?}");
        let (arch, root) = rank.out.split_once('\n').expect("two lines");
        assert_eq!(arch, "amd64", "{rank:?}");
        root.contains("/cache-")
    };
    ranks.iter().map(from).collect()
}

#[test]
fn each_node_copies_an_image_once_from_the_shared_store_and_runs_it_from_there() {
    let mut nodes = ManyNodes::new(8, 4);
    nodes.set_site(&site(&nodes, ""));
    let registry = Registry::start(&nodes.env);
    let proxy = FaultProxy::start(&registry.host, 1);
    let reference = registry.serve(Kind::Multi).replace(&registry.host, &proxy.host);
    let words = [&[reference.as_str()], &WHERE[..]].concat();
    assert_eq!(ran_from_node(&nodes.step("cold", &words)), [true; 32]);
    let asked = proxy.requests();
    let blobs = asked.iter().filter(|request| request.contains("/blobs/")).count();
    let layers = Kind::Multi.image().manifest("amd64")["layers"].as_array().unwrap().len();
    assert_eq!((blobs, asked.len()), (layers + 1, layers + 3), "{asked:?}");
    for node in 0..8 {
        let cache = cache_of(&nodes, node);
        let mode = stdout(&run(Command::new("stat").args(["-c", "%a"]).arg(&cache)));
        assert_eq!((mode.trim(), trees(&cache).len()), ("700", 1), "node {node}");
    }
    // A second step starts no program that gets images.
    nodes.stage_by("echo must not run >&2; exit 1");
    assert_eq!(ran_from_node(&nodes.step("warm", &words)), [true; 32]);
    assert_eq!(proxy.requests(), asked);
}

/// A disk that is full, or a place of somebody else's: the image runs from its store, and one rank a node says why.
#[test]
fn without_room_on_the_node_an_image_runs_from_its_store() {
    let mut nodes = ManyNodes::new(2, 4);
    nodes.set_site(&site(&nodes, "[stage]\nnode_cache_size = 4096\n"));
    let registry = Registry::start(&nodes.env);
    let reference = registry.serve(Kind::Multi);
    // The second node's cache is not the user's.
    fs::create_dir(cache_of(&nodes, 1)).unwrap();
    let ranks = nodes.step("s", &[&[reference.as_str()], &WHERE[..]].concat());
    assert_eq!(ran_from_node(&ranks), [false; 8]);
    for (node, why) in [(0, "has 4096 bytes free, and the image needs at least "), (1, "cannot use as the node cache ")]
    {
        let told: String = ranks.iter().filter(|rank| rank.node == node).map(|rank| rank.err.as_str()).collect();
        assert_eq!(told.matches("so it runs from its store").count(), 1, "node {node}: {told}");
        assert!(told.contains(why), "node {node}: {told}");
    }
    assert_eq!(trees(&cache_of(&nodes, 0)), Vec::<PathBuf>::new());
    assert_eq!(children(&cache_of(&nodes, 0).join("tmp")), Vec::<PathBuf>::new());
}

/// The small disk of a node takes one of two images: the older copy goes, but not while something runs in it.
#[test]
fn the_oldest_copy_gives_way_unless_something_runs_in_it() {
    let mut nodes = ManyNodes::new(1, 1);
    let registry = Registry::start(&nodes.env);
    let (first, second) = (registry.serve(Kind::Multi), registry.serve(Kind::Busybox));
    run(&mut nodes.env.udocker(&["pull", &first]));
    run(&mut nodes.env.udocker(&["pull", &second]));
    let record = |name: &str| {
        let all = children(&nodes.env.store().join("records/sha256"));
        let texts = all.iter().map(|path| fs::read_to_string(path).unwrap());
        let wanted = stdout(&run(&mut nodes.env.udocker(&["inspect", "-p", name])));
        let tree = Path::new(wanted.trim()).parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let text = texts.into_iter().find(|text| text.contains(&format!("tree {tree}\n"))).unwrap();
        text.lines().find_map(|line| line.strip_prefix("bytes ")).unwrap().parse::<u64>().unwrap()
    };
    let size = record(&first).max(record(&second)) + 4096;
    nodes.set_site(&site(&nodes, &format!("[stage]\nnode_cache_size = {size}\n")));
    let cache = cache_of(&nodes, 0);
    let root = ["cut", "-d ", "-f4", "/proc/self/mountinfo"];
    let from_node = |step: &str, image: &str| {
        let ranks = nodes.step(step, &[&[image], &root[..]].concat());
        assert!(ranks.iter().all(|rank| rank.code == 0), "{ranks:?}");
        ranks.iter().map(|rank| rank.out.contains("/cache-")).collect::<Vec<_>>()
    };
    assert_eq!(from_node("a", &first), [true]);
    let of_first = trees(&cache);
    assert_eq!(from_node("b", &second), [true]);
    let of_second = trees(&cache);
    assert_eq!((of_first.len(), of_second.len()), (1, 1));
    assert_ne!(of_first, of_second);
    // Now the second runs: the first finds no room, and runs from its store.
    let work = nodes.env.own_directory("work", 0o755).display().to_string();
    let script = format!(
        "\"$1\" --mount={work}:{work} {second} sh -c 'touch {work}/runs; while [ -e {work}/runs ]; do sleep 0.1; done' &\n\
         for try in $(seq 200); do [ -e {work}/runs ] || sleep 0.1; done\n\
         PMIX_NAMESPACE=other \"$1\" {first} cut -d' ' -f4 /proc/self/mountinfo\n\
         rm {work}/runs\nwait $!"
    );
    let ranks = nodes.start_behind("mixed", &["sh", "-c", &script, "sh"], &[]).ended(Duration::from_secs(60));
    assert_eq!(ranks[0].code, 0, "{ranks:?}");
    assert!(!ranks[0].out.contains("/cache-"), "{ranks:?}");
    assert!(ranks[0].err.contains("so it runs from its store"), "{ranks:?}");
    assert_eq!(trees(&cache), of_second);
}

/// What a rank was told of its node's disk: bytes free, and bytes needed.
fn told_of_room(text: &str) -> (u64, u64) {
    let (before, after) = text.split_once(" bytes free, and the image needs at least ").expect("numbers");
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).expect("a number");
    (number(before.rsplit(' ').next()), number(after.lines().next()))
}

/// The disks of all nodes are too small, by bytes or by files: every rank runs, from the store; one a node says so, with
/// numbers; of the copies that were begun nothing is left.
#[test]
fn on_nodes_whose_disks_are_full_all_ranks_run_from_the_store() {
    let mut nodes = ManyNodes::new(64, 4);
    nodes.set_site(&site(&nodes, ""));
    let registry = Registry::start(&nodes.env);
    let reference = registry.serve(Kind::Multi);
    let cache = nodes.local().join(format!("cache-{}", nodes.env.uid().unwrap()));
    // The last rank of a node looks around when the others are done with the disk.
    let look = format!(
        "\"$@\" || exit; [ $((PMIX_RANK % 4)) = 3 ] || exit 0; while [ -e {0}/tmp ] && [ -n \"$(ls {0}/tmp)\" ]; do sleep 0.1; done\n\
         [ ! -e {0}/rootfs ] || find {0}/rootfs {0}/records -mindepth 2 -printf 'left %p\\n'",
        cache.display()
    );
    for (step, disk, why) in [
        ("bytes", "size=1M", " bytes free, and the image needs at least "),
        ("files", "size=64M,nr_inodes=60", "No space left on device"),
    ] {
        nodes.set_disk(disk);
        let words = [&["--timeout=5m", reference.as_str()], &WHERE[..]].concat();
        let ranks = nodes.start_behind(step, &["sh", "-c", &look, "sh"], &words).ended(Duration::from_secs(300));
        assert_eq!(ran_from_node(&ranks), [false; 256], "{step}");
        for node in 0..64 {
            let mine = || ranks.iter().filter(|rank| rank.node == node);
            assert!(mine().all(|rank| !rank.out.contains("left ")), "{step}: {:?}", mine().collect::<Vec<_>>());
            let told: String = mine().map(|rank| rank.err.as_str()).collect();
            assert_eq!(told.matches("so it runs from its store").count(), 1, "{step}, node {node}: {told}");
            assert!(told.contains(why), "{step}, node {node}: {told}");
            if step == "bytes" {
                let (free, needed) = told_of_room(&told);
                assert!(free <= 1 << 20 && needed > free, "{told}");
            }
        }
    }
}

/// A disk that takes one of two images, and no other limit: what runs stays whole, and gives way when it has ended.
#[test]
fn on_a_full_disk_what_runs_is_not_evicted() {
    let mut nodes = ManyNodes::new(4, 1);
    nodes.set_site(&site(&nodes, ""));
    nodes.set_disk("size=3M");
    let registry = Registry::start(&nodes.env);
    let (first, second) = (registry.serve(Kind::Multi), registry.serve(Kind::Busybox));
    run(&mut nodes.env.udocker(&["pull", &first]));
    run(&mut nodes.env.udocker(&["pull", &second]));
    let work = nodes.env.own_directory("work", 0o777).display().to_string();
    let root = "cut -d' ' -f4 /proc/self/mountinfo | grep -q /cache- && echo disk || echo store";
    let script = format!(
        "runs={work}/$NODE; export PMIX_NAMESPACE=a\n\
         \"$1\" --mount={work}:{work} {first} sh -c \"touch $runs; while [ -e $runs ]; do sleep 0.1; done; cat /etc/arch; {root}\" &\n\
         for try in $(seq 200); do [ -e $runs ] || sleep 0.1; done\n\
         PMIX_NAMESPACE=b \"$1\" {second} sh -c \"{root}\"\n\
         rm $runs; wait $!\n\
         PMIX_NAMESPACE=c \"$1\" {second} sh -c \"{root}\""
    );
    let ranks = nodes.start_behind("mixed", &["sh", "-c", &script, "sh"], &[]).ended(Duration::from_secs(120));
    for rank in &ranks {
        // The second from its store; the first whole and from the disk to its end; the second from the disk at last.
        assert_eq!((rank.code, rank.out.as_str()), (0, "store\namd64\ndisk\ndisk\n"), "{rank:?}");
        assert_eq!(rank.err.matches("so it runs from its store").count(), 1, "{rank:?}");
    }
}
