//! Steps of MPI ranks, whose libraries fail now and then by themselves: such a step is started again.

use crate::cluster::Ended;

/// The first of six attempts at a step of MPI ranks that did not come to a failure of their library's own.
pub fn attempt(fails: impl Fn(&Ended) -> bool, step: impl Fn() -> Ended) -> Ended {
    (0..5).map(|_| step()).find(|ended| !fails(ended)).unwrap_or_else(&step)
}

/// What Open MPI 5 tells if it crashes in MPI_Init, before the ranks say anything, since a message of another node's comes too
/// early (github.com/open-mpi/ompi, issue 12495): in one of twenty steps over two nodes of one machine, bare or in containers.
pub const OPEN_MPI_CRASHED: &str = "mca_pml_ob1_recv_frag_callback_match";

/// Whether it did.
pub fn open_mpi_crashed(ended: &Ended) -> bool {
    ended.1.is_empty() && ended.2.contains(OPEN_MPI_CRASHED)
}
