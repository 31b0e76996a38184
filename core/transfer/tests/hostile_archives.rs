//! Archives as no honest tool makes them, and odd ones that some do: each has one exact outcome, and none writes outside
//! of its directory.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use udocker_core::digest::Digest;
use udocker_core::store::TreeFormat;
use udocker_transfer::extract::{ExtractError, FlattenOptions, Flattened, LayerSource, flatten};

struct Layer(Digest, Vec<u8>);

impl LayerSource for Layer {
    fn digest(&self) -> &Digest {
        &self.0
    }
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.1.clone())))
    }
}

/// Extracts beside a file `outside/precious` that must stay as it is.
struct Trial {
    directory: tempfile::TempDir,
    result: Result<Flattened, ExtractError>,
}

fn extract(layers: &[Vec<u8>]) -> Trial {
    extract_within(layers, 1 << 30, 1 << 20)
}

fn extract_within(layers: &[Vec<u8>], max_bytes: u64, max_entries: u64) -> Trial {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("outside")).unwrap();
    fs::write(directory.path().join("outside/precious"), "precious").unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    let layers: Vec<Layer> = layers.iter().map(|bytes| Layer(Digest::sha256_of(bytes), bytes.clone())).collect();
    let layers: Vec<&dyn LayerSource> = layers.iter().map(|layer| layer as &dyn LayerSource).collect();
    let root = fs::File::open(directory.path().join("root")).unwrap();
    let result =
        flatten(&layers, root.as_fd(), &FlattenOptions { format: TreeFormat::Private1, max_bytes, max_entries });
    assert_eq!(fs::read_to_string(directory.path().join("outside/precious")).unwrap(), "precious");
    assert_eq!(fs::read_dir(directory.path().join("outside")).unwrap().count(), 1);
    Trial { directory, result }
}

impl Trial {
    fn error(&self) -> String {
        let mut error: &dyn std::error::Error = self.result.as_ref().unwrap_err();
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            text = format!("{text}: {source}");
            error = source;
        }
        text
    }
    fn path(&self, below: &str) -> std::path::PathBuf {
        assert!(self.result.is_ok(), "{:?}", self.result);
        self.directory.path().join("root").join(below)
    }
    fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }
}

/// A header with its name written as it is, and its data padded.
fn raw(name: &[u8], kind: u8, link: &[u8], data: &[u8], change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.as_old_mut().linkflag[0] = kind;
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    change(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, data: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'0', b"", data.as_bytes(), |_| {})
}
fn directory(name: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'5', b"", b"", |header| header.set_mode(0o755))
}
fn symlink(name: &str, target: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'2', target.as_bytes(), b"", |_| {})
}
fn hard_link(name: &str, target: &str) -> Vec<u8> {
    raw(name.as_bytes(), b'1', target.as_bytes(), b"", |_| {})
}
fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = String::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        let length = (1..8).map(|digits| body + digits).find(|all| all.to_string().len() + body == *all).unwrap();
        data.push_str(&format!("{length} {key}={value}\n"));
    }
    raw(b"pax", b'x', b"", data.as_bytes(), |_| {})
}
fn layer(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

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
