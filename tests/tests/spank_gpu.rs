//! GPUs that Slurm grants, as ranks in containers meet them. The devices are a /dev/full and a /dev/urandom, under the names of
//! GPUs and in each node's own /dev.
#![cfg(target_arch = "x86_64")]

use std::path::Path;
use std::process::Command;

use udocker_tests::images::cached;
use udocker_tests::slurm_site::{ALL, Site, meets};

const DEVICES: &str = "nvidia0 c 1 7\nnvidia1 c 1 9\n";
const GRES: &str = "NodeName=n[1-2] Name=gpu File=/dev/nvidia[0-1]\n";
const CONF: &str = "GresTypes=gpu\nNodeName=DEFAULT Gres=gpu:2\n";

/// Tells rank, variable, and what opening each device comes to.
const LOOK: &str = r#"echo "$SLURM_PROCID cuda=$CUDA_VISIBLE_DEVICES $(
  for device in 0 1; do sh -c ": </dev/nvidia$device" 2>&1 && echo opens; done | sed 's/.*: //' | tr '\n' ',')""#;

/// What `words` come to, a line for each rank, sorted; in the image with `options`, or bare without any.
fn lines(site: &Site, words: &[&str], options: Option<&[&str]>) -> Vec<String> {
    let image = options.map(|options| [&[site.image.as_str()], options].concat()).unwrap_or_default();
    let words = [&["srun", "-N1"], words, &image, &["sh", "-c", LOOK]].concat();
    let (status, out, err) = site.run(&words);
    let told = err.lines().filter(|line| !line.contains("--share=task MPI ranks cannot")).collect::<Vec<_>>();
    assert_eq!((status, told), (0, vec![]), "{words:?}: {out}");
    let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The lines of `words` with an image and without one, which must be the same.
fn seen(site: &Site, words: &[&str]) -> Vec<String> {
    let (bare, contained) = (lines(site, words, None), lines(site, words, Some(&[])));
    assert_eq!(contained, bare, "{words:?}");
    bare
}

/// What a step that cannot start says. Its node is the first one unless that is not done with the last job.
fn refused(site: &Site, words: &[&str]) -> (i32, String) {
    let (status, _, err) = site.run(&[&["srun", "-N1", "-n1"], words, &[&site.image, "true"]].concat());
    let lines: Vec<_> = err.lines().filter(|line| !line.starts_with("srun: ")).collect();
    (status, lines.join("\n").replace("udocker: [n2]", "udocker: [n1]"))
}

/// Directories that slurmd makes and does not remove, one for each node and controller of cgroup v1.
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

/// Where the device cgroup decides, of either version, a container opens what was granted and nothing else.
#[test]
fn granted_devices_open_and_others_do_not() {
    let conf = format!("{CONF}ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup\n");
    let site_toml = site_toml();
    for (release, (version, group)) in ALL.into_iter().flat_map(|release| {
        [("v1", ":devices:/slurm_n1/"), ("v2", "0::/system.slice/n1_slurmstepd.scope/")].map(|held| (release, held))
    }) {
        let case = format!("{release:?}, cgroup {version}");
        let cgroup = format!(
            "CgroupPlugin=cgroup/{version}\nIgnoreSystemd=yes\nConstrainDevices=yes\nConstrainRAMSpace=no\nConstrainCores=no\n"
        );
        let files = [
            ("devices", DEVICES),
            ("slurm/gres.conf", GRES),
            ("slurm/cgroup.conf", cgroup.as_str()),
            ("udocker/site.toml", site_toml.as_str()),
        ];
        let groups = Groups;
        let site = Site::with_files(release, &conf, &files);
        let no = "Operation not permitted";
        let (status, held, err) = site.run(&["srun", "-wn1", &site.image, "cat", "/proc/self/cgroup"]);
        assert_eq!((status, err.as_str(), held.matches(group).count()), (0, "", 1), "{case}: {held}");
        assert_eq!(seen(&site, &["-n1"]), [format!("0 cuda= {no},{no},")], "{case}");
        assert_eq!(seen(&site, &["-n1", "--gres=gpu:1"]), [format!("0 cuda=0 opens,{no},")], "{case}");
        assert_eq!(seen(&site, &["-n1", "--gres=gpu:2"]), ["0 cuda=0,1 opens,opens,"], "{case}");
        // Within a task's own devices they are counted anew.
        assert_eq!(
            seen(&site, &["-n2", "--gpus-per-task=1"]),
            [format!("0 cuda=0 opens,{no},"), format!("1 cuda=0 {no},opens,")],
            "{case}"
        );
        // They have one container all the same, with the driver.
        let look = format!("readlink /proc/self/ns/mnt; ls /run/udocker/gpu/lib | wc -l; {}", meets(2));
        let words = ["srun", "-N1", "-n2", "--gpus-per-task=1", site.image.as_str(), "sh", "-c", &look];
        let (status, out, err) = site.run(&words);
        let mut lines: Vec<_> = out.lines().collect();
        lines.sort_unstable();
        assert_eq!((status, err.as_str(), lines.len(), lines[0]), (0, "", 4, "6"), "{case} {out}");
        assert_eq!((lines[0], lines[2]), (lines[1], lines[3]), "{case}");
        site.down();
        drop(groups);
    }
}

/// Where nothing holds ranks back, what was not granted is covered, in one container of the node's ranks and in one of each.
#[test]
fn what_was_not_granted_is_covered() {
    const NO: &str = "Permission denied";
    for release in ALL {
        let site = Site::with_files(release, CONF, &[("devices", DEVICES), ("slurm/gres.conf", GRES)]);
        for mode in ["N1", "P2"] {
            let mode = format!("--udocker-mode={mode}");
            let inside =
                |words: &[&str], options: &[&str]| lines(&site, words, Some(&[&[mode.as_str()], options].concat()));
            assert_eq!(lines(&site, &["-n1"], None), ["0 cuda= opens,opens,"]);
            assert_eq!(inside(&["-n1"], &[]), [format!("0 cuda= {NO},{NO},")], "{release:?} {mode}");
            assert_eq!(inside(&["-n1", "--gres=gpu:1"], &[]), [format!("0 cuda=0 opens,{NO},")], "{release:?} {mode}");
            assert_eq!(inside(&["-n1", "--gres=gpu:2"], &[]), ["0 cuda=0,1 opens,opens,"], "{release:?} {mode}");
            let one_each = ["-n2", "--gpus-per-task=1"];
            assert_eq!(
                inside(&one_each, &[]),
                ["0 cuda=0 opens,opens,", "1 cuda=1 opens,opens,"],
                "{release:?} {mode}"
            );
            // Libraries count what opens: the second rank's GPU is its first.
            assert_eq!(
                inside(&one_each, &["--udocker-share=task"]),
                [format!("0 cuda=0 opens,{NO},"), format!("1 cuda=0 {NO},opens,")],
                "{release:?} {mode}"
            );
            assert_eq!(
                inside(&["-n2", "--gres=gpu:2"], &[]),
                ["0 cuda=0,1 opens,opens,", "1 cuda=0,1 opens,opens,"],
                "{release:?} {mode}"
            );
        }
        site.down();
    }
}

/// A user narrows what was granted, and a site what nobody asked for; nobody widens it.
#[test]
fn a_wish_is_for_granted_gpus() {
    const NO: &str = "Permission denied";
    let site_toml = "[[override]]\naccount = [\"quiet\"]\ngpu.default = \"none\"\n";
    let files = [("devices", DEVICES), ("slurm/gres.conf", GRES), ("udocker/site.toml", site_toml)];
    let site = Site::with_files(ALL[0], CONF, &files);
    let two = ["-n1", "--gres=gpu:2"];
    for (options, expected) in [
        (&["--udocker-gpu=none"][..], format!("0 cuda= {NO},{NO},")),
        (&["--udocker-gpu=1"], format!("0 cuda=0 {NO},opens,")),
        (&["--udocker-gpu=0-1"], "0 cuda=0,1 opens,opens,".into()),
        (&["--udocker-gpu=all"], "0 cuda=0,1 opens,opens,".into()),
        (&["--udocker-gpu=none", "--udocker-device=/dev/nvidia1"], format!("0 cuda=0 {NO},opens,")),
        (&["--udocker-gpu=1", "--udocker-env=CUDA_VISIBLE_DEVICES=7"], format!("0 cuda=7 {NO},opens,")),
    ] {
        assert_eq!(lines(&site, &two, Some(options)), [expected], "{options:?}");
    }
    let quiet = ["-n1", "--gres=gpu:2", "--account=quiet"];
    assert_eq!(lines(&site, &quiet, Some(&[])), [format!("0 cuda= {NO},{NO},")]);
    assert_eq!(lines(&site, &quiet, Some(&["--udocker-gpu=auto"])), ["0 cuda=0,1 opens,opens,"]);
    let error = "udocker: [n1] cannot show GPU";
    let granted = "  hint: granted: 0; `--udocker-gpu=auto` shows them";
    for (words, expected) in [
        (
            &["--gres=gpu:1", "--udocker-gpu=1"][..],
            format!("{error} 1: it was not granted (SLURM_STEP_GPUS=0)\n{granted}"),
        ),
        (
            &["--gres=gpu:1", "--udocker-device=/dev/nvidia1"],
            format!("{error} 1: it was not granted (SLURM_STEP_GPUS=0)\n{granted}"),
        ),
        (
            &["--gres=gpu:1", "--udocker-mount=/dev/nvidia1:/gpu"],
            format!("{error} 1: it was not granted (SLURM_STEP_GPUS=0)\n{granted}"),
        ),
        (
            &["--gres=gpu:1", "--udocker-gpu=5"],
            format!("{error} 5: this machine has none of that number\n  hint: there are: 0, 1"),
        ),
        (
            &["--udocker-gpu=all"],
            "udocker: [n1] cannot show all GPUs: this job has none (the scheduler granted none)\n  \
             hint: ask the scheduler for GPUs, as `--gres=gpu:1`; `--udocker-gpu=auto` does without"
                .into(),
        ),
    ] {
        assert_eq!(refused(&site, words), (125, expected), "{words:?}");
    }
    site.down();
}

/// A contained script has its job's GPUs, its steps theirs, and one that is to have none has none.
#[test]
fn a_script_and_its_steps_have_what_each_was_granted() {
    const NO: &str = "Permission denied";
    for release in ALL {
        let site = Site::with_files(release, CONF, &[("devices", DEVICES), ("slurm/gres.conf", GRES)]);
        site.write("look", LOOK);
        let script =
            "#!/bin/sh\nsh look; srun -n1 sh look; srun -n1 --gres=none sh look; srun -n1 --udocker-gpu=none sh look\n";
        let (status, out, err) = site.batch(&[], &["-n1", "--gres=gpu:1", &site.image], script);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?} {out}");
        let (one, none) = (format!("0 cuda=0 opens,{NO},"), format!("0 cuda= {NO},{NO},"));
        assert_eq!(out.lines().collect::<Vec<_>>(), [&one, &one, &none, &none], "{release:?}");
        site.down();
    }
}

/// A site.toml whose driver is NVIDIA's own, its user space alone.
fn site_toml() -> String {
    let driver = cached("nvidia", &[include_bytes!("../images/nvidia.sh")], |directory| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/nvidia.sh");
        let output = Command::new(script).arg(directory).output().expect("bash is there");
        assert!(output.status.success(), "images/nvidia.sh: {}", String::from_utf8_lossy(&output.stderr));
    });
    format!("gpu.driver_root = \"{}\"\n", driver.join("root").display())
}

/// NVIDIA's own programs and libraries, of the host's driver, tell that they found each other and that there is no kernel driver
/// (status 9; 12 would be a library that was not found).
#[test]
fn a_granted_gpu_comes_with_its_driver() {
    const LIBRARIES: &str = "/run/udocker/gpu/lib";
    let site_toml = site_toml();
    let files = [("devices", DEVICES), ("slurm/gres.conf", GRES), ("udocker/site.toml", site_toml.as_str())];
    let site = Site::with_files(ALL[0], CONF, &files);
    let run = |options: &[&str], script: &str| {
        let words = [&["srun", "-N1", "-n1"], options, &[site.image.as_str(), "sh", "-c", script]].concat();
        site.run(&words)
    };
    let smi = "nvidia-smi; echo $? $LD_LIBRARY_PATH; which nvidia-smi";
    let loaded = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA \
                  driver is installed and running.\n";
    let program = "/run/udocker/gpu/bin/nvidia-smi\n";
    for mode in ["N1", "P2"] {
        let mode = format!("--udocker-mode={mode}");
        let (status, out, err) = run(&["--gres=gpu:1", &mode], smi);
        assert_eq!((status, out, err.as_str()), (0, format!("{loaded}\n9 {LIBRARIES}\n{program}"), ""), "{mode}");
    }
    // The image's own list stays behind it, and without a GPU there is no driver.
    let list = "echo $LD_LIBRARY_PATH; ls /run/udocker/gpu/lib";
    let of_utility = "libnvidia-cfg.so.1\nlibnvidia-ml.so\nlibnvidia-ml.so.1\n";
    assert_eq!(
        run(&["--gres=gpu:1", "--udocker-gpu=auto,caps=utility"], list),
        (0, format!("{LIBRARIES}\n{of_utility}"), "".into())
    );
    for options in [&[][..], &["--gres=gpu:1", "--udocker-gpu=none"]] {
        let (_, out, _) = run(options, "ls -d /run/udocker/gpu 2>&1; echo $LD_LIBRARY_PATH");
        assert_eq!(out, "ls: cannot access '/run/udocker/gpu': No such file or directory\n\n", "{options:?}");
    }
    site.down();
}

/// A specification of CDI is applied natively; the SONAMEs that its hook would have made are there.
#[test]
fn devices_of_cdi_are_shown() {
    let spec = |kind: &str, devices: &str, edits: &str| {
        format!(r#"{{"cdiVersion": "0.6.0", "kind": "{kind}", "devices": [{devices}], "containerEdits": {{{edits}}}}}"#)
    };
    let device = |name: &str, node: &str| {
        format!(r#"{{"name": "{name}", "containerEdits": {{"deviceNodes": [{{"path": "{node}"}}]}}}}"#)
    };
    let gpus = [device("0", "/dev/nvidia0"), device("1", "/dev/nvidia1")].join(", ");
    let hook = r#"{"hookName": "createContainer", "path": "/bin/false", "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/opt"]}"#;
    let edits = format!(
        r#""env": ["NVIDIA_VISIBLE_DEVICES=void"], "hooks": [{hook}],
           "mounts": [{{"hostPath": "/lib/x86_64-linux-gnu/libm.so.6", "containerPath": "/opt/libgpu.so.1.2", "options": ["ro"]}}]"#
    );
    let nvidia = spec("nvidia.com/gpu", &gpus, &edits);
    let other = r#"{"name": "a", "containerEdits": {"env": ["OTHER=a"], "deviceNodes": [{"path": "/opt/other", "hostPath": "/dev/zero"}]}}"#;
    let other = spec("vendor.example/other", other, "");
    let files = [
        ("devices", DEVICES),
        ("slurm/gres.conf", GRES),
        ("cdi/nvidia.json", nvidia.as_str()),
        ("cdi/other.json", other.as_str()),
        ("cdi/old.yaml", "cdiVersion: 0.5.0\n"),
    ];
    let site = Site::with_files(ALL[0], CONF, &files);
    let run = |options: &[&str]| {
        const SCRIPT: &str = "echo $NVIDIA_VISIBLE_DEVICES,$OTHER,$LD_LIBRARY_PATH; ls /run/udocker/gpu/lib 2>/dev/null; \
                              [ ! -e /opt/other ] || head -c2 /opt/other | od -An -tx1";
        site.run(&[&["srun", "-N1", "-n1"], options, &[site.image.as_str(), "sh", "-c", SCRIPT]].concat())
    };
    let shown = "void,,/run/udocker/gpu/lib\nlibm.so.6\n";
    assert_eq!(run(&["--gres=gpu:1"]), (0, shown.into(), "".into()));
    assert_eq!(run(&["--gres=gpu:1", "--udocker-gpu=nvidia.com/gpu=0"]), (0, shown.into(), "".into()));
    assert_eq!(run(&["--udocker-device=vendor.example/other=a"]), (0, ",a,\n 00 00\n".into(), "".into()));
    let error = "udocker: [n1] cannot show";
    assert_eq!(
        refused(&site, &["--gres=gpu:1", "--udocker-gpu=nvidia.com/gpu=1"]),
        (
            125,
            format!(
                "{error} GPU 1: it was not granted (SLURM_STEP_GPUS=0)\n  hint: granted: 0; `--udocker-gpu=auto` shows them"
            )
        )
    );
    assert_eq!(
        refused(&site, &["--udocker-device=vendor.example/other=b"]),
        (
            125,
            format!(
                "{error} vendor.example/other=b: no CDI specification has this device\n  hint: there are: nvidia.com/gpu=0, \
                 nvidia.com/gpu=1, vendor.example/other=a\n  hint: /etc/cdi/old.yaml was not read: only JSON is read\n  hint: \
                 `nvidia-ctk cdi generate --format=json --output=/etc/cdi/nvidia.json` writes what is read here"
            )
        )
    );
    site.down();
}
