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
/// Its `bin`.
pub const UDOCKER_BIN: &str = "UDOCKER_BIN";
/// Its `lib`.
pub const UDOCKER_LIB: &str = "UDOCKER_LIB";
/// Its `doc`.
pub const UDOCKER_DOC: &str = "UDOCKER_DOC";
/// Its `repos`.
pub const UDOCKER_REPOS: &str = "UDOCKER_REPOS";
/// Its `layers`.
pub const UDOCKER_LAYERS: &str = "UDOCKER_LAYERS";
/// Its `containers`.
pub const UDOCKER_CONTAINERS: &str = "UDOCKER_CONTAINERS";
/// Directory for temporary files of the engines.
pub const UDOCKER_TMP: &str = "UDOCKER_TMP";
/// The keystore of `udocker login`.
pub const UDOCKER_KEYSTORE: &str = "UDOCKER_KEYSTORE";
/// Where udocker finds its engines.
pub const UDOCKER_TARBALL: &str = "UDOCKER_TARBALL";
/// The search index.
pub const UDOCKER_INDEX: &str = "UDOCKER_INDEX";
/// The registry for names without a host.
pub const UDOCKER_REGISTRY: &str = "UDOCKER_REGISTRY";
/// The level of messages.
pub const UDOCKER_LOGLEVEL: &str = "UDOCKER_LOGLEVEL";
/// Passes over /etc/udocker.conf.
pub const UDOCKER_NOSYSCONF: &str = "UDOCKER_NOSYSCONF";
/// The mode of containers that have none of their own.
pub const UDOCKER_DEFAULT_EXECUTION_MODE: &str = "UDOCKER_DEFAULT_EXECUTION_MODE";
/// udocker's curl.
pub const UDOCKER_USE_CURL_EXECUTABLE: &str = "UDOCKER_USE_CURL_EXECUTABLE";
/// PRoot.
pub const UDOCKER_USE_PROOT_EXECUTABLE: &str = "UDOCKER_USE_PROOT_EXECUTABLE";
/// runc or crun.
pub const UDOCKER_USE_RUNC_EXECUTABLE: &str = "UDOCKER_USE_RUNC_EXECUTABLE";
/// Apptainer or singularity.
pub const UDOCKER_USE_SINGULARITY_EXECUTABLE: &str = "UDOCKER_USE_SINGULARITY_EXECUTABLE";
/// patchelf.
pub const UDOCKER_USE_PATCHELF_EXECUTABLE: &str = "UDOCKER_USE_PATCHELF_EXECUTABLE";
/// The preloaded library of the F modes.
pub const UDOCKER_FAKECHROOT_SO: &str = "UDOCKER_FAKECHROOT_SO";
/// The image's C library.
pub const UDOCKER_FAKECHROOT_LIBC: &str = "UDOCKER_FAKECHROOT_LIBC";
/// Whether the F modes follow links.
pub const UDOCKER_FAKECHROOT_EXPAND_SYMLINKS: &str = "UDOCKER_FAKECHROOT_EXPAND_SYMLINKS";
/// Programs that the F modes replace.
pub const UDOCKER_FAKECHROOT_CMD_SUBST: &str = "UDOCKER_FAKECHROOT_CMD_SUBST";
/// PRoot without seccomp.
pub const PROOT_NO_SECCOMP: &str = "PROOT_NO_SECCOMP";
/// PRoot's new way to use seccomp.
pub const PROOT_NEW_SECCOMP: &str = "PROOT_NEW_SECCOMP";
/// Docker's directory of settings.
pub const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// A file of credentials as Docker's `config.json`.
pub const REGISTRY_AUTH_FILE: &str = "REGISTRY_AUTH_FILE";
/// Holds `containers/auth.json`.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

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
/// Variables of one rank: in a job the host's values beat the image's, and `clean-env` keeps them.
pub const PER_RANK: &[&str] = &[
    "PMI_*",
    "PMI2_*",
    "PMIX_*",
    "PALS_*",
    "FLUX_*",
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

/// Those of [`PER_RANK`] that make a program a rank of a process manager's: without them it is a program by itself.
pub const PROCESS_MANAGER: &[&str] = &[
    "PMI_*",
    "PMI2_*",
    "PMIX_*",
    "PALS_*",
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
];

/// Variables whose value is the number of an open socket to the process manager.
pub const PMI_FDS: &[&str] = &["PMI_FD", "PMI_CONTROL_FD", "HYDI_CONTROL_FD"];

/// Variables that name a directory which a job's program finds at the same path inside.
pub const JOB_DIRECTORIES: &[&str] = &["TMPDIR", "SLURM_SUBMIT_DIR", "PBS_O_WORKDIR", "PBS_JOBDIR"];
/// Like [`JOB_DIRECTORIES`], for files.
pub const JOB_FILES: &[&str] = &["PBS_NODEFILE", SLURM_UDOCKER_SCRIPT];
/// Directories of process managers' rendezvous files; bound in every case.
pub const MANAGER_DIRECTORIES: &[&str] = &["PMIX_SERVER_TMPDIR", "PALS_SPOOL_DIR"];

/// Variables that hold a rank's number among those that were started with it, in the order of trust. Slurm's is the last: an
/// mpirun in a job hands on its own task's.
pub const RANKS: &[&str] = &["PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", SLURM_PROCID];
/// A task's number in a step of Slurm. A batch script, and a shell that is its step's one task, have it as well.
pub const SLURM_PROCID: &str = "SLURM_PROCID";

/// The shell that a job was submitted with, when the launcher stands in for it.
pub const UDOCKER_SHELL: &str = "UDOCKER_SHELL";

/// A whole request, made by the plugin from a job's options: of all names only those of Slurm reach a task in every case.
pub const SLURM_UDOCKER_REQUEST: &str = "SLURM_UDOCKER_REQUEST";
/// A whole request, from elsewhere.
pub const UDOCKER_REQUEST: &str = "UDOCKER_REQUEST";
/// The program of a task whose place in argv the launcher has, where Slurm cannot put words before argv.
pub const SLURM_UDOCKER_PROGRAM: &str = "SLURM_UDOCKER_PROGRAM";
/// Who asked for what of a request, for `--explain`.
pub const SLURM_UDOCKER_SAID: &str = "SLURM_UDOCKER_SAID";
/// The site's site.toml, where the plugin's line in plugstack.conf names it.
pub const SLURM_UDOCKER_CONFIG: &str = "SLURM_UDOCKER_CONFIG";
/// The user's store where a job was submitted, absolute.
pub const SLURM_UDOCKER_DIR: &str = "SLURM_UDOCKER_DIR";
/// The spooled script of a batch job.
pub const SLURM_UDOCKER_SCRIPT: &str = "SLURM_UDOCKER_SCRIPT";
/// What the script was made of whose scheduler command the relay runs: as [`UDOCKER_INSIDE`], on its way to a step.
pub const SLURM_UDOCKER_INSIDE: &str = "SLURM_UDOCKER_INSIDE";
/// Begins the names under which that script's values of [`JOB_DROP`] travel.
pub const SLURM_UDOCKER_ENV: &str = "SLURM_UDOCKER_ENV_";
/// Slurm's job; for all components of a heterogeneous one that of the first.
pub const SLURM_JOB_ID: &str = "SLURM_JOB_ID";
/// Account of a job, for the site's rules.
pub const SLURM_JOB_ACCOUNT: &str = "SLURM_JOB_ACCOUNT";
/// Partition of a job, for the site's rules.
pub const SLURM_JOB_PARTITION: &str = "SLURM_JOB_PARTITION";
/// As [`SLURM_JOB_ACCOUNT`], under PBS.
pub const PBS_ACCOUNT: &str = "PBS_ACCOUNT";
/// Queue of a job, for the site's rules.
pub const PBS_QUEUE: &str = "PBS_QUEUE";

/// The GPUs of a task of Slurm, by their numbers on the host.
pub const SLURM_STEP_GPUS: &str = "SLURM_STEP_GPUS";
/// The same of a batch script; its steps inherit it.
pub const SLURM_JOB_GPUS: &str = "SLURM_JOB_GPUS";
/// How many GPUs a step or script of Slurm has on this node.
pub const SLURM_GPUS_ON_NODE: &str = "SLURM_GPUS_ON_NODE";
/// How many parts of GPUs it has.
pub const SLURM_SHARDS_ON_NODE: &str = "SLURM_SHARDS_ON_NODE";
/// The share of a GPU that a task of Slurm has by `mps`, in percent.
pub const CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: &str = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE";
/// The GPUs that CUDA's programs use, by number or UUID; PBS and Flux grant by it.
pub const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
/// The variables that number GPUs for programs, each of its vendor's libraries.
pub const GPU_NUMBERS: &[&str] =
    &[CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, ZE_AFFINITY_MASK, HIP_VISIBLE_DEVICES, GPU_DEVICE_ORDINAL];
/// The GPUs that ROCm's programs use.
pub const ROCR_VISIBLE_DEVICES: &str = "ROCR_VISIBLE_DEVICES";
/// The GPUs that HIP uses; counted within [`ROCR_VISIBLE_DEVICES`].
pub const HIP_VISIBLE_DEVICES: &str = "HIP_VISIBLE_DEVICES";
/// The GPUs that AMD's OpenCL uses; counted within [`ROCR_VISIBLE_DEVICES`].
pub const GPU_DEVICE_ORDINAL: &str = "GPU_DEVICE_ORDINAL";
/// The GPUs that Level Zero uses, `3`, or parts of them, `3.0`.
pub const ZE_AFFINITY_MASK: &str = "ZE_AFFINITY_MASK";

/// Set inside a job's container: what it was made of.
pub const UDOCKER_INSIDE: &str = "UDOCKER_INSIDE";

/// Present in every rank that a PMIx server started.
pub const PMIX_RANK: &str = "PMIX_RANK";

/// Every variable, for the reference page.
pub const ALL: &[Variable] = &[
    read(
        UDOCKER_DIR,
        "Directory of the user's store, relative to the current one if it is not absolute; default `~/.udocker`.",
    ),
    read(UDOCKER_BIN, "Directory of the store's executables; default `bin` in the store."),
    read(UDOCKER_LIB, "Directory of the store's libraries; default `lib` in the store."),
    read(UDOCKER_DOC, "Directory of the store's papers; default `doc` in the store."),
    read(UDOCKER_REPOS, "Directory of the image references; default `repos` in the store."),
    read(UDOCKER_LAYERS, "Directory of the blobs; default `layers` in the store."),
    read(UDOCKER_CONTAINERS, "Directory of the containers; default `containers` in the store."),
    read(UDOCKER_TMP, "Directory for temporary files of the engines; default TMPDIR, else `/tmp`."),
    read(
        UDOCKER_KEYSTORE,
        "File with the credentials of `udocker login`, relative to `~/.udocker`; default `keystore`.",
    ),
    read(UDOCKER_TARBALL, "Accepted without effect: engines are built in."),
    read(UDOCKER_INDEX, "URL of the index that `udocker search` asks; default `https://hub.docker.com`."),
    read(UDOCKER_REGISTRY, "Registry for image names without a host; `http://` before it allows plain http."),
    read(UDOCKER_LOGLEVEL, "Messages: 0 errors, 1 results, 2 warnings, 3 remarks (default), 4 details, 5 everything."),
    read(UDOCKER_NOSYSCONF, "With any value `/etc/udocker.conf` is passed over; the site's `site.toml` is not."),
    read(UDOCKER_DEFAULT_EXECUTION_MODE, "Mode of containers that have none of their own."),
    read(UDOCKER_USE_CURL_EXECUTABLE, "Accepted without effect: transfers are built in."),
    read(
        UDOCKER_USE_PROOT_EXECUTABLE,
        "Kept for the P modes: a file, `UDOCKER` for the store's, empty for the host's.",
    ),
    read(UDOCKER_USE_RUNC_EXECUTABLE, "Kept for the R modes: a file, `UDOCKER` for the store's, empty for the host's."),
    read(
        UDOCKER_USE_SINGULARITY_EXECUTABLE,
        "Kept for the S mode: a file, `UDOCKER` for the store's, empty for the host's.",
    ),
    read(
        UDOCKER_USE_PATCHELF_EXECUTABLE,
        "Kept for the F modes: a file, `UDOCKER` for the store's, empty for the host's.",
    ),
    read(UDOCKER_FAKECHROOT_SO, "Kept for the F modes: the library that is preloaded."),
    read(UDOCKER_FAKECHROOT_LIBC, "Kept for the F modes: the image's C library, below its root."),
    read(UDOCKER_FAKECHROOT_EXPAND_SYMLINKS, "Kept for the F modes: true, false or none."),
    read(UDOCKER_FAKECHROOT_CMD_SUBST, "Kept for the F modes: `PROGRAM=REPLACEMENT:…`."),
    read(PROOT_NO_SECCOMP, "Kept for the P modes: with any value PRoot works without seccomp."),
    read(PROOT_NEW_SECCOMP, "Kept for the P modes: with any value PRoot uses seccomp in its new way."),
    read(REGISTRY_AUTH_FILE, "File with credentials as in Docker's `config.json`, asked after the keystore."),
    read(DOCKER_CONFIG, "Directory whose `config.json` is asked for credentials next; default `~/.docker`."),
    read("SSL_CERT_FILE", "File of the certificates that a registry's is signed by; default the host's."),
    both(
        XDG_RUNTIME_DIR,
        "Directory whose `containers/auth.json` is asked for credentials last. Jobs: a private one of this node.",
    ),
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
    both(
        "TMPDIR",
        "Directory for temporary files of the engines. Jobs: it is bound; dropped if it is not visible inside.",
    ),
    both("SLURM_SUBMIT_DIR", "Jobs: its directory is bound."),
    both("PBS_O_WORKDIR", "Jobs: its directory is bound."),
    both("PBS_JOBDIR", "Jobs: its directory is bound."),
    both("PBS_NODEFILE", "Jobs: the file is bound."),
    both(SLURM_JOB_ACCOUNT, "Compared with `account` of a rule of the site's; its user can change it."),
    both(SLURM_JOB_PARTITION, "Compared with `partition` of a rule of the site's; its user can change it."),
    both(PBS_ACCOUNT, "Compared with `account` of a rule of the site's; its user can change it."),
    both(PBS_QUEUE, "Compared with `queue` of a rule of the site's; its user can change it."),
    both(SLURM_STEP_GPUS, "Jobs: the GPUs of the task; the others of the node are covered where no cgroup holds them."),
    both(SLURM_JOB_GPUS, "Jobs: the same of a batch script."),
    both(SLURM_GPUS_ON_NODE, "Jobs: whether the task's GPUs are all that the step has on the node."),
    both(SLURM_SHARDS_ON_NODE, "Jobs: parts of GPUs were granted, and all GPUs stay visible."),
    both(CUDA_MPS_ACTIVE_THREAD_PERCENTAGE, "Jobs: the same in a step of Slurm that has no GPU of its own (`mps`)."),
    both(
        CUDA_VISIBLE_DEVICES,
        "Jobs: the GPUs that PBS or Flux granted. Its numbers, and those of its kin of other vendors, are counted anew where \
         GPUs are covered.",
    ),
    both(
        UDOCKER_INSIDE,
        "Jobs: the image's tree or the container's ID. `udocker-launch` refuses to start a container in a container.",
    ),
    both(
        SLURM_UDOCKER_REQUEST,
        "Jobs: what the options of Slurm's commands asked for, as JSON; the steps of the job inherit it.",
    ),
    read(
        UDOCKER_REQUEST,
        "The same, outside Slurm: `udocker-launch -- COMMAND` runs what it asks for, `udocker stage --when` gets its image.",
    ),
    both(
        "SPANK_UDOCKER_*",
        "Slurm's Prolog and Epilog: UDOCKER_REQUEST and UDOCKER_DIR of the job, as its user left them.",
    ),
    both(
        SLURM_UDOCKER_DIR,
        "Jobs: UDOCKER_DIR of whoever submitted it, absolute; it counts where UDOCKER_DIR is not set, as after `--export=NONE`.",
    ),
    read(SLURM_UDOCKER_PROGRAM, "Jobs: the task's program, where `udocker-launch` has its place in argv."),
    read(
        SLURM_UDOCKER_CONFIG,
        "Jobs: the site's site.toml, by `config=` of the plugin's line, which alone sets it for contained tasks. It must be \
         named so, and root's.",
    ),
    read(SLURM_UDOCKER_SAID, "Who asked for what, from `--udocker-explain` to `udocker-launch --explain`, as JSON."),
    read(
        SLURM_UDOCKER_INSIDE,
        "Jobs: what the contained script that started this step was made of; a step in the same gets its environment.",
    ),
    read("SLURM_UDOCKER_ENV_*", "Jobs: that script's values of variables that a job does not get from the host."),
    both(SLURM_UDOCKER_SCRIPT, "Jobs: the batch script's copy on the node; it is bound."),
    read(UDOCKER_SHELL, "The shell that runs inside where `udocker-launch` is a job's login shell."),
    both("PALS_SPOOL_DIR", "Jobs: its directory is bound, writable, whatever else is mounted."),
    both("PMIX_SERVER_TMPDIR", "Jobs: its directory is bound, writable, whatever else is mounted."),
    both(PMIX_RANK, "Tells that the run is a rank under PMIx: the program then keeps its caller's uid."),
    both("PMI_FD", "Descriptor of the PMI socket; stays open if it is a socket."),
    both("PMI_CONTROL_FD", "Descriptor of a PMI control socket; stays open if it is a socket."),
    both("HYDI_CONTROL_FD", "Descriptor of a Hydra control socket; stays open if it is a socket."),
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
        ("Of one rank: in a job the host's values beat the image's", PER_RANK),
        ("Of those, what makes it a rank: removed by `udocker-launch --pass-pmi=none`", PROCESS_MANAGER),
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
pub fn matches_any(patterns: &[impl AsRef<str>], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_ref().as_bytes(), name))
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
        let tables = [PMI_FDS, JOB_DIRECTORIES, JOB_FILES, MANAGER_DIRECTORIES, INTERACTIVE_HOST];
        for name in tables.into_iter().flatten().copied() {
            assert_eq!(documented(name), 1, "{name}");
        }
        assert!(PROCESS_MANAGER.iter().all(|name| PER_RANK.contains(name)));
        assert!(ALL.iter().all(|v| documented(v.name) == 1 && v.meaning.ends_with('.')));
    }
}
