//! Programs as the kernel sees them: `#!` lines and ELF headers. Pure.

use rustix::io::Errno;

/// What the kernel reads of a program's head for its `#!` line (BINPRM_BUF_SIZE).
const LINE_BYTES: usize = 256;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PAGE: u64 = 4096;

/// A part of a file that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub address: u64,
    pub memory_bytes: u64,
    pub offset: u64,
    pub file_bytes: u64,
    /// PROT_*.
    pub protection: u64,
}

impl Segment {
    /// Its first page.
    pub fn start(&self) -> u64 {
        self.address & !(PAGE - 1)
    }

    /// Behind its last page.
    pub fn end(&self) -> u64 {
        (self.address + self.memory_bytes + PAGE - 1) & !(PAGE - 1)
    }
}

/// An ELF program or loader of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elf {
    /// Whether it can be anywhere.
    pub is_movable: bool,
    pub entry: u64,
    /// Where the program headers are in memory.
    pub headers_address: u64,
    pub headers_count: u64,
    pub segments: Vec<Segment>,
    /// Where the loader's name is in the file, and its bytes.
    pub interpreter: Option<(u64, u64)>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// `#! INTERPRETER [ARGUMENT]`.
    Script { interpreter: Vec<u8>, argument: Option<Vec<u8>> },
    /// A program.
    Elf(Elf),
}

fn number<const N: usize>(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let part = bytes.get(at..at.checked_add(N)?)?;
    Some(part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Reads the head of a file: at least its first page, or all of it.
///
/// # Errors
/// ENOEXEC for what this machine does not execute, 32-bit programs too.
pub(super) fn parse(head: &[u8]) -> Result<Image, Errno> {
    if let Some(rest) = head.strip_prefix(b"#!") {
        return script(&rest[..rest.len().min(LINE_BYTES - 2)]);
    }
    elf(head).map(Image::Elf).ok_or(Errno::NOEXEC)
}

fn script(line: &[u8]) -> Result<Image, Errno> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = line.iter().position(|byte| matches!(byte, b'\n' | 0));
    let text = &line[..end.unwrap_or(line.len())];
    let start = text.iter().position(|byte| !is_blank(byte)).ok_or(Errno::NOEXEC)?;
    let text = &text[start..];
    let name_end = text.iter().position(is_blank);
    if end.is_none() && name_end.is_none() && line.len() == LINE_BYTES - 2 {
        // The name may go on behind what is looked at.
        return Err(Errno::NOEXEC);
    }
    let (name, rest) = text.split_at(name_end.unwrap_or(text.len()));
    let rest = rest.iter().position(|byte| !is_blank(byte)).map(|at| &rest[at..]);
    let argument = rest.map(|rest| {
        let last = rest.iter().rposition(|byte| !is_blank(byte)).map_or(0, |at| at + 1);
        rest[..last].to_vec()
    });
    Ok(Image::Script { interpreter: name.to_vec(), argument })
}

fn elf(head: &[u8]) -> Option<Elf> {
    // 64 bits, little-endian.
    head.strip_prefix(b"\x7fELF\x02\x01")?;
    let kind = number::<2>(head, 16)? as u16;
    if number::<2>(head, 18)? as u16 != EM_X86_64 || !matches!(kind, ET_EXEC | ET_DYN) {
        return None;
    }
    let (entry, table) = (number::<8>(head, 24)?, number::<8>(head, 32)?);
    let (size, count) = (number::<2>(head, 54)?, number::<2>(head, 56)?);
    if size != 56 {
        return None;
    }
    let mut found = Elf {
        is_movable: kind == ET_DYN,
        entry,
        headers_address: 0,
        headers_count: count,
        segments: Vec::new(),
        interpreter: None,
    };
    for index in 0..count {
        let at = table.checked_add(index * size)?;
        let (offset, file_bytes) = (number::<8>(head, at + 8)?, number::<8>(head, at + 32)?);
        match number::<4>(head, at)? as u32 {
            PT_INTERP if found.interpreter.is_none() => found.interpreter = Some((offset, file_bytes)),
            PT_LOAD => {
                let flags = number::<4>(head, at + 4)?;
                let segment = Segment {
                    address: number::<8>(head, at + 16)?,
                    memory_bytes: number::<8>(head, at + 40)?,
                    offset,
                    file_bytes,
                    // PF_X 1, PF_W 2, PF_R 4 become PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
                    protection: (flags & 1) << 2 | flags & 2 | (flags & 4) >> 2,
                };
                segment.address.checked_add(segment.memory_bytes)?.checked_add(PAGE)?;
                if segment.file_bytes > segment.memory_bytes || segment.address % PAGE != segment.offset % PAGE {
                    return None;
                }
                if offset <= table && table < offset.checked_add(file_bytes)? {
                    found.headers_address = table - offset + segment.address;
                }
                found.segments.push(segment);
            }
            _ => {}
        }
    }
    (!found.segments.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines_are_read_as_the_kernel_reads_them() {
        let long = format!("#!/{}", "x".repeat(300));
        for (head, expected) in [
            ("#!/bin/sh\nx", Ok(("/bin/sh", None))),
            ("#! /bin/sh \n", Ok(("/bin/sh", None))),
            ("#!\t/usr/bin/env  -S a b \n", Ok(("/usr/bin/env", Some("-S a b")))),
            ("#!/bin/sh", Ok(("/bin/sh", None))),
            ("#!\n/bin/sh", Err(Errno::NOEXEC)),
            ("#!  ", Err(Errno::NOEXEC)),
            (&long, Err(Errno::NOEXEC)),
            ("echo", Err(Errno::NOEXEC)),
            ("", Err(Errno::NOEXEC)),
        ] {
            let expected = expected.map(|(name, argument)| Image::Script {
                interpreter: name.as_bytes().to_vec(),
                argument: argument.map(|text| text.as_bytes().to_vec()),
            });
            assert_eq!(parse(head.as_bytes()), expected, "{head}");
        }
    }

    #[test]
    fn programs_are_read_and_broken_ones_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let Ok(Image::Elf(elf)) = parse(&own[..4096]) else { panic!("no program") };
        let (offset, length) = elf.interpreter.expect("tests are linked dynamically");
        let name = &own[offset as usize..(offset + length - 1) as usize];
        assert!(std::path::Path::new(std::str::from_utf8(name).unwrap()).exists());
        assert!(elf.is_movable && elf.segments.len() > 2 && elf.headers_address == 64);
        for cut in 0..200 {
            assert!(parse(&own[..cut]).is_err() || cut == 0, "{cut}");
        }
        let mut foreign = own[..4096].to_vec();
        foreign[18] = 3;
        assert_eq!(parse(&foreign), Err(Errno::NOEXEC), "another machine");
        foreign[18] = 62;
        foreign[4] = 1;
        assert_eq!(parse(&foreign), Err(Errno::NOEXEC), "32 bits");
    }
}
