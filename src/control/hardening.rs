//! What the process asks of the kernel for itself before it serves.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Forbids core dumps and debuggers of other processes, because secrets are in memory, and raises the limit of open
/// files to what is allowed. Gives notes for the log on what did not work; none of it is a reason not to serve.
#[must_use]
pub fn apply() -> Vec<String> {
    let mut notes = Vec::new();
    if let Err(error) = prctl::set_dumpable(false) {
        notes.push(format!("core dumps cannot be forbidden: {error}"));
    }
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, allowed)| setrlimit(Resource::RLIMIT_NOFILE, allowed, allowed));
    if let Err(error) = raised {
        notes.push(format!("the limit of open files cannot be raised: {error}"));
    }
    notes
}
