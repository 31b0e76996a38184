//! Who a process of a fake root believes to be, and how that changes. Pure.

use rustix::io::Errno;

/// The calls about identity: getuid getgid setuid setgid geteuid getegid setreuid setregid getgroups setgroups setresuid
/// getresuid setresgid getresgid setfsuid setfsgid capset prctl.
pub(super) const CALLS: [usize; 18] =
    [102, 104, 105, 106, 107, 108, 113, 114, 115, 116, 117, 118, 119, 120, 122, 123, 126, 157];

/// `(uid_t) -1`: as it is.
pub(super) const UNCHANGED: u32 = u32::MAX;
/// Real, effective and saved ID.
pub(super) type Ids = [u32; 3];

/// Who a process believes to be.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub uid: Ids,
    pub gid: Ids,
    /// What setgroups said.
    pub groups: Option<Vec<u32>>,
    /// Whether it keeps root's rights beyond setuid, until it executes a program (PR_SET_KEEPCAPS).
    pub keeps_capabilities: bool,
}

impl Credentials {
    /// Whether it may what root may.
    pub fn is_privileged(&self) -> bool {
        self.uid[1] == 0 || self.keeps_capabilities
    }
}

/// Changes IDs as setresuid(2) does.
pub(super) fn set(ids: &mut Ids, new: Ids, privileged: bool) -> Result<(), Errno> {
    if !privileged && new.iter().any(|id| *id != UNCHANGED && !ids.contains(id)) {
        return Err(Errno::PERM);
    }
    for (id, new) in ids.iter_mut().zip(new) {
        if new != UNCHANGED {
            *id = new;
        }
    }
    Ok(())
}

/// Changes IDs as setreuid(2) does: the saved one follows the effective one if the real one is given, or the effective
/// one becomes another than the real one was.
pub(super) fn set_two(ids: &mut Ids, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
    let follows = real != UNCHANGED || effective != UNCHANGED && effective != ids[0];
    // The real ID cannot be set to the saved one.
    if !privileged && real != UNCHANGED && real != ids[0] && real != ids[1] {
        return Err(Errno::PERM);
    }
    set(ids, [real, effective, UNCHANGED], privileged)?;
    if follows {
        ids[2] = ids[1];
    }
    Ok(())
}

/// Changes IDs as setuid(2) does.
pub(super) fn set_one(ids: &mut Ids, new: u32, privileged: bool) -> Result<(), Errno> {
    match privileged {
        true => set(ids, [new; 3], true),
        false => set(ids, [UNCHANGED, new, UNCHANGED], false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_change_by_the_kernels_rules() {
        let change = |ids: Ids, how: &dyn Fn(&mut Ids) -> Result<(), Errno>| {
            let mut ids = ids;
            how(&mut ids).map(|()| ids)
        };
        assert_eq!(change([0, 0, 0], &|ids| set_one(ids, 7, true)), Ok([7, 7, 7]));
        assert_eq!(change([7, 7, 0], &|ids| set_one(ids, 0, false)), Ok([7, 0, 0]));
        assert_eq!(change([7, 7, 7], &|ids| set_one(ids, 0, false)), Err(Errno::PERM));
        assert_eq!(change([0, 0, 0], &|ids| set(ids, [UNCHANGED, 7, UNCHANGED], true)), Ok([0, 7, 0]));
        assert_eq!(change([1, 2, 3], &|ids| set(ids, [3, 1, 2], false)), Ok([3, 1, 2]));
        assert_eq!(change([1, 2, 3], &|ids| set_two(ids, 3, UNCHANGED, false)), Err(Errno::PERM));
        assert_eq!(change([0, 0, 0], &|ids| set_two(ids, 7, 7, true)), Ok([7, 7, 7]));
        assert_eq!(change([1, 2, 3], &|ids| set_two(ids, UNCHANGED, 1, false)), Ok([1, 1, 3]));
    }
}
