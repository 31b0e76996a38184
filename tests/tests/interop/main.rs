//! PyPI's udocker and ours side by side, on one store: each behaviour is prepared by the one and shown by the other, both
//! ways, and must come out the same but for the differences that are on purpose. The outcome is
//! docs/reference/compatibility.md. `ONLY=WORDS` runs the behaviours whose row or name has these words.

mod behaviour;
mod containers;
mod files;
mod general;
mod images;
mod normalise;
mod page;
mod runs;
mod workshop;

use std::sync::atomic::{AtomicUsize, Ordering};

use behaviour::Behaviour;
use udocker_tests::images::{Image, Layer, Recipe};
use udocker_tests::web::{Answer, WebServer};
use udocker_tests::{Registry, TestEnv};
use workshop::{Outcome, Services, Who, Workshop};

/// The sections of the page.
const SECTIONS: [(&str, &[Behaviour]); 5] = [
    ("General", general::ALL),
    ("Images", images::ALL),
    ("Containers", containers::ALL),
    ("`run`", runs::ALL),
    ("Settings, files, modes", files::ALL),
];

#[test]
fn behaves_as_udocker_does() {
    let (open, closed) = (TestEnv::new(), TestEnv::new());
    let (registry, locked) = (Registry::start(&open), Registry::start_with_password(&closed));
    let image = publish_images(&open, &registry);
    locked.publish(&image, "bb");
    let hub = start_hub();
    let services =
        Services { registry: registry.host.clone(), locked: locked.host.clone(), hub: hub.host.clone(), image };
    let only = std::env::var("ONLY").ok();
    let wanted = |b: &&Behaviour| only.as_ref().is_none_or(|only| format!("{}: {}", b.row, b.name).contains(only));
    let all: Vec<&Behaviour> = SECTIONS.iter().flat_map(|(_, list)| list.iter()).filter(wanted).collect();
    let next = AtomicUsize::new(0);
    let mut rows: Vec<(usize, page::Row)> = std::thread::scope(|scope| {
        let work = || {
            let workshop = Workshop::new(&services);
            let mut rows = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(behaviour) = all.get(index) else { return rows };
                rows.push((index, compare(&workshop, behaviour)));
            }
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread ends")).collect()
    });
    rows.sort_by_key(|(index, _)| *index);
    let rows: Vec<page::Row> = rows.into_iter().map(|(_, row)| row).collect();
    if only.is_none() {
        page::update(&SECTIONS, &rows);
    }
    let wrong: Vec<String> = rows.iter().filter(|row| !row.wrong.is_empty()).map(page::Row::report).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    if only.is_none() {
        page::check(&SECTIONS, &rows);
    }
}

/// Runs a behaviour with each writer and each reader that matter.
fn compare(workshop: &Workshop, behaviour: &Behaviour) -> page::Row {
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for writer in Who::BOTH {
        for reader in Who::BOTH {
            let matters = match (behaviour.has_writer(), behaviour.has_reader()) {
                (true, true) => true,
                (false, _) => writer == Who::Ours,
                (true, false) => writer == reader,
            };
            match matters.then(|| workshop.observe(behaviour, writer, reader)) {
                Some(Ok(outcome)) => seen.push((writer, reader, outcome)),
                Some(Err(error)) => wrong.push(format!("{writer:?} writes, {reader:?} reads: {error}")),
                None => {}
            }
        }
    }
    let alone = |who| {
        let own =
            |(writer, reader, _): &&(Who, Who, Outcome)| *reader == who && (*writer == who || !behaviour.has_writer());
        seen.iter().find(own).map(|(.., outcome)| outcome.clone())
    };
    let [python, ours] = Who::BOTH.map(alone);
    if let (Some(python), Some(ours)) = (&python, &ours) {
        wrong.extend(behaviour.judge(python, ours));
        // What the other wrote is read as what one wrote oneself.
        for (writer, reader, outcome) in &seen {
            let own = if *reader == Who::Python { python } else { ours };
            if (outcome.status, &outcome.stdout) != (own.status, &own.stdout) {
                wrong.push(format!("{reader:?} reads what {writer:?} wrote, and shows {outcome:?}, not {own:?}"));
            }
        }
    }
    page::Row { behaviour: *behaviour, shown: [python, ours], wrong }
}

/// `test/bb:latest`, a root of two layers with an environment, a directory and a command; `test/both:latest`, the same
/// for two architectures; `test/entry:latest` with an entry point.
fn publish_images(env: &TestEnv, registry: &Registry) -> Image {
    let layer = Layer::dotted()
        .directories(&["data", "srv", "usr", "usr/bin"])
        .file("data/kept", 0o644, "kept\n")
        .file("data/gone", 0o644, "gone\n")
        .file("etc/secret", 0o000, "secret\n");
    let upper = Layer::dotted().directory("data", 0o755).whiteout("data/gone").file("data/upper", 0o755, "upper\n");
    let mut tars = vec![env.busybox_tar()];
    for (name, layer) in [("middle.tar", layer), ("upper.tar", upper)] {
        std::fs::write(env.path(name), layer.finish()).expect("write");
        tars.push(env.path(name));
    }
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    let config = serde_json::json!({"Env": [path, "FROM_IMAGE=of the image"], "Cmd": ["sh", "-c", "echo by default"],
        "WorkingDir": "/srv", "Labels": {"maker": "tests"}});
    let entry = serde_json::json!({"Env": [path], "Entrypoint": ["echo", "entry"], "Cmd": ["command"]});
    let plain = Recipe { config, ..Recipe::new(tars.clone()) };
    let write = |name: &str, recipe: Recipe| recipe.write(&env.path(name));
    let native = write("bb", plain.clone());
    let foreign = write("foreign", Recipe { architecture: "arm64", ..plain.clone() });
    let both = Image::index(&env.path("both"), &[native.clone(), foreign]);
    registry.publish(&native, "bb");
    registry.publish(&both, "both");
    registry.publish(&write("entry", Recipe { config: entry, ..plain }), "entry");
    native
}

/// Answers every request as Docker Hub does a search that has one page. udocker takes `count` for the number of pages.
fn start_hub() -> WebServer {
    let results = serde_json::json!({"count": 1, "results": [
        {"repo_name": "test/bb", "is_official": false, "short_description": "A small root\nof two layers", "star_count": 7},
        {"repo_name": "bb", "is_official": true, "short_description": "", "star_count": 1234},
    ]});
    WebServer::start(move |_, _| Answer::ok(results.clone()))
}
