//! What the headers of a tar archive are read from: blocks in a row, and the numbers and texts in their fields.

use std::io;

/// Bytes of a block: an archive is a row of them.
pub(super) const BLOCK: usize = 512;
/// Most bytes of an entry's extension headers, and of the map of its holes.
pub(super) const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Where header blocks and data come from.
pub(super) trait ByteSource {
    /// Fills `buffer`, or fewer bytes at the end of the stream; returns how many.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Reads `count` bytes and the padding to a whole block behind them.
    fn read_padded(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(count).expect("the caller capped it").next_multiple_of(BLOCK)];
        if self.fill(&mut bytes)? < bytes.len() {
            return Err(ended());
        }
        bytes.truncate(count as usize);
        Ok(bytes)
    }
}

pub(super) fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of an entry")
}

/// A numeric field: octal digits among blanks, or GNU's signed base 256. A blank field is 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if let Some(first) = field.first()
        && first & 0x80 != 0
    {
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            // Of the first byte, the top bit only marks the form.
            let byte = if index == 0 { byte & 0x7f | if negative { 0x80 } else { 0 } } else { *byte };
            value = value << 8 | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let digits = until_nul(field).trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// A numeric field that cannot be negative.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|value| u64::try_from(value).ok())
}

/// A text field, which ends with its first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, wanted) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b" 644 \0\0\0", Some(0o644)),
            (b"        ", Some(0)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777\0", Some((1 << 33) - 1)),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(1 << 33)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\x80\0\0\0\0\0\0\0\0\0\0", None),
            (b"00x0644\0", None),
            (b"-1\0", None),
        ] {
            assert_eq!(number(field), wanted, "{field:?}");
        }
        assert_eq!(unsigned(b"\xff\xff\xff\xff"), None);
    }
}
