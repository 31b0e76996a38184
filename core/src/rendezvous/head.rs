//! The text at the beginning of a list: whose the container is, and what who enters it later must do.
//!
//! ```text
//! udocker-container 2
//! job slurm 5            scheduler and job
//! step 0
//! image alpine:3
//! tree tree-fe00-77      under which name the users of its root are listed; empty for what is no image's
//! identity {…}           JSON of an IdentityPlan
//! unshare ["net"]
//! pids 4026531836        inode of the pid namespace of its processes
//! ```

use super::Step;
use super::step::RESTART;
use crate::engine::{ExecPlan, IdentityPlan, Unshare};
use crate::members::HEAD_BYTES;
use crate::store::tree_line;
use crate::text::{escape, unescape};

const FIRST: &str = "udocker-container 2";
/// Longer texts are cut: they are for people.
const LONGEST: usize = 150;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Scheduler, or empty.
    pub scheduler: String,
    /// Its job, or empty.
    pub job: String,
    /// The step, in words of [`Step::name`].
    pub step: String,
    /// The image as it was asked for, or the container's ID.
    pub image: String,
    /// The name under which users of its root are listed (see [`crate::store::TreeUse`]), or empty.
    pub tree: String,
    /// Who its processes are.
    pub identity: IdentityPlan,
    /// Namespaces beside user and mount.
    pub unshare: Vec<Unshare>,
    /// The inode of the pid namespace in which its processes are numbered.
    pub pids: u64,
}

impl Head {
    pub(super) fn new(step: &Step, image: &str, tree: &str, plan: &ExecPlan) -> Self {
        Self {
            scheduler: step.scheduler.to_owned(),
            job: step.job.clone(),
            step: step.name.clone(),
            image: image.to_owned(),
            tree: tree.to_owned(),
            identity: plan.identity.clone(),
            unshare: plan.unshare.clone(),
            pids: super::own_pids(),
        }
    }

    /// Whether it is of the job that is called `job`: with or without how often it was started, or PBS's server.
    pub fn is_of_job(&self, job: &str) -> bool {
        let plain = |job: &str| job.split(RESTART).next().unwrap_or_default().split('.').next().map(str::to_owned);
        self.job == job || plain(&self.job) == plain(job)
    }

    /// Whether it is the step that is called `step`: Slurm's number, where PMIx has a longer name.
    pub fn is_step(&self, step: &str) -> bool {
        self.step == step || self.step.rsplit('.').next() == Some(step)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let text = |text: &str| {
            let mut escaped = escape(text.as_bytes());
            while escaped.len() > LONGEST {
                escaped.pop();
            }
            escaped
        };
        let json = |part: serde_json::Result<String>| part.expect("plain data serialises");
        let lines = format!(
            "{FIRST}\njob {} {}\nstep {}\nimage {}\n{}\nidentity {}\nunshare {}\npids {}\n",
            text(&self.scheduler),
            text(&self.job),
            text(&self.step),
            text(&self.image),
            tree_line(&self.tree),
            json(serde_json::to_string(&self.identity)),
            json(serde_json::to_string(&self.unshare)),
            self.pids,
        );
        debug_assert!(lines.len() <= HEAD_BYTES);
        lines.into_bytes()
    }

    /// Reads the head of a list; `None` if it is none that this version wrote.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.lines();
        (lines.next()? == FIRST).then_some(())?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let plain = |text: &str| unescape(text).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let (scheduler, job) = field("job")?.split_once(' ')?;
        Some(Self {
            scheduler: plain(scheduler)?,
            job: plain(job)?,
            step: plain(field("step")?)?,
            image: plain(field("image")?)?,
            tree: field("tree")?.to_owned(),
            identity: serde_json::from_str(field("identity")?).ok()?,
            unshare: serde_json::from_str(field("unshare")?).ok()?,
            pids: field("pids")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::IdMap;

    fn head(job: &str, image: &str) -> Head {
        let map = IdMap::Subordinate { uids: (u32::MAX, u32::MAX), gids: (u32::MAX, u32::MAX) };
        Head {
            scheduler: "slurm".into(),
            job: job.into(),
            step: "of process 7 99".into(),
            image: image.into(),
            tree: format!("tree-{:x}-{}", u64::MAX, u64::MAX),
            identity: IdentityPlan {
                uid: u32::MAX,
                gid: u32::MAX,
                map,
                fake_root_filter: false,
                docker_capabilities: false,
            },
            unshare: vec![Unshare::Pid, Unshare::Net, Unshare::Ipc, Unshare::Uts],
            pids: u64::MAX,
        }
    }

    #[test]
    fn a_head_is_read_as_written() {
        let head = head("5 restart 1", "a\nb");
        let mut bytes = head.to_bytes();
        bytes.resize(HEAD_BYTES, 0);
        assert_eq!(Head::parse(&bytes), Some(head));
        assert_eq!(Head::parse(b"udocker-container 1\n"), None);
        assert_eq!(Head::parse(&[]), None);
    }

    #[test]
    fn jobs_and_steps_have_several_names() {
        let head = |job: &str, step: &str| Head { step: step.into(), ..head(job, "i") };
        for (job, asked, found) in [
            ("7", "7", true),
            ("7 restart 1", "7", true),
            ("7 restart 1", "7 restart 2", true),
            ("4711.head", "4711", true),
            ("4711", "4711.head", true),
            ("7", "77", false),
            ("7", "", false),
        ] {
            assert_eq!(head(job, "0").is_of_job(asked), found, "{job} {asked}");
        }
        for (step, asked, found) in [("0", "0", true), ("slurm.pmix.8.0", "0", true), ("slurm.pmix.8.0", "8", false)] {
            assert_eq!(head("7", step).is_step(asked), found, "{step} {asked}");
        }
    }

    #[test]
    fn the_longest_head_fits() {
        let long = "x".repeat(5000);
        let bytes = Head { step: long.clone(), scheduler: long.clone(), ..head(&long, &long) }.to_bytes();
        assert!(bytes.len() <= HEAD_BYTES, "{}", bytes.len());
    }
}
