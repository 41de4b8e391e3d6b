//! Threads that give way to the workers.

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;

/// How much less important a thread of the inbox is: beside a worker that is busy on the same CPU it gets a tenth of it.
const LESS: i32 = 10;

/// The least priority that there is.
const LEAST: i32 = 19;

/// Lowers the priority of this thread, so that requests that are forwarded at once do not wait for one that is stored or
/// delivered later. Linux has a priority for each thread (`setpriority(2)`). Where it may not be changed, nothing happens:
/// requests then wait a little longer.
pub fn give_way() {
    let this = Some(gettid());
    let now = getpriority_process(this).unwrap_or(0);
    let _ = setpriority_process(this, (now + LESS).min(LEAST));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_this_thread_is_lowered() {
        let whole = getpriority_process(None).unwrap();
        let lowered = std::thread::spawn(|| {
            give_way();
            getpriority_process(Some(gettid())).unwrap()
        });
        assert_eq!(lowered.join().unwrap(), (whole + LESS).min(LEAST));
        assert_eq!(getpriority_process(None).unwrap(), whole);
    }
}
