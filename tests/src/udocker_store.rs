//! Repositories as PyPI's udocker 1.3 writes them, made here file by file: what our programs must read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::images::{Image, hex};
use crate::{TestEnv, run};

/// How udocker came by an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `pull`: `manifest` printed anew by Python, links to blobs.
    Pull,
    /// `pull` from a registry that has schema 1 alone.
    PullSchema1,
    /// `load` of a docker-archive.
    LoadDocker,
    /// `load` of an old docker-archive without `manifest.json`: the top layer's JSON is the configuration.
    LoadOldDocker,
    /// `load` of an OCI archive: no JSON per layer, and the configuration among the `.layer` files.
    LoadOci,
}

/// A store of udocker's below an environment.
pub struct UdockerStore<'a>(pub &'a TestEnv);

impl UdockerStore<'_> {
    fn write(&self, path: &Path, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("mkdir");
        fs::write(path, bytes).expect("write");
    }
    /// Makes the directories of an empty one.
    pub fn new(env: &TestEnv) -> UdockerStore<'_> {
        for name in ["repos", "layers", "containers", "bin", "lib", "doc"] {
            fs::create_dir_all(env.store().join(name)).expect("mkdir");
        }
        let store = UdockerStore(env);
        store.give();
        store
    }
    /// The directory of a tag.
    pub fn directory(&self, name: &str, tag: &str) -> PathBuf {
        self.0.store().join("repos").join(name).join(tag)
    }
    /// A file below `layers/`.
    pub fn layer(&self, name: &str) -> PathBuf {
        self.0.store().join("layers").join(name)
    }
    /// Begins a tag: `TAG` and the version.
    pub fn begin(&self, name: &str, tag: &str, version: &str) -> PathBuf {
        let directory = self.directory(name, tag);
        self.write(&directory.join("TAG"), format!("{}/{name}:{tag}", self.0.store().join("repos").display()));
        self.write(&directory.join(version), "");
        directory
    }
    /// Puts bytes below `layers/` as `file` and links them into a tag as `link`.
    pub fn link(&self, directory: &Path, link: &str, file: &str, bytes: &[u8]) {
        self.write(&self.layer(file), bytes);
        let depth = directory.strip_prefix(self.0.store()).expect("below the store").components().count();
        symlink(format!("{}layers/{file}", "../".repeat(depth)), directory.join(link)).expect("symlink");
    }
    /// An image of version 1: layers (lowest first) with their IDs and JSON, and a `container.json` as a file below `layers/`.
    pub fn put_v1(
        &self,
        (name, tag): (&str, &str),
        layers: &[(String, Vec<u8>, Option<Value>)],
        config: Option<(&str, &Value)>,
    ) {
        let directory = self.begin(name, tag, "v1");
        for (id, bytes, json) in layers {
            self.link(&directory, &format!("{id}.layer"), &format!("{id}.layer"), bytes);
            if let Some(json) = json {
                self.link(&directory, &format!("{id}.json"), &format!("{id}.json"), json.to_string().as_bytes());
            }
        }
        if let Some((file, config)) = config {
            self.link(&directory, "container.json", file, config.to_string().as_bytes());
        }
        let ids: Vec<_> = layers.iter().rev().map(|(id, ..)| id).collect();
        self.write(&directory.join("ancestry"), json!(ids).to_string());
        self.give();
    }
    /// `image` as udocker stores it after `origin`.
    pub fn put(&self, image: &Image, origin: Origin, name: &str, tag: &str) {
        let manifest = image.manifest("amd64");
        let config_digest = manifest["config"]["digest"].as_str().expect("text").to_owned();
        let config = fs::read(image.blob(&config_digest)).expect("a blob");
        let config: Value = serde_json::from_slice(&config).expect("our own JSON");
        let layers: Vec<(String, Vec<u8>)> = image
            .layers("amd64")
            .iter()
            .map(|path| fs::read(path).expect("a blob"))
            .map(|bytes| (hex(&Sha256::digest(&bytes)), bytes))
            .collect();
        match origin {
            Origin::Pull => {
                let directory = self.begin(name, tag, "v2");
                // Python puts blanks behind `,` and `:`, so the digest is another than the registry's.
                self.write(&directory.join("manifest"), manifest.to_string().replace("\":", "\": "));
                self.link(
                    &directory,
                    &config_digest,
                    &config_digest,
                    &fs::read(image.blob(&config_digest)).expect("blob"),
                );
                for (id, bytes) in &layers {
                    self.link(&directory, &format!("sha256:{id}"), &format!("sha256:{id}"), bytes);
                }
            }
            Origin::PullSchema1 => {
                let directory = self.begin(name, tag, "v2");
                let blobs: Vec<_> =
                    layers.iter().rev().map(|(id, _)| json!({"blobSum": format!("sha256:{id}")})).collect();
                let text = json!({"schemaVersion": 1, "name": name, "tag": tag, "architecture": "amd64",
                    "fsLayers": blobs, "history": [{"v1Compatibility": config.to_string()}]});
                self.write(&directory.join("manifest"), text.to_string());
                for (id, bytes) in &layers {
                    self.link(&directory, &format!("sha256:{id}"), &format!("sha256:{id}"), bytes);
                }
            }
            Origin::LoadOci => {
                let layers: Vec<_> = layers.into_iter().map(|(id, bytes)| (id, bytes, None)).collect();
                let file = format!("{}.layer", config_digest.trim_start_matches("sha256:"));
                self.put_v1((name, tag), &layers, Some((&file, &config)));
            }
            Origin::LoadDocker | Origin::LoadOldDocker => {
                let mut parent: Option<String> = None;
                let last = layers.len() - 1;
                let mut with_json = Vec::new();
                for (position, (id, bytes)) in layers.into_iter().enumerate() {
                    let is_top = position == last && origin == Origin::LoadOldDocker;
                    let mut json = if is_top { config.clone() } else { json!({"comment": "created by udocker"}) };
                    json["id"] = json!(id);
                    if let Some(parent) = parent.replace(id.clone()) {
                        json["parent"] = json!(parent);
                    }
                    with_json.push((id, bytes, Some(json)));
                }
                let file = format!("{}.json", config_digest.trim_start_matches("sha256:"));
                let config = (origin == Origin::LoadDocker).then_some((file.as_str(), &config));
                self.put_v1((name, tag), &with_json, config);
            }
        }
        self.give();
    }
    /// Gives everything to who runs our programs.
    pub fn give(&self) {
        if let Some(uid) = self.0.uid() {
            run(Command::new("chown").arg("-hR").arg(format!("{uid}:{uid}")).arg(self.0.store()));
        }
    }
}
