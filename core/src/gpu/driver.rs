//! The files of NVIDIA's driver, found where no CDI specification tells them: libraries by the host's ld.so.cache, programs and
//! data by their names. They are bound at each run, never copied: a driver that is replaced on the host is replaced inside.
//!
//! Libraries get the names that programs ask for (their SONAMEs; those of whole files mean nothing to a loader) in a directory of
//! their own, which LD_LIBRARY_PATH names: the image's own directories are not touched, and its ld.so.cache knows nothing of them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{BundleMount, Capability, ld_cache};
use crate::sys::fds::FdPath;
use crate::sys::resolve::{Resolved, resolve};

/// Where libraries are inside.
pub const LIBRARIES: &str = "/run/udocker/gpu/lib";
/// Where programs are inside.
pub const PROGRAMS: &str = "/run/udocker/gpu/bin";

use Capability::{Compute, Display, Graphics, Ngx, Utility, Video};

/// Beginnings of libraries' names, which go on with `.so` (libnvidia-container's lists, and what drivers up to 570 have).
const NAMES: &[(Capability, &[&str])] = &[
    (Utility, &["libnvidia-ml", "libnvidia-cfg", "libnvidia-nscq"]),
    (
        Compute,
        &[
            "libcuda",
            "libcudadebugger",
            "libnvidia-opencl",
            "libnvidia-ptxjitcompiler",
            "libnvidia-nvvm",
            "libnvidia-nvvm70",
            "libnvidia-compiler",
            "libnvidia-fatbinaryloader",
            "libnvidia-allocator",
            "libnvidia-pkcs11",
            "libnvidia-pkcs11-openssl3",
            "libnvidia-gpucomp",
            "libnvidia-tileiras",
        ],
    ),
    (Video, &["libnvcuvid", "libnvidia-encode", "libnvidia-opticalflow", "libvdpau_nvidia"]),
    (
        Graphics,
        &[
            "libGLX_nvidia",
            "libEGL_nvidia",
            "libGLESv1_CM_nvidia",
            "libGLESv2_nvidia",
            "libnvoptix",
            "libnvidia-fbc",
            "libnvidia-ifr",
            "libnvidia-cbl",
            "libnvidia-glcore",
            "libnvidia-eglcore",
            "libnvidia-glsi",
            "libnvidia-tls",
            "libnvidia-glvkspirv",
            "libnvidia-rtcore",
            "libnvidia-gpucomp",
            "libnvidia-egl-gbm",
            "libnvidia-egl-wayland",
            "libnvidia-egl-xcb",
            "libnvidia-egl-xlib",
            "libnvidia-vulkan-producer",
        ],
    ),
    (Ngx, &["libnvidia-ngx"]),
];

/// Programs, in directories of the host's.
const BINARIES: &[(Capability, &[&str])] = &[
    (Utility, &["nvidia-smi", "nvidia-debugdump", "nvidia-persistenced"]),
    (Compute, &["nvidia-cuda-mps-control", "nvidia-cuda-mps-server"]),
];
const BINARY_DIRECTORIES: [&str; 2] = ["/usr/bin", "/usr/sbin"];

/// Files by which loaders of the image find the driver; bound where the image has the directory.
const DATA: &[(Capability, &[&str])] = &[
    (Compute, &["/etc/OpenCL/vendors/nvidia.icd"]),
    (
        Graphics,
        &[
            "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
            "/usr/share/vulkan/icd.d/nvidia_icd.json",
            "/usr/share/vulkan/implicit_layer.d/nvidia_layers.json",
            "/etc/vulkan/icd.d/nvidia_icd.json",
            "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json",
            "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
        ],
    ),
];

/// What shows the driver below `root` inside an image, as far as `capabilities` go; nothing without a driver. `image_has`: whether
/// the image has this directory.
pub fn find(root: &Path, capabilities: &[Capability], image_has: &dyn Fn(&Path) -> bool) -> Vec<BundleMount> {
    let Ok(top) = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        return Vec::new();
    };
    let real = |path: &Path| match resolve(&top, path) {
        Ok(Resolved::Found(fd)) => std::fs::read_link(FdPath::new(fd.as_fd()).as_str()).ok(),
        _ => None,
    };
    let Some(cache) = real(Path::new("/etc/ld.so.cache")).and_then(|path| std::fs::read(path).ok()) else {
        return Vec::new();
    };
    let libraries = ld_cache::libraries(&cache).unwrap_or_default();
    if !libraries.iter().any(|(name, _)| is_called(name, "libcuda") || is_called(name, "libnvidia-ml")) {
        return Vec::new();
    }
    // What shows is drawn by the same libraries.
    let has = |capability: Capability| {
        capabilities.contains(&capability) || capability == Graphics && capabilities.contains(&Display)
    };
    let of = |list: &'static [(Capability, &[&str])]| {
        list.iter().filter(move |(capability, _)| has(*capability)).flat_map(|(_, names)| names.iter().copied())
    };
    let bind = |source: PathBuf, target: PathBuf| BundleMount { source, target, read_only: true };
    let mut mounts: Vec<BundleMount> = Vec::new();
    for (name, path) in &libraries {
        if of(NAMES).any(|start| is_called(name, start)) {
            mounts.extend(real(Path::new(path)).map(|source| bind(source, Path::new(LIBRARIES).join(name))));
        }
    }
    for (link, library) in LINKS {
        let (link, library) = (Path::new(LIBRARIES).join(link), Path::new(LIBRARIES).join(library));
        let there = |path: &Path| mounts.iter().find(|mount| mount.target == path);
        if let (Some(found), None) = (there(&library), there(&link)) {
            mounts.push(bind(found.source.clone(), link));
        }
    }
    for name in of(BINARIES) {
        let found = BINARY_DIRECTORIES.iter().find_map(|directory| real(&Path::new(directory).join(name)));
        mounts.extend(found.map(|source| bind(source, Path::new(PROGRAMS).join(name))));
    }
    for path in of(DATA).map(Path::new) {
        if image_has(path.parent().expect("a file's directory")) {
            mounts.extend(real(path).map(|source| bind(source, path.into())));
        }
    }
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts.dedup_by(|a, b| a.target == b.target);
    mounts
}

/// Links that only a development package or ldconfig's caller makes, and programs ask for.
pub(super) const LINKS: [(&str, &str); 3] = [
    ("libcuda.so", "libcuda.so.1"),
    ("libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1"),
    ("libGLX_indirect.so.0", "libGLX_nvidia.so.0"),
];

/// Whether `name` is `start.so` or `start.so.…`.
fn is_called(name: &str, start: &str) -> bool {
    let rest = name.strip_prefix(start).and_then(|rest| rest.strip_prefix(".so"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The name that programs ask for the library `path` by, if it is one.
pub(super) fn soname(path: &Path) -> Option<String> {
    crate::elf::soname(&File::open(path).ok()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    /// A root with an installed driver as Debian lays it out: links in the libraries' directory, by way of /etc/alternatives.
    /// The libraries are this machine's libm under other names.
    fn driver(root: &Path) {
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        std::fs::create_dir_all(libraries.join("nvidia/current")).unwrap();
        std::fs::create_dir_all(root.join("etc/alternatives")).unwrap();
        std::fs::create_dir_all(root.join("etc/OpenCL/vendors")).unwrap();
        std::fs::create_dir_all(root.join("usr/lib/nvidia/current")).unwrap();
        std::fs::create_dir_all(root.join("usr/bin")).unwrap();
        std::fs::write(root.join("etc/OpenCL/vendors/nvidia.icd"), "libnvidia-opencl.so.1\n").unwrap();
        std::fs::write(root.join("usr/lib/nvidia/current/nvidia-smi"), "#!/bin/sh\n").unwrap();
        symlink("/usr/lib/nvidia/current/nvidia-smi", root.join("etc/alternatives/nvidia--nvidia-smi")).unwrap();
        symlink("/etc/alternatives/nvidia--nvidia-smi", root.join("usr/bin/nvidia-smi")).unwrap();
        for name in ["libcuda.so.1", "libnvidia-ml.so.1", "libGLX_nvidia.so.0", "libother.so.1"] {
            let real = format!("/usr/lib/x86_64-linux-gnu/nvidia/current/{name}.550");
            library(name, &root.join(&real[1..]));
            symlink(&real, root.join("etc/alternatives").join(format!("nvidia--{name}"))).unwrap();
            symlink(format!("/etc/alternatives/nvidia--{name}"), libraries.join(name)).unwrap();
        }
        let glcore = "libnvidia-glcore.so.550.1";
        library(glcore, &libraries.join(glcore));
        std::fs::write(root.join("etc/ld.so.conf"), "/usr/lib/x86_64-linux-gnu\n").unwrap();
        let made = Command::new("/sbin/ldconfig").arg("-r").arg(root).status().unwrap();
        assert!(made.success());
    }

    /// A library whose SONAME is `name`.
    fn library(name: &str, path: &Path) {
        let made = Command::new("cc")
            .args(["-shared", "-nostdlib", "-x", "c", "/dev/null", &format!("-Wl,-soname,{name}"), "-o"])
            .arg(path)
            .status();
        assert!(made.unwrap().success());
    }

    #[test]
    fn an_installed_driver_is_shown_by_the_names_that_programs_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let shown = |capabilities: &[Capability], has_opencl: bool| -> Vec<String> {
            let mounts =
                find(&root, capabilities, &|directory| has_opencl && directory == Path::new("/etc/OpenCL/vendors"));
            let line = |mount: BundleMount| {
                let source = mount.source.strip_prefix(&root).unwrap().display().to_string();
                format!("{source} {}", mount.target.display())
            };
            mounts.into_iter().map(line).collect()
        };
        assert_eq!(shown(&[Compute, Utility], true), Vec::<String>::new());
        driver(&root);
        let current = "usr/lib/x86_64-linux-gnu/nvidia/current";
        let compute = [
            format!("{current}/libcuda.so.1.550 /run/udocker/gpu/lib/libcuda.so"),
            format!("{current}/libcuda.so.1.550 /run/udocker/gpu/lib/libcuda.so.1"),
        ];
        let icd = "etc/OpenCL/vendors/nvidia.icd /etc/OpenCL/vendors/nvidia.icd".to_owned();
        assert_eq!(shown(&[Compute], false), compute);
        assert_eq!(shown(&[Compute], true), [&[icd], &compute[..]].concat());
        assert_eq!(
            shown(&[Utility], false),
            [
                "usr/lib/nvidia/current/nvidia-smi /run/udocker/gpu/bin/nvidia-smi".to_owned(),
                format!("{current}/libnvidia-ml.so.1.550 /run/udocker/gpu/lib/libnvidia-ml.so.1"),
            ]
        );
        assert_eq!(
            shown(&[Graphics], false),
            [
                format!("{current}/libGLX_nvidia.so.0.550 /run/udocker/gpu/lib/libGLX_indirect.so.0"),
                format!("{current}/libGLX_nvidia.so.0.550 /run/udocker/gpu/lib/libGLX_nvidia.so.0"),
                "usr/lib/x86_64-linux-gnu/libnvidia-glcore.so.550.1 /run/udocker/gpu/lib/libnvidia-glcore.so.550.1"
                    .to_owned(),
            ]
        );
        assert_eq!(soname(&root.join(current).join("libcuda.so.1.550")).as_deref(), Some("libcuda.so.1"));
        assert_eq!(soname(&root.join("usr/bin/nvidia-smi")), None);
        for name in ["", "..", "../libx.so", "/etc/passwd"] {
            library(name, &root.join("libx.so"));
            assert_eq!(soname(&root.join("libx.so")), None, "{name}");
        }
    }
}
