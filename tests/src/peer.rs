//! PyPI's udocker, as `tests/setup.sh` installs it in a virtual environment below `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{built, run};

/// The version that we are compared with.
pub const PEER_VERSION: &str = "1.3.17";

/// A copy of PyPI's udocker that everybody may run: the checkout may lie below a private directory.
#[derive(Debug)]
pub struct Peer {
    python: PathBuf,
}

impl Peer {
    /// Copies it into `directory`.
    pub fn place(directory: &Path) -> Self {
        let venv = built().parent().expect("a profile lies in target").join("udocker-venv");
        assert!(venv.join("bin/udocker").is_file(), "{} is missing: `make setup` makes it", venv.display());
        std::fs::create_dir_all(directory).expect("mkdir");
        // pip and setuptools, ten times as large, stay.
        let script = r#"cp -a --parents pyvenv.cfg bin lib/python3*/site-packages/udocker* "$0""#;
        run(Command::new("sh").args(["-c", script]).arg(directory).current_dir(&venv));
        Self { python: directory.join("bin/python3") }
    }

    /// The words that run it; its own script names the Python of the place that it was copied from.
    pub fn words(&self) -> String {
        format!("{} -m udocker.maincmd", self.python.display())
    }
}
