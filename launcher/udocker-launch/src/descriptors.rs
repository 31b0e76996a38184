//! Which descriptors a rank keeps, under which numbers.

use udocker_core::sys::fds;

use crate::error::LaunchError;

/// Renumbers what `--fd` names, and closes what the caller left open by accident, before anything else is opened: a
/// process beside the program holds none of it.
pub fn sort(wanted: &[(i32, i32)], sockets: &[i32]) -> Result<(), LaunchError> {
    let closed = wanted.iter().map(|(from, _)| *from).find(|from| !fds::is_open(*from));
    if let Some(from) = closed {
        return Err(LaunchError::NotOpen(from));
    }
    for (index, (from, to)) in wanted.iter().enumerate() {
        if from != to && sockets.contains(to) {
            return Err(LaunchError::NumberTaken(*to, "that is the process manager's socket"));
        }
        if wanted[..index].iter().any(|(other, same)| same == to && other != from) {
            return Err(LaunchError::NumberTaken(*to, "two are to have that number"));
        }
    }
    let moved: Vec<_> = wanted.iter().copied().filter(|(from, to)| from != to).collect();
    let kept: Vec<i32> = wanted.iter().map(|(_, to)| *to).chain(sockets.iter().copied()).collect();
    let sorted = fds::renumber(&moved).and_then(|()| fds::close_inherited_except(&kept));
    sorted.map_err(|error| LaunchError::Descriptors(error.into()))
}
