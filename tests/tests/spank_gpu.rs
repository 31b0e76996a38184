//! GPUs that Slurm grants, as ranks in containers meet them. The devices are a /dev/full and a /dev/urandom, under the names of
//! GPUs and in each node's own /dev.
#![cfg(target_arch = "x86_64")]

use udocker_tests::cluster::Release;
use udocker_tests::slurm_site::{ALL, Site};

const DEVICES: &str = "nvidia0 c 1 7\nnvidia1 c 1 9\n";
const GRES: &str = "NodeName=n[1-2] Name=gpu File=/dev/nvidia[0-1]\n";
const CONF: &str = "GresTypes=gpu\nNodeName=DEFAULT Gres=gpu:2\n";

/// Tells rank, variable, and what opening each device comes to.
const LOOK: &str = r#"echo "$SLURM_PROCID cuda=$CUDA_VISIBLE_DEVICES $(
  for device in 0 1; do sh -c ": </dev/nvidia$device" 2>&1 && echo opens; done | sed 's/.*: //' | tr '\n' ',')""#;

/// The lines of `words` with an image and without one, which must be the same.
fn seen(site: &Site, release: Release, words: &[&str]) -> Vec<String> {
    let lines = |image: Option<&str>| {
        let words = [&["srun", "-N1"], words, image.as_slice(), &["sh", "-c", LOOK]].concat();
        let (status, out, err) = site.run(&words);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?} {words:?}: {out}");
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (bare, contained) = (lines(None), lines(Some(&site.image)));
    assert_eq!(contained, bare, "{release:?} {words:?}");
    bare
}

/// Directories that slurmd makes and does not remove, one for each node and controller.
struct Groups;

impl Drop for Groups {
    fn drop(&mut self) {
        for controller in ["devices", "freezer"] {
            for node in ["n1", "n2"] {
                let top = format!("/sys/fs/cgroup/{controller}/slurm_{node}");
                let _ = std::process::Command::new("find")
                    .args([&top, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                    .output();
            }
        }
    }
}

/// Where the device cgroup decides, a container opens what was granted and nothing else.
#[test]
fn granted_devices_open_and_others_do_not() {
    let conf = format!("{CONF}ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup\n");
    let cgroup = "CgroupPlugin=cgroup/v1\nConstrainDevices=yes\nConstrainRAMSpace=no\nConstrainCores=no\n";
    let files = [("devices", DEVICES), ("slurm/gres.conf", GRES), ("slurm/cgroup.conf", cgroup)];
    for release in ALL {
        let groups = Groups;
        let site = Site::with_files(release, &conf, &files);
        let no = "Operation not permitted";
        assert_eq!(seen(&site, release, &["-n1"]), [format!("0 cuda= {no},{no},")]);
        assert_eq!(seen(&site, release, &["-n1", "--gres=gpu:1"]), [format!("0 cuda=0 opens,{no},")]);
        assert_eq!(seen(&site, release, &["-n1", "--gres=gpu:2"]), ["0 cuda=0,1 opens,opens,"]);
        // Within a task's own devices they are counted anew.
        assert_eq!(
            seen(&site, release, &["-n2", "--gpus-per-task=1"]),
            [format!("0 cuda=0 opens,{no},"), format!("1 cuda=0 {no},opens,")],
            "{release:?}"
        );
        site.down();
        drop(groups);
    }
}

/// Where nothing holds ranks back, the variables tell each what is its own.
#[test]
fn variables_tell_each_rank_its_device() {
    for release in ALL {
        let site = Site::with_files(release, CONF, &[("devices", DEVICES), ("slurm/gres.conf", GRES)]);
        assert_eq!(seen(&site, release, &["-n1"]), ["0 cuda= opens,opens,"]);
        assert_eq!(
            seen(&site, release, &["-n2", "--gpus-per-task=1"]),
            ["0 cuda=0 opens,opens,", "1 cuda=1 opens,opens,"]
        );
        assert_eq!(
            seen(&site, release, &["-n2", "--gres=gpu:2"]),
            ["0 cuda=0,1 opens,opens,", "1 cuda=0,1 opens,opens,"]
        );
        site.down();
    }
}
