//! Makes an image of the tests' set and prints the directory of its OCI layout: `image NAME`, for the benchmarks.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use udocker_tests::images::Kind;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match Kind::ALL.into_iter().find(|kind| kind.name() == wanted) {
        Some(kind) => {
            println!("{}", kind.image().directory().display());
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("usage: image NAME, where NAME is one of {}", Kind::ALL.map(Kind::name).join(" "));
            ExitCode::FAILURE
        }
    }
}
