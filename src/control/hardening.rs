//! What the process asks of the kernel for itself before it serves.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::gate::limits::AdmissionLimits;

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

/// A note for the log when not as many files may be open as the bounds let in: each connection is one, and each request
/// in flight another towards the application. Accepting pauses when they run out.
#[must_use]
pub fn too_few_files(limits: &AdmissionLimits) -> Option<String> {
    let (open, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = limits.connections.saturating_add(limits.requests_in_flight);
    (open < wanted).then(|| {
        let (connections, requests) = (limits.connections, limits.requests_in_flight);
        format!(
            "{open} files may be open, fewer than [limits] connections = {connections} and requests_in_flight = \
             {requests} need together: raise the limit (ulimit -n, LimitNOFILE), or lower the bounds"
        )
    })
}
