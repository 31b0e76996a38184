//! Archives as no honest tool makes them: each has one exact outcome, and none writes outside of its directory.

mod archives;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use archives::*;
use udocker_transfer::extract::ExtractError;

#[test]
fn refused_entries_are_named() {
    let long = "n".repeat(90);
    for (entries, wanted) in [
        (vec![file("../outside/x", "")], "the entry `../outside/x`, which leaves the root"),
        (vec![file("a/../../x", "")], "which leaves the root"),
        (vec![file("./", "")], ""),
        (vec![symlink(".", "/etc")], "which would replace the root"),
        (vec![hard_link("/", "x")], "which would replace the root"),
        (vec![symlink("a", "")], "a link with an empty or broken target"),
        (vec![hard_link("a", "../outside/precious")], "which leaves the root"),
        (vec![hard_link("a", "missing")], "the entry `a`, a hard link to a file that is not there"),
        (vec![symlink("out", "../outside"), hard_link("a", "out/precious")], "a hard link to a file that is not there"),
        (vec![symlink("l", "l"), file("l/x", "")], "below links that lead to each other"),
        (vec![file(".wh.", "")], "a whiteout of no name"),
        (vec![file("a/.wh...", "")], "a whiteout of no name"),
        (vec![raw(b"a", b'Q', b"", b"", |_| {})], "of a kind that is not known"),
        (vec![pax(&[("path", "a\0b")]), file("x", "")], "a pax header with a wrong value"),
        (vec![pax(&[("size", "5")]), file("x", "1234")], "whose two sizes contradict each other"),
        (vec![pax(&[("size", "512")]), file("x", "")], "whose two sizes contradict each other"),
        (vec![raw(b"pax", b'x', b"", b"99 path=x\n", |_| {}), file("x", "")], "a pax header with a broken record"),
        (vec![raw(b"l", b'L', b"", &[b'a'; 5000], |_| {}), file("x", "")], "whose name is longer than 4096 bytes"),
        (
            vec![raw(b"x", b'0', b"", b"", |h| {
                h.as_old_mut().size = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
            })],
            "the size of an entry is no number",
        ),
        (vec![raw(b"x", b'0', b"", b"", |h| h.as_old_mut().mode = *b"rwxr-xr\0")], "with a field that is no number"),
        (
            vec![pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,4,2,4")]), file("x", "12345678")],
            "whose map of holes is wrong",
        ),
        (
            vec![pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", "8,4")]), file("x", "1234")],
            "whose map of holes is wrong",
        ),
        (
            vec![pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,4")]), file("x", "12345678")],
            "whose map of holes is wrong",
        ),
        (
            vec![
                pax(&[("GNU.sparse.size", "18446744073709551615"), ("GNU.sparse.map", "18446744073709551614,4")]),
                file("x", "1234"),
            ],
            "whose map of holes is wrong",
        ),
        (vec![file(&format!("{long}\0{long}")[..95], "")], ""),
    ] {
        let trial = extract(&[layer(&entries)]);
        match wanted {
            "" => assert!(trial.result.is_ok(), "{:?}", trial.result),
            _ => assert!(trial.error().contains(wanted), "{wanted}: {}", trial.error()),
        }
    }
}

#[test]
fn damaged_streams_are_no_layers() {
    let whole = layer(&[file("a", &"x".repeat(2000)), file("b", "y")]);
    for cut in [100, 512, 700, 2000, 2560 + 100, 2560 + 512] {
        let trial = extract(&[whole[..cut].to_vec()]);
        assert!(trial.error().contains("the archive ends in the middle of an entry"), "{cut}: {}", trial.error());
    }
    // At the border of an entry an archive may end without its zeros.
    assert!(extract(&[whole[..2560].to_vec()]).result.is_ok());
    let mut damaged = whole.clone();
    damaged[2560] ^= 1;
    assert!(extract(&[damaged]).error().contains("wrong checksum"));
    assert!(extract(&[b"hello, world".repeat(100)]).error().contains("wrong checksum"));
    let gap = [file("a", ""), vec![0; 512], file("b", "")].concat();
    assert!(extract(&[gap]).error().contains("a block of zeros stands in the middle"));
    for bytes in
        [&[0x1f, 0x8b, 8, 0, 0][..], &[0x28, 0xb5, 0x2f, 0xfd, 0], b"BZh9junk", &[0xfd, b'7', b'z', b'X', b'Z', 0, 1]]
    {
        assert!(matches!(extract(&[bytes.to_vec()]).result, Err(ExtractError::Layer { .. })), "{bytes:?}");
    }
    assert_eq!(extract(&[Vec::new()]).result.unwrap().entries, 0);
}

#[test]
fn memory_and_space_are_bounded() {
    let bomb = raw(b"x", b'L', b"", b"", |header| header.set_size(1 << 40));
    assert!(extract(&[bomb]).error().contains("an extension header of more than 1 MiB"));
    let bomb = raw(b"x", b'x', b"", b"", |header| header.set_size((1 << 20) + 1));
    assert!(extract(&[bomb]).error().contains("an extension header of more than 1 MiB"));
    let large = layer(&[file("a", &"x".repeat(3000)), file("b", &"x".repeat(3000))]);
    assert!(extract_within(std::slice::from_ref(&large), 5999, 9).error().contains("more than 5999 bytes"));
    assert!(extract_within(std::slice::from_ref(&large), 1 << 20, 1).error().contains("more than 1 entries"));
    assert_eq!(extract_within(&[large], 1 << 20, 2).result.unwrap().tree_bytes, 6000);
    // A sparse file of eight exabytes costs nothing but its data.
    let huge = layer(&[
        pax(&[("GNU.sparse.size", "4000000000000"), ("GNU.sparse.map", "3999999999996,4")]),
        file("h", "tail"),
    ]);
    let trial = extract_within(&[huge], 1000, 9);
    let status = trial.path("h").metadata().unwrap();
    assert_eq!(status.size(), 4_000_000_000_000);
    assert!(status.blocks() < 100);
    // Zeros without end behind the archive.
    let mut endless = layer(&[file("a", "")]);
    endless.resize(8 << 20, 0);
    assert!(extract_within(&[endless], 1 << 20, 9).error().contains("more than 1048576 bytes"));
    let deep = "d/".repeat(600);
    assert!(extract(&[layer(&[pax(&[("path", &deep)]), directory("x")])]).error().contains("more than 512 components"));
}

#[test]
fn links_lead_nowhere_outside() {
    // A lower layer's link gives way; the layer's own link is followed within the root.
    let trial = extract(&[
        layer(&[symlink("etc", "../outside"), symlink("abs", "/../../outside")]),
        layer(&[file("etc/passwd", "new"), file("abs/x", "1")]),
    ]);
    assert!(trial.path("etc").symlink_metadata().unwrap().is_dir());
    assert_eq!(trial.read("etc/passwd"), "new");
    assert_eq!(trial.read("abs/x"), "1");
    let trial =
        extract(&[layer(&[symlink("etc", "../outside"), file("etc/passwd", "new"), file("etc/precious", "1")])]);
    assert_eq!(trial.read("outside/passwd"), "new");
    assert_eq!(trial.read("outside/precious"), "1");
    // A file over a link replaces the link, not its target; a hard link to a link is a link.
    let trial = extract(&[layer(&[
        symlink("precious", "../outside/precious"),
        hard_link("again", "precious"),
        file("precious", "mine"),
    ])]);
    assert_eq!(trial.read("precious"), "mine");
    assert_eq!(fs::read_link(trial.path("again")).unwrap().to_str(), Some("../outside/precious"));
}

#[test]
fn set_id_devices_and_foreign_attributes_are_left_out() {
    let trial = extract(&[layer(&[
        raw(b"su", b'0', b"", b"x", |header| {
            header.set_mode(0o6755);
            header.set_uid(0);
        }),
        raw(b"tmp/", b'5', b"", b"", |header| header.set_mode(0o3777)),
        raw(b"dark", b'0', b"", b"x", |header| {
            header.set_mode(0);
            header.set_uid(7);
            header.set_gid(8);
        }),
        raw(b"null", b'3', b"", b"", |_| {}),
        raw(b"pipe", b'6', b"", b"", |_| {}),
        pax(&[
            ("SCHILY.xattr.user.note", "kept"),
            ("SCHILY.xattr.security.capability", "cap"),
            ("SCHILY.xattr.user.overlay.opaque", "y"),
        ]),
        file("noted", "x"),
    ])]);
    let mode = |path| trial.path(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("su"), mode("tmp"), mode("dark")), (0o755, 0o1777, 0o400));
    assert!(!trial.path("null").exists() && !trial.path("pipe").exists());
    let flattened = trial.result.as_ref().unwrap();
    assert_eq!((flattened.skipped_devices, flattened.entries, flattened.tree_bytes), (2, 4, 3));
    let changed: Vec<_> = flattened.changed.iter().map(|c| (&*c.path, c.mode, c.uid, c.gid)).collect();
    assert_eq!(changed, [(&b"dark"[..], 0, 7, 8), (b"su", 0o6755, 0, 0), (b"tmp", 0o3777, 0, 0)]);
    let noted = fs::File::open(trial.path("noted")).unwrap();
    let mut names = vec![0; 200];
    match rustix::fs::flistxattr(&noted, &mut names) {
        Ok(count) => assert_eq!(&names[..count], b"user.note\0"),
        Err(errno) => assert_eq!(errno, rustix::io::Errno::OPNOTSUPP),
    }
}

#[test]
fn extension_headers_are_bounded_together() {
    let value = "v".repeat(60 << 10);
    let records: Vec<String> = (0..20).map(|number| format!("SCHILY.xattr.user.n{number}")).collect();
    let many: Vec<(&str, &str)> = records.iter().map(|key| (&**key, &*value)).collect();
    let trial = extract(&[layer(&[pax(&many[..10]), pax(&many[10..]), file("x", "")])]);
    assert!(trial.error().contains("an extension header of more than 1 MiB"), "{}", trial.error());
    // Of one entry, attributes of 64 KiB together are kept; the others are left out.
    let trial = extract(&[layer(&[pax(&many[..3]), directory("x")])]);
    let mut names = vec![0; 1 << 10];
    match rustix::fs::flistxattr(fs::File::open(trial.path("x")).unwrap(), &mut names) {
        Ok(count) => assert!(count <= b"user.n0\0".len(), "{count}"),
        Err(errno) => assert_eq!(errno, rustix::io::Errno::OPNOTSUPP),
    }
    // Headers count as bytes of the image, so that no stream of them is without end.
    let globals = layer(&[vec![raw(b"g", b'g', b"", &vec![b' '; 100 << 10], |_| {}); 9], vec![file("x", "")]].concat());
    assert!(extract_within(&[globals], 1 << 19, 9).error().contains("more than 524288 bytes"));
    let trial = extract(&[layer(&[raw(b"l", b'K', b"", &vec![b'a'; 1 << 19], |_| {}), symlink("x", "y")])]);
    assert!(trial.error().contains("a link with a target of more than 4095 bytes"), "{}", trial.error());
    let trial = extract(&[layer(&[raw(b"l", b'L', b"", &vec![b'a'; 1 << 19], |_| {}), file("x", "")])]);
    assert!(trial.error().len() < 16 << 10, "{}", trial.error().len());
}

#[test]
fn an_attribute_without_a_name_is_left_out() {
    let trial = extract(&[layer(&[pax(&[("SCHILY.xattr.user.", "x")]), file("noted", "x")])]);
    assert_eq!(trial.read("noted"), "x");
}

#[test]
fn implied_directories_are_counted() {
    let entries: Vec<Vec<u8>> =
        (0..8).map(|n| [pax(&[("path", &format!("{n}/{}x", "d/".repeat(100)))]), file("x", "")].concat()).collect();
    let trial = extract_within(&[layer(&entries)], 1 << 20, 200);
    assert!(trial.error().contains("more than 200 entries"), "{}", trial.error());
    assert_eq!(extract_within(&[layer(&entries)], 1 << 20, 1000).result.unwrap().entries, 8 * 102);
}

#[test]
fn sizes_without_end_do_not_overflow() {
    let size = i64::MAX.to_string();
    let hole = |name| [pax(&[("GNU.sparse.size", &size), ("GNU.sparse.map", "0,0")]), file(name, "")].concat();
    let trial = extract(&[layer(&[hole("a"), hole("b"), hole("c")])]);
    match &trial.result {
        Ok(flattened) => assert_eq!(flattened.tree_bytes, u64::MAX),
        Err(_) => assert!(trial.error().contains("File too large"), "{}", trial.error()),
    }
}

#[test]
fn deep_and_wide_trees_do_not_exhaust_the_stack() {
    // Links of the layer's own lead deeper than any name may be.
    let part = "d/".repeat(500);
    let mut entries = Vec::new();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "e")] {
        entries.push([pax(&[("linkpath", &format!("{part}{to}")), ("path", from)]), symlink("x", "y")].concat());
        entries.push(
            [pax(&[("linkpath", &format!("/{to}")), ("path", &format!("{part}{to}"))]), symlink("x", "y")].concat(),
        );
    }
    for chain in 0..32 {
        entries.push([pax(&[("path", &format!("{chain}/{}x", "d/".repeat(500)))]), file("x", "")].concat());
    }
    let trial = extract(&[layer(&entries)]);
    assert!(trial.result.is_ok(), "{}", trial.error());
    let deep = [
        [pax(&[("path", &format!("{part}l"))]), symlink("x", ".")].concat(),
        [pax(&[("path", "far"), ("linkpath", &format!("{part}{part}"))]), symlink("x", "y")].concat(),
        file("far/x", ""),
    ];
    let trial = extract(&[layer(&deep)]);
    assert!(trial.error().contains("more than 512 components"), "{}", trial.error());
    let deep = [
        [pax(&[("path", "far"), ("linkpath", &part)]), symlink("x", "y")].concat(),
        [pax(&[("path", &format!("far/{}x", "e/".repeat(500)))]), file("x", "")].concat(),
    ];
    let trial = extract(&[layer(&deep)]);
    assert!(trial.error().contains("more than 512 components"), "{}", trial.error());
}
