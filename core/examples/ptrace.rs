//! Runs a program in a tree by the ptrace engine: the tests' and benchmarks' way into it.
//!
//! ```text
//! ptrace ROOT [--bind=SOURCE:TARGET[:ro]]… [--file=TARGET:CONTENT]… [--ro] [--id=UID:GID] [--cwd=PATH]
//!        [--env=NAME=VALUE]… -- PROGRAM [ARGUMENT]…
//! ```
#![allow(clippy::print_stderr)]

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
fn main() -> ExitCode {
    use udocker_core::error::Failure;
    use udocker_core::start::start;
    use udocker_core::sys::supervised::Ended;

    udocker_core::sys::signal::restore_sigpipe();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let own = format!("ptrace-{}", rustix::process::getuid().as_raw());
    let beside = std::path::Path::new(&arguments[0]).with_file_name(&own);
    match start(&parse(&arguments), &[beside, std::env::temp_dir().join(own)], None) {
        Ok(Ended::Status(status)) => ExitCode::from(status),
        Ok(Ended::Signal(signal)) => ExitCode::from(128 + signal as u8),
        Err(error) => {
            let status = error.status();
            eprintln!("{}", Failure::from(error).report());
            ExitCode::from(status)
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> ExitCode {
    eprintln!("the ptrace engine is for x86-64");
    ExitCode::from(125)
}

#[cfg(target_arch = "x86_64")]
fn parse(arguments: &[String]) -> udocker_core::engine::ExecPlan {
    use std::ffi::OsString;
    use udocker_core::engine::*;

    let end = arguments.iter().position(|argument| argument == "--").expect("`--` before the program");
    let mut plan = ExecPlan {
        mode: "P2".parse().expect("a mode"),
        engine: Engine::Ptrace,
        root: RootPlan::new(&arguments[0], RootWrite::InPlace),
        mounts: Vec::new(),
        files: Vec::new(),
        identity: IdentityPlan {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            map: IdMap::Single,
            fake_root_filter: false,
            docker_capabilities: false,
        },
        unshare: Vec::new(),
        cwd: Cwd { path: "/".into(), fallback: None },
        login_shells: Vec::new(),
        argv: arguments[end + 1..].iter().map(OsString::from).collect(),
        env: vec!["PATH=/bin:/usr/bin".into()],
        keep_fds: KeepFds::All,
    };
    for option in &arguments[1..end] {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let fields: Vec<&str> = value.split(':').collect();
        match name {
            "--ro" => plan.root.write = RootWrite::ReadOnly,
            "--id" => (plan.identity.uid, plan.identity.gid) = (fields[0].parse().unwrap(), fields[1].parse().unwrap()),
            "--bind" => plan.mounts.push(MountPlan {
                source: MountSource::Bind { path: fields[0].into(), create: false },
                target: fields[1].into(),
                read_only: fields[2..].contains(&"ro"),
                optional: false,
                origin: "--bind".into(),
            }),
            "--file" => plan.files.push(GeneratedFile { target: fields[0].into(), content: fields[1].into() }),
            "--cwd" => plan.cwd.path = value.into(),
            "--env" => plan.env.push(value.into()),
            other => panic!("no option {other}"),
        }
    }
    plan
}
