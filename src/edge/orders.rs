//! What a worker can be told by the thread that runs the process: a queue, and a socket that wakes the worker.

use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use super::door::listener::Entrance;
use super::runtime::driver::Driver;

/// What a worker can be told. It answers when it has done it.
#[derive(Debug)]
pub enum Order {
    /// Make these sockets your own, but accept nothing yet.
    Prepare(Vec<Entrance>, Sender<io::Result<()>>),
    /// Let go of what was prepared.
    Abandon,
    /// There is a new policy: accept on what was prepared, and close the listeners that it does not have.
    Enforce(Sender<()>),
    /// Another worker has met a bound: end what can be ended to make room.
    MakeRoom,
    /// From now on every answer says `Connection: close`.
    Part,
    /// Accept nothing more, finish what is in flight within this time, and end.
    Close(Duration),
}

/// The sending end. When it is dropped, the worker ends at once.
#[derive(Debug)]
pub struct Orders {
    queue: Sender<Order>,
    bell: StdUnixStream,
}

/// The worker's end.
#[derive(Debug)]
pub struct Inbox {
    queue: Receiver<Order>,
    bell: StdUnixStream,
}

/// Both ends.
///
/// # Errors
/// No descriptor is left.
pub fn orders() -> io::Result<(Orders, Inbox)> {
    let (queue, inbox) = channel();
    let (bell, heard) = StdUnixStream::pair()?;
    bell.set_nonblocking(true)?;
    Ok((Orders { queue, bell }, Inbox { queue: inbox, bell: heard }))
}

impl Orders {
    /// A bell of this worker, for another one.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn bell(&self) -> io::Result<StdUnixStream> {
        self.bell.try_clone()
    }

    /// Sends an order. A worker that is gone does not mind.
    pub fn send(&self, order: Order) {
        let _ = self.queue.send(order);
        // When there is no room for another byte, it has been rung and has not answered yet.
        let _ = (&self.bell).write(&[1]);
    }
}

impl Inbox {
    /// Makes the bell one that the runtime of the calling thread waits for.
    ///
    /// # Errors
    /// It cannot be registered.
    pub(super) fn adopt(self, driver: Driver) -> io::Result<Listening> {
        self.bell.set_nonblocking(driver == Driver::Epoll)?;
        Ok(Listening { queue: self.queue, bell: UnixStream::from_std(self.bell)?, heard: vec![0; 64] })
    }
}

/// The worker's end, on its thread.
pub(super) struct Listening {
    queue: Receiver<Order>,
    bell: UnixStream,
    heard: Vec<u8>,
}

impl Listening {
    /// The next order; nothing when there will be none any more. A bell that rings for nothing was rung by another worker.
    pub(super) async fn next(&mut self) -> Option<Order> {
        let mut rung = false;
        loop {
            match self.queue.try_recv() {
                Ok(order) => return Some(order),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if rung => return Some(Order::MakeRoom),
                Err(TryRecvError::Empty) => {}
            }
            let (read, heard) = self.bell.read(std::mem::take(&mut self.heard)).await;
            self.heard = heard;
            read.ok()?;
            rung = true;
        }
    }
}
