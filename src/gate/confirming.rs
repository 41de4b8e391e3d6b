//! Subscriptions that are confirmed by a request to the sender. A worker offers the URL of a call that has been verified;
//! another thread fetches it, and says how that ended.

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::errand::{ErrandFate, WorkerBells};

/// The most that wait on one route. A sender confirms a subscription once.
const WAITING_LIMIT: usize = 4;

/// A URL that is to be fetched, and what becomes of it.
pub struct ConfirmOffer {
    /// The URL, which the handshake of the route admits.
    pub url: Box<str>,
    /// What becomes of it.
    pub fate: Arc<ErrandFate>,
    /// Who is told.
    pub bells: Arc<WorkerBells>,
}

impl fmt::Debug for ConfirmOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfirmOffer").finish_non_exhaustive()
    }
}

/// What waits to be confirmed for one route.
#[derive(Debug, Default)]
pub struct Confirmations(Mutex<Vec<ConfirmOffer>>);

impl Confirmations {
    /// Offers a URL; false where as many wait as may.
    #[must_use]
    pub fn offer(&self, offer: ConfirmOffer) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = waiting.len() < WAITING_LIMIT;
        if has_room {
            waiting.push(offer);
        }
        has_room
    }

    /// The next one that has not been withdrawn.
    #[must_use]
    pub fn begin_next(&self) -> Option<ConfirmOffer> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !waiting.is_empty() {
            let offer = waiting.remove(0);
            if offer.fate.begin() {
                return Some(offer);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_wait_and_what_was_withdrawn_is_passed_over() {
        let confirmations = Confirmations::default();
        let offer = || {
            let fate = Arc::<ErrandFate>::default();
            let kept = Arc::clone(&fate);
            (confirmations.offer(ConfirmOffer { url: "https://a/".into(), fate, bells: Arc::default() }), kept)
        };
        let offers: Vec<_> = (0..5).map(|_| offer()).collect();
        assert_eq!(offers.iter().map(|(taken, _)| *taken).collect::<Vec<_>>(), [true, true, true, true, false]);
        assert!(offers[0].1.withdraw());
        assert!(confirmations.begin_next().is_some_and(|next| Arc::ptr_eq(&next.fate, &offers[1].1)));
        assert!(offer().0);
    }
}
