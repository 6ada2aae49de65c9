//! What the process that holds the keys keeps to itself: no core dump, and no reading of its memory or environment through /proc
//! by other processes of the same user.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Shuts it. Where the system refuses, that is said and nothing else: a store that opens is worth more than one that does not.
pub(crate) fn keep_private() {
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0).and_then(|()| set_dumpable(false)) {
        tracing::warn!(%error, "this process's memory may be dumped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The master key in a core dump, or read out of the daemon's memory or environment by another process of the user.
    #[test]
    fn stride_i17() {
        keep_private();
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
        assert_eq!(nix::sys::resource::getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
    }
}
