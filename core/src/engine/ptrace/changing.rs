//! Calls that change something: the guest does them itself on host paths.

use rustix::io::Errno;

use super::names::{First, check_parent, last_name};
use super::paths::{argument, last_link};
use super::pending::Next;
use super::setup::ATTRIBUTE_REQUESTS;
use super::state::Tracer;
use crate::engine::path::table::{Call, Effect};
use crate::engine::path::{LastLink, Place};
use crate::sys::ptrace::Registers;

impl Tracer {
    /// Replaces all paths; refuses what would change a read-only mount.
    pub fn translate(&mut self, tid: i32, call: &Call, registers: &mut Registers) -> Result<Next, Errno> {
        let before = *registers;
        let mut changed = false;
        let mut first: Option<First> = None;
        for (position, path) in call.paths.iter().flatten().enumerate() {
            let address = argument(&before, path.index);
            // utimensat(FD, NULL) and its like: the descriptor itself.
            if address == 0 && path.directory.is_some() {
                self.text.clear();
            } else {
                self.read_path(tid, address)?;
            }
            let directory = self.directory_of(&before, path);
            if self.text.is_empty() {
                if call.effect != Effect::Read && self.is_descriptor_read_only(tid, directory) {
                    return Err(Errno::ROFS);
                }
                continue;
            }
            let last = match (call.effect, position) {
                (Effect::Create | Effect::Remove | Effect::Rename, _) | (Effect::Link, 1) => LastLink::Name,
                _ => last_link(&before, path),
            };
            if call.effect == Effect::Read && self.may_stay(last) {
                continue;
            }
            if let Err(error) = self.resolve(tid, directory, last) {
                // The kernel looks at the first path's directory before the second path.
                first.as_ref().map_or(Ok(()), |first| check_parent(&first.host))?;
                return Err(error);
            }
            match call.effect {
                Effect::Read => {}
                Effect::Rename | Effect::Link if position == 0 => {
                    let host = self.place.host.clone();
                    let Place { mount, parent, is_mount_point, .. } = self.place;
                    let (name, is_closed) = (last_name(&self.text), self.text.ends_with(b"/"));
                    first = Some(First { host, mount, parent, is_mount_point, name, is_closed });
                }
                Effect::Rename => {
                    let refused = self.refuse_rename(call, &before, first.as_mut());
                    self.after_parents(refused, first.as_ref())?;
                }
                Effect::Link => self.refuse_link(first.as_mut())?,
                Effect::Remove => self.refuse_removal(call, &before)?,
                Effect::Create | Effect::Change | Effect::Truncate => self.refuse_change(call.effect)?,
            }
            if let Some(result) = self.fake_file(tid, call, &before)? {
                return Ok(Next::Answer(result));
            }
            self.pass_place(tid, registers, path.index, position == 1)?;
            changed = true;
        }
        Ok(match changed {
            true => Next::Change(self.at_change(tid, call, before)),
            false => Next::Pass,
        })
    }

    /// fchmod and its like.
    pub fn descriptor(&mut self, tid: i32, call: &Call, registers: &Registers) -> Result<Next, Errno> {
        let descriptor = registers.rdi as i32;
        if self.is_descriptor_read_only(tid, descriptor) {
            return Err(Errno::ROFS);
        }
        if self.fake.is_some() && i64::from(call.number) == libc::SYS_fchown {
            let path = format!("/proc/{tid}/fd/{descriptor}");
            let stat = rustix::fs::stat(path).map_err(|_| Errno::BADF)?;
            self.remember_owner(tid, &stat, registers.rsi, registers.rdx)?;
            return Ok(Next::Answer(0));
        }
        Ok(Next::Pass)
    }

    /// ioctl with a request that changes a file.
    pub fn attribute(&mut self, tid: i32, registers: &Registers) -> Result<Next, Errno> {
        let changes = ATTRIBUTE_REQUESTS.contains(&(registers.rsi as u32));
        match changes && self.is_descriptor_read_only(tid, registers.rdi as i32) {
            true => Err(Errno::ROFS),
            false => Ok(Next::Pass),
        }
    }
}
