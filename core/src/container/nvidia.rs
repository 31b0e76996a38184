//! The files of the host's NVIDIA driver, for containers that `setup --nvidia` marked. They are bound at each run, never
//! copied: a driver that is replaced on the host is replaced inside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::run::MountSpec;

/// Where drivers put their libraries; those of Debian's layout and of Red Hat's (udocker's `lib_dirs_list_nvidia`).
pub(super) const LIBRARY_DIRECTORIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];
/// Without it there is no driver.
pub(super) const DRIVER_LIBRARY: &str = "libcuda.so";
/// Beginnings of the driver's libraries (udocker's `nvi_lib_list`, and what later drivers brought).
const LIBRARIES: [&str; 22] = [
    "libOpenCL.",
    "libcuda.",
    "libcudadebugger.",
    "libnvcuvid.",
    "libnvoptix.",
    "libnvidia-allocator.",
    "libnvidia-cfg.",
    "libnvidia-compiler.",
    "libnvidia-encode.",
    "libnvidia-fatbinaryloader.",
    "libnvidia-fbc.",
    "libnvidia-gpucomp.",
    "libnvidia-ifr.",
    "libnvidia-ml.",
    "libnvidia-ngx.",
    "libnvidia-nvvm.",
    "libnvidia-opencl.",
    "libnvidia-opticalflow.",
    "libnvidia-pkcs11.",
    "libnvidia-ptxjitcompiler.",
    "libnvidia-rtcore.",
    "libnvidia-tls.",
];
/// Programs (udocker's `nvi_bin_list`) and configuration (`nvi_etc_list`).
const OTHER_FILES: [&str; 8] = [
    "/usr/bin/nvidia-smi",
    "/usr/bin/nvidia-debugdump",
    "/usr/bin/nvidia-persistenced",
    "/usr/bin/nvidia-cuda-mps-control",
    "/usr/bin/nvidia-cuda-mps-server",
    "/usr/bin/nvidia-settings",
    "/etc/vulkan/icd.d/nvidia_icd.json",
    "/etc/OpenCL/vendors/nvidia.icd",
];

/// The files of the NVIDIA driver of the host whose root is `host`, absolute as on the host, sorted; none without a driver.
pub(super) fn driver_files(host: &Path) -> Vec<PathBuf> {
    let below = |path: &str| host.join(path.trim_start_matches('/'));
    let mut files = Vec::new();
    for directory in LIBRARY_DIRECTORIES {
        let names = list(&below(directory)).unwrap_or_default();
        if names.iter().any(|name| name.starts_with(DRIVER_LIBRARY)) {
            let libraries = names.iter().filter(|name| LIBRARIES.iter().any(|start| name.starts_with(start)));
            files.extend(libraries.filter(|name| name.contains(".so")).map(|name| Path::new(directory).join(name)));
        }
    }
    if !files.is_empty() {
        files.extend(OTHER_FILES.iter().filter(|path| below(path).is_file()).map(PathBuf::from));
    }
    files.sort();
    files
}

fn list(directory: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// The mounts that show the driver of `host` in a container whose root is made of `layers` (host paths): libraries in the
/// directory that the container's own loader searches, all else where the host has it. Nodes lie in /dev, which is shared.
pub fn nvidia_mounts(host: &Path, layers: &[&Path]) -> Vec<MountSpec> {
    let has = |directory: &str| layers.iter().any(|layer| layer.join(directory.trim_start_matches('/')).is_dir());
    let home = LIBRARY_DIRECTORIES.into_iter().find(|directory| has(directory)).unwrap_or(LIBRARY_DIRECTORIES[1]);
    let mount = |source: PathBuf| {
        let is_library = LIBRARY_DIRECTORIES.iter().any(|directory| source.starts_with(directory));
        let name = source.file_name().filter(|_| is_library);
        let target = name.map_or_else(|| source.clone(), |name| Path::new(home).join(name));
        MountSpec { source: Some(source), target, read_only: true, optional: true, create: false, size: None }
    };
    driver_files(host).into_iter().map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn a_driver_is_shown_where_the_container_looks() {
        let folder = tempfile::tempdir().unwrap();
        let (host, debian, other) = (folder.path().join("h"), folder.path().join("d"), folder.path().join("o"));
        fs::create_dir_all(&host).unwrap();
        assert_eq!(nvidia_mounts(&host, &[&debian]), []);
        make(
            &host,
            &["usr/lib64/libcuda.so.1", "usr/lib64/libnvidia-ml.so.1", "usr/lib64/libc.so.6", "usr/bin/nvidia-smi"],
        );
        make(&debian, &["usr/lib/x86_64-linux-gnu/libc.so.6"]);
        make(&other, &["usr/lib64/libc.so.6"]);
        let shown = |root: &Path| -> Vec<(String, String)> {
            let text = |path: &Path| path.display().to_string();
            let mounts = nvidia_mounts(&host, &[Path::new("/nowhere"), root]);
            mounts.iter().map(|mount| (text(mount.source.as_ref().unwrap()), text(&mount.target))).collect()
        };
        let pairs = |directory: &str| {
            ["libcuda.so.1", "libnvidia-ml.so.1"]
                .map(|name| (format!("/usr/lib64/{name}"), format!("{directory}/{name}")))
        };
        let smi = ("/usr/bin/nvidia-smi".to_owned(), "/usr/bin/nvidia-smi".to_owned());
        for (root, directory) in [(&debian, "/usr/lib/x86_64-linux-gnu"), (&other, "/usr/lib64")] {
            let expected: Vec<_> = std::iter::once(smi.clone()).chain(pairs(directory)).collect();
            assert_eq!(shown(root), expected);
        }
    }
}
