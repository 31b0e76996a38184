//! Texts in ELF files that name a loader or libraries, and how a prefix is taken from them again; and what the symbols of a
//! library stand for. Pure, but for [`soname`].
//!
//! udocker's modes F3 and F4 put the host's path of a container before the interpreter (PT_INTERP) and before the entries
//! of DT_NEEDED, DT_RPATH and DT_RUNPATH. A text without its prefix is shorter, so it is written over the old one and
//! filled up with NULs; nothing moves. Formats: System V ABI, chapters 4 and 5; little-endian ELF32 and ELF64.

use std::fs::File;
use std::os::unix::fs::FileExt;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const SHT_DYNSYM: u64 = 11;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
/// More program headers or dynamic entries than this has no file of a compiler.
const MAX_ENTRIES: usize = 4096;

/// Offsets of the fields that are read, for one class of ELF.
struct Layout {
    /// Bytes of an address.
    word: usize,
    /// e_phoff, e_phentsize (e_phnum is next to it).
    header: [usize; 2],
    /// p_offset, p_vaddr, p_filesz.
    segment: [usize; 3],
}

const ELF32: Layout = Layout { word: 4, header: [28, 42], segment: [4, 8, 16] };
const ELF64: Layout = Layout { word: 8, header: [32, 54], segment: [8, 16, 32] };

struct Segment {
    kind: u64,
    offset: usize,
    address: u64,
    size: usize,
}

/// Takes `prefix` from the texts of the ELF file `bytes` that begin with it; whether there were any. What is no ELF file,
/// or a damaged one, stays as it is.
pub fn strip_prefix(bytes: &mut [u8], prefix: &[u8]) -> bool {
    let texts = texts(bytes).unwrap_or_default();
    let mut changed = false;
    for (offset, is_list) in texts {
        changed |= strip_text(&mut bytes[offset..], prefix, is_list);
    }
    changed
}

/// Offsets of the texts, and whether each is a list joined by `:`.
fn texts(bytes: &[u8]) -> Option<Vec<(usize, bool)>> {
    let layout = match bytes.get(..6)? {
        [0x7f, b'E', b'L', b'F', 1, 1] => ELF32,
        [0x7f, b'E', b'L', b'F', 2, 1] => ELF64,
        _ => return None,
    };
    let segments = segments(bytes, &layout)?;
    let mut found = Vec::new();
    found.extend(segments.iter().filter(|s| s.kind == PT_INTERP && s.size > 0).map(|s| (s.offset, false)));
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Some(found) };
    let mut entries = Vec::new();
    for at in (dynamic.offset..dynamic.offset.checked_add(dynamic.size)?).step_by(2 * layout.word).take(MAX_ENTRIES) {
        let (tag, value) = (number(bytes, at, layout.word)?, number(bytes, at + layout.word, layout.word)?);
        if tag == DT_NULL {
            break;
        }
        entries.push((tag, value));
    }
    let Some((_, address)) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB) else { return Some(found) };
    let load = segments
        .iter()
        .find(|s| s.kind == PT_LOAD && address.checked_sub(s.address).is_some_and(|within| within < s.size as u64))?;
    let table = load.offset.checked_add(usize::try_from(address - load.address).ok()?)?;
    for (tag, value) in entries {
        if matches!(tag, DT_NEEDED | DT_RPATH | DT_RUNPATH) {
            found.push((table.checked_add(usize::try_from(value).ok()?)?, tag != DT_NEEDED));
        }
    }
    Some(found.into_iter().filter(|(offset, _)| *offset < bytes.len()).collect())
}

/// The name (DT_SONAME) of the 64-bit library `file`, of which little is read: drivers have libraries of 100 MB. One that is no
/// file's name is none.
pub fn soname(file: &File) -> Option<String> {
    let read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        let count = file.read_at(&mut bytes, at).ok()?;
        bytes.truncate(count);
        Some(bytes)
    };
    // Program headers follow the file's own.
    let head = read(0, 4096)?;
    (head.get(..6)? == [0x7f, b'E', b'L', b'F', 2, 1]).then_some(())?;
    let segments = segments(&head, &ELF64)?;
    let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
    let table = read(dynamic.offset as u64, dynamic.size.min(16 * MAX_ENTRIES))?;
    let value = |wanted: u64| {
        let entries =
            (0..table.len()).step_by(16).map_while(|at| Some((number(&table, at, 8)?, number(&table, at + 8, 8)?)));
        entries.take_while(|(tag, _)| *tag != DT_NULL).find(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    };
    let address = value(DT_STRTAB)?;
    let load = segments
        .iter()
        .find(|s| s.kind == PT_LOAD && address.checked_sub(s.address).is_some_and(|within| within < s.size as u64))?;
    let at = (load.offset as u64).checked_add(address - load.address)?.checked_add(value(DT_SONAME)?)?;
    let text = read(at, 256)?;
    let name = String::from_utf8(text[..text.iter().position(|byte| *byte == 0)?].to_vec()).ok()?;
    (!matches!(&*name, "" | "." | "..") && !name.contains('/')).then_some(name)
}

/// Whether the ELF file `bytes` names an interpreter: a program that is linked dynamically.
pub fn has_interpreter(bytes: &[u8]) -> bool {
    let layout = match bytes.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 1, 1]) => ELF32,
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => ELF64,
        _ => return false,
    };
    segments(bytes, &layout).is_some_and(|segments| segments.iter().any(|segment| segment.kind == PT_INTERP))
}

/// The bytes from the place on that the exported symbol `name` of the 64-bit ELF file `bytes` stands for, to the end of its
/// segment.
pub fn symbol<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if bytes.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    // Of a section's header, by its number: sh_type, sh_link, sh_offset, sh_size.
    let (start, size) = (field(bytes, 40, 8)?, field(bytes, 58, 2)?);
    let section = |index: usize| {
        let at = start.checked_add(index.checked_mul(size)?)?;
        Some((
            number(bytes, at.checked_add(4)?, 4)?,
            field(bytes, at + 40, 4)?,
            field(bytes, at + 24, 8)?,
            field(bytes, at + 32, 8)?,
        ))
    };
    let count = field(bytes, 60, 2)?.min(MAX_ENTRIES);
    let (_, link, table, length) = (0..count).filter_map(section).find(|(kind, ..)| *kind == SHT_DYNSYM)?;
    let (_, _, names, _) = section(link)?;
    // st_name and st_value of entries of 24 bytes.
    let address = (table..table.checked_add(length)?).step_by(24).take(MAX_ENTRIES).find_map(|at| {
        let text = bytes.get(names.checked_add(field(bytes, at, 4)?)?..)?;
        let is_it = text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0));
        is_it.then(|| number(bytes, at.checked_add(8)?, 8)).flatten().filter(|address| *address != 0)
    })?;
    let segments = segments(bytes, &ELF64)?;
    let load = segments.iter().find(|segment| {
        segment.kind == PT_LOAD && address.checked_sub(segment.address).is_some_and(|at| at < segment.size as u64)
    })?;
    let within = usize::try_from(address - load.address).ok()?;
    bytes.get(load.offset.checked_add(within)?..load.offset.checked_add(load.size)?)
}

/// A number that is a place or a size.
fn field(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    usize::try_from(number(bytes, at, length)?).ok()
}

fn segments(bytes: &[u8], layout: &Layout) -> Option<Vec<Segment>> {
    let start = usize::try_from(number(bytes, layout.header[0], layout.word)?).ok()?;
    let size = usize::try_from(number(bytes, layout.header[1], 2)?).ok()?;
    let count = usize::try_from(number(bytes, layout.header[1] + 2, 2)?).ok()?;
    let mut out = Vec::new();
    for index in 0..count.min(MAX_ENTRIES) {
        let at = start.checked_add(index.checked_mul(size)?)?;
        let field = |offset: usize| number(bytes, at.checked_add(offset)?, layout.word);
        let [offset, address, filesz] = layout.segment;
        out.push(Segment {
            kind: number(bytes, at, 4)?,
            offset: usize::try_from(field(offset)?).ok()?,
            address: field(address)?,
            size: usize::try_from(field(filesz)?).ok()?,
        });
    }
    Some(out)
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Works on the NUL-terminated text at the beginning of `bytes`.
fn strip_text(bytes: &mut [u8], prefix: &[u8], is_list: bool) -> bool {
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return false };
    let text = &bytes[..end];
    let strip = |part: &[u8]| match part.strip_prefix(prefix) {
        Some(rest) if rest.starts_with(b"/") => rest.to_vec(),
        _ => part.to_vec(),
    };
    let new = match is_list {
        true => text.split(|byte| *byte == b':').map(strip).collect::<Vec<_>>().join(&b':'),
        false => strip(text),
    };
    if new.len() == end {
        return false;
    }
    bytes[..new.len()].copy_from_slice(&new);
    bytes[new.len()..end].fill(0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_their_prefix_and_keep_their_place() {
        for (text, is_list, expected) in [
            (&b"/p/ROOT/lib/ld.so\0rest"[..], false, &b"/lib/ld.so\0\0\0\0\0\0\0\0rest"[..]),
            (b"/p/ROOT/a:/b:/p/ROOT/c\0", true, b"/a:/b:/c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            (b"/p/ROOTS/a\0", false, b"/p/ROOTS/a\0"),
            (b"libc.so.6\0", false, b"libc.so.6\0"),
            (b"/p/ROOT/never ends", false, b"/p/ROOT/never ends"),
        ] {
            let mut bytes = text.to_vec();
            assert_eq!(strip_text(&mut bytes, b"/p/ROOT", is_list), text != expected);
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn a_program_of_this_machine_has_an_interpreter_and_libraries() {
        let bytes = std::fs::read("/bin/true").unwrap();
        let found = texts(&bytes).unwrap();
        let text = |at: usize| bytes[at..].split(|byte| *byte == 0).next().unwrap().to_vec();
        let all: Vec<String> = found.iter().map(|(at, _)| String::from_utf8(text(*at)).unwrap()).collect();
        assert!(all[0].starts_with("/lib") && all.iter().any(|text| text.starts_with("libc.so")), "{all:?}");
    }

    #[test]
    fn a_programs_interpreter_and_a_librarys_symbols_are_found() {
        assert!(has_interpreter(&std::fs::read("/bin/true").unwrap()));
        assert!(!has_interpreter(b"#!/bin/sh"));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc =
            maps.lines().find_map(|line| line.find('/').map(|at| &line[at..]).filter(|path| path.contains("libc.so")));
        let mut bytes = std::fs::read(libc.unwrap()).unwrap();
        assert!(symbol(&bytes, "_sys_errlist_is_gone").is_none());
        assert_eq!(symbol(&bytes, "in6addr_loopback").unwrap()[..16], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for length in [0, 4, 20, 64, 100, 1000, bytes.len() / 2] {
            assert!(symbol(&bytes[..length], "in6addr_loopback").is_none(), "{length}");
        }
        bytes[40..48].fill(0xff);
        assert!(symbol(&bytes, "in6addr_loopback").is_none());
    }

    #[test]
    fn what_is_damaged_stays_as_it_is() {
        let whole = std::fs::read("/bin/true").unwrap();
        for length in [0, 4, 20, 64, 100, 1000, whole.len() / 2] {
            let mut cut = whole[..length].to_vec();
            assert!(!strip_prefix(&mut cut, b"/nowhere"));
            assert_eq!(cut, whole[..length]);
        }
        let mut wild = whole.clone();
        wild[32..40].fill(0xff);
        assert!(!strip_prefix(&mut wild, b"/lib"));
    }
}
