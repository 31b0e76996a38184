//! What the first rank of a step on this node found of its image, left for the others: they touch no store, and a tag that
//! moves meanwhile cannot split the step. Where it found none they do not try one after the other.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{REPEAT, Step, step_id};
use crate::error::{ErrorKind, Explain, Failure};
use crate::gpu::Found;
use crate::members::open_own;
use crate::run::ImageFiles;
use crate::store::{Record, RunDirectory};
use crate::text::{escape, short_hash, unescape};

const HEAD: &[u8] = b"udocker-step-image 4";
/// What stands in its place if there is no image; JSON of an [`ImageFailure`] follows.
const FAILURE: &[u8] = b"udocker-step-failure 1\n";
/// What stands for user namespaces that work, and for those that nobody tried.
const WORK: &str = "work";
const NOT_TRIED: &str = "not tried";

/// An image, as far as a rank needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct StepImage {
    /// Its record.
    pub record: Record,
    /// Its root.
    pub tree: PathBuf,
    /// Under which name its users are listed.
    pub tree_name: String,
    /// Its accounts.
    pub files: ImageFiles,
    /// Whether this node's user namespaces work, else the reason; `None`: nobody tried.
    pub namespaces: Option<Result<(), String>>,
    /// The node's GPUs, and those that the scheduler gave its ranks; `None`: nobody looked.
    pub gpus: Option<Found>,
}

/// What a rank has left.
#[derive(Clone, Debug, PartialEq)]
pub enum Left {
    /// The image.
    Image(Box<StepImage>),
    /// Why it could not be had.
    Failure(ImageFailure),
}

impl Left {
    /// What another rank of `step` has left under `wish` (image and platform as they were asked for).
    pub fn read(run: &RunDirectory, step: &Step, wish: &str) -> Option<Self> {
        // One read(2) for most.
        let mut bytes = Vec::with_capacity(4096);
        open_own(File::options().read(true), &run.path().join(name(step, wish))).ok()?.read_to_end(&mut bytes).ok()?;
        match bytes.strip_prefix(FAILURE) {
            Some(json) => serde_json::from_slice(json).ok().map(Self::Failure),
            None => StepImage::parse(&bytes).map(Box::new).map(Self::Image),
        }
    }
}

/// Why a rank could not get an image, as it told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{report}")]
pub struct ImageFailure {
    report: String,
    kind: ErrorKind,
    /// The rank, which has tried and may try again.
    rank: Option<String>,
    written: SystemTime,
}

impl ImageFailure {
    /// `failure` of this rank of `step`, which has ended to try.
    pub fn new(failure: &Failure, step: &Step) -> Self {
        let (report, kind) = (failure.report(), failure.kind());
        Self { report, kind, rank: step.rank.clone(), written: SystemTime::now() }
    }

    /// Whether the rank of `step` that `began` then fails with it: another one that would have tried at the same time. Who comes
    /// later may know of a reason to try again.
    pub fn counts_for(&self, step: &Step, began: SystemTime) -> bool {
        self.rank != step.rank && !began.duration_since(self.written).is_ok_and(|age| age > REPEAT)
    }

    /// Leaves it, until one has the image. One that cannot be left costs the others a try.
    pub fn leave(&self, run: &RunDirectory, step: &Step, wish: &str) {
        let json = serde_json::to_vec(self).expect("plain data serialises");
        put(&[FAILURE, &json].concat(), run, step, wish);
    }
}

/// Its text holds causes and hints.
impl Explain for ImageFailure {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

fn put(bytes: &[u8], run: &RunDirectory, step: &Step, wish: &str) {
    let name = name(step, wish);
    let temporary = run.path().join(format!("{name}.{}", std::process::id()));
    if std::fs::write(&temporary, bytes).is_ok() {
        let _ = std::fs::rename(&temporary, run.path().join(name));
    }
}

impl StepImage {
    /// Leaves it. One that cannot be left costs the others a look into the store.
    pub fn leave(&self, run: &RunDirectory, step: &Step, wish: &str) {
        put(&self.to_bytes(), run, step, wish);
    }

    /// ```text
    /// udocker-step-image 4 / TREE (escaped) / TREE_NAME / namespaces: work, not tried, no REASON (escaped) / GPUs, JSON
    /// bytes of the three parts / record, passwd, group
    /// ```
    fn to_bytes(&self) -> Vec<u8> {
        let parts = [self.record.to_bytes(), self.files.passwd.clone(), self.files.group.clone()];
        let [record, passwd, group] = parts.each_ref().map(Vec::len);
        let tree = escape(self.tree.as_os_str().as_bytes());
        let namespaces = match &self.namespaces {
            Some(Ok(())) => WORK.to_owned(),
            Some(Err(why)) => format!("no {}", escape(why.as_bytes())),
            None => NOT_TRIED.to_owned(),
        };
        // Paths that are no text cannot be left: then each rank looks.
        let gpus = serde_json::to_string(&self.gpus).unwrap_or_else(|_| "null".into());
        let lines = format!("\n{tree}\n{}\n{namespaces}\n{gpus}\n{record} {passwd} {group}\n", self.tree_name);
        let mut out = [HEAD, lines.as_bytes()].concat();
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.splitn(7, |byte| *byte == b'\n');
        (lines.next()? == HEAD).then_some(())?;
        let mut text = || std::str::from_utf8(lines.next()?).ok();
        let tree = PathBuf::from(OsString::from_vec(unescape(text()?)?));
        let tree_name = text()?.to_owned();
        let namespaces = match text()? {
            WORK => Some(Ok(())),
            NOT_TRIED => None,
            no => Some(Err(String::from_utf8(unescape(no.strip_prefix("no ")?)?).ok()?)),
        };
        let gpus = serde_json::from_str(text()?).ok()?;
        let lengths: Vec<usize> = text()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [record, passwd, group] = lengths[..] else { return None };
        let rest = lines.next()?;
        let part = |from: usize, length: usize| rest.get(from..from.checked_add(length)?);
        Some(Self {
            record: Record::parse_head(part(0, record)?).ok()?,
            tree,
            tree_name,
            namespaces,
            gpus,
            files: ImageFiles { passwd: part(record, passwd)?.to_vec(), group: part(record + passwd, group)?.to_vec() },
        })
    }
}

/// The name of its file, and of the lock under which it is made.
pub fn name(step: &Step, wish: &str) -> String {
    format!("image-{}-{}", step_id(step), short_hash(wish.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::digest::Digest;
    use crate::gpu::{Common, Grant, Machine};
    use crate::image_config::ImageConfig;
    use crate::store::{StoreError, TreeFormat, TreeId};

    #[test]
    fn what_is_left_is_read_again() {
        let blob = Digest::sha256_of(b"l");
        let record = Record {
            manifest: blob.clone(),
            index: None,
            names: vec!["a".into()],
            config_digest: blob.clone(),
            platform: "linux/amd64".parse().unwrap(),
            tree: TreeId::of(TreeFormat::Private1, &[blob]),
            layers: 1,
            packed_bytes: 2,
            tree_bytes: 3,
            entries: 4,
            config: ImageConfig::default(),
            changed: Vec::new(),
        };
        let files = ImageFiles { passwd: b"root:x:0:0\n".to_vec(), group: Vec::new() };
        let directory = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(&[directory.path().join("run")]).unwrap();
        let step = Step { scheduler: "", job: String::new(), name: "1".into(), rank: None };
        assert!(Left::read(&run, &step, "i").is_none());
        for namespaces in [None, Some(Ok(())), Some(Err("a\nreason".to_owned()))] {
            let (record, files) = (record.clone(), files.clone());
            let gpus =
                namespaces.is_some().then(|| Found { machine: Machine::default(), grant: Grant::Some("V=\n1".into()) });
            let tree = "/a\nb".into();
            let image = StepImage { record, tree, tree_name: "tree-1-2".into(), files, namespaces, gpus };
            image.leave(&run, &step, "i");
            assert_eq!(Left::read(&run, &step, "i"), Some(Left::Image(Box::new(image.clone()))));
            let bytes = image.to_bytes();
            assert!((0..bytes.len()).all(|cut| StepImage::parse(&bytes[..cut]).is_none()));
        }
        let path = OsString::from_vec(b"/dev/nvidia\xff".to_vec()).into();
        let common = vec![Common { path, is_directory: false, device: 0 }];
        let gpus = Some(Found { machine: Machine { gpus: Vec::new(), common }, grant: Grant::Free });
        let tree = "/a".into();
        let image = StepImage { record, tree, tree_name: "tree-1-2".into(), files, namespaces: None, gpus };
        assert_eq!(StepImage::parse(&image.to_bytes()), Some(StepImage { gpus: None, ..image }));
        assert!(Left::read(&run, &step, "j").is_none());
    }

    #[test]
    fn a_failure_is_that_of_the_ranks_that_came_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(&[directory.path().join("run")]).unwrap();
        let rank = |rank: &str| Step { scheduler: "", job: String::new(), name: "1".into(), rank: Some(rank.into()) };
        let failure = Failure::from(StoreError::TreeGone("/a\nb".into()));
        ImageFailure::new(&failure, &rank("0")).leave(&run, &rank("0"), "i");
        let Some(Left::Failure(left)) = Left::read(&run, &rank("1"), "i") else { panic!("none is left") };
        let written = left.written;
        for (who, began, counts) in [
            ("1", written - REPEAT * 100, true),
            ("1", written + REPEAT, true),
            ("1", written + REPEAT + Duration::from_nanos(1), false),
            ("0", written, false),
        ] {
            assert_eq!(left.counts_for(&rank(who), began), counts, "{who} {began:?}");
        }
        let left = Failure::from(left);
        assert_eq!((left.report(), left.kind()), (failure.report(), failure.kind()));
    }
}
