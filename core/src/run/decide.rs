//! What holds where a request says nothing: first what is configured (`[run]`), then what is built in.

use super::{Batch, Defaults, Entrypoint, RunRequest, Share, UserSpec, WriteSpec};

/// `[run]` of a job: each is used where nobody asked for something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunDefaults {
    /// Who the program is.
    pub user: Option<UserSpec>,
    /// Whether the image's entrypoint runs.
    pub entrypoint: Option<Entrypoint>,
    /// Where writes to the root go.
    pub write: Option<WriteSpec>,
    /// Where a batch script runs.
    pub batch: Option<Batch>,
    /// Who shares a container.
    pub share: Option<Share>,
}

impl RunRequest {
    /// Puts what is configured where nothing was asked for.
    pub fn complete(&mut self, configured: &RunDefaults) {
        fn fill<T: Clone>(asked: &mut Option<T>, configured: &Option<T>) {
            if asked.is_none() {
                asked.clone_from(configured);
            }
        }
        fill(&mut self.user, &configured.user);
        fill(&mut self.entrypoint, &configured.entrypoint);
        fill(&mut self.write, &configured.write);
        fill(&mut self.batch, &configured.batch);
        fill(&mut self.share, &configured.share);
    }

    /// Who the program is.
    pub fn user(&self, defaults: Defaults) -> &UserSpec {
        self.user.as_ref().unwrap_or(match defaults {
            Defaults::Interactive => &UserSpec::Image,
            Defaults::Job => &UserSpec::Caller,
        })
    }

    /// What runs before the words.
    pub fn entrypoint(&self, defaults: Defaults) -> &Entrypoint {
        self.entrypoint.as_ref().unwrap_or(match defaults {
            Defaults::Interactive => &Entrypoint::Image,
            Defaults::Job => &Entrypoint::None,
        })
    }

    /// Where writes to the root of an image go.
    pub fn write(&self, defaults: Defaults) -> &WriteSpec {
        self.write.as_ref().unwrap_or(match defaults {
            Defaults::Interactive => &WriteSpec::Tmpfs { size: None },
            Defaults::Job => &WriteSpec::None,
        })
    }

    /// Whether a layer is laid over the root of an image: that needs a tree of one's own.
    pub fn is_written(&self, defaults: Defaults) -> bool {
        *self.write(defaults) != WriteSpec::None
    }

    /// Where a batch script runs.
    pub fn batch(&self) -> Batch {
        self.batch.unwrap_or(Batch::Container)
    }

    /// What a batch script that runs on the host says first. An mpirun in it may tell nothing of why its ranks did not start.
    pub fn host_script_notice(&self) -> String {
        format!(
            "udocker: this script runs on the host, its srun steps in {}\n  hint: start MPI ranks by `srun`; an mpirun of this script does not reach into the image\n",
            self.image
        )
    }

    /// Who shares a container.
    pub fn share(&self) -> Share {
        self.share.unwrap_or(Share::Node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_beats_what_is_configured_and_that_what_is_built_in() {
        let configured = RunDefaults {
            user: Some(UserSpec::Root),
            entrypoint: Some(Entrypoint::Image),
            write: Some(WriteSpec::Tmpfs { size: Some(5) }),
            batch: Some(Batch::Host),
            share: Some(Share::Task),
        };
        let mut request = RunRequest::of_job("i");
        request.complete(&RunDefaults::default());
        assert_eq!(request, RunRequest::of_job("i"));
        assert_eq!((request.user(Defaults::Job), request.batch()), (&UserSpec::Caller, Batch::Container));
        assert_eq!((request.entrypoint(Defaults::Job), request.share()), (&Entrypoint::None, Share::Node));
        assert_eq!(request.write(Defaults::Job), &WriteSpec::None);
        request.write = Some(WriteSpec::None);
        request.complete(&configured);
        assert_eq!((request.user(Defaults::Job), request.batch()), (&UserSpec::Root, Batch::Host));
        assert_eq!((request.entrypoint(Defaults::Job), request.share()), (&Entrypoint::Image, Share::Task));
        assert_eq!(request.write(Defaults::Job), &WriteSpec::None);
    }
}
