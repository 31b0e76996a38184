//! Who may use a store that others keep, and whether its trees may be run as they are.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{getegid, geteuid, getgroups};

use crate::settings::{Acl, StoreKind, StoreSettings};

impl Acl {
    /// Whether this process is root's, one of the users', or in one of the groups.
    pub fn admits_caller(&self) -> bool {
        let uid = geteuid();
        let in_group = || {
            let all = getgroups().unwrap_or_default();
            all.into_iter().chain([getegid()]).any(|group| self.groups.contains(&group.as_raw()))
        };
        uid.is_root() || self.users.contains(&uid.as_raw()) || in_group()
    }
}

impl StoreSettings {
    /// Whether this process may use the store at all, by the site's word.
    pub fn admits_caller(&self) -> bool {
        self.access.acl.as_ref().is_none_or(Acl::admits_caller)
    }

    /// Why the trees of a store of the site or of a project are not to be trusted: it is not root's, the caller's own, or that
    /// of a user whom the site trusts. What it has is extracted anew then, from blobs that are checked against their digests.
    pub(super) fn distrust(&self) -> Option<String> {
        if !matches!(self.kind, StoreKind::Site | StoreKind::Project) {
            return None;
        }
        let status = fs::metadata(&self.path).ok()?;
        let owner = status.uid();
        let is_known = owner == 0 || owner == geteuid().as_raw() || self.access.trust.contains(&owner);
        match (is_known, status.mode() & 0o002) {
            (true, 0) => None,
            (true, _) => Some("everybody may write it".into()),
            (false, _) => Some(format!("it belongs to uid {owner}, whom `trust` of site.toml does not name")),
        }
    }
}
