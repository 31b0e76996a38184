//! The tasks of a job keep to the image that its first one found: a tag that moves meanwhile cannot split it.

use udocker_core::error::Failure;
use udocker_core::policy::Pin;
use udocker_core::reference::ImageReference;
use udocker_core::rendezvous::Step;
use udocker_core::settings::Settings;
use udocker_core::store::{JobPin, Record, Stores};

use crate::error::LaunchError;

/// A job whose image is named by a tag.
pub struct Job<'a> {
    step: &'a Step,
    reference: &'a ImageReference,
    pin: Pin,
}

impl<'a> Job<'a> {
    /// `None` where there is nothing to pin: no job, a digest, or a site that wants no pins.
    pub fn of(step: &'a Step, reference: &'a ImageReference, pin: Pin) -> Option<Self> {
        let is_pinned = pin != Pin::Off && !step.job.is_empty() && reference.digest().is_none();
        is_pinned.then_some(Self { step, reference, pin })
    }

    /// The image that the job has found before, by its digest.
    pub fn pinned(&self, stores: &Stores) -> Result<Option<ImageReference>, Failure> {
        let Some(store) = stores.first_writable() else { return Ok(None) };
        let digest = JobPin::of(store, (self.step.scheduler, &self.step.job), self.reference).read()?;
        Ok(digest.map(|digest| self.reference.with_digest(digest)))
    }

    /// Writes down that the image of `record` is the job's; returns another one that a faster task has written down.
    pub fn pin(&self, record: &Record, settings: &Settings) -> Result<Option<ImageReference>, Failure> {
        let mine = record.index.as_ref().unwrap_or(&record.manifest);
        // One that was pulled for this task may lie in a store that was made for it.
        let stores = Stores::open(settings)?;
        let placed = stores
            .first_writable()
            .map(|store| JobPin::of(store, (self.step.scheduler, &self.step.job), self.reference).place(mine));
        match (placed, self.pin) {
            (Some(Ok(theirs)), _) => Ok((theirs != *mine).then(|| self.reference.with_digest(theirs))),
            (None, Pin::Require) => Err(LaunchError::NotPinned(self.reference.clone()).into()),
            (Some(Err(error)), Pin::Require) => Err(error.into()),
            (None | Some(Err(_)), _) => Ok(None),
        }
    }
}
