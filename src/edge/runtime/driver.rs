//! Which driver moves the bytes: io_uring where the kernel lets us, epoll elsewhere. The only file that names either.
//!
//! monoio's own detection is silent and probes a ring of two entries; the real ring can still be refused. So the ring
//! is built here, on the thread that will use it, and every refusal is named before anyone reports ready.

use std::fmt;
use std::future::Future;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

/// Submission queue entries of a worker's ring.
const RING_ENTRIES: u32 = 1024;

/// Completion queue entries of a worker's ring, 16 bytes each. Their number also decides into how many buckets the kernel
/// divides the sockets that are waited for, from 2 to 256 (`io_ring_ctx_alloc`). To evict one of 10,000 idle connections
/// its bucket is searched: with the usual 2,048 entries that took a third of a worker under a flood of silent connections.
const RING_COMPLETIONS: u32 = 8192;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring if it can be had, else epoll.
    #[default]
    Auto,
    /// io_uring, or refuse to start.
    IoUring,
    /// epoll.
    Epoll,
}

impl DriverChoice {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => Driver::IoUring.name(),
            Self::Epoll => Driver::Epoll.name(),
        }
    }
}

/// What a worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Completion based: one system call submits and reaps for all connections.
    IoUring,
    /// Readiness based.
    Epoll,
}

impl Driver {
    /// The name in the configuration, the log and the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Why there is no io_uring, in words that name what to change.
#[derive(Debug)]
pub struct Unavailable {
    error: io::Error,
    cause: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cause, self.error)
    }
}

impl std::error::Error for Unavailable {}

/// Tries what a worker will do: builds a ring of the size and with the flags that workers use, and asks it for the
/// operations that monoio needs.
///
/// # Errors
/// [`Unavailable`] with the cause.
pub fn probe() -> Result<(), Unavailable> {
    let ring: IoUring = ring_builder().build(RING_ENTRIES).map_err(Unavailable::named)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(Unavailable::named)?;
    let needed = [
        opcode::Accept::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Close::CODE,
        opcode::Connect::CODE,
        opcode::PollAdd::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::Timeout::CODE,
    ];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(Unavailable::named(io::Error::from(io::ErrorKind::Unsupported)))
    }
}

/// A runtime of this thread.
pub enum WorkerRuntime {
    /// Completion based.
    IoUring(Runtime<TimeDriver<IoUringDriver>>),
    /// Readiness based.
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

/// Builds the runtime of the calling thread. With [`DriverChoice::Auto`], any failure of io_uring, in the probe or in
/// building the real thing, leads to epoll, and is given back for the log.
///
/// # Errors
/// io_uring was demanded and cannot be had, or not even epoll can.
pub fn build(choice: DriverChoice) -> Result<(WorkerRuntime, Option<Unavailable>), Unavailable> {
    let refused = match choice {
        DriverChoice::Epoll => None,
        DriverChoice::Auto | DriverChoice::IoUring => match probe().and_then(|()| build_ring()) {
            Ok(runtime) => return Ok((runtime, None)),
            Err(unavailable) if choice == DriverChoice::IoUring => return Err(unavailable),
            Err(unavailable) => Some(unavailable),
        },
    };
    let epoll = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build();
    let runtime = epoll.map_err(|error| Unavailable { error, cause: "epoll is not available either".to_owned() })?;
    Ok((WorkerRuntime::Epoll(runtime), refused))
}

fn build_ring() -> Result<WorkerRuntime, Unavailable> {
    let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES).uring_builder(ring_builder());
    builder.enable_timer().build().map(WorkerRuntime::IoUring).map_err(Unavailable::named)
}

impl Unavailable {
    fn named(error: io::Error) -> Self {
        let cause = name_cause(&error, &read_sysctl(), &read_release());
        Self { error, cause }
    }
}

impl WorkerRuntime {
    /// What it runs on.
    #[must_use]
    pub const fn driver(&self) -> Driver {
        match self {
            Self::IoUring(_) => Driver::IoUring,
            Self::Epoll(_) => Driver::Epoll,
        }
    }

    /// Drives `future`, and everything it spawns, until it is done.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::IoUring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// `single_issuer` and `coop_taskrun` let the kernel leave out locks and inter-processor interrupts that a ring with
/// one thread does not need.
fn ring_builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_coop_taskrun().setup_cqsize(RING_COMPLETIONS);
    builder
}

fn read_sysctl() -> String {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default()
}

fn read_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// The most likely culprit for an error of `io_uring_setup`, given the sysctl of Linux 6.6 and the kernel's release.
fn name_cause(error: &io::Error, sysctl: &str, release: &str) -> String {
    let release = release.trim();
    match (error.raw_os_error(), sysctl.trim()) {
        (Some(libc_errno::EPERM | libc_errno::EACCES), value @ ("1" | "2")) => {
            format!("the sysctl kernel.io_uring_disabled is {value}")
        }
        (Some(libc_errno::EPERM | libc_errno::EACCES | libc_errno::EOPNOTSUPP), _) => {
            "a seccomp profile or security module of the container or the host forbids it".to_owned()
        }
        (Some(libc_errno::ENOSYS), _) if older_than(release, 5, 1) => {
            format!("kernel {release} is older than 5.1")
        }
        (Some(libc_errno::ENOSYS), _) => {
            format!(
                "kernel {release} says it has no such system call: a seccomp profile hides it, or it is not built in"
            )
        }
        (Some(libc_errno::ENOMEM), _) => {
            "the limit of locked memory (ulimit -l) or the memory limit is too low".to_owned()
        }
        (Some(libc_errno::EMFILE | libc_errno::ENFILE), _) => "no file descriptor is left (ulimit -n)".to_owned(),
        (Some(libc_errno::EINVAL), _) => format!("kernel {release} is too old for the ring's flags (6.0 is needed)"),
        _ if error.kind() == io::ErrorKind::Unsupported => format!("kernel {release} lacks operations that are needed"),
        _ => "the kernel refused for a reason of its own".to_owned(),
    }
}

fn older_than(release: &str, major: u32, minor: u32) -> bool {
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(u32::MAX));
    let found = (parts.next().unwrap_or(u32::MAX), parts.next().unwrap_or(u32::MAX));
    found < (major, minor)
}

/// The numbers of `errno(3)` that `io_uring_setup(2)` uses, the same on all Linux architectures that Rust supports
/// but MIPS and SPARC (where the cause is then named less exactly).
mod libc_errno {
    pub(in crate::edge) const EPERM: i32 = 1;
    pub(in crate::edge) const ENOMEM: i32 = 12;
    pub(in crate::edge) const EACCES: i32 = 13;
    pub(in crate::edge) const EINVAL: i32 = 22;
    pub(in crate::edge) const ENFILE: i32 = 23;
    pub(in crate::edge) const EMFILE: i32 = 24;
    pub(in crate::edge) const ENOSYS: i32 = 38;
    pub(in crate::edge) const EOPNOTSUPP: i32 = 95;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_names_what_to_change() {
        let cause = |errno, sysctl, release| name_cause(&io::Error::from_raw_os_error(errno), sysctl, release);
        assert!(cause(1, "2\n", "6.8.0").contains("kernel.io_uring_disabled is 2"));
        assert!(cause(1, "0\n", "6.8.0").contains("seccomp"));
        assert!(cause(95, "", "6.8.0").contains("seccomp"));
        assert!(cause(38, "", "4.19.0-25-amd64").contains("older than 5.1"));
        assert!(cause(38, "", "6.1.0").contains("seccomp"));
        assert!(cause(12, "0", "5.10.0").contains("ulimit -l"));
        assert!(cause(22, "0", "5.15.0").contains("6.0"));
        assert!(cause(24, "0", "6.8.0").contains("ulimit -n"));
    }
}
