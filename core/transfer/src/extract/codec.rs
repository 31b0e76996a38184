//! Compression, told by the first bytes and not by what a descriptor says.

use std::io::{self, BufReader, Cursor, Read};

const HEAD_BYTES: usize = 6;
/// Of one decoder: twice what `xz -9` needs and what zstd takes at most; a header may ask for 4 GiB.
const XZ_MEMORY_BYTES: u64 = 128 << 20;
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
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(whole, stream))
        }
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

    #[test]
    fn an_xz_header_does_not_say_how_much_memory_is_taken() {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(b"small").unwrap();
        let mut bytes = xz.finish().unwrap();
        // The block's header: its length in words less one, flags, filter 0x21, one byte of properties, and its checksum.
        let end = 12 + usize::from(bytes[12]) * 4;
        assert_eq!(bytes[14..16], [0x21, 1]);
        bytes[16] = 40;
        let mut checksum = flate2::Crc::new();
        checksum.update(&bytes[12..end]);
        bytes[end..end + 4].copy_from_slice(&checksum.sum().to_le_bytes());
        let error = decode(Box::new(Cursor::new(bytes))).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }
}
