//! A store where the kernel refuses an overlay: it lies on an overlay of an overlay, and a third is one too many
//! (`FILESYSTEM_MAX_STACK_DEPTH` is 2). Needs root, for the mounts.

use std::process::Command;

use udocker_tests::{TestEnv, program, stderr, stdout};

#[test]
fn a_run_gets_a_private_copy_and_a_container_is_full() {
    let env = TestEnv::new();
    let tar = env.busybox_tar();
    let script = r#"
        mkdir t && mount -t tmpfs none t && cd t && mkdir l0 u1 w1 m1 u2 w2 m2
        mount -t overlay one -o lowerdir=l0,upperdir=u1,workdir=w1 m1 || exit 99
        mount -t overlay two -o lowerdir=m1,upperdir=u2,workdir=w2 m2 || exit 99
        export UDOCKER_DIR=$PWD/m2/store HOME=$PWD/m2
        u() { "$UDOCKER" --allow-root -q "$@"; }
        u import "$TAR" bb:1
        u run bb:1 sh -c 'touch /written && ls / && exit 9'; echo "status $?"
        u run bb:1 ls /written; echo "status $?"
        u run --write=none bb:1 touch /x; echo "status $?"
        u create --name=c bb:1 >/dev/null
        u run c touch /kept && u run c ls /kept
        ls m2/store/containers/c m2/store/tmp
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(env.path("."));
    command.env("UDOCKER", program("udocker")).env("TAR", tar);
    let output = command.output().unwrap();
    let expected = "bin\ndev\netc\nproc\nroot\nsys\ntmp\nwritten\nstatus 9\nstatus 1\nstatus 1\n/kept\n\
                    m2/store/containers/c:\nROOT\ncontainer.json\nimagerepo.name\n\nm2/store/tmp:\n";
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
}
