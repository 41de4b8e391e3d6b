//! The machine: kernel interface, descriptors, CPU, memory, clock.

use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit};

use crate::config::section::server::DriverSetting;
use crate::config::settings::Settings;
use crate::config::units::show_size_rounded;
use crate::config::worst_case;
use crate::control::plan::worker_count;
use crate::edge::driver::{self, Unavailable};

use super::cgroup::CgroupLimits;
use super::finding::{Finding, Grade};

/// Memory of a process without clients: code, tables of the allocator, stacks.
const BARE: u64 = 8 << 20;

/// No host that runs this has an earlier clock: 2026-01-01.
const RELEASED: Duration = Duration::from_secs(1_767_225_600);

/// A file may be written this much later than our clock says, by a host whose clock is a little ahead.
const SKEW: Duration = Duration::from_secs(5);

/// Whether workers can have io_uring, and whether they are to.
pub(super) fn io_uring(wanted: DriverSetting) -> Finding {
    judge_io_uring(wanted, driver::probe())
}

fn judge_io_uring(wanted: DriverSetting, probed: Result<(), Unavailable>) -> Finding {
    let name = "io_uring";
    match (wanted, probed) {
        (DriverSetting::Epoll, Ok(())) => {
            Finding::good(name, "io_uring is available; the configuration asks for epoll")
        }
        (DriverSetting::Epoll, Err(_)) => Finding::good(name, "the configuration asks for epoll"),
        (_, Ok(())) => Finding::good(name, "io_uring is available"),
        (wanted, Err(why)) => {
            let (verdict, so) = match wanted {
                DriverSetting::IoUring => {
                    (Grade::Fault, "and [server] driver = \"io_uring\" demands it: the process does not start")
                }
                _ => (Grade::Note, "the process uses epoll, which works and costs more CPU"),
            };
            let fix = "lift what forbids it (in Kubernetes: the seccomp profile config/kubernetes/seccomp.json; on a host: \
                       sysctl kernel.io_uring_disabled=0), or say driver = \"epoll\"";
            Finding::bad(name, verdict, format!("io_uring is not available: {why}; {so}"), fix)
        }
    }
}

/// Whether as many files may be open as the bounds let in. The process raises its own limit as far as it may.
pub(super) fn descriptors(settings: &Settings) -> Finding {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard);
    let limits = &settings.limits.admission;
    let wanted = limits.connections.saturating_add(limits.requests_in_flight);
    if allowed >= wanted {
        return Finding::good("descriptors", format!("{allowed} files may be open, {wanted} are needed at most"));
    }
    let (connections, requests) = (limits.connections, limits.requests_in_flight);
    Finding::bad(
        "descriptors",
        Grade::Warning,
        format!(
            "{allowed} files may be open, fewer than [limits] connections = {connections} and requests_in_flight = \
             {requests} need together: accepting pauses when they run out"
        ),
        "raise the hard limit (ulimit -Hn, LimitNOFILE, the runtime's default_ulimits), or lower the two limits",
    )
}

/// Whether the workers fit the CPU that the cgroup grants.
pub(super) fn cpu(settings: &Settings, allowance: CgroupLimits) -> Finding {
    let workers = worker_count(settings.server.workers);
    match allowance.cpus {
        None => Finding::good("cpu", format!("{workers} workers, and no CPU quota")),
        Some(cpus) if workers as f64 <= cpus.ceil().max(1.0) => {
            Finding::good("cpu", format!("{workers} workers for {cpus} CPUs of the cgroup"))
        }
        Some(cpus) => Finding::bad(
            "cpu",
            Grade::Warning,
            format!(
                "{workers} workers share a quota of {cpus} CPUs: when it is used up, all of them pause until the next period"
            ),
            "set [server] workers = 0, which follows the quota, or raise resources.limits.cpu",
        ),
    }
}

/// Whether the memory that clients can make the process hold fits into the cgroup.
pub(super) fn memory(settings: &Settings, allowance: CgroupLimits) -> Finding {
    let needed = worst_case(settings, worker_count(settings.server.workers)).saturating_add(BARE);
    let shown = show_size_rounded(needed);
    match allowance.memory {
        None => Finding::good("memory", format!("at most about {shown}, and no memory limit")),
        Some(limit) if needed <= limit => Finding::good(
            "memory",
            format!("at most about {shown} of the {} that the cgroup allows", show_size_rounded(limit)),
        ),
        Some(limit) => Finding::bad(
            "memory",
            Grade::Warning,
            format!(
                "clients can make the process hold about {shown}, and the cgroup allows {}: the kernel would kill it",
                show_size_rounded(limit)
            ),
            "lower [limits] connections, body_memory and clients_tracked and the capacity of replay tables (countersign check \
             adds them up), or raise resources.limits.memory",
        ),
    }
}

/// Whether the clock can be right: signed times are compared with it.
pub(super) fn clock<'a>(now: Duration, root: &Path, files: impl Iterator<Item = &'a Path>) -> Finding {
    let fix = "synchronise the clock (chrony, systemd-timesyncd) of the host: containers have no clock of their own";
    if now < RELEASED {
        let says = "the clock is before the year 2026: signed times look as if they were in the future".to_owned();
        return Finding::bad("clock", Grade::Fault, says, fix);
    }
    let written =
        |path: &Path| path.metadata().and_then(|it| it.modified()).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok();
    let ahead = files.filter_map(|path| Some((path, written(path)?.checked_sub(now)?))).max_by_key(|(_, ahead)| *ahead);
    if let Some((path, ahead)) = ahead.filter(|(_, ahead)| *ahead > SKEW) {
        let says = format!(
            "{} was written {} s from now: this clock is behind, or another one was ahead",
            path.display(),
            ahead.as_secs()
        );
        return Finding::bad("clock", Grade::Warning, says, fix);
    }
    if root.join("run/systemd/timesync/synchronized").exists() {
        return Finding::good("clock", "the clock is synchronised (systemd-timesyncd)");
    }
    Finding::good("clock", "the clock is not behind any of the files; nothing here tells whether it is synchronised")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(workers: usize) -> Settings {
        let mut settings = Settings::default();
        settings.server.workers = workers;
        settings
    }

    #[test]
    fn workers_are_compared_with_the_quota() {
        let of = |cpus, workers| cpu(&settings(workers), CgroupLimits { cpus, memory: None });
        assert_eq!(of(None, 64).verdict, Grade::Good);
        assert_eq!(of(Some(0.5), 1).verdict, Grade::Good);
        assert_eq!(of(Some(1.5), 2).verdict, Grade::Good);
        let finding = of(Some(0.5), 4);
        assert_eq!((finding.verdict, finding.fix.is_some()), (Grade::Warning, true));
        assert!(finding.says.starts_with("4 workers share a quota of 0.5 CPUs"), "{}", finding.says);
    }

    #[test]
    fn bounds_are_compared_with_the_memory() {
        let of = |memory| memory_of(memory, &settings(1));
        assert_eq!(of(None).verdict, Grade::Good);
        assert_eq!(of(Some(4 << 30)).verdict, Grade::Good);
        let finding = of(Some(64 << 20));
        assert_eq!(finding.verdict, Grade::Warning);
        assert!(finding.says.contains("the cgroup allows 64.0MiB"), "{}", finding.says);
    }

    fn memory_of(limit: Option<u64>, settings: &Settings) -> Finding {
        memory(settings, CgroupLimits { cpus: None, memory: limit })
    }

    #[test]
    fn a_clock_before_the_release_is_a_fault() {
        let none = || std::iter::empty::<&Path>();
        let here = Path::new("/nonexistent");
        assert_eq!(clock(Duration::from_secs(1_000), here, none()).verdict, Grade::Fault);
        assert_eq!(clock(RELEASED, here, none()).verdict, Grade::Good);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let later = file.metadata().unwrap().modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let finding = clock(
            later.checked_sub(Duration::from_secs(60)).unwrap().max(RELEASED),
            here,
            [file.as_path()].into_iter(),
        );
        assert_eq!(finding.verdict, Grade::Warning, "{finding:?}");
    }

    #[test]
    fn io_uring_is_missed_only_where_it_is_wanted() {
        assert_eq!(judge_io_uring(DriverSetting::Auto, Ok(())).verdict, Grade::Good);
        assert_eq!(judge_io_uring(DriverSetting::Epoll, Ok(())).verdict, Grade::Good);
    }
}
