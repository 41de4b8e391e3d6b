//! The claims of a worker that are with the engine, and the bell of the task that keeps its connection.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

use super::EngineTerms;
use crate::ledger::shared::{EngineKey, LeaseBook};

/// What the exchanges of a worker and the task of its connection share.
#[derive(Debug)]
pub struct EngineLink {
    pub(super) terms: Arc<EngineTerms>,
    pub(super) worker: usize,
    pub(super) book: RefCell<LeaseBook>,
    rung: Cell<bool>,
    bell: RefCell<Option<Waker>>,
}

impl EngineLink {
    /// A link of the worker at this position, without a connection.
    #[must_use]
    pub fn new(terms: Arc<EngineTerms>, worker: usize) -> Self {
        let book = LeaseBook::new(terms.process, worker, terms.standing.workers(), terms.response_timeout);
        Self { worker, book: RefCell::new(book), terms, rung: Cell::new(false), bell: RefCell::new(None) }
    }

    /// By what deliveries are named in the engine.
    #[must_use]
    pub fn key(&self) -> &EngineKey {
        &self.terms.key
    }

    /// Something is to be sent.
    pub(super) fn ring(&self) {
        self.rung.set(true);
        self.bell.take().into_iter().for_each(Waker::wake);
    }

    /// Whether the bell was rung since it was asked last. If not, this task is woken when it is.
    pub(super) fn was_rung(&self, waker: &Waker) -> bool {
        let rung = self.rung.take();
        if !rung {
            self.bell.replace(Some(waker.clone()));
        }
        rung
    }
}
