//! Capability sets: capabilities(7), capset(2), prctl(2).
#![allow(unsafe_code)]

use rustix::io::Errno;

/// Docker's default set, as bit numbers of linux/capability.h (moby: `oci/caps/defaults.go`): chown, dac_override, fowner,
/// fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
pub const DOCKER_DEFAULT: u64 = bits(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31]);

const fn bits(numbers: &[u32]) -> u64 {
    let mut set = 0;
    let mut i = 0;
    while i < numbers.len() {
        set |= 1 << numbers[i];
        i += 1;
    }
    set
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Reduces the bounding set, then permitted and effective, to `keep`; nothing is inheritable or ambient.
pub fn reduce(keep: u64) -> Result<(), Errno> {
    for number in 0..64u64 {
        if keep & (1 << number) != 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes one integer.
        match super::check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            // The first number that the kernel does not know ends the list.
            Err(Errno::INVAL) => break,
            other => other.map(drop)?,
        }
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let part = |shift: u64| {
        let word = (keep >> shift) as u32;
        Data { effective: word, permitted: word, inheritable: 0 }
    };
    let data = [part(0), part(32)];
    // SAFETY: version 3 of capset(2) reads one header and two data structs, which outlive the call.
    super::check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Sets no_new_privs (Linux 3.5): no exec from here on gives privileges.
pub fn set_no_new_privs() -> Result<(), Errno> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers.
    super::check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}
