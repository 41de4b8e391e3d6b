//! Pairing windows: for how long, and for which route, the secret that an unsigned call brings is taken. A worker offers
//! the secret; another thread stores it, and says how that ended. Outside of a window every such call is refused.

use core::fmt;
use core::net::IpAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::errand::ErrandFate;
use crate::outcome::Rejection;

/// A secret that a call has brought while a window is open.
pub struct PairingOffer {
    /// The secret.
    pub secret: Zeroizing<Vec<u8>>,
    /// The client that has sent it.
    pub client: Option<IpAddr>,
    /// The id of the request.
    pub request_id: [u8; 32],
    /// What becomes of it.
    pub fate: Arc<ErrandFate>,
}

impl fmt::Debug for PairingOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairingOffer").field("client", &self.client).finish_non_exhaustive()
    }
}

/// The open windows of the process. They outlive every configuration.
#[derive(Debug, Default)]
pub struct PairingWindows {
    /// How many are open: without one no lock is taken.
    open: AtomicUsize,
    state: Mutex<PairingState>,
}

#[derive(Debug, Default)]
struct PairingState {
    windows: Vec<PairingWindow>,
    opened: u64,
}

#[derive(Debug)]
struct PairingWindow {
    route: String,
    number: u64,
    /// In the time of the monotonic clock.
    until: Duration,
    offers: Sender<PairingOffer>,
    /// An offer is being stored.
    is_busy: bool,
}

impl PairingWindows {
    /// Opens the window of a route until this time of the monotonic clock, in the place of one that is open. Gives its
    /// number, and where offers arrive until it is closed.
    pub fn open(&self, route: &str, until: Duration) -> (u64, Receiver<PairingOffer>) {
        let (offers, arriving) = channel();
        let mut state = self.lock();
        state.opened += 1;
        let number = state.opened;
        state.windows.retain(|window| window.route != route);
        state.windows.push(PairingWindow { route: route.to_owned(), number, until, offers, is_busy: false });
        self.count(&state);
        (number, arriving)
    }

    /// Offers a secret to the window of the route. One offer at a time is looked at.
    ///
    /// # Errors
    /// [`Rejection::PairingRefused`]: no window is open, or an offer is being stored.
    pub fn offer(&self, route: &str, offer: PairingOffer, now: Duration) -> Result<(), Rejection> {
        if self.open.load(Ordering::Acquire) == 0 {
            return Err(Rejection::PairingRefused);
        }
        let mut state = self.lock();
        let open = state.windows.iter_mut().find(|window| window.route == route && now < window.until);
        let window = open.filter(|window| !window.is_busy).ok_or(Rejection::PairingRefused)?;
        window.offers.send(offer).map_err(|_| Rejection::PairingRefused)?;
        window.is_busy = true;
        Ok(())
    }

    /// The offer to the window with this number has failed: another one may come.
    pub fn await_another(&self, number: u64) {
        let mut state = self.lock();
        state.windows.iter_mut().filter(|window| window.number == number).for_each(|window| window.is_busy = false);
    }

    /// Closes the window with this number, if it is open.
    pub fn close(&self, number: u64) {
        let mut state = self.lock();
        state.windows.retain(|window| window.number != number);
        self.count(&state);
    }

    /// Closes the window of a route; false where none is open.
    pub fn close_route(&self, route: &str) -> bool {
        let mut state = self.lock();
        let before = state.windows.len();
        state.windows.retain(|window| window.route != route);
        self.count(&state);
        state.windows.len() < before
    }

    fn count(&self, state: &PairingState) {
        self.open.store(state.windows.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, PairingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn offer() -> PairingOffer {
        let secret = Zeroizing::new(b"b537207f20cbfa02".to_vec());
        PairingOffer { secret, client: None, request_id: [b'0'; 32], fate: Arc::default() }
    }

    fn is_taken(windows: &PairingWindows, route: &str, now: Duration) -> bool {
        windows.offer(route, offer(), now).is_ok()
    }

    #[test]
    fn a_window_is_for_one_route_and_one_offer_at_a_time() {
        let windows = PairingWindows::default();
        assert!(!is_taken(&windows, "asana", SECOND));
        let (number, arriving) = windows.open("asana", SECOND * 2);
        assert!(!is_taken(&windows, "clio", SECOND));
        assert!(!is_taken(&windows, "asana", SECOND * 2));
        assert!(is_taken(&windows, "asana", SECOND));
        assert!(!is_taken(&windows, "asana", SECOND));
        windows.await_another(number);
        assert!(is_taken(&windows, "asana", SECOND));
        assert_eq!(arriving.try_iter().count(), 2);
        windows.close(number);
        windows.await_another(number);
        assert!(!is_taken(&windows, "asana", SECOND));
        assert!(arriving.recv().is_err());
    }

    #[test]
    fn a_window_that_is_opened_anew_ends_the_one_before() {
        let windows = PairingWindows::default();
        let (first, old) = windows.open("asana", SECOND * 2);
        let (_, new) = windows.open("asana", SECOND * 4);
        assert!(old.recv().is_err());
        // The end of the first is not that of the second.
        windows.close(first);
        assert!(is_taken(&windows, "asana", SECOND * 3) && new.try_recv().is_ok());
        assert!(windows.close_route("asana") && !windows.close_route("asana"));
        assert!(!is_taken(&windows, "asana", SECOND * 3));
    }
}
