//! Makes an image of the tests' set and prints the directory of its OCI layout: `image NAME`, for the benchmarks. The
//! names `programs` and `proot` are roots: that of the real programs, and that of a newer PRoot.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use udocker_tests::engines;
use udocker_tests::images::{Kind, newer_proot};

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let root = match wanted.as_str() {
        "programs" => Some(engines::made().join("root")),
        "proot" => Some(newer_proot()),
        _ => None,
    };
    if let Some(root) = root {
        println!("{}", root.display());
        return ExitCode::SUCCESS;
    }
    match Kind::ALL.into_iter().find(|kind| kind.name() == wanted) {
        Some(kind) => {
            println!("{}", kind.image().directory().display());
            ExitCode::SUCCESS
        }
        None => {
            eprintln!(
                "usage: image NAME, where NAME is programs, proot or one of {}",
                Kind::ALL.map(Kind::name).join(" ")
            );
            ExitCode::FAILURE
        }
    }
}
