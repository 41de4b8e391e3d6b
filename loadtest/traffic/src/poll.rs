//! epoll, one timer, and connections that never block.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::tls::Session;

const EVENTS: usize = 1024;
/// The token of the timer.
const TIMER: u64 = u64::MAX;

/// What is waited for.
pub struct Poll {
    epoll: Epoll,
    timer: TimerFd,
    events: Vec<EpollEvent>,
}

impl Poll {
    /// Waits for nothing yet.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        Ok(Self { epoll, timer, events: vec![EpollEvent::empty(); EVENTS] })
    }

    /// Tells of every change of a socket, once a change.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self.epoll.add(socket, EpollEvent::new(flags, token as u64))?)
    }

    /// Sets the timer: once after `wait`, or again and again.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn set_timer(&self, wait: Duration, again: bool) -> io::Result<()> {
        let wait = TimeSpec::from(wait.max(Duration::from_nanos(1)));
        let expiration = if again { Expiration::Interval(wait) } else { Expiration::OneShot(wait) };
        Ok(self.timer.set(expiration, TimerSetTimeFlags::empty())?)
    }

    /// Waits. Fills `changed` with what has something new; true if the timer is among them.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn wait(&mut self, changed: &mut Vec<Change>) -> io::Result<bool> {
        changed.clear();
        let count = match self.epoll.wait(&mut self.events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut fired = false;
        for event in &self.events[..count] {
            if event.data() == TIMER {
                let _ = self.timer.wait();
                fired = true;
            } else {
                let gone = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
                changed.push(Change { token: event.data() as usize, ended: event.events().intersects(gone) });
            }
        }
        Ok(fired)
    }
}

/// A socket that has something new.
#[derive(Clone, Copy)]
pub struct Change {
    /// Which one.
    pub token: usize,
    /// Whether the other side will send no more.
    pub ended: bool,
}

/// A connection and what is to be sent on it.
pub struct Line {
    stream: TcpStream,
    sent: usize,
    tls: Option<Box<Session>>,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing at the moment.
    Nothing,
    /// The end, or an error.
    End,
}

/// The kernel's buffers of a connection, in bytes; its default where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffers {
    /// Of what comes.
    pub receive: Option<usize>,
    /// Of what is sent.
    pub send: Option<usize>,
}

impl Line {
    /// Begins to connect to `target`, from `source` if it says so.
    ///
    /// # Errors
    /// Of the operating system: no descriptor, no port.
    pub fn connect(target: SocketAddr, source: Option<IpAddr>, buffers: Buffers) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(target), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        if let Some(source) = source {
            // Ports are chosen at connect, so that one address can have many connections.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        if let Some(size) = buffers.receive {
            socket.set_recv_buffer_size(size)?;
        }
        if let Some(size) = buffers.send {
            socket.set_send_buffer_size(size)?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { stream: socket.into(), sent: 0, tls: None })
    }

    /// Speaks TLS from now on. The handshake is made along with what is sent and received.
    ///
    /// # Errors
    /// Of the TLS library.
    pub fn encrypt(&mut self) -> io::Result<()> {
        self.tls = Some(Box::new(Session::new()?));
        Ok(())
    }

    /// A connection that was accepted.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: 0, tls: None })
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// What is sent next begins at its beginning.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Sends what is left of `bytes`. True when all of it has been taken; false when it must wait.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if let Some(session) = &mut self.tls {
            self.sent += session.write(bytes.get(self.sent..).unwrap_or_default())?;
            return session.flush(&mut self.stream);
        }
        while self.sent < bytes.len() {
            match self.stream.write(&bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if is_early(&error) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads once.
    pub fn receive(&mut self, buf: &mut [u8]) -> Received {
        if let Some(session) = &mut self.tls {
            return match session.read(&mut self.stream, buf) {
                Ok(0) => Received::End,
                Ok(count) => Received::Bytes(count),
                Err(error) if is_early(&error) => Received::Nothing,
                Err(_) => Received::End,
            };
        }
        loop {
            match self.stream.read(buf) {
                Ok(0) => return Received::End,
                Ok(count) => return Received::Bytes(count),
                Err(error) if is_early(&error) => return Received::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Received::End,
            }
        }
    }

    /// Makes closing a reset: it leaves nothing behind on our side.
    pub fn reset_on_close(&self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Whether an error says: not connected yet, or nothing available at the moment.
pub fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

/// The `number`-th of `count` addresses of 127.0.0.0/8, from 127.0.1.1 on; none if `target` is not on loopback.
pub fn source(target: SocketAddr, number: usize, count: usize) -> Option<IpAddr> {
    if !matches!(target.ip(), IpAddr::V4(address) if address.is_loopback()) {
        return None;
    }
    let number = number % count.max(1);
    Some(Ipv4Addr::new(127, 0, 1 + (number / 250) as u8, 1 + (number % 250) as u8).into())
}
