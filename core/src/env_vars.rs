//! Every environment variable that our programs read or set; documented here and nowhere else.
//!
//! [`crate::run`] decides by the tables in this file, and the reference page is made from [`ALL`].

/// Who gives a variable its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We read it.
    Read,
    /// We set it for the program inside.
    Set,
    /// We read it and hand it on.
    Both,
}

/// One documented variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name; a trailing `*` stands for every name that begins so.
    pub name: &'static str,
    /// See [`Direction`].
    pub direction: Direction,
    /// What it does, one sentence.
    pub meaning: &'static str,
}

const fn read(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, direction: Direction::Read, meaning }
}
const fn set(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, direction: Direction::Set, meaning }
}
const fn both(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, direction: Direction::Both, meaning }
}

/// The user's store.
pub const UDOCKER_DIR: &str = "UDOCKER_DIR";
/// The keystore of `udocker login`.
pub const UDOCKER_KEYSTORE: &str = "UDOCKER_KEYSTORE";
/// The registry for names without a host.
pub const UDOCKER_REGISTRY: &str = "UDOCKER_REGISTRY";
/// Docker's directory of settings.
pub const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// A file of credentials as Docker's `config.json`.
pub const REGISTRY_AUTH_FILE: &str = "REGISTRY_AUTH_FILE";
/// Holds `containers/auth.json`.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// Directories of a store that udocker can move apart and we cannot: the variable, and the directory that it must name.
pub const UDOCKER_STORE_PARTS: [(&str, &str); 3] =
    [("UDOCKER_REPOS", "repos"), ("UDOCKER_LAYERS", "layers"), ("UDOCKER_CONTAINERS", "containers")];

/// `PATH` inside for uid 0, if neither the image nor the user sets one (udocker's `root_path`).
pub const DEFAULT_PATH_ROOT: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
/// `PATH` inside for everybody else (udocker's `user_path`).
pub const DEFAULT_PATH_USER: &str = "/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// What `udocker run` takes from the host without `--hostenv` (udocker's `valid_host_env`, less PATH: udocker always
/// replaces it by the image's or the default one).
pub const INTERACTIVE_HOST: &[&str] = &["TERM", "PROOT_TMP_DIR"];
/// What never reaches the program of `udocker run` (udocker's `invalid_host_env`).
pub const INTERACTIVE_DROP: &[&str] = &["VTE_VERSION"];

/// What a job's program does not get from the host: it names files of the host or steers its shells and interpreters.
pub const JOB_DROP: &[&str] = &[
    "PATH",
    "LD_*",
    "BASH_ENV",
    "ENV",
    "BASH_FUNC_*",
    "PYTHONHOME",
    "PYTHONPATH",
    "PERL5LIB",
    "LMOD_*",
    "MODULE*",
    "LOADEDMODULES",
    "XDG_*",
    "VTE_VERSION",
];
/// What a job's program gets although [`JOB_DROP`] names it.
pub const JOB_KEEP: &[&str] = &["XDG_RUNTIME_DIR"];

/// Variables of one rank: in a job the host's values beat the image's, and `clean-env` keeps them.
pub const PER_RANK: &[&str] = &[
    "PMI_*",
    "PMI2_*",
    "PMIX_*",
    "PALS_*",
    "SLURM_*",
    "SLURMD_*",
    "SRUN_DEBUG",
    "PBS_*",
    "OMPI_COMM_WORLD_*",
    "OMPI_UNIVERSE_SIZE",
    "OMPI_APP_CTX_NUM_PROCS",
    "OMPI_FILE_LOCATION",
    "OMPI_MCA_ess_*",
    "OMPI_MCA_orte_*",
    "PRTE_MCA_*",
    "MPI_LOCALRANKID",
    "MPI_LOCALNRANKS",
    "HYDI_*",
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "NVIDIA_VISIBLE_DEVICES",
];

/// Variables whose value is the number of an open socket to the process manager.
pub const PMI_FDS: &[&str] = &["PMI_FD", "PMI_CONTROL_FD", "HYDI_CONTROL_FD"];

/// Variables that name a directory which a job's program finds at the same path inside.
pub const JOB_DIRECTORIES: &[&str] = &["TMPDIR", "SLURM_SUBMIT_DIR", "PBS_O_WORKDIR", "PBS_JOBDIR"];
/// Like [`JOB_DIRECTORIES`], for files.
pub const JOB_FILES: &[&str] = &["PBS_NODEFILE"];
/// Directory of the PMIx server's rendezvous files; bound in every case.
pub const PMIX_SERVER_TMPDIR: &str = "PMIX_SERVER_TMPDIR";

/// Present in every rank that a PMIx server started.
pub const PMIX_RANK: &str = "PMIX_RANK";

/// Every variable, for the reference page.
pub const ALL: &[Variable] = &[
    read(UDOCKER_DIR, "Directory of the user's store; default `~/.udocker`."),
    read(UDOCKER_KEYSTORE, "File with the credentials of `udocker login`; default `~/.udocker/keystore`."),
    read(UDOCKER_REGISTRY, "Registry for image names without a host."),
    read(REGISTRY_AUTH_FILE, "File with credentials as in Docker's `config.json`, asked after the keystore."),
    read(DOCKER_CONFIG, "Directory whose `config.json` is asked for credentials next; default `~/.docker`."),
    read(XDG_RUNTIME_DIR, "Directory whose `containers/auth.json` is asked for credentials last."),
    read("UDOCKER_REPOS", "Refused unless it names `repos` in the store: stores are kept in one piece."),
    read("UDOCKER_LAYERS", "Refused unless it names `layers` in the store."),
    read("UDOCKER_CONTAINERS", "Refused unless it names `containers` in the store."),
    read("USER", "Login name of the caller; default from /etc/passwd."),
    both("HOME", "Home directory of the caller; inside, the program's."),
    set("LOGNAME", "`udocker run`: name of the user inside, also in USER and USERNAME."),
    set("USERNAME", "See LOGNAME."),
    set("PS1", "`udocker run`: prompt with the beginning of the container's ID."),
    set("SHLVL", "`udocker run`: 0."),
    set("container_ruser", "`udocker run`: name of the calling user on the host."),
    set("container_root", "`udocker run`: the container's root on the host."),
    set("container_uuid", "`udocker run`: the container's ID."),
    set("container_execmode", "`udocker run`: the execution mode."),
    set("container_names", "`udocker run`: the container's names, joined by commas."),
    both("PATH", "Inside: the image's, else a default; the host's only by `--env=PATH`."),
    both("TERM", "Handed on from the host."),
    both("PROOT_TMP_DIR", "Handed on from the host."),
    both("TMPDIR", "Jobs: its directory is bound; dropped if it is not visible inside."),
    both("SLURM_SUBMIT_DIR", "Jobs: its directory is bound."),
    both("PBS_O_WORKDIR", "Jobs: its directory is bound."),
    both("PBS_JOBDIR", "Jobs: its directory is bound."),
    both("PBS_NODEFILE", "Jobs: the file is bound."),
    both(PMIX_SERVER_TMPDIR, "Jobs: its directory is bound, writable, whatever else is mounted."),
    both(PMIX_RANK, "Tells that the run is a rank under PMIx: the program then keeps its caller's uid."),
    both("PMI_FD", "Descriptor of the PMI socket; stays open."),
    both("PMI_CONTROL_FD", "Descriptor of a PMI control socket; stays open."),
    both("HYDI_CONTROL_FD", "Descriptor of a Hydra control socket; stays open."),
];

/// The reference page of [`ALL`] and of the tables that jobs follow, in Markdown.
pub fn reference_page() -> String {
    let mut out = String::from(
        "# Environment variables\n\nMade from `core/src/env_vars.rs`; do not edit.\n\n\
         | variable | | meaning |\n|---|---|---|\n",
    );
    for variable in ALL {
        let direction = match variable.direction {
            Direction::Read => "read",
            Direction::Set => "set inside",
            Direction::Both => "read, handed on",
        };
        out.push_str(&format!("| `{}` | {direction} | {} |\n", variable.name, variable.meaning));
    }
    let lists = [
        ("Dropped from a job's environment", JOB_DROP),
        ("Kept although the list above names them", JOB_KEEP),
        ("Of one rank: in a job the host's values beat the image's", PER_RANK),
    ];
    for (title, names) in lists {
        out.push_str(&format!("\n## {title}\n\n"));
        names.iter().for_each(|name| out.push_str(&format!("- `{name}`\n")));
    }
    out
}

/// Whether `name` is `pattern`, in which each `*` stands for any bytes.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether one of `patterns` matches `name`.
pub fn matches_any(patterns: &[&str], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_bytes(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, expected) in [
            ("PATH", "PATH", true),
            ("PATH", "PATHX", false),
            ("LD_*", "LD_PRELOAD", true),
            ("LD_*", "LD_", true),
            ("LD_*", "OLD_X", false),
            ("*_FD", "PMI_FD", true),
            ("A*B*C", "AxxBByC", true),
            ("A*B*C", "AxxByCz", false),
            ("*", "", true),
            ("", "A", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn the_reference_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/variables.md");
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(path, reference_page()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == reference_page(), "docs/reference/variables.md is old: run this test with UPDATE_REFERENCE=1");
    }

    #[test]
    fn every_variable_that_a_run_looks_up_is_documented_once() {
        let documented = |name: &str| ALL.iter().filter(|v| v.name == name).count();
        let tables = [PMI_FDS, JOB_DIRECTORIES, JOB_FILES, INTERACTIVE_HOST];
        for name in tables.into_iter().flatten().copied().chain(UDOCKER_STORE_PARTS.map(|(name, _)| name)) {
            assert_eq!(documented(name), 1, "{name}");
        }
        assert!(ALL.iter().all(|v| documented(v.name) == 1 && v.meaning.ends_with('.')));
    }
}
