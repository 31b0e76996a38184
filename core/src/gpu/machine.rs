//! The GPUs of this machine, by their device files. A machine without any costs two calls.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The kernel numbers render nodes from 128 on.
const FIRST_RENDER_NODE: &str = "dev/dri/renderD128";

/// What was found; without GPUs it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Of one vendor: NVIDIA's if there are some, else AMD's and Intel's. Others are nobody's to grant.
    pub gpus: Vec<Gpu>,
    /// What programs need beside them, whichever they use.
    pub common: Vec<Common>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// As in `/dev/nvidiaN`; its place among the render nodes, where it is none of NVIDIA's.
    pub number: u32,
    /// Others that schedulers use: its UUID, the number of its render node.
    pub names: Vec<String>,
    /// Its device files, absolute.
    pub nodes: Vec<PathBuf>,
    /// See [`Opens`].
    pub opens: Opens,
}

/// Whether this process may open a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opens {
    /// It may.
    Yes,
    /// EPERM: a device cgroup forbids it.
    Held,
    /// The file's owner forbids it, or it is gone.
    No,
}

/// A file or directory that all GPUs have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// Absolute.
    pub path: PathBuf,
    /// See `path`.
    pub is_directory: bool,
}

impl Machine {
    /// Looks below `root`, which is `/`, or another in tests. A display that computes nothing (a server's own) has no render node.
    ///
    /// Nothing is opened: that would wake a GPU that sleeps, which takes seconds. access(2) asks the device cgroup as open(2)
    /// does (`devcgroup_inode_permission` of the kernel's `inode_permission`).
    pub fn look(root: &Path) -> Self {
        let has = |path: &str| accessat(CWD, root.join(path), Access::EXISTS, AtFlags::empty()).is_ok();
        let (has_nvidia, has_render) = (has("dev/nvidia0"), has(FIRST_RENDER_NODE));
        let cards = if has_render { Card::all(root) } else { Vec::new() };
        match has_nvidia {
            true => Self::of_nvidia(root, &cards),
            false => Self::of_render_nodes(root, &cards),
        }
    }

    /// Whether they are NVIDIA's.
    pub fn is_nvidia_s(&self) -> bool {
        self.gpus.first().is_some_and(|gpu| gpu.nodes[0].as_os_str().as_encoded_bytes().starts_with(b"/dev/nvidia"))
    }

    /// Whether a device cgroup decides.
    pub fn is_held(&self) -> bool {
        self.gpus.iter().any(|gpu| gpu.opens == Opens::Held)
    }

    /// The GPU that `node` is a file of.
    pub fn owner_of(&self, node: &Path) -> Option<&Gpu> {
        self.gpus.iter().find(|gpu| gpu.nodes.iter().any(|other| other == node))
    }

    /// `/dev/nvidiaN`, the render nodes of the same PCI devices, and what else begins with `nvidia`.
    fn of_nvidia(root: &Path, cards: &[Card]) -> Self {
        let known = Known::all(root);
        let mut machine = Self::default();
        for name in names(&root.join("dev")) {
            let Some(rest) = name.strip_prefix("nvidia") else { continue };
            let path = Path::new("/dev").join(&name);
            let Some(number) = number(rest) else {
                machine.common.push(Common { is_directory: root.join("dev").join(&name).is_dir(), path });
                continue;
            };
            let opens = opens(root, &path);
            let (mut names, mut nodes) = (Vec::new(), vec![path]);
            if let Some(known) = known.iter().find(|known| known.number == number) {
                names.extend(known.uuid.clone());
                let own = cards.iter().filter(|card| card.device == known.device);
                nodes.extend(own.map(|card| card.node.clone()));
            }
            machine.gpus.push(Gpu { number, names, nodes, opens });
        }
        machine.sort();
        machine
    }

    fn of_render_nodes(root: &Path, cards: &[Card]) -> Self {
        let render = |card: &&Card| matches!(card.driver.as_str(), "amdgpu" | "i915" | "xe") && card.render.is_some();
        let mut of_gpus: Vec<&Card> = cards.iter().filter(render).collect();
        of_gpus.sort_by_key(|card| card.render);
        let gpus = of_gpus.iter().zip(0..).map(|(gpu, number)| {
            let others = cards.iter().filter(|card| card.device == gpu.device && card.node != gpu.node);
            Gpu {
                number,
                names: gpu.render.iter().map(ToString::to_string).collect(),
                nodes: [gpu.node.clone()].into_iter().chain(others.map(|card| card.node.clone())).collect(),
                opens: opens(root, &gpu.node),
            }
        });
        let gpus: Vec<_> = gpus.collect();
        let kfd = !gpus.is_empty() && root.join("dev/kfd").exists();
        let common = kfd.then(|| Common { path: "/dev/kfd".into(), is_directory: false }).into_iter().collect();
        Self { gpus, common }
    }

    fn sort(&mut self) {
        self.gpus.sort_by_key(|gpu| gpu.number);
        self.common.sort_by(|a, b| a.path.cmp(&b.path));
    }
}

/// A file of /dev/dri.
struct Card {
    node: PathBuf,
    /// Its number, if it is a render node.
    render: Option<u32>,
    /// Its device's name on the bus.
    device: String,
    driver: String,
}

impl Card {
    fn all(root: &Path) -> Vec<Self> {
        let of = |name: String| {
            let sysfs = root.join("sys/class/drm").join(&name);
            let last = |link: PathBuf| Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned());
            let device = last(sysfs.join("device"))?;
            let driver = last(sysfs.join("device/driver"))?;
            let render = name.strip_prefix("renderD").and_then(number);
            Some(Self { node: Path::new("/dev/dri").join(&name), render, device, driver })
        };
        let mut cards: Vec<_> = names(&root.join("dev/dri")).into_iter().filter_map(of).collect();
        cards.sort_by(|a, b| a.node.cmp(&b.node));
        cards
    }
}

/// What NVIDIA's kernel driver tells of a GPU.
struct Known {
    number: u32,
    uuid: Option<String>,
    device: String,
}

impl Known {
    fn all(root: &Path) -> Vec<Self> {
        let top = root.join("proc/driver/nvidia/gpus");
        let of = |device: String| {
            let text = fs::read_to_string(top.join(&device).join("information")).ok()?;
            let field = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
            let uuid = field("GPU UUID:").filter(|uuid| uuid.starts_with("GPU-") && !uuid.contains('?'));
            Some(Self { number: field("Device Minor:")?.parse().ok()?, uuid, device })
        };
        names(&top).into_iter().filter_map(of).collect()
    }
}

fn opens(root: &Path, node: &Path) -> Opens {
    let path = root.join(node.strip_prefix("/").expect("nodes are absolute"));
    match accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::empty()) {
        Ok(()) => Opens::Yes,
        Err(Errno::PERM) => Opens::Held,
        Err(_) => Opens::No,
    }
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn make(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn card(root: &Path, name: &str, device: &str, driver: &str) {
        make(root, &[(&format!("dev/dri/{name}"), "")]);
        let directory = root.join("devices").join(device);
        fs::create_dir_all(&directory).unwrap();
        let _of_two_files = symlink(format!("../drivers/{driver}"), directory.join("driver"));
        let class = root.join("sys/class/drm").join(name);
        fs::create_dir_all(&class).unwrap();
        symlink(directory, class.join("device")).unwrap();
    }

    fn shown(machine: &Machine) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let gpus = machine.gpus.iter().map(|gpu| {
            let nodes: Vec<_> = gpu.nodes.iter().map(path).collect();
            format!("{} {} {} {:?}", gpu.number, gpu.names.join(","), nodes.join(","), gpu.opens)
        });
        gpus.chain(machine.common.iter().map(|common| format!("{} {}", path(&common.path), common.is_directory)))
            .collect()
    }

    #[test]
    fn gpus_are_their_device_files() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(Machine::look(root), Machine::default());
        card(root, "card0", "0000:03:00.0", "ast");
        assert_eq!(Machine::look(root), Machine::default(), "a server's own display");
        card(root, "renderD128", "0000:c1:00.0", "amdgpu");
        card(root, "card1", "0000:c1:00.0", "amdgpu");
        card(root, "renderD129", "0000:d1:00.0", "amdgpu");
        make(root, &[("dev/kfd", "")]);
        assert_eq!(
            shown(&Machine::look(root)),
            ["0 128 /dev/dri/renderD128,/dev/dri/card1 Yes", "1 129 /dev/dri/renderD129 Yes", "/dev/kfd false"]
        );
        card(root, "renderD130", "0000:3b:00.0", "nvidia");
        let information = "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-5a\nDevice Minor: \t 1\n";
        make(
            root,
            &[
                ("dev/nvidia0", ""),
                ("dev/nvidia1", ""),
                ("dev/nvidia10", ""),
                ("dev/nvidiactl", ""),
                ("dev/nvidia-caps/nvidia-cap1", ""),
                ("proc/driver/nvidia/gpus/0000:3b:00.0/information", information),
            ],
        );
        assert_eq!(
            shown(&Machine::look(root)),
            [
                "0  /dev/nvidia0 Yes",
                "1 GPU-5a /dev/nvidia1,/dev/dri/renderD130 Yes",
                "10  /dev/nvidia10 Yes",
                "/dev/nvidia-caps true",
                "/dev/nvidiactl false"
            ]
        );
    }
}
