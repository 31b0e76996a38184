//! Compression, told by the first bytes and not by what a descriptor says.

use std::io::{self, BufReader, Cursor, Read};

const HEAD_BYTES: usize = 6;
const BUFFER_BYTES: usize = 256 << 10;

/// Decodes `reader`: gzip (several members), zstd (several frames), xz, bzip2, or as it is.
///
/// # Errors
/// The reader's.
pub fn decode(mut reader: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    (&mut reader).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let kind = head.clone();
    let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(reader));
    Ok(match kind.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        // A skippable frame may come first (RFC 8878, section 3.1.2).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(whole)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        _ => Box::new(whole),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn decoded(bytes: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        decode(Box::new(Cursor::new(bytes))).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn every_codec_is_told_by_its_first_bytes() {
        let text = b"the same text in every form";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(text).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(text).unwrap();
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        for (case, bytes) in [
            ("plain", text.to_vec()),
            ("gzip", gzip.clone()),
            ("xz", xz.finish().unwrap()),
            ("bzip2", bzip2.finish().unwrap()),
            ("zstd", zstd.clone()),
        ] {
            assert_eq!(decoded(bytes), text, "{case}");
        }
        assert_eq!(decoded([gzip.clone(), gzip].concat()), [&text[..], text].concat());
        assert_eq!(decoded([zstd.clone(), zstd].concat()), [&text[..], text].concat());
        assert_eq!(decoded(vec![]), b"");
    }
}
