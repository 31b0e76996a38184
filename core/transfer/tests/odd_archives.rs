//! Archives that some honest tools make: holes, links across layers, names and times of all kinds.

mod archives;

use std::fs;
use std::os::unix::fs::MetadataExt;

use archives::*;

#[test]
fn all_forms_of_sparse_files_are_read() {
    let old = raw(b"old", b'S', b"", b"headtail", |header| {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize = *b"00000000024\0";
        (gnu.sparse[0].offset, gnu.sparse[0].numbytes) = (*b"00000000000\0", *b"00000000004\0");
        (gnu.sparse[1].offset, gnu.sparse[1].numbytes) = (*b"00000000020\0", *b"00000000004\0");
    });
    let form_0_0 = pax(&[
        ("GNU.sparse.size", "20"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "0"),
        ("GNU.sparse.numbytes", "4"),
        ("GNU.sparse.offset", "16"),
        ("GNU.sparse.numbytes", "4"),
    ]);
    let form_0_1 = pax(&[("GNU.sparse.name", "p01"), ("GNU.sparse.size", "20"), ("GNU.sparse.map", "0,4,16,4")]);
    let form_1_0 = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "p10"),
        ("GNU.sparse.realsize", "20"),
    ]);
    let mut data_1_0 = b"2\n0\n4\n16\n4\n".to_vec();
    data_1_0.resize(512, 0);
    data_1_0.extend(b"headtail");
    let hole_only = pax(&[("GNU.sparse.size", "7"), ("GNU.sparse.map", "7,0")]);
    let trial = extract(&[layer(&[
        old,
        form_0_0,
        file("p00", "headtail"),
        form_0_1,
        file("GNUSparseFile.1/p01", "headtail"),
        form_1_0,
        raw(b"GNUSparseFile.1/p10", b'0', b"", &data_1_0, |_| {}),
        hole_only,
        file("hole", ""),
        file("after", "still here"),
    ])]);
    let wanted = format!("head{}tail", "\0".repeat(12));
    for name in ["old", "p00", "p01", "p10"] {
        assert_eq!(trial.read(name), wanted, "{name}");
    }
    assert_eq!(trial.read("hole"), "\0".repeat(7));
    assert_eq!(trial.read("after"), "still here");
    assert_eq!(trial.result.as_ref().unwrap().tree_bytes, 4 * 20 + 7 + 10);
}

#[test]
fn odd_but_legal_archives_extract() {
    let time = |path: &str, trial: &Trial| {
        let status = trial.path(path).symlink_metadata().unwrap();
        (status.mtime(), status.mtime_nsec())
    };
    let name = "x/".repeat(120) + "file";
    let trial = extract(&[layer(&[
        pax(&[("mtime", "1600000000.123456789")]),
        file("fraction", ""),
        pax(&[("mtime", "-1.5")]),
        file("before-1970", ""),
        raw(b"././@LongLink", b'L', b"", name.as_bytes(), |_| {}),
        file("short", "long name"),
        raw(b"dir-as-file/", 0, b"", b"", |header| header.set_mode(0o755)),
        raw(b"pax_global_header", b'g', b"", b"11 comment=\n", |_| {}),
        file("/absolute", "1"),
        file("./.wh..wh.plnk/1.2", "ignored"),
        file("twice", "first"),
        file("twice", "second"),
        directory("d"),
        file("d/inner", "1"),
        file("name\nwith \u{1b}[31m", "odd"),
    ])]);
    assert_eq!(time("fraction", &trial), (1_600_000_000, 123_456_789));
    assert_eq!(time("before-1970", &trial), (-2, 500_000_000));
    assert_eq!(trial.read(&name), "long name");
    assert!(trial.path("dir-as-file").is_dir());
    assert_eq!(trial.read("absolute"), "1");
    assert_eq!(trial.read("twice"), "second");
    assert_eq!(trial.read("name\nwith \u{1b}[31m"), "odd");
    // Of one layer the later entry wins, whatever it was before.
    let trial = extract(&[layer(&[
        directory("a"),
        file("a/x", "1"),
        file("a", "file"),
        file("b", "file"),
        directory("b"),
        file("b/y", "2"),
    ])]);
    assert_eq!(trial.read("a"), "file");
    assert_eq!(trial.read("b/y"), "2");
}

#[test]
fn lost_targets_of_hard_links_are_found_again() {
    let trial = extract(&[
        layer(&[file("a", "low"), hard_link("b", "a"), hard_link("c", "b"), symlink("s", "a"), hard_link("t", "s")]),
        layer(&[file("a", "high"), file("s", "file"), hard_link("d", "b")]),
        layer(&[file("b", "top"), file(".wh.s", "")]),
    ]);
    let content: Vec<String> = ["a", "b", "c", "d"].map(|path| trial.read(path)).into();
    assert_eq!(content, ["high", "top", "low", "low"]);
    let inode = |path| trial.path(path).symlink_metadata().unwrap().ino();
    assert_eq!(inode("c"), inode("d"));
    assert_eq!(fs::read_link(trial.path("t")).unwrap().to_str(), Some("a"));
    assert!(!trial.path("s").exists());
    // A whiteout between them makes the target missing, and a file above it too.
    for hider in [file(".wh.a", ""), file(".wh..wh..opq", "")] {
        let trial =
            extract(&[layer(&[file("a", "low")]), layer(&[hider]), layer(&[hard_link("b", "a"), file("a", "new")])]);
        assert!(trial.error().contains("`b`, a hard link to a file that is not there"), "{}", trial.error());
    }
}

#[test]
fn data_of_a_directory_that_is_told_by_its_slash_are_no_headers() {
    let inner = layer(&[file("smuggled", "x")]);
    let trial = extract(&[layer(&[raw(b"d/", b'0', b"", &inner, |_| {}), file("after", "1")])]);
    assert!(trial.path("d").is_dir());
    assert!(!trial.path("smuggled").exists());
    assert_eq!(trial.read("after"), "1");
}

#[test]
fn names_of_aufs_and_of_the_trash_are_no_entries() {
    let trial = extract(&[layer(&[
        file(".wh..wh.trash/0", "x"),
        symlink("l", ".wh..wh.trash"),
        file("l/0", "x"),
        file(".wh..wh.plnk/1.2", "shared"),
        hard_link("a", ".wh..wh.plnk/1.2"),
    ])]);
    assert_eq!(trial.read("a"), "shared");
    assert!(!trial.path(".wh..wh.trash").exists() && !trial.path(".wh..wh.plnk").exists());
    assert_eq!(trial.result.as_ref().unwrap().entries, 2);
}

#[test]
fn a_hard_link_to_a_device_is_skipped_as_the_device_is() {
    let devices = layer(&[raw(b"null", b'3', b"", b"", |_| {}), hard_link("zero", "null"), hard_link("also", "zero")]);
    let trial = extract(std::slice::from_ref(&devices));
    assert!(!trial.path("zero").exists());
    assert_eq!(trial.result.as_ref().unwrap().skipped_devices, 3);
    let trial = extract(&[devices, layer(&[file("null", "x")])]);
    assert_eq!((trial.read("null"), trial.path("zero").exists()), ("x".into(), false));
}

#[test]
fn a_lost_sparse_file_keeps_its_holes() {
    let size = (1u64 << 30).to_string();
    let sparse = pax(&[("GNU.sparse.size", &size), ("GNU.sparse.map", "4096,4")]);
    let trial = extract(&[layer(&[sparse, file("h", "data"), hard_link("b", "h")]), layer(&[file("h", "new")])]);
    let status = trial.path("b").metadata().unwrap();
    assert_eq!(status.size(), 1 << 30);
    assert!(status.blocks() < 100, "{}", status.blocks());
    use std::os::unix::fs::FileExt;
    let mut data = [0; 4];
    fs::File::open(trial.path("b")).unwrap().read_exact_at(&mut data, 4096).unwrap();
    assert_eq!(&data, b"data");
}

#[test]
fn links_to_lost_links_share_one_inode() {
    let mut low = vec![file("a", "low")];
    low.extend((0..40).map(|n| match n {
        0 => hard_link("l0", "a"),
        n => hard_link(&format!("l{n}"), &format!("l{}", n - 1)),
    }));
    let gone: Vec<Vec<u8>> = ["a", "l3", "l4", "l5", "l20"].iter().map(|name| file(name, "high")).collect();
    let layers = [layer(&low), layer(&gone)];
    let trial = extract(&layers);
    let inode = |n: usize| trial.path(&format!("l{n}")).metadata().unwrap().ino();
    for n in (0..40).filter(|n| ![3, 4, 5, 20].contains(n)) {
        assert_eq!(trial.read(&format!("l{n}")), "low", "l{n}");
        assert_eq!(inode(n), inode(0), "l{n}");
    }
}

#[test]
fn a_target_that_its_own_layer_replaces_later_is_found() {
    let trial = extract(&[layer(&[file("d/x", "low")]), layer(&[hard_link("b", "d/x"), file("d", "file")])]);
    assert_eq!((trial.read("b"), trial.read("d")), ("low".into(), "file".into()));
}
