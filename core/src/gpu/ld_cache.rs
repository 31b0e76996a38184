//! The cache of the host's dynamic loader, `/etc/ld.so.cache`: which file each library is.
//!
//! Format of glibc 2.2 and later (`sysdeps/generic/dl-cache.h`): `glibc-ld.so.cache1.1`, alone or behind a table in the older format,
//! aligned to 8 bytes; 48 bytes of header, 24 for each library, texts at offsets from the header on. Little-endian machines
//! alone; pure.

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// `FLAG_ELF_LIBC6` and the machine's own word size.
const FLAGS: u32 = match () {
    () if cfg!(target_arch = "x86_64") => 0x0303,
    () if cfg!(target_arch = "aarch64") => 0x0a03,
    () if cfg!(target_arch = "powerpc64") => 0x0503,
    () => 0x0003,
};

/// The libraries that `bytes` lists for this machine's programs, name and path, the first of each name as the loader takes
/// it; `None` if it is no such cache.
pub(super) fn libraries(bytes: &[u8]) -> Option<Vec<(&str, &str)>> {
    let table = match bytes.strip_prefix(OLD_MAGIC) {
        // After its number of entries of 12 bytes each.
        Some(_) => bytes.get((16 + number(bytes, 12)?.checked_mul(12)?).checked_next_multiple_of(8)?..)?,
        None => bytes,
    };
    table.starts_with(MAGIC).then_some(())?;
    let text = |at: usize| std::str::from_utf8(table.get(at..)?.split(|byte| *byte == 0).next()?).ok();
    let mut found: Vec<(&str, &str)> = Vec::new();
    for index in 0..number(table, 20)? {
        let at = HEADER + index.checked_mul(ENTRY)?;
        let (flags, name, path) = (number(table, at)?, number(table, at + 4)?, number(table, at + 8)?);
        // Some are for certain processors alone.
        let is_general = table.get(at + 16..at + 24)? == [0; 8];
        if flags != FLAGS as usize || !is_general {
            continue;
        }
        if let (Some(name), Some(path)) = (text(name), text(path)) {
            found.push((name, path));
        }
    }
    // Names are in descending order, so the same ones are side by side.
    found.dedup_by(|later, earlier| later.0 == earlier.0);
    Some(found)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(field)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ldconfig itself tells of this machine.
    #[test]
    fn it_lists_what_ldconfig_prints() {
        let bytes = std::fs::read("/etc/ld.so.cache").unwrap();
        let ours = libraries(&bytes).unwrap();
        let printed = std::process::Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let kind = if cfg!(target_arch = "aarch64") { "(libc6,AArch64)" } else { "(libc6,x86-64)" };
        let mut theirs: Vec<(&str, &str)> = printed
            .lines()
            .filter(|line| line.contains(kind))
            .map(|line| (line.trim().split(' ').next().unwrap(), line.split(" => ").nth(1).unwrap()))
            .collect();
        theirs.dedup_by(|later, earlier| later.0 == earlier.0);
        assert!(theirs.len() > 10);
        assert_eq!(ours, theirs);
        for length in [0, 11, 20, 47, 48, 60, bytes.len() / 2] {
            // Some of it, or none; never more.
            assert!(libraries(&bytes[..length]).is_none_or(|some| some.len() <= ours.len()), "{length}");
        }
    }
}
