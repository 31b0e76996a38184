//! `trust` and `acl` of `[[store]]`.

use serde::Deserialize;
use toml::Spanned;
use udocker_core::settings::{Acl, StoreAccess};

use crate::ConfigError;
use crate::place::Place;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AclKeys {
    #[serde(default)]
    pub users: Vec<u32>,
    #[serde(default)]
    pub groups: Vec<u32>,
}

/// What the keys of one store say.
pub(crate) fn of_store(
    trust: Vec<u32>,
    acl: Option<Spanned<AclKeys>>,
    place: &Place<'_>,
) -> Result<StoreAccess, ConfigError> {
    if let Some(keys) = &acl
        && keys.get_ref().users.is_empty()
        && keys.get_ref().groups.is_empty()
    {
        return Err(place.wrong(keys, "store.acl", "numbers of users or groups, else it serves nobody"));
    }
    let acl = acl.map(Spanned::into_inner).map(|AclKeys { users, groups }| Acl { users, groups });
    Ok(StoreAccess { trust, acl })
}
