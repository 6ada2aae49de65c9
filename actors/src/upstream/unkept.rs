//! Where there are no keepers: a server is in a process group of its own and ends with its stdin.

/// No.
pub(super) fn possible() -> bool {
    false
}

/// Never used: without a keeper a server is started as it is.
pub(super) fn command(program: &str, arguments: &[String]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    command
}

/// The process itself.
pub(super) fn server_of(process: u32) -> Option<u32> {
    Some(process)
}

/// Nothing: no keeper says anything.
pub(super) fn failure(_: &[String]) -> Option<String> {
    None
}

/// Returns: no process is a keeper.
pub fn enter(_: &str, _: impl Iterator<Item = String>) {}
