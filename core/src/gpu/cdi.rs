//! CDI specifications (Container Device Interface 1.1.0): which files and variables show a device. They are read by us and applied
//! natively; no hook of a vendor's is run.
//!
//! Of hooks two have an effect that programs need, and they are met by other means: `update-ldcache` (libraries below its folders
//! are mounted under their SONAMEs in a directory that LD_LIBRARY_PATH names) and `create-symlinks` for links in such folders.
//! The others of NVIDIA's change nothing that a program without privileges could see; those of other vendors are told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::driver::{LIBRARIES, PROGRAMS, soname};
use super::error::GpuError;
use super::{Bundle, BundleMount, CdiName};

/// The versions whose fields are known below.
const NEWEST: (u32, u32) = (1, 1);
/// A longer file is none.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    cdi_version: String,
    kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: IgnoredAny,
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: IgnoredAny,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    hooks: Vec<Hook>,
    /// Who runs a container without privileges keeps the groups that he has.
    #[serde(rename = "additionalGids")]
    _additional_gids: IgnoredAny,
    #[serde(rename = "intelRdt")]
    intel_rdt: Option<IgnoredAny>,
    #[serde(rename = "netDevices")]
    net_devices: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    #[serde(default, rename = "type")]
    _kind: IgnoredAny,
    #[serde(default, rename = "major")]
    _major: IgnoredAny,
    #[serde(default, rename = "minor")]
    _minor: IgnoredAny,
    #[serde(default, rename = "fileMode")]
    _file_mode: IgnoredAny,
    #[serde(default, rename = "permissions")]
    _permissions: IgnoredAny,
    #[serde(default, rename = "uid")]
    _uid: IgnoredAny,
    #[serde(default, rename = "gid")]
    _gid: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Mount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Hook {
    #[serde(rename = "hookName")]
    _name: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default, rename = "env")]
    _env: IgnoredAny,
    #[serde(default, rename = "timeout")]
    _timeout: IgnoredAny,
}

/// The specifications of some directories.
#[derive(Debug, Default)]
pub struct Registry {
    /// Of each file, the place of its directory in the order of precedence.
    specs: Vec<(usize, PathBuf, Spec)>,
    /// Files that could not be read, and why.
    unread: Vec<(PathBuf, String)>,
}

/// What devices come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Device files: on the host, and inside.
    pub nodes: Vec<(PathBuf, PathBuf)>,
    /// Files and variables.
    pub bundle: Bundle,
    /// Hooks of which nothing is done.
    pub hooks: Vec<String>,
}

impl Registry {
    /// Reads the `*.json` of `directories` that exist; a device of a later directory takes the place of an earlier one's. Files
    /// must be `owner`'s, 0 but in tests, and nobody else's to write: what they say goes beyond what the site lets users mount.
    pub fn read(directories: &[PathBuf], owner: u32) -> Self {
        let mut registry = Self::default();
        for (place, directory) in directories.iter().enumerate() {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
            files.sort();
            for path in files {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => match read(&path, owner) {
                        Ok(spec) => registry.specs.push((place, path, spec)),
                        Err(why) => registry.unread.push((path, why)),
                    },
                    Some("yaml" | "yml") => registry.unread.push((path, "only JSON is read".into())),
                    _ => {}
                }
            }
        }
        registry
    }

    /// Files that could not be read, and why.
    pub fn unread(&self) -> &[(PathBuf, String)] {
        &self.unread
    }

    /// The names of all devices, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .specs
            .iter()
            .flat_map(|(_, _, spec)| spec.devices.iter().map(|device| format!("{}={}", spec.kind, device.name)))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// What the devices `names` come to: what their specifications say of all devices once, then what is said of each.
    ///
    /// # Errors
    /// [`GpuError::NoDevice`], [`GpuError::TwoSpecs`], [`GpuError::Edit`].
    pub fn apply(&self, names: &[CdiName]) -> Result<Applied, GpuError> {
        let mut used: Vec<&Path> = Vec::new();
        let mut edits: Vec<(&Path, &Edits)> = Vec::new();
        for name in names {
            let (path, spec, device) = self.find(name)?;
            if !used.contains(&path) {
                used.push(path);
                edits.push((path, &spec.container_edits));
            }
            edits.push((path, &device.container_edits));
        }
        let mut applied = Applied::default();
        let mut env = BTreeMap::new();
        let folders = edits.iter().flat_map(|(_, edits)| edits.library_folders()).collect::<Vec<_>>();
        for (path, edits) in &edits {
            let wrong = |why: &str| GpuError::Edit { path: (*path).to_owned(), why: why.into() };
            if edits.intel_rdt.is_some() || edits.net_devices.is_some() {
                return Err(wrong("it asks for intelRdt or netDevices, which need privileges"));
            }
            for entry in &edits.env {
                let (name, value) = entry.split_once('=').ok_or_else(|| wrong("a variable in it has no `=`"))?;
                env.insert(name.to_owned(), value.to_owned());
            }
            for node in &edits.device_nodes {
                let host = node.host_path.as_ref().unwrap_or(&node.path);
                if !is_plain(host) || !is_plain(&node.path) {
                    return Err(wrong("a device in it has no absolute path"));
                }
                applied.nodes.push((host.clone(), node.path.clone()));
            }
            for mount in &edits.mounts {
                if !is_plain(&mount.host_path) || !is_plain(&mount.container_path) {
                    return Err(wrong("a mount in it has no absolute path"));
                }
                if mount.kind.as_deref().is_some_and(|kind| !matches!(kind, "bind" | "none" | "")) {
                    return Err(wrong("a mount in it is no bind"));
                }
                applied.bundle.mounts.push(mount.place(&folders));
            }
            let links = links(edits, &folders, &applied.bundle.mounts);
            applied.bundle.mounts.extend(links);
            applied.hooks.extend(edits.hooks.iter().filter(|hook| !hook.is_met()).map(Hook::shown));
        }
        applied.nodes.dedup();
        applied.bundle.env = env.into_iter().collect();
        applied.bundle.origin = used.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let mut seen = Vec::new();
        applied.bundle.mounts.retain(|mount| {
            let is_new = !seen.contains(&mount.target);
            seen.push(mount.target.clone());
            is_new
        });
        Ok(applied)
    }

    fn find(&self, name: &CdiName) -> Result<(&Path, &Spec, &Device), GpuError> {
        let all = self.specs.iter().filter(|(_, _, spec)| spec.kind == name.kind).filter_map(|(place, path, spec)| {
            let device = spec.devices.iter().find(|device| device.name == name.name)?;
            Some((*place, path.as_path(), spec, device))
        });
        let found: Vec<_> = all.collect();
        let Some((place, path, spec, device)) = found.last() else {
            return Err(GpuError::NoDevice { name: name.clone(), there: self.names(), unread: self.unread.clone() });
        };
        match found.iter().rev().nth(1).filter(|other| other.0 == *place) {
            Some(other) => {
                Err(GpuError::TwoSpecs { name: name.clone(), paths: [other.1.to_owned(), (*path).to_owned()] })
            }
            None => Ok((path, spec, device)),
        }
    }
}

fn read(path: &Path, owner: u32) -> Result<Spec, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let status = file.metadata().map_err(|error| error.to_string())?;
    if !status.is_file() || status.uid() != owner || status.mode() & 0o022 != 0 {
        return Err(format!("others than uid {owner} can write it"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut parts = spec.cdi_version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) <= NEWEST => Ok(spec),
        _ => Err(format!("it is of CDI version {}, and 1.1 is the newest that is read", spec.cdi_version)),
    }
}

impl Edits {
    /// The folders whose libraries the loader shall find.
    fn library_folders(&self) -> impl Iterator<Item = &Path> {
        self.hooks
            .iter()
            .filter(|hook| hook.does("update-ldcache"))
            .flat_map(|hook| hook.values("--folder"))
            .map(Path::new)
    }
}

impl Mount {
    /// Libraries that the loader shall find get their SONAMEs in [`LIBRARIES`], programs a place on PATH; all else stays.
    fn place(&self, folders: &[&Path]) -> BundleMount {
        let read_only = self.options.iter().any(|option| option == "ro");
        let (directory, name) = (self.container_path.parent(), self.container_path.file_name());
        let text = name.and_then(|name| name.to_str()).unwrap_or_default();
        let target = match directory {
            Some(directory) if text.contains(".so") && folders.contains(&directory) => {
                Path::new(LIBRARIES).join(soname(&self.host_path).unwrap_or_else(|| text.to_owned()))
            }
            Some(directory)
                if ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|bin| directory == Path::new(bin)) =>
            {
                Path::new(PROGRAMS).join(text)
            }
            _ => self.container_path.clone(),
        };
        BundleMount { source: self.host_path.clone(), target, read_only }
    }
}

/// The links of `create-symlinks` in `folders`, each as a mount of what it leads to.
fn links(edits: &Edits, folders: &[&Path], mounts: &[BundleMount]) -> Vec<BundleMount> {
    let hooks = edits.hooks.iter().filter(|hook| hook.does("create-symlinks"));
    let pairs = hooks.flat_map(|hook| hook.values("--link")).filter_map(|link| link.split_once("::"));
    let of = |(target, link): (&str, &str)| {
        let link = Path::new(link);
        let (directory, name) = (link.parent()?, link.file_name()?);
        let place = Path::new(LIBRARIES).join(Path::new(target).file_name()?);
        let found = mounts.iter().find(|mount| folders.contains(&directory) && mount.target == place)?;
        Some(BundleMount { target: Path::new(LIBRARIES).join(name), ..found.clone() })
    };
    pairs.filter_map(of).collect()
}

impl Hook {
    /// What it is called in the words of NVIDIA's toolkit.
    fn action(&self) -> Option<&str> {
        self.args.iter().skip(1).map(String::as_str).find(|word| !matches!(*word, "hook" | "--quiet"))
    }
    fn does(&self, action: &str) -> bool {
        self.action() == Some(action)
    }
    /// The values of `option`, `--option=V` or `--option V`.
    fn values<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        let apart = self.args.windows(2).filter(move |pair| pair[0] == option).map(|pair| pair[1].as_str());
        let joined = self.args.iter().filter_map(move |word| word.strip_prefix(option)?.strip_prefix('='));
        apart.chain(joined)
    }
    /// Whether its effect is had by other means, or cannot be seen by a program without privileges.
    fn is_met(&self) -> bool {
        const MET: [&str; 5] =
            ["update-ldcache", "create-symlinks", "chmod", "enable-cuda-compat", "disable-device-node-modification"];
        self.action().is_some_and(|action| MET.contains(&action))
    }
    fn shown(&self) -> String {
        format!("{} {}", self.path.display(), self.action().unwrap_or_default()).trim_end().to_owned()
    }
}

/// Whether `path` is absolute and has no `..`.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `nvidia-ctk cdi generate` writes it, shortened.
    const SPEC: &str = r#"{
        "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
        "devices": [
            {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0", "major": 195, "fileMode": 438}]}},
            {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia1", "hostPath": "/host/nvidia1"}]}}
        ],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [{"path": "/dev/nvidiactl"}],
            "mounts": [
                {"hostPath": "/lib64/libcuda.so.1", "containerPath": "/lib64/libcuda.so.1", "options": ["ro", "nosuid", "bind"]},
                {"hostPath": "/usr/bin/nvidia-smi", "containerPath": "/usr/bin/nvidia-smi", "options": ["ro"]},
                {"hostPath": "/run/p/socket", "containerPath": "/run/p/socket"}
            ],
            "hooks": [
                {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "create-symlinks", "--link", "libcuda.so.1::/lib64/libcuda.so"]},
                {"hookName": "createContainer", "path": "/usr/bin/nvidia-ctk", "args": ["nvidia-ctk", "hook", "update-ldcache", "--folder", "/lib64"]},
                {"hookName": "createContainer", "path": "/opt/other", "args": ["other", "frobnicate"]}
            ]
        }
    }"#;

    fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let owner = std::fs::metadata(folder.path()).unwrap().uid();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let directories = ["a", "b", "missing"].map(|name| folder.path().join(name));
        let registry = Registry::read(&directories, owner);
        (folder, registry)
    }

    fn names(list: &[&str]) -> Vec<CdiName> {
        list.iter().map(|name| CdiName::parse(name).unwrap()).collect()
    }

    #[test]
    fn a_specification_becomes_mounts_and_variables() {
        let (_folder, registry) = registry(&[("a/nvidia.json", SPEC)]);
        let applied = registry.apply(&names(&["nvidia.com/gpu=1", "nvidia.com/gpu=0"])).unwrap();
        let pair = |host: &str, inside: &str| (PathBuf::from(host), PathBuf::from(inside));
        assert_eq!(
            applied.nodes,
            [
                pair("/dev/nvidiactl", "/dev/nvidiactl"),
                pair("/host/nvidia1", "/dev/nvidia1"),
                pair("/dev/nvidia0", "/dev/nvidia0")
            ]
        );
        let mounts: Vec<_> = applied
            .bundle
            .mounts
            .iter()
            .map(|mount| format!("{} {} {}", mount.source.display(), mount.target.display(), mount.read_only))
            .collect();
        assert_eq!(
            mounts,
            [
                "/lib64/libcuda.so.1 /run/udocker/gpu/lib/libcuda.so.1 true",
                "/usr/bin/nvidia-smi /run/udocker/gpu/bin/nvidia-smi true",
                "/run/p/socket /run/p/socket false",
                "/lib64/libcuda.so.1 /run/udocker/gpu/lib/libcuda.so true",
            ]
        );
        assert_eq!(applied.bundle.env, [("NVIDIA_VISIBLE_DEVICES".to_owned(), "void".to_owned())]);
        assert_eq!(applied.hooks, ["/opt/other frobnicate"]);
    }

    #[test]
    fn devices_that_nobody_names_are_refused() {
        const ONE: &str = r#"{"cdiVersion": "1.1.0", "kind": "v.x/c", "devices": [{"name": "a"}]}"#;
        let text = |files: &[(&str, &str)], name: &str| {
            let (folder, registry) = registry(files);
            let error = registry.apply(&names(&[name])).unwrap_err().to_string();
            error.replace(folder.path().to_str().unwrap(), "DIR")
        };
        assert_eq!(text(&[("a/x.json", ONE)], "v.x/c=b"), "cannot show v.x/c=b: no CDI specification has this device");
        assert_eq!(
            text(&[("a/x.json", ONE), ("a/y.json", ONE)], "v.x/c=a"),
            "cannot show v.x/c=a: both DIR/a/x.json and DIR/a/y.json have this device"
        );
        let (_folder, later) = registry(&[("a/x.json", ONE), ("b/x.json", ONE)]);
        assert!(later.apply(&names(&["v.x/c=a"])).unwrap().bundle.origin.ends_with("/b/x.json"));
        for (bad, why) in [
            (
                r#"{"cdiVersion": "2.0.0", "kind": "v.x/c", "devices": []}"#,
                "it is of CDI version 2.0.0, and 1.1 is the newest that is read",
            ),
            (r#"{"cdiVersion": "1.0.0", "kind": "v.x/c", "devices": [], "news": 1}"#, "unknown field `news`"),
        ] {
            let (_folder, registry) = registry(&[("a/x.json", bad)]);
            assert!(registry.unread[0].1.starts_with(why), "{:?}", registry.unread);
        }
    }
}
