//! Extraction of one layer of 2000 files of 4 kB from memory, per codec.

use std::io::{self, Read};
use std::os::fd::AsFd;

use divan::Bencher;
use udocker_core::digest::Digest;
use udocker_core::store::TreeFormat;
use udocker_transfer::extract::{FlattenOptions, LayerSource, flatten};

fn main() {
    divan::main();
}

struct Layer(Digest, Vec<u8>);

impl LayerSource for Layer {
    fn digest(&self) -> &Digest {
        &self.0
    }
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.1.clone())))
    }
}

fn layer(codec: &str) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    for number in 0..2000u32 {
        let content: Vec<u8> = (0..1024u32).flat_map(|word| (word * number % 251).to_le_bytes()).collect();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("d{}/f{number}", number % 40), &*content).expect("a tar in memory");
    }
    let plain = tar.into_inner().expect("a tar in memory");
    let packed = match codec {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            io::Write::write_all(&mut encoder, &plain).expect("memory");
            encoder.finish().expect("memory")
        }
        "zstd" => zstd::encode_all(&*plain, 3).expect("memory"),
        _ => plain,
    };
    Layer(Digest::sha256_of(&packed), packed)
}

#[divan::bench(args = ["plain", "gzip", "zstd"], sample_count = 20)]
fn one_layer(bencher: Bencher<'_, '_>, codec: &str) {
    let layer = layer(codec);
    let options = FlattenOptions { format: TreeFormat::Private1, max_bytes: 1 << 30, max_entries: 1 << 20 };
    bencher.with_inputs(|| tempfile::tempdir().expect("a directory")).bench_refs(|directory| {
        let root = std::fs::File::open(directory.path()).expect("it was made");
        flatten(&[&layer], root.as_fd(), &options).expect("a good layer")
    });
}
