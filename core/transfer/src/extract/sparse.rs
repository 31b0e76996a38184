//! Sparse files: where their data go, in GNU's four forms (tar manual, "Storing Sparse Files").

use std::io;

use super::header::{BLOCK, ByteSource, MAX_EXTENSION_BYTES, ended, unsigned};
use super::pax::{PaxSparse, decimal};

/// Data segments in rising order, and the size of the whole file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SparseMap {
    pub real_size: u64,
    /// Offset and length in bytes; none is empty.
    pub segments: Vec<(u64, u64)>,
}

impl SparseMap {
    /// A map whose segments rise, do not overlap, and end within the file; `None` otherwise.
    fn checked(real_size: u64, pairs: impl Iterator<Item = (u64, u64)>) -> Option<Self> {
        let mut segments = Vec::new();
        let mut end = 0;
        for (offset, length) in pairs {
            if offset < end || offset.checked_add(length)? > real_size {
                return None;
            }
            end = offset + length;
            // The last pair of a file that ends in a hole is empty.
            if length > 0 {
                segments.push((offset, length));
            }
        }
        i64::try_from(real_size).ok()?;
        Some(Self { real_size, segments })
    }

    /// Whether the segments take exactly so many bytes of the archive.
    pub fn is_of(&self, data_bytes: u64) -> bool {
        self.segments.iter().map(|(_, length)| length).sum::<u64>() == data_bytes
    }
}

/// A map, or `None` if it is wrong.
type Map = io::Result<Option<SparseMap>>;

/// The oldest form: pairs in the header, more in blocks behind it.
pub(super) fn read_old_gnu(source: &mut impl ByteSource, header: &tar::GnuHeader) -> Map {
    let mut pairs: Vec<(Option<u64>, Option<u64>)> = Vec::new();
    let mut add = |entries: &[tar::GnuSparseHeader]| {
        let used = entries.iter().filter(|entry| entry.numbytes[0] != 0 || entry.offset[0] != 0);
        pairs.extend(used.map(|entry| (unsigned(&entry.offset), unsigned(&entry.numbytes))));
    };
    add(&header.sparse);
    let mut more = header.isextended[0] != 0;
    let mut read = 0;
    while more {
        let mut block = tar::GnuExtSparseHeader::new();
        if source.fill(block.as_mut_bytes())? < BLOCK {
            return Err(ended());
        }
        read += BLOCK as u64;
        if read > MAX_EXTENSION_BYTES {
            return Ok(None);
        }
        add(&block.sparse);
        more = block.isextended[0] != 0;
    }
    let pairs: Option<Vec<(u64, u64)>> = pairs.into_iter().map(|(offset, length)| offset.zip(length)).collect();
    Ok(unsigned(&header.realsize).zip(pairs).and_then(|(size, pairs)| SparseMap::checked(size, pairs.into_iter())))
}

/// The pax forms; of 1.0 the map comes first in the data, and `data_bytes` is lowered by it.
pub(super) fn read_pax(source: &mut impl ByteSource, pax: &PaxSparse, data_bytes: &mut u64) -> Option<Map> {
    let real_size = pax.real_size?;
    let numbers: Option<Vec<u64>> = match (pax.major, pax.minor) {
        (Some(1), Some(0)) => match read_map(source, data_bytes) {
            Ok(numbers) => numbers,
            Err(error) => return Some(Err(error)),
        },
        (None | Some(0), _) => match &pax.map {
            Some(map) => map.split(|byte| *byte == b',').map(decimal).collect(),
            None => Some(pax.pairs.clone()),
        },
        _ => None,
    };
    let pairs = numbers.filter(|numbers| numbers.len() % 2 == 0);
    let map = pairs.and_then(|numbers| SparseMap::checked(real_size, numbers.chunks_exact(2).map(|p| (p[0], p[1]))));
    Some(Ok(map))
}

/// Form 1.0: a count and then so many pairs, one number a line, padded to whole blocks.
fn read_map(source: &mut impl ByteSource, data_bytes: &mut u64) -> io::Result<Option<Vec<u64>>> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut digits: Vec<u8> = Vec::new();
    let mut count = None;
    let mut read = 0;
    while count.is_none_or(|count| (numbers.len() as u64) < count) {
        let mut block = [0; BLOCK];
        read += BLOCK as u64;
        if read > MAX_EXTENSION_BYTES || read > *data_bytes {
            return Ok(None);
        }
        if source.fill(&mut block)? < BLOCK {
            return Err(ended());
        }
        for byte in block {
            if byte != b'\n' {
                digits.push(byte);
                continue;
            }
            let Some(number) = decimal(&digits) else { return Ok(None) };
            digits.clear();
            match count {
                None => match number.checked_mul(2) {
                    Some(pairs) => count = Some(pairs),
                    None => return Ok(None),
                },
                Some(_) => numbers.push(number),
            }
            if count == Some(numbers.len() as u64) {
                break;
            }
        }
    }
    *data_bytes -= read;
    Ok(Some(numbers))
}
