//! The athena command.

use std::process::ExitCode;

fn main() -> ExitCode {
    athena::cli::main()
}
