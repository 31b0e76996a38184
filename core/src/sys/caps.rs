//! Capabilities of this process (capabilities(7)).
#![allow(unsafe_code)]

use rustix::io::{Errno, Result};

/// A set of capabilities: bit N is capability N of linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const NONE: Self = Self(0);

    /// What Docker gives a container by default, from `DefaultCapabilities` in moby's `oci/caps/defaults.go`.
    pub const DOCKER: Self = Self(
        1 << 0        // CHOWN
            | 1 << 1  // DAC_OVERRIDE
            | 1 << 3  // FOWNER
            | 1 << 4  // FSETID
            | 1 << 5  // KILL
            | 1 << 6  // SETGID
            | 1 << 7  // SETUID
            | 1 << 8  // SETPCAP
            | 1 << 10 // NET_BIND_SERVICE
            | 1 << 13 // NET_RAW
            | 1 << 18 // SYS_CHROOT
            | 1 << 27 // MKNOD
            | 1 << 29 // AUDIT_WRITE
            | 1 << 31, // SETFCAP
    );

    fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }
}

/// Takes everything but `keep` out of the bounding set, which no exec can give back. Needs `CAP_SETPCAP`.
///
/// # Errors
/// EPERM without the capability.
pub fn limit_bounding_set(keep: CapabilitySet) -> Result<()> {
    for number in (0..64).filter(|number| !keep.has(*number)) {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
        let status = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        match status {
            0 => {}
            // The first number that this kernel does not know: the list ends here.
            _ if last_errno() == Errno::INVAL => return Ok(()),
            _ => return Err(last_errno()),
        }
    }
    Ok(())
}

/// Makes `keep` the permitted and effective sets and empties the inheritable and the ambient one.
///
/// # Errors
/// EPERM if `keep` holds a capability that the process has not.
pub fn set_capabilities(keep: CapabilitySet) -> Result<()> {
    let header = UserHeader { version: LINUX_CAPABILITY_VERSION_3, pid: 0 };
    let half = |bits: u32| UserData { effective: bits, permitted: bits, inheritable: 0 };
    let data = [half(keep.0 as u32), half((keep.0 >> 32) as u32)];
    // SAFETY: version 3 reads one header and two data blocks, and both outlive the call.
    match unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) } {
        0 => rustix::thread::clear_ambient_capability_set(),
        _ => Err(last_errno()),
    }
}

/// linux/capability.h.
const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct UserHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct UserData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
