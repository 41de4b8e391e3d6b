//! What hands out turns ([`super::turns`]) on a real worker.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::UnixStream;

use super::turns::Round;
use crate::edge::runtime::net::{Net, Sockets};
use crate::edge::worker::Worker;

/// Hands out turns, until the pair of sockets fails.
pub(in crate::edge) async fn run(worker: Rc<Worker<Sockets>>, (near, far): (UnixStream, UnixStream)) {
    let ends = RefCell::new((near, far, [vec![0_u8; 1], vec![0_u8; 1]]));
    let turns = Rc::clone(&worker.turns);
    turns.run(&Rounds { worker, ends }).await;
}

struct Rounds {
    worker: Rc<Worker<Sockets>>,
    ends: RefCell<(UnixStream, UnixStream, [Vec<u8>; 2])>,
}

impl Round for Rounds {
    fn now(&self) -> Duration {
        self.worker.net.monotonic()
    }

    fn percent(&self) -> u32 {
        self.worker.admission.suspects().percent()
    }

    /// A byte that goes through a pair of sockets comes back when the driver has been looked at: what had become ready by
    /// then has been noticed, too.
    #[expect(clippy::await_holding_refcell_ref, reason = "one look at a time")]
    async fn look(&self) -> io::Result<()> {
        let (near, far, [out, back]) = &mut *self.ends.borrow_mut();
        // Reading begins first: what is there already would be read without a look.
        let mut read = pin!(far.read(std::mem::take(back)));
        if let Poll::Ready((result, _)) = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await {
            return result.and(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let (written, byte) = near.write(std::mem::take(out)).await;
        *out = byte;
        written?;
        let (result, byte) = read.await;
        *back = byte;
        result.map(drop)
    }

    async fn rest(&self, until: Duration) {
        monoio::time::sleep(until.saturating_sub(self.now())).await;
    }
}
