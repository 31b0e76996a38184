//! Many nodes on one machine that share one store: each has a name, an empty /dev/shm and so a run directory of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{TestEnv, code, is_root, program, run, stdout};

/// Starts `$RANKS` ranks as the user `$0` and waits for them; a rank leaves `out`, `err` and `code`.
const NODE: &str = r#"
hostname "$NODE" && mount -t tmpfs -o mode=1777 tmpfs /dev/shm || exit
[ -z "$ETC" ] || mount --bind "$ETC" /etc || exit
[ -z "$LOCAL" ] || mount --bind "$LOCAL/$NODE" "$LOCAL" || exit
[ -z "$DISK" ] || mount -t tmpfs -o "mode=1777,$DISK" disk "$LOCAL" || exit
rank=0
while [ $rank -lt "$RANKS" ]; do
  ( PMIX_RANK=$((FIRST + rank)) setpriv --reuid="$0" --regid="$0" --clear-groups "$@" >"$LEFT/$rank.out" 2>"$LEFT/$rank.err"
    echo $? >"$LEFT/$rank.code" ) &
  rank=$((rank + 1))
done
wait
"#;

/// The nodes, and the user who has jobs there. Needs root.
pub struct ManyNodes {
    /// Whose store they share.
    pub env: TestEnv,
    programs: PathBuf,
    nodes: u32,
    ranks: u32,
    etc: Option<PathBuf>,
    disk: String,
}

/// How a rank ended.
#[derive(Debug)]
pub struct Rank {
    /// From 0.
    pub node: u32,
    /// Its status.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it said.
    pub err: String,
}

/// A step under way.
pub struct Running {
    nodes: Vec<std::process::Child>,
    left: PathBuf,
    ranks: u32,
}

impl ManyNodes {
    /// `nodes` with `ranks` each.
    pub fn new(nodes: u32, ranks: u32) -> Self {
        assert!(is_root(), "only root can give a node its name");
        let env = TestEnv::ordinary();
        let programs = env.own_directory("node-programs", 0o755);
        fs::copy(program("udocker"), programs.join("real")).expect("a copy of udocker");
        // The launcher of `make test`: the static one.
        let launch = env.launch(&[]).get_program().to_owned();
        fs::copy(launch, programs.join("udocker-launch")).expect("a copy of udocker-launch");
        let nodes = Self { env, programs, nodes, ranks, etc: None, disk: String::new() };
        nodes.stage_by("exec \"$REAL\" \"$@\"");
        nodes
    }

    /// From here on ranks find this script as `udocker`; `$REAL` is the program, `$NODE` the node's name.
    pub fn stage_by(&self, script: &str) {
        let path = self.programs.join("udocker");
        let temporary = self.programs.join("udocker.new");
        fs::write(&temporary, format!("#!/bin/sh\nREAL={}\n{script}\n", self.programs.join("real").display()))
            .expect("a script can be written");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::rename(temporary, path).expect("rename");
    }

    /// From here on each node sees `toml` as its site.toml, and has a disk of its own at [`local`](Self::local).
    pub fn set_site(&mut self, toml: &str) {
        let etc = self.env.path("nodes-etc");
        run(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
        fs::create_dir_all(etc.join("udocker")).expect("mkdir");
        fs::write(etc.join("udocker/site.toml"), toml).expect("write");
        self.etc = Some(etc);
        for node in 0..self.nodes {
            self.env.own_directory(&format!("local/node{node}"), 0o755);
        }
    }

    /// From here on that disk is a tmpfs with these options, empty at the beginning of each step.
    pub fn set_disk(&mut self, options: &str) {
        self.disk = options.into();
    }

    /// The disk of each node, as it sees it.
    pub fn local(&self) -> PathBuf {
        self.env.path("local")
    }

    /// The disk of one node, as the test sees it.
    pub fn local_of(&self, node: u32) -> PathBuf {
        self.local().join(format!("node{node}"))
    }

    /// A directory that the nodes see, for what a script needs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Starts the step `name`, each rank `udocker-launch` with `words`.
    pub fn start(&self, name: &str, words: &[&str]) -> Running {
        self.start_behind(name, &[], words)
    }

    /// The same with `udocker-launch` behind another program.
    pub fn start_behind(&self, name: &str, behind: &[&str], words: &[&str]) -> Running {
        let left = self.env.path(&format!("step-{name}"));
        let uid = self.env.uid().expect("an ordinary user").to_string();
        let start = |node: u32| {
            let mine = left.join(node.to_string());
            fs::create_dir_all(&mine).expect("mkdir");
            let like = self.env.launch(&[]);
            let mut command = Command::new("unshare");
            command.args(["-u", "-m", "sh", "-c", NODE, &uid]).args(behind);
            command.arg(self.programs.join("udocker-launch")).args(words);
            command.env_clear().envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.env("NODE", format!("node{node}")).env("RANKS", self.ranks.to_string()).env("LEFT", mine);
            command.env("FIRST", (node * self.ranks).to_string()).env("PMIX_NAMESPACE", name);
            let etc = self.etc.as_ref();
            command.env("DISK", &self.disk);
            command.env("ETC", etc.map_or(OsStr::new(""), |etc| etc.as_os_str()));
            command.env("LOCAL", etc.map_or_else(PathBuf::new, |_| self.local()));
            command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
            command.process_group(0).spawn().expect("unshare of util-linux")
        };
        Running { nodes: (0..self.nodes).map(start).collect(), left, ranks: self.ranks }
    }

    /// Runs the step `name` to its end; see [`start`](Self::start).
    pub fn step(&self, name: &str, words: &[&str]) -> Vec<Rank> {
        self.start(name, words).ended(Duration::from_secs(300))
    }

    /// The lease files of the store: who pulls now.
    pub fn leases(&self) -> Vec<PathBuf> {
        crate::children(&self.env.store().join("leases"))
    }

    /// The process that holds the lease, if one does.
    pub fn puller(&self) -> Option<rustix::process::Pid> {
        let text = fs::read_to_string(self.leases().first()?).ok()?;
        let pid = text.lines().next()?.split('-').nth(3)?.parse().ok()?;
        rustix::process::Pid::from_raw(pid)
    }

    /// The same, waited for.
    ///
    /// # Panics
    /// If nobody takes the lease within a minute.
    pub fn await_puller(&self) -> rustix::process::Pid {
        let since = Instant::now();
        loop {
            if let Some(pid) = self.puller() {
                return pid;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "nobody pulls");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    /// A test that failed leaves no process.
    fn drop(&mut self) {
        for node in &self.nodes {
            let _ = rustix::process::kill_process_group(
                rustix::process::Pid::from_child(node),
                rustix::process::Signal::KILL,
            );
        }
    }
}

impl Running {
    /// Waits for the step's end, which must come within `limit`.
    ///
    /// # Panics
    /// If it does not.
    pub fn ended(mut self, limit: Duration) -> Vec<Rank> {
        let since = Instant::now();
        let mut nodes = std::mem::take(&mut self.nodes);
        for node in &mut nodes {
            while node.try_wait().expect("a child").is_none() {
                if since.elapsed() > limit {
                    let ps: Output =
                        Command::new("ps").args(["-e", "-o", "pid,ppid,stat,wchan:32,args"]).output().expect("ps");
                    self.nodes = nodes;
                    panic!("the step hangs:\n{}", stdout(&ps));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let mut all = Vec::new();
        for (node, child) in (0..).zip(nodes) {
            let output = child.wait_with_output().expect("output");
            assert_eq!(code(&output), 0, "node {node}");
            let read = |rank: u32, what: &str| {
                let path = self.left.join(format!("{node}/{rank}.{what}"));
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            };
            all.extend((0..self.ranks).map(|rank| Rank {
                node,
                code: read(rank, "code").trim().parse().expect("a status"),
                out: read(rank, "out"),
                err: read(rank, "err"),
            }));
        }
        all
    }
}
