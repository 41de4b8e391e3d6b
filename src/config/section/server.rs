//! `[server]`: the process.

use core::fmt;
use core::time::Duration;

use crate::config::lines::line;
use crate::config::reader::{Reader, set};
use crate::config::units::show_duration;

/// Which interface of the kernel the workers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverSetting {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// epoll.
    Epoll,
}

impl DriverSetting {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// `[server]`: the process.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Worker threads; 0 for one per core that the cgroup grants.
    pub workers: usize,
    /// Kernel interface.
    pub driver: DriverSetting,
    /// How long the process goes on accepting once it has been told to stop by SIGTERM.
    pub drain_delay: Duration,
    /// How long exchanges in flight may take to finish after that.
    pub drain_grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let (drain_delay, drain_grace) = (Duration::from_secs(5), Duration::from_secs(25));
        Self { workers: 0, driver: DriverSetting::Auto, drain_delay, drain_grace }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn read(root: &Reader<'_>) -> ServerSettings {
    let mut server = ServerSettings::default();
    let Some(reader) = root.table("server") else { return server };
    let drivers =
        [DriverSetting::Auto, DriverSetting::IoUring, DriverSetting::Epoll].map(|driver| (driver.name(), driver));
    set(&mut server.workers, reader.count("workers", 0..=1024));
    set(&mut server.driver, reader.choice("driver", &drivers));
    set(&mut server.drain_delay, reader.duration("drain_delay", Duration::ZERO..=HOUR));
    set(&mut server.drain_grace, reader.duration("drain_grace", Duration::ZERO..=HOUR));
    reader.finish();
    server
}

/// For `check`.
pub(crate) fn describe(out: &mut String, server: &ServerSettings) -> fmt::Result {
    match server.workers {
        0 => line(out, "workers", "one per core that the cgroup grants")?,
        workers => line(out, "workers", workers)?,
    }
    line(out, "driver", server.driver.name())?;
    let (delay, grace) = (show_duration(server.drain_delay), show_duration(server.drain_grace));
    line(out, "drain", format_args!("accepts {delay} more at a stop, then finishes exchanges in flight within {grace}"))
}
