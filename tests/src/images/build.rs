//! Layers, a configuration and a manifest as an OCI layout.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Whose media types the manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Oci,
    DockerSchema2,
}

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The layers' tars, lowest first.
    pub layers: Vec<PathBuf>,
    pub packing: Packing,
    pub format: Format,
    /// `architecture` of the configuration.
    pub architecture: &'static str,
    /// `config` of the configuration: Env, Cmd, User …
    pub config: Value,
    /// `rootfs.diff_ids`, if they are to be a lie.
    pub claimed: Option<Vec<String>>,
}

impl Recipe {
    /// gzip layers in the OCI format for amd64, with a usual PATH.
    pub fn new(layers: Vec<PathBuf>) -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Self {
            layers,
            packing: Packing::Gzip,
            format: Format::Oci,
            architecture: "amd64",
            config: json!({"Env": [path], "Cmd": ["/bin/sh"]}),
            claimed: None,
        }
    }

    /// Writes the image into `directory`, as the only tag `latest` of an OCI layout.
    pub fn write(&self, directory: &Path) -> Image {
        let image = Image::empty(directory);
        let (suffix, media) = match (self.format, self.packing) {
            (Format::Oci, Packing::Plain) => ("", "application/vnd.oci.image.layer.v1.tar"),
            (Format::Oci, Packing::Gzip) => ("+gzip", "application/vnd.oci.image.layer.v1.tar"),
            (Format::Oci, Packing::Zstd) => ("+zstd", "application/vnd.oci.image.layer.v1.tar"),
            (Format::DockerSchema2, Packing::Gzip) => (".gzip", "application/vnd.docker.image.rootfs.diff.tar"),
            (Format::DockerSchema2, packing) => panic!("schema 2 has no media type for {packing:?}"),
        };
        // One thread a layer: the large ones take a processor each for seconds.
        let written: Vec<(String, String, u64)> = std::thread::scope(|scope| {
            let jobs: Vec<_> =
                self.layers.iter().map(|tar| scope.spawn(|| image.put_layer(tar, self.packing))).collect();
            jobs.into_iter().map(|job| job.join().expect("a layer can be packed")).collect()
        });
        let diff_ids: Vec<_> = written.iter().map(|(diff_id, ..)| diff_id.clone()).collect();
        let config = image.put(
            json!({
                "created": "2023-11-14T22:13:20Z", "architecture": self.architecture, "os": "linux", "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": self.claimed.as_ref().unwrap_or(&diff_ids)},
            })
            .to_string()
            .as_bytes(),
        );
        let (manifest_type, config_type) = match self.format {
            Format::Oci => ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"),
            Format::DockerSchema2 => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
            ),
        };
        let layers: Vec<_> = written
            .iter()
            .map(|(_, digest, size)| json!({"mediaType": format!("{media}{suffix}"), "digest": digest, "size": size}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type, "layers": layers,
            "config": {"mediaType": config_type, "digest": config.0, "size": config.1},
        });
        image.set_latest(manifest_type, manifest.to_string().as_bytes(), self.architecture);
        image
    }
}

/// An image as an OCI layout.
#[derive(Debug, Clone)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// Opens a layout that was written.
    pub fn open(directory: &Path) -> Self {
        Self { directory: directory.into() }
    }

    fn empty(directory: &Path) -> Self {
        fs::create_dir_all(directory.join("blobs/sha256")).expect("a layout can be made");
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a layout can be written");
        Self::open(directory)
    }

    /// Writes an index over the images, which must be for different architectures.
    pub fn index(directory: &Path, images: &[Image]) -> Self {
        let index = Self::empty(directory);
        let mut entries = Vec::new();
        for image in images {
            for blob in fs::read_dir(image.directory.join("blobs/sha256")).expect("a layout has blobs") {
                let blob = blob.expect("a readable directory");
                fs::copy(blob.path(), index.blob(&format!("sha256:{}", blob.file_name().to_string_lossy())))
                    .expect("copy");
            }
            let mut entry = image.latest();
            entry.as_object_mut().expect("a descriptor").remove("annotations");
            entries.push(entry);
        }
        let media = "application/vnd.oci.image.index.v1+json";
        let document = json!({"schemaVersion": 2, "mediaType": media, "manifests": entries});
        index.set_latest(media, document.to_string().as_bytes(), "");
        index
    }

    /// Returns the directory of the layout.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.strip_prefix("sha256:").expect("a sha256 digest"))
    }

    /// Returns the descriptor of tag `latest`.
    pub fn latest(&self) -> Value {
        let bytes = fs::read(self.directory.join("index.json")).expect("a layout has an index");
        let index: Value = serde_json::from_slice(&bytes).expect("our own JSON");
        index["manifests"][0].clone()
    }

    /// Returns the digest of tag `latest`: of its manifest, or of its index.
    pub fn digest(&self) -> String {
        self.latest()["digest"].as_str().expect("a descriptor has a digest").into()
    }

    /// Returns the document of tag `latest`.
    pub fn document(&self) -> Value {
        serde_json::from_slice(&fs::read(self.blob(&self.digest())).expect("a blob")).expect("our own JSON")
    }

    /// Returns the manifest; of an index, the one for `architecture`.
    pub fn manifest(&self, architecture: &str) -> Value {
        let document = self.document();
        let Some(entries) = document["manifests"].as_array() else { return document };
        let wanted = |entry: &&Value| entry["platform"]["architecture"] == architecture;
        let digest = entries.iter().find(wanted).expect("the architecture is there")["digest"].clone();
        serde_json::from_slice(&fs::read(self.blob(digest.as_str().expect("text"))).expect("a blob"))
            .expect("our own JSON")
    }

    /// Returns the layers' blobs, lowest first.
    pub fn layers(&self, architecture: &str) -> Vec<PathBuf> {
        let manifest = self.manifest(architecture);
        let layers = manifest["layers"].as_array().expect("a manifest has layers");
        layers.iter().map(|layer| self.blob(layer["digest"].as_str().expect("text"))).collect()
    }

    /// Returns the digests that the configuration claims of the layers.
    pub fn diff_ids(&self) -> Vec<String> {
        let config = self.blob(self.document()["config"]["digest"].as_str().expect("text"));
        let config: Value = serde_json::from_slice(&fs::read(config).expect("a blob")).expect("our own JSON");
        let ids = config["rootfs"]["diff_ids"].as_array().expect("a configuration has them");
        ids.iter().map(|id| id.as_str().expect("text").to_owned()).collect()
    }

    fn put(&self, bytes: &[u8]) -> (String, usize) {
        let digest = format!("sha256:{}", hex(&Sha256::digest(bytes)));
        fs::write(self.blob(&digest), bytes).expect("a blob can be written");
        (digest, bytes.len())
    }

    /// Packs a tar; returns its own digest, the blob's and the blob's size.
    fn put_layer(&self, tar: &Path, packing: Packing) -> (String, String, u64) {
        // One tar may be several layers, which are packed at once.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let packed = self.directory.join(format!(".packed-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let out = Hashing::new(File::create(&packed).expect("a blob can be written"));
        let mut source = Hashing::new(File::open(tar).expect("a layer's tar"));
        let out = match packing {
            Packing::Plain => {
                let mut out = out;
                io::copy(&mut source, &mut out).expect("copy");
                out
            }
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
                io::copy(&mut source, &mut encoder).expect("gzip");
                encoder.finish().expect("gzip")
            }
            Packing::Zstd => {
                let mut encoder = zstd::Encoder::new(out, 3).expect("zstd");
                io::copy(&mut source, &mut encoder).expect("zstd");
                encoder.finish().expect("zstd")
            }
        };
        let (digest, size) = out.finish();
        fs::rename(packed, self.blob(&digest)).expect("rename of our own");
        (source.finish().0, digest, size)
    }

    fn set_latest(&self, media: &str, document: &[u8], architecture: &str) {
        let (digest, size) = self.put(document);
        let mut entry = json!({"mediaType": media, "digest": digest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": "latest"}});
        if !architecture.is_empty() {
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
        }
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.directory.join("index.json"), index.to_string()).expect("a layout can be written");
    }
}

/// Returns lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts and hashes what passes.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    size: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }
    fn finish(self) -> (String, u64) {
        (format!("sha256:{}", hex(&self.hash.finalize())), self.size)
    }
    fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count(&buffer[..count]);
        Ok(count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.count(&buffer[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
