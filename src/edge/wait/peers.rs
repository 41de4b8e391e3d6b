//! The other workers of the process, who may have connections that can make room when this one has none.

use std::cell::{Cell, OnceCell};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use monoio::time::sleep;

/// How often it is looked again whether another worker has made room, and how long between two looks.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(4);

/// How many may wait for that at a time: others are refused at once.
const QUEUE: usize = 256;

/// The bells of the other workers.
#[derive(Debug, Default)]
pub struct Peers {
    bells: OnceCell<Vec<UnixStream>>,
    queue: Cell<usize>,
}

impl Peers {
    /// Introduces them, once.
    pub fn introduce(&self, bells: Vec<UnixStream>) {
        let _ = self.bells.set(bells);
    }

    /// Has them look whether they can make room.
    pub fn call(&self) {
        for mut bell in self.bells.get().into_iter().flatten() {
            // When there is no room for another byte, it has been rung and has not answered yet.
            let _ = bell.write(&[1]);
        }
    }

    /// Whether there are other workers, and room in the queue.
    #[must_use]
    pub fn can_be_waited_for(&self) -> bool {
        self.queue.get() < QUEUE && self.bells.get().is_some_and(|bells| !bells.is_empty())
    }

    /// Tries again a few times, with time for others in between.
    pub async fn wait_for<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        if !self.can_be_waited_for() {
            return None;
        }
        let _queued = Queued::enter(&self.queue);
        for _ in 0..LOOKS {
            // A timer is large, and every exchange has room for what it may have to wait for.
            Box::pin(sleep(PAUSE)).await;
            let made = attempt();
            if made.is_some() {
                return made;
            }
        }
        None
    }
}

/// A connection that waits; it counts until this is dropped.
struct Queued<'a>(&'a Cell<usize>);

impl<'a> Queued<'a> {
    fn enter(queue: &'a Cell<usize>) -> Self {
        queue.set(queue.get() + 1);
        Self(queue)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
