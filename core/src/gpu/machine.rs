//! The GPUs of this machine, by their device files. A machine without any costs four calls.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// One of these is where NVIDIA's GPUs are: the first, or what all have in common where a container runtime shows another alone.
const OF_NVIDIA: [&str; 2] = ["dev/nvidia0", "dev/nvidiactl"];

/// So it is with render nodes, which the kernel numbers from 128 on, and what AMD's have in common.
const OF_RENDER_NODES: [&str; 2] = ["dev/dri/renderD128", "dev/kfd"];

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
    /// Their device numbers (`st_rdev`), by whichever path they are reached.
    pub devices: Vec<u64>,
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
    /// Its device number (`st_rdev`); 0 if it is no character device.
    pub device: u64,
}

impl Machine {
    /// Looks below `root`, which is `/`, or another in tests. A display that computes nothing (a server's own) has no render node.
    ///
    /// Nothing is opened: that would wake a GPU that sleeps, which takes seconds. access(2) asks the device cgroup as open(2)
    /// does (`devcgroup_inode_permission` of the kernel's `inode_permission`).
    pub fn look(root: &Path) -> Self {
        let has = |path: &&str| is_there(accessat(CWD, root.join(path), Access::EXISTS, AtFlags::empty()));
        let (has_nvidia, has_render) = (OF_NVIDIA.iter().any(has), OF_RENDER_NODES.iter().any(has));
        let cards = if has_nvidia || has_render { Card::all(root) } else { Vec::new() };
        let of_nvidia = has_nvidia.then(|| Self::of_nvidia(root, &cards));
        of_nvidia.filter(|machine| !machine.gpus.is_empty()).unwrap_or_else(|| Self::of_render_nodes(root, &cards))
    }

    /// Whether they are NVIDIA's.
    pub fn is_nvidia_s(&self) -> bool {
        self.gpus.first().is_some_and(|gpu| gpu.nodes[0].as_os_str().as_encoded_bytes().starts_with(b"/dev/nvidia"))
    }

    /// Whether a device cgroup decides.
    pub fn is_held(&self) -> bool {
        self.gpus.iter().any(|gpu| gpu.opens == Opens::Held)
    }

    /// The GPU that `file` is a file of, by whichever path or link. Looks at the file if there are GPUs.
    pub fn owner_of(&self, file: &Path) -> Option<&Gpu> {
        if self.gpus.is_empty() {
            return None;
        }
        let number = device(file);
        let is = |gpu: &&Gpu| gpu.nodes.iter().any(|node| node == file) || number != 0 && gpu.devices.contains(&number);
        self.gpus.iter().find(is)
    }

    /// Whether `file` is a GPU's, or one that all have in common, by whichever path or link.
    pub fn owns(&self, file: &Path) -> bool {
        let is = |common: &Common, number: u64| common.path == file || number != 0 && common.device == number;
        self.owner_of(file).is_some() || self.common.iter().any(|common| is(common, device(file)))
    }

    /// Whether one of its files has this path.
    pub fn has_path(&self, path: &Path) -> bool {
        let of_gpus = self.gpus.iter().flat_map(|gpu| &gpu.nodes);
        of_gpus.chain(self.common.iter().map(|common| &common.path)).any(|own| own == path)
    }

    /// `/dev/nvidiaN`, the render nodes of the same PCI devices, and what else begins with `nvidia`.
    fn of_nvidia(root: &Path, cards: &[Card]) -> Self {
        let known = Known::all(root);
        let mut machine = Self::default();
        for name in names(&root.join("dev")) {
            let Some(rest) = name.strip_prefix("nvidia") else { continue };
            let path = Path::new("/dev").join(&name);
            let Some(number) = number(rest) else {
                let there = root.join("dev").join(&name);
                machine.common.push(Common { is_directory: there.is_dir(), device: device(&there), path });
                continue;
            };
            let opens = opens(root, &path);
            let (mut names, mut nodes) = (Vec::new(), vec![path]);
            if let Some(known) = known.iter().find(|known| known.number == number) {
                names.extend(known.uuid.clone());
                let own = cards.iter().filter(|card| card.device == known.device);
                nodes.extend(own.map(|card| card.node.clone()));
            }
            let devices = devices(root, &nodes);
            machine.gpus.push(Gpu { number, names, nodes, devices, opens });
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
            let nodes: Vec<_> = [gpu.node.clone()].into_iter().chain(others.map(|card| card.node.clone())).collect();
            Gpu {
                number,
                names: gpu.render.iter().map(ToString::to_string).collect(),
                devices: devices(root, &nodes),
                nodes,
                opens: opens(root, &gpu.node),
            }
        });
        let gpus: Vec<_> = gpus.collect();
        let kfd = !gpus.is_empty() && root.join("dev/kfd").exists();
        let of_all = || Common { path: "/dev/kfd".into(), is_directory: false, device: device(&root.join("dev/kfd")) };
        Self { gpus, common: kfd.then(of_all).into_iter().collect() }
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

/// Whether a name stands for `asked`: a UUID may be cut short, as CUDA lets it.
pub(super) fn is_called(name: &str, asked: &str) -> bool {
    name == asked || asked.starts_with("GPU-") && name.starts_with(asked)
}

/// Of access(2) on a device. A cgroup that lets a process open none answers EPERM for what is there.
fn is_there(answer: Result<(), Errno>) -> bool {
    matches!(answer, Ok(()) | Err(Errno::PERM))
}

/// The number of the character device that `file` leads to; 0: it leads to none.
fn device(file: &Path) -> u64 {
    let found = fs::metadata(file).ok().filter(|found| found.file_type().is_char_device());
    found.map_or(0, |found| found.rdev())
}

fn devices(root: &Path, nodes: &[PathBuf]) -> Vec<u64> {
    nodes.iter().map(|node| device(&below(root, node))).filter(|number| *number != 0).collect()
}

fn below(root: &Path, node: &Path) -> PathBuf {
    root.join(node.strip_prefix("/").expect("nodes are absolute"))
}

fn opens(root: &Path, node: &Path) -> Opens {
    match accessat(CWD, below(root, node), Access::READ_OK | Access::WRITE_OK, AtFlags::empty()) {
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

    #[test]
    fn a_container_runtime_may_show_another_than_the_first() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        card(root, "renderD129", "0000:d1:00.0", "amdgpu");
        make(root, &[("dev/kfd", "")]);
        let of_amd = ["0 129 /dev/dri/renderD129 Yes", "/dev/kfd false"];
        assert_eq!(shown(&Machine::look(root)), of_amd);
        make(root, &[("dev/nvidiactl", "")]);
        assert_eq!(shown(&Machine::look(root)), of_amd, "a driver of NVIDIA's without a GPU");
        let information = "GPU UUID: \t GPU-5a\nDevice Minor: \t 3\n";
        make(root, &[("dev/nvidia3", ""), ("proc/driver/nvidia/gpus/0000:3b:00.0/information", information)]);
        card(root, "renderD130", "0000:3b:00.0", "nvidia");
        fs::remove_file(root.join("dev/kfd")).unwrap();
        let of_nvidia = ["3 GPU-5a /dev/nvidia3,/dev/dri/renderD130 Yes", "/dev/nvidiactl false"];
        assert_eq!(shown(&Machine::look(root)), of_nvidia);
    }

    #[test]
    fn a_gpu_that_a_cgroup_forbids_is_there() {
        for (answer, expected) in [(Ok(()), true), (Err(Errno::PERM), true), (Err(Errno::NOENT), false)] {
            assert_eq!(is_there(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_file_is_a_gpus_by_whichever_path() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir(root.join("dev")).unwrap();
        symlink("/dev/full", root.join("dev/nvidia0")).unwrap();
        symlink("/dev/zero", root.join("dev/nvidia1")).unwrap();
        symlink("/dev/null", root.join("dev/nvidiactl")).unwrap();
        symlink("/dev/zero", root.join("link")).unwrap();
        let machine = Machine::look(root);
        let owner = |path: &str| machine.owner_of(&root.join(path)).map(|gpu| gpu.number);
        for (path, expected) in [
            ("/dev/nvidia1", Some(1)),
            ("/dev/full", Some(0)),
            ("/proc/self/root/dev/full", Some(0)),
            ("link", Some(1)),
            ("/dev/null", None),
            ("/dev/urandom", None),
            ("/dev", None),
        ] {
            assert_eq!(owner(path), expected, "{path}");
        }
        assert!(machine.owns(Path::new("/dev/null")) && !machine.owns(Path::new("/dev/urandom")));
        assert!(machine.has_path(Path::new("/dev/nvidiactl")) && !machine.has_path(Path::new("/dev/null")));
    }
}
