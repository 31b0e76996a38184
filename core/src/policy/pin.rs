//! Whether the tasks of a job keep to the image that its first one found.

/// What a job does about a tag that may move while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Its first task writes the digest down, or the job does not run.
    Require,
    /// The same where it can be written.
    Prefer,
    /// Each step takes what the tag is then.
    #[default]
    Off,
}
