//! Roots and mounts of the native engine, as root, as users, and on an old kernel.

mod native_support;
use std::collections::BTreeMap;

use native_support::for_each_case;

#[test]
fn a_read_only_root_refuses_writes() {
    for_each_case(|fixture| {
        let (status, error) = fixture.fail("read-only", &[], &["touch", "/data/new"]);
        assert_eq!((status, error.as_str()), (1, "touch: /data/new: Read-only file system\n"));
        assert_eq!(fixture.shell("read-only", &[], "cat /data/lower; pwd"), "lower\n/\n");
    });
}

#[test]
fn an_overlay_is_writable_and_gone_afterwards() {
    for_each_case(|fixture| {
        let script = "echo new >/data/new; rm /data/lower; mkdir /opt; mv /data/new /opt/new; cat /opt/new; ls /data";
        assert_eq!(fixture.shell("tmpfs=1000000", &[], script), "new\n");
        assert_eq!(fixture.shell("tmpfs=1000000", &[], "ls /data; stat -c %a /"), "lower\n755\n");
        let (status, error) =
            fixture.fail("tmpfs=1000000", &[], &["dd", "if=/bin/busybox", "of=/data/big", "bs=1048576"]);
        assert_eq!(status, 1);
        assert!(error.contains("No space left on device"), "{error}");
    });
}

#[test]
fn a_layer_keeps_what_was_written() {
    for_each_case(|fixture| {
        let layer = format!("layer={}:{}", fixture.make("upper"), fixture.make("work"));
        fixture.shell(&layer, &["--file=/etc/passwd:run"], "echo kept >/data/kept; rm /data/lower");
        assert_eq!(fixture.shell(&layer, &[], "cat /data/kept /etc/passwd; ls /data"), "kept\nimage\nkept\n");
    });
}

#[test]
fn in_place_writes_into_the_tree() {
    for_each_case(|fixture| {
        fixture.tree_may_change.set(true);
        let options = [format!("--bind={}:/new/point", fixture.host("file"))];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        assert_eq!(fixture.shell("in-place", &options, "echo x >/data/x; cat /data/x /new/point"), "x\nhost\n");
        assert_eq!(std::fs::read_to_string(fixture.root().join("data/x")).unwrap(), "x\n");
        assert_eq!(std::fs::read_to_string(fixture.root().join("new/point")).unwrap(), "");
    });
}

#[test]
fn binds_are_recursive_and_read_only_ones_all_the_way_down() {
    for_each_case(|fixture| {
        let source = fixture.host("");
        let (rw, ro) = (format!("--bind={source}:/data"), format!("--bind={source}:/home/user:ro"));
        let script =
            "echo in >/data/sub/in; cat /data/file /home/user/sub/in; echo no 2>&- >/home/user/sub/no || echo ro";
        assert_eq!(fixture.shell("read-only", &[&rw, &ro], script), "host\nin\nro\n");
        let proc = ["--bind=/proc:/proc:ro", "--bind=/dev:/data:ro"];
        let table = fixture.shell("read-only", &proc, "cat /proc/self/mounts; test -e /data/null");
        // The last one at a place covers the others.
        let mounts: BTreeMap<&str, &str> =
            table.lines().filter_map(|line| line.split_once(' ')?.1.split_once(' ')).collect();
        let inside: Vec<_> =
            mounts.iter().filter(|(at, _)| at.starts_with("/proc") || at.starts_with("/data")).collect();
        assert!(inside.len() > 2, "/dev has mounts below it: {table}");
        inside.iter().for_each(|(at, rest)| assert!(rest.contains(" ro"), "{at} {rest}"));
    });
}

#[test]
fn file_and_directory_must_match() {
    for_each_case(|fixture| {
        let bind = format!("--bind={}:/data", fixture.host("file"));
        let (status, error) = fixture.fail("read-only", &[&bind], &["true"]);
        let expected =
            format!("cannot mount the file `{}` on the directory `/data` (from --bind)\n", fixture.host("file"));
        assert_eq!((status, error), (125, expected));
        let bind = format!("--bind={}:/data", fixture.host("none"));
        let (status, error) = fixture.fail("read-only", &[&bind], &["true"]);
        assert_eq!(status, 125);
        assert!(error.starts_with(&format!("cannot open the mount's source `{}`", fixture.host("none"))), "{error}");
        assert_eq!(fixture.shell("read-only", &[&format!("{bind}:optional")], "ls /data"), "lower\n");
        assert_eq!(fixture.shell("read-only", &[&format!("{bind}:create")], "ls /data"), "");
    });
}

#[test]
fn missing_mount_points_are_made_without_touching_the_image() {
    for_each_case(|fixture| {
        let (file, sub) = (fixture.host("file"), fixture.host("sub"));
        let options = [
            format!("--bind={sub}:/scratch/project"),
            format!("--bind={sub}:/gpfs"),
            format!("--bind={file}:/etc/one"),
            format!("--bind={file}:/etc/two/three"),
            format!("--bind={file}:/empty/deep/er/file:ro"),
            "--tmpfs=/gone:65536".into(),
            "--bind=/proc:/proc".into(),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let script = "echo w >/gpfs/w; cat /scratch/project/w /etc/one /etc/two/three /empty/deep/er/file /etc/passwd; \
            readlink /var/run; readlink /bin/sh; echo t >/gone/t; cat /gone/t; \
            for place in / /etc /etc/two /data /scratch /empty/deep; do touch $place/x 2>&- && echo $place writable; done; \
            ls /; ls /etc; rm /gpfs/w";
        let expected = "w\nhost\nhost\nhost\nimage\n/run\nbusybox\nt\n\
            bin\ndata\nempty\nescape\netc\ngone\ngpfs\nhome\nproc\nrun\nscratch\ntmp\nvar\nhosts\none\npasswd\ntwo\n";
        assert_eq!(fixture.shell("read-only", &options, script), expected);
        let here = ["--file=/etc/group:generated", "--file=/etc/passwd:generated"];
        let script = "cat /etc/group /etc/passwd; echo x 2>&- >/etc/passwd || echo ro";
        assert_eq!(fixture.shell("read-only", &here, script), "generatedgeneratedro\n");
        assert_eq!(fixture.shell("tmpfs=1000000", &here, script), "generatedgeneratedro\n");
    });
}

#[test]
fn targets_resolve_inside() {
    for_each_case(|fixture| {
        let file = fixture.host("file");
        let options =
            [format!("--bind={file}:/var/run/socket"), format!("--bind={file}:/escape/hosts"), "--tmpfs=/data".into()];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        for write in ["read-only", "tmpfs=1000000"] {
            assert_eq!(fixture.shell(write, &options, "cat /run/socket /etc/hosts; ls /data"), "host\nhost\n");
        }
    });
}

#[test]
fn a_bind_above_the_tree_leaves_our_mounts_out() {
    for_each_case(|fixture| {
        let above = fixture.root().parent().unwrap().to_str().unwrap().to_owned();
        let bind = format!("--bind={above}:/home/user");
        for (write, files) in
            [("read-only", None), ("read-only", Some("--file=/etc/passwd:x")), ("tmpfs=1000000", None)]
        {
            let mut options = vec!["--bind=/proc:/proc", &bind];
            options.extend(files);
            let script = "grep -c ' /home/user' /proc/self/mountinfo; cat /home/user/root/etc/passwd";
            assert_eq!(fixture.shell(write, &options, script), "1\nimage\n", "{write} {files:?}");
        }
    });
}
