//! An image into a registry's storage, as its own upload leaves it, without copying the blobs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::Image;

impl Image {
    /// Puts the image into `storage`, the root directory of a docker-registry, as `repository:tag`.
    ///
    /// Blobs become links to the image's: a gigabyte is there at once and lies on the disk once.
    pub(crate) fn publish(&self, storage: &Path, repository: &str, tag: &str) {
        let base = storage.join("docker/registry/v2");
        let links = base.join("repositories").join(repository);
        let document = self.document();
        let mut manifests = vec![self.digest()];
        if let Some(entries) = document["manifests"].as_array() {
            manifests.extend(entries.iter().map(|entry| text(&entry["digest"])));
        }
        for digest in &manifests {
            put_blob(&base, self, digest);
            put_link(&links.join("_manifests/revisions").join(digest.replace(':', "/")), digest);
            let manifest: Value =
                serde_json::from_slice(&fs::read(self.blob(digest)).expect("a blob")).expect("our own JSON");
            let layers = manifest["layers"].as_array().into_iter().flatten();
            for blob in layers.chain(manifest.get("config")).map(|blob| text(&blob["digest"])) {
                put_blob(&base, self, &blob);
                put_link(&links.join("_layers").join(blob.replace(':', "/")), &blob);
            }
        }
        let tag = links.join("_manifests/tags").join(tag);
        put_link(&tag.join("index").join(manifests[0].replace(':', "/")), &manifests[0]);
        put_link(&tag.join("current"), &manifests[0]);
    }
}

fn put_blob(base: &Path, image: &Image, digest: &str) {
    let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
    let directory = base.join("blobs/sha256").join(&hex[..2]).join(hex);
    fs::create_dir_all(&directory).expect("a directory can be made");
    if !directory.join("data").exists() {
        symlink(image.blob(digest), directory.join("data")).expect("a link can be made");
    }
}

fn put_link(directory: &Path, digest: &str) {
    fs::create_dir_all(directory).expect("a directory can be made");
    fs::write(directory.join("link"), digest).expect("a link can be written");
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").into()
}
