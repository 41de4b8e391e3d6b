//! What the system knows of the process: `proc(5)`. What cannot be read is absent.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::unistd::{SysconfVar, sysconf};

use crate::telemetry::readings::Vitals;

/// Reads them.
#[must_use]
pub fn read(started: Option<Duration>) -> Vitals {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().trim_end_matches(" kB").parse().ok()
    };
    let files = fs::read_dir("/proc/self/fd").map(|entries| (entries.count() as u64).saturating_sub(1)).ok();
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
    let time = |time: nix::sys::time::TimeVal| {
        let (seconds, micros) = (u64::try_from(time.tv_sec()).ok()?, u64::try_from(time.tv_usec()).ok()?);
        Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
    };
    Vitals {
        memory: field("VmRSS:").map(|kibibytes| kibibytes << 10),
        cpu: usage.and_then(|usage| Some(time(usage.user_time())? + time(usage.system_time())?)),
        files,
        files_limit: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        threads: field("Threads:"),
        started,
    }
}

/// When this process started, as unix time.
#[must_use]
pub fn started() -> Option<Duration> {
    // Field 22 of proc_pid_stat(5), counted behind the name, which may have blanks and parentheses in it.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: u64 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok()?.and_then(|value| u64::try_from(value).ok())?;
    let millis = ticks.saturating_mul(1000).checked_div(per_second)?;
    Some(Duration::from_secs(boot) + Duration::from_millis(millis))
}

/// The name of the host, and that of the pod where the environment has it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "what Kubernetes tells a container, which is no configuration")]
pub fn names() -> (Option<String>, Option<String>) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    (host.filter(|name| !name.is_empty()), std::env::var("POD_NAME").ok().filter(|name| !name.is_empty()))
}

/// CPU time of a thread of this process.
#[must_use]
pub fn thread_cpu(thread: u64) -> Option<Duration> {
    // proc_pid_task(5): nanoseconds on a CPU come first.
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_us() {
        let vitals = read(started());
        assert!(vitals.memory.is_some_and(|bytes| bytes > 1 << 20));
        assert!(vitals.files.is_some_and(|files| files >= 3) && vitals.threads.is_some_and(|threads| threads >= 1));
        assert!(vitals.cpu.is_some() && vitals.files_limit.is_some());
        // After the year 2020, and before this test.
        assert!(vitals.started.is_some_and(|started| started > Duration::from_secs(1_577_836_800)));
        assert!(thread_cpu(u64::from(nix::unistd::gettid().as_raw().unsigned_abs())).is_some());
    }
}
