//! A plugin that panics where PANICS_AT says, for the test that Slurm notices no panic.

use std::ffi::OsStr;

use udocker_spank_sys::{Client, OptionText, Plugin, Refusal, Spank};

pub struct Panics;

udocker_spank_sys::plugin!(b"panics\0", Panics);

fn pass(place: &str) {
    assert!(std::env::var_os("PANICS_AT").is_none_or(|at| at != place), "as asked for: {place}");
}

impl Plugin for Panics {
    fn options() -> Vec<OptionText> {
        pass("options");
        vec![OptionText { name: "panics".into(), value: Some("WHERE".into()), usage: "panic there".into() }]
    }

    fn begin(_: Client) {
        pass("begin");
    }

    fn option(_: usize, value: Option<&OsStr>, remote: bool) -> Result<(), String> {
        let here = if remote { "remote" } else { "local" };
        assert!(value.is_none_or(|value| value != here), "as asked for: {here}");
        Ok(())
    }

    fn options_read(_: Client, _: &Spank<'_>, _: &[&OsStr]) -> Result<(), String> {
        pass("options_read");
        Ok(())
    }

    fn before_step(_: &Spank<'_>) -> Result<(), String> {
        pass("before_step");
        Ok(())
    }

    fn task_init(spank: &Spank<'_>, _: &[&OsStr]) -> Result<(), Refusal> {
        let at = spank.variable(c"PANICS_AT").ok().flatten();
        assert!(at.is_none_or(|at| at != "task_init"), "as asked for: task_init");
        Ok(())
    }

    fn job_ended(_: &Spank<'_>, _: &[&OsStr]) {
        panic!("as always: job_ended");
    }

    fn node_begins(_: &[&OsStr]) {
        panic!("as always: node_begins");
    }
}
