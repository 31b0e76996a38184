//! A Slurm site with our plugin, for tests of what its jobs see.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::{Cluster, Ended, Release, without_waits};

/// The releases that there are.
pub const ALL: [Release; 3] = [Release::Bookworm, Release::Trixie, Release::Forky];

/// Tells node, mount namespace, and where it is: a file that only the root has, and one that only the nodes have.
const WHERE: &str = r#"echo "$(hostname) $(readlink /proc/self/ns/mnt) $(
  if [ -e LAUNCHER ]; then echo host; elif [ -e /var/lib/dpkg/status ]; then echo inside; else echo nowhere; fi)""#;

/// Where [`Site::whole`] has the programs, on every host: a directory that root alone writes to.
pub const INSTALLED: &str = "/etc/udocker-programs";

/// A cluster with the plugin, whose image is the root of another release.
pub struct Site {
    /// Its nodes.
    pub cluster: Cluster,
    /// The static launcher.
    pub launcher: String,
    /// The plugin of its release.
    pub plugin: String,
    /// The image's directory.
    pub root: String,
    /// `--udocker-image` with it.
    pub image: String,
    /// A line of shell that tells node, mount namespace, and `host` or `inside`.
    pub place: String,
}

/// The plugin for a release.
pub fn plugin(release: Release) -> PathBuf {
    let directory = std::env::var_os("UDOCKER_SPANK_DIR").expect("`make` names the plugins");
    Path::new(&directory).join(release.number()).join("libudocker_spank.so")
}

impl Site {
    /// As the plugstack line `required`.
    pub fn new(release: Release) -> Self {
        Self::with(release, "")
    }

    /// With these lines in slurm.conf.
    pub fn with(release: Release, conf: &str) -> Self {
        Self::with_files(release, conf, &[])
    }

    /// The same, and with these files below /etc, name and text.
    pub fn with_files(release: Release, conf: &str, files: &[(&str, &str)]) -> Self {
        let launcher = std::env::var("UDOCKER_LAUNCH_BIN").expect("`make` names the static launcher");
        // Not that of the nodes, where they have one.
        let root = if release == Release::Trixie { Release::Forky } else { Release::Trixie }.root();
        let plugin = plugin(release).display().to_string();
        let directory = Path::new(&launcher).parent().expect("a file's directory").to_owned();
        let line = format!("required {plugin} launcher={launcher}\n");
        let cluster = Cluster::up_with(
            release,
            &[&directory, &root],
            &[&[("slurm/plugstack.conf", line.as_str())], files].concat(),
            conf,
        );
        let root = root.display().to_string();
        let (image, place) = (format!("--udocker-image={root}"), WHERE.replace("LAUNCHER", &launcher));
        Self { cluster, launcher, plugin, root, image, place }
    }

    /// With `udocker` beside the launcher, as a site installs both, and with this site.toml. They lie in [`INSTALLED`].
    pub fn whole(release: Release, site_toml: &str) -> Self {
        // The roots of later releases have no certificates, without which no registry is asked.
        let certificates =
            std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").expect("package ca-certificates");
        let files = [("udocker/site.toml", site_toml), ("ssl/certs/ca-certificates.crt", &certificates)];
        let mut site = Self::with_files(release, "", &files);
        let installed = site.cluster.etc().join(INSTALLED.trim_start_matches("/etc/"));
        std::fs::create_dir(&installed).expect("a directory");
        for (from, name) in [(Path::new(&site.launcher), "udocker-launch"), (&crate::program("udocker"), "udocker")] {
            std::fs::copy(from, installed.join(name)).expect("a built program");
        }
        site.launcher = format!("{INSTALLED}/udocker-launch");
        site.place = WHERE.replace("LAUNCHER", &site.launcher);
        site.line("");
        site
    }

    /// The plugin's line with these `words` behind it.
    pub fn line(&self, words: &str) {
        self.plugstack(&format!("required {} launcher={} {words}\n", self.plugin, self.launcher));
    }

    /// A file below the hosts' /etc, as it lies here.
    pub fn etc(&self, path: &str) -> PathBuf {
        self.cluster.etc().join(path.trim_start_matches("/etc/"))
    }

    /// Replaces the plugin's line.
    pub fn plugstack(&self, line: &str) {
        std::fs::write(self.cluster.etc().join("slurm/plugstack.conf"), line).expect("a file");
    }

    /// Runs `words` as the user, on the submit host.
    pub fn run(&self, words: &[&str]) -> Ended {
        self.cluster.run(&[], words)
    }

    /// Submits `script` with `words` and waits; its status, output and errors. `sbatch -W` would look every few seconds.
    pub fn batch(&self, variables: &[&str], words: &[&str], script: &str) -> Ended {
        const WAIT: &str = r#"job=$(sbatch --parsable -N1 -o out -e err "$@" script) || exit
            while sleep 0.1; told=$(scontrol -o show job $job); do
                case $told in *JobState=PENDING*|*JobState=RUNNING*|*JobState=CONFIGURING*|*JobState=COMPLETING*) ;; *) break ;; esac
            done
            told=${told#*ExitCode=} told=${told%% *}
            [ ${told#*:} = 0 ] || exit $((128 + ${told#*:}))
            exit ${told%:*}"#;
        self.write("script", script);
        let (status, _, err) = self.cluster.run(variables, &[&["bash", "-c", WAIT, "wait"], words].concat());
        let read = |name: &str| std::fs::read_to_string(self.cluster.home().join(name)).unwrap_or_default();
        (status, read("out"), err + &without_waits(&read("err")))
    }

    /// Writes a file of the user's home.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.cluster.home().join(name), text).expect("a file");
    }

    /// Waits until the nodes have done with all jobs (a job that has ended leaves its node completing for a while); for how
    /// long they had to.
    pub fn idle(&self) -> Duration {
        self.cluster.idle()
    }

    /// Ends the cluster, with every node in order and nothing left.
    pub fn down(self) {
        self.idle();
        assert_eq!(self.cluster.down(), "");
    }
}

/// A line of shell that ends when so many ranks of its step run it: a container goes with its last process, and who comes later
/// makes another.
pub fn meets(ranks: usize) -> String {
    let name = "met.$SLURM_JOB_ID.$SLURM_STEP_ID";
    format!("touch {name}.$SLURM_PROCID; until [ $(ls {name}.* | wc -l) = {ranks} ]; do sleep 0.05; done")
}

/// Where the last word of each line of [`Site::place`] says that a task was.
pub fn places(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.rsplit(' ').next().expect("a word")).collect()
}

/// What a batch script on the host says first, whose steps run in `image`.
pub fn on_the_host(image: &str) -> String {
    format!(
        "udocker: this script runs on the host, its srun steps in {image}\n  hint: start MPI ranks by `srun`; an mpirun of this \
         script does not reach into the image\n"
    )
}

/// What a command came to.
pub fn is(status: i32, out: &str, err: &str) -> Ended {
    (status, out.into(), err.into())
}

/// What came of a command, in which Slurm's lines tell times and numbers of jobs.
pub fn numberless(ended: Ended) -> Ended {
    let (status, out, err) = ended;
    let without = |line: &str| {
        let mut text = line.replace(|c: char| c.is_ascii_digit(), "N");
        while text.contains("NN") {
            text = text.replace("NN", "N");
        }
        text
    };
    let mut lines: Vec<String> = err.lines().map(without).collect();
    // Which of these srun says hangs on which message comes first: that the nodes were still busy with the job before, that
    // a node is done, that it waits for the others.
    let by_chance = [
        "srun: job N ",
        "srun: Step created for ",
        "srun: error: IO: Hey, you told me node N was down!",
        "srun: Job step aborted: Waiting",
    ];
    lines.retain(|line| !by_chance.iter().any(|start| line.starts_with(start)));
    // Those of several nodes come in any order.
    lines.sort_unstable();
    (status, out, lines.join("\n"))
}
