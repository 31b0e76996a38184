//! Builds a plan of mode N1 from its arguments and executes it, or runs a probe: the tests' way into the engine.
//!
//! ```text
//! enter TREE (read-only | in-place | tmpfs=BYTES | layer=UPPER:WORK) [OPTION]… -- PROGRAM [ARGUMENT]…
//!   --id=UID:GID  --filter  --subordinate=UID:COUNT:GID:COUNT  --docker-capabilities  --unshare-pid
//!   --bind=SOURCE:TARGET[:ro|:optional|:create]…  --tmpfs=TARGET[:BYTES]  --file=TARGET:CONTENT
//!   --cwd=PATH  --cwd-fallback=PATH  --env=NAME=VALUE  --keep-fds=N,N
//! enter probe (user | overlay LOWER | layer LOWER UPPER WORK)
//! ```
#![allow(clippy::print_stderr)]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use udocker_core::engine::native::{self, ProbeError};
use udocker_core::engine::*;
use udocker_core::error::Failure;
use udocker_core::run::ExecMode;
use udocker_core::start::StartError;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments[0] == "probe" {
        return match probe(&arguments[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}", Failure::from(error).report());
                ExitCode::FAILURE
            }
        };
    }
    udocker_core::sys::signal::restore_sigpipe();
    let error = StartError::from(native::execute(&parse(&arguments), None));
    let status = error.status();
    eprintln!("{}", Failure::from(error).report());
    ExitCode::from(status)
}

fn probe(arguments: &[String]) -> Result<(), ProbeError> {
    let path = |index: usize| Path::new(&arguments[index]);
    match arguments[0].as_str() {
        "user" => native::probe_user_namespace(),
        "overlay" => native::probe_overlay(path(1)),
        "layer" => native::probe_layer(path(1), path(2), path(3)),
        other => panic!("no probe {other}"),
    }
}

fn parse(arguments: &[String]) -> ExecPlan {
    let end = arguments.iter().position(|argument| argument == "--").expect("`--` before the program");
    let write = match arguments[1].split_once('=') {
        None if arguments[1] == "read-only" => RootWrite::ReadOnly,
        None => RootWrite::InPlace,
        Some(("tmpfs", size)) => RootWrite::Tmpfs { size: size.parse().unwrap() },
        Some((_, layer)) => {
            let (upper, work) = layer.split_once(':').unwrap();
            RootWrite::Layer { upper: upper.into(), work: work.into() }
        }
    };
    let mut plan = ExecPlan {
        mode: ExecMode::N1,
        engine: Engine::Native,
        root: RootPlan::new(&arguments[0], write),
        mounts: Vec::new(),
        files: Vec::new(),
        identity: IdentityPlan {
            uid: 0,
            gid: 0,
            map: IdMap::Single,
            fake_root_filter: false,
            docker_capabilities: false,
        },
        unshare: Vec::new(),
        cwd: Cwd { path: "/".into(), fallback: None },
        login_shells: Vec::new(),
        argv: arguments[end + 1..].iter().map(OsString::from).collect(),
        env: vec!["PATH=/bin".into()],
        keep_fds: KeepFds::All,
    };
    for option in &arguments[2..end] {
        apply(&mut plan, option);
    }
    plan
}

fn apply(plan: &mut ExecPlan, option: &str) {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let fields: Vec<&str> = value.split(':').collect();
    let number = |index: usize| -> u32 { fields[index].parse().unwrap() };
    match name {
        "--id" => (plan.identity.uid, plan.identity.gid) = (number(0), number(1)),
        "--filter" => plan.identity.fake_root_filter = true,
        "--subordinate" => {
            plan.identity.map = IdMap::Subordinate { uids: (number(0), number(1)), gids: (number(2), number(3)) };
        }
        "--docker-capabilities" => plan.identity.docker_capabilities = true,
        "--unshare-pid" => plan.unshare.push(Unshare::Pid),
        "--bind" => plan.mounts.push(MountPlan {
            source: MountSource::Bind { path: fields[0].into(), create: fields[2..].contains(&"create") },
            target: fields[1].into(),
            read_only: fields[2..].contains(&"ro"),
            optional: fields[2..].contains(&"optional"),
            origin: "--bind".into(),
        }),
        "--tmpfs" => plan.mounts.push(MountPlan {
            source: MountSource::Tmpfs { size: fields.get(1).map(|size| size.parse().unwrap()) },
            target: fields[0].into(),
            read_only: false,
            optional: false,
            origin: "--tmpfs".into(),
        }),
        "--file" => plan.files.push(GeneratedFile { target: fields[0].into(), content: fields[1].into() }),
        "--cwd" => plan.cwd.path = value.into(),
        "--cwd-fallback" => plan.cwd.fallback = Some(value.into()),
        "--env" => plan.env.push(value.into()),
        "--keep-fds" => {
            let list = value.split(',').filter(|fd| !fd.is_empty()).map(|fd| fd.parse().unwrap()).collect();
            plan.keep_fds = KeepFds::Only(list);
        }
        other => panic!("no option {other}"),
    }
}
