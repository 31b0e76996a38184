//! Every form that docs/guide/from-pyxis.md names, in a step.
#![cfg(target_arch = "x86_64")]

use udocker_tests::cluster::Release;
use udocker_tests::slurm_site::{Site, is};

#[test]
fn what_options_of_pyxis_become() {
    let site = Site::new(Release::Bookworm);
    site.run(&["sh", "-c", "mkdir a c; echo a >a/f; echo c >c/f"]);
    let (a, c) = ("/home/tester/a", "/home/tester/c");
    // Options, a line of shell, and what it prints.
    let rows: &[(&[&str], &str, &str)] = &[
        (&[], "[ -e /var/lib/dpkg/status ] && echo inside", "inside\n"),
        (&[&format!("--udocker-mount={a}:/m/b"), &format!("--udocker-mount={c}:/m/d")], "cat /m/b/f /m/d/f", "a\nc\n"),
        (&[&format!("--udocker-mount={a}:/m/b:ro")], "touch /m/b/new 2>/dev/null; ls /m/b", "f\n"),
        (
            &["--udocker-mount=tmpfs:/scratch"],
            "stat -f -c %T /scratch; echo x >/scratch/f; cat /scratch/f",
            "tmpfs\nx\n",
        ),
        (&["--udocker-umount=/tmp", "--udocker-mount=tmpfs:/tmp"], "stat -f -c %T /tmp", "tmpfs\n"),
        (&["--udocker-workdir=/usr"], "pwd", "/usr\n"),
        (&[], "pwd", "/home/tester\n"),
        (&["--udocker-home"], "cat /home/tester/a/f", "a\n"),
        (&["--udocker-user=root"], "id -u", "0\n"),
        (&["--udocker-user=self"], "id -u", "2000\n"),
        (&["--udocker-entrypoint"], "echo ran", "ran\n"),
        (&["--udocker-no-entrypoint"], "echo ran", "ran\n"),
        (&["--udocker-write=none"], "touch /new 2>/dev/null || echo refused", "refused\n"),
        (&["--udocker-env=PYTHONPATH", "--udocker-env=B=2"], "echo $PYTHONPATH $B", "/of/the/host 2\n"),
        (&[], "echo ${PYTHONPATH-dropped}", "dropped\n"),
        (&["--udocker-unshare=net,ipc"], "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", "lo\n"),
    ];
    for (options, line, expected) in rows {
        let words = [&["srun", "-n1", &site.image][..], options, &["sh", "-c", line]].concat();
        let ended = site.cluster.run(&["PYTHONPATH=/of/the/host"], &words);
        assert_eq!(ended, is(0, expected, ""), "{options:?} {line}");
    }
    // Written over are one's own files.
    site.run(&[
        "sh",
        "-c",
        "mkdir -p own/bin; cp /bin/busybox own/bin; ln -s busybox own/bin/sh; ln -s busybox own/bin/cat",
    ]);
    let words = ["srun", "-n1", "--udocker-image=./own", "--udocker-write=tmpfs", "sh", "-c"];
    let line = "echo new >/bin/new && cat /bin/new";
    assert_eq!(site.run(&[&words[..], &[line]].concat()), is(0, "new\n", ""));
    // A job that was submitted from there sees that directory anyway.
    let line = format!("cd /tmp; srun -n1 {} --udocker-no-home sh -c '[ -e {a}/f ] || echo hidden'", site.image);
    assert_eq!(site.run(&["sh", "-c", &line]), is(0, "hidden\n", ""));
    for (option, value) in [("name", "n"), ("save", "f")] {
        let text = format!(
            "srun: error: udocker: option --udocker-{option} is not supported by this version\n\
             srun: error: Invalid --udocker-{option} argument: {value}\n"
        );
        let word = format!("--udocker-{option}={value}");
        assert_eq!(site.run(&["srun", "-n1", &site.image, &word, "true"]), is(255, "", &text));
    }
    let variables = [
        format!("UDOCKER_IMAGE={}", site.root),
        format!("UDOCKER_MOUNT={a}:/m/b;{c}:/m/d"),
        "UDOCKER_WORKDIR=/m".to_owned(),
    ];
    let variables = variables.each_ref().map(String::as_str);
    let ended = site.cluster.run(&variables, &["srun", "-n1", "sh", "-c", "pwd; cat b/f d/f"]);
    assert_eq!(ended, is(0, "/m\na\nc\n", ""));
    site.down();
}
