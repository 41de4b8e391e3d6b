//! The durable inbox, as far as it needs no io: what is stored of a delivery, when it is attempted again, and what an
//! answer of the application means for it.
//!
//! [`record`], [`seal`] and [`row`] are the format on disk. [`agenda`] decides which delivery is attempted next; it uses
//! [`backoff`], [`breaker`] and [`judgement`]. [`store`] is the trait of what keeps deliveries, [`memory`] the store of
//! the tests. Time is a parameter and chance a seed, so that three days of an outage are tested in a second.

pub mod agenda;
pub mod backoff;
pub mod breaker;
pub mod commit_pace;
pub mod delivery;
pub mod engine;
pub mod filter;
pub mod fresh;
pub mod judgement;
pub mod lane;
pub mod memory;
pub mod operation;
pub mod record;
pub mod row;
pub mod seal;
pub mod store;

#[cfg(test)]
mod agenda_tests;
#[cfg(test)]
pub(crate) mod contract_tests;
#[cfg(test)]
mod model_tests;
