//! The program's words, its whole environment, and the descriptors that the environment names. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::carried::{carried, is_carried, is_from};
use super::identity::Identity;
use super::passwd::passwd_entries;
use super::{Caller, ContainerFacts, Defaults, Entrypoint, EnvSpec, ImageFiles, RunRequest, SiteEnv, SpecError, mount};
use crate::engine::MountPlan;
use crate::env_vars::{self, matches, matches_any};
use crate::gpu::{driver, renumbered};
use crate::image_config::ImageConfig;

/// The program and its arguments, and whether they are a guess, since nobody named any.
///
/// `udocker run`: as udocker, entrypoint and then the user's words or the image's Cmd; an own or an empty entrypoint
/// drops the image's Cmd; an own one is split at blanks. Jobs: the user's words, by default without the entrypoint;
/// without words the image's whole command.
pub(crate) fn command(
    request: &RunRequest,
    config: &ImageConfig,
    caller: &Caller,
    defaults: Defaults,
) -> Result<(Vec<OsString>, bool), SpecError> {
    if request.login {
        // Its name is decided with the shell.
        return Ok((["login".into()].into_iter().chain(request.argv.iter().cloned()).collect(), false));
    }
    let words = |list: &[String]| list.iter().map(OsString::from).collect::<Vec<_>>();
    let entrypoint = request.entrypoint(defaults);
    let whole_image =
        *entrypoint == Entrypoint::Image || (*entrypoint == Entrypoint::None && defaults == Defaults::Job);
    let mut argv = match entrypoint {
        Entrypoint::Image => words(&config.entrypoint),
        Entrypoint::None if defaults == Defaults::Job && request.argv.is_empty() => words(&config.entrypoint),
        Entrypoint::None => Vec::new(),
        Entrypoint::Program(text) => {
            let parts = text.as_bytes().split(|byte| *byte == b' ').filter(|part| !part.is_empty());
            parts.map(|part| OsStr::from_bytes(part).to_owned()).collect()
        }
    };
    if !request.argv.is_empty() {
        argv.extend(request.argv.iter().cloned());
    } else if whole_image {
        argv.extend(words(&config.cmd));
    }
    match (argv.is_empty(), defaults) {
        (false, _) => Ok((argv, false)),
        (true, Defaults::Interactive) => Ok((words(&caller.interactive.command), true)),
        (true, Defaults::Job) => Err(SpecError::NoCommand),
    }
}

/// Which shells may be the login shell: the one that the batch system was asked for, the user's own inside, /bin/sh.
pub(crate) fn login_shells(files: &ImageFiles, caller: &Caller) -> Vec<OsString> {
    let asked =
        caller.env.iter().rev().find(|(name, _)| name == env_vars::UDOCKER_SHELL).map(|(_, value)| value.clone());
    let inside = passwd_entries(&files.passwd).find(|entry| entry.uid == caller.uid);
    let inside = inside.map(|entry| OsStr::from_bytes(entry.shell).to_owned());
    let shells =
        asked.into_iter().chain(inside).chain(caller.shell.clone()).filter(|shell| Path::new(shell).is_absolute());
    shells.chain(["/bin/sh".into()]).collect()
}

/// An environment under construction: names are unique, the first setting decides the place.
/// The second part is who sets what comes next.
#[derive(Default)]
struct Environment(Vec<(OsString, OsString, EnvOrigin)>, EnvOrigin);

/// Who set a variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvOrigin {
    /// It is the host's.
    #[default]
    Host,
    /// The account of the program's user.
    Account,
    /// The image.
    Image,
    /// The script inside that started the step.
    Script,
    /// It is built in.
    Default,
    /// `env.set` of the site.
    SiteSet,
    /// `env.prepend`.
    SitePrepend,
    /// `env.append`.
    SiteAppend,
    /// What shows a GPU or a device.
    Gpu,
    /// The entry of this number in the request.
    Wish(u32),
}

impl Environment {
    fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(other, ..)| *other == name) {
            Some((_, old, by)) => (*old, *by) = (value, self.1),
            None => self.0.push((name, value, self.1)),
        }
    }
    /// What the site sets, and what it puts before and behind.
    fn set_of_site(&mut self, site: &SiteEnv) {
        self.1 = EnvOrigin::SiteSet;
        for (name, value) in &site.set {
            self.set(name, value);
        }
        self.1 = EnvOrigin::SitePrepend;
        for (name, value) in &site.prepend {
            let old = self.value(name).unwrap_or_default();
            self.set(name, joined(value.as_ref(), &old));
        }
        self.1 = EnvOrigin::SiteAppend;
        for (name, value) in &site.append {
            let old = self.value(name).unwrap_or_default();
            self.set(name, joined(&old, value.as_ref()));
        }
    }
    /// Puts the directory `own` into a list like PATH by `join`, once.
    fn set_list(&mut self, name: &str, own: &str, join: impl FnOnce(&OsStr, &OsStr) -> OsString) {
        let old = self.value(name).unwrap_or_default();
        if !old.as_bytes().split(|byte| *byte == b':').any(|part| part == own.as_bytes()) {
            self.set(name, join(own.as_ref(), &old));
        }
    }
    fn value(&self, name: &str) -> Option<OsString> {
        self.0.iter().find(|(other, ..)| other == name).map(|(_, value, _)| value.clone())
    }
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, ..)| other == name)
    }
}

/// Two values of a list like PATH, a colon between them if both are something.
fn joined(first: &OsStr, second: &OsStr) -> OsString {
    let mut all = first.to_owned();
    if !first.is_empty() && !second.is_empty() {
        all.push(":");
    }
    all.push(second);
    all
}

/// The whole environment, `NAME=VALUE` each; the user's `--env` wins over all but what the site removes.
///
/// `udocker run`: TERM of the host (all with `host_env`) < image < udocker's own variables; HOME only if the image has
/// none. Jobs: host less the drop list < image < per-rank variables of the host. Steps of a script in the same container get
/// what the script has, which had all of that and the site's.
pub(crate) fn assemble(
    request: &RunRequest,
    config: &ImageConfig,
    caller: &Caller,
    defaults: Defaults,
    container: &ContainerFacts,
    identity: &Identity,
    mounts: &[MountPlan],
) -> Vec<OsString> {
    let variables = variables(request, config, caller, defaults, container, identity, mounts);
    variables.into_iter().map(|(name, value, _)| entry(name, &value)).collect()
}

/// The same, each with who set it.
pub(super) fn variables(
    request: &RunRequest,
    config: &ImageConfig,
    caller: &Caller,
    defaults: Defaults,
    container: &ContainerFacts,
    identity: &Identity,
    mounts: &[MountPlan],
) -> Vec<(OsString, OsString, EnvOrigin)> {
    let mut out = Environment::default();
    let is_of_script = defaults == Defaults::Job && !request.clean_env && is_from(&caller.env, &container.id);
    let passes = |name: &[u8]| match defaults {
        Defaults::Interactive if request.host_env && !request.clean_env => {
            !matches_any(&caller.interactive.drop_env, name) && name != b"PATH"
        }
        // PATH is always the image's or the default one, though udocker's list of names has it.
        Defaults::Interactive => {
            matches_any(&caller.interactive.host_env, name)
                && !matches_any(&caller.interactive.drop_env, name)
                && name != b"PATH"
        }
        Defaults::Job if request.clean_env => matches_any(env_vars::PER_RANK, name),
        Defaults::Job => !matches_any(env_vars::JOB_DROP, name) || matches_any(env_vars::PER_RANK, name),
    };
    let site = caller.site_env.as_deref();
    let of_site = |name: &[u8]| site.filter(|_| !request.clean_env).and_then(|site| site.passes(name));
    let passes = |name: &[u8]| of_site(name).unwrap_or_else(|| passes(name));
    for (name, value) in caller.env.iter().filter(|(name, _)| passes(name.as_bytes()) && !is_carried(name)) {
        let invisible = || !mount::is_visible(mounts, Path::new(value));
        if defaults == Defaults::Job && name == "TMPDIR" && invisible() {
            continue;
        }
        // It begins elsewhere.
        let stays = || request.workdir.is_none() && mount::is_visible(mounts, &caller.cwd);
        if defaults == Defaults::Job && name == "PWD" && !stays() {
            continue;
        }
        out.set(name, value);
    }
    // The host's HOME stands for the caller; what the image sets comes later and wins, as in udocker.
    out.1 = EnvOrigin::Account;
    if !is_of_script || !out.has("HOME") {
        out.set("HOME", &identity.home);
    }
    out.1 = if is_of_script { EnvOrigin::Script } else { EnvOrigin::Image };
    match is_of_script {
        true => carried(&caller.env).for_each(|(name, value)| out.set(name, value)),
        false => config.env.iter().for_each(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            if !name.is_empty() {
                out.set(name, value);
            }
        }),
    }
    out.1 = EnvOrigin::Default;
    match defaults {
        Defaults::Interactive => set_udockers_own(&mut out, caller, container, identity),
        Defaults::Job => {
            for (name, value) in &caller.env {
                if matches_any(env_vars::PER_RANK, name.as_bytes()) && !is_carried(name) {
                    out.1 = EnvOrigin::Host;
                    set_of_host(&mut out, caller, name, value);
                }
            }
            out.1 = EnvOrigin::Default;
            out.set(env_vars::UDOCKER_INSIDE, &container.id);
            if caller.runtime_dir.is_some() {
                out.set(env_vars::XDG_RUNTIME_DIR, mount::runtime_dir_inside(caller));
            }
        }
    }
    let unset = |name: &OsStr| request.unset_env.iter().any(|glob| matches(glob.as_bytes(), name.as_bytes()));
    out.0.retain(|(name, ..)| !unset(name));
    if !out.has("PATH") || out.0.iter().any(|(name, value, _)| name == "PATH" && value.is_empty()) {
        let (root, own) = (identity.uid == 0, &caller.interactive);
        out.set(
            "PATH",
            match defaults {
                Defaults::Interactive if root => own.root_path.as_str(),
                Defaults::Interactive => own.user_path.as_str(),
                Defaults::Job if root => env_vars::DEFAULT_PATH_ROOT,
                Defaults::Job => env_vars::DEFAULT_PATH_USER,
            },
        );
    }
    if let Some(site) = site.filter(|_| !is_of_script) {
        out.set_of_site(site);
        // The user's word goes beyond the site's.
        out.0.retain(|(name, ..)| name == "PATH" || !unset(name));
    }
    if let Some(gpu) = &caller.gpu {
        out.1 = EnvOrigin::Gpu;
        for (name, value) in &gpu.env {
            out.set(name, value);
        }
        // The driver must be the kernel's own, whatever the image has.
        if gpu.has_libraries {
            out.set_list("LD_LIBRARY_PATH", driver::LIBRARIES, joined);
        }
        if gpu.has_programs {
            out.set_list("PATH", driver::PROGRAMS, |own, rest| joined(rest, own));
        }
    }
    for (wish, number) in request.env.iter().zip(0..) {
        out.1 = EnvOrigin::Wish(number);
        match wish {
            EnvSpec::Set { name, value } => out.set(name, value),
            EnvSpec::Host(glob) => {
                for (name, value) in caller.env.iter().filter(|(n, _)| matches(glob.as_bytes(), n.as_bytes())) {
                    set_of_host(&mut out, caller, name, value);
                }
            }
        }
    }
    if let Some(site) = site {
        out.0.retain(|(name, ..)| !site.removes(name));
    }
    out.0
}

/// The host's value; numbers of GPUs as they are counted inside.
fn set_of_host(out: &mut Environment, caller: &Caller, name: &OsStr, value: &OsStr) {
    let counted = caller.gpu.as_ref().and_then(|gpu| gpu.counted.as_ref());
    match counted.and_then(|counted| renumbered(name, value, counted, &caller.env)) {
        Some(value) => out.set(name, value),
        None => out.set(name, value),
    }
}

fn entry(name: OsString, value: &OsStr) -> OsString {
    let mut bytes = name.into_vec();
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    OsString::from_vec(bytes)
}

/// udocker's `_run_env_set`.
fn set_udockers_own(out: &mut Environment, caller: &Caller, container: &ContainerFacts, identity: &Identity) {
    for name in ["USER", "LOGNAME", "USERNAME"] {
        out.set(name, &identity.name);
    }
    let short: String = container.id.chars().take(8).collect();
    out.set("PS1", if identity.uid == 0 { format!("{short}# ") } else { format!("{short}\\$ ") });
    out.set("SHLVL", "0");
    out.set("container_ruser", &caller.name);
    out.set("container_root", &container.root);
    out.set("container_uuid", &container.id);
    out.set("container_execmode", container.mode.to_string());
    out.set("container_names", container.names.join(","));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::IdMap;
    use crate::run::ExecMode;
    use crate::run::tests::{caller, job, pairs};

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        ImageConfig { entrypoint: list(entrypoint), cmd: list(cmd), ..ImageConfig::default() }
    }

    #[test]
    fn commands() {
        let (run, batch) = (Defaults::Interactive, Defaults::Job);
        let program = |text: &str| Entrypoint::Program(text.into());
        let both = image(&["/e", "-x"], &["c"]);
        for (case, config, entrypoint, argv, defaults, expected) in [
            ("image", &both, Entrypoint::Image, &[][..], run, &["/e", "-x", "c"][..]),
            ("words replace Cmd", &both, Entrypoint::Image, &["a", ""], run, &["/e", "-x", "a", ""]),
            ("empty entrypoint drops Cmd", &both, Entrypoint::None, &[], run, &["bash", "-i"]),
            ("empty entrypoint", &both, Entrypoint::None, &["a"], run, &["a"]),
            ("own entrypoint drops Cmd", &both, program("/p  -q"), &[], run, &["/p", "-q"]),
            ("own entrypoint", &both, program("/p"), &["a b"], run, &["/p", "a b"]),
            ("nothing", &image(&[], &[]), Entrypoint::Image, &[], run, &["bash", "-i"]),
            ("only Cmd", &image(&[], &["c"]), Entrypoint::Image, &[], run, &["c"]),
            ("job without words", &both, Entrypoint::None, &[], batch, &["/e", "-x", "c"]),
            ("job", &both, Entrypoint::None, &["a"], batch, &["a"]),
            ("job with entrypoint", &both, Entrypoint::Image, &["a"], batch, &["/e", "-x", "a"]),
        ] {
            let mut request = RunRequest::new("i");
            request.entrypoint = Some(entrypoint);
            request.argv = argv.iter().map(OsString::from).collect();
            let (words, assumed) = command(&request, config, &caller(), defaults).unwrap();
            assert_eq!(words, expected, "{case}");
            assert_eq!(assumed, expected == ["bash", "-i"], "{case}");
        }
        assert_eq!(command(&job(), &image(&[], &[]), &caller(), batch), Err(SpecError::NoCommand));
    }

    #[test]
    fn a_login_shell_is_the_one_that_was_asked_for_else_the_users() {
        let files = ImageFiles { passwd: b"a:x:1234:100::/h:/bin/zsh\n".to_vec(), group: Vec::new() };
        let mut caller = Caller { shell: Some("/bin/bash".into()), ..caller() };
        assert_eq!(login_shells(&files, &caller), ["/bin/zsh", "/bin/bash", "/bin/sh"]);
        caller.env = pairs(&[("UDOCKER_SHELL", "/usr/bin/fish")]);
        assert_eq!(login_shells(&ImageFiles::default(), &caller), ["/usr/bin/fish", "/bin/bash", "/bin/sh"]);
        caller.env = pairs(&[("UDOCKER_SHELL", "relative")]);
        caller.shell = None;
        assert_eq!(login_shells(&ImageFiles::default(), &caller), ["/bin/sh"]);
        let request = RunRequest { login: true, argv: vec!["-x".into()], ..job() };
        let words = command(&request, &ImageConfig::default(), &caller, Defaults::Job).unwrap();
        assert_eq!(words, (vec!["login".into(), "-x".into()], false));
    }

    fn root() -> Identity {
        Identity { uid: 0, gid: 0, map: IdMap::Single, name: "root".into(), home: "/root".into() }
    }

    fn environment(
        request: &RunRequest,
        image: &[&str],
        host: &[(&str, &str)],
        defaults: Defaults,
        identity: &Identity,
    ) -> Vec<String> {
        let mut caller = caller();
        caller.env = pairs(host);
        environment_of(request, image, &caller, defaults, identity)
    }

    fn environment_of(
        request: &RunRequest,
        image: &[&str],
        caller: &Caller,
        defaults: Defaults,
        identity: &Identity,
    ) -> Vec<String> {
        let config =
            ImageConfig { env: image.iter().map(|entry| (*entry).to_owned()).collect(), ..ImageConfig::default() };
        let container = ContainerFacts {
            id: "12345678-aaaa".into(),
            names: vec!["one".into(), "two".into()],
            root: "/s/ROOT".into(),
            mode: ExecMode::P2,
        };
        let mounts = mount::collect(request, caller, defaults, Path::new("/none")).unwrap();
        let env = assemble(request, &config, caller, defaults, &container, identity, &mounts);
        env.into_iter().map(|entry| entry.into_string().unwrap()).collect()
    }

    const HOST: &[(&str, &str)] =
        &[("TERM", "xterm"), ("PATH", "/host"), ("SECRET", "s"), ("HOME", "/home/alice"), ("VTE_VERSION", "1")];
    const OWN: [&str; 7] = [
        "PS1=12345678# ",
        "SHLVL=0",
        "container_ruser=alice",
        "container_root=/s/ROOT",
        "container_uuid=12345678-aaaa",
        "container_execmode=P2",
        "container_names=one,two",
    ];

    #[test]
    fn udocker_run_sets_what_udocker_sets() {
        let mut expected = vec!["TERM=xterm", "HOME=/root", "PATH=/image", "A=b=c", "USER=root", "LOGNAME=root"];
        expected.push("USERNAME=root");
        expected.extend(OWN);
        let found = environment(&RunRequest::new("i"), &["PATH=/image", "A=b=c"], HOST, Defaults::Interactive, &root());
        assert_eq!(found, expected);
    }

    #[test]
    fn the_default_path_follows_the_user() {
        let of = |uid| {
            let identity = Identity { uid, ..root() };
            let env = environment(&RunRequest::new("i"), &["PATH="], HOST, Defaults::Interactive, &identity);
            env.into_iter().find(|entry| entry.starts_with("PATH=")).unwrap()
        };
        assert_eq!(of(0), "PATH=/usr/sbin:/sbin:/usr/bin:/bin");
        assert_eq!(of(7), "PATH=/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin");
    }

    #[test]
    fn host_environment_and_wishes() {
        let mut request = RunRequest::new("i");
        request.host_env = true;
        request.unset_env = vec!["container_*".into(), "PS1".into(), "SECRET".into(), "TERM".into()];
        request.env = ["USER=me", "TERM", "NEW=x", "NEW=y=z", "MISSING", "VTE*"].map(|e| e.parse().unwrap()).into();
        assert_eq!(
            environment(&request, &["HOME=/image", "USER=image"], HOST, Defaults::Interactive, &root()),
            [
                "HOME=/image",
                "USER=me",
                "LOGNAME=root",
                "USERNAME=root",
                "SHLVL=0",
                "PATH=/usr/sbin:/sbin:/usr/bin:/bin",
                "TERM=xterm",
                "NEW=y=z",
                "VTE_VERSION=1",
            ]
        );
    }

    const BATCH: &[(&str, &str)] = &[
        ("PATH", "/host"),
        ("LD_PRELOAD", "x.so"),
        ("BASH_FUNC_m%%", "() { :; }"),
        ("MODULEPATH", "/m"),
        ("XDG_DATA_DIRS", "/x"),
        ("XDG_RUNTIME_DIR", "/run/user/1"),
        ("TMPDIR", "/local/1"),
        ("OMP_NUM_THREADS", "4"),
        ("LANG", "C"),
        ("SLURM_PROCID", "3"),
        ("CUDA_VISIBLE_DEVICES", "1"),
    ];

    /// However a variable of the host's is asked for.
    #[test]
    fn numbers_of_gpus_are_counted_anew() {
        let alice = Identity { uid: 1, gid: 1, map: IdMap::Single, name: "alice".into(), home: "/home/alice".into() };
        for (wish, expected) in [
            (None, "0"),
            (Some("CUDA_VISIBLE_DEVICES"), "0"),
            (Some("CUDA*"), "0"),
            (Some("CUDA_VISIBLE_DEVICES=1"), "1"),
        ] {
            let mut caller = caller();
            caller.env = pairs(BATCH);
            let counted = Some(crate::gpu::Counted { shown: vec![1], hidden: Vec::new() });
            caller.gpu = Some(Box::new(crate::gpu::Shown { counted, ..Default::default() }));
            let mut request = job();
            request.env.extend(wish.map(|wish| wish.parse().unwrap()));
            let found = environment_of(&request, &[], &caller, Defaults::Job, &alice);
            assert!(found.contains(&format!("CUDA_VISIBLE_DEVICES={expected}")), "{wish:?}: {found:?}");
        }
    }

    #[test]
    fn a_job_gets_the_host_less_the_drop_list() {
        let alice = Identity { uid: 1, gid: 1, map: IdMap::Single, name: "alice".into(), home: "/home/alice".into() };
        let image = ["PATH=/i", "LANG=C.UTF-8", "SLURM_PROCID=9", "CUDA_VISIBLE_DEVICES=all", "LD_LIBRARY_PATH=/i"];
        assert_eq!(
            environment(&job(), &image, BATCH, Defaults::Job, &alice),
            [
                "TMPDIR=/local/1",
                "OMP_NUM_THREADS=4",
                "LANG=C.UTF-8",
                "SLURM_PROCID=3",
                "CUDA_VISIBLE_DEVICES=1",
                "HOME=/home/alice",
                "PATH=/i",
                "LD_LIBRARY_PATH=/i",
                "UDOCKER_INSIDE=12345678-aaaa",
            ]
        );
        let mut request = job();
        request.clean_env = true;
        request.env = ["LANG", "CUDA_VISIBLE_DEVICES=2"].map(|entry| entry.parse().unwrap()).into();
        assert_eq!(
            environment(&request, &["LANG=C.UTF-8"], BATCH, Defaults::Job, &alice),
            [
                "SLURM_PROCID=3",
                "CUDA_VISIBLE_DEVICES=2",
                "HOME=/home/alice",
                "LANG=C",
                "UDOCKER_INSIDE=12345678-aaaa",
                "PATH=/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
            ]
        );
    }

    #[test]
    fn a_step_of_a_script_in_the_same_container_has_what_the_script_has() {
        let alice = Identity { uid: 1, gid: 1, map: IdMap::Single, name: "alice".into(), home: "/home/alice".into() };
        let of = |inside: &str, request: &RunRequest| {
            let host = [
                ("PATH", "/host"),
                ("HOME", "/elsewhere"),
                ("LANG", "C"),
                ("SLURM_PROCID", "1"),
                ("SLURM_UDOCKER_INSIDE", inside),
                ("SLURM_UDOCKER_ENV_PATH", "/own:/i"),
                ("SLURM_UDOCKER_ENV_PYTHONPATH", "/p"),
            ];
            environment(request, &["PATH=/i", "LANG=C.UTF-8"], &host, Defaults::Job, &alice)
        };
        let own = ["HOME=/elsewhere", "LANG=C", "SLURM_PROCID=1", "PATH=/own:/i", "PYTHONPATH=/p"];
        let own: Vec<_> = own.into_iter().chain(["UDOCKER_INSIDE=12345678-aaaa"]).collect();
        assert_eq!(of("12345678-aaaa", &job()), own);
        let new = ["HOME=/home/alice", "LANG=C.UTF-8", "SLURM_PROCID=1", "PATH=/i", "UDOCKER_INSIDE=12345678-aaaa"];
        assert_eq!(of("another", &job()), new);
        let clean = ["SLURM_PROCID=1", "HOME=/home/alice", "PATH=/i", "LANG=C.UTF-8", "UDOCKER_INSIDE=12345678-aaaa"];
        assert_eq!(of("12345678-aaaa", &RunRequest { clean_env: true, ..job() }), clean);
    }

    #[test]
    fn a_site_sets_below_the_user_and_removes_above() {
        let alice = Identity { uid: 1, gid: 1, map: IdMap::Single, name: "alice".into(), home: "/home/alice".into() };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let site = SiteEnv {
            set: vec![pair("LICENSE", "27000@server"), pair("OMP_NUM_THREADS", "1"), pair("MINE", "site")],
            prepend: vec![pair("PATH", "/site/bin"), pair("NEW", "/n")],
            append: vec![pair("PATH", "/site/last")],
            pass: vec!["MODULEPATH".into(), "SLURM_*".into()],
            drop: vec!["LANG".into(), "SLURM_*".into()],
            unset: vec!["SECRET*".into(), "SLURM_*".into(), "UDOCKER_INSIDE".into()],
        };
        let of = |request: &RunRequest, defaults| {
            let mut caller = Caller { site_env: Some(Box::new(site.clone())), ..caller() };
            caller.env = pairs(BATCH);
            let config = ImageConfig { env: vec!["PATH=/i".into(), "SECRET=i".into()], ..ImageConfig::default() };
            let facts = ContainerFacts { id: "c".into(), ..ContainerFacts::default() };
            let env = assemble(request, &config, &caller, defaults, &facts, &alice, &[]);
            env.into_iter().map(|entry| entry.into_string().unwrap()).collect::<Vec<_>>()
        };
        let mut request = job();
        request.env = ["MINE=user", "SECRETS=user"].map(|entry| entry.parse().unwrap()).into();
        assert_eq!(
            of(&request, Defaults::Job),
            [
                "MODULEPATH=/m",
                "OMP_NUM_THREADS=1",
                "SLURM_PROCID=3",
                "CUDA_VISIBLE_DEVICES=1",
                "HOME=/home/alice",
                "PATH=/site/bin:/i:/site/last",
                "UDOCKER_INSIDE=c",
                "LICENSE=27000@server",
                "MINE=user",
                "NEW=/n",
            ]
        );
        request.unset_env = vec!["LICENSE".into()];
        assert!(!of(&request, Defaults::Job).contains(&"LICENSE=27000@server".to_owned()));
        let interactive = of(&RunRequest::new("i"), Defaults::Interactive);
        for (entry, expected) in
            [("LICENSE=27000@server", true), ("MODULEPATH=/m", true), ("MINE=site", true), ("SECRET=i", false)]
        {
            assert_eq!(interactive.contains(&entry.to_owned()), expected, "{entry}: {interactive:?}");
        }
    }

    #[test]
    fn pwd_is_where_the_program_begins() {
        let has_pwd = |request: &RunRequest| {
            let env = environment(request, &[], &[("PWD", "/data/alice")], Defaults::Job, &root());
            env.contains(&"PWD=/data/alice".to_owned())
        };
        assert!(has_pwd(&job()));
        let mut request = job();
        request.umounts = vec!["/data/alice".into()];
        assert!(!has_pwd(&request));
        let mut request = job();
        request.workdir = Some("/srv".into());
        assert!(!has_pwd(&request));
    }

    #[test]
    fn an_invisible_tmpdir_is_dropped() {
        let mut request = job();
        request.umounts = vec!["/local/1".into()];
        let env = environment(&request, &[], BATCH, Defaults::Job, &root());
        assert!(!env.iter().any(|entry| entry.starts_with("TMPDIR=")), "{env:?}");
    }
}
