//! The `weir` command line as a child of the tests.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    weir::run(weir::Cli::parse())
}
