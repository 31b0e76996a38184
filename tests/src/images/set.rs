//! The images that the tests and benchmarks pull.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Format, Image, Layer, Packing, Recipe, hex};
use crate::random::Random;

/// An image of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Debian's static busybox with links for its applets; one layer.
    Busybox,
    /// The same as Docker schema 2.
    BusyboxDocker,
    /// Everything that a layer may hold, over five layers.
    Features,
    /// The same with the layers in zstd.
    FeaturesZstd,
    /// The same with the layers unpacked.
    FeaturesPlain,
    /// The same as Docker schema 2.
    FeaturesDocker,
    /// 100 layers.
    Many,
    /// An index over linux/amd64 and linux/arm64; `etc/arch` tells which.
    Multi,
    /// A program that only its owner may read (0711), in `/root` (0700), with data beside it.
    Private,
    /// One file, `etc/truth`.
    Truth,
    /// Another file, and the claim that its layer is the one of [`Kind::Truth`].
    Liar,
    /// Debian 12 minbase.
    Minbase,
    /// Debian 12 with a Python science stack: 8 layers.
    Science,
    /// The same with the layers in zstd.
    ScienceZstd,
    /// The same with the layers unpacked.
    SciencePlain,
    /// The same as Docker schema 2.
    ScienceDocker,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Busybox,
        Self::BusyboxDocker,
        Self::Features,
        Self::FeaturesZstd,
        Self::FeaturesPlain,
        Self::FeaturesDocker,
        Self::Many,
        Self::Multi,
        Self::Private,
        Self::Truth,
        Self::Liar,
        Self::Minbase,
        Self::Science,
        Self::ScienceZstd,
        Self::SciencePlain,
        Self::ScienceDocker,
    ];

    /// Returns the name within a registry.
    pub fn name(self) -> String {
        format!("{self:?}")
            .chars()
            .flat_map(|c| c.is_uppercase().then_some('-').into_iter().chain([c.to_ascii_lowercase()]))
            .skip(1)
            .collect()
    }

    /// Returns the image, made now if it is not there yet.
    pub fn image(self) -> Image {
        let recipe = [include_bytes!("set.rs").as_slice(), include_bytes!("layer.rs"), include_bytes!("build.rs")];
        let directory = cached(&self.name(), &[&recipe.concat(), &busybox(), DEBIAN_SH, LAYER_PY], |directory| {
            self.build(directory)
        });
        Image::open(&directory)
    }

    fn build(self, directory: &Path) {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let tars = |layers: Vec<Layer>| -> Vec<PathBuf> {
            let write = |(number, layer): (usize, Layer)| {
                let path = scratch.path().join(format!("{number}.tar"));
                fs::write(&path, layer.finish()).expect("a layer can be written");
                path
            };
            layers.into_iter().enumerate().map(write).collect()
        };
        let recipe = |layers| Recipe::new(tars(layers));
        let science = || Recipe::new(debian_tars());
        let done = match self {
            Self::Busybox => recipe(vec![busybox_layer()]),
            Self::BusyboxDocker => Recipe { format: Format::DockerSchema2, ..recipe(vec![busybox_layer()]) },
            Self::Features => recipe(features()),
            Self::FeaturesZstd => Recipe { packing: Packing::Zstd, ..recipe(features()) },
            Self::FeaturesPlain => Recipe { packing: Packing::Plain, ..recipe(features()) },
            Self::FeaturesDocker => Recipe { format: Format::DockerSchema2, ..recipe(features()) },
            Self::Many => recipe(many()),
            Self::Multi => {
                let images = ["amd64", "arm64"].map(|architecture| {
                    let layer = busybox_layer().file("etc/arch", 0o644, format!("{architecture}\n"));
                    let recipe = Recipe { architecture, ..recipe(vec![layer]) };
                    recipe.write(&scratch.path().join(architecture))
                });
                Image::index(directory, &images);
                return;
            }
            Self::Private => {
                let layer = busybox_layer()
                    .directory("root/private", 0o700)
                    .file("root/private/busybox", 0o711, busybox())
                    .file("root/private/data", 0o600, "for the owner alone\n");
                Recipe { config: json!({"Env": ["PATH=/bin"], "WorkingDir": "/"}), ..recipe(vec![layer]) }
            }
            Self::Truth => recipe(vec![busybox_layer().file("etc/truth", 0o644, "true\n")]),
            Self::Liar => {
                let claimed = Some(Self::Truth.image().diff_ids());
                Recipe { claimed, ..recipe(vec![busybox_layer().file("etc/truth", 0o644, "a lie\n")]) }
            }
            Self::Minbase => Recipe::new(debian_tars()[..1].to_vec()),
            Self::Science => science(),
            Self::ScienceZstd => Recipe { packing: Packing::Zstd, ..science() },
            Self::SciencePlain => Recipe { packing: Packing::Plain, ..science() },
            Self::ScienceDocker => Recipe { format: Format::DockerSchema2, ..science() },
        };
        done.write(directory);
    }
}

/// Returns the directory `NAME-HASH` of the cache, filled by `make` if it is new; HASH covers `recipe`.
///
/// Processes that want the same one wait for the first; a failed one leaves nothing that counts.
pub fn cached(name: &str, recipe: &[&[u8]], make: impl FnOnce(&Path)) -> PathBuf {
    let mut hash = Sha256::new();
    for part in recipe {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let name = format!("{name}-{}", &hex(&hash.finalize())[..16]);
    let cache = crate::image_cache();
    let directory = cache.join(&name);
    if directory.exists() {
        return directory;
    }
    let lock = fs::File::create(cache.join(format!("{name}.lock"))).expect("a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    if !directory.exists() {
        let unfinished = cache.join(format!("{name}.unfinished"));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).expect("what a killed process left goes");
        }
        fs::create_dir_all(&unfinished).expect("a directory can be made");
        make(&unfinished);
        fs::rename(&unfinished, &directory).expect("rename of our own");
    }
    directory
}

const DEBIAN_SH: &[u8] = include_bytes!("../../images/debian.sh");
const LAYER_PY: &[u8] = include_bytes!("../../images/layer.py");

/// Runs a script of `images`, which makes things in `directory`.
fn make_by(script: &str, directory: &Path) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("images").join(script);
    let output = Command::new(path).arg(directory).output().expect("bash is there");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "images/{script} (package mmdebstrap): {}\n{text}", output.status);
}

const PROOT_SH: &[u8] = include_bytes!("../../images/proot.sh");

/// Returns the root of a later Debian with PRoot 5.4 and its libraries.
pub fn newer_proot() -> PathBuf {
    cached("proot", &[PROOT_SH], |directory| make_by("proot.sh", directory)).join("root")
}

/// Returns the tars of the Debian images' layers, lowest first: the first alone is minbase.
pub fn debian_tars() -> Vec<PathBuf> {
    let directory = cached("debian", &[DEBIAN_SH, LAYER_PY], |directory| make_by("debian.sh", directory));
    (1..=8).map(|number| directory.join(format!("{number}.tar"))).collect()
}

/// Debian's static busybox.
fn busybox() -> Vec<u8> {
    fs::read("/bin/busybox").expect("/bin/busybox of the package busybox-static")
}

/// A small root: busybox, links for its applets, accounts.
pub fn busybox_layer() -> Layer {
    let layer = Layer::new().directories(&["bin", "dev", "etc", "proc", "root", "sys", "usr", "usr/bin", "var"]);
    let layer = layer.directory("tmp", 0o1777).file("bin/busybox", 0o755, busybox());
    let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
    let applets = String::from_utf8(list.stdout).expect("names of applets");
    let layer = applets
        .lines()
        .filter(|name| *name != "busybox")
        .fold(layer, |layer, name| layer.symlink(&format!("bin/{name}"), "busybox"));
    layer.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n").file(
        "etc/group",
        0o644,
        "root:x:0:\ndaemon:x:1:\n",
    )
}

/// Everything that a layer may hold, over five layers; names with and without `./`.
fn features() -> Vec<Layer> {
    let mut random = Random::new(1);
    let long = format!("long/{}/{}", "n".repeat(200), "m".repeat(90));
    let deep: Vec<String> = (1..=40).map(|depth| format!("deep{}", "/d".repeat(depth))).collect();
    let base = busybox_layer()
        .directories(&[
            "a",
            "a/b",
            "a/b/c",
            "opaque",
            "opaque/sub",
            "becomes-file",
            "becomes-file/in",
            "modes",
            "times",
            "long",
        ])
        .directory(long.rsplit_once('/').expect("two parts").0, 0o755)
        .file(&long, 0o644, "long name\n")
        .symlink("long/link", &"t".repeat(300))
        .file("a/one", 0o644, "one\n")
        .file("a/b/two", 0o644, "two\n")
        .hard_link("a/b/one-too", "a/one")
        .hard_link("a/b/c/one-again", "a/b/one-too")
        .file("a/empty", 0o644, "")
        .file("a/big", 0o644, random.bytes(3_000_001))
        .file("opaque/old", 0o644, "old\n")
        .file("opaque/sub/old", 0o644, "old\n")
        .file("becomes-file/in/x", 0o644, "x\n")
        .file("becomes-directory", 0o644, "file\n")
        .symlink("becomes-real", "a")
        .file("becomes-link", 0o644, "file\n")
        .file("gone", 0o644, "gone\n")
        .directory("gone-directory", 0o755)
        .file("gone-directory/x", 0o644, "x\n")
        .symlink("absolute", "/etc/passwd")
        .symlink("dangling", "../../nowhere")
        .file("n\u{e4}me with blank\nand newline", 0o644, "odd\n")
        .file("modes/none", 0o000, "no one\n")
        .file("modes/setuid", 0o4755, "set-id\n")
        .file("modes/setgid", 0o2711, "set-id\n")
        .file("modes/sticky", 0o1644, "sticky\n")
        .directory("modes/closed", 0o000)
        .file("modes/closed/in", 0o400, "in\n")
        .directory("modes/setgid-directory", 0o2775)
        .at(0)
        .file("times/epoch", 0o644, "0\n")
        .at(4_000_000_000)
        .file("times/future", 0o644, "later\n")
        .at(super::EPOCH)
        .pax(&[("mtime", b"1600000000.123456789")])
        .file("times/nanoseconds", 0o644, "ns\n");
    let base = deep.iter().fold(base.directory("deep", 0o755), |layer, name| layer.directory(name, 0o755));
    let second = Layer::dotted()
        .directories(&["a", "a/b", "opaque"])
        .whiteout("gone")
        .whiteout("gone-directory")
        .whiteout("a/b/two")
        .opaque("opaque")
        .file("opaque/new", 0o644, "new\n");
    let third = Layer::new()
        .file("becomes-file", 0o600, "now a file\n")
        .directory("becomes-directory", 0o750)
        .file("becomes-directory/in", 0o644, "in\n")
        .directory("becomes-real", 0o755)
        .file("becomes-real/in", 0o644, "not in a\n")
        .symlink("becomes-link", "a/one")
        .file("a/one", 0o640, "one of the third layer\n");
    // A name that is hidden and made again in one layer, and one that comes back after it was gone.
    let fourth = Layer::dotted()
        .directories(&["a", "a/b", "a/b/c"])
        .whiteout("a/b/c")
        .file("a/b/c/made-again", 0o644, "again\n")
        .file("gone", 0o644, "back\n")
        .hard_link("gone-too", "gone");
    let last = Layer::new().directories(&["var", "var/empty"]).opaque("var/empty").file("etc/release", 0o644, "5\n");
    vec![base, second, third, fourth, last]
}

/// Busybox and 99 layers of some files; each third hides one of the layer below, all write `opt/current`.
fn many() -> Vec<Layer> {
    let mut random = Random::new(2);
    let mut layers = vec![busybox_layer()];
    for number in 1..100 {
        let name = format!("opt/l{number:02}");
        let mut layer = Layer::new().directories(&["opt", &name]).file("opt/current", 0o644, format!("{number}\n"));
        for file in 0..20 {
            let length = *random.one_of(&[100, 900, 3000, 9000]);
            layer = layer.file(&format!("{name}/f{file:02}"), 0o644, random.bytes(length));
        }
        if number > 1 && number % 3 == 0 {
            let below = format!("opt/l{:02}", number - 1);
            layer = layer.directory(&below, 0o755).whiteout(&format!("{below}/f00"));
        }
        layers.push(layer);
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_with_hyphens() {
        assert_eq!(Kind::BusyboxDocker.name(), "busybox-docker");
        assert_eq!(Kind::Many.name(), "many");
    }
}
