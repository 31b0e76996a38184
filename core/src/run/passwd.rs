//! The lines of passwd(5) and group(5), read as libc reads them: one that is broken is passed over. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of passwd(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PasswdEntry<'a> {
    pub name: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    pub home: &'a [u8],
    pub shell: &'a [u8],
}

impl PasswdEntry<'_> {
    /// The home as a path inside; `/` where it is none.
    pub fn home(&self) -> PathBuf {
        if self.home.first() == Some(&b'/') { OsString::from_vec(self.home.to_vec()).into() } else { "/".into() }
    }
}

/// The readable lines of a passwd file, in their order.
pub(crate) fn passwd_entries(bytes: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(bytes).filter_map(passwd_entry)
}

/// What one line says, without its end.
pub(crate) fn passwd_entry(line: &[u8]) -> Option<PasswdEntry<'_>> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !name.is_empty() && name[0] != b'#')?;
    let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
    let (home, shell) = (fields.nth(1).unwrap_or_default(), fields.next().unwrap_or_default());
    Some(PasswdEntry { name, uid, gid, home, shell })
}

/// The gid of the group `name`.
pub(crate) fn group_id(bytes: &[u8], name: &[u8]) -> Option<u32> {
    groups(bytes).find(|(found, _)| *found == name).map(|(_, gid)| gid)
}

/// The readable lines of a group file, in their order: names and gids.
pub(crate) fn groups(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u32)> {
    lines(bytes).filter_map(group_entry)
}

fn group_entry(line: &[u8]) -> Option<(&[u8], u32)> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !name.is_empty() && name[0] != b'#')?;
    Some((name, number(fields.nth(1)?)?))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

fn number(field: &[u8]) -> Option<u32> {
    if !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}
