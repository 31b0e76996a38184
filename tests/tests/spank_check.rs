//! `udocker site check --node` on nodes of a cluster: what it says of the plugin, of the launcher and of the guard.
#![cfg(target_arch = "x86_64")]

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use udocker_tests::cluster::Release;
use udocker_tests::program;
use udocker_tests::slurm_site::{ALL, Site, plugin};

/// Where the site installs plugin and launcher: a directory that root alone writes to, on every host.
const INSTALLED: &str = "/etc/udocker-files";

struct Checked {
    site: Site,
    release: Release,
}

impl Checked {
    fn new(release: Release) -> Self {
        let site = Site::with(release, "TaskProlog=/etc/udocker-files/prolog\n");
        std::fs::create_dir(site.cluster.etc().join("udocker-files")).expect("a directory");
        let checked = Self { site, release };
        checked.install("plugin.so", &plugin(release));
        checked.install("launcher", checked.site.launcher.as_ref());
        checked.install("prolog", &PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spank-plugin/task-prolog.sh"));
        checked.line("required", "");
        checked
    }

    fn installed(&self, name: &str) -> PathBuf {
        self.site.cluster.etc().join("udocker-files").join(name)
    }

    fn install(&self, name: &str, from: &std::path::Path) {
        // By rename: slurmd may have mapped the old one.
        std::fs::copy(from, self.installed("new")).expect("a built file");
        std::fs::set_permissions(self.installed("new"), PermissionsExt::from_mode(0o755)).expect("our file");
        std::fs::rename(self.installed("new"), self.installed(name)).expect("a file");
    }

    fn line(&self, how: &str, words: &str) {
        self.site.plugstack(&format!("{how} {INSTALLED}/plugin.so launcher={INSTALLED}/launcher{words}\n"));
    }

    /// Its status and what it says on a node of all but modes, with the files' directory as DIR.
    fn says(&self) -> (i32, Vec<String>) {
        let udocker = program("udocker").display().to_string();
        let (status, out, err) = self.site.cluster.run_as_root("n1", &[&udocker, "site", "check", "--node"]);
        assert_eq!(err, "", "{:?}", self.release);
        let lines = out.lines().filter(|line| !line.starts_with("mode "));
        (status, lines.map(|line| line.replace(INSTALLED, "DIR")).collect())
    }
}

#[test]
fn a_node_is_checked_with_its_slurm() {
    for release in ALL {
        let checked = Checked::new(release);
        let number = release.number();
        let first =
            ["/etc/udocker: no site.toml and no conf.d/*.toml", "run directory: good: in /dev/shm, which is a tmpfs"];
        let good = [
            format!("DIR/plugin.so: good: for Slurm {number}"),
            "/etc/slurm/plugstack.conf:1: good: required: slurmd, srun, sbatch and salloc do not start without the plugin".into(),
            "DIR/launcher: good: static, executable".into(),
            "TaskProlog: good: DIR/prolog has the guard".into(),
        ];
        // What is told after the release, which has the last number as well.
        let told = || {
            let (status, lines) = checked.says();
            assert_eq!(lines[..2], first, "{release:?}");
            assert!(lines[2].starts_with("Slurm: good: slurm") && lines[2].contains(number), "{release:?} {lines:?}");
            (status, lines[3..].to_vec())
        };
        let differs = |place: usize, line: &str| {
            let mut lines = good.to_vec();
            lines[place] = line.to_owned();
            (1, lines)
        };
        assert_eq!(told(), (0, good.to_vec()), "{release:?}");

        let other = if release == Release::Trixie { Release::Forky } else { Release::Trixie };
        checked.install("plugin.so", &plugin(other));
        let text = format!(
            "DIR/plugin.so: wrong: for Slurm {}, and {number} runs here; hint: install the plugin of this release: Slurm loads no other",
            other.number()
        );
        assert_eq!(told(), differs(0, &text), "{release:?}");
        checked.install("plugin.so", &plugin(release));

        chown(checked.installed("plugin.so"), Some(2000), None).expect("we are root");
        let text = "DIR/plugin.so: wrong: DIR/plugin.so is of user 2000 and has mode 0755; hint: root alone may write it and the \
                    directories above it: chown root, chmod go-w";
        assert_eq!(told(), differs(0, text), "{release:?}");
        checked.install("plugin.so", &plugin(release));

        checked.line("required", " conf=/x");
        let mut lines = good.to_vec();
        lines.insert(
            2,
            "/etc/slurm/plugstack.conf:1: wrong: `conf=/x` says nothing, and every contained task is refused; hint: \
             `launcher=PATH` and `config=PATH` are the words"
                .into(),
        );
        assert_eq!(told(), (1, lines), "{release:?}");

        checked.line("required", " config=/etc/udocker-files/site.toml");
        let tells = |text: &str| {
            let mut lines = good.to_vec();
            lines.insert(2, text.to_owned());
            lines
        };
        let text = "DIR/site.toml: wrong: cannot read the configuration DIR/site.toml: it does not exist; hint: `udocker site \
                    check PATH` tells all of it; every contained task is refused until then";
        assert_eq!(told(), (1, tells(text)), "{release:?}");
        std::fs::write(checked.installed("site.toml"), "[policy]\npin = \"prefer\"\n").expect("a file");
        assert_eq!(told(), (0, tells("DIR/site.toml: good: the site's files, by `config=`")), "{release:?}");

        // That file's word counts.
        std::fs::write(checked.installed("site.toml"), "[stage]\nwhen = \"prolog\"\n").expect("a file");
        let mut lines = tells("DIR/site.toml: good: the site's files, by `config=`");
        lines.push(
            "Prolog: wrong: there is none, and `stage.when` of site.toml is \"prolog\"; hint: make the script of \
             docs/admin/slurm.md your Prolog, or its last lines"
                .into(),
        );
        assert_eq!(told(), (1, lines), "{release:?}");

        checked.install("launcher", &program("udocker"));
        checked.line("required", "");
        let text = "DIR/launcher: wrong: it is linked dynamically; hint: install the one that is linked statically";
        assert_eq!(told(), differs(2, text), "{release:?}");
        std::fs::remove_file(checked.installed("launcher")).expect("a file");
        let text = "DIR/launcher: wrong: cannot be read: No such file or directory (os error 2); hint: install udocker-launch on \
                    each node, or name it by `launcher=` behind the plugin";
        assert_eq!(told(), differs(2, text), "{release:?}");
        checked.install("launcher", checked.site.launcher.as_ref());

        checked.install("prolog", "/bin/true".as_ref());
        checked.line("optional", "");
        let mut lines = good.to_vec();
        lines[1] =
            "/etc/slurm/plugstack.conf:1: good: optional: if the plugin cannot be loaded, jobs run without it".into();
        lines[3] = "TaskProlog: wrong: DIR/prolog has no guard: without the plugin contained jobs run on the host; hint: make the \
                    guard of docs/admin/slurm.md your TaskProlog, or a part of it"
            .into();
        assert_eq!(told(), (1, lines), "{release:?}");

        checked.site.plugstack("");
        let text = "/etc/slurm/plugstack.conf: wrong: no line loads our plugin: `--udocker-image` is no option here; hint: \
                    docs/admin/slurm.md has the line to write";
        assert_eq!(told(), (1, vec![text.to_owned()]), "{release:?}");
        checked.site.down();
    }
}
