//! Chooses the bindings: of the release that SLURM_RELEASE names, else of Debian 12's.

use std::path::Path;

const DEFAULT: &str = "22.05";

fn main() {
    println!("cargo:rerun-if-env-changed=SLURM_RELEASE");
    let release = std::env::var("SLURM_RELEASE").unwrap_or_else(|_| DEFAULT.into());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings");
    let bindings = directory.join(format!("{release}.rs"));
    println!("cargo:rerun-if-changed={}", bindings.display());
    assert!(
        bindings.is_file(),
        "SLURM_RELEASE={release}: there are no bindings {}; `regenerate.sh` makes them from the release's spank.h",
        bindings.display()
    );
    println!("cargo:rustc-env=SPANK_BINDINGS={}", bindings.display());
}
