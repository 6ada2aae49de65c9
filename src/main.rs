//! The athena command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The same binary is the disposable process that runs agent code: nothing of the house may be touched on that path.
    athena::worker();
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "__sample").is_some() {
        return athena::cli::sample(&arguments.next().unwrap_or_default());
    }
    // The client side of the official conformance suite, which appends the address of a server.
    if arguments.next_if(|first| first == "__conformance").is_some() {
        return athena::cli::conformance(&arguments.next().unwrap_or_default());
    }
    athena::cli::main()
}
