//! The unwinder comes from libgcc_eh.a instead of libgcc_s.so: srun and slurmstepd have not loaded the latter, and would open it
//! for everybody's job. Rust asks the linker for `gcc_s`; the first file of that name is this one.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(directory.join("libgcc_s.so"), "INPUT ( -lgcc_eh )\n").expect("a file can be written");
    println!("cargo:rustc-link-search=native={}", directory.display());
}
