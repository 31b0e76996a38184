//! Records of a pax extended header: `LENGTH KEY=VALUE\n`.

use rustix::fs::Timespec;

/// Of all names and values of one entry.
const MAX_XATTR_BYTES: usize = 64 << 10;

/// What the records before one entry say about it.
#[derive(Debug, Default)]
pub(super) struct Pax {
    /// Whether there was any header.
    pub seen: bool,
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timespec>,
    /// Extended attributes that are kept: `user.*`, but no overlay's.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    xattr_bytes: usize,
    pub sparse: PaxSparse,
}

/// The records `GNU.sparse.*` of the three pax forms of a sparse file.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub real_size: Option<u64>,
    /// Form 0.1: the map as numbers with commas between them.
    pub map: Option<Vec<u8>>,
    /// Form 0.0: offsets and lengths, in turn.
    pub pairs: Vec<u64>,
}

impl Pax {
    /// Adds the records of one extended header.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        self.seen = true;
        while !bytes.is_empty() {
            let (record, rest) = record(bytes).ok_or("a pax header with a broken record")?;
            bytes = rest;
            let at = record.iter().position(|byte| *byte == b'=').ok_or("a pax header with a broken record")?;
            let (key, value) = (&record[..at], &record[at + 1..]);
            self.set(key, value).ok_or("a pax header with a wrong value")?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" if self.sparse_name() => {}
            b"path" | b"GNU.sparse.name" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = Some(decimal(value).filter(|size| i64::try_from(*size).is_ok())?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = Some(decimal(value)?),
            b"GNU.sparse.map" => self.sparse.map = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.pairs.push(decimal(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                    && name.starts_with(b"user.")
                    && name.len() > b"user.".len()
                    && !name.starts_with(b"user.overlay.")
                    && !name.contains(&0)
                    && self.xattr_bytes + name.len() + value.len() <= MAX_XATTR_BYTES
                {
                    self.xattr_bytes += name.len() + value.len();
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }

    /// `GNU.sparse.name` is the file's name; `path` beside it is for readers that do not know sparse files.
    fn sparse_name(&self) -> bool {
        self.path.is_some() && (self.sparse.major.is_some() || self.sparse.map.is_some())
    }
}

/// The first record without its length and newline, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    if length > bytes.len() || length < blank + 2 || bytes[length - 1] != b'\n' {
        return None;
    }
    Some((&bytes[blank + 1..length - 1], &bytes[length..]))
}

/// An empty value takes the record back (POSIX.1-2017, pax, "pax Extended Header").
#[expect(clippy::option_option, reason = "an empty text is no error and no text")]
fn text(value: &[u8]) -> Option<Option<Vec<u8>>> {
    if value.contains(&0) {
        return None;
    }
    Some(Some(value.to_vec()).filter(|value| !value.is_empty()))
}

pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds with any number of decimals, perhaps negative.
fn time(value: &[u8]) -> Option<Timespec> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanoseconds = 0;
    for index in 0..9 {
        let digit = fraction.get(index).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + i64::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?);
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[(&str, &str)]) -> Result<Pax, &'static str> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let length = (1..4).map(|digits| body + digits).find(|all| all.to_string().len() + body == *all).unwrap();
            bytes.extend(format!("{length} {key}={value}\n").into_bytes());
        }
        let mut pax = Pax::default();
        pax.read(&bytes).map(|()| pax)
    }

    #[test]
    fn records_are_read() {
        let pax = read(&[
            ("path", "ä=b\n"),
            ("size", "9000000000"),
            ("mtime", "-1.25"),
            ("SCHILY.xattr.user.a", "1"),
            ("SCHILY.xattr.user.overlay.opaque", "y"),
            ("SCHILY.xattr.security.capability", "x"),
            ("comment", "ignored"),
        ])
        .unwrap();
        assert_eq!(pax.path.unwrap(), "ä=b\n".as_bytes());
        assert_eq!(pax.size, Some(9_000_000_000));
        assert_eq!(pax.mtime, Some(Timespec { tv_sec: -2, tv_nsec: 750_000_000 }));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"1".to_vec())]);
        assert_eq!(time(b"7.1234567891"), Some(Timespec { tv_sec: 7, tv_nsec: 123_456_789 }));
    }

    #[test]
    fn broken_records_are_refused() {
        for bytes in [&b"5 a=b\n"[..], b"99 a=b\n", b"6 a=b", b"a=b\n", b"6 aab\n", b"0 a=b\n", b"3 \n"] {
            assert!(Pax::default().read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&[("size", "-1")]).is_err());
        assert!(read(&[("mtime", "1.x")]).is_err());
        assert!(read(&[("path", "a\0b")]).is_err());
    }
}
