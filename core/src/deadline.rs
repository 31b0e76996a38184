//! One limit in time for all waits of one task: they add up to it.

use std::time::{Duration, Instant};

/// When something must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    since: Instant,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self { since: Instant::now(), limit }
    }
    /// What is left of it; zero once it has passed.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.since.elapsed())
    }
    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        self.left().is_zero()
    }
    /// The whole of it, in seconds.
    pub fn seconds(&self) -> u64 {
        self.limit.as_secs()
    }
}
