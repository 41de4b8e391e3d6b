//! The claims of a worker that are with the engine.

use std::cell::RefCell;
use std::sync::Arc;

use super::EngineTerms;
use crate::ledger::shared::{EngineKey, LeaseBook};

/// What the exchanges of a worker and the tasks of its connections share.
#[derive(Debug)]
pub struct EngineLink {
    pub(super) terms: Arc<EngineTerms>,
    pub(super) worker: usize,
    pub(super) book: RefCell<LeaseBook>,
}

impl EngineLink {
    /// A link of the worker at this position, without a connection.
    #[must_use]
    pub fn new(terms: Arc<EngineTerms>, worker: usize) -> Self {
        let book = LeaseBook::new(terms.process, worker, terms.standing.workers(), terms.response_timeout);
        let book = if terms.place.is_cluster() { book.of_cluster() } else { book };
        Self { worker, book: RefCell::new(book), terms }
    }

    /// By what deliveries are named in the engine.
    #[must_use]
    pub fn key(&self) -> &EngineKey {
        &self.terms.key
    }

    /// Whether the engine is a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.terms.place.is_cluster()
    }

    /// Something is to be sent.
    pub(super) fn ring(&self) {
        self.book.borrow_mut().ring();
    }
}
