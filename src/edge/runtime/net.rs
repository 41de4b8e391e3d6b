//! What the edge needs from the world: time and connections. Sockets in production, pipes and virtual time in tests.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::{TcpStream, UnixStream};

use crate::now::Now;

use super::alarms::Alarms;
use super::clock::WorkerClock;
use super::stream::{Duplex, Socket};
use super::target::Target;

/// The world of one worker.
#[allow(async_fn_in_trait, reason = "one thread per core: futures need not be Send")]
pub trait Net: 'static {
    /// A connection.
    type Stream: Duplex + 'static;

    /// Both clocks, as they were at the first look since the task went on.
    fn now(&self) -> Now;

    /// The same of the monotonic clock alone: for deadlines.
    fn monotonic(&self) -> Duration;

    /// Both clocks as they are by now: after work that takes time.
    fn look(&self) -> Now {
        self.now()
    }

    /// Connects to an application before `deadline`.
    ///
    /// # Errors
    /// Of the last address that was tried; [`io::ErrorKind::TimedOut`] at the deadline; `NotFound` when a name has no
    /// address (yet).
    async fn connect(&self, target: &Target, deadline: Duration) -> io::Result<Self::Stream>;
}

/// The real world.
#[derive(Debug)]
pub struct Sockets {
    /// The worker's clock.
    pub clock: WorkerClock,
    /// The deadlines of those who wait long.
    pub alarms: Rc<Alarms>,
}

impl Net for Sockets {
    type Stream = Socket;

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.now().monotonic
    }

    fn look(&self) -> Now {
        self.clock.look()
    }

    async fn connect(&self, target: &Target, deadline: Duration) -> io::Result<Socket> {
        let attempt = async {
            match target {
                Target::Unix(path) => UnixStream::connect(path).await.map(|s| Socket::unix(s, &self.alarms)),
                Target::Tcp(addresses) => {
                    let mut last = io::Error::from(io::ErrorKind::NotFound);
                    for address in addresses.current().iter() {
                        match TcpStream::connect_addr(*address).await {
                            Ok(stream) => return Ok(Socket::tcp(stream, &self.alarms)),
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                }
            }
        };
        let attempt = pin!(attempt);
        self.alarms.until(deadline, attempt).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }
}
