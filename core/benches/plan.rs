//! The path from words to a plan: what each rank computes before its first system call.

use std::ffi::OsString;

use divan::{Bencher, black_box};
use udocker_core::engine::{self, RootPlan, RootWrite, choose};
use udocker_core::image_config::ImageConfig;
use udocker_core::policy::Permit;
use udocker_core::reference::ImageReference;
use udocker_core::run::{Caller, ContainerFacts, Defaults, ImageFiles, MountSpec, RunRequest, RunSpec};
use udocker_core::settings::Settings;
use udocker_core::store::Record;

fn main() {
    divan::main();
}

#[divan::bench(args = ["debian", "registry.example.org:5000/group/project/name:1.2.3", "a@sha256:0000000000000000000000000000000000000000000000000000000000000000"])]
fn reference(text: &str) -> ImageReference {
    black_box(text).parse().expect("a reference")
}

/// A request with ten volumes, of a caller with a batch job's environment of 200 variables.
struct Job {
    request: RunRequest,
    config: ImageConfig,
    files: ImageFiles,
    caller: Caller,
    facts: ContainerFacts,
}

fn job() -> Job {
    let mut request = RunRequest::new("debian:12");
    request.argv = vec!["true".into()];
    request.mounts =
        (0..10).map(|n| MountSpec::from_volume(format!("/usr:/m{n}:ro").as_ref()).expect("a volume")).collect();
    let env: Vec<(OsString, OsString)> =
        (0..200).map(|n| (format!("SLURM_VARIABLE_{n}").into(), format!("value {n}").into())).collect();
    let config =
        br#"{"os": "linux", "architecture": "amd64", "config": {"Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"]}}"#;
    Job {
        request,
        config: ImageConfig::parse(config).expect("a configuration"),
        files: ImageFiles { passwd: b"root:x:0:0:root:/root:/bin/sh\n".repeat(30), group: b"root:x:0:\n".repeat(50) },
        caller: Caller {
            uid: 1000,
            gid: 1000,
            shell: None,
            name: "alice".into(),
            home: "/home/alice".into(),
            cwd: "/".into(),
            env,
            runtime_dir: None,
            sockets: Vec::new(),
            subordinate: None,
            interactive: Default::default(),
            site_mounts: None,
            site_env: None,
            gpu: None,
        },
        facts: ContainerFacts { id: "id".into(), root: "/store/root".into(), ..ContainerFacts::default() },
    }
}

#[divan::bench(args = [Defaults::Interactive, Defaults::Job])]
fn spec(bencher: Bencher<'_, '_>, defaults: Defaults) {
    let job = job();
    bencher.bench(|| RunSpec::build(&job.request, &job.config, &job.files, &job.caller, defaults, &job.facts));
}

#[divan::bench]
fn plan(bencher: Bencher<'_, '_>) {
    let job = job();
    let spec = || RunSpec::build(&job.request, &job.config, &job.files, &job.caller, Defaults::Job, &job.facts);
    let root = || RootPlan::new("/store/root", RootWrite::ReadOnly);
    let settings = Settings::default();
    let permit = Permit::plain(settings.rules(), "i");
    let choice = choose(None, &settings.engines, &permit, "".as_ref(), || Ok(())).expect("N1 is built");
    bencher
        .with_inputs(|| (spec().expect("a spec"), root()))
        .bench_values(|(spec, root)| engine::plan(&spec, &choice, root));
}

const RECORD: &str = "udocker-record 1
manifest sha256:89bfeda69d5dc547aacc43660833f6aca86cf5e61a99ca1e1516550e61cb83f5
platform linux/amd64
config sha256:eafe666cd63fac1efd60125bfbfa70808d795450c44b203f18e814fb62a05332
format 1
tree 184af5101b6285d797a656580805996c039721ce6df4b8d867119497c38240a2
blobs 1
packed 778240
bytes 762296
entries 17
workdir /
user 
env PATH=/usr/bin:/bin
end
";

#[divan::bench]
fn record(bencher: Bencher<'_, '_>) {
    bencher.bench(|| Record::parse_head(black_box(RECORD.as_bytes())));
}
